"""All thresholds together, for a price or under limits: exact on a grid of score quantiles.

The thresholds are the best *on the given rows*. What they achieve elsewhere is to be estimated on other rows, or,
where a promise is needed, certified by `bisupervised.calibration.guarantees`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bisupervised.calibration.joint_grid import JointGrid, joint_grid
from bisupervised.calibration.limits import Limits, Prices
from bisupervised.calibration.rule import CalibrationRows, Counts, Rule, figures_of
from bisupervised.errors import InfeasibleTarget, InputError
from bisupervised.records import AnyArray

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class JointChoice:
    """The rule with the lowest price, and what it does on the rows that chose it."""

    rule: Rule
    counts: Counts
    price: float  #: per input


class _Found(NamedTuple):
    """A grid point in the order of preference: lowest price, fewest requests, most accepted, least loss."""

    price: float
    requests: int
    rejected: int
    loss: float
    early: int
    place: tuple[int, int, int]


def choose_jointly(
    rows: CalibrationRows,
    prices: Prices,
    limits: Limits | None = None,
    *,
    early_abstention: bool = True,
    points: int = 400,
    abstain_points: int = 134,
) -> JointChoice:
    """The rule with the lowest price among those within the limits.

    Exact on the grid of `points` quantiles of either confidence (every confidence, where there are fewer), for each
    of `abstain_points` of them as abstention threshold, and then for every one between the neighbours of the best.
    Equal prices: the fewest requests, then the most coverage, then the fewest errors, then the fewest early
    abstentions. Raises `InfeasibleTarget`, with how near the rows come, when no rule is within the limits.

    >>> rows = CalibrationRows.of([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], [0.2, 0.9, 0.8, 0.9], [0, 1, 1, 1])
    >>> choose_jointly(rows, Prices(error=1, abstention=0.5, request=0.1)).rule
    Rule(local=0.6, remote=-inf, abstain=0.4)
    """
    if points < 3 or abstain_points < 1:
        raise InputError(f"a grid needs at least 3 points, and 1 for abstention; got {points} and {abstain_points}")
    grid = joint_grid(rows, local_points=points, remote_points=points)
    limits = limits or Limits()
    last = len(grid.local_thresholds) - 1
    coarse = _spread(last, abstain_points) if early_abstention else [0]
    best = _best(grid, coarse, prices, limits)
    if best is not None and early_abstention:
        at = int(np.searchsorted(coarse, best.place[0]))
        low, high = coarse[max(at - 1, 0)], coarse[min(at + 1, len(coarse) - 1)]
        best = _best(grid, range(low, high + 1), prices, limits)
    if best is None:
        raise InfeasibleTarget(_nearest(grid, coarse, limits))
    rule = grid.rule(*best.place)
    return JointChoice(rule, figures_of(rows, rule), best.price / len(rows))


def _spread(last: int, points: int) -> list[int]:
    return sorted(set(np.linspace(0, last, min(points, last + 1)).round().astype(int).tolist()))


def _best(grid: JointGrid, abstain: Any, prices: Prices, limits: Limits) -> _Found | None:
    found = (_best_of(grid, int(h), prices, limits) for h in abstain)
    return min((one for one in found if one is not None), key=_order, default=None)


def _order(found: _Found) -> tuple[Any, ...]:
    # Prices that differ by rounding alone are equal.
    return (round(found.price, 7), found.requests, found.rejected, round(found.loss, 7), found.early, found.place)


def _best_of(grid: JointGrid, abstain: int, prices: Prices, limits: Limits) -> _Found | None:
    counts = grid.counts(abstain)
    price = prices.total(counts)
    if limits.given:
        price = np.where(limits.within(counts), price, np.inf)
    lowest = float(price.min())
    if not math.isfinite(lowest):
        return None
    i, j = _preferred(np.argwhere(price <= lowest + _SLACK * grid.n), counts)
    return _Found(
        price=lowest,
        requests=int(counts.requests[i, 0]),
        rejected=grid.n - int(counts.accepted[i, j]),
        loss=float(counts.loss[i, j]),
        early=counts.early,
        place=(abstain, abstain + i, j),
    )


def _preferred(cells: AnyArray, counts: Counts) -> tuple[int, int]:
    """Of equally priced cells that with the fewest requests, then the most accepted, then the least loss."""
    for key in (np.broadcast_to(counts.requests, counts.loss.shape), -counts.accepted, counts.loss):
        values = key[cells[:, 0], cells[:, 1]]
        cells = cells[values <= values.min() + _SLACK]
    return int(cells[0, 0]), int(cells[0, 1])


def _nearest(grid: JointGrid, abstain: Any, limits: Limits) -> str:
    """Which limits no rule keeps to, and how near the nearest comes on them together."""
    worst = math.inf
    near: dict[str, float] = {}
    for h in abstain:
        counts = grid.counts(int(h))
        over = np.maximum.reduce(np.broadcast_arrays(counts.loss, *limits.excess(counts).values())[1:])
        place = np.unravel_index(int(np.argmin(over)), over.shape)
        if over[place] < worst:
            worst = float(over[place])
            requests = int(counts.requests[place[0], 0])
            at = Counts(grid.n, int(counts.accepted[place]), float(counts.loss[place]), requests, counts.early)
            near = _reached(at, limits)
    asked = ", ".join(f"{name} {value:.4g}" for name, value in limits.given.items())
    come = ", ".join(f"{name} {value:.4g}" for name, value in near.items())
    return (
        f"no thresholds keep to {asked} on these {grid.n} rows; the nearest come to {come}. Allow more, or use "
        f"better supervisors"
    )


def _reached(counts: Counts, limits: Limits) -> dict[str, float]:
    values = {"risk": counts.risk, "request_rate": counts.request_rate, "abstention": counts.abstention}
    if limits.prices is not None:
        values["cost"] = limits.prices.total(counts) / counts.n
    return {name: float(values[name]) for name in limits.given}
