"""Special functions against closed forms, against each other, and against SciPy where it is installed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from bisupervised.calibration.guarantees.binomial import beta_cdf, binomial_cdf, largest_rank, log_gamma, upper_bound


def exact_cdf(k: int, n: int, p: Fraction) -> float:
    return float(sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)))


def test_log_gamma_is_that_of_the_standard_library() -> None:
    x = np.concatenate([np.linspace(1e-3, 30, 500), 10.0 ** np.arange(2, 8)])
    expected = np.array([math.lgamma(one) for one in x])
    assert log_gamma(x) == pytest.approx(expected, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("n", [1, 2, 7, 40, 212])
@pytest.mark.parametrize("p", [Fraction(1, 100), Fraction(1, 10), Fraction(1, 2), Fraction(97, 100)])
def test_the_binomial_cdf_is_the_sum_of_its_terms(n: int, p: Fraction) -> None:
    k = np.arange(n + 1)
    expected = [exact_cdf(int(one), n, p) for one in k]
    assert binomial_cdf(k, n, float(p)) == pytest.approx(expected, rel=1e-11, abs=1e-15)


def test_the_binomial_cdf_at_its_ends() -> None:
    assert binomial_cdf([-1, 0, 5, 6], 5, 0.3).tolist()[0] == 0.0
    assert binomial_cdf([5, 6], 5, 0.3).tolist() == [1.0, 1.0]
    assert binomial_cdf(2, 5, [0.0, 1.0]).tolist() == [1.0, 0.0]


def test_both_tails_of_the_beta_distribution_add_up() -> None:
    x, a, b = np.random.default_rng(0).random((3, 500)) * np.array([[1], [200], [200]]) + 1e-3
    x = np.minimum(x, 1.0)
    assert beta_cdf(x, a, b) + beta_cdf(1 - x, b, a) == pytest.approx(np.ones(500), abs=1e-11)
    assert beta_cdf([0.0, 1.0], 3, 4).tolist() == [0.0, 1.0]


def test_the_upper_bound_is_where_the_target_begins_to_be_certified() -> None:
    k, n = np.array([0, 1, 6, 20, 199, 900]), np.array([45, 50, 212, 200, 200, 2000])
    for delta in (0.01, 0.1, 0.5):
        bound = upper_bound(k, n, delta)
        assert binomial_cdf(k, n, bound) == pytest.approx(np.full(6, delta), rel=1e-8)
    assert upper_bound(0, 45, 0.1) == pytest.approx(1 - 0.1 ** (1 / 45))
    assert upper_bound([5, 7], 5, 0.1).tolist() == [1.0, 1.0]


def test_an_upper_bound_is_below_the_rate_in_at_most_delta_of_all_samples() -> None:
    """MAPIE 1.6.0's default bound for risk control is, in 19.8 % at n = 200 and a rate of 0.1, where 10 % is
    promised: it adds up the maxima of batches. Here every sample there can be is counted, with its probability."""
    for n in (20, 200):
        bounds = upper_bound(np.arange(n + 1), n, 0.1)
        for rate in (0.01, 0.03, 0.1, 0.25, 0.5):
            failing = bounds < rate
            cdf = binomial_cdf(np.arange(n + 1), n, rate)
            probability = np.diff(cdf, prepend=0.0)
            assert probability[failing].sum() <= 0.1 + 1e-12
    assert probability[failing].sum() > 0.08  # and it is no more careful than whole numbers make it


def test_the_largest_rank_is_the_last_one_that_holds() -> None:
    for n in (1, 6, 7, 100, 500):
        for p in (0.01, 0.3, 0.9):
            for delta in (0.05, 0.1):
                ranks = np.arange(1, n + 1)
                holds = beta_cdf(p, ranks, n + 1 - ranks) >= 1 - delta
                assert largest_rank(n, p, delta) == (int(ranks[holds].max()) if holds.any() else 0)
    assert (largest_rank(0, 0.5, 0.1), largest_rank(9, 0.0, 0.1), largest_rank(9, 1.0, 0.1)) == (0, 0, 9)


def test_against_scipy() -> None:
    stats, special = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.special")
    rng = np.random.default_rng(0)
    n, p = rng.integers(1, 50_000, 2000), rng.random(2000)
    k = np.clip(np.round(n * p + 4 * rng.normal(size=2000) * np.sqrt(n * p * (1 - p))), -1, n + 1)
    assert binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-8, abs=1e-12)
    x, a, b = rng.random(2000), 10 ** rng.uniform(-1, 4, 2000), 10 ** rng.uniform(-1, 4, 2000)
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-12)
    n = rng.integers(1, 3000, 500)
    k = rng.integers(0, n)
    assert upper_bound(k, n, 0.1) == pytest.approx(stats.beta.ppf(0.9, k + 1, n - k), rel=1e-9)
