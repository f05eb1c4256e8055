"""What the quantifiers that read logits, features or sampled probabilities share: the arrays, checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisupervised.cells import is_missing, written
from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import check_sums
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray, ModelOutput


def logits_of(output: ModelOutput) -> FloatArray:
    """The (n, classes) logits of an output as float64; NaN in the place of +inf, with which nothing can be weighed.

    A row that holds NaN stays: its confidence will be NaN. -inf is a class that is ruled out. Raises `EvidenceError`
    when there are none, or not one row of at least one class for each prediction.
    """
    logits = _numbers(output.logits, "logits", "returns `logits`")
    if logits.ndim != 2 or logits.shape[0] != len(output) or (len(output) and logits.shape[1] == 0):
        raise EvidenceError(f"logits must have the shape (inputs, classes) = ({len(output)}, k), not {logits.shape}")
    return np.where(logits == np.inf, np.nan, logits) if (logits == np.inf).any() else logits


def sampled_probabilities_of(output: ModelOutput) -> FloatArray:
    """The (n, samples, classes) class probabilities of several passes as float64, checked as single ones are.

    Raises `EvidenceError` when there are none, or not one block of at least one sample for each prediction.
    """
    p = _numbers(output.sampled_probabilities, "sampled probabilities", "returns `sampled_probabilities`")
    if p.ndim != 3 or p.shape[0] != len(output) or (len(output) and p.shape[1] == 0):
        raise EvidenceError(
            f"sampled_probabilities must have the shape (inputs, samples, classes) = ({len(output)}, s, k), "
            f"not {p.shape}"
        )
    check_sums(p.reshape(p.shape[0] * p.shape[1], p.shape[2]))
    return p


def features_of(output: ModelOutput, width: int | None = None) -> tuple[FloatArray, BoolArray]:
    """The (n, d) features of an output as float64, and (n,) whether a row is known: all its numbers are finite.

    Rows that are not known are zeros here; their confidence is NaN, see `where_known`. Raises `EvidenceError` when
    there are no features, not one row for each prediction, or not `width` columns.
    """
    features = _numbers(output.features, "features", "returns `features`")
    if features.ndim != 2 or features.shape[0] != len(output) or (len(output) and features.shape[1] == 0):
        raise EvidenceError(f"features must have the shape (inputs, d) = ({len(output)}, d), not {features.shape}")
    if width is not None and features.shape[1] != width:
        if len(output):
            raise EvidenceError(
                f"the features have {features.shape[1]} columns, and the quantifier was fitted on {width}: it needs "
                f"those of the same layer of the same model"
            )
        features = np.empty((0, width))
    known: BoolArray = np.all(np.isfinite(features), axis=1)
    return (features, known) if known.all() else (np.where(known[:, np.newaxis], features, 0.0), known)


def where_known(known: BoolArray, confidences: FloatArray) -> FloatArray:
    """The confidences, and NaN where the evidence is not known."""
    return confidences if known.all() else np.where(known, confidences, np.nan)


def _numbers(column: Any, what: str, advice: str) -> FloatArray:
    if column is None:
        raise EvidenceError(
            f"the model output holds no {what}; use a quantifier that needs what the model gives, or a model that "
            f"{advice}"
        )
    try:
        # Rows side by side in memory: a sum over a row is the same to the last bit alone and in any batch.
        return np.ascontiguousarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"{what} must be an array of numbers: {error}") from error


# ---------------------------------------------------------------- what a quantifier is fitted on


@dataclass(frozen=True, slots=True, eq=False)
class FittingRows:
    """The rows of a model output that a quantifier can be fitted on, in m classes."""

    features: FloatArray  #: (n, d) all finite
    class_index: IntArray  #: (n,) in 0..m-1
    classes: tuple[str, ...]  #: (m,) labels as they are written, sorted

    def by_class(self) -> tuple[IntArray, IntArray]:
        """(n,) the rows class by class, and (m + 1,) the places where each class begins, and the last one ends."""
        order = np.argsort(self.class_index, kind="stable")
        return order, np.searchsorted(self.class_index[order], np.arange(len(self.classes) + 1))

    def within_class(self) -> tuple[FloatArray, FloatArray]:
        """(m, d) the means of the classes, and (n, d) each row less the mean of its class."""
        order, bounds = self.by_class()
        sums = np.add.reduceat(self.features[order], bounds[:-1], axis=0)
        means = sums / np.diff(bounds)[:, np.newaxis]
        return means, self.features - means[self.class_index]


def fitting_rows(output: ModelOutput, labels: Any = None) -> FittingRows:
    """The rows with finite features and a label that did not fail, and their classes.

    `labels` is (n,), None, NaN or "" where one is not known; by default the model's own predictions stand for them.
    They are compared as they are written: 1, 1.0 and "1" are one. Raises `EvidenceError` when there is no such row.
    """
    features, known = features_of(output)
    values = label_list(output, labels)
    known = known & np.fromiter((is_label(value) for value in values), np.bool_, len(values))
    known[list(output.failures)] = False
    rows = np.flatnonzero(known)
    if rows.size == 0:
        raise EvidenceError("there is no row to fit on: each needs finite features and a label")
    present = [values[row] for row in rows.tolist()]
    classes = tuple(sorted(set(map(_label, present))))
    return FittingRows(features[rows], class_indices(classes, present), classes)


def check_predicted(classes: Iterable[Any], output: ModelOutput) -> None:
    """Raise `EvidenceError` when not one prediction is among the classes that a quantifier learned from labels.

    What compares predictions with labels would learn that every prediction is wrong, or judge none.
    """
    answered = (value for row, value in enumerate(label_list(output)) if row not in output.failures)
    predictions = {_label(value) for value in answered if is_label(value)}
    known = set(map(_label, classes))
    if predictions.isdisjoint(known):
        said = f"they are {_some(predictions)}" if predictions else "there is none"
        raise EvidenceError(
            f"no prediction of the rows to fit on is among their labels, which are {_some(known)}; {said}. Give the "
            f"model's predictions, written as the labels are"
        )


def label_list(output: ModelOutput, labels: Any = None) -> list[Any]:
    """n labels as plain values: the given ones, or the predictions. Raises `EvidenceError` for another number."""
    values: list[Any] = np.asarray(output.predictions if labels is None else _as_objects(labels)).tolist()
    if len(values) != len(output):
        raise EvidenceError(f"there are {len(values)} labels for {len(output)} predictions")
    return values


def is_label(value: Any) -> bool:
    """Whether a label is known: neither None, NaN nor empty."""
    return not is_missing(value) and bool(value == value)


def class_indices(classes: tuple[Any, ...], labels: list[Any]) -> IntArray:
    """(n,) the place of each label in `classes`, -1 for one that is not among them. Compared as they are written."""
    place = {_label(label): index for index, label in enumerate(classes)}
    found = (place.get(_label(label), -1) if is_label(label) else -1 for label in labels)
    return np.fromiter(found, np.int64, len(labels))


def _as_objects(labels: Any) -> AnyArray:
    if isinstance(labels, np.ndarray):
        return labels
    column = np.empty(len(labels), dtype=object)
    column[:] = list(labels)
    return column


def _label(value: Any) -> str:
    try:
        hash(value)
    except TypeError as error:
        raise EvidenceError(f"a label must be a text, a number or a truth value: {error}") from error
    return str(written(value))


def _some(labels: Iterable[str]) -> str:
    first = sorted(labels)
    return ", ".join(map(repr, first[:3])) + (", …" if len(first) > 3 else "")
