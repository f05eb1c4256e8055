"""How likely each model is wrong, as a smooth function of the ranks of its scores.

Pareto testing looks for good thresholds on a few hundred rows, where the lowest risk on a grid is mostly luck. A
logistic regression on piecewise linear functions of the ranks has little of it, and some bias; the mean of its
prediction and of what was recorded has less error than either. It orders hypotheses and certifies nothing, so it may
be as wrong as it likes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bisupervised.calibration.rule import CalibrationRows
from bisupervised.records import FloatArray

_KNOTS: Final = (-0.3, -0.1, 0.1, 0.3)  #: of ranks in [-0.5, 0.5]
_RIDGE: Final = 1.0
_STEPS: Final = 8


def smoothed_losses(rows: CalibrationRows, share: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """(n,) local and remote losses, each `share` of the smooth prediction and 1 - share of the recorded loss."""
    local, remote = _ranks(rows.local_confidence), _ranks(rows.remote_confidence)
    of_local = np.column_stack([np.ones(len(rows)), local, *_hinges(local)])
    of_both = np.column_stack([of_local, remote, *_hinges(remote), local * remote])
    return (
        share * _fitted(of_local, rows.local_loss) + (1.0 - share) * rows.local_loss,
        share * _fitted(of_both, rows.remote_loss) + (1.0 - share) * rows.remote_loss,
    )


def _ranks(scores: FloatArray) -> FloatArray:
    """Mid-ranks in [-0.5, 0.5]; NaN at the lower end."""
    known = np.sort(scores[~np.isnan(scores)])
    if not len(known):
        return np.full(len(scores), -0.5)
    middle = np.searchsorted(known, scores, side="left") + np.searchsorted(known, scores, side="right")
    return np.where(np.isnan(scores), -0.5, middle / (2.0 * len(known)) - 0.5)


def _hinges(ranks: FloatArray) -> list[FloatArray]:
    return [np.maximum(ranks - knot, 0.0) for knot in _KNOTS]


def _fitted(features: FloatArray, loss: FloatArray) -> FloatArray:
    """Predicted losses of a ridge-penalised logistic regression, by Newton's method; the intercept is not
    penalised."""
    penalty = np.full(features.shape[1], _RIDGE)
    penalty[0] = 1e-6
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        predicted = _sigmoid(features @ weights)
        slope = features.T @ (loss - predicted) - penalty * weights
        curvature = (features * (predicted * (1.0 - predicted))[:, None]).T @ features + np.diag(penalty)
        weights = weights + np.linalg.solve(curvature, slope)
    return _sigmoid(features @ weights)


def _sigmoid(z: FloatArray) -> FloatArray:
    sigmoid: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(z, -30.0, 30.0)))
    return sigmoid
