"""Bets that may begin at any row."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.monitoring.capital import Capital

FACTORS = st.lists(st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)), min_size=1, max_size=30)


def by_hand(factors: list[tuple[float, ...]]) -> list[float]:
    """The sum over all rows that a bet may begin at, written out."""
    values = []
    waiting = [1.0 / (1.0 + math.log(1 + s)) for s in range(len(factors) + 1)]
    for t in range(1, len(factors) + 1):
        begun = 0.0
        for s in range(1, t + 1):
            products = [math.prod(f[k] for f in factors[s - 1 : t]) for k in range(len(factors[0]))]
            begun += (waiting[s - 1] - waiting[s]) * sum(products) / len(products)
        values.append(begun + waiting[t])
    return values


@given(FACTORS)
def test_it_is_the_sum_over_beginnings_and_strategies(factors):
    capital = Capital(2, 0.01)
    assert np.exp(capital.bet(np.log(np.array(factors)))) == pytest.approx(by_hand(factors), rel=1e-9)
    assert capital.log_largest == pytest.approx(max(0.0, math.log(max(by_hand(factors)))), abs=1e-9)


def test_fair_bets_leave_the_expected_capital_at_one_at_every_row():
    total = np.zeros(8)
    for coins in itertools.product((0.5, 1.5), repeat=8):  # all 256, of equal probability
        factors = np.array([[c, 2.0 - c] for c in coins])
        total += np.exp(Capital(2, 0.01).bet(np.log(factors)))
    assert total / 256 == pytest.approx(np.ones(8), abs=1e-12)


@given(FACTORS, st.integers(0, 30))
def test_a_saved_state_goes_on_where_it_was(factors, cut):
    logs = np.log(np.array(factors))
    whole, first, second = (Capital(2, 0.3) for _ in range(3))
    expected = whole.bet(logs)
    early = first.bet(logs[:cut])
    second.restore(first.state())
    assert np.concatenate([early, second.bet(logs[cut:])]) == pytest.approx(expected, abs=1e-9)
    assert second.rang_at == whole.rang_at
    assert second.rows == len(factors)


def test_a_late_change_is_found_though_all_stakes_before_it_were_lost():
    capital = Capital(1, 0.01)
    capital.bet(np.full((100_000, 1), math.log(0.9)))
    assert capital.log_value > -3.0  # 1 / (1 + ln 100,001), not 0.9 ** 100,000
    capital.bet(np.full((60, 1), math.log(1.5)))
    assert capital.rang_at is not None
    assert 100_000 < capital.rang_at < 100_060


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_an_impossible_alpha_is_refused(alpha):
    with pytest.raises(InputError, match="alpha"):
        Capital(1, alpha)
