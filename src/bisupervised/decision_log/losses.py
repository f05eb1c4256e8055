"""Requests without a row: which numbers were given out (`sequence`), and have none in the log."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bisupervised.decision_log.database import transaction
from bisupervised.decision_log.presence import Remains, remains

logger = logging.getLogger("bisupervised")


@dataclass(frozen=True, slots=True)
class Losses:
    """Numbers that requests were given, and that have no row."""

    lost: int  #: of processes that ended: surely given out
    lost_at_most: int  #: the same with those that may have been given out
    missing: int  #: of processes that run: in flight, on their way to the log, or lost; up to their highest row


class _Block(NamedTuple):
    first: int
    last: int
    last_used: int | None


class _Count(NamedTuple):
    first: int
    lost: int
    at_most: int


def settle(connection: sqlite3.Connection, path: Path) -> int:
    """Count what each block of a process that ended has lost, once for all. Returns how many may be lost, newly.

    The count is kept, since the rows need not be: who deletes old ones does not make them lost. A block of a process
    that runs is settled when each of its numbers has a row.
    """
    newly = 0
    for process, name, boot, ended, blocks in list(_open_blocks(connection)):
        if ended:
            newly += _store(connection, name, [_of_ended(connection, block) for block in blocks])
            continue
        with remains(path, process, boot) as left:
            if left is None:
                counts = [_Count(block.first, 0, 0) for block in blocks if _is_complete(connection, block)]
            else:
                counts = _of_dead(connection, blocks, left)
            newly += _store(connection, name, counts)
    return newly


def count_losses(connection: sqlite3.Connection) -> Losses:
    """What is settled, and what is missing of the processes that run; call it inside a snapshot."""
    lost, at_most = connection.execute(
        "SELECT coalesce(sum(lost), 0), coalesce(sum(lost_at_most), 0) FROM sequence_blocks"
    ).fetchone()
    missing = sum(_missing(connection, blocks) for *_, blocks in _open_blocks(connection))
    return Losses(lost, at_most, missing)


def _open_blocks(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str | None, bool, list[_Block]]]:
    """Each process with blocks that are not settled: its id, name and boot, whether it ended, the blocks rising."""
    rows = connection.execute(
        "SELECT process, name, boot, ended_at IS NOT NULL, first, last, last_used "
        "FROM sequence_blocks JOIN processes ON processes.id = process WHERE lost IS NULL ORDER BY process, first"
    ).fetchall()
    for (process, name, boot, ended), some in groupby(rows, key=lambda row: row[:4]):
        yield process, name, boot, bool(ended), [_Block(*row[4:]) for row in some]


def _of_ended(connection: sqlite3.Connection, block: _Block) -> _Count:
    used = block.first - 1 if block.last_used is None else block.last_used
    lost = _without_row(connection, block.first, used)
    return _Count(block.first, lost, lost)


def _of_dead(connection: sqlite3.Connection, blocks: list[_Block], left: Remains) -> list[_Count]:
    if left.mark is not None:
        return [_of_ended(connection, block._replace(last_used=min(block.last, left.mark))) for block in blocks]
    # Numbers are given out in their order: those below one that has a row were given out, too.
    surely = _highest_row(connection, blocks)
    return [
        _Count(
            block.first,
            _without_row(connection, block.first, min(block.last, surely)),
            _without_row(connection, block.first, block.last),
        )
        for block in blocks
    ]


def _missing(connection: sqlite3.Connection, blocks: list[_Block]) -> int:
    highest = _highest_row(connection, blocks)
    return sum(_without_row(connection, block.first, min(block.last, highest)) for block in blocks)


def _is_complete(connection: sqlite3.Connection, block: _Block) -> bool:
    return _without_row(connection, block.first, block.last) == 0


def _without_row(connection: sqlite3.Connection, first: int, last: int) -> int:
    """How many of the numbers first..last have no row."""
    if last < first:
        return 0
    (rows,) = connection.execute(
        "SELECT count(DISTINCT sequence) FROM decisions WHERE sequence BETWEEN ? AND ?", (first, last)
    ).fetchone()
    return int(last - first + 1 - rows)


def _highest_row(connection: sqlite3.Connection, blocks: list[_Block]) -> int:
    """The highest number of these blocks that has a row; 0 when none has."""
    for block in reversed(blocks):
        (highest,) = connection.execute(
            "SELECT max(sequence) FROM decisions WHERE sequence BETWEEN ? AND ?", (block.first, block.last)
        ).fetchone()
        if highest is not None:
            return int(highest)
    return 0


def _store(connection: sqlite3.Connection, name: str, counts: Sequence[_Count]) -> int:
    if not counts:
        return 0
    newly = 0
    with transaction(connection):
        for count in counts:
            stored = connection.execute(
                "UPDATE sequence_blocks SET lost = ?, lost_at_most = ? WHERE first = ? AND lost IS NULL",
                (count.lost, count.at_most, count.first),
            )
            newly += count.at_most * stored.rowcount  # another process may have been quicker
    if newly:
        logger.warning("%d requests of the process %s that ended may have no row in the log", newly, name)
    return newly
