"""What HTTP endpoints show of a log: plain dicts of JSON values, read only. None is what is not known."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import numpy as np

from bisupervised.decision_log.audits import count_audits
from bisupervised.decision_log.database import Location, connect_to_read, log_errors, log_path, snapshot
from bisupervised.decision_log.losses import count_losses
from bisupervised.decision_log.period import Period
from bisupervised.decision_log.rows import COLUMNS
from bisupervised.decision_log.values import decode_value
from bisupervised.errors import InputError, UnknownOutcome
from bisupervised.records import FloatArray, Route
from bisupervised.table import written

#: Rows of one page, at most.
MOST_ROWS: Final = 1_000

_VALUES: Final = ("answer", "local_prediction", "remote_prediction", "label")
_FLAGS: Final = ("remote_asked", "streamed")
_LISTED: Final = ("seq", "label", "attempts", "earlier_cost", *(name for name in COLUMNS if name != "input"))
_FETCH_ROWS: Final = 4_096

# ---------------------------------------------------------------- outcomes


def outcomes(
    path: Location,
    *,
    since: float | datetime | None = None,
    until: float | datetime | None = None,
    cascade: str | None = None,
    route: str | None = None,
    key: str | None = None,
    limit: int = 100,
    after_seq: int | None = None,
) -> dict[str, Any]:
    """One page of rows, the newest first: `{"outcomes": [...], "after_seq": cursor of the next page or None}`.

    `since <= time < until`, Unix seconds or datetimes with a time zone. The rows have the log's columns, without
    the stored input (see `outcome`). Raises `InputError` for a limit that is not 1 to 1000, or an unknown route.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise InputError(f"limit is a number of rows from 1 to {MOST_ROWS}, not {limit}")
    routes = [known.label for known in Route]
    if route is not None and route not in routes:
        raise InputError(f"route is {', '.join(routes)}; not {route!r}")
    period = Period(since, until, cascade=cascade, route=route, key=key)
    parameters: dict[str, Any] = {**period.parameters, "limit": limit}
    file = log_path(path)
    with log_errors(file), closing(connect_to_read(file)) as connection:
        older = []
        if after_seq is not None:
            older = ["time <= :last", "(time < :last OR seq < :after)"]
            parameters |= {"last": _time_of(connection, after_seq), "after": after_seq}
        found = connection.execute(
            f"SELECT {', '.join(_LISTED)} FROM decisions {period.where_also(*older)} "
            f"ORDER BY time DESC, seq DESC LIMIT :limit",
            parameters,
        ).fetchall()
    rows = [_as_dict(_LISTED, cells) for cells in found]
    return {"outcomes": rows, "after_seq": rows[-1]["seq"] if len(rows) == limit else None}


def _time_of(connection: sqlite3.Connection, seq: int) -> float:
    found = connection.execute("SELECT time FROM decisions WHERE seq = ?", (seq,)).fetchone()
    if found is None:
        raise InputError(f"there is no row {seq} to go on after; begin again without after_seq")
    return float(found[0])


def outcome(path: Location, id_: str) -> dict[str, Any]:
    """One row, with its input if that is stored. Raises `UnknownOutcome` when the id is not in the log."""
    names = (*_LISTED, "input")
    file = log_path(path)
    with log_errors(file), closing(connect_to_read(file)) as connection:
        cells = connection.execute(f"SELECT {', '.join(names)} FROM decisions WHERE id = ?", (id_,)).fetchone()
    if cells is None:
        raise UnknownOutcome(f"id {id_!r} is not in the decision log {file}")
    row = _as_dict(names, cells)
    row["input"] = None if row["input"] is None else _json_safe(json.loads(row["input"]))
    return row


def _as_dict(names: tuple[str, ...], cells: tuple[Any, ...]) -> dict[str, Any]:
    row = dict(zip(names, cells, strict=True))
    for name in _VALUES:
        row[name] = decode_value(row[name])
    for name in _FLAGS:
        row[name] = None if row[name] is None else bool(row[name])
    return {name: _json_safe(value) for name, value in row.items()}


def _json_safe(value: Any) -> Any:
    """JSON knows no NaN, and no infinities either."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_json_safe(item) for item in value]
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    return value


# ---------------------------------------------------------------- figures


def stats(
    path: Location,
    *,
    since: float | datetime | None = None,
    until: float | datetime | None = None,
    cascade: str | None = None,
) -> dict[str, Any]:
    """Figures of a period, of one cascade or of all: one snapshot of the log.

    - `requests`; counts by `routes`, `served`, `modes`, `statuses` and `unscorable` (why none could score it);
    - `request_rate` and `coverage`, in [0, 1]; `remote_calls` that a verdict caused, and `extra_remote_calls`, which
      none did;
    - `cost` in currency units: the known parts (`local`, `remote`, `extra`, `earlier` attempts) and their sum
      (`known`), how many requests have parts that are not known, the `bound` of those, which is None when that is
      not known either;
    - `tokens`: known sums;
    - `latency_s`: `local`, `remote`, `total` and `first_token`, each with n, p50, p95 and p99;
    - `labels`: how many rows have one; of the accepted ones, how many can be compared with their label, how many of
      those are correct, and the `supervised_accuracy`, their share;
    - `audits`: counts (see `Agreement`); `losses`: of the whole log (see `Losses`).
    """
    period = Period(since, until, cascade=cascade)
    file = log_path(path)
    with log_errors(file), closing(connect_to_read(file)) as connection, snapshot(connection):
        return {
            **_counts(connection, period),
            **_sums(connection, period),
            "latency_s": _latencies(connection, period),
            "labels": _labelled(connection, period),
            "audits": asdict(count_audits(connection, period)),
            "losses": asdict(count_losses(connection)),
        }


_GROUPED: Final = {
    "routes": "route",
    "served": "served",
    "modes": "mode",
    "statuses": "status",
    "unscorable": "unscorable",
}


def _counts(connection: sqlite3.Connection, period: Period) -> dict[str, Any]:
    columns = ", ".join(_GROUPED.values())
    groups = connection.execute(
        f"SELECT {columns}, count(*) FROM decisions {period.where} GROUP BY {columns}", period.parameters
    ).fetchall()
    counts: dict[str, Counter[str]] = {name: Counter() for name in _GROUPED}
    for *values, n in groups:
        for name, value in zip(_GROUPED, values, strict=True):
            if value is not None:
                counts[name][str(value)] += n
    requests = sum(group[-1] for group in groups)
    rejected = counts["routes"][Route.REJECTED.label]
    return {
        "requests": requests,
        **{name: dict(sorted(count.items())) for name, count in counts.items()},
        "coverage": _share(requests - rejected, requests),
    }


_TOKENS: Final = (
    "local_prompt_tokens",
    "local_completion_tokens",
    "remote_prompt_tokens",
    "remote_completion_tokens",
)
# A remote model that was not asked cost nothing, and so did what only a gateway does, in the rows of others.
_REMOTE_COST: Final = "CASE WHEN remote_asked THEN remote_cost ELSE 0.0 END"
_EXTRA_COST: Final = "CASE WHEN sequence IS NULL THEN 0.0 ELSE extra_cost END"
_NOT_KNOWN: Final = f"(local_cost + {_REMOTE_COST} + {_EXTRA_COST} + earlier_cost) IS NULL"


def _sums(connection: sqlite3.Connection, period: Period) -> dict[str, Any]:
    sums = {
        "n": "count(*)",
        # In observe mode the remote model is asked about what is trusted locally too: that is an extra call.
        "remote_calls": (
            "sum(remote_asked AND reason <> 'abstained' AND (route <> 'local' OR deferred_because IS NOT NULL))"
        ),
        "extra_remote_calls": "sum(extra_remote_calls)",
        "local": "sum(local_cost)",
        "remote": f"sum({_REMOTE_COST})",
        "extra": f"sum({_EXTRA_COST})",
        "earlier": "sum(earlier_cost)",
        "not_known": f"sum({_NOT_KNOWN})",
        "bound": f"sum(CASE WHEN {_NOT_KNOWN} THEN cost_bound END)",
        "no_bound": f"sum({_NOT_KNOWN} AND cost_bound IS NULL)",
        **{name: f"sum({name})" for name in _TOKENS},
    }
    cells = connection.execute(
        f"SELECT {', '.join(sums.values())} FROM decisions {period.where}", period.parameters
    ).fetchone()
    found = {name: cell or 0 for name, cell in zip(sums, cells, strict=True)}
    parts = {name: float(found[name]) for name in ("local", "remote", "extra", "earlier")}
    return {
        "request_rate": _share(found["remote_calls"], found["n"]),
        "remote_calls": found["remote_calls"],
        "extra_remote_calls": found["extra_remote_calls"],
        "cost": {
            **parts,
            "known": sum(parts.values()),
            "not_known": found["not_known"],
            "bound": None if found["no_bound"] else float(found["bound"]),
        },
        "tokens": {name.removesuffix("_tokens"): found[name] for name in _TOKENS},
    }


_LATENCIES: Final = {
    "local": "local_latency_s",
    "remote": "remote_latency_s",
    "total": "total_s",
    "first_token": "first_token_s",
}


def _latencies(connection: sqlite3.Connection, period: Period) -> dict[str, Any]:
    cursor = connection.execute(
        f"SELECT {', '.join(_LATENCIES.values())} FROM decisions {period.where}", period.parameters
    )
    parts: list[FloatArray] = [np.empty((0, len(_LATENCIES)))]
    while rows := cursor.fetchmany(_FETCH_ROWS):
        parts.append(np.array(rows, dtype=np.float64))
    columns = np.concatenate(parts).T
    return {name: _quantiles(column[np.isfinite(column)]) for name, column in zip(_LATENCIES, columns, strict=True)}


def _quantiles(seconds: FloatArray) -> dict[str, Any]:
    values = np.quantile(seconds, (0.5, 0.95, 0.99)).tolist() if len(seconds) else [None] * 3
    return {"n": len(seconds), **dict(zip(("p50", "p95", "p99"), values, strict=True))}


def _labelled(connection: sqlite3.Connection, period: Period) -> dict[str, Any]:
    rows = connection.execute(
        f"SELECT route, answer, label FROM decisions {period.where_also('label IS NOT NULL')}", period.parameters
    ).fetchall()
    accepted = [row for row in rows if row[0] != Route.REJECTED.label]
    pairs = [(decode_value(answer), decode_value(label)) for _, answer, label in accepted]
    # Lists and mappings have no one spelling, and an answer may not be stored.
    pairs = [pair for pair in pairs if all(isinstance(value, str | int | float) for value in pair)]
    correct = sum(written(answer) == written(label) for answer, label in pairs)
    return {
        "labelled": len(rows),
        "accepted": len(accepted),
        "compared": len(pairs),
        "correct": correct,
        "supervised_accuracy": _share(correct, len(pairs)),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
