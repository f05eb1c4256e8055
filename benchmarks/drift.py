"""How long `drift` takes, how often it rings by chance, and how soon it finds a change.

    python benchmarks/drift.py            # about 5 minutes on one core
    python benchmarks/drift.py --repeats 200 --rows 100000
    python benchmarks/drift.py --chosen --repeats 300

By chance: calibration rows and traffic from one source; at alpha = 0.1 the alarm may ring in 10 % of the runs (3
standard errors allowed), at any of the rows. A change: at alpha = 0.01, after 2,000 rows of unchanged traffic.
`--chosen`: which questions ring by chance more often than their level where the calibration rows that they compare
with chose the thresholds, so that `drift` leaves them out.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from bisupervised.assessment import calibrate  # noqa: E402
from bisupervised.calibration import (  # noqa: E402
    LowestCost,
    RemoteEven,
    RequestBudget,
    Thresholds,
    WithinLimits,
)
from bisupervised.errors import InfeasibleTarget  # noqa: E402
from bisupervised.monitoring import (  # noqa: E402
    Bins,
    ExchangeabilityMartingale,
    Share,
    drift,
    reference_of,
)
from bisupervised.monitoring.findings import NAMES  # noqa: E402
from monitoring.made import alike, rows  # noqa: E402
from monitoring.streams import SOURCES  # noqa: E402

ALPHA = 0.1
Draw = Callable[[np.random.Generator, int], np.ndarray]
CHANGES: dict[str, Draw] = {
    "down by 1 standard deviation": lambda rng, n: rng.normal(-1.0, 1.0, n),
    "down by 0.5": lambda rng, n: rng.normal(-0.5, 1.0, n),
    "down by 0.25": lambda rng, n: rng.normal(-0.25, 1.0, n),
    "wider by a half": lambda rng, n: rng.normal(0.0, 1.5, n),
    "narrower by a half": lambda rng, n: rng.normal(0.0, 0.5, n),
    "a tenth without confidence": lambda rng, n: np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
}


def speed(n: int) -> bool:
    """All questions on n rows with labels, and the row-by-row cost of a gateway."""
    table, calibration = rows(n, 1), rows(5_000, 2)
    thresholds = replace(Thresholds(0.7, 0.85), reference=reference_of(calibration, 0.7, 0.85))
    limits = {"risk": 0.2, "request_rate": 0.45, "abstention": 0.2}
    began, worked = time.perf_counter(), time.process_time()
    result = drift(table, thresholds, limits=limits)
    took, worked = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    goal = 10.0 * n / 1_000_000
    met = took < goal
    print(
        f"drift of {n:,} labelled rows, {len(result.findings)} questions: {took:.2f} s, of it at work {worked:.2f} s "
        f"(goal {goal:.1f} s: {'met' if met else 'MISSED'}), peak memory of the process {peak:,.0f} MiB"
    )
    watch = ExchangeabilityMartingale(Bins.of(calibration.local.confidences))
    some = table.local.confidences[:2_000]
    began, worked = time.perf_counter(), time.process_time()
    for value in some:
        watch.update(np.array([value]))
    took, worked = time.perf_counter() - began, time.process_time() - worked
    print(f"one row at a time: {1e6 * took / len(some):.0f} µs a row, of it at work {1e6 * worked / len(some):.0f}")
    return met


def chance(repeats: int, traffic: int) -> bool:
    """The table of false alarms."""
    allowed = ALPHA + 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / repeats)
    print(f"\nrung by chance in {traffic:,} rows, {repeats} runs; at alpha = {ALPHA} at most {allowed:.3f}")
    kept = True
    for name, draw in SOURCES.items():
        shares = [_rang(lambda rng, n, d=draw: Bins.of(d(rng, n)), draw, n, repeats, traffic) for n in (1, 30, 1_000)]
        kept &= max(shares) <= allowed
        print(
            f"  {name:24s}" + "".join(f"  n = {n:5,d}: {s:.3f}" for n, s in zip((1, 30, 1_000), shares, strict=True))
        )
    for rate in (0.0, 0.05, 0.5):

        def happens(rng: np.random.Generator, n: int, rate: float = rate) -> np.ndarray:
            return (rng.random(n) < rate).astype(float)

        def share(rng: np.random.Generator, n: int, rate: float = rate) -> Share:
            return Share(int(rng.binomial(n, rate)), n)

        shares = [_rang(share, happens, n, repeats, traffic) for n in (1, 30, 1_000)]
        kept &= max(shares) <= allowed
        print(
            f"  rate {rate:<19g}"
            + "".join(f"  n = {n:5,d}: {s:.3f}" for n, s in zip((1, 30, 1_000), shares, strict=True))
        )
    return kept


def _rang(reference: Callable[..., Bins | Share], draw: Draw, n: int, repeats: int, traffic: int) -> float:
    rang = 0
    for seed in range(repeats):
        rng = np.random.default_rng([seed, 7])
        watch = ExchangeabilityMartingale(reference(rng, n), alpha=ALPHA, seed=seed)
        watch.update(draw(rng, traffic))
        rang += watch.moved
    return rang / repeats


def chosen(repeats: int) -> None:
    """Thresholds of 200 rows against 3,000 unchanged ones: the share of runs in which each question rings."""
    alpha = 0.9
    own = alpha / len(NAMES)
    spread = 3.0 * math.sqrt(own * (1.0 - own) / repeats)
    print(f"each question may ring in {own:.3f} of the runs, and {spread:.3f} more by chance; {repeats} runs each")
    targets = (
        LowestCost(3.0, 1.0, 0.1, points=100),
        LowestCost(10.0, 1.0, 0.2, points=100),
        WithinLimits(abstention=0.1, delta=None, error_cost=3.0, abstention_cost=1.0, request_cost=0.1),
        WithinLimits(risk=0.25),
        RemoteEven(),
        RequestBudget(0.3, delta=0.1),
    )
    for source in (rows, alike):
        for target in targets:
            rang: Counter[str] = Counter()
            done = 0
            for seed in range(repeats):
                try:
                    found = calibrate(source(200, 50_000 + seed), target, held_out=0.0, seed=seed)
                except InfeasibleTarget:
                    continue
                done += 1
                claimed = replace(found, reference={**found.reference, "chose_thresholds": False})
                result = drift(source(3_000, 60_000 + seed), claimed, alpha=alpha, seed=seed)
                rang.update(one.question for one in result.findings if one.moved and not one.of_limit)
            shares = ", ".join(f"{name} {count / done:.3f}" for name, count in sorted(rang.items()))
            print(f"  {source.__name__:6s}{target.name:16s}{done:4d} runs: {shares}", flush=True)


def power(repeats: int) -> None:
    """Rows from the change to the alarm."""
    print(f"\nrows until the alarm (alpha = 0.01), after 2,000 unchanged ones; {repeats} runs: median, 9 of 10")
    for name, moved in CHANGES.items():
        line = f"  {name:30s}"
        for n in (200, 1_000, 5_000):
            delays = []
            for seed in range(repeats):
                rng = np.random.default_rng([seed, 8])
                watch = ExchangeabilityMartingale(Bins.of(rng.normal(size=n)), alpha=0.01, seed=seed)
                watch.update(rng.normal(size=2_000))
                watch.update(moved(rng, 5_000))
                late = watch.rang_at is not None and watch.rang_at > 2_000
                delays.append(watch.rang_at - 2_000 if late else math.inf)  # type: ignore[operator]
            median, most = np.quantile(delays, [0.5, 0.9], method="higher")
            line += f"  n = {n:5,d}: {_rows(median):>7s} {_rows(most):>7s}"
        print(line)
    for then, now in ((0.0, 0.1), (0.05, 0.1), (0.3, 0.4)):
        line = f"  {f'a rate of {then:g} becomes {now:g}':30s}"
        for n in (200, 1_000, 5_000):
            delays = []
            for seed in range(repeats):
                rng = np.random.default_rng([seed, 9])
                watch = ExchangeabilityMartingale(Share(int(rng.binomial(n, then)), n), alpha=0.01, seed=seed)
                watch.update((rng.random(2_000) < then).astype(float))
                watch.update((rng.random(5_000) < now).astype(float))
                late = watch.rang_at is not None and watch.rang_at > 2_000
                delays.append(watch.rang_at - 2_000 if late else math.inf)  # type: ignore[operator]
            median, most = np.quantile(delays, [0.5, 0.9], method="higher")
            line += f"  n = {n:5,d}: {_rows(median):>7s} {_rows(most):>7s}"
        print(line)


def _rows(value: float) -> str:
    return "> 5,000" if math.isinf(value) else f"{value:,.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1_000)
    parser.add_argument("--traffic", type=int, default=1_000)
    parser.add_argument("--chosen", action="store_true")
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores")
    if args.chosen:
        chosen(args.repeats)
        return 0
    ok = speed(args.rows)
    ok &= chance(args.repeats, args.traffic)
    power(min(args.repeats, 100))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
