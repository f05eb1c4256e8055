"""Every quantifier, found automatically, with evidence for each, and training rows for those that are fitted."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

import bisupervised.quantifiers as package
from bisupervised.quantifiers import Quantifier
from bisupervised.records import ModelOutput

NAN = float("nan")


def without_last(rows: np.ndarray) -> np.ndarray:
    """A reconstruction that knows nothing of the last feature."""
    return rows * np.append(np.ones(rows.shape[1] - 1), 0.0)


#: Settings of those that cannot be made without, and further ones worth testing. All others are made plainly.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "LabelProbability": [
        {"labels": {1: ["yes", "y"], 0: ["no"]}},
        {"labels": {1: ["yes", "y"], 0: ["no"]}, "normalise": True},
    ],
    "SelfConsistency": [{"samples": 8}],
    "SemanticEntropy": [{"samples": 8}, {"samples": 8, "weighted": True}],
    "NumSemanticSets": [{"samples": 8}],
    "LexicalSimilarity": [{"samples": 8}],
    "CoCoA": [{"samples": 8}, {"samples": 8, "unlikely": "sum"}, {"samples": 8, "unlikely": "entropy"}],
    "DegMat": [{"samples": 8}],
    "Eccentricity": [{"samples": 8}],
    "EigValLaplacian": [{"samples": 8}],
    "TokenLikelihood": [{"aggregate": a} for a in ("sum", "mean", "min", 0.0, 0.1, 0.5, 1.0)],
    "TokenEntropy": [{"aggregate": "mean"}, {"aggregate": "max"}, {"tail": False}],
    "TokenMargin": [{"aggregate": "mean"}, {"aggregate": "min"}],
    "VerbalisedConfidence": [{}, {"scale": "percent"}],
    "Energy": [{}, {"temperature": 2.5}],
    "Gen": [{}, {"gamma": 0.5, "largest": 2}],
    "RenyiEntropy": [{}, {"alpha": 2.0}],
    "TsallisEntropy": [{}, {"alpha": 2.0}],
    "Reconstruction": [{"reconstruct": without_last}],
    "KNN": [{"k": 3}],
    "ViM": [{"weights": np.eye(3, 8) * 2.0, "bias": np.array([0.5, 0.0, -0.5])}],
}


# One row of evidence of each kind from `certainty` in [0, 1]: more is never less certain of prediction 1.


def probabilities(certainty: float) -> list[float]:
    top = 0.4 + 0.6 * certainty
    return [(1 - top) / 2, top, (1 - top) / 2]


def logits(certainty: float) -> list[float]:
    return [-certainty, 0.5 + 4.0 * certainty, 0.4 - certainty]


def token_logprobs(certainty: float) -> np.ndarray:
    return np.log(0.1 + 0.9 * certainty) * np.array([1.0, 0.5, 0.2, 1.0])


def token_alternatives(certainty: float) -> np.ndarray:
    top = np.array([0.5, 0.6, 0.9])[:, None] ** (1 - certainty)
    return np.log(np.hstack([top, (1 - top) * 0.6, (1 - top) * 0.3]) + 1e-9)


def top_logprobs(certainty: float) -> dict[str, float]:
    yes = 0.05 + 0.9 * certainty
    return {" Yes": np.log(yes), "NO ": np.log(0.95 - yes + 1e-9), "maybe": np.log(0.01)}


def text(certainty: float) -> str:
    return f"The answer is 1. Confidence: {100 * certainty:.9f}%"


def samples(certainty: float) -> list[Any]:
    """Eight, of which the more agree with prediction 1 the more certain it is; the others all differ."""
    agreeing = round(8 * certainty)
    return [1] * agreeing + [f"other{number}" for number in range(8 - agreeing)]


def sample_logprobs(certainty: float) -> np.ndarray:
    """Each sample as likely as the prediction, of which every token is."""
    return np.full(8, 3 * token_logprobs(certainty).mean())


def sampled_probabilities(certainty: float) -> np.ndarray:
    """Eight passes over ten classes, of which the more choose class 1, and the surer; the others all differ."""
    agreeing = 1 + round(7 * certainty)
    tops = np.full(8, 0.6)
    tops[:agreeing] += 0.3 * (agreeing - 1) / 7
    chosen = np.where(np.arange(8) < agreeing, 1, 2 + np.arange(8))
    p = np.repeat((1 - tops)[:, None] / 9, 10, axis=1)
    p[np.arange(8), chosen] = tops
    return p


def features(certainty: float) -> np.ndarray:
    """Beside the training rows of class 1, and away from those of all classes the less certain it is."""
    row = np.zeros(8)
    row[1], row[7] = 5.0, 0.3 + 3.0 * (1.0 - certainty)
    return row


def training_output(n: int = 60, seed: int = 0) -> ModelOutput:
    """Rows of three classes with their evidence; the last feature is the same for every one, with both signs."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n // 2) % 3, 2)
    base = np.repeat(rng.normal(size=(n // 2, 8)) * [0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.0], 2, axis=0)
    base[:, 7] = np.tile([-0.1, 0.1], n // 2)
    base[np.arange(n), labels] += 5.0
    z = rng.normal(size=(n, 3)) * 3
    z[np.arange(n), labels] += 3.0
    return ModelOutput(labels, logits=z, features=base)


def made(kind: Any, settings: dict[str, Any]) -> Quantifier:
    if not hasattr(kind, "fit"):
        quantifier: Quantifier = kind(**settings)
        return quantifier
    output = training_output()
    fitted: Quantifier = kind.fit(output, output.predictions, **settings)
    return fitted


def kinds() -> list[Any]:
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        for kind in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            of_this_file = inspect.isclass(kind) and kind.__module__.endswith(f".{module.name}")
            if (
                of_this_file
                and hasattr(kind, "name")
                and hasattr(kind, "needs")
                and not getattr(kind, "_is_protocol", False)
            ):
                found.append(kind)
    return found


KINDS = kinds()
#: Those that are fitted on training rows.
FITTED_KINDS = [kind for kind in KINDS if hasattr(kind, "fit")]
QUANTIFIERS = [made(kind, settings) for kind in KINDS for settings in SETTINGS.get(kind.__name__, [{}])]
FITTED = [quantifier for quantifier in QUANTIFIERS if hasattr(quantifier, "fit")]
#: Files of the folder that hold what quantifiers share.
SHARED = {"port", "equivalence", "samples", "similarity", "arrays", "products", "covariance", "neighbours", "saving"}


def settings_of(quantifier: Quantifier) -> dict[str, Any]:
    """The settings that are not as they are by default."""
    if quantifier.needs is None or hasattr(quantifier, "fit"):
        return {}
    return {
        f.name: getattr(quantifier, f.name)
        for f in fields(quantifier)
        if f.default is not MISSING and getattr(quantifier, f.name) != f.default
    }


def output_of(certainties: list[float]) -> ModelOutput:
    """An output with every kind of evidence; NaN is a row without any."""
    n = len(certainties)
    missing = [bool(np.isnan(c)) for c in certainties]

    def rows(make: Any, empty: Any = None) -> list[Any]:
        return [empty() if m else make(c) for c, m in zip(certainties, missing, strict=True)]

    def matrix(make: Any) -> np.ndarray:
        shape = np.shape(make(0.0))
        return np.array(rows(make, lambda: np.full(shape, NAN))).reshape(n, *shape)

    return ModelOutput(
        predictions=np.ones(n, dtype=np.int64),
        probabilities=matrix(probabilities),
        classes=np.arange(3),
        logits=matrix(logits),
        features=matrix(features),
        sampled_probabilities=matrix(sampled_probabilities),
        token_logprobs=rows(token_logprobs, lambda: np.empty(0)),
        token_alternatives=rows(token_alternatives, lambda: np.empty((0, 3))),
        top_logprobs=rows(top_logprobs, dict),
        texts=rows(text, lambda: None),
        confidences=np.array(certainties, dtype=float),
        samples=rows(samples, list),
        sample_logprobs=rows(sample_logprobs, lambda: np.empty(0)),
        sample_lengths=rows(lambda _: np.full(8, 3.0), lambda: np.empty(0)),
        p_true=np.array(certainties, dtype=float),
    )
