"""What one request costs: the highest possible cost is set aside before each paid call, and settled after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Hold(Protocol):
    """Money set aside for one call."""

    def settle(self, cost: float) -> None:
        """What the call really cost; NaN: not known, and all that was set aside stays spent."""


class Ledger(Protocol):
    """Budgets that hold across restarts and processes: `bisupervised.decision_log.Ledger`."""

    def reserve(self, scopes: Sequence[str], bound: float) -> Hold | None:
        """Set `bound` aside at once, or None when that takes a moment."""

    async def areserve(self, scopes: Sequence[str], bound: float) -> Hold:
        """Set `bound` aside. Raises `BudgetExhausted`."""


class Spending:
    """The calls of one request to one level. Costs are in currency units.

    `cost` is NaN as soon as one call's cost is not known; `bound` then says the most that all of them may have
    cost.
    """

    __slots__ = ("_ledger", "_scopes", "_unknown_at_most", "calls", "known", "unknown")

    def __init__(self, ledger: Ledger | None, scopes: Sequence[str]) -> None:
        self._ledger = ledger
        self._scopes = scopes
        self.calls = 0
        self.known = 0.0
        self.unknown = False
        self._unknown_at_most = 0.0

    @property
    def cost(self) -> float:
        """What all calls cost; NaN: not known."""
        return math.nan if self.unknown else self.known

    @property
    def bound(self) -> float:
        """The most that all calls may have cost, where `cost` is not known; 0: it is."""
        return self.known + self._unknown_at_most if self.unknown else 0.0

    async def begin(self, bound: float) -> Payment:
        """Before a call that costs at most `bound` (NaN: nobody knows). Raises `BudgetExhausted`."""
        hold: Hold | None = None
        if self._ledger is not None and bound > 0.0:  # without prices, or for nothing, there is nothing to set aside
            hold = self._ledger.reserve(self._scopes, bound)
            if hold is None:
                hold = await self._ledger.areserve(self._scopes, bound)
        self.calls += 1
        return Payment(self, bound, hold)


class Payment:
    """One call's money, to be settled once."""

    __slots__ = ("_bound", "_hold", "_open", "_spending")

    def __init__(self, spending: Spending, bound: float, hold: Hold | None) -> None:
        self._spending = spending
        self._bound = bound
        self._hold = hold
        self._open = True

    def settle(self, cost: float) -> None:
        """The call has ended and cost this; NaN: not known. Only the first settling counts."""
        if not self._open:
            return
        self._open = False
        if self._bound == 0.0 and cost != cost:
            cost = 0.0  # what is known to cost nothing at most
        if self._hold is not None:
            self._hold.settle(cost)
        spending = self._spending
        if cost == cost:
            spending.known += cost
        else:
            spending.unknown = True
            spending._unknown_at_most += self._bound
