"""A decision log as the one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Final

import numpy as np

from bisupervised.decision_log.database import Location, connect_to_read, log_errors, log_path
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
    "fallback": _names,
    "fallback_s": _floats,
    "fallback_error": _objects,
    "input_hash": _objects,
    "input": _inputs,
    "thresholds_id": _names,
    "attempts": _integers,
    "earlier_cost": _floats,
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
    `earlier_cost` (spent on attempts before the last; NaN: not known).
    Raises `LogError` when there is no log, `LogSchemaError` when the file is not one.
    """
    file = log_path(path)
    sql, parameters = _select(_seconds(since), _seconds(until), limit)
    chunks: list[list[AnyArray]] = [[reader(())] for reader in _READERS.values()]
    with log_errors(file), closing(connect_to_read(file)) as connection:
        cursor = connection.execute(sql, parameters)
        while rows := cursor.fetchmany(_FETCH_ROWS):
            for parts, reader, cells in zip(chunks, _READERS.values(), zip(*rows, strict=True), strict=True):
                parts.append(reader(cells))
    return _table(dict(zip(_READERS, map(np.concatenate, chunks), strict=True)))


def _select(since: float | None, until: float | None, limit: int | None) -> tuple[str, dict[str, float]]:
    wanted = {"since": since, "until": until, "limit": limit}
    if limit is not None and limit < 0:
        raise InputError(f"limit is a number of rows, not {limit}")
    conditions = [
        condition for condition, bound in (("time >= :since", since), ("time < :until", until)) if bound is not None
    ]
    sql = f"SELECT {', '.join(_READERS)} FROM decisions"
    if conditions:
        sql += f" WHERE {' AND '.join(conditions)}"
    if limit is not None:
        sql = f"SELECT * FROM ({sql} ORDER BY seq DESC LIMIT :limit)"
    return f"{sql} ORDER BY seq", {name: bound for name, bound in wanted.items() if bound is not None}


def _seconds(moment: float | datetime | None) -> float | None:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise InputError(f"{moment.isoformat()} has no time zone; add one, such as datetime.timezone.utc")
    return moment.timestamp()


def _table(columns: dict[str, AnyArray]) -> Table:
    remote_asked = columns["remote_asked"]
    return Table(
        ids=columns["id"],
        labels=columns["label"],
        local=_level_rows(LevelName.LOCAL, columns, np.ones(len(remote_asked), dtype=np.bool_)),
        remote=_level_rows(LevelName.REMOTE, columns, remote_asked),
        extra={name: columns[name] for name in _EXTRA_READERS},
    )


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
