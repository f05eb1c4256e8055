"""A decision log as the one table."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Final

import numpy as np

from bisupervised.decision_log.database import Location, connect_to_read, log_errors, log_path
from bisupervised.decision_log.period import Period
from bisupervised.decision_log.rows import DETAILS
from bisupervised.decision_log.values import Cell, decode_value
from bisupervised.errors import InputError
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName, LevelRows
from bisupervised.table import Table

#: Rows fetched at a time: few enough that their Python objects stay in the processor's cache.
_FETCH_ROWS: Final = 4_096

Reader = Callable[[Sequence[Cell]], AnyArray]


def _floats(cells: Sequence[Cell]) -> FloatArray:
    return np.array(cells, dtype=np.float64)  # NumPy reads None as NaN


def _integers(cells: Sequence[Cell]) -> AnyArray:
    return np.array(cells, dtype=np.int64)


def _flags(cells: Sequence[Cell]) -> AnyArray:
    return np.array(cells, dtype=np.bool_)


def _objects(cells: Sequence[Cell]) -> AnyArray:
    return np.fromiter(cells, dtype=object, count=len(cells))


def _names(cells: Sequence[Cell]) -> AnyArray:
    """Text of a few different values: one string object for each, not one for each row."""
    shared = {cell: cell for cell in set(cells)}
    return np.fromiter(map(shared.__getitem__, cells), dtype=object, count=len(cells))


def _values(cells: Sequence[Cell]) -> AnyArray:
    if bytes not in set(map(type, cells)):
        return _objects(cells)
    return np.fromiter(map(decode_value, cells), dtype=object, count=len(cells))


def _flags_or_none(cells: Sequence[Cell]) -> AnyArray:
    return _objects([None if cell is None else bool(cell) for cell in cells])


def _inputs(cells: Sequence[Cell]) -> AnyArray:
    inputs = (json.loads(cell) if isinstance(cell, str) else None for cell in cells)
    return np.fromiter(inputs, dtype=object, count=len(cells))


_LEVEL_READERS: Final[dict[str, Reader]] = {
    "prediction": _values,
    "confidence": _floats,
    "latency_s": _floats,
    "supervisor_s": _floats,
    "cost": _floats,
    "error": _objects,
}
#: What the log has beside the table's own columns.
_EXTRA_READERS: Final[dict[str, Reader]] = {
    "seq": _integers,
    "time": _floats,
    "route": _names,
    "reason": _names,
    "deferred_because": _names,
    "answer": _values,
    "pair_confidence": _floats,
    "learned_confidence": _floats,
    "fallback": _names,
    "fallback_s": _floats,
    "fallback_error": _objects,
    "input_hash": _objects,
    "input": _inputs,
    "thresholds_id": _names,
    "attempts": _integers,
    "earlier_cost": _floats,
}
#: What only a gateway's rows have; whole numbers are floats here, NaN in the rows of others.
_DETAIL_READERS: Final[dict[str, Reader]] = {
    **dict.fromkeys(DETAILS, _floats),
    **dict.fromkeys(("cascade", "mode", "served", "key", "unscorable"), _names),
    "streamed": _flags_or_none,
}
_READERS: Final[dict[str, Reader]] = {
    "id": _objects,
    "label": _values,
    "remote_asked": _flags,
    **{f"{level}_{name}": reader for level in LevelName for name, reader in _LEVEL_READERS.items()},
    **_EXTRA_READERS,
}


def read_log(
    path: Location,
    *,
    since: float | datetime | None = None,
    until: float | datetime | None = None,
    limit: int | None = None,
) -> Table:
    """The rows of a decision log, in the order in which their inputs came (`seq`); possibly none.

    `path` is a path, `sqlite:///relative.db` or `sqlite:////absolute.db`. `since` and `until` are Unix seconds or
    datetimes with a time zone, `since <= time < until`; `limit` keeps the newest rows. Reads what is committed
    when it starts, while others write; it changes nothing. The log's further columns are extras of the table:
    `seq`, `time`, `route`, `reason`, `answer`, …, `attempts` (above 1 for an input that once waited) and
    `earlier_cost` (spent on attempts before the last; NaN: not known); in a log that a gateway has written to,
    those of `Details` too (None and NaN in the rows of others).
    Raises `LogError` when there is no log, `LogSchemaError` when the file is not one.
    """
    file = log_path(path)
    period = Period(since, until)
    if limit is not None and limit < 0:
        raise InputError(f"limit is a number of rows, not {limit}")
    with log_errors(file), closing(connect_to_read(file)) as connection:
        readers = {**_READERS, **(_DETAIL_READERS if _has_details(connection) else {})}
        chunks: list[list[AnyArray]] = [[reader(())] for reader in readers.values()]
        cursor = connection.execute(_select(readers, period, limit), period.parameters)
        while rows := cursor.fetchmany(_FETCH_ROWS):
            for parts, reader, cells in zip(chunks, readers.values(), zip(*rows, strict=True), strict=True):
                parts.append(reader(cells))
    return _table(dict(zip(readers, map(np.concatenate, chunks), strict=True)))


def _has_details(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM decisions WHERE sequence IS NOT NULL LIMIT 1").fetchone() is not None


def _select(names: Iterable[str], period: Period, limit: int | None) -> str:
    sql = f"SELECT {', '.join(names)} FROM decisions {period.where}"
    if limit is not None:
        sql = f"SELECT * FROM ({sql} ORDER BY seq DESC LIMIT {limit:d})"
    return f"{sql} ORDER BY seq"


def _table(columns: dict[str, AnyArray]) -> Table:
    remote_asked = columns["remote_asked"]
    return Table(
        ids=columns["id"],
        labels=columns["label"],
        local=_level_rows(LevelName.LOCAL, columns, _local_asked(columns)),
        remote=_level_rows(LevelName.REMOTE, columns, remote_asked),
        extra={name: columns[name] for name in (*_EXTRA_READERS, *_DETAIL_READERS) if name in columns},
    )


def _local_asked(columns: dict[str, AnyArray]) -> BoolArray:
    """A gateway may ask the remote model alone: its rows then say nothing at all about the local one."""
    if "sequence" not in columns:
        return np.ones(len(columns["id"]), dtype=np.bool_)
    silent = np.isnan(columns["local_confidence"]) & np.isnan(columns["local_latency_s"])
    silent &= np.array([error is None for error in columns["local_error"]], dtype=np.bool_)
    return ~(silent & ~np.isnan(columns["sequence"]))


def _level_rows(name: LevelName, columns: dict[str, Any], asked: BoolArray) -> LevelRows:
    return LevelRows(
        predictions=columns[f"{name}_prediction"],
        confidences=columns[f"{name}_confidence"],
        asked=asked,
        latency_s=columns[f"{name}_latency_s"],
        supervisor_s=columns[f"{name}_supervisor_s"],
        cost=np.where(asked, columns[f"{name}_cost"], 0.0),
        errors=columns[f"{name}_error"],
    )
