"""Input domain reduction: a local model that knows the k most frequent classes, and `other`, about which it defers.

Weiss & Tonella 2023: a small model need not know every class of the task; what it does not know, the remote model
answers. A model that was trained on fewer classes is imitated by one that knows them all: what it holds for one of
the others it holds for `other`, whose probability is the sum of theirs.

`other` is never an answer: such rows get the confidence NaN (no evidence, never trusted), which no threshold accepts;
-inf would be accepted at the threshold -inf, which means "always answer". Where `other` and a class are as likely,
`other` has it: when in doubt, the input is deferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import AnyArray, BoolArray, FloatArray
from bisupervised.studies.live.parts import CALIBRATION
from bisupervised.table import Table

OTHER = "other"


def frequent_classes(labels: Sequence[Any] | AnyArray, k: int = 100) -> AnyArray:
    """(min(k, classes),) the most frequent labels, the most frequent first; as frequent ones in their own order.

    Take the labels of the calibration rows only: those of the report would tell the model what will be asked.

    >>> frequent_classes(["b", "a", "b", "c"], 2)
    array(['b', 'a'], dtype='<U1')
    """
    if k < 1:
        raise InputError(f"a local model knows at least one class: k = {k}")
    values, counts = np.unique(np.asarray(labels), return_counts=True)
    if not len(values):
        raise InputError("the most frequent classes of no rows are not known: give labels of calibration rows")
    kept: AnyArray = values[np.argsort(-counts, kind="stable")[:k]]
    return kept


def reduced_probabilities(probabilities: Any, classes: Sequence[Any] | AnyArray, kept: AnyArray) -> FloatArray:
    """(n, k + 1) from (n, classes): those of `kept`, in its order, and last the sum of all others.

    Raises `InputError` for a kept class that the model does not have. A row with a NaN is NaN throughout.

    >>> reduced_probabilities([[0.25, 0.5, 0.25]], ["a", "b", "c"], np.array(["b"]))
    array([[0.5, 0.5]])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    names = np.asarray(classes).tolist()
    if p.ndim != 2 or p.shape[1] != len(names):
        raise InputError(f"probabilities have the shape {p.shape}; (n, {len(names)}) is needed, one for each class")
    place = {name: column for column, name in enumerate(names)}
    wanted = np.asarray(kept).tolist()
    unknown = [name for name in wanted if name not in place]
    if unknown or len(set(wanted)) != len(wanted):
        which = f"it does not have {unknown[:5]}" if unknown else "one is named twice"
        raise InputError(f"the kept classes are not classes of the model, each once: {which}")
    columns = [place[name] for name in wanted]
    others = np.setdiff1d(np.arange(len(names)), columns)
    reduced = np.column_stack([p[:, columns], p[:, others].sum(axis=1)])
    reduced[np.isnan(p).any(axis=1)] = np.nan
    return reduced


def is_other(probabilities: Any, classes: Sequence[Any] | AnyArray, kept: AnyArray) -> BoolArray:
    """(n,) whether `other` is at least as likely as every kept class; also where the probabilities are not known."""
    reduced = reduced_probabilities(probabilities, classes, kept)
    return np.asarray(~(reduced[:, :-1].max(axis=1) > reduced[:, -1]))


def is_outside(predictions: Sequence[Any] | AnyArray, kept: AnyArray) -> BoolArray:
    """(n,) whether a recorded prediction is none of the kept classes: all that is known without probabilities.

    It lets more answers stand than `is_other`: a class that is the likeliest of all may be less likely than all
    others together.
    """
    known = set(np.asarray(kept).tolist())
    return np.array([prediction not in known for prediction in np.asarray(predictions).tolist()], dtype=np.bool_)


def reduced_confidences(confidences: Any, other: BoolArray) -> FloatArray:
    """(n,) any supervisor's confidences, with NaN where the local model's answer would be `other`.

    >>> reduced_confidences([0.9, 0.8], is_outside(["b", "c"], np.array(["a", "b"])))
    array([0.9, nan])
    """
    values = np.array(confidences, dtype=np.float64)
    other = np.asarray(other)
    if values.ndim != 1 or other.shape != values.shape or other.dtype != np.bool_:
        raise InputError(f"{values.shape} confidences for {other.shape} rows: one number and one truth value per row")
    values[other] = np.nan
    return values


def max_softmax(probabilities: Any, classes: Sequence[Any] | AnyArray, kept: AnyArray) -> tuple[AnyArray, FloatArray]:
    """(predictions, confidences), (n,) each, of the reduced model: `OTHER` and NaN where it defers.

    >>> max_softmax([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4]], ["a", "b", "c"], np.array(["a", "b"]))
    (array(['a', 'other'], dtype=object), array([0.6, nan]))
    """
    reduced = reduced_probabilities(probabilities, classes, kept)
    other = is_other(probabilities, classes, kept)
    if not len(reduced):
        return np.empty(0, dtype=object), np.empty(0)
    likeliest = np.nan_to_num(reduced[:, :-1], nan=-1.0).argmax(axis=1)
    predictions = np.asarray(kept).astype(object)[likeliest]
    predictions[other] = OTHER
    return predictions, reduced_confidences(reduced[:, :-1].max(axis=1), other)


def with_reduced_domain(table: Table, k: int = 100) -> Table:
    """A numbers-only table with the column `local_domain_confidence`: the confidences of a local model that knows the
    k most frequent classes, NaN where the class that it predicts is none of them.

    The classes are those of the choosing rows: of the calibration part, or for each fold of the other folds.
    """
    if table.labels is None:
        return table
    labels, predictions = table.labels.astype(str), table.local.predictions.astype(str)
    confidences = np.full(len(table), np.nan)
    if "fold" in table.extra:
        folds = np.asarray(table.extra["fold"]).astype(int)
        splits = [(folds != one, folds == one) for one in np.unique(folds)]
    else:
        splits = [(np.asarray(table.extra["part"]).astype(str) == CALIBRATION, np.ones(len(table), dtype=np.bool_))]
    for choosing, judged in splits:
        kept = frequent_classes(labels[choosing], k)
        other = is_outside(predictions[judged], kept)
        confidences[judged] = reduced_confidences(table.local.confidences[judged], other)
    return replace(table, extra={**table.extra, "local_domain_confidence": confidences})
