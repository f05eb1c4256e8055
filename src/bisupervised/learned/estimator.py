"""Anybody's estimator in place of the logistic regression: a gradient boosting of scikit-learn, say."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bisupervised.errors import InputError
from bisupervised.learned.design import AGREEMENT, Design
from bisupervised.records import FloatArray


class Estimator(Protocol):
    """A classifier as scikit-learn has them."""

    def fit(self, x: Any, y: Any) -> Any:
        """Learn from (n, d) numbers and (n,) classes 0 and 1."""

    def predict_proba(self, x: Any) -> Any:
        """(n, 2): the probabilities of class 0 and of class 1."""


@dataclass(frozen=True, slots=True, eq=False)
class EstimatorHeads:
    """t fitted copies of an estimator. It gets a column of ranks for each number, one of 0 and 1 for each label of
    few classes, agreement (unknown: 0.5), and 1 where a number is missing.

    Whether a row alone gets what it gets in a batch, to the last bit, is up to the estimator. No file holds it.
    """

    design: Design
    estimators: tuple[Estimator, ...]

    @classmethod
    def fit(cls, columns: Mapping[str, Any], targets: Sequence[FloatArray], estimator: Estimator) -> EstimatorHeads:
        design = Design.fit(columns)
        matrix = _matrix(design, design.read(columns))
        for target in targets:
            if ((target != 0.0) & (target != 1.0)).any():
                raise InputError("an estimator learns from right and wrong, not from grades between")
        # A copy for each: what the caller handed in stays unfitted, and no fold sees another's rows.
        fitted = tuple(copy.deepcopy(estimator) for _ in targets)
        for one, target in zip(fitted, targets, strict=True):
            one.fit(matrix, target.astype(np.int64))
        return cls(design, fitted)

    def probabilities(self, columns: Mapping[str, Any]) -> FloatArray:
        """(t, n) in [0, 1]; NaN for rows in which no number is known."""
        read = self.design.read(columns)
        matrix = _matrix(self.design, read)
        if not len(matrix):
            return np.empty((len(self.estimators), 0))
        found = np.stack([_second(one.predict_proba(matrix), len(matrix)) for one in self.estimators])
        return np.where(self.design.saw_nothing(read), np.nan, found)


def _second(given: Any, n: int) -> FloatArray:
    probabilities = np.asarray(given, dtype=np.float64)
    if probabilities.shape != (n, 2) or not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise InputError(
            f"predict_proba is to give ({n}, 2) probabilities in [0, 1]; it gave the shape {probabilities.shape}, or "
            f"numbers outside"
        )
    return probabilities[:, 1]


def _matrix(design: Design, columns: Mapping[str, Any]) -> FloatArray:
    """(n, d)"""
    found = [one(columns[one.name]) for one in design.numbers]
    found += [np.isnan(columns[one.name]).astype(np.float64) for one in design.numbers if one.missing]
    for column in design.labels:
        codes = column(columns[column.name])
        found += [(codes == number).astype(np.float64) for number in range(len(column.labels))]
    if design.agreement:
        found.append(np.where(np.isnan(columns[AGREEMENT]), 0.5, columns[AGREEMENT]))
    return np.column_stack(found)
