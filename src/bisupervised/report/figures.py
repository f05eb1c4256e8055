"""An evaluation as one JSON-safe dictionary: every figure of the report under its glossary name.

Rates are in [0, 1], latency in seconds, cost in currency units. What is not known is None; infinite thresholds are
"-inf" and "inf".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bisupervised.assessment import Assessment
from bisupervised.calibration.thresholds import ASSUMPTION, Thresholds
from bisupervised.evaluation.evaluation import CurveFigures, Evaluation, SupervisorFigures
from bisupervised.evaluation.intervals import UNKNOWN, Estimate
from bisupervised.evaluation.request_accuracy import OperatingPoint
from bisupervised.evaluation.supervised import SupervisedRow
from bisupervised.evaluation.system import Latency, SystemFigures
from bisupervised.report.headline import headline


def evaluation_to_dict(subject: Assessment | Evaluation) -> dict[str, Any]:
    """Every figure, ready for `json.dumps(..., allow_nan=False)`. An assessment adds the headline, and where its
    thresholds come from."""
    if isinstance(subject, Assessment):
        return {
            "headline": headline(subject),
            **_evaluation(subject.evaluation),
            "judged_on": subject.judged_on,
            **_provenance(subject.thresholds),
        }
    return _evaluation(subject)


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    complementarity = evaluation.complementarity
    return {
        "n": evaluation.n,
        "n_labelled": evaluation.n_labelled,
        "objective": evaluation.objective,
        "thresholds": {
            "local": json_safe(evaluation.local_threshold),
            "remote": json_safe(evaluation.remote_threshold),
            "abstain": json_safe(evaluation.abstain_threshold),
        },
        "systems": {name: _system(figures) for name, figures in evaluation.systems.items()},
        "versus_remote_only": _estimate(evaluation.versus_remote_only),
        "supervised_versus": {name: _estimate(one) for name, one in evaluation.supervised_versus.items()},
        **_curves(evaluation.curves),
        "break_even_latency": _number(evaluation.break_even_latency),
        "break_even_cost": _number(evaluation.break_even_cost),
        "complementarity": None
        if complementarity is None
        else {"complementarity": complementarity.complementarity, **asdict(complementarity)},
        "supervisors": {name: _supervisor(figures) for name, figures in evaluation.supervisors.items()},
        "supervised_rows": [_supervised_row(row) for row in evaluation.supervised_rows],
        "warnings": list(evaluation.warnings),
        "notes": list(evaluation.notes),
    }


def _provenance(thresholds: Thresholds) -> dict[str, Any]:
    return {
        "thresholds_id": thresholds.id,
        "target": json_safe(thresholds.target),
        "evidence": json_safe(thresholds.evidence),
        "achieved": json_safe(thresholds.achieved),
        "assumption": ASSUMPTION,
    }


def _system(figures: SystemFigures) -> dict[str, Any]:
    return {
        "n": figures.n,
        "n_labelled": figures.n_labelled,
        "request_rate": _estimate(figures.request_rate),
        "system_accuracy": _estimate(figures.system_accuracy),
        "early_abstention": _estimate(figures.early_abstention),
        "coverage": _estimate(figures.coverage),
        "supervised_accuracy": _estimate(figures.supervised_accuracy),
        "risk": _estimate(_risk(figures.supervised_accuracy)),
        "false_alarm_rate": _ratio(figures, "false_alarm_rate", figures.false_alarm_rate),
        "s_beta": {beta: _ratio(figures, f"s_beta_{beta}", value) for beta, value in figures.s_beta.items()},
        "route_shares": dict(figures.route_shares),
        "cost_per_input": _estimate(figures.cost_per_input),
        "cost_per_correct_answer": _ratio(figures, "cost_per_correct_answer", figures.cost_per_correct_answer),
        "latency_s": _latency(figures.latency),
        "latency_s_by_route": {route: _latency(one) for route, one in figures.latency_by_route.items()},
    }


def _ratio(figures: SystemFigures, name: str, value: float) -> dict[str, float | None]:
    """A ratio with its bootstrap interval."""
    return _estimate(Estimate(value, *figures.bootstrap.get(name, UNKNOWN)))


def _risk(supervised: Estimate) -> Estimate:
    return Estimate(1.0 - supervised.value, 1.0 - supervised.high, 1.0 - supervised.low)


def _latency(latency: Latency) -> dict[str, Any]:
    return {name: _estimate(getattr(latency, name)) for name in ("mean", "p50", "p95")}


def _curves(curves: CurveFigures | None) -> dict[str, Any]:
    if curves is None:
        return dict.fromkeys(("auc_rac", "remote_even", "best", "captured_gain"))
    area = curves.auc_rac
    return {
        "auc_rac": {
            "value": _number(area.value),
            "standard_error": _number(area.standard_error),
            "low": _number(area.interval.low),
            "high": _number(area.interval.high),
            "area": _number(area.area),
            "area_gain": _number(area.area_gain),
        },
        "remote_even": _point(curves.remote_even),
        "best": _point(curves.best),
        "captured_gain": _number(curves.captured_gain),
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    return {
        "request_rate": point.request_rate,
        "system_accuracy": _number(point.system_accuracy),
        "local_threshold": json_safe(point.local_threshold),
    }


def _supervisor(figures: SupervisorFigures) -> dict[str, Any]:
    return {
        "auroc": _estimate(figures.auroc),
        "auroc_deferred": _estimate(figures.auroc_deferred),
        "aurc": _number(figures.risk_coverage.aurc),
        "e_aurc": _number(figures.risk_coverage.e_aurc),
        "augrc": _number(figures.risk_coverage.augrc),
        "distinct": figures.distinct,
        "missing": figures.missing,
        "failed": figures.failed,
    }


def _supervised_row(row: SupervisedRow) -> dict[str, Any]:
    values: dict[str, Any] = json_safe(asdict(row))
    return values


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {name: _number(value) for name, value in estimate._asdict().items()}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def json_safe(value: Any) -> Any:
    """The value in JSON's types: NaN becomes None, infinities (only thresholds have them) "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{value:g}"
    return value if isinstance(value, str | int | float | bool | None) else str(value)
