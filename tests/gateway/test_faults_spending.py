"""What a request's calls cost, when some of that is not known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from bisupervised.gateway.spending import Spending


class FakeLedger:
    """Notes what is set aside and how it is settled."""

    def __init__(self) -> None:
        self.bounds: list[float] = []
        self.settled: list[float] = []

    def reserve(self, scopes: Sequence[str], bound: float) -> FakeLedger:
        self.bounds.append(bound)
        return self

    async def areserve(self, scopes: Sequence[str], bound: float) -> FakeLedger:
        raise AssertionError("there is room")

    def settle(self, cost: float) -> None:
        self.settled.append(cost)


def spend(*calls: tuple[float, float]) -> tuple[Spending, FakeLedger]:
    """Calls given as (bound, cost)."""
    ledger = FakeLedger()
    spending = Spending(ledger, ["total"])
    for bound, cost in calls:
        asyncio.run(spending.begin(bound)).settle(cost)
    return spending, ledger


def test_known_costs_add_up_and_need_no_bound() -> None:
    spending, ledger = spend((2.0, 0.5), (2.0, 0.0))
    assert (spending.calls, spending.cost, spending.bound) == (2, 0.5, 0.0)
    assert ledger.settled == [0.5, 0.0]


def test_the_bound_of_a_cost_that_is_not_known_holds_what_is_known_of_it_too() -> None:
    spending, _ = spend((2.0, math.nan), (2.0, 0.5))
    assert math.isnan(spending.cost)
    assert spending.bound == 2.5


@pytest.mark.parametrize("bound", [0.0, math.nan])
def test_nothing_is_set_aside_for_what_is_free_or_has_no_price(bound: float) -> None:
    _, ledger = spend((bound, 0.0))
    assert ledger.bounds == []


def test_a_call_that_costs_nothing_at_most_costs_nothing_when_it_is_cut_off() -> None:
    spending, _ = spend((0.0, math.nan))
    assert (spending.cost, spending.bound) == (0.0, 0.0)


def test_without_prices_neither_cost_nor_bound_is_known() -> None:
    spending, _ = spend((math.nan, math.nan))
    assert math.isnan(spending.cost)
    assert math.isnan(spending.bound)
