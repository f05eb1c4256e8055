"""Penalised logistic regression by Newton's method, in NumPy.

minimise  sum_i log(1 + e^z_i) - y_i z_i  +  1/2 sum_j penalty_j w_j^2  +  1/2 c sum_k b_k^2
z_i = sum_j w_j f_ji + b_(class of i)

The penalties make the minimum unique and finite: constant columns, columns that repeat another and groups that one
column tells apart (separation) change nothing about that. Effects of classes are a block of their own, whose
curvature is diagonal: a thousand of them cost no more than a few columns (Schur complement).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bisupervised.records import AnyArray, FloatArray, IntArray

#: Of the intercept: as good as none, and finite where every target is the same.
INTERCEPT_PENALTY: Final = 1e-2
_STEPS: Final = 60
_HALVINGS: Final = 30
_DONE: Final = 1e-9


class Fitted(NamedTuple):
    """The minimum."""

    weights: FloatArray  #: (p,)
    effects: FloatArray  #: (k,) of the classes; empty without


def fit_logistic(
    features: FloatArray,
    targets: FloatArray,
    penalty: float,
    codes: IntArray | None = None,
    classes: int = 0,
    class_penalty: float = 1.0,
) -> Fitted:
    """`features` is (p, n), its first row the intercept's ones; `targets` (n,) in [0, 1].

    `codes` (n,) are the class numbers, below `classes`; -1: none, which has no effect.

    >>> x = np.array([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]])
    >>> fit_logistic(x, np.array([0.0, 0.0, 1.0, 1.0]), penalty=1.0).weights.round(3)
    array([0.   , 1.043])
    """
    problem = _Problem(features, targets, penalty, codes, classes, class_penalty)
    at = Fitted(np.zeros(len(features)), np.zeros(classes))
    log_odds = problem.log_odds(at)
    before = problem.loss(log_odds, at)
    for _ in range(_STEPS):
        step = problem.newton_step(log_odds, at)
        for _ in range(_HALVINGS):
            there = Fitted(at.weights - step.weights, at.effects - step.effects)
            log_odds = problem.log_odds(there)
            after = problem.loss(log_odds, there)
            if after <= before:
                break
            step = Fitted(step.weights / 2.0, step.effects / 2.0)
        else:  # no nearer by any step: the minimum, to rounding
            return at
        at = there
        if before - after <= _DONE * (1.0 + before):
            return at
        before = after
    return at


class _Problem:
    def __init__(
        self,
        features: FloatArray,
        targets: FloatArray,
        penalty: float,
        codes: IntArray | None,
        classes: int,
        class_penalty: float,
    ) -> None:
        self.features, self.targets = features, targets
        self.penalty = np.full(len(features), penalty)
        self.penalty[0] = INTERCEPT_PENALTY
        self.classes, self.class_penalty = classes, class_penalty
        # Inputs of no class are counted in one more, which is cut off.
        self.codes: AnyArray | None = np.where(codes < 0, classes, codes) if codes is not None and classes else None

    def log_odds(self, at: Fitted) -> FloatArray:
        z: FloatArray = at.weights @ self.features
        return z if self.codes is None else z + np.append(at.effects, 0.0)[self.codes]

    def loss(self, z: FloatArray, at: Fitted) -> float:
        fit = float(np.sum(np.logaddexp(0.0, z) - self.targets * z))
        held = float(np.sum(self.penalty * at.weights**2)) + self.class_penalty * float(np.sum(at.effects**2))
        return fit + held / 2.0

    def newton_step(self, z: FloatArray, at: Fitted) -> Fitted:
        p = sigmoid(z)
        weighted = self.features * (p * (1.0 - p))
        slope = self.features @ (p - self.targets) + self.penalty * at.weights
        curvature = weighted @ self.features.T + np.diag(self.penalty)
        if self.codes is None:
            return Fitted(_solve(curvature, slope), np.zeros(0))
        class_slope = self._by_class(p - self.targets) + self.class_penalty * at.effects
        class_curvature = self._by_class(p * (1.0 - p)) + self.class_penalty
        across = np.stack([self._by_class(row) for row in weighted])
        scaled = across / class_curvature
        weights = _solve(curvature - scaled @ across.T, slope - scaled @ class_slope)
        return Fitted(weights, (class_slope - weights @ across) / class_curvature)

    def _by_class(self, values: FloatArray) -> FloatArray:
        assert self.codes is not None
        sums = np.zeros(self.classes + 1)
        sums += np.bincount(self.codes, weights=values, minlength=self.classes + 1)
        return sums[: self.classes]


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


def sigmoid(log_odds: FloatArray) -> FloatArray:
    """1 / (1 + e^-z), which overflows at neither end."""
    p: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * log_odds))
    return p
