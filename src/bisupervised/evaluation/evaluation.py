"""Everything `evaluate` knows about two models on recorded rows: arrays in, numbers out, no model called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisupervised.decision import check_threshold
from bisupervised.errors import TableError
from bisupervised.evaluation import system
from bisupervised.evaluation.auc_rac import AucRac, auc_rac
from bisupervised.evaluation.auroc import auroc
from bisupervised.evaluation.cautions import warnings_of
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate
from bisupervised.evaluation.objectives import ACCURACY, Graded, Objective, Scored
from bisupervised.evaluation.request_accuracy import (
    OperatingPoint,
    RequestAccuracyCurve,
    oracle_area,
    oracle_curve,
    request_accuracy_curve,
)
from bisupervised.evaluation.risk_coverage import RiskCoverage, risk_coverage
from bisupervised.evaluation.scored import coded, scored_curve, scored_difference, scored_figures
from bisupervised.evaluation.supervised import SupervisedRow, supervised_table
from bisupervised.evaluation.system import Decided, SystemFigures, paired_difference, system_figures, with_bootstrap
from bisupervised.records import AnyArray, FloatArray, LevelName, PairConfidences, Route, RouteArray
from bisupervised.table import Table

FALSE_ALARM_TARGETS = (0.01, 0.05, 0.1)
REQUEST_RATES = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class Complementarity:
    """Which of the two models is correct, as shares of all labelled inputs."""

    both: float
    only_local: float
    only_remote: float
    neither: float

    @property
    def complementarity(self) -> float:
        """Share of inputs where exactly one model is correct [WT]."""
        return self.only_local + self.only_remote


@dataclass(frozen=True, slots=True, eq=False)
class SupervisorFigures:
    """How well one level's confidence tells correct from wrong predictions."""

    auroc: Estimate  #: over all inputs
    auroc_deferred: Estimate  #: over the deferred ones: all that the 2nd level ever sees
    risk_coverage: RiskCoverage
    distinct: int  #: how many different confidences there are; 1 is a constant supervisor
    missing: int  #: inputs without confidence
    failed: int  #: inputs for which the model gave no usable output
    accuracy_answered: float  #: correct among the labelled inputs for which it did; NaN when there is none
    lowest: float  #: the smallest and the
    highest: float  #: largest finite confidence; NaN when there is none


@dataclass(frozen=True, slots=True, eq=False)
class CurveFigures:
    """The request-accuracy curve and what is read off it."""

    curve: RequestAccuracyCurve
    auc_rac: AucRac
    remote_even: OperatingPoint
    best: OperatingPoint
    oracle_rates: FloatArray
    oracle_accuracy: FloatArray  #: NaN for scored objectives
    #: mean cost and latency per input at each point of `curve`, the deferred inputs' own added up; NaN: not known
    cost_per_input: FloatArray
    latency_s: FloatArray
    captured_gain: float  #: share of the oracle's area above random deferral that the supervisor captures


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All figures of one evaluation. A figure that is not known is NaN, or None for a whole part."""

    n: int
    n_labelled: int
    objective: str
    local_threshold: float
    remote_threshold: float
    abstain_threshold: float  #: -inf: no early abstention
    systems: dict[str, SystemFigures]  #: local_only, remote_only, bisupervised, and supervised baselines
    versus_remote_only: Estimate  #: system accuracy of the cascade minus remote-only, paired
    supervised_versus: dict[str, Estimate]  #: supervised accuracy minus each supervised baseline's, at equal coverage
    curves: CurveFigures | None  #: None when the remote model was not asked about every labelled row
    supervisors: dict[str, SupervisorFigures]
    complementarity: Complementarity | None
    break_even_latency: float  #: request rate below which the cascade is faster than remote-only
    break_even_cost: float  #: request rate below which it is cheaper
    supervised_rows: Sequence[SupervisedRow]
    warnings: Sequence[str]
    notes: Sequence[str]


def evaluate_at(
    table: Table,
    local_threshold: float,
    remote_threshold: float,
    *,
    abstain_threshold: float = -math.inf,
    pair: PairConfidences | None = None,
    objective: Objective | None = None,
    abstention_cost: float = 0.0,
    seed: int = 0,
) -> Evaluation:
    """Every figure of the two models, their supervisors and the cascade at these thresholds.

    `pair`: what a supervisor of both levels makes of the rows. `objective` is accuracy by default. `abstention_cost`
    is what a rejected input costs besides (a person's
    time, a fallback), in currency units.
    """
    check_threshold(local_threshold, "local threshold")
    check_threshold(remote_threshold, "remote threshold")
    check_threshold(abstain_threshold, "abstention threshold")
    table = graded_table(table, objective)
    notes = list(table.notes)
    rule = local_threshold, remote_threshold, abstain_threshold
    decided = _systems(table, rule, pair, abstention_cost, notes)
    figures = {name: with_bootstrap(system_figures(one), one, seed=seed) for name, one in decided.items()}
    if isinstance(objective, Scored):
        table, objective = coded(table, objective)
        figures = {name: scored_figures(table, decided[name], one, objective, seed) for name, one in figures.items()}
    curves = _curves(table, objective, notes)
    supervisors = _supervisors(table, decided["bisupervised"])
    labelled = ~np.isnan(table.correct("local")) | ~np.isnan(table.correct("remote"))
    evaluation = Evaluation(
        n=len(table),
        n_labelled=int(labelled.sum()),
        objective=ACCURACY if objective is None else objective.name,
        local_threshold=float(local_threshold),
        remote_threshold=float(remote_threshold),
        abstain_threshold=float(abstain_threshold),
        systems=figures,
        versus_remote_only=_versus_remote_only(table, decided, objective, seed),
        supervised_versus=_supervised_versus(decided),
        curves=curves,
        supervisors=supervisors,
        complementarity=_complementarity(table) if curves is not None else None,
        break_even_latency=system.break_even_rate(
            system.latency_of(table.local), system.latency_of(table.remote)[table.remote.asked]
        ),
        break_even_cost=system.break_even_rate(table.local.cost, table.remote.cost[table.remote.asked]),
        supervised_rows=_supervised_rows(table, curves) if not isinstance(objective, Scored) else (),
        warnings=(),
        notes=notes,
    )
    return replace(evaluation, warnings=warnings_of(evaluation))


def graded_table(table: Table, objective: Objective | None) -> Table:
    """The table with its correctness worked out once: the objective's grades, or whether prediction is label."""
    if objective is not None and table.labels is None:
        raise TableError(f"{objective.name} needs labels and predictions; the table has correctness columns only")
    if not isinstance(objective, Graded) or table.labels is None:
        return replace(table, local_correct=table.correct("local"), remote_correct=table.correct("remote"))
    known = ~np.isnan(replace(table, local_correct=None, remote_correct=None).correct("local"))
    grades = {}
    for name in LevelName:
        rows = table.level(name)
        graded = np.full(len(table), np.nan)
        use = known & rows.asked
        graded[use] = objective.grades(table.labels[use], rows.predictions[use])
        grades[name] = graded
    return replace(table, local_correct=grades[LevelName.LOCAL], remote_correct=grades[LevelName.REMOTE])


def _systems(
    table: Table,
    rule: tuple[float, float, float],
    pair: PairConfidences | None,
    abstention_cost: float,
    notes: list[str],
) -> dict[str, Decided]:
    routes = recorded_routes(table)
    if routes is not None and not table.remote.asked.all():
        cascade = system.as_routed(table, routes, abstention_cost=abstention_cost)
        used = {str(one) for one in table.extra.get("thresholds_id", ()) if one is not None}
        several = f" under {len(used)} different thresholds" if len(used) > 1 else ""
        notes.append(
            "the remote model was asked about the deferred inputs only, so the cascade's figures are those of the "
            f"routes it took{several}, whatever thresholds are given, and remote-only is not known"
        )
    else:
        cascade = system.bisupervised(table, *rule, pair=pair, abstention_cost=abstention_cost)
        unasked = int((cascade.requested & ~table.remote.asked).sum())
        if unasked:
            notes.append(
                f"the remote model was never asked about {unasked} of the {int(cascade.requested.sum())} inputs that "
                f"these thresholds defer: they count as rejected, and the cascade's cost and latency are not known"
            )
    coverage = float(np.mean(cascade.routes != Route.REJECTED))
    local_at = threshold_for_coverage(table.local.confidences, coverage)
    decided = {
        "local_only": system.local_only(table),
        "bisupervised": cascade,
        "local_only_supervised": system.local_only(table, local_at, abstention_cost=abstention_cost),
    }
    if table.remote.asked.all():
        remote_at = threshold_for_coverage(table.remote.confidences, coverage)
        decided["remote_only"] = system.remote_only(table)
        decided["remote_only_supervised"] = system.remote_only(table, remote_at, abstention_cost=abstention_cost)
    order = ("local_only", "remote_only", "bisupervised", "local_only_supervised", "remote_only_supervised")
    return {name: decided[name] for name in order if name in decided}


def recorded_routes(table: Table) -> RouteArray | None:
    """The routes a running system took, where the table holds them."""
    column = table.extra.get("route")
    if column is None:
        return None
    by_label = {route.label: route for route in Route}
    try:
        return np.array([by_label[str(value)] for value in column], dtype=np.uint8)
    except KeyError as error:
        raise TableError(f"the column route holds {error}; routes are {', '.join(by_label)}") from error


def threshold_for_coverage(confidences: FloatArray, coverage: float) -> float:
    """The largest threshold that accepts at least this share of the inputs."""
    order = DeferralOrder.of(confidences)
    rejected = np.concatenate([[0], order.ends])
    index = int(np.searchsorted(rejected, (1.0 - coverage) * len(order) + 1e-9, side="right")) - 1
    # Inputs without confidence are rejected by all thresholds, those of confidence +inf by none.
    index = min(max(index, order.attainable.start), order.attainable.stop - 1)
    return float(order.thresholds[index])


def _supervised_versus(decided: dict[str, Decided]) -> dict[str, Estimate]:
    """Differences in supervised accuracy at (about) equal coverage, by the ratio estimator's paired error."""
    cascade = decided["bisupervised"]
    differences: dict[str, Estimate] = {}
    for name in ("local_only_supervised", "remote_only_supervised"):
        if name in decided:
            differences[name] = _ratio_difference(cascade, decided[name])
    return differences


def _ratio_difference(first: Decided, second: Decided) -> Estimate:
    known = ~(np.isnan(first.correct) | np.isnan(second.correct))
    parts = []
    for one in (first, second):
        accepted = (one.routes[known] != Route.REJECTED).astype(np.float64)
        share = accepted.mean() if len(accepted) else 0.0
        if share == 0.0:
            return NOT_KNOWN
        ratio = float((accepted * one.correct[known]).mean() / share)
        # Linearised: the ratio's error is the mean of accepted * (correct - ratio) / share.
        parts.append((ratio, accepted * (one.correct[known] - ratio) / share))
    spread = parts[0][1] - parts[1][1]
    half = 1.959963984540054 * float(np.std(spread, ddof=1)) / math.sqrt(len(spread)) if len(spread) > 1 else math.nan
    value = parts[0][0] - parts[1][0]
    return Estimate(value, value - half, value + half)


def _versus_remote_only(
    table: Table, decided: dict[str, Decided], objective: Objective | None, seed: int
) -> Estimate:
    if "remote_only" not in decided:
        return NOT_KNOWN
    if isinstance(objective, Scored):
        return scored_difference(table, decided["bisupervised"], decided["remote_only"], objective, seed)
    return paired_difference(decided["bisupervised"].correct, decided["remote_only"].correct)


def _curves(table: Table, objective: Objective | None, notes: list[str]) -> CurveFigures | None:
    complete = table.complete
    labelled = ~np.isnan(table.correct("local"))
    if not complete.any() or (labelled & ~complete).any():
        if labelled.any():
            notes.append(
                f"the request-accuracy curve needs both models' answers to the same labelled inputs: "
                f"{int((labelled & ~complete).sum())} of {int(labelled.sum())} labelled rows have no remote answer. "
                f"`bisupervised record` asks for them"
            )
        else:
            notes.append("no row has a label: only request rates, coverage, cost and latency are known")
        return None
    rows = table.take(complete)
    confidence = rows.local.confidences
    left, right = as_flags(rows.correct("local")), as_flags(rows.correct("remote"))
    order = DeferralOrder.of(confidence)
    if isinstance(objective, Scored):
        curve = scored_curve(rows, objective)
        value = (curve.area() - curve.local_only) / (curve.remote_only - curve.local_only or math.nan)
        area = AucRac(value, math.nan, curve.area(), curve.local_only, curve.remote_only)
        captured = math.nan
    else:
        curve = request_accuracy_curve(confidence, left, right, order=order)
        area = auc_rac(confidence, left, right, order=order)
        random_area = (area.local_only + area.remote_only) / 2.0
        room = oracle_area(left, right) - random_area
        captured = (area.area - random_area) / room if room > 0 else math.nan
    rates = np.linspace(0.0, 1.0, 201)
    # The oracle is one of accuracy: no objective over all predictions at once has a best order.
    oracle = np.full(201, np.nan) if isinstance(objective, Scored) else oracle_curve(rates, left, right)
    cost = _along(curve, order, rows.local.cost, rows.remote.cost)
    latency = _along(curve, order, system.latency_of(rows.local), system.latency_of(rows.remote))
    return CurveFigures(curve, area, curve.remote_even(), curve.best(), rates, oracle, cost, latency, captured)


def _along(curve: RequestAccuracyCurve, order: DeferralOrder, local: FloatArray, remote: FloatArray) -> FloatArray:
    """The mean over all inputs of local plus, for the deferred ones, remote, at each point of the curve."""
    rates = np.concatenate([[0.0], order.ends / len(order)])
    spent = float(np.mean(local)) + order.totals(remote) / len(order)
    return np.asarray(np.interp(curve.request_rates, rates, spent))


def as_flags(correct: FloatArray) -> AnyArray:
    """Booleans where all grades are 0 or 1: exact counts instead of sums of floats."""
    return correct.astype(np.bool_) if np.isin(correct, (0.0, 1.0)).all() else correct


def _supervisors(table: Table, cascade: Decided) -> dict[str, SupervisorFigures]:
    figures = {}
    for name in LevelName:
        rows, correct = table.level(name), table.correct(name)
        known = ~np.isnan(correct)
        if not known.any():
            continue
        confidences, right = rows.confidences[known], as_flags(correct[known])
        deferred = cascade.requested[known]
        order = DeferralOrder.of(confidences)
        on_deferred = auroc(confidences[deferred], right[deferred]) if deferred.any() else NOT_KNOWN
        answered = known & np.array([error is None for error in rows.errors], dtype=np.bool_)
        finite = rows.confidences[np.isfinite(rows.confidences)]
        figures[name.value] = SupervisorFigures(
            auroc=auroc(confidences, right, order=order),
            auroc_deferred=on_deferred,
            risk_coverage=risk_coverage(confidences, right, order=order),
            distinct=len(order.ends) - (1 if order.never else 0),
            missing=int(np.isnan(rows.confidences[rows.asked]).sum()),
            failed=int(sum(error is not None for error in rows.errors)),
            accuracy_answered=float(correct[answered].mean()) if answered.any() else math.nan,
            lowest=float(finite.min()) if len(finite) else math.nan,
            highest=float(finite.max()) if len(finite) else math.nan,
        )
    return figures


def _complementarity(table: Table) -> Complementarity:
    rows = table.take(table.complete)
    local, remote = rows.correct("local") >= 0.5, rows.correct("remote") >= 0.5
    return Complementarity(
        both=float(np.mean(local & remote)),
        only_local=float(np.mean(local & ~remote)),
        only_remote=float(np.mean(~local & remote)),
        neither=float(np.mean(~local & ~remote)),
    )


def _supervised_rows(table: Table, curves: CurveFigures | None) -> Sequence[SupervisedRow]:
    if curves is None:
        return ()
    points = {"best": curves.best.local_threshold}
    if not math.isnan(curves.remote_even.local_threshold):
        points = {"remote-even": curves.remote_even.local_threshold, **points}
    for request_rate in REQUEST_RATES:
        point = curves.curve.within_budget(request_rate)
        if point is not None:
            points[f"{request_rate:g} requests"] = point.local_threshold
    return supervised_table(table.take(table.complete), points, FALSE_ALARM_TARGETS)
