"""How fast the decision log takes outcomes, and how quickly a log reads as a table.

python benchmarks/decision_log.py [rows]
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import uuid
from pathlib import Path
from time import perf_counter, process_time, sleep

import numpy as np

from bisupervised.decision_log import DecisionLog, read_log
from bisupervised.records import LevelRows, Outcome, Outcomes, Reason

TEXT = "The plot is thin, the actors try, and the last half hour almost makes up for it. " * 3


def batch_of(n: int, seed: int) -> Outcomes:
    """n outcomes as `predict_many` makes them, a third of them answered by the remote model."""
    rng = np.random.default_rng(seed)
    asked = rng.random(n) < 1 / 3
    floats = {name: rng.random(n) for name in ("confidences", "latency_s", "supervisor_s", "cost")}
    local = LevelRows(rng.integers(0, 9, n).astype(object), asked=np.ones(n, bool), errors=np.full(n, None), **floats)
    remote = LevelRows.empty(n)
    remote.predictions[asked] = local.predictions[asked]
    for name, column in floats.items():
        getattr(remote, name)[asked] = column[asked]
    remote.asked[:] = asked
    return Outcomes(
        ids=[uuid.uuid4().hex for _ in range(n)],
        routes=asked.astype(np.uint8),
        answers=local.predictions,
        reasons=[Reason.TRUSTED] * n,
        deferred_because=[Reason.NOT_TRUSTED if deferred else None for deferred in asked],
        local=local,
        remote=remote,
        fallbacks=[None] * n,
        fallback_s=np.zeros(n),
        fallback_errors=[None] * n,
    )


def in_batches(path: Path, batches: list[Outcomes]) -> tuple[float, float]:
    """Rows per second of wall-clock and of processor time, from the first write until all is committed."""
    n = sum(map(len, batches))
    inputs = [[f"{row} {TEXT}" for row in range(len(batch))] for batch in batches]
    with DecisionLog(path) as log:
        start, start_cpu = perf_counter(), process_time()
        for batch, xs in zip(batches, inputs, strict=True):
            log.write(batch, xs)
        log.flush()
        return n / (perf_counter() - start), n / (process_time() - start_cpu)


def one_by_one(path: Path, outcomes: list[Outcome]) -> float:
    """Rows per second when every row is a call of its own, as fast as one thread can make them."""
    with DecisionLog(path) as log:
        start = perf_counter()
        for outcome in outcomes:
            log.write([outcome], [TEXT])
        log.flush()
        return len(outcomes) / (perf_counter() - start)


def cost_of_a_call(path: Path, outcomes: list[Outcome], pause_s: float) -> list[float]:
    """Seconds that each `write([outcome], [x])` takes its caller, at about 1 / pause_s calls per second."""
    seconds = []
    with DecisionLog(path) as log:
        for outcome in outcomes:
            start = perf_counter()
            log.write([outcome], [TEXT])
            seconds.append(perf_counter() - start)
            if pause_s:
                sleep(pause_s)
    return seconds


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {rows:,} rows")
    with tempfile.TemporaryDirectory() as folder:
        batches = [batch_of(256, seed) for seed in range(rows // 256)]
        wall, cpu = in_batches(Path(folder, "batches.db"), batches)
        size = Path(folder, "batches.db").stat().st_size / (len(batches) * 256)
        print(
            f"write(256 outcomes): {wall:,.0f} rows/s, {cpu:,.0f} rows per second of processor time; {size:.0f} B/row"
        )
        singles = [outcome for batch in batches[:80] for outcome in batch]
        rate = one_by_one(Path(folder, "singles.db"), singles)
        print(f"write(1 outcome), one thread without pause: {rate:,.0f} rows/s")
        for pause_s, n in ((0.0, 5_000), (0.0005, 5_000)):
            seconds = cost_of_a_call(Path(folder, f"pause{pause_s}.db"), singles[:n], pause_s)
            median, p99 = statistics.median(seconds) * 1e6, float(np.quantile(seconds, 0.99)) * 1e6
            mean = statistics.fmean(seconds) * 1e6
            print(f"cost of a call, pause {pause_s} s: median {median:.1f} µs, mean {mean:.1f} µs, 99 % {p99:.1f} µs")
        start = perf_counter()
        table = read_log(Path(folder, "batches.db"))
        print(f"read_log: {len(table) / (perf_counter() - start):,.0f} rows/s")


if __name__ == "__main__":
    main()
