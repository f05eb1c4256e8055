"""Supervised assessment: what is left, and how right it is, when untrusted predictions are rejected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bisupervised.decision import accept
from bisupervised.errors import InputError
from bisupervised.records import AnyArray, BoolArray, FloatArray
from bisupervised.table import Table


def s_beta(objective: float, coverage: float, beta: float) -> float:
    """(1 + b^2) obj cov / (b^2 obj + cov): the weighted harmonic mean of a supervised objective and coverage.

    Weiss & Tonella, STVR 2023; beta > 1 favours coverage. Reported, never optimised: its optimum under a false
    alarm limit is to reject next to nothing.
    """
    denominator = beta**2 * objective + coverage
    return (1 + beta**2) * objective * coverage / denominator if denominator > 0 else math.nan


def false_alarm_threshold(
    confidences: FloatArray, correct: AnyArray, target: float, *, correct_in_system: float | None = None
) -> float:
    """The largest threshold at which at most `target` of the correct predictions are rejected.

    False alarm rate = correct predictions rejected / all correct ([WT] calls it FPR). `correct_in_system` is
    the number of correct predictions it is counted over when these n are only a part of the system (the deferred
    inputs; the trusted local predictions are correct ones that are never rejected). With k = floor(target *
    that number), the threshold is the (k + 1)-th smallest confidence among the correct: at most k are below
    it. NaN confidences are rejected whatever the threshold and use up part of k. +inf when all may be rejected,
    -inf when even those exceed the target.

    >>> false_alarm_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, False, True]), 0.4)
    0.2
    """
    if not 0.0 <= target <= 1.0:
        raise InputError(f"a false alarm rate is in [0, 1], not {target}")
    right = _right(correct)
    of_correct = confidences[right]
    known = np.sort(of_correct[~np.isnan(of_correct)])
    total = float(np.count_nonzero(right)) if correct_in_system is None else correct_in_system
    allowed = math.floor(target * total + 1e-9) - (len(of_correct) - len(known))
    if allowed < 0:
        return -math.inf
    return float(known[allowed]) if allowed < len(known) else math.inf


def false_alarm_rate(correct: AnyArray, accepted: AnyArray) -> float:
    """Correct predictions rejected / all correct; NaN when none is correct. Both are (n,); grades are read as
    correct from 0.5 on, as `false_alarm_threshold` reads them."""
    right = _right(correct)
    total = int(np.count_nonzero(right))
    return int(np.count_nonzero(right & ~np.asarray(accepted))) / total if total else math.nan


def _right(correct: AnyArray) -> BoolArray:
    correct = np.asarray(correct)
    right: BoolArray = correct >= 0.5 if correct.dtype.kind == "f" else correct.astype(np.bool_)
    return right


@dataclass(frozen=True, slots=True)
class SupervisedRow:
    """One row of the supervised assessment: a request rate and a false alarm target, as in the paper's RQ2."""

    point: str  #: how the request rate was chosen: `remote-even`, `best`, `0.3 requests`, `local only`, …
    false_alarm_target: float
    request_rate: float
    local_threshold: float
    remote_threshold: float
    remote_acceptance_rate: float  #: share accepted of what the remote supervisor saw; NaN for local only
    coverage: float
    supervised_accuracy: float
    false_alarm_rate: float  #: achieved
    s_beta: dict[str, float]


def supervised_table(
    table: Table, points: Mapping[str, float], false_alarm_targets: Sequence[float]
) -> list[SupervisedRow]:
    """A row for each local threshold in `points` and each false alarm target, and for both baselines.

    The remote threshold is the largest whose false alarm rate, over the whole system, is at most the target on
    these very rows: an assessment as in the paper, not a calibration.
    """
    nothing, everything = -math.inf, math.inf
    rows = []
    for target in false_alarm_targets:
        local_alone = false_alarm_threshold(table.local.confidences, table.correct("local"), target)
        accepted = accept(table.local.confidences, local_alone)
        rows.append(_row(table, "local only", target, local_alone, everything, np.zeros_like(accepted), accepted))
        for point, local_threshold in points.items():
            rows.append(_cascade_row(table, point, target, local_threshold))
        remote_alone = false_alarm_threshold(table.remote.confidences, table.correct("remote"), target)
        accepted = accept(table.remote.confidences, remote_alone)
        rows.append(_row(table, "remote only", target, nothing, remote_alone, np.ones_like(accepted), accepted))
    return rows


def _cascade_row(table: Table, point: str, target: float, local_threshold: float) -> SupervisedRow:
    deferred = ~accept(table.local.confidences, local_threshold)
    remote_threshold = system_false_alarm_threshold(table, local_threshold, target)
    accepted = ~deferred | accept(table.remote.confidences, remote_threshold)
    return _row(table, point, target, local_threshold, remote_threshold, deferred, accepted)


def system_false_alarm_threshold(table: Table, local_threshold: float, target: float) -> float:
    """The remote threshold at which at most `target` of the whole system's correct predictions are rejected,
    given the local threshold. Rows without a label are left out."""
    local, remote = table.correct("local"), table.correct("remote")
    deferred = ~accept(table.local.confidences, local_threshold)
    correct = np.where(deferred, remote, local)
    known = ~np.isnan(correct)
    total = float((correct[known] >= 0.5).sum())
    use = known & deferred
    return false_alarm_threshold(table.remote.confidences[use], remote[use], target, correct_in_system=total)


def _row(
    table: Table,
    point: str,
    target: float,
    local_threshold: float,
    remote_threshold: float,
    requested: BoolArray,
    accepted: BoolArray,
) -> SupervisedRow:
    correct = np.where(requested, table.correct("remote"), table.correct("local"))
    coverage = float(np.mean(accepted))
    supervised = float(np.mean(correct[accepted])) if accepted.any() else math.nan
    return SupervisedRow(
        point=point,
        false_alarm_target=target,
        request_rate=float(np.mean(requested)),
        local_threshold=local_threshold,
        remote_threshold=remote_threshold,
        remote_acceptance_rate=float(np.mean(accepted[requested])) if requested.any() else math.nan,
        coverage=coverage,
        supervised_accuracy=supervised,
        false_alarm_rate=false_alarm_rate(correct, accepted),
        s_beta={f"{beta:g}": s_beta(supervised, coverage, beta) for beta in (0.5, 1.0, 2.0)},
    )
