"""All thresholds together under any set of limits: Pareto testing (Laufer-Goldshtein et al., ICLR 2023).

The rows are divided at random. One part orders rules from the safest to the cheapest (`path.path_of_rules`); the
other tests them in that order, each by the largest p-value of its limits, and stops where one fails (Learn then Test,
Angelopoulos et al. 2022, by `sequences.fallback`). Of the certified rules the cheapest is taken, as all rows see it:
all of them keep to all limits together with probability 1 - delta, so the choice among them is free.

p-values are exact for a risk of 0/1 losses (given how many were accepted), for the request rate and for the
abstention, and bets for graded losses and costs (`p_values.betting`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from bisupervised.calibration.guarantees.binomial import upper_bound
from bisupervised.calibration.guarantees.evidence import INDEPENDENT, Certified, Guarantee, Infeasible, check_share
from bisupervised.calibration.guarantees.path import path_of_rules, standard_errors
from bisupervised.calibration.guarantees.rule_tests import RuleTests
from bisupervised.calibration.guarantees.sequences import fallback
from bisupervised.calibration.guarantees.support import MOST_ROWS, growth_needed
from bisupervised.calibration.limits import Limits, Prices
from bisupervised.calibration.rule import CalibrationRows, replay
from bisupervised.errors import InputError
from bisupervised.records import BoolArray, FloatArray

_METHOD = "pareto testing"
_MIN_ROWS = 20
_LATER_STARTS = ((1.0, 0.2), (2.0, 0.2))  #: standard errors after the safest rule, share of delta
_STEPS = 1024  #: of the range in which the lowest limit is looked for
_SAFE = -2.6  #: standard errors from the limits


def certify(
    rows: CalibrationRows,
    limits: Limits,
    prices: Prices,
    *,
    delta: float = 0.1,
    early_abstention: bool = True,
    ordering_share: float = 0.27,
    seed: int = 0,
    explain: bool = True,
) -> Guarantee:
    """The cheapest rule that keeps to all limits, with probability 1 - delta over the n rows.

    `ordering_share` of the rows (seeded) order the rules, the others test them. `explain=False` does without what
    the rows could support where nothing is certified: it takes ten times as long to find as that nothing is. Raises
    `InputError` without limits, or with fewer than 20 rows.
    """
    check_share(delta, "delta")
    if not limits.given:
        raise InputError("nothing to certify: give at least one limit")
    if len(rows) < _MIN_ROWS:
        raise InputError(f"Pareto testing divides the rows: at least {_MIN_ROWS}, not {len(rows)}")
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    cut = max(1, round(ordering_share * len(rows)))
    halves = _Halves(rows.take(shuffled[:cut]), rows.take(shuffled[cut:]), prices, delta, early_abstention)
    tests, weights, found = halves.test(limits)
    if not found.any():
        return _infeasible(halves, tests, limits, weights, explain)
    path = tests.path
    seen = replay(halves.ordering, path.local, path.remote, path.abstain)
    price = np.where(found, prices.total(tests.counts) + prices.total(seen), np.inf)
    return _certified(tests, int(np.argmin(price)), limits, len(rows), seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Halves:
    """The rows that order the rules, and those that test them."""

    ordering: CalibrationRows
    testing: CalibrationRows
    prices: Prices
    delta: float
    early_abstention: bool

    def __len__(self) -> int:
        return len(self.ordering) + len(self.testing)

    def test(self, limits: Limits) -> tuple[RuleTests, FloatArray, BoolArray]:
        """The tests of the path's rules, the share of delta on each, and which of them are certified."""
        path = path_of_rules(
            self.ordering,
            limits,
            self.prices,
            n_tests=len(self.testing),
            early_abstention=self.early_abstention,
        )
        whole = self.ordering.whole and self.testing.whole
        tests, weights = RuleTests(self.testing, path, whole, self.delta), _weights(path.z)
        return tests, weights, fallback(tests.largest(limits), weights, self.delta)


def _weights(z: FloatArray) -> FloatArray:
    """Most of delta on the safest rule; some on those one and two standard errors nearer to the limits, where even
    they should pass: a safest rule that fails by bad luck then is not the end."""
    weights = np.zeros(len(z))
    for after, share in _LATER_STARTS:
        start = min(int(np.searchsorted(z, z[0] + after)), len(z) - 1)
        if z[start] <= _SAFE:
            weights[start] += share
    weights[0] += 1.0 - weights.sum()
    return weights


def _certified(tests: RuleTests, best: int, limits: Limits, n: int, seed: int) -> Certified:
    chosen = tests.of(np.array([best]))
    accepted, loss, requests, early = (
        getattr(chosen.counts, name)[0] for name in ("accepted", "loss", "requests", "early")
    )
    shares = {name: share for name in limits.given if (share := chosen.binomial(name)) is not None}
    return Certified(
        method=_METHOD,
        thresholds={name: float(getattr(chosen.path, name)[0]) for name in ("local", "remote", "abstain")},
        target=limits.given,
        delta=tests.delta,
        n=n,
        counts={
            "seed": seed,
            "ordered_on": n - len(tests.rows),
            "tested_on": len(tests.rows),
            "rule": best + 1,
            "rules": len(tests.path.local),
            "accepted": int(accepted),
            "errors": float(loss),
            "requests": int(requests),
            "early_abstentions": int(early),
        },
        bounds={name: float(upper_bound(np.round(k), of, tests.delta)[0]) for name, (k, of) in shares.items()},
        assumption=INDEPENDENT.format(n=n),
    )


def _infeasible(halves: _Halves, tests: RuleTests, limits: Limits, weights: FloatArray, explain: bool) -> Infeasible:
    starts = np.flatnonzero(weights)  # nothing is certified where none of the starts is, each at its own level
    first = tests.of(starts)
    lowest = {name: _lowest(name, halves, limits) for name in limits.given if explain}
    broken = [
        f"{name.replace('_', ' ')} {limits.given[name]:.4g}"
        for name, p in first.p_values(limits).items()
        if p[0] > halves.delta
    ]
    return Infeasible(
        _METHOD,
        limits.given,
        halves.delta,
        len(halves),
        f"even the safest thresholds may break {' and '.join(broken) or 'a limit'}",
        {name: value for name, value in lowest.items() if value is not None},
        _fewest_more_rows(halves, limits) if explain else None,
    )


def _fewest_more_rows(halves: _Halves, limits: Limits) -> int | None:
    """How many more rows would certify the limits: by the rules that are the safest for them, or for a stricter limit
    on the risk, which keep to these limits too."""
    found = []
    for strict in (1.0, 0.75, 0.5, 0.25) if limits.risk else (1.0,):
        stricter = replace(limits, risk=limits.risk * strict) if limits.risk else limits
        tests, weights, _ = halves.test(stricter)
        starts = np.flatnonzero(weights)
        rows = _more_rows(tests.of(starts), limits, weights[starts] * halves.delta, len(halves))
        if rows is not None:
            found.append(rows)
    return min(found, default=None)


def _more_rows(tests: RuleTests, limits: Limits, levels: FloatArray, n: int) -> int | None:
    """How many more rows would certify one of the starts at the present rates, within 10 %; None: no number would."""
    below = -float(standard_errors(tests.counts, limits, len(tests.rows)).min())
    if below <= 0.0:
        return None
    wanted = NormalDist().inv_cdf(1.0 - float(levels[0]))

    def enough(factor: float) -> bool:
        return bool((tests.largest(limits, factor) <= levels).any())

    factor = growth_needed(enough, (wanted / below) ** 2, most=MOST_ROWS / n)
    return None if factor is None else max(math.ceil(n * (factor - 1.0)), 1)


def _lowest(name: str, halves: _Halves, limits: Limits) -> float | None:
    """The lowest value of one limit that these rows certify, the others as they are, to a thousandth of its range;
    None: none below the largest is."""
    given = limits.given[name]
    most = halves.prices.dearest if name == "cost" else 1.0
    steps = np.linspace(given, most, _STEPS + 1)[1:-1]

    def certifies(step: int) -> bool:
        changed: dict[str, Any] = {name: float(steps[step - 1])}
        return bool(halves.test(replace(limits, **changed))[2].any())

    if not certifies(len(steps)):
        return None
    low, high = 1, len(steps)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if certifies(middle) else (middle + 1, high)
    return float(steps[low - 1])
