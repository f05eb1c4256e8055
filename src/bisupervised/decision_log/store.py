"""Rows into the file: one row for each input, and the row of an input that waited gets its final outcome."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bisupervised.decision_log.database import transaction
from bisupervised.decision_log.rows import COLUMNS, DETAILS, FALLBACK, ID, LOCAL_COST, REMOTE_COST, Row
from bisupervised.decision_log.values import encode_text, encode_value

_INSERT: Final = f"INSERT INTO decisions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
# NULL, a cost that is not known, makes the sum not known: that is what it is. What a gateway knew of the request
# stays where the outcome that replaces it comes from elsewhere: its number is the one that has a row.
_REPLACE: Final = (
    "UPDATE decisions SET attempts = attempts + 1, earlier_cost = earlier_cost + local_cost + remote_cost, "
    + ", ".join(f"{name} = coalesce(?, {name})" if name in DETAILS else f"{name} = ?" for name in COLUMNS)
    + " WHERE id = ?"
)
_ADD_LATE: Final = "UPDATE decisions SET attempts = attempts + 1, earlier_cost = earlier_cost + ? + ? WHERE id = ?"


def store_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[str]:
    """Store all rows in one transaction. Returns the ids that were refused: they have their final outcome."""
    with transaction(connection):
        connection.execute("SAVEPOINT all_new")
        try:
            connection.executemany(_INSERT, rows)
        except sqlite3.IntegrityError:
            connection.execute("ROLLBACK TO all_new")
            return [str(row[ID]) for row in rows if not _store_row(connection, row)]
        return []


def _store_row(connection: sqlite3.Connection, row: Row) -> bool:
    """Store one row whose id may be there already; False when that row is final and this one is refused.

    A stored row that waits in a queue is replaced. So is one that has been replaced before: its input fails
    again and again, or the process died between the log and the queue. A row that waits never replaces a final
    one: it is late, written after another thread had already settled its input.
    """
    stored = connection.execute("SELECT fallback, attempts FROM decisions WHERE id = ?", (row[ID],)).fetchone()
    if stored is None:
        connection.execute(_INSERT, row)
        return True
    fallback, attempts = stored
    if row[FALLBACK] == "queue" and fallback != "queue":
        connection.execute(_ADD_LATE, (row[LOCAL_COST], row[REMOTE_COST], row[ID]))
        return True
    if fallback == "queue" or attempts > 1:
        connection.execute(_REPLACE, (*row, row[ID]))
        return True
    return False


def store_labels(connection: sqlite3.Connection, labels: Iterable[tuple[str, Any]]) -> int:
    """Set labels in one transaction. Returns how many ids are unknown."""
    cells = [(encode_value(label), encode_text(id_)) for id_, label in labels]
    with transaction(connection):
        return len(cells) - connection.executemany("UPDATE decisions SET label = ? WHERE id = ?", cells).rowcount
