"""All three thresholds on a grid of score quantiles: counts of every rule by two-dimensional cumulative sums.

The 1st level's two thresholds share one axis. What is deferred between abstention threshold h and local threshold i
is what is deferred below i less what lies below h, so one histogram of (local cell, remote cell) serves all three
axes, and the third costs a subtraction. No row is touched twice: O(n log points + cells).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bisupervised.calibration.rule import CalibrationRows, Counts, Rule
from bisupervised.records import AnyArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class JointGrid:
    """Counts of n inputs at a local thresholds (rising), b remote thresholds (rising), and any of the local ones as
    abstention threshold; index 0 is -inf, the last is +inf."""

    n: int
    local_thresholds: FloatArray  #: (a,)
    remote_thresholds: FloatArray  #: (b,)
    _local: AnyArray  #: (2, a) count and loss of what is accepted locally
    _below: IntArray  #: (a,) inputs with a local confidence below the threshold
    _trusted: AnyArray  #: (2, a, b) count and loss of those of them that the 2nd level accepts
    _always: AnyArray  #: (2, b) the same of inputs without a local confidence, which are always deferred
    _never: int  #: how many of these there are

    def counts(self, abstain: int) -> Counts:
        """The counts at one abstention threshold: (a - abstain, b), local thresholds from that one on.

        A local threshold below it would make the same rules as one at it.
        """
        accepted, loss = self._trusted[:, abstain:] - self._trusted[:, abstain, None]
        accepted += self._local[0, abstain:, None] + self._always[0]
        loss += self._local[1, abstain:, None] + self._always[1]
        requests = (self._below[abstain:] - self._below[abstain] + self._never)[:, None]
        return Counts(self.n, accepted, loss, requests, int(self._below[abstain]))

    def counts_at_each(self, abstain: AnyArray) -> Counts:
        """The counts at (h,) abstention thresholds, (h, a, b), in one array; both thresholds are the higher one where
        the local one is below."""
        between = np.minimum(abstain[:, None], np.arange(len(self.local_thresholds)))
        accepted, loss = self._trusted[:, None] - self._trusted[:, between]
        accepted += self._local[0][:, None] + self._always[0]
        loss += self._local[1][:, None] + self._always[1]
        requests = (self._below - self._below[between] + self._never)[..., None]
        return Counts(self.n, accepted, loss, requests, self._below[between][..., None])

    def rule(self, abstain: int, local: int, remote: int) -> Rule:
        """The rule at these indices."""
        early = min(abstain, local)
        return Rule(
            local=float(self.local_thresholds[local]),
            remote=float(self.remote_thresholds[remote]),
            abstain=float(self.local_thresholds[early]),
        )


def joint_grid(
    rows: CalibrationRows,
    *,
    local_points: int = 400,
    remote_points: int = 400,
    losses: tuple[FloatArray, FloatArray] | None = None,
) -> JointGrid:
    """The grid of at most so many quantiles of either confidence, -inf and +inf included.

    `losses` are (n,) local and remote losses to sum in place of the recorded ones: smoothed ones, say.
    """
    first = quantile_thresholds(rows.local_confidence, local_points)
    second = quantile_thresholds(rows.remote_confidence, remote_points)
    local_loss, remote_loss = losses or (rows.local_loss, rows.remote_loss)
    a, b = _passed(rows.local_confidence, first), _passed(rows.remote_confidence, second)
    missing = np.isnan(rows.local_confidence)
    known = ~missing
    size = len(first) + 1
    passed = np.stack([_sums(a[known], w, size) for w in _weights(local_loss[known])])
    below = np.cumsum(passed, axis=1)[:, : len(first)]
    trusted = np.stack([_cells(a[known], b[known], size, len(second), w) for w in _weights(remote_loss[known])])
    always = np.stack([_cells(a[missing], b[missing], 1, len(second), w)[0] for w in _weights(remote_loss[missing])])
    return JointGrid(
        n=len(rows),
        local_thresholds=first,
        remote_thresholds=second,
        _local=passed.sum(axis=1, keepdims=True) - below,
        _below=below[0].astype(np.int64),
        _trusted=np.cumsum(trusted, axis=1)[:, : len(first)],
        _always=always,
        _never=int(missing.sum()),
    )


def _weights(loss: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.ones(len(loss)), loss


def _passed(confidences: FloatArray, thresholds: FloatArray) -> IntArray:
    """How many of the rising thresholds each confidence passes by the acceptance rule; NaN passes none."""
    passed = np.searchsorted(thresholds, confidences, side="right")
    passed[np.isnan(confidences)] = 0
    return passed


def _cells(a: IntArray, b: IntArray, rows: int, columns: int, weights: FloatArray) -> AnyArray:
    """(rows, columns): sums of weights over the inputs of local cell i that pass remote threshold j."""
    cell = a * (columns + 1) + b
    sums = _sums(cell, weights, rows * (columns + 1)).reshape(rows, columns + 1)
    passing: AnyArray = np.cumsum(sums[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return passing


def _sums(cell: IntArray, weights: FloatArray, size: int) -> FloatArray:
    # Of no rows at all, NumPy counts in integers.
    return np.bincount(cell, weights=weights, minlength=size).astype(np.float64, copy=False)


def quantile_thresholds(confidences: FloatArray, points: int) -> FloatArray:
    """At most `points` rising thresholds: order statistics at even ranks, between -inf and +inf."""
    known = np.sort(confidences[~np.isnan(confidences)])
    if len(known) == 0:
        return np.array([-np.inf, np.inf])
    ranks = np.linspace(0, len(known) - 1, points - 2).round().astype(np.int64)
    return np.unique(np.concatenate([[-np.inf], known[ranks], [np.inf]]))
