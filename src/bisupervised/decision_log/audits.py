"""Audits: locally accepted inputs that were also sent to the remote model, to see how often the two agree."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from bisupervised.decision_log.database import Location, connect_to_read, log_errors, log_path, transaction
from bisupervised.decision_log.period import Period
from bisupervised.decision_log.values import NULL, encode_number, encode_text, encode_value
from bisupervised.records import FloatArray

NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of one audit. Write it with `DecisionLog.write_audit`."""

    id: str  #: of the audited outcome
    cascade: str
    remote_prediction: Any  #: None: there is none, or predictions are not stored
    agrees: bool | None  #: whether both models said the same; None: it failed, or the two cannot be compared
    cost: float = NAN  #: currency units; NaN: not known
    cost_bound: float = 0.0  #: the most that a cost that is not known may be; 0: it is known
    latency_s: float = NAN
    error: str | None = None  #: `kind: message` when the remote model gave no usable output


class ComparedAudits(NamedTuple):
    """Audits that compare both models, in the order of their time."""

    ids: list[str]  #: (n,) of the audited outcomes
    times: FloatArray  #: (n,) when they ended, Unix seconds, ascending
    agrees: FloatArray  #: (n,) 1 or 0


class AuditEntry(NamedTuple):
    """An audit on its way to the file."""

    time: float  #: Unix seconds
    audit: Audit


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of audits: an estimate of how often both models agree, and not of risk, since the remote errs too."""

    audits: int  #: all of them
    compared: int  #: of those, where agreement is known
    agreeing: int  #: of those that were compared
    failed: int  #: of all, where the remote model gave no usable output
    cost: float  #: the known part
    cost_not_known: int  #: audits whose cost is not known
    cost_bound: float  #: the most that those may have cost


def store_audits(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Store audits in one transaction. One that is there already is replaced: it is written again after an error."""
    with transaction(connection):
        connection.executemany(
            "INSERT INTO audits (id, time, cascade, remote_prediction, agrees, cost, cost_bound, latency_s, error) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "time = excluded.time, cascade = excluded.cascade, remote_prediction = excluded.remote_prediction, "
            "agrees = excluded.agrees, cost = excluded.cost, cost_bound = excluded.cost_bound, "
            "latency_s = excluded.latency_s, error = excluded.error",
            map(_row, entries),
        )


def _row(entry: AuditEntry) -> tuple[Any, ...]:
    audit = entry.audit
    return (
        encode_text(audit.id),
        entry.time,
        encode_text(audit.cascade),
        encode_value(audit.remote_prediction),
        NULL if audit.agrees is None else int(audit.agrees),
        encode_number(audit.cost),
        encode_number(audit.cost_bound),
        encode_number(audit.latency_s),
        encode_text(audit.error),
    )


def agreement(
    path: Location,
    *,
    since: float | datetime | None = None,
    until: float | datetime | None = None,
    cascade: str | None = None,
) -> Agreement:
    """Counts of the audits of a period (as in `read_log`), of one cascade or of all."""
    file = log_path(path)
    period = Period(since, until, cascade=cascade)
    with log_errors(file), closing(connect_to_read(file)) as connection:
        return count_audits(connection, period)


def read_audits(
    path: Location,
    *,
    since: float | datetime | None = None,
    until: float | datetime | None = None,
    cascade: str | None = None,
) -> ComparedAudits:
    """The audits that compare both models, of a period (as in `read_log`), of one cascade or of all."""
    file = log_path(path)
    period = Period(since, until, cascade=cascade)
    with log_errors(file), closing(connect_to_read(file)) as connection:
        rows = connection.execute(
            f"SELECT id, time, agrees FROM audits {period.where_also('agrees IS NOT NULL')} ORDER BY time, id",
            period.parameters,
        ).fetchall()
    numbers = np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), 2)
    return ComparedAudits([str(row[0]) for row in rows], numbers[:, 0], numbers[:, 1])


def count_audits(connection: sqlite3.Connection, period: Period) -> Agreement:
    """`agreement` on an open connection."""
    row = connection.execute(
        "SELECT count(*), count(agrees), coalesce(sum(agrees), 0), count(error), coalesce(sum(cost), 0.0), "
        "count(*) - count(cost), coalesce(sum(CASE WHEN cost IS NULL THEN cost_bound END), 0.0) "
        f"FROM audits {period.where}",
        period.parameters,
    ).fetchone()
    return Agreement(*row)
