from __future__ import annotations

import doctest
import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings

import bisupervised.evaluation.request_accuracy as module
from bisupervised.decision import accept
from bisupervised.evaluation import auc_rac, evaluate_at, request_accuracy_curve, request_accuracy_on_grid
from bisupervised.evaluation.request_accuracy import oracle_area, oracle_curve, paper_threshold_indices
from evaluation.made import a_table, random_rows, rows, tie_orders

NAN, INF = float("nan"), float("inf")
ALL, SOME, NONE = [True] * 4, [False, True, True, False], [False] * 4
CONSTANT, TIED, INVERTED, MISSING = [0.5] * 4, [0.1, 0.1, 0.9, 0.9], [0.9, 0.1, 0.2, 0.8], [NAN] * 4

# Computed by hand. Four inputs; the remote model is right on the first, second and third. Each row: local
# correctness, local confidence, then the curve as request rates and numbers of correct answers.
BY_HAND = [
    ("all correct, constant", ALL, CONSTANT, [0, 1], [4, 3]),
    ("all correct, tied", ALL, TIED, [0, 0.5, 1], [4, 4, 3]),
    ("all correct, inverted", ALL, INVERTED, [0, 0.25, 0.5, 0.75, 1], [4, 4, 4, 3, 3]),
    ("all correct, NaN", ALL, MISSING, [0, 1], [4, 3]),
    ("some correct, constant", SOME, CONSTANT, [0, 1], [2, 3]),
    ("some correct, tied", SOME, TIED, [0, 0.5, 1], [2, 3, 3]),
    ("some correct, inverted", SOME, INVERTED, [0, 0.25, 0.5, 0.75, 1], [2, 2, 2, 2, 3]),
    ("some correct, NaN", SOME, MISSING, [0, 1], [2, 3]),
    ("none correct, constant", NONE, CONSTANT, [0, 1], [0, 3]),
    ("none correct, tied", NONE, TIED, [0, 0.5, 1], [0, 2, 3]),
    ("none correct, inverted", NONE, INVERTED, [0, 0.25, 0.5, 0.75, 1], [0, 1, 2, 2, 3]),
    ("none correct, NaN", NONE, MISSING, [0, 1], [0, 3]),
]


@pytest.mark.parametrize(("name", "left", "confidence", "rates", "right_answers"), BY_HAND, ids=lambda v: str(v)[:24])
def test_curves_computed_by_hand(name: str, left: list, confidence: list, rates: list, right_answers: list) -> None:
    curve = request_accuracy_curve(np.array(confidence), np.array(left), np.array([True, True, True, False]))
    assert curve.request_rates.tolist() == rates
    assert (curve.system_accuracy * 4).tolist() == right_answers
    assert curve.local_only == right_answers[0] / 4
    assert curve.remote_only == 0.75
    assert math.isnan(curve.thresholds[0]) == ("NaN" in name)


@settings(deadline=None, max_examples=60)
@given(rows(max_n=6))
def test_between_its_points_the_curve_is_the_mean_over_random_tie_breaking(made: tuple) -> None:
    local, left, _, right = made
    n = len(local)
    curve = request_accuracy_curve(local, left, right)
    orders = tie_orders(local)
    for deferred in range(n + 1):
        accuracies = []
        for order in orders:
            first = list(order[:deferred])
            answers = left.copy()
            answers[first] = right[first]
            accuracies.append(answers.mean())
        assert float(curve.at(deferred / n)) == pytest.approx(np.mean(accuracies))


@settings(deadline=None, max_examples=60)
@given(rows(graded=True))
def test_the_operating_points_are_the_best_of_all_thresholds(made: tuple) -> None:
    local, left, _, right = made
    curve = request_accuracy_curve(local, left, right)
    found = {}
    for threshold in [-INF, INF, *local[~np.isnan(local)].tolist()]:
        deferred = ~accept(local, threshold)
        found[float(deferred.mean())] = float(np.where(deferred, right, left).mean())
    best = max(found.values())
    point = curve.best()
    assert point.system_accuracy == pytest.approx(best)
    assert point.request_rate == pytest.approx(min(r for r, a in found.items() if a >= best - 1e-9))
    enough = [r for r, a in found.items() if a >= right.mean() - 1e-9]
    point = curve.remote_even()
    if enough:
        assert point.request_rate == pytest.approx(min(enough))
        assert not math.isnan(point.local_threshold)
    else:
        assert np.isposinf(local).any()
        assert (point.request_rate, math.isnan(point.local_threshold)) == (1.0, True)
    for margin in (0.1, 0.5):
        near = [r for r, a in found.items() if a >= right.mean() - margin - 1e-9]
        if near:
            assert curve.remote_even(margin).request_rate == pytest.approx(min(near))
    for budget in (0.0, 0.1, 1 / 3, 0.5, 0.99, 1.0):
        within = [r for r in found if r <= budget + 1e-9]
        point = curve.within_budget(budget)
        if within:
            assert point is not None
            assert point.request_rate == pytest.approx(max(within))
            assert (~accept(local, point.local_threshold)).mean() <= budget + 1e-9
        else:
            assert point is None


def test_a_budget_that_rounding_makes_a_hair_smaller_still_counts() -> None:
    confidence = np.arange(10) / 10
    curve = request_accuracy_curve(confidence, np.zeros(10, bool), np.ones(10, bool))
    assert 1 - 0.9 < 0.1
    point = curve.within_budget(1 - 0.9)
    assert point is not None
    assert point.request_rate == 0.1


def test_sums_of_grades_that_differ_in_their_last_bits_are_equal() -> None:
    # Sums of 0.1, 0.2 and 0.3 in another order: on paper, deferring all gains nothing.
    left = np.array([0.1, 0.2, 0.3] * 100)
    assert len({float(np.cumsum(left)[-1]), float(np.cumsum(left[::-1])[-1]), 60.0}) > 1
    for seed in range(5):
        right = np.concatenate([left[:1] - 0.1, np.random.default_rng(seed).permutation(left[1:]), left[:1] + 0.1])
        curve = request_accuracy_curve(np.arange(301.0), np.append(left, 0.1), right)
        peak = np.flatnonzero(np.isclose(curve.system_accuracy, curve.system_accuracy.max(), rtol=0, atol=1e-13))[0]
        assert curve.best().request_rate == curve.request_rates[peak]
        even = np.flatnonzero(curve.system_accuracy >= curve.remote_only - 1e-13)[0]
        assert curve.remote_even().request_rate == curve.request_rates[even]


@settings(deadline=None, max_examples=60)
@given(rows(max_n=6, graded=True))
def test_the_oracle_is_the_best_of_all_orders(made: tuple) -> None:
    _, left, _, right = made
    n = len(left)
    gains = right - left
    totals = [np.cumsum(np.concatenate([[0.0], gains[list(order)]])) for order in permutations(range(n))]
    best = left.mean() + np.max(totals, axis=0) / n
    assert oracle_curve(np.arange(n + 1) / n, left, right) == pytest.approx(best)
    assert oracle_area(left, right) == pytest.approx(float(np.mean((best[1:] + best[:-1]) / 2)))
    flags = oracle_curve(np.arange(n + 1) / n, left >= 0.5, right >= 0.5)
    rates = np.arange(n + 1) / n
    only_remote = np.mean((right >= 0.5) & (left < 0.5))
    only_local = np.mean((left >= 0.5) & (right < 0.5))
    formula = np.mean(left >= 0.5) + np.minimum(rates, only_remote) - np.maximum(0, rates - (1 - only_local))
    assert flags == pytest.approx(formula)


def test_a_supervisor_that_orders_like_the_oracle_captures_all_of_its_gain() -> None:
    _, left, _, right = random_rows(400, seed=3)
    table = a_table(left.astype(float) - right.astype(float) + np.linspace(0, 0.1, 400), left, np.ones(400), right)
    curves = evaluate_at(table, 0.5, 0.5).curves
    assert curves is not None
    assert curves.captured_gain == pytest.approx(1.0)
    grades = np.round(np.random.default_rng(0).random((2, 400)), 2)
    table = a_table(grades[0] - grades[1], grades[0], np.ones(400), grades[1])
    curves = evaluate_at(table, 0.0, 0.5).curves
    assert curves is not None
    assert curves.captured_gain == pytest.approx(1.0)


def test_a_random_supervisor_captures_nothing_on_average() -> None:
    _, left, remote, right = random_rows(400, seed=3)
    rng = np.random.default_rng(5)
    captured = []
    for _ in range(40):
        curves = evaluate_at(a_table(rng.random(400), left, remote, right), 0.5, 0.5).curves
        assert curves is not None
        captured.append(curves.captured_gain)
    assert abs(np.mean(captured)) < 3 * np.std(captured) / math.sqrt(40)
    assert np.std(captured) > 0.01


@settings(deadline=None, max_examples=60)
@given(rows(graded=True))
def test_the_area_is_that_under_the_points(made: tuple) -> None:
    local, left, _, right = made
    curve = request_accuracy_curve(local, left, right)
    rates = np.linspace(0, 1, 20 * len(local) + 1)
    heights = curve.at(rates)
    assert curve.area() == pytest.approx(float(np.mean((heights[1:] + heights[:-1]) / 2)))


def test_thinning_keeps_what_is_read_off_the_curve() -> None:
    local, left, _, right = random_rows(5000)
    curve = request_accuracy_curve(local, left, right)
    thin = curve.thinned(50)
    assert len(thin.request_rates) <= 53
    assert (thin.best(), thin.remote_even()) == (curve.best(), curve.remote_even())
    assert (thin.local_only, thin.remote_only) == (curve.local_only, curve.remote_only)
    assert curve.thinned(5001) is curve


def test_thinning_keeps_the_best_attainable_point_where_deferring_nobody_is_best_but_impossible() -> None:
    local = np.concatenate([[NAN], np.random.default_rng(0).random(3000)])
    left, right = np.ones(3001, bool), np.zeros(3001, bool)
    right[1 + np.argmin(local[1:])] = True
    curve = request_accuracy_curve(local, left, right)
    assert curve.best().request_rate == pytest.approx(1 / 3001)
    assert curve.thinned(10).best() == curve.best()


def test_areas_need_neither_numpy_trapz_nor_numpy_trapezoid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is gone in NumPy 2.4, the other not there in 1.26."""
    for name in ("trapz", "trapezoid"):
        monkeypatch.delattr(np, name, raising=False)
    curve = request_accuracy_curve(np.array([0.1, 0.9]), np.array([False, True]), np.array([True, False]))
    assert curve.area() == 0.75
    assert oracle_area(np.array([False, True]), np.array([True, False])) == 0.75


def test_points_and_accuracy_of_a_million_groups_do_not_overflow() -> None:
    n = 300_000
    confidence = np.repeat([0.1, 0.9], n // 2)
    curve = request_accuracy_curve(confidence, np.zeros(n, bool), np.ones(n, bool))
    assert curve.system_accuracy.tolist() == [0.0, 0.5, 1.0]


def test_the_papers_grid_keeps_the_most_confident_input_local_and_the_exact_curve_does_not() -> None:
    confidence = np.array([0.4, 0.1, 0.3, 0.2])
    left, right = np.zeros(4, bool), np.ones(4, bool)
    rates, accuracy = request_accuracy_on_grid(confidence, left, right, steps=4)
    assert rates.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert accuracy.tolist() == [0, 0.25, 0.5, 0.75, 0.75]
    assert request_accuracy_curve(confidence, left, right).remote_only == 1.0
    assert paper_threshold_indices(4, 1000).tolist() == [0, 1, 2, 3, 3]


def test_a_curve_that_falls_is_read_at_its_own_points() -> None:
    """RouteLLM's CPT interpolates accuracy -> rate, which needs a curve that rises."""
    confidence = np.arange(5) / 5
    left, right = np.array([0, 1, 0, 1, 0], bool), np.array([1, 0, 1, 0, 1], bool)
    curve = request_accuracy_curve(confidence, left, right)
    assert (curve.system_accuracy * 5).tolist() == [2, 3, 2, 3, 2, 3]
    assert curve.remote_even().request_rate == 0.2
    assert curve.best().request_rate == 0.2


def test_ties_do_not_make_the_curve_depend_on_the_order_of_rows() -> None:
    """torch-uncertainty's, lm-polygraph's and the paper's curves do."""
    local, left, _, right = random_rows(200, levels=3)
    curve = request_accuracy_curve(local, left, right)
    area = auc_rac(local, left, right)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(200)
        again = request_accuracy_curve(local[order], left[order], right[order])
        assert (again.system_accuracy == curve.system_accuracy).all()
        assert auc_rac(local[order], left[order], right[order]) == area


def test_the_examples_in_the_module_hold() -> None:
    assert doctest.testmod(module).failed == 0
