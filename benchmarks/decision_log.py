"""How fast the decision log takes outcomes, what a gateway's other books cost, and how quickly a log is read.

python benchmarks/decision_log.py [rows]
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time, sleep

import numpy as np

from bisupervised.decision_log import (
    DecisionLog,
    Details,
    Ledger,
    Sequences,
    new_id,
    outcomes,
    read_log,
    stats,
)
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


def requests(outcomes: list[Outcome], first: int) -> list[tuple[Outcome, Details]]:
    """What a gateway hands over: ids that rise with time, and its own columns."""
    return [
        (
            replace(outcome, id=new_id()),
            Details(
                sequence=first + row,
                cascade="support",
                mode="enforce",
                served=outcome.route.label,
                status=200,
                thresholds_id="5f1c2d3e",
                key="team-a",
                total_s=0.0123 + row * 1e-9,
                local_prompt_tokens=120.0,
                local_completion_tokens=20.0,
            ),
        )
        for row, outcome in enumerate(outcomes)
    ]


def as_a_gateway(path: Path, outcomes: list[Outcome], rows: int) -> list[float]:
    """Rows per second of each block of requests, written one by one, as the file grows to `rows`."""
    rates = []
    with DecisionLog(path) as log:
        for first in range(1, rows + 1, len(outcomes)):
            block = requests(outcomes, first)
            gc.freeze()  # as a gateway does: what is there already is not looked through again and again
            start = perf_counter()
            for outcome, details in block:
                log.write([outcome], [TEXT], [details])
            log.flush()
            rates.append(len(block) / (perf_counter() - start))
    return rates


def cost_of_a_call(path: Path, outcomes: list[Outcome], pause_s: float) -> list[float]:
    """Seconds that each `write` of one outcome takes its caller, at about 1 / pause_s calls per second."""
    seconds = []
    with DecisionLog(path) as log:
        for outcome, details in requests(outcomes, 1):
            start = perf_counter()
            log.write([outcome], [TEXT], [details])
            seconds.append(perf_counter() - start)
            if pause_s:
                sleep(pause_s)
    return seconds


def cost_of_the_books(path: Path, n: int = 100_000) -> dict[str, float]:
    """Seconds of processor time for each number, and for setting money aside in three scopes and settling it."""
    scopes = ("total", "key:team-a", "cascade:support")
    with Sequences(path, process="a") as numbers, Ledger(path, {"total": 1e6}, process="a") as money:
        asyncio.run(money.areserve(scopes, 1_000.0)).settle(0.0)
        calls: dict[str, Callable[[], object]] = {
            "new_id": new_id,
            "Sequences.take": numbers.take,
            "Ledger.reserve and settle": lambda: money.reserve(scopes, 0.01).settle(0.001),
        }
        seconds = {}
        for name, call in calls.items():
            start = process_time()
            for _ in range(n):
                call()
            seconds[name] = (process_time() - start) / n
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
        rates = as_a_gateway(Path(folder, "gateway.db"), singles, rows)
        print(
            f"write(1 outcome with details, rising id): {statistics.harmonic_mean(rates):,.0f} rows/s; "
            f"first {len(singles):,} rows {rates[0]:,.0f}, last {rates[-1]:,.0f}"
        )
        for pause_s, n in ((0.0, 5_000), (0.0005, 5_000)):
            seconds = cost_of_a_call(Path(folder, f"pause{pause_s}.db"), singles[:n], pause_s)
            median, p99 = statistics.median(seconds) * 1e6, float(np.quantile(seconds, 0.99)) * 1e6
            mean = statistics.fmean(seconds) * 1e6
            print(f"cost of a call, pause {pause_s} s: median {median:.1f} µs, mean {mean:.1f} µs, 99 % {p99:.1f} µs")
        for name, per_call in cost_of_the_books(Path(folder, "books.db")).items():
            print(f"{name}: {per_call * 1e6:.2f} µs")
        start = perf_counter()
        table = read_log(Path(folder, "batches.db"))
        print(f"read_log: {len(table) / (perf_counter() - start):,.0f} rows/s")
        newest = outcomes(Path(folder, "gateway.db"), limit=1)["outcomes"][0]["time"]
        for name, query in (
            ("outcomes, a page of 100", lambda path: outcomes(path)),
            ("stats of the last second", lambda path: stats(path, since=newest - 1.0)),
            ("stats of all rows", stats),
        ):
            start = perf_counter()
            found = query(Path(folder, "gateway.db"))
            print(f"{name} ({found.get('requests', 100):,} rows): {(perf_counter() - start) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
