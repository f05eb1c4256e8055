"""Changes of modes, thresholds and the kill switch: rows that are never changed, only followed by others."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any, Final

from bisupervised.decision_log.database import Location, connect, log_errors, log_path, transaction
from bisupervised.errors import InputError

#: What can change, and what its value must say.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("mode",),
    "thresholds": ("local", "remote"),
    "kill_switch": ("on",),
}
#: The cascade of a change that is for all of them.
ALL_CASCADES: Final = "*"
_COLUMNS: Final = "id, time, cascade, kind, value, made_by, note"


@dataclass(frozen=True, slots=True)
class Change:
    """One change, in force until the next one of its kind for its cascade."""

    id: int  #: rising
    time: float  #: Unix seconds
    cascade: str  #: `*`: all of them
    kind: str  #: `mode`, `thresholds` or `kill_switch`
    value: Mapping[str, Any]  #: all of it, not only what is new
    by: str  #: the name of the key, or of the person, that made it
    note: str


class Changes:
    """The changes in a decision log's file; a context manager. Any number of threads and processes may use it."""

    def __init__(self, path: Location) -> None:
        self.path = log_path(path)
        self._lock = threading.Lock()
        self._connection = connect(self.path, synchronous="full")

    def append(self, cascade: str, kind: str, value: Mapping[str, Any], by: str, note: str = "") -> int:
        """Add a change, committed and synced to the disk on return. Returns its id.

        Raises `InputError` for an unknown kind, a value that lacks what its kind needs or is no JSON, and a kill
        switch that is not for all cascades (`*`).
        """
        text = _checked(cascade, kind, value)
        with self._lock, log_errors(self.path, _FULL), transaction(self._connection):
            return _insert(self._connection, cascade, kind, text, by, note)

    def rollback(self, change_id: int, by: str, check: Callable[[Change], object] = lambda before: None) -> Change:
        """Add the value that held before a change, and return that new change.

        `check` is called with the change that is to hold again, and may raise. Raises `InputError` when there is no
        such change, or it was the first of its kind for its cascade.
        """
        with self._lock, log_errors(self.path, _FULL), transaction(self._connection):
            undone = _one(self._connection, "WHERE id = ?", change_id)
            if undone is None:
                raise InputError(f"there is no change {change_id}")
            before = _one(
                self._connection,
                "WHERE cascade = ? AND kind = ? AND id < ? ORDER BY id DESC LIMIT 1",
                *(undone.cascade, undone.kind, change_id),
            )
            if before is None:
                raise InputError(
                    f"change {change_id} was the first of {undone.kind} for {undone.cascade!r}: what held before it "
                    f"stands in the configuration. Append that as a change"
                )
            check(before)
            text, note = json.dumps(before.value), f"rolls back change {change_id}"
            added = _insert(self._connection, undone.cascade, undone.kind, text, by, note)
            change = _one(self._connection, "WHERE id = ?", added)
            assert change is not None
            return change

    def newest(self) -> int:
        """The id of the newest change; 0 when there is none. Cheap enough to be asked several times a second."""
        with self._lock, log_errors(self.path):
            (newest,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()
        return int(newest)

    def since(self, change_id: int) -> list[Change]:
        """The changes after one, in their order."""
        with self._lock, log_errors(self.path):
            return _all(self._connection, "WHERE id > ? ORDER BY id", change_id)

    def history(self, cascade: str | None = None, limit: int = 100) -> list[Change]:
        """The newest changes, the newest first, of one cascade or of all."""
        where, parameters = ("", ()) if cascade is None else ("WHERE cascade = ?", (cascade,))
        with self._lock, log_errors(self.path):
            return _all(self._connection, f"{where} ORDER BY id DESC LIMIT ?", *parameters, max(limit, 0))

    def current(self, cascade: str) -> dict[str, Change]:
        """What holds for a cascade: the newest change of each kind that there is. `*` is one of its own."""
        with self._lock, log_errors(self.path):
            changes = _all(
                self._connection,
                "WHERE id IN (SELECT max(id) FROM changes WHERE cascade = ? GROUP BY kind) ORDER BY id",
                cascade,
            )
        return {change.kind: change for change in changes}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_FULL: Final = "make the change again: it was not made"


def _checked(cascade: str, kind: str, value: Mapping[str, Any]) -> str:
    """The value as JSON."""
    if kind not in KINDS:
        raise InputError(f"a change is of the kind {', '.join(KINDS)}, not {kind!r}")
    missing = [name for name in KINDS[kind] if name not in value]
    if missing:
        raise InputError(f"a change of {kind} needs {', '.join(missing)}")
    if kind == "kill_switch" and (cascade != ALL_CASCADES or type(value["on"]) is not bool):
        raise InputError('a kill switch is {"on": true} or {"on": false}, for the cascade "*"')
    try:
        return json.dumps(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the value of a change is JSON: {error}") from error


# ---------------------------------------------------------------- SQL


def _insert(connection: sqlite3.Connection, cascade: str, kind: str, value: str, by: str, note: str) -> int:
    added = connection.execute(
        "INSERT INTO changes (time, cascade, kind, value, made_by, note) VALUES (?, ?, ?, ?, ?, ?)",
        (time(), cascade, kind, value, by, note),
    )
    return int(added.lastrowid or 0)


def _all(connection: sqlite3.Connection, where: str, *parameters: Any) -> list[Change]:
    rows: Iterable[tuple[Any, ...]] = connection.execute(f"SELECT {_COLUMNS} FROM changes {where}", parameters)
    return [
        Change(id_, at, cascade, kind, json.loads(value), by, note)
        for id_, at, cascade, kind, value, by, note in rows
    ]


def _one(connection: sqlite3.Connection, where: str, *parameters: Any) -> Change | None:
    found = _all(connection, where, *parameters)
    return found[0] if found else None
