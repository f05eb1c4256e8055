"""Rows between the callers and the writer thread: bounded, and every row counted until it is settled."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from bisupervised.decision_log.audits import AuditEntry
from bisupervised.decision_log.rows import Entry
from bisupervised.errors import LogError

#: Rows that are committed together at once; fewer wait for company, GROUP_S seconds at most.
GROUP_ROWS: Final = 1_000
GROUP_S: Final = 0.05
#: Seconds until the writer tries again by itself after a full disk.
RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows that were handed to one `DecisionLog`, audits too; the four add up to all of them."""

    written: int  #: committed
    dropped: int  #: lost for want of room, or never stored at close
    duplicates: int  #: refused: their id has its final outcome
    pending: int  #: not committed yet


class Buffer:
    """One lock over all counts. `drop` says what happens when `capacity` rows are pending; else callers wait.

    A write of more rows than `capacity` is let in when nothing else is pending.
    """

    def __init__(self, capacity: int, *, drop: bool) -> None:
        self._capacity = capacity
        self._drop = drop
        lock = threading.Lock()
        self._work = threading.Condition(lock)  # the writer waits here
        self._change = threading.Condition(lock)  # flushes and callers without room wait here
        self._entries: list[Entry | AuditEntry] = []
        self._accepted = 0
        self._written = self._duplicates = 0
        self._lost = 0  # accepted, and given up
        self._turned_away = 0  # never accepted
        self._hurry = self._closed = False
        self._failure: LogError | None = None  # what keeps the writer from storing
        self._refusal: LogError | None = None  # told once, by the next flush

    # ------------------------------------------------------------ callers

    def put(self, entry: Entry | AuditEntry, n: int) -> None:
        """Take n rows. Raises `LogError` when it is closed, or is full while the writer cannot store."""
        with self._work:
            if self._closed or not self._has_room(n):
                self._wait_for_room(n)
                if self._turns_away(n):
                    return
            self._entries.append(entry)
            self._accepted += n
            # The writer sleeps until there is a first row, and then until there is a group.
            if self._pending == n or self._pending >= GROUP_ROWS:
                self._work.notify()

    def _wait_for_room(self, n: int) -> None:
        if not self._drop:
            self._hurry = True
            self._work.notify()
            self._change.wait_for(lambda: self._has_room(n) or self._failure or self._closed)

    def _turns_away(self, n: int) -> bool:
        """Whether n rows are dropped; raises when that is because nothing can be stored."""
        if self._has_room(n) and not self._closed:
            return False
        self._turned_away += n
        if self._closed:
            raise LogError("the decision log is closed")
        error = None if self._drop else self._failure_again()
        if error is not None:
            raise error
        return True

    def _has_room(self, n: int) -> bool:
        return not self._pending or self._pending + n <= self._capacity

    def flush(self) -> None:
        """Wait until all rows taken so far are settled. Raises what keeps the writer from it, or refused rows."""
        with self._work:
            target = self._accepted
            if self._settled < target:
                self._failure = None  # so that what is raised is the new try's
                self._hurry = True
                self._work.notify()
                self._change.wait_for(lambda: self._settled >= target or self._failure)
            error = self._failure_again() if self._settled < target else None
            if error is None:
                error, self._refusal = self._refusal, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Take no more rows; the writer stores what there is, or counts it as dropped."""
        with self._work:
            self._closed = self._hurry = True
            self._work.notify()
            self._change.notify_all()

    def counts(self) -> Counts:
        with self._work:
            return Counts(self._written, self._lost + self._turned_away, self._duplicates, self._pending)

    def last_error(self) -> LogError | None:
        """What a flush would raise now; told once."""
        with self._work:
            error = self._failure_again() or self._refusal
            self._failure = self._refusal = None
        return error

    # ------------------------------------------------------------ the writer

    def take(self) -> list[Entry | AuditEntry] | None:
        """The next group of rows; waits for them. None: closed, and nothing is left."""
        with self._work:
            self._work.wait_for(lambda: self._entries or self._closed)
            if not self._entries:
                return None
            self._work.wait_for(lambda: self._hurry or self._pending >= GROUP_ROWS, timeout=GROUP_S)
            self._hurry = False
            group, self._entries = self._entries, []
            return group

    def stored(self, written: int, refused: list[str]) -> None:
        """A group was committed, but for the refused ids."""
        error = None
        if refused:
            more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
            error = LogError(
                f"id {refused[0]!r}{more}: the decision log has its final outcome; every input has an id of its own "
                f"and one row"
            )
        with self._work:
            self._written += written
            self._duplicates += len(refused)
            self._failure = None
            self._refusal = self._refusal or error
            self._change.notify_all()

    def lost(self, n: int, error: LogError) -> None:
        """A group can never be stored."""
        with self._work:
            self._lost += n
            self._refusal = self._refusal or error
            self._change.notify_all()

    def keep(self, group: list[Entry | AuditEntry], error: LogError) -> None:
        """A group could not be stored now: it is the next one again, after a pause that a flush cuts short.

        At close there is no next time: what is pending is lost, and counted.
        """
        with self._work:
            self._failure = error
            if self._closed:
                self._lost += self._pending
                self._entries = []
            else:
                self._entries = group + self._entries
                self._change.notify_all()
                self._work.wait_for(lambda: self._hurry or self._closed, timeout=RETRY_S)
            self._change.notify_all()

    # ------------------------------------------------------------ under the lock

    @property
    def _settled(self) -> int:
        return self._written + self._duplicates + self._lost

    @property
    def _pending(self) -> int:
        return self._accepted - self._settled

    def _failure_again(self) -> LogError | None:
        """The writer's failure as an error of its own: several threads may raise it."""
        return None if self._failure is None else type(self._failure)(str(self._failure))
