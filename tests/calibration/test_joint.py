"""All thresholds together."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration.joint import choose_jointly
from bisupervised.calibration.limits import COVERAGE, REQUESTS, Limits, Prices, utility
from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of
from bisupervised.errors import InfeasibleTarget, InputError
from evaluation.made import random_rows, rows

INF = float("inf")
shares = st.sampled_from([None, 0.0, 0.1, 0.25, 0.5, 1.0])


def thresholds_of(confidences: np.ndarray) -> list[float]:
    return [-INF, *sorted(set(confidences[~np.isnan(confidences)].tolist())), INF]


def every_rule(made: tuple, early: bool = True) -> list[Rule]:
    local, remote = thresholds_of(made[0]), thresholds_of(made[2])
    return [Rule(a, b, c) for a, b, c in itertools.product(local, remote, local if early else [-INF])]


@settings(deadline=None, max_examples=120)
@given(
    rows(max_n=9),
    st.tuples(*[st.sampled_from([0.0, 0.1, 0.3, 1.0])] * 3),
    shares,
    shares,
    shares,
    st.booleans(),
)
def test_no_rule_within_the_limits_is_cheaper(
    made: tuple,
    prices: tuple,
    risk: float | None,
    requests: float | None,
    abstention: float | None,
    early: bool,
) -> None:
    data, price = CalibrationRows.of(*made), Prices(*prices)
    limits = Limits(risk=risk, request_rate=requests, abstention=abstention)
    found = [figures_of(data, rule) for rule in every_rule(made, early)]
    within = [
        (price.total(c), c.requests, -c.accepted, c.loss, c.early) for c in found if bool(limits.within(c).all())
    ]
    if not within:
        with pytest.raises(InfeasibleTarget, match=f"on these {len(data)} rows; the nearest come to"):
            choose_jointly(data, price, limits, early_abstention=early)
        return
    choice = choose_jointly(data, price, limits, early_abstention=early)
    counts = choice.counts
    assert bool(limits.within(counts))
    got = (price.total(counts), counts.requests, -counts.accepted, counts.loss, counts.early)
    best = min(within, key=lambda one: (round(one[0], 7), *one[1:3], round(one[3], 7), one[4]))
    assert got == pytest.approx(best)
    assert choice.price * len(data) == pytest.approx(best[0])
    if not early:
        assert choice.rule.abstain == -INF


def test_the_cheapest_rule_may_be_the_last_of_the_grid() -> None:
    """eth's cascade-routing took `np.argmin` of a generator, which is always 0: the first candidate."""
    data = CalibrationRows.of([0.1, 0.2, 0.3], [0, 0, 0], [0.1, 0.2, 0.3], [0, 0, 0])
    choice = choose_jointly(data, Prices(error=1.0, abstention=0.1, request=0.01))
    assert choice.counts.accepted == 0
    assert choice.counts.requests == 0
    assert choice.counts.early == 3


def test_a_limit_is_kept_where_the_curve_is_not_monotone() -> None:
    """RouteLLM interpolates its accuracy over thresholds as if it only rose; between two points there is no rule."""
    local = np.arange(12.0)
    left = np.array([1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1, 1])
    data = CalibrationRows.of(local, left, local, np.array([0, 1] * 6))
    for risk in (0.0, 0.1, 0.2, 0.3, 0.4):
        choice = choose_jointly(data, COVERAGE, Limits(risk=risk))
        assert figures_of(data, choice.rule).loss <= risk * choice.counts.accepted + 1e-9
        best = max(
            c.accepted
            for c in (figures_of(data, r) for r in every_rule((local, left, local, left)))
            if c.loss <= risk * c.accepted + 1e-9
        )
        assert choice.counts.accepted == best


def test_tied_scores_move_together_in_what_is_reported() -> None:
    """scikit-fallback builds its mask over the unique thresholds and applies it to the rows: .733 where the truth is
    1. What is reported here is the replay of the chosen rule on the rows."""
    local = np.repeat([0.2, 0.5, 0.9], [30, 60, 10])
    data = CalibrationRows.of(local, np.repeat([0, 1, 1], [30, 60, 10]), local, np.ones(100))
    choice = choose_jointly(data, COVERAGE, Limits(risk=0.0, request_rate=0.0))
    assert choice.counts.coverage == 0.7
    assert choice.counts.supervised_accuracy == 1.0
    assert figures_of(data, choice.rule).accepted == choice.counts.accepted


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_only_the_order_of_scores_matters_and_not_that_of_rows(seed: int) -> None:
    local, left, remote, right = random_rows(120, seed, levels=15)
    limits, price = Limits(risk=0.25), utility(0.3)
    plain = choose_jointly(CalibrationRows.of(local, left, remote, right), price, limits)
    mixed = np.random.default_rng(seed).permutation(120)
    bent = CalibrationRows.of(np.exp(3 * local)[mixed], left[mixed], (remote**3)[mixed], right[mixed])
    assert choose_jointly(bent, price, limits).price == pytest.approx(plain.price)


def test_rows_repeated_are_the_same_choice() -> None:
    made = random_rows(150, 3, levels=12)
    once = choose_jointly(CalibrationRows.of(*made), utility(0.2), Limits(risk=0.3))
    twice = choose_jointly(CalibrationRows.of(*(np.tile(c, 2) for c in made)), utility(0.2), Limits(risk=0.3))
    assert twice.rule == once.rule


def test_early_abstention_saves_requests_that_would_be_rejected_anyway() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(4000)
    data = CalibrationRows.of(
        1 - hard, rng.random(4000) < 1 - 0.8 * hard, 1 - hard + 0.1 * rng.random(4000), rng.random(4000) < 1 - hard**3
    )
    limits = Limits.least(coverage=0.6, supervised_accuracy=0.85)
    with_early = choose_jointly(data, REQUESTS, limits)
    without = choose_jointly(data, REQUESTS, limits, early_abstention=False)
    assert with_early.counts.requests < 0.5 * without.counts.requests
    assert with_early.counts.early > 0


def test_the_third_axis_is_refined_to_every_threshold_around_the_best() -> None:
    """A coarse axis of abstention thresholds finds the valley, and the fine one its ground."""
    data = CalibrationRows.of(*random_rows(2000, 1))
    price = Prices(error=1.0, abstention=0.25, request=0.2)
    fine = choose_jointly(data, price, abstain_points=400)
    coarse = choose_jointly(data, price, abstain_points=20)
    assert coarse.price == pytest.approx(fine.price, abs=2e-3)
    assert coarse.price <= choose_jointly(data, price, early_abstention=False).price


def test_infeasible_limits_say_how_near_the_rows_come() -> None:
    data = CalibrationRows.of([0.1, 0.2], [0, 0], [0.1, 0.2], [1, 0])
    with pytest.raises(
        InfeasibleTarget, match=r"keep to risk 0, abstention 0 .* nearest come to risk 0.5, abstention 0"
    ):
        choose_jointly(data, REQUESTS, Limits(risk=0.0, abstention=0.0))


@pytest.mark.parametrize("settings", [{"points": 2}, {"abstain_points": 0}])
def test_a_grid_without_points_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 3 points"):
        choose_jointly(CalibrationRows.of([1], [1], [1], [1]), COVERAGE, **settings)


@pytest.mark.parametrize("local", [[math.nan] * 4, [0.5] * 4])
def test_scores_that_say_nothing_leave_the_remote_level(local: list[float]) -> None:
    data = CalibrationRows.of(local, [0, 0, 0, 0], [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    choice = choose_jointly(data, COVERAGE, Limits(risk=0.0))
    assert (choice.counts.accepted, choice.counts.loss, choice.rule.remote) == (2, 0.0, 0.8)


@pytest.mark.slow
def test_fifty_thousand_rows_on_the_full_grid_do_not_take_long() -> None:
    """About 0.3 s; the bound is loose, as the machine may be busy. A loop over cells takes a quarter of an hour."""
    data = CalibrationRows.of(*random_rows(50_000))
    start = time.perf_counter()
    choose_jointly(data, utility(0.3), Limits(risk=0.2))
    assert time.perf_counter() - start < 5.0
