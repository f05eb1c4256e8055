from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings

from bisupervised.evaluation import DeferralOrder, auc_rac, auc_rac_on_grid, evaluate_at, request_accuracy_curve
from evaluation.made import a_table, random_rows, rows, tie_orders


@settings(deadline=None, max_examples=60)
@given(rows(max_n=6))
def test_it_is_the_mean_area_over_random_tie_breaking(made: tuple) -> None:
    local, left, _, right = made
    result = auc_rac(local, left, right)
    areas = []
    for order in tie_orders(local):
        gains = right[list(order)].astype(float) - left[list(order)].astype(float)
        heights = left.mean() + np.concatenate([[0.0], np.cumsum(gains)]) / len(local)
        areas.append(np.mean((heights[1:] + heights[:-1]) / 2))
    assert result.area == pytest.approx(np.mean(areas))
    if left.sum() == right.sum():
        assert math.isnan(result.value)
    else:
        expected = (np.mean(areas) - left.mean()) / (right.mean() - left.mean())
        assert result.value == pytest.approx(expected)


@settings(deadline=None, max_examples=100)
@given(rows(graded=True))
def test_the_closed_form_by_mid_ranks_is_the_area_under_the_curve(made: tuple) -> None:
    local, left, _, right = made
    result = auc_rac(local, left, right)
    curve = request_accuracy_curve(local, left, right)
    assert result.area == pytest.approx(curve.area())
    assert (result.local_only, result.remote_only) == pytest.approx((curve.local_only, curve.remote_only))
    assert result.area_gain == pytest.approx(curve.area() - (curve.local_only + curve.remote_only) / 2)
    d = right - left
    assume(abs(d.sum()) > 1e-6)
    ranks = DeferralOrder.of(local).mid_ranks()
    weights = 1 - (ranks - 0.5) / len(d)
    assert result.value == pytest.approx((d * weights).sum() / d.sum())


def test_local_only_is_0_remote_only_1_and_random_deferral_a_half() -> None:
    n = 1000
    left, right = np.zeros(n, bool), np.zeros(n, bool)
    right[:500] = True
    first = auc_rac(np.where(right, 0.0, 1.0), left, right)
    last = auc_rac(np.where(right, 1.0, 0.0), left, right)
    assert first.value == pytest.approx(0.75)
    assert last.value == pytest.approx(0.25)
    assert auc_rac(np.zeros(n), left, right).value == 0.5
    assert auc_rac(np.full(n, np.nan), left, right).value == 0.5


def test_large_groups_of_ties_do_not_overflow() -> None:
    """A group's size times a total of corrections needs more than 32 bits from some 50,000 rows on."""
    local, left, _, right = random_rows(300_000, levels=3)
    d = right.astype(float) - left
    ranks = DeferralOrder.of(local).mid_ranks()
    exact = float((d * (1 - (ranks - 0.5) / len(d))).sum() / d.sum())
    result = auc_rac(local, left, right)
    assert result.value == pytest.approx(exact, rel=1e-12)
    assert result.area == pytest.approx(request_accuracy_curve(local, left, right).area(), rel=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 20])
@pytest.mark.parametrize("graded", [False, True])
def test_the_standard_error_is_that_of_the_influence_function(levels: int | None, graded: bool) -> None:
    local, left, _, right = random_rows(700, seed=2, levels=levels)
    if graded:
        left, right = left * np.linspace(0.2, 1.0, 700), right * np.linspace(1.0, 0.5, 700)
    result = auc_rac(local, left, right)
    n, d = len(local), np.subtract(right, left, dtype=float)
    q = 1 - (DeferralOrder.of(local).mid_ranks() - 0.5) / n
    theta, m = float((d * q).mean()), float(d.mean())
    tail = np.array([d[local < s].sum() + d[local <= s].sum() for s in local]) / (2 * n)
    psi = (d * q + tail - 2 * theta - theta / m * (d - m)) / m
    assert result.standard_error == pytest.approx(float(np.std(psi, ddof=1)) / math.sqrt(n), rel=1e-6)
    low, high = result.interval
    assert (low + high) / 2 == pytest.approx(result.value)
    assert high - low == pytest.approx(2 * 1.959963984540054 * result.standard_error)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 5])
def test_the_standard_error_is_that_of_the_bootstrap(levels: int | None) -> None:
    local, left, _, right = random_rows(2000, seed=4, levels=levels)
    rng = np.random.default_rng(7)
    values = []
    for _ in range(1500):
        rows_ = rng.integers(0, 2000, 2000)
        values.append(auc_rac(local[rows_], left[rows_], right[rows_], standard_error=False).value)
    assert auc_rac(local, left, right).standard_error == pytest.approx(float(np.std(values)), rel=0.1)


@pytest.mark.slow
def test_the_interval_covers_the_true_value_in_95_of_100_samples() -> None:
    def sample(n: int, seed: int) -> tuple:
        rng = np.random.default_rng(seed)
        local = np.round(rng.random(n), 2)
        return local, rng.random(n) < 0.3 + 0.6 * local, rng.random(n) < 0.9

    truth = auc_rac(*sample(2_000_000, 10**6)).value
    inside = 0
    for seed in range(600):
        low, high = auc_rac(*sample(500, seed)).interval
        inside += low <= truth <= high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 600) < inside / 600 < 0.95 + 3 * math.sqrt(0.95 * 0.05 / 600)


@settings(deadline=None, max_examples=60)
@given(rows())
def test_grades_of_0_and_1_are_booleans(made: tuple) -> None:
    local, left, _, right = made
    flags, grades = auc_rac(local, left, right), auc_rac(local, left.astype(float), right.astype(float))
    for name in ("value", "standard_error", "area", "local_only", "remote_only"):
        assert getattr(flags, name) == pytest.approx(getattr(grades, name), nan_ok=True, abs=1e-9), name
    ints = auc_rac(local, left.astype(int), right.astype(int))
    assert ints.value == pytest.approx(grades.value, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(rows(graded=True))
def test_it_stays_when_rows_are_doubled_permuted_or_confidences_stretched(made: tuple) -> None:
    local, left, _, right = made
    first = auc_rac(local, left, right)
    curve = request_accuracy_curve(local, left, right)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(local))
    with np.errstate(over="ignore"):
        stretched = np.arctan(local)  # strictly rising, also at both infinities
    variants = {
        "doubled": (np.tile(local, 2), np.tile(left, 2), np.tile(right, 2)),
        "permuted": (local[order], left[order], right[order]),
    }
    if len(np.unique(stretched)) == len(np.unique(local)):  # as far as 64 bits can tell them apart
        variants["stretched"] = (stretched, left, right)
    for name, variant in variants.items():
        again = auc_rac(*variant)
        assert again.value == pytest.approx(first.value, nan_ok=True), name
        assert again.area == pytest.approx(first.area), name
        points = request_accuracy_curve(*variant)
        assert points.request_rates == pytest.approx(curve.request_rates), name
        assert points.system_accuracy == pytest.approx(curve.system_accuracy), name


def test_equally_accurate_models_have_none_also_by_grades_that_sum_up_inexactly() -> None:
    left = np.array([0.1, 0.2, 0.3] * 100)
    right = np.random.default_rng(0).permutation(left)
    result = auc_rac(np.random.default_rng(1).random(300), left, right)
    assert math.isnan(result.value)
    assert math.isnan(result.standard_error)
    assert math.isnan(result.interval.low)
    assert math.isfinite(result.area_gain)


def test_one_input_has_an_area_and_no_standard_error() -> None:
    result = auc_rac(np.array([0.3]), np.array([False]), np.array([True]))
    assert (result.value, result.area, result.local_only, result.remote_only) == (0.5, 0.5, 0.0, 1.0)
    assert math.isnan(result.standard_error)


def test_a_remote_model_worse_than_the_local_one_is_told_in_the_evaluation() -> None:
    local, left, remote, _ = random_rows(300)
    evaluation = evaluate_at(a_table(local, np.ones(300), remote, left), 0.5, 0.5)
    assert any("requests buy nothing on average" in sentence for sentence in evaluation.warnings)


def test_half_precision_confidences_make_ties_and_the_area_says_so() -> None:
    local, left, _, right = random_rows(3000)
    half = local.astype(np.float16)
    assert auc_rac(half, left, right) == auc_rac(half.astype(np.float64), left, right)
    assert DeferralOrder.of(half).has_ties


def test_on_a_grid_it_is_the_papers_normalised_mean() -> None:
    assert auc_rac_on_grid(np.array([0.5, 0.8, 0.9])) == pytest.approx((2.2 / 3 - 0.5) / 0.4)
    assert math.isnan(auc_rac_on_grid(np.array([0.5, 0.8, 0.5])))
