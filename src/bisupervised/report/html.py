"""The report as one HTML file that loads nothing: styles, figures and the slider's numbers are inside."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bisupervised.assessment import Assessment
from bisupervised.calibration.thresholds import ASSUMPTION
from bisupervised.errors import MissingExtra
from bisupervised.evaluation.evaluation import Evaluation
from bisupervised.report import plots
from bisupervised.report.curve import curve_figure
from bisupervised.report.explorer import EXPLORER_COLUMNS, at_tenths, explorer_points, start_point
from bisupervised.report.headline import headline, objective_label, routes_are_recorded, second_line
from bisupervised.report.numerals import amount, cell, count, percent, seconds, share
from bisupervised.report.plots import Svg
from bisupervised.report.supervisor_plots import confidence_figure, risk_coverage_figure
from bisupervised.report.tables import (
    LEVEL_NAMES,
    SUPERVISED_COLUMNS,
    SUPERVISOR_COLUMNS,
    SYSTEM_COLUMNS,
    SYSTEM_NAMES,
    column_label,
    evidence_rows,
    facts,
    supervised_rows,
    supervisor_rows,
    system_rows,
)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of one's own at the end of the report. All text is shown as text, never read as HTML."""

    title: str
    text: str = ""  #: paragraphs, an empty line between them
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()  #: a table, by `columns`
    figure: Svg | None = None  #: of `report.plots.svg_of`
    caption: str = ""  #: what the figure shows, for those who do not see it as well


def write_html_report(
    assessment: Assessment, path: str | Path, *, title: str, source: str, extra_sections: Sequence[Section] = ()
) -> Path:
    """Write the report and give its path. `source` names the data it is of. Raises `MissingExtra`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        html_report(assessment, title=title, source=source, extra_sections=extra_sections), encoding="utf-8"
    )
    return path


def html_report(assessment: Assessment, *, title: str, source: str, extra_sections: Sequence[Section] = ()) -> str:
    """The page's text."""
    return rendered(
        "report.html.j2", title=title, source=source, extra_sections=extra_sections, **_contents(assessment)
    )


def rendered(template: str, **contents: Any) -> str:
    """The text of a page of this package. Raises `MissingExtra` without jinja2."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", "report") from error
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_package_file),
        autoescape=lambda name: name is None or not name.endswith(".css"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    page: str = environment.get_template(template).render(**contents)
    return page


def _package_file(name: str) -> str:
    return resources.files("bisupervised.report").joinpath(name).read_text(encoding="utf-8")


def _unbroken(text: str) -> str:
    """A sentence whose intervals and percentages stay on one line."""
    kept = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return kept.replace(" %", "\N{NO-BREAK SPACE}%").replace(">= ", ">=\N{NO-BREAK SPACE}")


def _contents(assessment: Assessment) -> dict[str, Any]:
    evaluation = assessment.evaluation
    return {
        "headline": headline(assessment),
        "second_line": second_line(assessment),
        "basis": _basis(evaluation),
        "tiles": _tiles(evaluation),
        "warnings": list(evaluation.warnings),
        "notes": list(evaluation.notes),
        "system_columns": [(name, column_label(name, evaluation)) for name in SYSTEM_COLUMNS],
        "system_rows": system_rows(evaluation),
        "facts": facts(evaluation),
        "explorer": _explorer(evaluation),
        "supervisor_columns": SUPERVISOR_COLUMNS,
        "supervisor_rows": supervisor_rows(evaluation),
        "supervised_columns": [column_label(name, evaluation) for name in SUPERVISED_COLUMNS],
        "supervised_rows": supervised_rows(evaluation),
        "evidence_rows": evidence_rows(assessment),
        "judged_on": assessment.judged_on,
        "assumption": ASSUMPTION,
        "logged": routes_are_recorded(assessment),
        "figures_of": _figures(assessment),
    }


def _basis(evaluation: Evaluation) -> str:
    labelled = "all" if evaluation.n_labelled == evaluation.n else count(evaluation.n_labelled)
    return f"{count(evaluation.n)} rows, {labelled} labelled"


def _tiles(evaluation: Evaluation) -> list[dict[str, str]]:
    """The four or five numbers under the headline."""
    ours, remote = evaluation.systems["bisupervised"], evaluation.systems.get("remote_only")
    figures = [
        (ours.request_rate, percent, "inputs sent to the remote model", ""),
        (
            ours.system_accuracy,
            share,
            objective_label(evaluation),
            share(remote.system_accuracy.value) if remote else "",
        ),
        (ours.coverage, percent, "coverage: inputs with a trusted answer", ""),
        (ours.cost_per_input, amount, "cost per input", amount(remote.cost_per_input.value) if remote else ""),
        (ours.latency.mean, seconds, "mean latency", seconds(remote.latency.mean.value) if remote else ""),
    ]
    return [
        {**cell(one, write)._asdict(), "label": label, "remote": remote_only}
        for one, write, label, remote_only in figures
        if not math.isnan(one.value)
    ]


def _explorer(evaluation: Evaluation) -> dict[str, Any]:
    points = explorer_points(evaluation)
    known = [key for key in EXPLORER_COLUMNS if points and key in points[0]]
    return {
        "points": points,
        "columns": [(key, column_label(EXPLORER_COLUMNS[key], evaluation)) for key in known],
        "tenths": at_tenths(points),
        "start": start_point(points, evaluation),
    }


def _figures(assessment: Assessment) -> dict[str, Svg | None]:
    evaluation = assessment.evaluation
    curve = curve_figure(evaluation)
    return {
        "curve": None if curve is None else plots.svg_of(curve, "curve"),
        "confidence": plots.svg_of(confidence_figure(_confidences(assessment)), "confidence"),
        "risk": _risk(evaluation, logged=routes_are_recorded(assessment)),
        "bars": _bars(evaluation),
    }


def _confidences(assessment: Assessment) -> dict[str, Any]:
    evaluation = assessment.evaluation
    limits = {"local": evaluation.local_threshold, "remote": evaluation.remote_threshold}
    table = assessment.table
    return {LEVEL_NAMES[name]: (table.level(name).confidences, table.correct(name), limits[name]) for name in limits}


def _risk(evaluation: Evaluation, *, logged: bool) -> Svg | None:
    # A log's remote supervisor saw the deferred inputs only: its coverage is a share of those.
    seen = {"remote": ", of the deferred inputs"} if logged else {}
    curves = {
        f"{level} supervisor{seen.get(level, '')}": (one.risk_coverage.coverages, one.risk_coverage.risks)
        for level, one in evaluation.supervisors.items()
    }
    if not curves:
        return None
    ours = evaluation.systems["bisupervised"]
    point = (ours.coverage.value, 1.0 - ours.supervised_accuracy.value, "BiSupervised")
    known = not math.isnan(point[1])
    return plots.svg_of(risk_coverage_figure(curves, point=point if known else None, size=(9.2, 4.0)), "risk")


def _bars(evaluation: Evaluation) -> Svg | None:
    systems = {
        SYSTEM_NAMES[key]: evaluation.systems.get(key) for key in ("local_only", "bisupervised", "remote_only")
    }
    known = {name: one for name, one in systems.items() if one is not None}
    cost = {name: one.cost_per_input.value for name, one in known.items()}
    latency = {name: one.latency.mean.value for name, one in known.items()}
    panels = [
        plots.Bars(title, values, write, _break_even_caption(better, rate))
        for title, values, write, better, rate in (
            ("Mean cost per input", cost, amount, "cheaper", evaluation.break_even_cost),
            ("Mean latency", latency, seconds, "faster", evaluation.break_even_latency),
        )
        if not all(math.isnan(value) for value in values.values())
    ]
    return plots.svg_of(plots.bars_figure(panels), "bars") if panels else None


def _break_even_caption(better: str, rate: float) -> str:
    if math.isnan(rate):
        return ""
    if rate <= 0.0:
        return f"never {better} than remote-only"
    return f"{better} than remote-only below {percent(rate)} requests"
