"""An ordered list of rules to test: from the safest to the cheapest, by what one part of the rows says.

1. All rules on a grid, each with its price and with `z`: how many standard errors it lies above the nearest limit, as
   the part that tests will see it.
2. The front: rules that are cheaper than every safer one, thinned to steps of z that matter.
3. Between two of them the thresholds move step by step in rank, so that neighbours decide most inputs alike. Their
   p-values then move together, and a test that stops at the first failure is not stopped by chance so often.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from bisupervised.calibration.guarantees.correctness import smoothed_losses
from bisupervised.calibration.joint_grid import JointGrid, joint_grid
from bisupervised.calibration.limits import Limits, Prices
from bisupervised.calibration.rule import CalibrationRows, Counts
from bisupervised.records import AnyArray, FloatArray

_GRID: Final = 80  #: quantiles of either confidence
_ABSTAIN: Final = 16  #: of them as abstention thresholds
_RULES: Final = 150  #: of a path
_STEP: Final = 0.8  #: standard errors between two rules of the front
_HOPELESS: Final = 2.0  #: standard errors above a limit from which no rule is worth testing
_CERTIFIED_AT: Final = -1.28  #: about where a rule is certified at delta = 0.1
_WORTH: Final = 0.4  #: what early abstention must save, in 1 / sqrt(rows), to be considered at all


class Path(NamedTuple):
    """Rules in the order of testing, (k,) each."""

    local: FloatArray
    remote: FloatArray
    abstain: FloatArray
    z: FloatArray  #: standard errors above the nearest limit, as expected in the testing part


def path_of_rules(
    rows: CalibrationRows, limits: Limits, prices: Prices, *, n_tests: int, early_abstention: bool = True
) -> Path:
    """The rules to test on `n_tests` other rows."""
    grid = joint_grid(rows, local_points=_GRID, remote_points=_GRID, losses=smoothed_losses(rows))
    front = _front(grid, [0], limits, prices, n_tests)
    if early_abstention:
        last = len(grid.local_thresholds) - 1
        levels = np.unique(np.linspace(0, last, _ABSTAIN + 1)[:-1].round().astype(np.int64))
        wider = _front(grid, levels, limits, prices, n_tests)
        cheaper = _reach(front) > _reach(wider) + _WORTH * prices.dearest / math.sqrt(len(rows))
        # Where nothing is likely to be certified, the safest rule is what counts.
        if cheaper or (_reach(front) == math.inf and wider.z[0] < front.z[0]):
            front = wider
    return _moved_step_by_step(rows, grid, front)


class _Front(NamedTuple):
    cells: AnyArray  #: (m, 3) grid indices: abstain, local, remote
    z: FloatArray  #: (m,)
    price: FloatArray  #: (m,) per input


def _front(grid: JointGrid, abstain: Any, limits: Limits, prices: Prices, n_tests: int) -> _Front:
    levels = np.asarray(abstain, dtype=np.int64)
    counts = grid.counts_at_each(levels)
    z, price = standard_errors(counts, limits, n_tests).ravel(), prices.total(counts).ravel() / grid.n
    z[counts.accepted.ravel() <= 0] = np.inf
    safest = int(np.argmin(z))
    candidates = np.append(safest, np.flatnonzero((z <= _HOPELESS) & (price < price[safest])))
    order = candidates[np.argsort(z[candidates], kind="stable")]
    cheapest = np.minimum.accumulate(price[order])
    order = order[np.concatenate([[True], price[order][1:] < cheapest[:-1]])]
    order = order[_thinned(z[order])]
    h, local, remote = np.unravel_index(order, counts.accepted.shape)
    return _Front(np.column_stack([np.minimum(levels[h], local), local, remote]), z[order], price[order])


def _thinned(z: FloatArray) -> AnyArray:
    """Indices of rising z: the first one, then each that is a step above the one before, and the last, which is the
    cheapest of all and may lie within a step of the safest."""
    kept = [0]
    while (after := max(int(np.searchsorted(z, z[kept[-1]] + _STEP)), kept[-1] + 1)) < len(z):
        kept.append(after)
    return np.unique([*kept, len(z) - 1])


def _reach(front: _Front) -> float:
    """The lowest price among those that are expected to be certified; inf where none is."""
    safe = front.z <= _CERTIFIED_AT
    return float(front.price[safe].min()) if safe.any() else math.inf


def standard_errors(counts: Counts, limits: Limits, n_tests: int) -> FloatArray:
    """How many standard errors of n_tests rows each rule lies above the limit it is nearest to breaking."""
    above = np.full(np.shape(counts.accepted), -np.inf)
    scale = n_tests / counts.n
    for name, over in limits.excess(counts).items():
        limit = limits.given[name]
        if name == "cost" and limits.prices is not None:
            spread = counts.n * limit * max(limits.prices.dearest - limit, 1e-12)
        else:
            spread = (counts.accepted + 1.0 if name == "risk" else counts.n) * limit * (1.0 - limit)
        above = np.maximum(above, over * math.sqrt(scale) / np.sqrt(np.maximum(spread, 1e-12)))
    return above


def _moved_step_by_step(rows: CalibrationRows, grid: JointGrid, front: _Front) -> Path:
    local = np.sort(rows.local_confidence[~np.isnan(rows.local_confidence)])
    remote = np.sort(rows.remote_confidence[~np.isnan(rows.remote_confidence)])
    corners = np.column_stack(
        [
            _rank(local, grid.local_thresholds[front.cells[:, 0]]),
            _rank(local, grid.local_thresholds[front.cells[:, 1]]),
            _rank(remote, grid.remote_thresholds[front.cells[:, 2]]),
        ]
    )
    moved = np.abs(np.diff(corners, axis=0)).sum(axis=1)
    place = np.concatenate([[0.0], np.cumsum(moved)])
    steps = np.linspace(0.0, place[-1], _RULES) if place[-1] > 0.0 else np.zeros(1)
    abstain, first, second = (np.interp(steps, place, corners[:, axis]) for axis in range(3))
    return Path(
        _at_rank(local, first), _at_rank(remote, second), _at_rank(local, abstain), np.interp(steps, place, front.z)
    )


def _rank(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """The place of each threshold among the sorted scores as a share of them: -inf a little below 0, +inf 1."""
    size = max(len(scores), 1)
    return np.where(np.isneginf(thresholds), -1.0 / size, np.searchsorted(scores, thresholds) / size)


def _at_rank(scores: FloatArray, rank: FloatArray) -> FloatArray:
    place = np.round(rank * len(scores)).astype(np.int64)
    ends = np.concatenate([[-np.inf], scores, [np.inf]])
    thresholds: FloatArray = ends[np.clip(place + 1, 0, len(scores) + 1)]
    return thresholds
