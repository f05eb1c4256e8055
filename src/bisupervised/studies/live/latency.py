"""How long an answer takes: measured, where it breaks even, and what it would be at other remote latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bisupervised.evaluation.intervals import Estimate
from bisupervised.evaluation.system import break_even_rate, latency_of
from bisupervised.records import BoolArray, FloatArray, IntArray
from bisupervised.studies.live.claims import mean_estimate
from bisupervised.table import Table

#: Seconds: a server in the house, a hosted model, a large hosted model. Stated, not measured.
STATED: Final = (0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class StatedLatency:
    """Mean seconds where a request took so long: computed from the measured local latency and request rate."""

    remote_s: float  #: stated
    system_s: float
    faster: bool


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Seconds per input, supervisors included; processor seconds per input. NaN: not known."""

    local_s: Estimate
    remote_s: Estimate  #: which is remote-only's
    system_s: Estimate
    saved_s: Estimate  #: remote-only minus system, paired
    request_rate: float
    break_even_remote_s: float  #: the system is faster where the remote model takes longer; inf: never
    break_even_request_rate: float  #: the system is faster below it; negative: never
    stated: Sequence[StatedLatency]
    local_cpu_s: float
    remote_cpu_s: float
    system_cpu_s: float


def latency_figures(table: Table, deferred: BoolArray, clusters: IntArray | None = None) -> LatencyFigures:
    """The figures of n rows of which these are deferred."""
    local, remote = latency_of(table.local), latency_of(table.remote)
    system = np.where(deferred, local + remote, local)
    rate, local_mean = float(np.mean(deferred)), float(np.mean(local))
    cpu = {level: _cpu(table, level) for level in ("local", "remote")}

    def mean(values: FloatArray) -> Estimate:
        return mean_estimate(values, clusters, bounded=False)

    return LatencyFigures(
        local_s=mean(local),
        remote_s=mean(remote),
        system_s=mean(system),
        saved_s=mean(remote - system),
        request_rate=rate,
        break_even_remote_s=local_mean / (1.0 - rate) if rate < 1.0 else math.inf,
        break_even_request_rate=break_even_rate(local, remote),
        stated=[StatedLatency(s, local_mean + rate * s, local_mean + rate * s < s) for s in STATED],
        local_cpu_s=float(np.mean(cpu["local"])),
        remote_cpu_s=float(np.mean(cpu["remote"])),
        system_cpu_s=float(np.mean(cpu["local"] + np.where(deferred, cpu["remote"], 0.0))),
    )


def saved_seconds(table: Table, deferred: BoolArray) -> FloatArray:
    """(n,) by how much the system is faster than remote-only."""
    local, remote = latency_of(table.local), latency_of(table.remote)
    return remote - np.where(deferred, local + remote, local)


def _cpu(table: Table, level: str) -> FloatArray:
    column = table.extra.get(f"{level}_cpu_s")
    return np.full(len(table), np.nan) if column is None else np.asarray(column, dtype=np.float64)
