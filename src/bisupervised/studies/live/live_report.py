"""The results of live studies as lines of text, and as one HTML file that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bisupervised.report.html import rendered
from bisupervised.report.numerals import count, percent, share
from bisupervised.studies.live.claims import ALPHA
from bisupervised.studies.live.curves import LEGEND, curve_panel
from bisupervised.studies.live.published import SOURCE
from bisupervised.studies.live.results import StudyResults
from bisupervised.studies.live.study import Source
from bisupervised.studies.live.systems import TITLES
from bisupervised.studies.live.tables import (
    TextTable,
    certified_table,
    closing_table,
    counts_table,
    latency_table,
    money_table,
    part_text,
    parts_table,
    processor_table,
    stated_table,
    summary_table,
    supervised_table,
    supervisors_table,
    systems_table,
)
from bisupervised.studies.live.words import CLAIM_NAMES, claim_lines, goal_line, headline, study_line, verdict_text

__all__ = ["lines", "live_report", "summary_table", "write_live_report"]


def write_live_report(
    results: Sequence[StudyResults],
    path: str | Path,
    *,
    sources: Mapping[str, Sequence[Source]] | None = None,
    title: str = "BiSupervised: the case studies, live",
) -> Path:
    """Write the page and give its path; `sources` are the files of each study by its name. Raises `MissingExtra`.

    A name that ends in `.json` gets the results as plain values instead.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        text = json.dumps([study.to_dict() for study in results], allow_nan=False, indent=1)
    else:
        text = live_report(results, sources=sources, title=title)
    path.write_text(text, encoding="utf-8")
    return path


def live_report(
    results: Sequence[StudyResults],
    *,
    sources: Mapping[str, Sequence[Source]] | None = None,
    title: str = "BiSupervised: the case studies, live",
) -> str:
    """The page's text."""
    return rendered(
        "live_studies.html.j2",
        title=title,
        headline=headline(results),
        goal=goal_line(results) if results else "",
        alpha=percent(ALPHA),
        claim_names=list(CLAIM_NAMES.values()),
        claim_rows=[_claim_row(study) for study in results],
        panels=[_panel(study, place) for place, study in enumerate(results)],
        legend=_legend(results),
        overviews=_overviews(results),
        studies=[_study(study, place) for place, study in enumerate(results)],
        sources=_sources(results, sources or {}),
        paper_source=SOURCE,
    )


def _claim_row(study: StudyResults) -> dict[str, Any]:
    outcomes = [
        {"kind": claim.outcome.value.replace(" ", "-"), "text": verdict_text(claim), "remark": claim.remark}
        for claim in study.claims
    ]
    return {"name": study.name, "line": study_line(study), "outcomes": outcomes, "rows": count(study.n_report)}


def _panel(study: StudyResults, place: int) -> dict[str, Any]:
    points = " and ".join(
        f"claim {number}'s at {percent(run.request_rate.value)} requests and {share(run.system_accuracy.value)}"
        for number, run in enumerate((study.run("fewest_requests"), study.run("most_accurate")), start=1)
    )
    ends = f"from {share(study.local_only.value)} without requests to {share(study.remote_only.value)} with all"
    words = f"Request-accuracy curves of {study.name}, {ends}. The systems: {points}."
    return {"svg": curve_panel(study, f"curve-{place}"), "label": words}


def _legend(results: Sequence[StudyResults]) -> list[tuple[str, str]]:
    """(role of the colour, name) of the curves that are drawn."""
    drawn = [key for key in TITLES if any(key in study.curves for study in results)]
    return [(LEGEND[key], TITLES[key]) for key in drawn]


def _overviews(results: Sequence[StudyResults]) -> list[dict[str, Any]]:
    """The sections that show all studies together."""
    if not results:
        return []
    latency = [latency_table(results), stated_table(results), processor_table(results)]
    found = [
        ("paper", "Beside the paper", "", [closing_table(results)]),
        ("latency", "Latency, and where it breaks even", _LATENCY, latency),
        ("money", "Money", _MONEY, [money_table(results)]),
        ("certified", "Certified risk", _CERTIFIED, [certified_table(results)]),
        ("counts", "Rows, failures, truncated inputs", "", [counts_table(results)]),
    ]
    return [
        {
            **dict(zip(("key", "title", "text", "tables"), one, strict=True)),
            "remarks": _certified_remarks(results) if one[0] == "certified" else [],
        }
        for one in found
    ]


_LATENCY = (
    "Of the system of claim 1. Latencies are those of this machine and this network; what they would be with another "
    "remote model follows from the local latency and the request rate."
)
_MONEY = "Of the system of claim 1. What is claimed of money is claimed at each study's first prices."
_CERTIFIED = (
    "The limit is remote-only's risk on the calibration rows, rounded up to whole hundredths, at most .5; the "
    "confidences are the recorded ones."
)


def _certified_remarks(results: Sequence[StudyResults]) -> list[str]:
    return [
        f"{study.name}: {text}"
        for study in results
        for text in (study.certified.infeasible, study.certified.remark)
        if text
    ]


def _study(study: StudyResults, place: int) -> dict[str, Any]:
    levels = [supervisors_table(study, level) for level in ("local", "remote")]
    return {
        "key": f"study-{place}",
        "name": study.name,
        "title": study.title if study.title == study.name else f"{study.name}: {study.title}",
        "line": study_line(study),
        "open": [parts_table(study), systems_table(study)],
        "folded": [("Supervised assessment, beside the paper's rows", [supervised_table(study)])],
        "supervisors": levels,
        "reasons": study.reasons,
        "notes": study.notes,
    }


def _sources(results: Sequence[StudyResults], sources: Mapping[str, Sequence[Source]]) -> TextTable | None:
    names = [study.name for study in results]
    rows = [
        [study, one.what, one.origin, one.licence]
        for study in [*names, *(name for name in sources if name not in names)]
        for one in sources.get(study, ())
    ]
    if not rows:
        return None
    return TextTable("Models and data, as their makers state it", ("study", "what", "from", "licence"), rows, words=4)


# ---------------------------------------------------------------- the terminal


def lines(results: Sequence[StudyResults]) -> list[str]:
    """The results as plain text, the headline first."""
    if not results:
        return [headline(results)]
    found = [headline(results), *claim_lines(results), goal_line(results), ""]
    for study in results:
        found.append(f"{study.name}: {study_line(study)}")
        for number, claim in enumerate(study.claims, start=1):
            found.append(f"  claim {number}: {verdict_text(claim)}")
            found += [
                f"    {part.what}: {verdict_text(part)}, {part_text(part, part.estimate.value)}"
                for part in claim.parts
                if len(claim.parts) > 1
            ]
    for table in (closing_table(results), latency_table(results), money_table(results), certified_table(results)):
        found += ["", *_text_table(table)]
    return found


def _text_table(table: TextTable) -> list[str]:
    """One block for each row: many columns do not fit a terminal side by side."""
    width = max(len(name) for name in table.columns)
    found = [table.caption]
    for row in table.rows:
        found.append(f"  {row[0]}")
        found += [f"    {name:<{width}}  {cell}" for name, cell in zip(table.columns[1:], row[1:], strict=True)]
    return found
