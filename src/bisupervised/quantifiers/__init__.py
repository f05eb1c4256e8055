"""Model output -> confidence, one idea per file. Uncertainty never leaves these files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from bisupervised.errors import ConfigError
from bisupervised.quantifiers.cocoa import CoCoA
from bisupervised.quantifiers.constant import Constant
from bisupervised.quantifiers.deep_gini import DeepGini
from bisupervised.quantifiers.dsa import DSA
from bisupervised.quantifiers.energy import Energy
from bisupervised.quantifiers.entropy_of_order import RenyiEntropy, TsallisEntropy
from bisupervised.quantifiers.equivalence import Equivalence, equivalence_of
from bisupervised.quantifiers.gen import Gen
from bisupervised.quantifiers.given_confidence import GivenConfidence
from bisupervised.quantifiers.knn import KNN
from bisupervised.quantifiers.label_probability import LabelProbability
from bisupervised.quantifiers.lexical_similarity import LexicalSimilarity
from bisupervised.quantifiers.lsa import LSA
from bisupervised.quantifiers.mahalanobis import MDSA, Mahalanobis, RelativeMahalanobis
from bisupervised.quantifiers.max_logit import MaxLogit, MaxLogitPNorm
from bisupervised.quantifiers.max_softmax import MaxSoftmax
from bisupervised.quantifiers.mlsa import MLSA
from bisupervised.quantifiers.num_semantic_sets import NumSemanticSets
from bisupervised.quantifiers.p_true import PTrue
from bisupervised.quantifiers.pca_autoencoder import PCAAutoencoder
from bisupervised.quantifiers.port import CostClass, Quantifier, cost_class_of
from bisupervised.quantifiers.prediction_confidence_score import PredictionConfidenceScore
from bisupervised.quantifiers.reconstruction import Reconstruction
from bisupervised.quantifiers.sampled_probabilities import (
    ExpectedEntropy,
    MeanSoftmax,
    MutualInformation,
    PredictiveEntropy,
    VariationRatio,
)
from bisupervised.quantifiers.saving import read_fitting_rows, read_quantifier, save_quantifier
from bisupervised.quantifiers.self_consistency import SelfConsistency
from bisupervised.quantifiers.semantic_entropy import SemanticEntropy
from bisupervised.quantifiers.similarity import Similarity, similarity_of
from bisupervised.quantifiers.similarity_graph import DegMat, Eccentricity, EigValLaplacian
from bisupervised.quantifiers.softmax_entropy import SoftmaxEntropy
from bisupervised.quantifiers.token_alternatives import TokenEntropy, TokenMargin
from bisupervised.quantifiers.token_likelihood import TokenLikelihood
from bisupervised.quantifiers.verbalised_confidence import VerbalisedConfidence
from bisupervised.quantifiers.vim import ViM
from bisupervised.records import LevelName

__all__ = [
    "DSA",
    "KNN",
    "LSA",
    "MDSA",
    "MLSA",
    "CoCoA",
    "Constant",
    "CostClass",
    "DeepGini",
    "DegMat",
    "Eccentricity",
    "EigValLaplacian",
    "Energy",
    "Equivalence",
    "ExpectedEntropy",
    "Gen",
    "GivenConfidence",
    "LabelProbability",
    "LexicalSimilarity",
    "Mahalanobis",
    "MaxLogit",
    "MaxLogitPNorm",
    "MaxSoftmax",
    "MeanSoftmax",
    "MutualInformation",
    "NumSemanticSets",
    "PCAAutoencoder",
    "PTrue",
    "PredictionConfidenceScore",
    "PredictiveEntropy",
    "Quantifier",
    "Reconstruction",
    "RelativeMahalanobis",
    "RenyiEntropy",
    "SelfConsistency",
    "SemanticEntropy",
    "Similarity",
    "SoftmaxEntropy",
    "TokenEntropy",
    "TokenLikelihood",
    "TokenMargin",
    "TsallisEntropy",
    "VariationRatio",
    "VerbalisedConfidence",
    "ViM",
    "cost_class_of",
    "fitted_kinds",
    "quantifier_by_name",
    "quantifier_from_file",
    "quantifier_names",
    "read_fitting_rows",
    "save_quantifier",
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
        Gen(),
        RenyiEntropy(),
        TsallisEntropy(),
        Energy(),
        MaxLogit(),
        VariationRatio(),
        MeanSoftmax(),
        PredictiveEntropy(),
        ExpectedEntropy(),
        MutualInformation(),
        TokenLikelihood("sum"),
        TokenLikelihood("mean"),
        TokenLikelihood("min"),
        TokenEntropy("mean"),
        TokenEntropy("max"),
        TokenMargin("mean"),
        TokenMargin("min"),
        VerbalisedConfidence(),
        PTrue(),
        SelfConsistency(),
        SemanticEntropy(),
        NumSemanticSets(),
        LexicalSimilarity(),
        CoCoA(),
        DegMat(),
        Eccentricity(),
        EigValLaplacian(),
        Constant(),
    )
}
#: Those that compare answers by their meaning, and those that do by their likeness.
_BY_EQUIVALENCE = (SelfConsistency, SemanticEntropy, NumSemanticSets)
_BY_SIMILARITY = (LexicalSimilarity, CoCoA, DegMat, Eccentricity, EigValLaplacian)
#: Settings that are checked, or made into functions, before a quantifier takes them.
_SPECIAL = ("samples", "similarity", "equivalence", "weighted", "unlikely", "scale")
#: Those that are fitted, by the name in their file.
_FITTED: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (
        MaxLogitPNorm,
        Mahalanobis,
        MDSA,
        RelativeMahalanobis,
        KNN,
        DSA,
        LSA,
        MLSA,
        ViM,
        PCAAutoencoder,
    )
}


def quantifier_names() -> list[str]:
    """The names that `quantifier_by_name` knows."""
    return [*_BY_NAME, "token_likelihood_q<quantile>", Reconstruction.name]


def quantifier_by_name(
    name: str,
    settings: Mapping[str, Any] | None = None,
    load: Callable[[str], Any] | None = None,
    *,
    own: Mapping[str, Any] | None = None,
) -> Quantifier:
    """The quantifier of that name; `token_likelihood_q0.1` for a quantile. `ConfigError` if there is none.

    Of the `settings`, those that read samples take `samples`, and `equivalence` (see `equivalence_of`) or
    `similarity` (see `similarity_of`), semantic entropy `weighted`, CoCoA `unlikely`, the verbalised confidence
    `scale`, and reconstruction `reconstruct`; other keys are not looked at. `own` are settings that are nobody
    else's, as in `{"gamma": 0.5}` for `gen`: those of the list, and every field of the quantifier; any other is
    refused. `load` gives the function that a `module:attribute` names. Fitted ones are read from their files:
    `quantifier_from_file`.

    >>> quantifier_by_name("token_likelihood_q0.5")
    TokenLikelihood(aggregate=0.5)
    >>> quantifier_by_name("semantic_entropy", {"samples": 10, "weighted": True}).extra_calls
    10
    >>> quantifier_by_name("gen", own={"gamma": 0.5})
    Gen(gamma=0.5, largest=100)
    """
    own = own or {}
    settings = {**(settings or {}), **own}
    if name in _BY_NAME:
        return _with_settings(_BY_NAME[name], settings, load, own)
    if own.keys() - ({"reconstruct"} if name == Reconstruction.name else set()):
        raise ConfigError(f"{name} takes no {', '.join(sorted(own))}")
    if name == Reconstruction.name:
        return Reconstruction(_function(settings.get("reconstruct"), load))
    prefix, _, quantile = name.partition("token_likelihood_q")
    if not prefix and quantile:
        try:
            return TokenLikelihood(float(quantile))
        except ValueError as error:
            raise ConfigError(f"{name!r}: the quantile must be a number in [0, 1]") from error
    if name in _FITTED:
        raise ConfigError(f"{name} is fitted on training rows: fit it, save it, and name its file")
    raise ConfigError(f"no quantifier is called {name!r}; there are: {', '.join(quantifier_names())}")


def fitted_kinds() -> dict[str, type[Any]]:
    """The quantifiers that are fitted, by name: `fit(output, labels)` makes one, `save_quantifier` stores it."""
    return dict(_FITTED)


def quantifier_from_file(path: str | os.PathLike[str], level: LevelName | str | None = None) -> Quantifier:
    """The fitted quantifier that `save_quantifier` wrote to a file. `InputError` for a file that holds none.

    `level` is the one that it is to judge: a file that was fitted on the other level's rows, and says so, is refused.
    """
    return read_quantifier(path, _FITTED, level)


def _with_settings(
    quantifier: Quantifier, settings: Mapping[str, Any], load: Callable[[str], Any] | None, own: Mapping[str, Any]
) -> Quantifier:
    kind: type[Any] = type(quantifier)
    given = _own_fields(quantifier, own)
    if issubclass(kind, _BY_EQUIVALENCE + _BY_SIMILARITY):
        given |= _sampling(settings, load, alike=issubclass(kind, _BY_SIMILARITY))
    if issubclass(kind, SemanticEntropy):
        given["weighted"] = settings.get("weighted", False)
        if not isinstance(given["weighted"], bool):
            raise ConfigError(f"weighted is true or false, not {given['weighted']!r}")
    for of, key in ((CoCoA, "unlikely"), (VerbalisedConfidence, "scale")):
        if issubclass(kind, of) and key in settings:
            given[key] = settings[key]
    try:
        return kind(**given) if given else quantifier
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{quantifier.name}: {error}") from error


def _own_fields(quantifier: Quantifier, own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are plain fields of the quantifier; `ConfigError` for one that it does not take.

    What its name says already, as `token_entropy_max` does, stays.
    """
    kind: type[Any] = type(quantifier)
    takes = ["equivalence" if field.name == "equivalent" else field.name for field in fields(kind) if field.init]
    takes = [name for name in takes if name != "aggregate"]
    unknown = sorted(set(own) - set(takes))
    if unknown:
        raise ConfigError(
            f"{quantifier.name} takes no {', '.join(unknown)}; its settings: {', '.join(takes) or 'none'}"
        )
    given = {"aggregate": quantifier.aggregate} if own and hasattr(quantifier, "aggregate") else {}
    return given | {key: value for key, value in own.items() if key not in _SPECIAL}


def _function(setting: Any, load: Callable[[str], Any] | None) -> Callable[..., Any]:
    loaded = load(setting) if isinstance(setting, str) and load is not None else setting
    if not callable(loaded):
        raise ConfigError(f"reconstruct names a function as module:attribute, not {setting!r}")
    function: Callable[..., Any] = loaded
    return function


def _sampling(settings: Mapping[str, Any], load: Callable[[str], Any] | None, *, alike: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if "samples" in settings:
        given["samples"] = settings["samples"]
        if not isinstance(given["samples"], int) or isinstance(given["samples"], bool) or given["samples"] < 1:
            raise ConfigError(f"samples is how many further answers are drawn, at least 1, not {given['samples']!r}")
    if alike and "similarity" in settings:
        given["similarity"] = similarity_of(settings["similarity"], load)
    if not alike and "equivalence" in settings:
        given["equivalent"] = equivalence_of(settings["equivalence"], load)
    return given
