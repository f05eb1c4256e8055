"""One process's part of a budget, in memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Final

from bisupervised.errors import InputError

#: The share of a cap that is set aside at a time.
SHARE: Final = 1 / 200


class Account:
    """One scope's money of one day in this process. Under the ledger's lock."""

    __slots__ = (
        *("day", "scope", "cap", "set_aside", "used", "spent", "written"),
        *("least", "block", "fetched_at", "left", "asked_at"),
    )

    def __init__(self, day: int, scope: str, cap: float | None) -> None:
        self.day = day
        self.scope = scope
        self.cap = cap
        self.set_aside = 0.0  # durably, by this process
        self.used = 0.0  # of that: spent, and held by calls that run
        self.spent = 0.0
        self.written = 0.0  # what was spent when that was written last
        self.least = 0.0  # that was unused at any time since unused money was returned last
        self.block = 0.0  # that was fetched last, and when
        self.fetched_at = -math.inf
        self.left = math.inf  # of the cap when that was last too little, and when that was
        self.asked_at = -math.inf

    @property
    def unused(self) -> float:
        """Set aside, and free for another call; below 0 while a block is fetched, or after a call cost too much."""
        return self.set_aside - self.used

    def use(self, bound: float) -> None:
        """Count the bound of a call as used."""
        self.used += bound
        self.least = min(self.least, self.set_aside - self.used)

    def next_block(self, bound: float) -> float:
        """How much to fetch for calls of this bound: a share of the cap, or what lasts about a second without one.

        Without a cap, that is twice the last block where it was used up within a second, half where it lasted a
        minute.
        """
        if self.cap is not None:
            self.block = max(bound, self.cap * SHARE)
            return self.block
        lasted, self.fetched_at = monotonic() - self.fetched_at, monotonic()
        if lasted < 1.0:
            self.block *= 2.0
        elif lasted > 60.0:
            self.block /= 2.0
        self.block = max(self.block, bound)
        return self.block


class Hold:
    """Money set aside for one call, in every scope it counts in."""

    __slots__ = ("_accounts", "_lock", "_open", "bound")

    def __init__(self, lock: threading.Lock, accounts: Sequence[Account], bound: float) -> None:
        self._lock = lock
        self._accounts = accounts
        self._open = True
        self.bound = bound  #: the most that the call may cost

    def settle(self, cost: float) -> None:
        """What the call really cost. NaN: not known, and the bound is spent. Only the first settling counts.

        A hold that is never settled stays spent, too. Raises `InputError` for a cost that is no number from 0 on.
        """
        if cost != cost:
            cost = self.bound
        elif not 0.0 <= cost < math.inf:
            raise InputError(f"a cost is a number from 0 on, or NaN when it is not known, not {cost}")
        with self._lock:
            if not self._open:
                return
            self._open = False
            for account in self._accounts:
                account.used += cost - self.bound
                account.spent += cost


def check_bound(bound: float) -> None:
    """Raise `InputError` unless it is a number from 0 on."""
    if not 0.0 <= bound < math.inf:
        if bound != bound:
            raise InputError(
                "what the call may cost at most is not known, so it cannot be held to a budget: a cap needs prices. "
                "Give the level's prices, or no cap"
            )
        raise InputError(f"a bound is a number from 0 on, not {bound}")
