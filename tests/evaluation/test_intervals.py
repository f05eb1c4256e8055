from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.evaluation.intervals import (
    NOT_KNOWN,
    Z95,
    bootstrap_of_objective,
    bootstrap_of_sums,
    mean,
    normal_interval,
    quantile,
    rate,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (Wilson without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    assert rate(successes, n) == pytest.approx((successes / n, low, high), abs=5e-5)
    mirrored = rate(n - successes, n)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 10**9), st.floats(0, 1))
def test_a_rate_and_its_interval_keep_to_0_and_1(n: int, share: float) -> None:
    found = rate(share * n, n)
    assert 0.0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1.0
    assert found.low < found.high


def test_a_rate_of_nothing_is_not_known() -> None:
    assert all(map(math.isnan, rate(0, 0)))


def test_a_mean_has_the_normal_interval() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    half = Z95 * float(np.std(values, ddof=1)) / 2
    assert mean(values) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    assert mean(np.array([4.0])).value == 4.0
    assert math.isnan(mean(np.array([4.0])).low)
    assert all(map(math.isnan, mean(np.array([]))))
    assert math.isnan(mean(np.array([1.0, np.nan])).value)
    assert normal_interval(1.0, 0.5) == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-4)


def test_a_quantile_lies_between_its_order_statistics() -> None:
    # n q = 50, spread 1.96 * 5 = 9.8: the 41st and the 61st of 100.
    assert quantile(np.random.default_rng(0).permutation(100).astype(float), 0.5) == (49.5, 40.0, 60.0)
    assert quantile(np.array([3.0]), 0.95) == (3.0, 3.0, 3.0)
    assert all(map(math.isnan, quantile(np.array([1.0, np.nan]), 0.5)))
    assert all(map(math.isnan, quantile(np.array([]), 0.5)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "q"), [(100, 0.5), (1000, 0.5), (200, 0.95), (2000, 0.95), (30, 0.5)])
def test_a_quantiles_interval_covers_it_in_95_of_100_samples(n: int, q: float) -> None:
    rng = np.random.default_rng(n)
    truth = -math.log(1 - q)
    inside = 0
    for _ in range(3000):
        found = quantile(rng.exponential(size=n), q)
        inside += found.low <= truth <= found.high
    # At least nominal, and no more than the discreteness of the ranks explains.
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 3000) < inside / 3000 < 0.985


def test_the_bootstrap_of_a_mean_is_the_analytic_interval() -> None:
    values = np.random.default_rng(1).random(3000)
    columns = np.stack([values, np.ones(3000)], axis=1)
    low, high = bootstrap_of_sums(columns, lambda sums: sums[:, :1] / sums[:, 1:], resamples=4000)
    expected = mean(values)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=2e-3 * 0.3)
    assert high[0] - low[0] == pytest.approx(expected.high - expected.low, rel=0.06)


def test_the_bootstrap_pairs_its_columns_and_repeats_by_seed() -> None:
    values = np.random.default_rng(1).random(500)
    columns = np.stack([values, values + 0.25], axis=1)

    def difference(sums: np.ndarray) -> np.ndarray:
        return (sums[:, 1:] - sums[:, :1]) / 500

    low, high = bootstrap_of_sums(columns, difference, resamples=200)
    assert (low[0], high[0]) == pytest.approx((0.25, 0.25))  # every resample has the same rows in both
    one = bootstrap_of_sums(columns, lambda s: s, resamples=50, seed=3)
    assert np.array_equal(one, bootstrap_of_sums(columns, lambda s: s, resamples=50, seed=3))
    assert not np.array_equal(one, bootstrap_of_sums(columns, lambda s: s, resamples=50, seed=4))


@pytest.mark.parametrize("n", [19_000, 300_000])
def test_the_bootstrap_of_many_rows_in_blocks_or_in_groups_keeps_the_variance(n: int) -> None:
    columns = np.sort(np.random.default_rng(n).random(n) ** 3)[:, None]  # sorted: groups of neighbours would be wrong
    low, high = bootstrap_of_sums(columns, lambda sums: sums / n, resamples=1500)
    expected = mean(columns[:, 0])
    assert high[0] - low[0] == pytest.approx(expected.high - expected.low, rel=0.1)
    assert (low[0] + high[0]) / 2 == pytest.approx(expected.value, abs=(high[0] - low[0]) / 6)


def test_a_statistic_that_some_resamples_do_not_have_is_left_out_of_them() -> None:
    columns = np.array([[1.0, 0.0], [1.0, 1.0]])
    low, high = bootstrap_of_sums(columns, lambda sums: np.column_stack([sums[:, 0] / sums[:, 1], sums[:, 0] / 0.0]))
    assert (low[0], high[0]) == (1.0, 2.0)  # a quarter of the resamples divide by 0
    assert math.isnan(low[1])
    assert math.isnan(high[1])


def test_the_bootstrap_of_an_objective_is_paired_and_near_the_analytic_interval() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    answers = np.where(rng.random(2000) < 0.8, labels, 1 - labels)

    def share(truth: np.ndarray, guess: np.ndarray) -> float:
        return float(np.mean(truth == guess))

    found = bootstrap_of_objective(labels, [answers], share, resamples=800)
    expected = rate(float(np.sum(labels == answers)), 2000)
    assert found.value == expected.value
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=4e-3)
    assert bootstrap_of_objective(labels, [answers, answers], share) == (0.0, 0.0, 0.0)
    assert bootstrap_of_objective(None, [answers], share) is NOT_KNOWN
    assert bootstrap_of_objective(labels[:0], [answers[:0]], share) is NOT_KNOWN


def test_an_objective_that_is_never_known_is_nan_without_a_warning() -> None:
    found = bootstrap_of_objective(np.array([1]), [np.array([1])], lambda t, g: float("nan"))
    assert all(map(math.isnan, found))
