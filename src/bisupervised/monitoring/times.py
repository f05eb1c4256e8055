"""When the rows came: their `time` column as Unix seconds, or why it cannot be read."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import FloatArray
from bisupervised.table import Table, is_missing_cell

Moment: TypeAlias = float | str | datetime
#: Years 1 to 9999: what a date can be made of. Milliseconds taken for seconds lie beyond.
_FIRST: Final = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST: Final = datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp()


class Times(NamedTuple):
    """Unix seconds of every row, or the reason why there are none."""

    seconds: FloatArray | None  #: (n,) finite; None: not known of every row
    problem: str  #: the beginning of a sentence; empty where times are known, and where there is no such column


def times_of(table: Table) -> Times:
    """The times of a table: Unix seconds, ISO 8601 (without a time zone: UTC) or a column of dates."""
    if "time" not in table.extra:
        return Times(None, "")
    column = np.asarray(table.extra["time"])
    if column.dtype.kind == "M":
        seconds = column.astype("datetime64[us]").astype(np.int64) / 1e6
        column = np.where(np.isnat(column), np.nan, seconds)
    if column.dtype.kind in "fiu":
        values = column.astype(np.float64)
        bad = np.isfinite(values) & ~((values >= _FIRST) & (values <= _LAST))
        first = int(np.argmax(bad)) if bad.any() else None
    else:
        values, first = _parsed(column)
    if first is not None:
        return Times(
            None, f"the time {str(table.extra['time'][first])!r} of row {first + 1} cannot be read ({_KINDS})"
        )
    lacking = int((~np.isfinite(values)).sum())
    return Times(None, f"{lacking:,} of {len(values):,} rows have no time") if lacking else Times(values, "")


def _parsed(column: Any) -> tuple[FloatArray, int | None]:
    """Seconds of each cell, NaN where it is empty; and the first row that cannot be read."""
    values = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        if is_missing_cell(cell):
            continue
        try:
            values[row] = seconds_of(cell)
        except InputError:
            return values, row
    return values, None


_KINDS: Final = "it is neither ISO 8601, as in 2026-03-01T12:00:00Z, nor Unix seconds"


def seconds_of(moment: Any) -> float:
    """Unix seconds of a number, of ISO 8601 or of a datetime; without a time zone they are UTC.

    >>> seconds_of("1970-01-02T00:00:00Z"), seconds_of("1970-01-02"), seconds_of("86400"), seconds_of(86400)
    (86400.0, 86400.0, 86400.0, 86400.0)
    """
    read = _read(moment.strip()) if isinstance(moment, str) else moment
    if isinstance(read, np.datetime64):
        read = read.astype("datetime64[us]").item()
    try:
        if isinstance(read, datetime):
            read = (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
        seconds = math.nan if read is None or isinstance(read, bool | np.bool_ | str) else float(read)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not _FIRST <= seconds <= _LAST:
        raise InputError(f"{moment!r} is no time: {_KINDS}")
    return seconds


def _read(text: str) -> Any:
    for read in (float, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def written_time(seconds: float) -> str:
    """For people: in UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
