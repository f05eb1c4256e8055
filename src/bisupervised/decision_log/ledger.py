"""Budgets: caps for each UTC day that hold across restarts and over several processes."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import Final

from bisupervised.decision_log import budgets
from bisupervised.decision_log.accounts import Account, Hold, check_bound
from bisupervised.decision_log.database import Location, connect, connect_to_read, log_errors, log_path, transaction
from bisupervised.decision_log.presence import Presence, in_forked_children
from bisupervised.errors import BudgetExhausted, InputError, LogError

logger = logging.getLogger("bisupervised")

DAY_S: Final = 86_400
#: Seconds for which an exhausted budget is not asked about again.
AGAIN_S: Final = 1.0
#: Seconds after which money that was not needed meanwhile goes back.
RETURN_S: Final = 10.0
#: What sums of floats may be off by, as a share of the cap.
_ROUNDING: Final = 1e-9


class _Job:
    """A call that waits for money to be fetched."""

    __slots__ = ("accounts", "bound", "error", "hold", "scopes")

    def __init__(self, scopes: Sequence[str], bound: float) -> None:
        self.scopes = tuple(scopes)
        self.bound = bound
        self.hold: Future[Hold] = Future()
        self.accounts: list[Account] = []  # where the bound counts as used already
        self.error: BudgetExhausted | None = None


class Ledger:
    """Sets money aside before it is spent, and never more than the caps allow; a context manager.

    Every process on the file sets blocks of money aside, committed and synced to the disk, before any of it is used:
    all blocks of all processes together stay within each scope's cap for the day. What lies unused for RETURN_S is
    returned but for one block, and that when its process closes the ledger; after `kill -9`, all of it stays spent.
    A block is 1/200 of the cap, or the bound of one call if that is more; without a cap, it grows until it lasts
    about a second.

    `caps` are currency units for each UTC day; a scope without one is accounted all the same. The day never goes
    back: a clock that does finds the newest day that any process has seen.
    """

    def __init__(
        self, path: Location, caps: Mapping[str, float], *, process: str, clock: Callable[[], float] = time
    ) -> None:
        wrong = [f"{scope}: {cap}" for scope, cap in caps.items() if not 0.0 <= cap < math.inf]
        if wrong:
            raise InputError(f"a cap is a number from 0 on ({', '.join(wrong)}); leave out a scope that has none")
        self.path = log_path(path)
        self._caps = dict(caps)
        self._clock = clock
        self._lock = threading.Lock()
        self._day = 0
        self._day_ends = -math.inf  # Unix seconds
        self._accounts: dict[str, Account] = {}  # of the day
        self._earlier: list[Account] = []  # of the day before: its last calls may still run
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None: the end
        self._why_not: str | None = None
        self._connection = connect(self.path, synchronous="full")
        try:
            with log_errors(self.path, _FULL):
                self._presence = Presence(self.path, process)
            try:
                with log_errors(self.path, _FULL), transaction(self._connection):
                    self._presence.enter(self._connection)
                self.settle_dead()
            except BaseException:
                self._presence.close()
                raise
        except BaseException:
            self._connection.close()
            raise
        in_forked_children(self._forked)
        self._thread = threading.Thread(target=self._serve, name="bisupervised-ledger", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # ------------------------------------------------------------ reserving

    def reserve(self, scopes: Sequence[str], bound: float) -> Hold | None:
        """Set `bound` aside in all scopes, in no time; None when a block must be fetched first (`areserve`).

        Raises `InputError` for a bound that is no number from 0 on.
        """
        check_bound(bound)
        with self._lock:
            if self._clock() >= self._day_ends:
                return None
            accounts = []
            for scope in scopes:
                account = self._accounts.get(scope)
                if account is None or account.unused < bound:
                    return None
                accounts.append(account)
            for account in accounts:
                account.use(bound)
            return Hold(self._lock, accounts, bound)

    async def areserve(self, scopes: Sequence[str], bound: float) -> Hold:
        """Set `bound` aside in all scopes. A cap of any of them that leaves too little raises `BudgetExhausted`.

        Raises `LogFull` or another `LogError` when no block can be written: then nothing is set aside.
        """
        hold = self.reserve(scopes, bound)
        if hold is not None:
            return hold
        if len(set(scopes)) < len(scopes):
            raise InputError(f"a scope counts once for each call, not as in {', '.join(scopes)}")
        job = _Job(scopes, bound)
        with self._lock:
            if self._why_not is not None:
                raise LogError(self._why_not)
            self._raise_if_just_exhausted(job)
            self._jobs.put(job)
        try:
            return await asyncio.wrap_future(job.hold)
        except asyncio.CancelledError:
            job.hold.add_done_callback(_give_back)  # nobody makes the call
            raise

    def _raise_if_just_exhausted(self, job: _Job) -> None:
        """While a budget is exhausted, requests do not queue up to hear so from the file."""
        if self._clock() >= self._day_ends:
            return
        for scope in job.scopes:
            account = self._accounts.get(scope)
            if (
                account is not None
                and account.asked_at + AGAIN_S > monotonic()
                and job.bound - account.unused > account.left
            ):
                raise self._exhausted(account)

    def _exhausted(self, account: Account) -> BudgetExhausted:
        assert account.cap is not None
        return BudgetExhausted(account.scope, account.cap, self._day_ends - self._clock())

    # ------------------------------------------------------------ in the thread that fetches

    def _serve(self) -> None:
        kept_up_at = monotonic()
        while True:
            jobs = self._waiting()
            self._fetch([job for job in jobs if job is not None and job.hold.set_running_or_notify_cancel()])
            if None in jobs:
                return
            if monotonic() - kept_up_at >= RETURN_S:
                self._keep_up()
                kept_up_at = monotonic()

    def _waiting(self) -> list[_Job | None]:
        """All that wait, for at most RETURN_S: one commit is for all of them."""
        jobs: list[_Job | None] = []
        with suppress(Empty):
            jobs.append(self._jobs.get(timeout=RETURN_S))
            while True:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _fetch(self, waiting: list[_Job]) -> None:
        jobs = []
        for job in waiting:
            hold = self.reserve(job.scopes, job.bound)  # of what another's block has left
            if hold is None:
                jobs.append(job)
            else:
                job.hold.set_result(hold)
        if not jobs:
            return
        amounts: dict[Account, float] = {}
        try:
            with log_errors(self.path, _FULL), transaction(self._connection):
                self._turn_to_today()
                for job in jobs:
                    self._grant(job, amounts)
                for account, amount in amounts.items():
                    self._write(account, account.set_aside + amount)
        except Exception as error:
            with self._lock:
                for job in jobs:
                    self._release(job)
            for job in jobs:
                job.hold.set_exception(type(error)(str(error)) if isinstance(error, LogError) else error)
            return
        with self._lock:
            for account, amount in amounts.items():
                account.set_aside += amount
        for job in jobs:
            if job.error is None:
                job.hold.set_result(Hold(self._lock, job.accounts, job.bound))
            else:
                job.hold.set_exception(job.error)

    def _grant(self, job: _Job, amounts: dict[Account, float]) -> None:
        """Add what one job needs to the amounts that will be set aside, or note its error."""
        with self._lock:
            # Used before its block is there: so what is left is not given to others meanwhile.
            job.accounts = [self._account(scope) for scope in job.scopes]
            for account in job.accounts:
                account.use(job.bound)
        try:
            needs = [self._needs(account, job.bound, amounts.get(account, 0.0)) for account in job.accounts]
        except BudgetExhausted as error:
            job.error = error
            with self._lock:
                self._release(job)
            return
        for account, amount in zip(job.accounts, needs, strict=True):
            amounts[account] = amounts.get(account, 0.0) + amount

    def _account(self, scope: str) -> Account:
        if scope not in self._accounts:
            self._accounts[scope] = Account(self._day, scope, self._caps.get(scope))
        return self._accounts[scope]

    def _release(self, job: _Job) -> None:
        for account in job.accounts:
            account.used -= job.bound
        job.accounts = []

    def _needs(self, account: Account, bound: float, granted: float) -> float:
        """How much to set aside beyond what was granted just before. Raises `BudgetExhausted`."""
        needed = -account.unused - granted
        if needed <= 0.0:
            return 0.0
        if account.cap is None:
            return max(needed, account.next_block(bound))
        by_all = budgets.set_aside_by_all(self._connection, account.day, account.scope)
        left = account.cap - by_all - granted
        if needed > left + account.cap * _ROUNDING:
            account.left, account.asked_at = left + account.cap * _ROUNDING, monotonic()
            raise self._exhausted(account)
        return max(needed, min(account.next_block(bound), left))

    def _turn_to_today(self) -> None:
        """Begin a new day, if it is one. A call that has run since before the last one cannot be settled any more."""
        day = max(int(self._clock() // DAY_S), budgets.newest_day(self._connection))
        with self._lock:
            if day > self._day:
                for account in self._earlier:
                    account.spent = account.used
                self._return_earlier()
                self._earlier = list(self._accounts.values())
                self._accounts = {}
                self._day, self._day_ends = day, float((day + 1) * DAY_S)
            self._return_earlier()

    def _return_earlier(self) -> None:
        """What the day before has left is not spent any more, but for what calls hold that still run."""
        for account in self._earlier:
            account.set_aside = account.used
            self._write(account, account.set_aside)

    def _keep_up(self) -> None:
        """Write what was spent, and return what nobody has needed since the last time, but for a block."""
        with self._lock:
            accounts = list(self._accounts.values())
            unused = {account: max(account.least - account.block, 0.0) for account in accounts}
            changed = [account for account in accounts if unused[account] > 0.0 or account.spent != account.written]
            for account in accounts:
                account.set_aside -= unused[account]  # at once: nobody uses it while that is written
                account.least = account.unused
        if not changed:
            return
        try:
            with log_errors(self.path, _FULL), transaction(self._connection):
                for account in changed:
                    self._write(account, account.set_aside)
        except Exception as error:
            logger.warning("%s", error)
            with self._lock:
                for account, amount in unused.items():
                    account.set_aside += amount

    def _write(self, account: Account, set_aside: float) -> None:
        account.written = account.spent
        row = budgets.Row(account.day, account.scope, self._presence.id, set_aside, account.written)
        budgets.write(self._connection, row)

    # ------------------------------------------------------------ reading

    def spent(self, scope: str, day: int | None = None) -> tuple[float, float]:
        """What all processes have spent of a scope in one day, and what is set aside beyond that.

        The day is in days since 1970-01-01, UTC; None: the newest. What other processes have spent in the last
        RETURN_S may still count as set aside; what a killed one left is spent (see `settle_dead`).
        """
        with log_errors(self.path), closing(connect_to_read(self.path)) as connection:
            if day is None:
                day = max(self._day, int(self._clock() // DAY_S), budgets.newest_day(connection))
            set_aside, spent, own = budgets.totals(connection, day, scope, self._presence.id)
        with self._lock:
            for account in (*self._accounts.values(), *self._earlier):
                if (account.day, account.scope) == (day, scope):
                    spent += account.spent - own
        return spent, max(set_aside - spent, 0.0)

    def settle_dead(self) -> int:
        """Count what killed processes have set aside as spent. Returns how many such processes there were."""
        with log_errors(self.path, _FULL), closing(connect(self.path)) as connection:
            return budgets.settle_dead(connection, self.path)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Return what is not used. What calls hold that still run stays spent."""
        with self._lock:
            if self._why_not is not None:
                return
            self._why_not = "no money is set aside any more: the ledger is closed"
            self._jobs.put(None)
        atexit.unregister(self.close)
        self._thread.join()
        with self._lock:
            self._day_ends = -math.inf
            accounts = [*self._accounts.values(), *self._earlier]
            for account in accounts:
                account.spent = account.set_aside = account.used
        written = False
        try:
            with log_errors(self.path, _FULL), transaction(self._connection):
                for account in accounts:
                    self._write(account, account.used)
                self._presence.leave(self._connection)
            written = True
        finally:
            self._presence.close(keep_file=not written)
            self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._day_ends = -math.inf
        self._why_not = f"the ledger of {self.path} was opened before this process was forked; open it again"
        self._presence.forget()


_FULL: Final = "no paid call can be made until then"


def _give_back(fetching: Future[Hold]) -> None:
    if not fetching.cancelled() and fetching.exception() is None:
        fetching.result().settle(0.0)
