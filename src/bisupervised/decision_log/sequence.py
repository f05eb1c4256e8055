"""A number for every request, reserved durably in blocks: after a crash, what is missing can be counted."""

from __future__ import annotations

import asyncio
import atexit
import logging
import sqlite3
import threading
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from time import monotonic, time
from typing import Final

from bisupervised.decision_log.database import (
    Location,
    connect,
    connect_to_read,
    log_errors,
    log_path,
    snapshot,
    transaction,
)
from bisupervised.decision_log.losses import Losses, count_losses, settle
from bisupervised.decision_log.presence import Presence, in_forked_children
from bisupervised.errors import InputError, LogError

logger = logging.getLogger("bisupervised")

#: Bounds of a block, and the seconds for which one is to last.
LEAST_BLOCK: Final = 64
MOST_BLOCK: Final = 8192
BLOCK_S: Final = 2.0
#: Seconds until a reservation that failed is tried again while there are numbers left.
RETRY_S: Final = 1.0


class Sequences:
    """Gives out numbers that no other process on the file gives out; a context manager.

    Blocks of numbers are committed, and synced to the disk, before the first number of them is given out. A
    thread fetches the next block while half of the newest one is left; its size follows the traffic. In one
    process, numbers rise in the order of the calls.

    Every number that was given out is that of exactly one request, and that request has exactly one row in
    the log, or is counted:
    `lost` were given out for sure and have no row; `lost_at_most` bounds the number of those that may be.
    The two are equal after `close`, and after `kill -9` too: the last number is kept where it outlives the process.
    They differ when the machine itself went down: what was given out of the last blocks is then not known.
    `missing` are numbers of processes that still run: in flight, on their way to the log, or lost.

    `process` is a name for people. `block` is the first block's size.
    """

    def __init__(self, path: Location, *, process: str, block: int = 256) -> None:
        if not 1 <= block <= MOST_BLOCK:
            raise InputError(f"block is a number from 1 to {MOST_BLOCK}, not {block}")
        self.path = log_path(path)
        self._lock = threading.Lock()
        self._next, self._last, self._low = 1, 0, 0  # of the block in use, which may be used up
        self._spare: list[_Block] = []
        self._size = block
        self._reserved_at = monotonic()
        self._round: Future[None] | None = None  # what those without a number wait for
        self._wake = threading.Event()
        self._why_not: str | None = None  # why no numbers are given out any more
        self._connection = connect(self.path, synchronous="full")
        try:
            with log_errors(self.path):
                self._presence = Presence(self.path, process)
            try:
                self._mark = self._presence.mark
                self._add(self._reserve(enter=True))
            except BaseException:
                self._presence.close()
                raise
        except BaseException:
            self._connection.close()
            raise
        in_forked_children(self._forked)
        self._thread = threading.Thread(target=self._refill, name="bisupervised-sequences", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # ------------------------------------------------------------ giving out

    def take(self) -> int:
        """The next number. Waits for the disk when none is left; raises `LogError` when none can be reserved."""
        while (number := self.take_now()) is None:
            if (block := self._more()) is not None:
                _raise_of(block)
        return number

    async def atake(self) -> int:
        """`take`, which lets the event loop go on while it waits."""
        while (number := self.take_now()) is None:
            if (block := self._more()) is not None:
                with suppress(LogError):
                    await asyncio.shield(asyncio.wrap_future(block))
                _raise_of(block)
        return number

    def take_now(self) -> int | None:
        """The next number, in no time; None when a block must be waited for."""
        with self._lock:
            number = self._next
            if number > self._last:
                if not self._spare:
                    return None
                block = self._spare.pop(0)
                number, self._last = block.first, block.last
            self._next = number + 1
            # Before anybody has it: what is marked and not used counts as lost, and never the other way round.
            self._mark[0] = number
        if number == self._low:
            self._wake.set()
        return number

    def _more(self) -> Future[None] | None:
        """What to wait for; None when there are numbers by now."""
        with self._lock:
            if self._why_not is not None:
                raise LogError(self._why_not)
            if self._next <= self._last or self._spare:
                return None
            if self._round is None:
                self._round = Future()
                self._round.set_running_or_notify_cancel()  # one who stops waiting does not stop the others
            self._wake.set()
            return self._round

    # ------------------------------------------------------------ reserving

    def _refill(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            error: Exception | None = None
            try:
                if self._needs_more():
                    self._add(self._reserve())
            except Exception as raised:
                logger.warning("no numbers for requests: %s", raised)
                error = raised
            with self._lock:
                waited, self._round = self._round, None
            if waited is not None:
                waited.set_result(None) if error is None else waited.set_exception(error)
            elif error is not None:
                self._wake.wait(RETRY_S)
                self._wake.set()
            if self._why_not is not None:
                return

    def _needs_more(self) -> bool:
        """Whether half of the newest block is used: who woke the thread may have done so while it was at work."""
        with self._lock:
            return self._next > self._low and self._why_not is None

    def _reserve(self, *, enter: bool = False) -> _Block:
        now = monotonic()
        size = self._size if enter else self._next_size(now - self._reserved_at)
        with log_errors(self.path, _FULL), transaction(self._connection):
            if enter:
                self._presence.enter(self._connection)
            block = _reserve(self._connection, size, self._presence.id)
        self._size, self._reserved_at = size, now
        return block

    def _next_size(self, elapsed: float) -> int:
        """So many numbers as are used in BLOCK_S, if all goes on as since the last block, seconds ago."""
        # About one block was used since then: the next one is always fetched at the same fill level.
        wanted = self._size * BLOCK_S / max(elapsed, 1e-3)
        wanted = min(max(wanted, self._size / 2), self._size * 8)
        return round(min(max(wanted, LEAST_BLOCK), MOST_BLOCK))

    def _add(self, block: _Block) -> None:
        with self._lock:
            if self._why_not is not None:
                return  # what was used is written, or about to be
            self._spare.append(block)
            self._low = block.last - (block.last - block.first + 1) // 2

    # ------------------------------------------------------------ what was lost

    def settle_dead(self) -> int:
        """Count what processes have lost that ended, by themselves or not, each block once.

        Returns how many numbers were newly counted, at most. Call it at the start, and now and then.
        """
        with log_errors(self.path), closing(connect(self.path)) as connection:
            return settle(connection, self.path)

    def lost(self) -> int:
        """Numbers of settled blocks that were given out for sure, and have no row."""
        return self.losses().lost

    def lost_at_most(self) -> int:
        """The most that `lost` may really be."""
        return self.losses().lost_at_most

    def losses(self) -> Losses:
        """Both, and what is missing of processes that run."""
        with log_errors(self.path), closing(connect_to_read(self.path)) as connection, snapshot(connection):
            return count_losses(connection)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Write which numbers were used. Close the log first: what it has not stored by then counts as lost."""
        with self._lock:
            if self._why_not is not None:
                return
            self._why_not = "no numbers are given out any more: the sequences are closed"
            self._next, self._last, self._spare = 1, 0, []
            used = self._mark[0]
        atexit.unregister(self.close)
        self._wake.set()
        self._thread.join()
        written = False
        try:
            with log_errors(self.path, _FULL), transaction(self._connection):
                _finish(self._connection, self._presence.id, used)
                self._presence.leave(self._connection)
            written = True
        finally:
            self._presence.close(keep_file=not written)
            self._connection.close()

    def __enter__(self) -> Sequences:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._why_not = f"the sequences of {self.path} were opened before this process was forked; open them again"
        self._next, self._last, self._spare = 1, 0, []
        self._presence.forget()


_FULL: Final = "no request can be numbered until then"


def _raise_of(block: Future[None]) -> None:
    error = block.exception()
    if isinstance(error, LogError):
        raise type(error)(str(error)) from error  # one of its own: several may raise it
    if error is not None:
        raise error


# ---------------------------------------------------------------- SQL


@dataclass(frozen=True, slots=True)
class _Block:
    first: int
    last: int


def _reserve(connection: sqlite3.Connection, size: int, process: str) -> _Block:
    (newest,) = connection.execute("SELECT coalesce(max(last), 0) FROM sequence_blocks").fetchone()
    block = _Block(newest + 1, newest + size)
    connection.execute(
        "INSERT INTO sequence_blocks (first, last, process, reserved_at) VALUES (?, ?, ?, ?)",
        (block.first, block.last, process, time()),
    )
    return block


def _finish(connection: sqlite3.Connection, process: str, used: int) -> None:
    connection.execute(
        "UPDATE sequence_blocks SET last_used = min(last, max(first - 1, ?)) WHERE process = ? AND last_used IS NULL",
        (used, process),
    )
