"""Both thresholds on a grid, all points at once: counts by two-dimensional cumulative sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bisupervised.records import AnyArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdGrid:
    """Shares of n inputs at every pair of thresholds (local i, remote j)."""

    local_thresholds: FloatArray  #: (a,) rising
    remote_thresholds: FloatArray  #: (b,) rising
    request_rate: FloatArray  #: (a,) share of inputs deferred
    coverage: FloatArray  #: (a, b) share of inputs accepted
    correct: FloatArray  #: (a, b) share of all inputs accepted and correct

    @property
    def risk_of_all(self) -> FloatArray:
        """(a, b) share of all inputs accepted and wrong."""
        return self.coverage - self.correct


def threshold_grid(
    local_confidence: FloatArray,
    local_correct: AnyArray,
    remote_confidence: FloatArray,
    remote_correct: AnyArray,
    *,
    points: int = 400,
) -> ThresholdGrid:
    """The grid of `points` quantiles of either confidence, -inf and +inf included; O(n log points + points^2).

    `a` counts how many local thresholds an input passes (`confidence >= threshold`, by the rule of
    `decision.accept`; NaN passes none): it is accepted locally at grid rows below `a` and deferred from row `a` on.
    """
    n = len(local_confidence)
    first, second = quantile_thresholds(local_confidence, points), quantile_thresholds(remote_confidence, points)
    a, b = _passes(local_confidence, first), _passes(remote_confidence, second)
    rows, columns = len(first), len(second)
    passed = np.bincount(a, minlength=rows + 1)
    right = np.bincount(a, weights=local_correct, minlength=rows + 1)
    # Accepted locally at row i: a > i. Deferred at row i: a <= i, and then accepted at column j: b > j.
    local_accepted = n - np.cumsum(passed)[:rows]
    local_right = right.sum() - np.cumsum(right)[:rows]
    cell = a * (columns + 1) + b
    shape = (rows + 1, columns + 1)
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    rights = np.bincount(cell, weights=remote_correct, minlength=shape[0] * shape[1]).reshape(shape)
    remote_accepted = _deferred_and_passing(counts, rows)
    remote_right = _deferred_and_passing(rights, rows)
    return ThresholdGrid(
        first,
        second,
        (n - local_accepted) / n,
        (local_accepted[:, None] + remote_accepted) / n,
        (local_right[:, None] + remote_right) / n,
    )


def quantile_thresholds(confidences: FloatArray, points: int) -> FloatArray:
    """At most `points` rising thresholds: order statistics at even ranks, between -inf and +inf."""
    known = np.sort(confidences[~np.isnan(confidences)])
    if len(known) == 0:
        return np.array([-np.inf, np.inf])
    ranks = np.linspace(0, len(known) - 1, points - 2).round().astype(np.int64)
    return np.unique(np.concatenate([[-np.inf], known[ranks], [np.inf]]))


def _passes(confidences: FloatArray, thresholds: FloatArray) -> AnyArray:
    passed = np.searchsorted(thresholds, confidences, side="right")
    passed[np.isnan(confidences)] = 0
    return passed


def _deferred_and_passing(cells: AnyArray, rows: int) -> AnyArray:
    down = np.cumsum(cells, axis=0)[:rows]
    from_right = np.cumsum(down[:, ::-1], axis=1)[:, ::-1]
    passing: AnyArray = from_right[:, 1:]
    return passing
