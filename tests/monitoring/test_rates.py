"""Rates while they are watched."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.monitoring import LimitTest, confidence_sequence


def log_mixture(k: float, n: float, p: float) -> float:
    log_beta = math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    likelihood = (k * math.log(p) if k else 0.0) + ((n - k) * math.log1p(-p) if n > k else 0.0)
    return log_beta - likelihood


@given(st.integers(1, 3_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.001, 0.5))
def test_the_ends_are_where_the_mixture_reaches_one_over_alpha(counted, alpha):
    k, n = counted
    low, high = confidence_sequence(k, n, alpha)
    assert 0.0 <= low <= k / n <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert log_mixture(k, n, end) == pytest.approx(-math.log(alpha), abs=1e-4)
    assert (low == 0.0) == (k == 0)
    assert (high == 1.0) == (k == n)


def test_nothing_seen_is_nothing_known():
    assert confidence_sequence(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("counted", [(3, 2), (-1, 2), (math.nan, 3)])
def test_impossible_counts_are_refused(counted):
    with pytest.raises(InputError, match="between 0 and n"):
        confidence_sequence(*counted)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_the_rate_is_inside_at_all_rows_at_once(rate):
    alpha, repeats, rows = 0.1, 1_000, 3_000
    rng = np.random.default_rng(1)
    n = np.arange(1, rows + 1)
    missed = 0
    for _ in range(repeats):
        k = np.cumsum(rng.random(rows) < rate)
        # The mixture itself, which spares 3,000 roots: p is outside where it has reached 1 / alpha.
        log = np.array([math.lgamma(0.5 + i) for i in range(rows + 1)])
        mixture = log[k] + log[n - k] - np.cumsum(np.log(n)) - math.log(math.pi)
        mixture -= k * math.log(rate) + (n - k) * math.log1p(-rate)
        missed += bool((mixture >= -math.log(alpha)).any())
    assert missed / repeats <= alpha + 3.0 * math.sqrt(alpha * (1 - alpha) / repeats)


def test_graded_values_are_covered_too():
    rng, missed = np.random.default_rng(2), 0
    for _ in range(300):
        total = np.cumsum(rng.beta(1, 4, 500))  # of mean 0.2
        bounds = confidence_sequence(total[::10], np.arange(1, 501)[::10], 0.1)
        missed += bool(((bounds.low > 0.2) | (bounds.high < 0.2)).any())
    assert missed / 300 <= 0.1


def broken_in(draw, limit: float, repeats: int, rows: int, alpha: float) -> list[float]:
    delays = []
    for seed in range(repeats):
        test = LimitTest(limit, alpha=alpha)
        test.update(draw(np.random.default_rng(seed), rows))
        delays.append(math.inf if test.rang_at is None else test.rang_at)
    return delays


CASES = {
    "0 or 1": lambda rng, n: (rng.random(n) < 0.1).astype(float),
    "graded": lambda rng, n: rng.beta(1, 9, n),
    "weighted, 1 in 20 labelled": lambda rng, n: 20.0 * ((rng.random(n) < 0.05) & (rng.random(n) < 0.1)),
    "below, then at the limit": lambda rng, n: (rng.random(n) < np.where(np.arange(n) < n // 2, 0.02, 0.1)).astype(
        float
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_limit_that_is_just_kept_is_seldom_called_broken(name):
    delays = broken_in(CASES[name], 0.1, 400, 1_000, 0.1)
    assert np.isfinite(delays).mean() <= 0.1 + 3.0 * math.sqrt(0.09 / 400)


@pytest.mark.parametrize(
    ("name", "draw", "within"),
    [
        ("twice the limit", lambda rng, n: (rng.random(n) < 0.2).astype(float), 450),
        ("half as much again", lambda rng, n: (rng.random(n) < 0.15).astype(float), 1_500),
        ("twice, and 1 in 5 labelled", lambda rng, n: 5.0 * ((rng.random(n) < 0.2) & (rng.random(n) < 0.2)), 2_500),
    ],
)
def test_a_limit_that_is_broken_is_found_within_stated_rows(name, draw, within):
    assert np.mean(np.array(broken_in(draw, 0.1, 60, 3_000, 0.01)) <= within) >= 0.9, name


def test_a_limit_that_breaks_late_is_found():
    def late(rng, n):
        return (rng.random(n) < np.where(np.arange(n) < 5_000, 0.05, 0.25)).astype(float)

    delays = np.array(broken_in(late, 0.1, 30, 6_000, 0.01))
    assert (delays > 5_000).all()
    assert np.mean(delays <= 5_400) >= 0.9


@given(st.floats(0, 1), st.lists(st.floats(0, 1), max_size=40), st.integers(0, 40))
def test_a_saved_test_goes_on_where_it_was(limit, values, cut):
    whole, first = LimitTest(limit, alpha=0.2), LimitTest(limit, alpha=0.2)
    expected = whole.update(np.array(values))
    early = first.update(np.array(values[:cut]))
    second = LimitTest.from_state(json.loads(json.dumps(first.state())))
    assert np.concatenate([early, second.update(np.array(values[cut:]))]) == pytest.approx(expected, abs=1e-9)
    assert (second.broken, second.rows) == (whole.broken, len(values))


def test_a_limit_of_nothing_is_broken_by_one_loss_and_a_limit_of_one_never():
    nothing, everything = LimitTest(0.0), LimitTest(1.0)
    nothing.update(np.zeros(1_000))
    assert not nothing.broken
    nothing.update(np.ones(1))
    assert nothing.broken
    everything.update(np.ones(1_000))
    assert not everything.broken


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(InputError, match=r"write 30 % as 0\.3"):
        LimitTest(30)
    for bad in ([math.nan], [-0.1], [math.inf]):
        with pytest.raises(InputError, match="losses are numbers from 0 on"):
            LimitTest(0.1).update(np.array(bad))
    state = LimitTest(0.1).state()
    for broken in ({}, {**state, "capital": {**state["capital"], "rows": -5}}):
        with pytest.raises(InputError, match="no saved state"):
            LimitTest.from_state(broken)
