"""The decision log: callers hand over outcomes and go on; one thread commits them in groups."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread
from time import time
from types import TracebackType
from typing import Any, Literal

from bisupervised.decision_log.audits import Audit, AuditEntry, store_audits
from bisupervised.decision_log.buffer import Buffer, Counts
from bisupervised.decision_log.database import Location, Synchronous, connect, connect_to_read, log_errors, log_path
from bisupervised.decision_log.details import Details
from bisupervised.decision_log.rows import Entry, rows_of
from bisupervised.decision_log.store import store_labels, store_rows
from bisupervised.errors import InputError, LogError, UnknownOutcome
from bisupervised.records import Outcome, Outcomes

logger = logging.getLogger("bisupervised")


class DecisionLog:
    """Stores outcomes in an SQLite file, one row for each input; a context manager.

    `write` only enqueues. A thread commits what has gathered, at the latest 0.05 s later: that much a killed
    process may lose, and nothing for which `flush` has returned. Power loss may take more, unless
    `synchronous="full"`, which syncs the disk at every commit. Several processes may write to one file, each
    with a log that it opened itself (after forking, if it forks).

    `capacity` rows wait at most; with more, `write` blocks (`when_full="block"`), or drops what it was given
    and counts it (`"drop"`). `store_inputs=True` stores the inputs as JSON; otherwise only their SHA-256 (see
    `values.hash_input`). `thresholds_id` is stored with every row: which thresholds decided.

    A full disk loses nothing at once: rows are kept, and tried again every second and by every `flush`.
    """

    def __init__(
        self,
        path: Location,
        *,
        store_inputs: bool = False,
        capacity: int = 10_000,
        when_full: Literal["block", "drop"] = "block",
        thresholds_id: str | None = None,
        synchronous: Synchronous = "normal",
    ) -> None:
        if capacity < 1:
            raise InputError(f"capacity must be at least 1 row, not {capacity}")
        if when_full not in ("block", "drop"):
            raise InputError(f"when_full is 'block' or 'drop', not {when_full!r}")
        if synchronous not in ("normal", "full"):
            raise InputError(f"synchronous is 'normal' or 'full', not {synchronous!r}")
        self.path: Path = log_path(path)
        self._store_inputs = store_inputs
        self._thresholds_id = thresholds_id
        self._connection = connect(self.path, synchronous=synchronous)
        self._buffer = Buffer(capacity, drop=when_full == "drop")
        self._process = os.getpid()
        self._thread = Thread(target=self._store_groups, name="bisupervised-decision-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a program that ends without closing it loses nothing

    # ------------------------------------------------------------ writing

    def write(
        self, outcomes: Iterable[Outcome], inputs: Iterable[Any], details: Sequence[Details] | None = None
    ) -> None:
        """Enqueue one row for each outcome, with its input and what a gateway adds; call it from any thread.

        Outcomes and inputs are read later: do not change them in place. An outcome whose id waits in a queue
        replaces that row; any other id that is there already is refused, and `flush` raises for it.
        Raises `LogError` when the log is closed, and the writer's error when the buffer is full and the
        writer cannot empty it; the rows then count as dropped.
        """
        self._check_process()
        batch = outcomes if isinstance(outcomes, Outcomes) else list(outcomes)
        kept = list(inputs)
        if len(batch) != len(kept):
            raise InputError(f"{len(batch)} outcomes and {len(kept)} inputs: each outcome comes with its input")
        if details is not None and len(details) != len(kept):
            raise InputError(f"{len(kept)} outcomes and {len(details)} details: each outcome comes with its own")
        if kept:
            self._buffer.put(Entry(time(), batch, kept, details), len(kept))

    def write_audit(self, audit: Audit) -> None:
        """Enqueue an audit, which counts as one row, as `write` does."""
        self._check_process()
        self._buffer.put(AuditEntry(time(), audit), 1)

    def flush(self) -> None:
        """Return when everything written so far is committed.

        Raises `LogFull` when there is no space (the rows are kept: flush again), another `LogError` when the
        file cannot be written, and `LogError` once for rows refused since the last flush.
        """
        self._check_process()
        self._buffer.flush()

    def close(self) -> None:
        """Commit what is left and close the file. Raises as `flush` does; what cannot be stored is dropped."""
        if self._process != os.getpid() or not self._thread.is_alive():
            return
        atexit.unregister(self.close)
        self._buffer.close()
        self._thread.join()
        self._connection.close()
        lost = self._buffer.counts().dropped
        error = self._buffer.last_error()
        if error is not None:
            raise type(error)(f"{error}. The log is closed now; {lost} rows were dropped in all") from error

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise LogError(f"the decision log {self.path} was opened before this process was forked; open it again")

    # ------------------------------------------------------------ labels and counts

    def label(self, id_: str, label: Any) -> None:
        """Set the label of one input; None takes it back. Raises `UnknownOutcome` when the id is not in the log."""
        if self.label_many([(id_, label)]):
            raise UnknownOutcome(_unknown(id_, self.path))

    def label_many(self, labels: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> int:
        """Set many labels, committed on return. Returns how many of the ids are not in the log."""
        self.flush()
        return add_labels(self.path, labels)

    def counts(self) -> Counts:
        """What became of the rows that were written to this object."""
        return self._buffer.counts()

    def __len__(self) -> int:
        """Rows in the file, those of other processes included; what is pending does not count."""
        with log_errors(self.path), closing(connect_to_read(self.path)) as connection:
            n: int = connection.execute("SELECT count(*) FROM decisions").fetchone()[0]
        return n

    def __bool__(self) -> bool:
        return True  # an empty log is a log: `if log:` must not depend on its rows

    # ------------------------------------------------------------ the writer thread

    def _store_groups(self) -> None:
        while (group := self._buffer.take()) is not None:
            self._settle(group)

    def _settle(self, group: list[Entry | AuditEntry]) -> None:
        try:
            written, refused = self._store(group)
        except LogError as error:
            logger.warning("%s", error)
            self._buffer.keep(group, error)
        except Exception as error:
            if len(group) > 1:
                for entry in group:  # one of them cannot be stored; the others can
                    self._settle([entry])
                return
            n = 1 if isinstance(group[0], AuditEntry) else len(group[0].inputs)
            logger.exception("%d outcomes cannot be stored", n)
            self._buffer.lost(n, LogError(f"{n} outcomes cannot be stored: {type(error).__name__}: {error}"))
        else:
            self._buffer.stored(written, refused)

    def _store(self, group: list[Entry | AuditEntry]) -> tuple[int, list[str]]:
        audits = [entry for entry in group if isinstance(entry, AuditEntry)]
        entries = [entry for entry in group if isinstance(entry, Entry)]
        rows = rows_of(entries, store_inputs=self._store_inputs, thresholds_id=self._thresholds_id) if entries else []
        with log_errors(self.path):
            if audits:
                store_audits(self._connection, audits)  # first: they can be stored again if what follows fails
            refused = store_rows(self._connection, rows) if rows else []
        return len(audits) + len(rows) - len(refused), refused


def add_labels(path: Location, labels: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> int:
    """Set labels in a log that exists, open elsewhere or not. Returns how many of the ids are not in it.

    An id whose row is still on its way, 0.05 s at most, is not in it yet.
    """
    file = log_path(path)
    connect_to_read(file).close()  # raises where there is none, rather than make one
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    with log_errors(file), closing(connect(file)) as connection:
        return store_labels(connection, pairs)


def label(path: Location, id_: str, label: Any) -> None:
    """Set the label of one input; None takes it back. Raises `UnknownOutcome` when the id is not in the log."""
    if add_labels(path, [(id_, label)]):
        raise UnknownOutcome(_unknown(id_, path))


def _unknown(id_: str, path: Location) -> str:
    return f"id {id_!r} is not in the decision log {path}, so it cannot be labelled"
