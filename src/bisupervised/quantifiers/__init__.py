"""Model output -> confidence, one idea per file. Uncertainty never leaves these files."""

from __future__ import annotations

from bisupervised.errors import ConfigError
from bisupervised.quantifiers.deep_gini import DeepGini
from bisupervised.quantifiers.given_confidence import GivenConfidence
from bisupervised.quantifiers.label_probability import LabelProbability
from bisupervised.quantifiers.max_softmax import MaxSoftmax
from bisupervised.quantifiers.port import Quantifier
from bisupervised.quantifiers.prediction_confidence_score import PredictionConfidenceScore
from bisupervised.quantifiers.softmax_entropy import SoftmaxEntropy
from bisupervised.quantifiers.token_likelihood import TokenLikelihood

__all__ = [
    "DeepGini",
    "GivenConfidence",
    "LabelProbability",
    "MaxSoftmax",
    "PredictionConfidenceScore",
    "Quantifier",
    "SoftmaxEntropy",
    "TokenLikelihood",
    "quantifier_by_name",
    "quantifier_names",
]

#: Every quantifier that needs no settings, by the name used in configuration files.
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
    )
}


def quantifier_names() -> list[str]:
    """The names that `quantifier_by_name` knows."""
    return [*_BY_NAME, "token_likelihood_q<quantile>"]


def quantifier_by_name(name: str) -> Quantifier:
    """The quantifier of that name; `token_likelihood_q0.1` for a quantile. `ConfigError` if there is none.

    >>> quantifier_by_name("token_likelihood_q0.5")
    TokenLikelihood(aggregate=0.5)
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    prefix, _, quantile = name.partition("token_likelihood_q")
    if not prefix and quantile:
        try:
            return TokenLikelihood(float(quantile))
        except ValueError as error:
            raise ConfigError(f"{name!r}: the quantile must be a number in [0, 1]") from error
    raise ConfigError(f"no quantifier is called {name!r}; there are: {', '.join(quantifier_names())}")
