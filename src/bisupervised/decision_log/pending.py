"""Inputs that wait for an answer, kept in a file: `HandOver(PendingInputs(log))`."""

from __future__ import annotations

import json
import threading
from dataclasses import fields
from time import time
from types import TracebackType
from typing import Any

from bisupervised.decision_log.database import Location, connect, log_errors, log_path, transaction
from bisupervised.decision_log.log import DecisionLog
from bisupervised.decision_log.values import encode_text, to_json
from bisupervised.errors import InputError
from bisupervised.fallback import Pending
from bisupervised.records import Outcome, Reason, Route


class PendingInputs:
    """A queue in a decision log's file, or in one of its own; a context manager.

    `put` and `done` are committed when they return, so the queue survives the death of its process. Made from a
    `DecisionLog`, `done` first flushes that log: an input leaves the queue only when its final outcome is
    stored. Any number of threads and processes may put; one should replay, or inputs are asked about twice.
    """

    def __init__(self, log_or_path: DecisionLog | Location) -> None:
        self._log = log_or_path if isinstance(log_or_path, DecisionLog) else None
        self.path = log_or_path.path if isinstance(log_or_path, DecisionLog) else log_path(log_or_path)
        self._lock = threading.Lock()
        self._connection = connect(self.path)

    def put(self, item: Pending, /) -> None:
        """Store an input that waits; one whose id waits already keeps its place.

        Raises `InputError` when the input would not come back as it is: it must be text, bytes, or JSON (None,
        truth values, numbers, lists, and mappings with text as keys).
        """
        if not isinstance(item.x, bytes) and not _is_json(item.x):
            raise InputError(
                f"the input {item.id!r}, a {type(item.x).__name__}, cannot wait in a file: text, bytes, lists and "
                f"mappings of text and numbers can"
            )
        cell = item.x if isinstance(item.x, bytes) else json.dumps(item.x)
        with self._lock, log_errors(self.path), transaction(self._connection):
            self._connection.execute(
                "INSERT INTO pending (id, time, input, outcome) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET input = excluded.input, outcome = excluded.outcome",
                (encode_text(item.id), time(), cell, _as_json(item.outcome)),
            )

    def waiting(self) -> list[Pending]:
        """What waits, the longest first. Predictions in the outcomes come back as JSON gives them."""
        with self._lock, log_errors(self.path):
            rows = self._connection.execute("SELECT id, input, outcome FROM pending ORDER BY seq").fetchall()
        return [
            Pending(id_, cell if isinstance(cell, bytes) else json.loads(cell), _outcome(outcome))
            for id_, cell, outcome in rows
        ]

    def done(self, id_: str) -> None:
        """Take an input out of the queue; one that is not there is no error. May raise what the log's flush does."""
        if self._log is not None:
            self._log.flush()
        with self._lock, log_errors(self.path), transaction(self._connection):
            self._connection.execute("DELETE FROM pending WHERE id = ?", (encode_text(id_),))

    def __len__(self) -> int:
        with self._lock, log_errors(self.path):
            n: int = self._connection.execute("SELECT count(*) FROM pending").fetchone()[0]
        return n

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Close the file; what waits stays there. The log belongs to whoever made it."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> PendingInputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_json(x: Any) -> bool:
    """Whether JSON gives back exactly this: a tuple would become a list, a number as key text."""
    if x is None or type(x) in (str, int, float, bool):
        return True
    if type(x) is list:
        return all(map(_is_json, x))
    return type(x) is dict and all(type(key) is str and _is_json(value) for key, value in x.items())


def _as_json(outcome: Outcome) -> str:
    # Field by field: one that is no JSON is stored as its repr, and the others as they are.
    return json.dumps({field.name: json.loads(to_json(getattr(outcome, field.name))) for field in fields(outcome)})


def _outcome(text: str) -> Outcome:
    stored = json.loads(text)
    because = stored["deferred_because"]
    return Outcome(
        **{
            **stored,
            "route": Route(stored["route"]),
            "reason": Reason(stored["reason"]),
            "deferred_because": None if because is None else Reason(because),
        }
    )
