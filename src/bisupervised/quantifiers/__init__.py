"""Model output -> confidence, one idea per file. Uncertainty never leaves these files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bisupervised.errors import ConfigError
from bisupervised.quantifiers.constant import Constant
from bisupervised.quantifiers.deep_gini import DeepGini
from bisupervised.quantifiers.equivalence import Equivalence, equivalence_of
from bisupervised.quantifiers.given_confidence import GivenConfidence
from bisupervised.quantifiers.label_probability import LabelProbability
from bisupervised.quantifiers.max_softmax import MaxSoftmax
from bisupervised.quantifiers.p_true import PTrue
from bisupervised.quantifiers.port import Quantifier
from bisupervised.quantifiers.prediction_confidence_score import PredictionConfidenceScore
from bisupervised.quantifiers.self_consistency import SelfConsistency
from bisupervised.quantifiers.semantic_entropy import SemanticEntropy
from bisupervised.quantifiers.softmax_entropy import SoftmaxEntropy
from bisupervised.quantifiers.token_likelihood import TokenLikelihood

__all__ = [
    "Constant",
    "DeepGini",
    "Equivalence",
    "GivenConfidence",
    "LabelProbability",
    "MaxSoftmax",
    "PTrue",
    "PredictionConfidenceScore",
    "Quantifier",
    "SelfConsistency",
    "SemanticEntropy",
    "SoftmaxEntropy",
    "TokenLikelihood",
    "quantifier_by_name",
    "quantifier_names",
]

#: Every quantifier that can be made without settings, by the name used in configuration files.
_BY_NAME: dict[str, Quantifier] = {
    quantifier.name: quantifier
    for quantifier in (
        GivenConfidence(),
        MaxSoftmax(),
        PredictionConfidenceScore(),
        SoftmaxEntropy(),
        DeepGini(),
        TokenLikelihood("sum"),
        TokenLikelihood("mean"),
        TokenLikelihood("min"),
        PTrue(),
        SelfConsistency(),
        SemanticEntropy(),
        Constant(),
    )
}


def quantifier_names() -> list[str]:
    """The names that `quantifier_by_name` knows."""
    return [*_BY_NAME, "token_likelihood_q<quantile>"]


def quantifier_by_name(
    name: str, settings: Mapping[str, Any] | None = None, load: Callable[[str], Any] | None = None
) -> Quantifier:
    """The quantifier of that name; `token_likelihood_q0.1` for a quantile. `ConfigError` if there is none.

    Of the `settings`, those that read samples take `samples` and `equivalence` (see `equivalence_of`), and
    semantic entropy `weighted`; other keys are not looked at. `load` gives the function that a `module:attribute`
    names.

    >>> quantifier_by_name("token_likelihood_q0.5")
    TokenLikelihood(aggregate=0.5)
    >>> quantifier_by_name("semantic_entropy", {"samples": 10, "weighted": True}).extra_calls
    10
    """
    settings = settings or {}
    if name == SelfConsistency.name:
        return SelfConsistency(**_sampling(settings, load))
    if name == SemanticEntropy.name:
        weighted = settings.get("weighted", False)
        if not isinstance(weighted, bool):
            raise ConfigError(f"weighted is true or false, not {weighted!r}")
        return SemanticEntropy(**_sampling(settings, load), weighted=weighted)
    if name in _BY_NAME:
        return _BY_NAME[name]
    prefix, _, quantile = name.partition("token_likelihood_q")
    if not prefix and quantile:
        try:
            return TokenLikelihood(float(quantile))
        except ValueError as error:
            raise ConfigError(f"{name!r}: the quantile must be a number in [0, 1]") from error
    raise ConfigError(f"no quantifier is called {name!r}; there are: {', '.join(quantifier_names())}")


def _sampling(settings: Mapping[str, Any], load: Callable[[str], Any] | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if "samples" in settings:
        given["samples"] = settings["samples"]
        if not isinstance(given["samples"], int) or isinstance(given["samples"], bool) or given["samples"] < 1:
            raise ConfigError(f"samples is how many further answers are drawn, at least 1, not {given['samples']!r}")
    if "equivalence" in settings:
        given["equivalent"] = equivalence_of(settings["equivalence"], load)
    return given
