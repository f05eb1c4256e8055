"""The paper's complete tables and curves: a straightforward quadratic implementation against ours.

    python benchmarks/paper_tables.py ../shared/data/paper

Both get the same arrays (loading is not timed), nothing is drawn and nothing resampled. The quadratic one is written
as the definitions read: a loop over thresholds, a mask over all inputs for each. Its results are asserted equal to
ours. Goals: at least 100 times faster, and under 0.2 s.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bisupervised.studies.paper import (
    TARGETS,
    RecordedStudy,
    curve_table,
    latency_table,
    load_paper_study,
    paper_table,
)
from bisupervised.studies.paper_rules import PAPER, PairedRows

GOAL_RATIO, GOAL_SECONDS = 100.0, 0.2

# ---------------------------------------------------------------- as the definitions read


def accuracy_at(rows: PairedRows, threshold: float) -> float:
    """System accuracy when inputs below the threshold are sent to the remote model."""
    correct = np.where(rows.local_confidence < threshold, rows.remote_correct, rows.local_correct)
    return int(np.sum(correct)) / len(correct)


def grid_curve(rows: PairedRows, steps: int) -> tuple[list[float], list[float]]:
    """(request rates, system accuracy) on the paper's grid."""
    ranked = np.sort(rows.local_confidence)
    rates = [float(rate) for rate in np.arange(0.0, 1.0001, 1 / min(steps, len(rows)))]
    return rates, [accuracy_at(rows, float(ranked[min(int(len(ranked) * rate), len(ranked) - 1)])) for rate in rates]


def exact_curve(rows: PairedRows) -> list[float]:
    """System accuracy at every threshold that changes anything."""
    return [accuracy_at(rows, t) for t in [*np.unique(rows.local_confidence), np.inf]]


def exact_auc_rac(rows: PairedRows) -> tuple[float, float]:
    """AUC-RAC by mid-ranks, and the standard error of its influence function: two masks per input."""
    confidence, n = rows.local_confidence, len(rows)
    gain = rows.remote_correct.astype(float) - rows.local_correct.astype(float)
    rank, tail = np.empty(n), np.empty(n)
    for i in range(n):
        below, until = confidence < confidence[i], confidence <= confidence[i]
        rank[i] = (below.sum() + 1 + until.sum()) / 2
        tail[i] = (gain[below].sum() + gain[until].sum()) / (2 * n)
    q = 1 - (rank - 0.5) / n
    m, theta = gain.mean(), (gain * q).mean()
    psi = (gain * q + tail - 2 * theta - theta / m * (gain - m)) / m
    return float(theta / m), float(psi.std(ddof=1) / np.sqrt(n))


def false_alarm_search(scores: Any, correct: Any, target: float, right_elsewhere: int) -> float | None:
    """Try every confidence as threshold until the false alarm rate reaches the target."""
    for threshold in np.sort(scores):
        rejected = int(np.sum(correct[scores < threshold]))
        kept = right_elsewhere + int(np.sum(correct & (scores >= threshold)))
        if rejected + kept > 0 and rejected / (rejected + kept) >= target:
            return float(threshold)
    return None


def alone(scores: Any, correct: Any, target: float) -> tuple[float, ...]:
    """One supervised model: (coverage, supervised accuracy)."""
    threshold = false_alarm_search(scores, correct, target, 0)
    if threshold is None:
        return (np.nan, np.nan)
    accepted = scores > threshold
    return float(accepted.mean()), float(correct[accepted].mean()) if accepted.any() else np.nan


def cascade(rows: PairedRows, rate: float, target: float) -> tuple[float, ...]:
    """Both levels: (2nd level's acceptance rate, coverage, supervised accuracy)."""
    n = len(rows)
    local_threshold = np.sort(rows.local_confidence)[min(int(n * rate), n - 1)]
    deferred = rows.local_confidence < local_threshold
    scores, correct = rows.remote_confidence[deferred], rows.remote_correct[deferred]
    threshold = false_alarm_search(scores, correct, target, int(np.sum(rows.local_correct[~deferred])))
    if threshold is None:
        return (np.nan, np.nan, np.nan)
    answered = ~(deferred & (rows.remote_confidence < threshold))
    right = np.where(deferred, rows.remote_correct, rows.local_correct)[answered]
    return float((scores > threshold).mean()), float(answered.mean()), float(right.mean()) if len(right) else np.nan


def s_scores(objective: float, coverage: float) -> list[float]:
    """S_0.5, S_1, S_2."""
    return [(1 + b * b) * objective * coverage / (b * b * objective + coverage) for b in (0.5, 1.0, 2.0)]


def operating_points(rows: PairedRows, specs: Sequence[str | float], steps: int) -> list[float]:
    """The request rates asked for, or found on a grid; equal ones once."""
    rates, accuracy = grid_curve(rows, steps)
    found = {
        "best": rates[int(np.argmax(accuracy))],
        "remote-even": next(rate for rate, y in zip(rates, accuracy, strict=True) if y >= accuracy[-1]),
    }
    return list(dict.fromkeys(found[spec] if isinstance(spec, str) else spec for spec in specs))


def quadratic_rows(rows: PairedRows, specs: Sequence[str | float], steps: int = 100) -> list[list[float]]:
    """The numbers of `rq2_table.csv` in its order, the empty ones left out."""
    points = operating_points(rows, specs, steps)
    numbers: list[list[float]] = []
    for target in TARGETS:
        local = alone(rows.local_confidence, rows.local_correct, target)
        remote = alone(rows.remote_confidence, rows.remote_correct, target)
        assessed = [local, *(cascade(rows, rate, target) for rate in points), remote]
        numbers.extend([*row, *s_scores(row[-1], row[-2])] for row in assessed)
    return numbers


def quadratic(study: RecordedStudy) -> dict[str, Any]:
    """Everything of one study, as `ours` gives it."""
    rows = study.rows(PAPER)
    coarse, fine = (np.array(grid_curve(rows, steps)[1]) for steps in (100, 1000))
    local_s, remote_s = (float(np.mean(seconds)) for seconds in study.latency_s)
    rates = operating_points(rows, study.points, 1000)
    return {
        "rows": quadratic_rows(rows, study.points),
        "curves": [coarse, fine, np.array(exact_curve(rows))],
        "auc": [*((c.mean() - c[0]) / (c[-1] - c[0]) for c in (coarse, fine)), *exact_auc_rac(rows)],
        "latency": [local_s, remote_s, *(local_s + remote_s * rate for rate in rates)],
    }


# ---------------------------------------------------------------- ours, in the same shape


def ours(study: RecordedStudy) -> dict[str, Any]:
    """The tables and curves of one study by the package."""
    rows = study.rows(PAPER)
    (figures,), (latency,) = curve_table([study]), latency_table([study])
    auc = figures.auc_rac
    return {
        "rows": [[x for x in row.numbers if x is not None] for row in paper_table([study])],
        "curves": [rows.on_grid(100)[1], rows.on_grid(1000)[1], rows.curve.system_accuracy],
        "auc": [figures.auc_rac_100, figures.auc_rac_1000, auc.value, auc.standard_error],
        "latency": [latency.local_s, latency.remote_s, *(system_s for _, system_s in latency.points)],
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal to 1e-12, and to 1e-9 for the standard error, which sums in another order."""
    assert len(one["rows"]) == len(other["rows"])
    for a, b in zip(one["rows"], other["rows"], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    for a, b in zip(one["curves"], other["curves"], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    np.testing.assert_allclose(one["auc"], other["auc"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(one["latency"], other["latency"], rtol=0, atol=1e-12)


def main() -> int:
    """Measure both, compare, report; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", default="../shared/data/paper", help="the authors' CSV files")
    parser.add_argument("--repeat", type=int, default=15, help="runs of ours; the median counts")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}")
    studies = load_paper_study(options.directory)
    for study in studies:
        assert study.correct[0].shape == study.latency_s[0].shape  # arrays loaded: correctness is computed once
    first = [ours(study) for study in studies]
    times = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        for study in studies:
            ours(study)
        times.append(time.perf_counter() - start)
    slow = 0.0
    for study, fast in zip(studies, first, strict=True):
        start = time.perf_counter()
        plain = quadratic(study)
        took = time.perf_counter() - start
        slow += took
        assert_same(plain, fast)
        print(f"  {study.name}: n = {len(study)}, quadratic {took:.2f} s, same results")
    return report(slow, times)


def report(slow: float, times: list[float]) -> int:
    """Print what was measured against the goals."""
    median = statistics.median(times)
    ratio = slow / median
    print(f"quadratic, all thresholds, one run: {slow:.2f} s")
    print(f"ours: median {median:.4f} s, {min(times):.4f} to {max(times):.4f} s of {len(times)} runs")
    met = ratio >= GOAL_RATIO, median < GOAL_SECONDS
    print(f"ratio {ratio:.0f} (goal {GOAL_RATIO:.0f}: {'met' if met[0] else 'MISSED'})")
    print(f"time {median:.4f} s (goal under {GOAL_SECONDS} s: {'met' if met[1] else 'MISSED'})")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
