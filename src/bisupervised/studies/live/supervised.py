"""Supervised assessment: thresholds for false alarm targets, chosen on one part of the rows and judged on the other.

The paper sets its thresholds on the very rows that it reports; here they are chosen on calibration rows by the rules
`OURS`, and its rows are shown beside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bisupervised.decision import accept
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate, normal_interval
from bisupervised.evaluation.supervised import s_beta
from bisupervised.records import BoolArray, FloatArray, IntArray
from bisupervised.studies.live.claims import mean_estimate
from bisupervised.studies.live.splits import Parts
from bisupervised.studies.live.systems import confidences_by
from bisupervised.studies.paper import TARGETS, PaperRow
from bisupervised.studies.paper_rules import OURS, PairedRows, PointSpec, evaluation_points, remote_threshold
from bisupervised.table import Table

LOCAL_BASELINE, REMOTE_BASELINE = "local_baseline", "remote_baseline"
SUPER_ACCURATE: tuple[PointSpec, ...] = ("remote-even", "best")
CHOSEN_BEFOREHAND: tuple[PointSpec, ...] = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class SupervisedFigures:
    """One operating point and one false alarm target on n reporting rows. NaN: not known."""

    supervisors: str  #: `recorded` or `recommended`
    target: float
    point: str  #: `local_baseline`, `remote-even`, `best`, `0.30 (default)`, `remote_baseline`
    request_rate: float
    coverage: Estimate
    supervised_accuracy: Estimate
    s_1: Estimate
    false_alarm_rate: float  #: attained
    paper: PaperRow | None  #: the published row that is closest to it, of the paper's own models and data


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """(n,) of all reporting rows."""

    requested: BoolArray
    accepted: BoolArray
    correct: FloatArray


def points_of(published: Sequence[PaperRow]) -> tuple[PointSpec, ...]:
    """The operating points at which the paper assesses a study, by its published rows."""
    return CHOSEN_BEFOREHAND if any(row.point_name.endswith("(default)") for row in published) else SUPER_ACCURATE


def supervised_figures(
    parts: Parts,
    supervisors: str,
    names: Sequence[Mapping[str, str]],
    specs: Sequence[PointSpec],
    published: Sequence[PaperRow] = (),
) -> list[SupervisedFigures]:
    """A row for each target and operating point, and for either model alone under its supervisor; `names` are the
    supervisors of both levels, split by split."""
    labels = [LOCAL_BASELINE, *(_label(spec) for spec in specs), REMOTE_BASELINE]
    found = []
    for target in TARGETS:
        outcomes = {label: _empty(len(parts.report)) for label in labels}
        for split, name in zip(parts, names, strict=True):
            for label, outcome in _split_outcomes(split.choosing, split.reporting, name, specs, target).items():
                for field in ("requested", "accepted", "correct"):
                    getattr(outcomes[label], field)[split.places] = getattr(outcome, field)
        for label in labels:
            row = next((one for one in published if one.target == target and _same_point(one, label)), None)
            found.append(_figures(supervisors, target, label, outcomes[label], parts.clusters, row))
    return found


def _label(spec: PointSpec) -> str:
    return spec if isinstance(spec, str) else f"{spec:.2f} (default)"


def _same_point(row: PaperRow, label: str) -> bool:
    return label in (row.point, row.point_name, row.point_name.strip("()"))


def _empty(n: int) -> _Outcome:
    return _Outcome(np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_), np.zeros(n))


def _paired(table: Table, names: Mapping[str, str]) -> PairedRows:
    local, remote = (confidences_by(table, level, names[level]) for level in ("local", "remote"))
    return PairedRows(local, table.correct("local") >= 0.5, remote, table.correct("remote") >= 0.5)


def _split_outcomes(
    choosing: Table, reporting: Table, names: Mapping[str, str], specs: Sequence[PointSpec], target: float
) -> dict[str, _Outcome]:
    chosen, judged = _paired(choosing, names), _paired(reporting, names)
    n = len(judged)
    none, every = np.zeros(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
    outcomes = {}
    for label, confidences, corrects, requested in (
        (LOCAL_BASELINE, (chosen.local_confidence, judged.local_confidence), "local_correct", none),
        (REMOTE_BASELINE, (chosen.remote_confidence, judged.remote_confidence), "remote_correct", every),
    ):
        right = getattr(chosen, corrects)
        limit = remote_threshold(confidences[0], right, target, int(np.count_nonzero(right)), OURS)
        accepted = accept(confidences[1], math.inf if limit is None else limit)
        outcomes[label] = _Outcome(requested, accepted, getattr(judged, corrects).astype(np.float64))
    for spec in specs:
        (point,) = evaluation_points(chosen, [spec], OURS.eval_point_grid)
        # A point that no threshold attains (all requests, where some inputs are never deferred) is the last attained.
        local = math.inf if math.isnan(point.local_threshold) else point.local_threshold
        limit = _second_level(chosen, local, target)
        deferred = ~accept(judged.local_confidence, local)
        trusted = accept(judged.remote_confidence, limit) & deferred
        correct = np.where(deferred, judged.remote_correct, judged.local_correct).astype(np.float64)
        outcomes[_label(spec)] = _Outcome(deferred, ~deferred | trusted, correct)
    return outcomes


def _second_level(rows: PairedRows, local: float, target: float) -> float:
    deferred = ~accept(rows.local_confidence, local)
    right = rows.remote_correct[deferred]
    total = int(np.count_nonzero(rows.local_correct[~deferred])) + int(np.count_nonzero(right))
    limit = remote_threshold(rows.remote_confidence[deferred], right, target, total, OURS)
    return math.inf if limit is None else limit


def _figures(
    supervisors: str, target: float, label: str, outcome: _Outcome, clusters: IntArray | None, row: PaperRow | None
) -> SupervisedFigures:
    accepted, correct = outcome.accepted.astype(np.float64), outcome.correct
    coverage = mean_estimate(accepted, clusters)
    right = correct >= 0.5
    alarms = int(np.count_nonzero(right & ~outcome.accepted)) / max(int(right.sum()), 1)
    objective, s_1 = NOT_KNOWN, NOT_KNOWN
    if outcome.accepted.any():
        value = float(correct[outcome.accepted].mean())
        of_objective = accepted * (correct - value) / coverage.value
        objective = _with_influence(value, of_objective, clusters)
        s_1 = _with_influence(
            s_beta(value, coverage.value, 1.0),
            _s_1_influence(value, coverage.value, of_objective, accepted - coverage.value),
            clusters,
        )
    return SupervisedFigures(
        supervisors,
        target,
        label,
        float(outcome.requested.mean()),
        coverage,
        objective,
        s_1,
        alarms if right.any() else math.nan,
        row,
    )


def _s_1_influence(
    objective: float, coverage: float, of_objective: FloatArray, of_coverage: FloatArray
) -> FloatArray:
    """By the derivatives of 2 o c / (o + c): 2 c^2 / (o + c)^2 and 2 o^2 / (o + c)^2."""
    square = max((objective + coverage) ** 2, 1e-300)
    return np.asarray(2.0 * (coverage**2 * of_objective + objective**2 * of_coverage) / square)


def _with_influence(value: float, influence: FloatArray, clusters: IntArray | None) -> Estimate:
    sums = influence if clusters is None else np.bincount(clusters, weights=influence)
    error = math.sqrt(float(np.dot(sums, sums))) / len(influence)
    return Estimate(value, *normal_interval(value, error))
