"""The report's tables as text: what the terminal and the HTML page both show, each in its own way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bisupervised.assessment import Assessment
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.evaluation.evaluation import CurveFigures, Evaluation
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate
from bisupervised.evaluation.request_accuracy import OperatingPoint
from bisupervised.evaluation.supervised import SupervisedRow
from bisupervised.evaluation.system import SystemFigures
from bisupervised.report.headline import objective_label
from bisupervised.report.numerals import (
    NOT_KNOWN_TEXT,
    Cell,
    amount,
    cell,
    count,
    interval,
    percent,
    seconds,
    share,
    threshold,
)

SYSTEM_NAMES = {
    "local_only": "local-only",
    "remote_only": "remote-only",
    "bisupervised": "BiSupervised",
    "local_only_supervised": "local-only, supervised",
    "remote_only_supervised": "remote-only, supervised",
}
LEVEL_NAMES = {"local": "local, 1st level", "remote": "remote, 2nd level"}


@dataclass(frozen=True, slots=True)
class SystemRow:
    """One system's figures as text."""

    key: str
    name: str
    cells: Mapping[str, Cell]  #: by `SYSTEM_COLUMNS`

    @property
    def baseline(self) -> bool:
        """One model under its own supervisor, at the cascade's coverage."""
        return self.key.endswith("_supervised")


_Column = tuple[Callable[[SystemFigures], Estimate], Callable[[float], str]]
SYSTEM_COLUMNS: dict[str, _Column] = {
    "system accuracy": (lambda one: one.system_accuracy, share),
    "supervised accuracy": (lambda one: one.supervised_accuracy, share),
    "coverage": (lambda one: one.coverage, percent),
    "request rate": (lambda one: one.request_rate, percent),
    "cost per input": (lambda one: one.cost_per_input, amount),
    "mean latency": (lambda one: one.latency.mean, seconds),
    "latency p50": (lambda one: one.latency.p50, seconds),
    "latency p95": (lambda one: one.latency.p95, seconds),
}


def system_rows(evaluation: Evaluation) -> list[SystemRow]:
    """The five systems in the order of the report; one that was not evaluated is there, and not known."""
    return [
        SystemRow(key, name, _system_cells(key, evaluation.systems.get(key))) for key, name in SYSTEM_NAMES.items()
    ]


def _system_cells(key: str, figures: SystemFigures | None) -> dict[str, Cell]:
    cells = {
        column: cell(NOT_KNOWN if figures is None else pick(figures), write)
        for column, (pick, write) in SYSTEM_COLUMNS.items()
    }
    # What holds by construction is no estimate: one model alone sends nothing, or everything.
    fixed: tuple[str, ...] = () if key == "bisupervised" else ("request rate",)
    if key in ("local_only", "remote_only"):
        fixed = ("request rate", "coverage")
    return {column: Cell(one.value) if column in fixed else one for column, one in cells.items()}


def column_label(column: str, evaluation: Evaluation) -> str:
    """The column's heading: another objective takes accuracy's place."""
    return column.replace("system accuracy", objective_label(evaluation)).replace(
        "supervised accuracy", objective_label(evaluation).replace("system", "supervised", 1)
    )


class Fact(NamedTuple):
    """One figure read off the curve or the models, and what it means."""

    name: str
    cell: Cell
    meaning: str


def facts(evaluation: Evaluation) -> list[Fact]:
    """What the request-accuracy curve and the two models say, besides the chosen thresholds."""
    return [
        *_curve_facts(evaluation, evaluation.curves),
        _complementarity(evaluation),
        _break_even("cost", "cheaper", evaluation.break_even_cost),
        _break_even("latency", "faster", evaluation.break_even_latency),
    ]


def _curve_facts(evaluation: Evaluation, curves: CurveFigures | None) -> list[Fact]:
    if curves is None:
        unknown = Cell(NOT_KNOWN_TEXT)
        return [Fact(name, unknown, "") for name in ("AUC-RAC", "gain over random", "remote-even", "best")]
    area, label = curves.auc_rac, objective_label(evaluation)
    return [
        Fact(
            "AUC-RAC",
            Cell(share(area.value), interval(*area.interval)),
            "local-only is 0, random deferral .500, remote-only 1",
        ),
        Fact("gain over random", Cell(share(area.area_gain, signed=True)), f"mean {label} above random deferral"),
        _point_fact("remote-even", "the fewest as accurate as remote-only", curves.remote_even),
        _point_fact("best", f"the largest {label}", curves.best),
        Fact(
            "captured gain",
            Cell(percent(curves.captured_gain)),
            "of what an oracle would gain over random deferral",
        ),
    ]


def _point_fact(name: str, what: str, point: OperatingPoint) -> Fact:
    reached = f"({share(point.system_accuracy)}), at {threshold_rule(point.local_threshold)}"
    return Fact(name, Cell(percent(point.request_rate)), f"of inputs sent: {what} {reached}")


def threshold_rule(value: float) -> str:
    """`confidence >= 0.83`, and words for the infinities, and for NaN, which a curve has where no threshold stops."""
    if math.isnan(value):
        return "no threshold"
    if math.isinf(value):
        return "any confidence" if value < 0 else "no confidence"
    return f"confidence >= {threshold(value)}"


def _complementarity(evaluation: Evaluation) -> Fact:
    shares = evaluation.complementarity
    if shares is None:
        return Fact("complementarity", Cell(NOT_KNOWN_TEXT), "")
    return Fact(
        "complementarity",
        Cell(percent(shares.complementarity)),
        f"exactly one model is correct (only local {percent(shares.only_local)}, only remote "
        f"{percent(shares.only_remote)})",
    )


def _break_even(what: str, better: str, rate: float) -> Fact:
    name = f"break-even, {what}"
    if math.isnan(rate):
        return Fact(name, Cell(NOT_KNOWN_TEXT), f"{what} of one of the models is not recorded")
    if rate <= 0.0:
        return Fact(name, Cell("none"), f"never {better} than remote-only: the local model alone already is not")
    return Fact(name, Cell(percent(rate)), f"of inputs sent: below it the cascade is {better} than remote-only")


SUPERVISOR_COLUMNS = ("AUROC", "on deferred", "AURC", "e-AURC", "AUGRC", "distinct", "missing", "failed")


def supervisor_rows(evaluation: Evaluation) -> list[tuple[str, list[Cell]]]:
    """How well each level's confidence tells correct from wrong predictions, by `SUPERVISOR_COLUMNS`."""
    rows = []
    for level, one in evaluation.supervisors.items():
        areas = (one.risk_coverage.aurc, one.risk_coverage.e_aurc, one.risk_coverage.augrc)
        deferred = cell(one.auroc_deferred) if level == "remote" else Cell("–")
        counts = [Cell(count(n)) for n in (one.distinct, one.missing, one.failed)]
        rows.append((LEVEL_NAMES[level], [cell(one.auroc), deferred, *(Cell(share(x)) for x in areas), *counts]))
    return rows


SUPERVISED_COLUMNS: dict[str, Callable[[SupervisedRow], str]] = {
    "false alarm target": lambda row: percent(row.false_alarm_target),
    "operating point": lambda row: _point_name(row.point),
    "request rate": lambda row: percent(row.request_rate),
    "remote acceptance": lambda row: "–" if row.point == "local only" else percent(row.remote_acceptance_rate),
    "coverage": lambda row: percent(row.coverage),
    "supervised accuracy": lambda row: share(row.supervised_accuracy),
    "false alarm rate": lambda row: percent(row.false_alarm_rate),
    "S_0.5": lambda row: share(row.s_beta["0.5"]),
    "S_1": lambda row: share(row.s_beta["1"]),
    "S_2": lambda row: share(row.s_beta["2"]),
}


def _point_name(point: str) -> str:
    """`0.3 requests` in percent; any other name as it is."""
    number, _, rest = point.partition(" ")
    return f"{percent(float(number))} requests" if rest == "requests" else point


def supervised_rows(evaluation: Evaluation) -> list[list[str]]:
    """The supervised assessment, by `SUPERVISED_COLUMNS`."""
    return [[write(row) for write in SUPERVISED_COLUMNS.values()] for row in evaluation.supervised_rows]


def evidence_rows(assessment: Assessment) -> list[tuple[str, str]]:
    """Where the thresholds come from: name and value."""
    thresholds = assessment.thresholds
    evidence, target = thresholds.evidence, dict(thresholds.target)
    rows = [
        ("local threshold", threshold(thresholds.local)),
        ("remote threshold", threshold(thresholds.remote)),
        *([] if thresholds.abstain == -math.inf else [("abstention threshold", threshold(thresholds.abstain))]),
        ("thresholds id", thresholds.id),
        ("target", str(target.pop("name", "given by hand"))),
        *((name.replace("_", " "), _setting(name, value)) for name, value in target.items()),
    ]
    names = {
        "n": "rows that chose them",
        "n_labelled": "with labels",
        "n_held_out": "rows held out",
        "seed": "seed",
        "date": "date",
        "data_sha256": "data (SHA-256)",
    }
    rows += [(text, _setting(key, evidence[key])) for key, text in names.items() if key in evidence]
    return rows + [("promise", f"{promise} {assumption}") for promise, assumption in promises_of(thresholds)]


def promises_of(thresholds: Thresholds) -> list[tuple[str, str]]:
    """Each promise that the thresholds carry, in a sentence, with what it assumes."""
    return [(str(part["promise"]), str(part.get("assumption", ""))) for part in thresholds.promises]


def _setting(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return percent(value) if name.endswith("_rate") else threshold(value)
    return count(value) if isinstance(value, int) and name != "seed" else str(value)
