"""The table `budgets`: what each process has set aside of each scope's money on each day."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import time
from typing import NamedTuple

from bisupervised.decision_log.database import transaction
from bisupervised.decision_log.presence import remains


class Row(NamedTuple):
    """One process's part of one scope's money on one day."""

    day: int  #: UTC, days since 1970-01-01
    scope: str
    process: str
    set_aside: float  #: what counts against the cap
    spent: float  #: of that


def newest_day(connection: sqlite3.Connection) -> int:
    """The latest day that any process has seen; 0 when there is none."""
    (day,) = connection.execute("SELECT coalesce(max(day), 0) FROM budgets").fetchone()
    return int(day)


def set_aside_by_all(connection: sqlite3.Connection, day: int, scope: str) -> float:
    """What all processes have set aside."""
    (total,) = connection.execute(
        "SELECT coalesce(sum(set_aside), 0.0) FROM budgets WHERE day = ? AND scope = ?", (day, scope)
    ).fetchone()
    return float(total)


def totals(connection: sqlite3.Connection, day: int, scope: str, process: str) -> tuple[float, float, float]:
    """Set aside and spent by all processes, and spent by this one, as they were written last."""
    set_aside, spent, own = connection.execute(
        "SELECT coalesce(sum(set_aside), 0.0), coalesce(sum(spent), 0.0), "
        "coalesce(sum(CASE WHEN process = ? THEN spent END), 0.0) FROM budgets WHERE day = ? AND scope = ?",
        (process, day, scope),
    ).fetchone()
    return float(set_aside), float(spent), float(own)


def write(connection: sqlite3.Connection, row: Row) -> None:
    """Add the row, or put it in the place of the process's earlier one; call it inside a transaction."""
    connection.execute(
        "INSERT INTO budgets (day, scope, process, set_aside, spent) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (day, scope, process) DO UPDATE SET set_aside = excluded.set_aside, spent = excluded.spent",
        row,
    )


def settle_dead(connection: sqlite3.Connection, path: Path) -> int:
    """All that processes which were killed have set aside is spent. Returns how many such processes there were."""
    rows = connection.execute(
        "SELECT DISTINCT process, boot FROM budgets JOIN processes ON processes.id = process WHERE ended_at IS NULL"
    ).fetchall()
    dead = 0
    for process, boot in rows:
        with remains(path, process, boot) as left:
            if left is not None:
                with transaction(connection):
                    connection.execute("UPDATE budgets SET spent = set_aside WHERE process = ?", (process,))
                    connection.execute("UPDATE processes SET ended_at = ? WHERE id = ?", (time(), process))
                dead += 1
    return dead
