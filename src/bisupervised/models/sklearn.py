"""A fitted scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bisupervised.errors import InputError, MissingExtra, ModelError
from bisupervised.models.outputs import empty_output, matrix_of, output_from_probabilities
from bisupervised.records import Evidence, ModelOutput


class SklearnModel:
    """Class probabilities from `estimator.predict_proba`; the prediction is the most probable of `classes_`.

    `prepare` turns the list of n inputs into what the estimator takes (default: handed over as they are, which
    suits pipelines that begin with a vectoriser, and rows of numbers). `features` turns the same into the features
    that are evidence, (n, d): `pipeline[:-1].transform` for one, or `"input"` for what the estimator takes itself.
    With `logits=True` the estimator's `decision_function` gives the logits; of two classes it gives one number z,
    which becomes (0, z). The estimator must be fitted. Raises
    `InputError` for one without `predict_proba`: distances to a boundary are no probabilities.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        prepare: Callable[[Sequence[Any]], Any] | None = None,
        features: Callable[[Any], Any] | Literal["input"] | None = None,
        logits: bool = False,
        name: str | None = None,
        max_batch: int | None = None,
    ) -> None:
        _require_sklearn()
        self._predict_proba = _predict_proba_of(estimator)
        self.classes = _classes_of(estimator)
        self._prepare = prepare
        self._features = features
        self._decide = _decision_function_of(estimator) if logits else None
        given = {Evidence.PROBABILITIES: True, Evidence.LOGITS: logits, Evidence.FEATURES: features is not None}
        self.provides = frozenset(evidence for evidence, is_given in given.items() if is_given)
        self.name = name or type(estimator).__name__
        self.max_batch = max_batch

    def __repr__(self) -> str:
        return f"SklearnModel({self.name!r}, {len(self.classes)} classes)"

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """Probabilities and predictions of n inputs. Raises `ModelError` when the estimator does."""
        if len(inputs) == 0:  # estimators refuse to predict nothing
            return empty_output(self.provides, self.classes)
        prepared = inputs if self._prepare is None else self._prepare(inputs)
        try:
            probabilities = self._predict_proba(prepared)
            features = self._features(prepared) if callable(self._features) else prepared
            decided = None if self._decide is None else np.asarray(self._decide(prepared))
        except Exception as error:  # any library may sit in a pipeline
            raise ModelError(f"{self.name} raised {type(error).__name__}: {error}") from error
        output = output_from_probabilities(probabilities, self.classes, model=self.name)
        n = len(output)
        further: dict[str, Any] = {}
        if self._features is not None:
            further["features"] = matrix_of(features, f"{self.name}: features", n)
        if decided is not None:
            two = decided.ndim == 1
            further["logits"] = np.stack([np.zeros(n), decided], axis=1) if two else decided
            if further["logits"].shape != (n, len(self.classes)):
                raise ModelError(
                    f"{self.name}: decision_function gives {decided.shape} for {len(self.classes)} classes: leave "
                    f"out logits=True"
                )
        return replace(output, **further) if further else output


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401 - an estimator unpickled without it fails later and less clearly
    except ImportError as error:
        raise MissingExtra("scikit-learn", "sklearn") from error


def _predict_proba_of(estimator: Any) -> Callable[[Any], Any]:
    kind = type(estimator).__name__
    # scikit-learn hides predict_proba from hasattr where the estimator's settings do not allow it.
    if hasattr(estimator, "predict_proba"):
        method: Callable[[Any], Any] = estimator.predict_proba
        return method
    if hasattr(estimator, "decision_function"):
        raise InputError(
            f"{kind} gives decision values, not class probabilities. Wrap it before fitting: "
            f"sklearn.calibration.CalibratedClassifierCV({kind}(...)).fit(X, y)"
        )
    raise InputError(f"{kind} has no predict_proba: a level needs a classifier that gives class probabilities")


def _decision_function_of(estimator: Any) -> Callable[[Any], Any]:
    if not hasattr(estimator, "decision_function"):
        raise InputError(f"{type(estimator).__name__} has no decision_function, which logits=True asks for")
    method: Callable[[Any], Any] = estimator.decision_function
    return method


def _classes_of(estimator: Any) -> list[Any]:
    kind = type(estimator).__name__
    try:
        classes = estimator.classes_
    except AttributeError as error:
        raise InputError(f"{kind} has no classes_: fit it first") from error
    if isinstance(classes, list):
        raise InputError(f"{kind} predicts {len(classes)} outputs at once; a level takes one label per input")
    return list(np.asarray(classes).tolist())
