"""The paper's tables beside ours, as data: for the command line to print, for JSON, and as figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bisupervised.evaluation.auc_rac import auc_rac_on_grid
from bisupervised.records import FloatArray
from bisupervised.studies.paper import (
    PAPER_COLUMNS,
    CurveRow,
    LatencyRow,
    PaperRow,
    RecordedStudy,
    curve_table,
    latency_table,
    paper_table,
    with_published_only,
)
from bisupervised.studies.paper_rules import OURS, PAPER, PaperRules, evaluation_points

#: AUC-RAC as the paper's code gives it, on its grid of 1,000 steps.
PUBLISHED_AUC_RAC = {
    "imdb": 0.8037,
    "ImageNet": 0.7775,
    "SQuADv2 (possible only)": 1.0211,
    "SQuADv2 (all)": 0.8434,
}

#: The authors' latency table (generated/results/table_times.tex), as rounded there: local and remote seconds,
#: break-even in percent, then per operating point the request rate in percent (cut, not rounded), seconds, and the
#: change against remote-only in percent.
PUBLISHED_LATENCY: Mapping[str, tuple[float, float, float, tuple[tuple[int, float, float], ...]]] = {
    "imdb": (0.05, 0.32, 85.68, ((55, 0.23, -30.7), (67, 0.26, -18.5))),
    "Issues": (0.09, 1.08, 91.53, ((30, 0.41, -61.5), (50, 0.63, -41.5), (70, 0.84, -21.5))),
    "ImageNet": (0.02, 0.68, 96.35, ((30, 0.23, -66.3), (50, 0.36, -46.3), (70, 0.50, -26.3))),
    "SQuADv2 (possible only)": (0.02, 0.71, 97.42, ((33, 0.25, -64.4), (59, 0.44, -38.1))),
    "SQuADv2 (all)": (0.02, 0.74, 97.53, ((49, 0.39, -47.6), (71, 0.55, -25.9))),
}
_NOT_REPRODUCIBLE = "As published: the predictions are not available. Remote model emulated locally."

# ---------------------------------------------------------------- comparison


@dataclass(frozen=True, slots=True)
class StudyComparison:
    """How far our rows of one study are from the published ones."""

    study: str
    rows: int  #: published rows
    reproduced: bool  #: False where the predictions are not available: the rows are shown as published
    largest_difference: (
        float  #: absolute, over all numbers; inf when a row or a value is missing; NaN if not computed
    )


def row_difference(ours: PaperRow | None, published: PaperRow) -> float:
    """The largest absolute difference of two rows; inf where only one of them has a value."""
    if ours is None:
        return math.inf
    return max(_apart(a, b) for a, b in zip(ours.numbers, published.numbers, strict=True))


def _apart(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    if math.isnan(a) or math.isnan(b):
        return 0.0 if math.isnan(a) and math.isnan(b) else math.inf
    return abs(a - b)


def compare_with_published(rows: Sequence[PaperRow], published: Sequence[PaperRow]) -> list[StudyComparison]:
    """Per published study, the largest absolute difference; rows are matched by study, target and label."""
    ours = {(row.study, row.target, row.point): row for row in rows}
    computed = {row.study for row in rows}
    comparisons = []
    for study in dict.fromkeys(row.study for row in published):
        theirs = [row for row in published if row.study == study]
        largest = math.nan
        if study in computed:
            largest = max(row_difference(ours.get((row.study, row.target, row.point)), row) for row in theirs)
        comparisons.append(StudyComparison(study, len(theirs), study in computed, largest))
    return comparisons


# ---------------------------------------------------------------- the report


#: What a table shows: numbers in natural units, text already worded, None for an empty cell.
Cell: TypeAlias = str | float | int | None


@dataclass(frozen=True, slots=True)
class NamedTable:
    """A table to print."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PaperReport:
    """Everything computed from the published predictions, beside what was published."""

    rows: Sequence[PaperRow]  #: by the paper's rules, the published-only rows among them
    default_rows: Sequence[PaperRow]  #: the same by our default rules, of the studies we can compute
    published: Sequence[PaperRow]
    comparisons: Sequence[StudyComparison]
    curves: Sequence[CurveRow]
    latency: Sequence[LatencyRow]  #: by the paper's rules
    default_latency: Sequence[LatencyRow]
    notes: Sequence[str]

    def tables(self) -> list[NamedTable]:
        """All tables in the order of the paper: curves, supervised assessment per study, latency."""
        assessed = [table for c in self.comparisons for table in _assessment_tables(self, c)]
        return [_curve_overview(self), *assessed, _latency_overview(self), _comparison_overview(self)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: rows under the column names of `rq2_table.csv`; what is not a number is None."""
        return {
            "rows": [_row_dict(row) for row in self.rows],
            "default_rows": [_row_dict(row) for row in self.default_rows],
            "published": [_row_dict(row) for row in self.published],
            "comparison": [_finite(asdict(comparison)) for comparison in self.comparisons],
            "curves": [_finite({**asdict(row), "complementarity": row.complementarity}) for row in self.curves],
            "latency": [_latency_dict(row) for row in self.latency],
            "default_latency": [_latency_dict(row) for row in self.default_latency],
            "notes": list(self.notes),
        }


def paper_report(studies: Sequence[RecordedStudy], published: Sequence[PaperRow]) -> PaperReport:
    """All tables by the paper's rules and by ours, compared with the published rows."""
    rows = paper_table(studies, PAPER)
    return PaperReport(
        rows=with_published_only(rows, published),
        default_rows=paper_table(studies, OURS),
        published=published,
        comparisons=compare_with_published(rows, published),
        curves=curve_table(studies),
        latency=latency_table(studies, PAPER),
        default_latency=latency_table(studies, OURS),
        notes=[f"{study.name}: {note}" for study in studies for note in study.notes],
    )


def study_lines(report: PaperReport) -> list[str]:
    """The report as lines of text, tables aligned."""
    lines: list[str] = []
    for table in report.tables():
        lines += [table.title, *_aligned([list(table.columns), *[_texts(row) for row in table.rows]])]
        lines += [*table.remarks, ""]
    return [*lines, *report.notes]


def _texts(row: Sequence[Cell]) -> list[str]:
    return ["" if c is None else f"{c:.4f}" if isinstance(c, float) else str(c) for c in row]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _curve_overview(report: PaperReport) -> NamedTable:
    rows = [
        [
            *(row.study, row.n, row.auc_rac.local_only, row.auc_rac.remote_only, row.complementarity),
            *(PUBLISHED_AUC_RAC.get(row.study), row.auc_rac_1000, row.auc_rac_100, row.auc_rac.value),
            f"{row.auc_rac.interval.low:.3f} to {row.auc_rac.interval.high:.3f}",
            *(row.auc_rac.area_gain, row.remote_even.request_rate, row.best.request_rate),
        ]
        for row in report.curves
    ]
    return NamedTable(
        "Request-accuracy curves",
        (
            *("study", "n", "local-only", "remote-only", "complementarity"),
            *("AUC-RAC paper", "1,000 steps", "100 steps", "exact", "95 % interval"),
            *("area gain", "remote-even", "best"),
        ),
        rows,
    )


_NUMBERS = ("remote_delta", "sys_delta", "sys_obj", "S_0.5", "S_1", "S_2")


def _assessment_tables(report: PaperReport, comparison: StudyComparison) -> list[NamedTable]:
    published = [row for row in report.published if row.study == comparison.study]
    title = f"Supervised assessment, {comparison.study}"
    if not comparison.reproduced:
        cells = [[f"{row.target:g}", row.point, *row.numbers] for row in published]
        remark = "As published: the predictions behind these rows are not available."
        return [NamedTable(title, ("target", "point", *_NUMBERS), cells, [remark])]
    ours = {(row.target, row.point): row for row in report.rows if row.study == comparison.study}
    pairs = [(row, ours.get((row.target, row.point))) for row in published]
    columns = ("target", "point", *(f"{name}: paper, ours" for name in _NUMBERS), "difference")
    return [
        NamedTable(f"{title}: the paper's rules", columns, [_beside(*pair) for pair in pairs]),
        _default_table(report, comparison.study, title),
    ]


def _beside(published: PaperRow, ours: PaperRow | None) -> list[Cell]:
    numbers = ours.numbers if ours else (None,) * len(_NUMBERS)
    pairs = [_pair(a, b) for a, b in zip(published.numbers, numbers, strict=True)]
    return [f"{published.target:g}", published.point, *pairs, f"{row_difference(ours, published):.1g}"]


def _pair(a: float | None, b: float | None) -> str | None:
    if a is None and b is None:
        return None
    return " ".join("      " if value is None else f"{value:.4f}" for value in (a, b))


def _default_table(report: PaperReport, study: str, title: str) -> NamedTable:
    theirs = {(r.target, r.point_name): r for r in report.rows if r.study == study}
    cells = []
    for row in (r for r in report.default_rows if r.study == study):
        other = theirs.get((row.target, row.point_name))
        pairs = [_pair(a, b) for a, b in zip(other.numbers if other else [None] * 6, row.numbers, strict=True)]
        cells.append([f"{row.target:g}", row.point, *pairs, f"{row_difference(other, row):.1g}"])
    columns = ("target", "point", *(f"{name}: paper, default" for name in _NUMBERS), "difference")
    remark = "Default rules: exact operating points, at most the target's false alarms, one acceptance rule."
    return NamedTable(f"{title}: our default rules", columns, cells, [remark])


def _latency_overview(report: PaperReport) -> NamedTable:
    default = {row.study: row for row in report.default_latency}
    cells: list[list[Cell]] = []
    remarks = []
    for row in report.latency:
        published = PUBLISHED_LATENCY.get(row.study, (None, None, None, ()))
        cells.append([row.study, "local only", None, row.local_s, published[0], None, None, None])
        cells.append([row.study, "remote only", None, row.remote_s, published[1], None, None, None])
        cells.append(_break_even(row.study, row.break_even, published[2]))
        for index, (point, system_s) in enumerate(row.points):
            theirs = published[3][index] if index < len(published[3]) else (None, None, None)
            rate, seconds, change = theirs
            cells.append(
                [
                    *(row.study, f"{int(point.request_rate * 100)} % ({point.name})", rate, system_s, seconds),
                    *(f"{100 * row.change(system_s):.1f} %", None if change is None else f"{change:.1f} %"),
                    _at_same_point(default.get(row.study), index),
                ]
            )
        if row.remark:
            remarks.append(f"{row.study}: {row.remark}")
    cells += _published_latency("Issues")
    columns = ("study", "point", "paper's %", "seconds", "paper", "vs remote-only", "paper", "per input, exact point")
    return NamedTable("Mean latency per input", columns, cells, [*remarks, f"Issues: {_NOT_REPRODUCIBLE}"])


def _break_even(study: str, value: float | None, published: float | None) -> list[Cell]:
    ours = None if value is None else f"{100 * value:.2f} %"
    return [study, "break-even", None, ours, None if published is None else f"{published} %", None, None, None]


def _at_same_point(row: LatencyRow | None, index: int) -> float | None:
    return row.points[index][1] if row and index < len(row.points) else None


def _published_latency(study: str) -> list[list[Cell]]:
    local, remote, break_even, points = PUBLISHED_LATENCY[study]
    return [
        [study, "local only", None, None, local, None, None, None],
        [study, "remote only", None, None, remote, None, None, None],
        _break_even(study, None, break_even),
        *[[study, "as published", rate, None, s, None, f"{change} %", None] for rate, s, change in points],
    ]


def _comparison_overview(report: PaperReport) -> NamedTable:
    cells: list[list[Cell]] = [
        [c.study, c.rows, f"{c.largest_difference:.1g}" if c.reproduced else "as published"]
        for c in report.comparisons
    ]
    return NamedTable("rq2_table.csv", ("study", "rows", "largest difference"), cells)


def _row_dict(row: PaperRow) -> dict[str, Any]:
    values = (row.study, row.target, row.point, *row.numbers)
    return dict(zip(PAPER_COLUMNS, _finite(values), strict=True))


def _latency_dict(row: LatencyRow) -> dict[str, Any]:
    points = [
        {**point._asdict(), "system_s": system_s, "change": row.change(system_s)} for point, system_s in row.points
    ]
    return {**_finite(asdict(row)), "points": _finite(points)}


def _finite(value: Any) -> Any:
    """The value with every float that JSON cannot hold as None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------- figures


def draw_paper_figures(
    studies: Sequence[RecordedStudy], folder: str | Path, rules: PaperRules = PAPER, suffix: str = ".png"
) -> list[Path]:
    """One request-accuracy figure per study, named as the authors' are (`rac_imdb.png`); needs the report extra."""
    save: Any = import_module("bisupervised.report.plots").save_request_accuracy_figure
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for study in studies:
        path = target / f"rac_{re.sub(r'[^A-Za-z0-9]+', '_', study.name).strip('_')}{suffix}"
        save(path, **figure_data(study, rules))
        paths.append(path)
    return paths


def figure_data(study: RecordedStudy, rules: PaperRules = PAPER) -> dict[str, Any]:
    """What a study's figure shows: arguments of `report.plots.save_request_accuracy_figure`, the path aside."""
    rows = study.rows(rules)
    rates, accuracy = _drawn_curve(study, rules)
    points = []
    for point in evaluation_points(rows, study.points, rules.curve_grid):
        height = float(np.interp(point.request_rate, rates, accuracy))
        name = "" if point.name == "default" else f"{point.name}\n"
        points.append((point.request_rate, height, f"{name}({point.request_rate:.0%} / {height:.3f})"))
    straight = (np.array([0.0, 1.0]), np.array([accuracy[0], accuracy[-1]]))
    exact = curve_table([study])[0].auc_rac.value
    return {
        "curves": {"BiSupervised": (rates, accuracy), "random deferral": straight},
        "title": study.name,
        "y_label": "system accuracy" if study.objective == "accuracy" else f"system {study.objective}",
        "points": points,
        "auc_rac": exact if rules.curve_grid is None else auc_rac_on_grid(accuracy),
    }


def _drawn_curve(study: RecordedStudy, rules: PaperRules) -> tuple[FloatArray, FloatArray]:
    rows = study.rows(rules)
    if rules.curve_grid is not None:
        return rows.on_grid(rules.curve_grid)
    curve = rows.curve.thinned()
    return curve.request_rates, curve.system_accuracy
