"""The results as tables of texts, which the terminal and the page both show.

Numbers are written by `report.numerals`; what is not known is written "not known".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bisupervised.evaluation.intervals import Estimate
from bisupervised.report.numerals import amount, count, interval, percent, seconds, share
from bisupervised.studies.live.claims import Verdict
from bisupervised.studies.live.published import by_study
from bisupervised.studies.live.results import StudyResults, SystemRun
from bisupervised.studies.live.supervisors import SupervisorFigures
from bisupervised.studies.live.words import CLAIM_NAMES, estimate_text, verdict_text
from bisupervised.studies.paper import PaperRow

PURPOSES: Final = {"fewest_requests": "claim 1: fewest requests", "most_accurate": "claim 2: highest accuracy"}
NONE: Final = "–"


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts; the first `words` columns are words, the others numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    marked: frozenset[int] = frozenset()  #: rows to mark as the chosen ones


# ---------------------------------------------------------------- tables over studies


def claims_table(results: Sequence[StudyResults]) -> TextTable:
    """Studies by claims."""
    rows = [
        [study.name, count(study.n_report), *(verdict_text(study.claim(key)) for key in CLAIM_NAMES)]
        for study in results
    ]
    columns = ["study", "rows", *(f"claim {i}: {name}" for i, name in enumerate(CLAIM_NAMES.values(), start=1))]
    return TextTable("Which claim holds for which study (one-sided 95 %, paired)", columns, rows)


SUMMARY_COLUMNS: Final = (
    *("study", "rows", "local-only", "remote-only", "AUC-RAC", "paper's"),
    *("requests, claim 1", "difference", "paper: remote-even at"),
    *("best difference", "its requests", "paper: best at"),
    *("mean latency", "paper's at its first point", "S_1 at false alarms .05", "paper's"),
)


def summary_table(
    results: Sequence[StudyResults], published: Sequence[PaperRow] | None = None
) -> list[tuple[str, ...]]:
    """The closing table, by `SUMMARY_COLUMNS`: each live study beside the paper's closest one, which has other models
    and mostly other data. `published` in place of the copy that comes with the package."""
    rows = [row for one in by_study().values() for row in one] if published is None else list(published)
    return [_summary(study, [row for row in rows if row.study == study.paper.study]) for study in results]


def _summary(study: StudyResults, rows: Sequence[PaperRow]) -> tuple[str, ...]:
    first, best, paper = study.run("fewest_requests"), study.run("most_accurate"), study.paper
    rates = {row.point_name: float(row.point.split()[0]) for row in rows}
    scored = [one for one in study.supervised if one.target == 0.05 and one.point in ("best", "0.50 (default)")]
    theirs = [
        row for row in rows if row.target == 0.05 and (row.point_name == "best" or row.point == "0.50 (default)")
    ]
    change = study.latency.system_s.value / study.latency.remote_s.value - 1.0
    return (
        study.name,
        count(study.n_report),
        share(study.local_only.value),
        share(study.remote_only.value),
        estimate_text(study.auc_rac),
        _paper(paper.auc_rac, share),
        percent(first.request_rate.value),
        estimate_text(first.difference, signed=True),
        _paper(rates.get("remote-even"), percent),
        estimate_text(best.difference, signed=True),
        percent(best.request_rate.value),
        _paper(rates.get("best"), percent),
        _change(change),
        NONE if paper.latency_change is None else _change(paper.latency_change),
        share(scored[0].s_1.value) if scored else NONE,
        _paper(theirs[0].sys_s1 if theirs else None, share),
    )


def _paper(value: float | None, write: Callable[[float], str]) -> str:
    return NONE if value is None else write(value)


def _change(value: float) -> str:
    return "not known" if math.isnan(value) else f"{100.0 * value:+.0f} %"


def closing_table(results: Sequence[StudyResults]) -> TextTable:
    """`summary_table` with its caption."""
    caption = "The live studies beside the paper's closest ones, which have other models and mostly other data"
    return TextTable(caption, SUMMARY_COLUMNS, summary_table(results))


def latency_table(results: Sequence[StudyResults]) -> TextTable:
    """Measured latencies and where they break even."""
    columns = (
        *("study", "local", "remote-only", "system", "saved per input", "requests"),
        *("faster where a request takes more than", "faster below requests", "paper's"),
    )
    rows = []
    for study in results:
        one = study.latency
        change = study.paper.latency_change
        rows.append(
            [
                study.name,
                *(seconds(value) for value in (one.local_s.value, one.remote_s.value, one.system_s.value)),
                _seconds_text(one.saved_s),
                percent(one.request_rate),
                "never" if math.isinf(one.break_even_remote_s) else seconds(one.break_even_remote_s),
                "never" if one.break_even_request_rate <= 0.0 else percent(one.break_even_request_rate),
                NONE if change is None else _change(change),
            ]
        )
    return TextTable("Mean latency per input, measured, supervisors included", columns, rows)


def _seconds_text(one: Estimate) -> str:
    def write(value: float) -> str:
        return f"−{seconds(-value)}" if value < 0.0 else seconds(value)

    return f"{write(one.value)} {interval(one.low, one.high, write)}".strip()


def stated_table(results: Sequence[StudyResults]) -> TextTable:
    """What the mean latency would be at stated remote latencies."""
    stated = [one.remote_s for one in results[0].latency.stated] if results else []
    rows = [
        [
            study.name,
            *(f"{seconds(one.system_s)} ({'faster' if one.faster else 'slower'})" for one in study.latency.stated),
        ]
        for study in results
    ]
    columns = ["study", *(f"a request takes {seconds(value)}" for value in stated)]
    return TextTable("The same where a request took so long: stated, not measured", columns, rows)


def processor_table(results: Sequence[StudyResults]) -> TextTable:
    """Processor seconds per input."""
    rows = [
        [study.name, *(seconds(value) for value in (one.local_cpu_s, one.remote_cpu_s, one.system_cpu_s))]
        for study in results
        for one in [study.latency]
    ]
    columns = ("study", "local", "remote-only", "system")
    return TextTable("Processor time per input, of all cores together", columns, rows)


def money_table(results: Sequence[StudyResults]) -> TextTable:
    """What 1,000 inputs cost."""
    rows = []
    for study in results:
        for one in study.money:
            saved = one.saved_per_1000
            rows.append(
                [
                    study.name,
                    one.model or NONE,
                    f"{_money(saved.value)} {interval(saved.low, saved.high, _money)}".strip(),
                    _money(one.remote_only_per_1000),
                    _money(one.system_per_1000),
                    _money(one.local_per_1000),
                    _money(1000.0 * one.break_even_request),
                    one.basis,
                ]
            )
    columns = (
        *("study", "prices of", "saved", "remote-only", "system", "of that local compute"),
        *("saves where 1,000 requests cost more than", "made of"),
    )
    return TextTable("Money per 1,000 inputs, at list prices", columns, rows, words=2)


def _money(value: float) -> str:
    if math.isinf(value):
        return "never"
    return f"−{amount(-value)}" if value < 0.0 else amount(value)


def certified_table(results: Sequence[StudyResults]) -> TextTable:
    """Certified risk bounds and what came of them."""
    rows = []
    for study in results:
        one = study.certified
        if one.infeasible:
            outcome = "infeasible"
        else:
            outcome = {True: "held", False: "not held", None: "nothing was accepted"}[one.held]
        rows.append(
            [
                study.name,
                share(one.limit),
                f"{count(one.n_calibration)} / {count(one.n_report)}",
                outcome,
                *(NONE,) * 3,
            ]
            if one.infeasible
            else [
                study.name,
                share(one.limit),
                f"{count(one.n_calibration)} / {count(one.n_report)}",
                outcome,
                estimate_text(one.risk),
                estimate_text(one.coverage, rate=True),
                estimate_text(one.request_rate, rate=True),
            ]
        )
    columns = ("study", "risk at most", "certified / judged on", "on the report rows", "risk", "coverage", "requests")
    return TextTable("Certified risk, with 90 % confidence over the calibration rows", columns, rows)


def counts_table(results: Sequence[StudyResults]) -> TextTable:
    """Rows, parts, failures, truncated inputs."""
    rows = []
    for study in results:
        parts = ", ".join(
            f"{count(n)} {'fold ' if study.cross_fitted else ''}{name}" for name, n in study.parts.items()
        )
        rows.append(
            [
                study.name,
                "five folds, in turn" if study.cross_fitted else parts,
                count(study.n),
                count(study.n_report),
                NONE if study.n_clusters is None else count(study.n_clusters),
                count(study.left_out),
                *(count(study.failures[level]) for level in ("local", "remote")),
                *(_known(study.truncated[level]) for level in ("local", "remote")),
            ]
        )
    columns = (
        *("study", "parts", "rows", "reporting", "clusters", "left out"),
        *("local failures", "remote failures", "cut for the local model", "cut for the remote model"),
    )
    return TextTable("Rows, and what went wrong with them", columns, rows, words=2)


def _known(value: int | None) -> str:
    return "not known" if value is None else count(value)


# ---------------------------------------------------------------- tables of one study


def parts_table(study: StudyResults) -> TextTable:
    """The parts of the claims."""
    rows = [
        [str(number), part.what, verdict_text(part), *_part_numbers(part)]
        for number, claim in enumerate(study.claims, start=1)
        for part in claim.parts
    ]
    columns = ("claim", "part", "verdict", "estimate", "95 % interval", "one-sided lower bound", "must exceed")
    return TextTable("The claims, part by part", columns, rows, words=3)


def _part_numbers(part: Verdict) -> list[str]:
    def write(value: float) -> str:
        return part_text(part, value)

    one = part.estimate
    return [write(one.value), interval(one.low, one.high, write), write(part.lower), write(part.bound)]


def part_text(part: Verdict, value: float) -> str:
    """A number of a part in its unit."""
    if math.isnan(value):
        return "not known"
    if "latency" in part.what:
        return f"−{seconds(-value)}" if value < 0.0 else seconds(value)
    if "money" in part.what or "cost" in part.what:
        return _money(value)
    if "requests" in part.what:
        return percent(value)
    return share(value, signed=True) if value else "0"


def systems_table(study: StudyResults) -> TextTable:
    """Every system at the points chosen for it."""
    rows = [[PURPOSES[run.purpose], run.title, *_system(run)] for run in study.systems]
    columns = (
        *("point for", "system", "requests", "system accuracy", "minus remote-only"),
        *("local answer after a request", "mean latency", "chosen on calibration rows at"),
    )
    marked = frozenset(place for place, run in enumerate(study.systems) if run.chosen)
    caption = "Every system at the point chosen for it; marked: the one that the claim is about, chosen beforehand"
    return TextTable(caption, columns, rows, words=2, marked=marked)


def _system(run: SystemRun) -> list[str]:
    points = [point.request_rate for point in run.points]
    low, high = percent(min(points)), percent(max(points))
    return [
        estimate_text(run.request_rate, rate=True),
        estimate_text(run.system_accuracy),
        estimate_text(run.difference, signed=True),
        percent(run.kept_local),
        seconds(run.latency_s),
        f"{low} requests" if low == high else f"{low} to {high} requests",
    ]


def supervisors_table(study: StudyResults, level: str) -> TextTable:
    """Every supervisor of a level beside the recorded confidence."""
    found = [one for one in study.supervisors if one.level == level]
    first = level == "local"
    columns = ["supervisor", "AUROC", "minus recorded"]
    columns += ["AUC-RAC", "gain over random", "minus recorded"] if first else ["AUROC on deferred", "minus recorded"]
    rows = [[_name(one), *_supervisor(one)] for one in found]
    marked = frozenset(place for place, one in enumerate(found) if one.chosen)
    name = "1st level (local)" if first else "2nd level (remote)"
    caption = f"Supervisors of the {name} on the report rows; marked: recommended on the calibration rows"
    return TextTable(caption, columns, rows, marked=marked)


def _name(one: SupervisorFigures) -> str:
    names = [one.name, *one.also]
    texts = ["recorded" if name == "confidence" else name.removeprefix("score_") for name in names]
    return f"{' = '.join(texts)}{' (learned)' if one.learned else ''}"


def _small(value: float) -> str:
    return share(value, 4, signed=True)


def _supervisor(one: SupervisorFigures) -> list[str]:
    recorded = one.name == "confidence"

    def versus(value: Estimate) -> str:
        if recorded:
            return NONE
        return f"{_small(value.value)} {interval(value.low, value.high, _small)}".strip()

    if one.level == "local":
        criterion = [estimate_text(one.auc_rac), share(one.gain.value, 4, signed=True), versus(one.gain_versus)]
    else:
        criterion = [estimate_text(one.auroc_deferred), versus(one.auroc_deferred_versus)]
    return [estimate_text(one.auroc), versus(one.auroc_versus), *criterion]


def supervised_table(study: StudyResults) -> TextTable:
    """Supervised assessment beside the paper's rows."""
    several = len({one.supervisors for one in study.supervised}) > 1
    rows = []
    for one in study.supervised:
        row = one.paper
        rows.append(
            [
                share(one.target, 2),
                one.point.replace("_", " ") + (f", {one.supervisors}" if several else ""),
                percent(one.request_rate),
                share(one.false_alarm_rate),
                estimate_text(one.supervised_accuracy),
                estimate_text(one.coverage),
                estimate_text(one.s_1),
                *((NONE,) * 3 if row is None else map(share, (row.sys_obj, row.sys_delta, row.sys_s1))),
            ]
        )
    name = "supervised accuracy" if study.objective == "accuracy" else f"supervised {study.objective}"
    columns = (
        *("false alarms", "point", "requests", "attained", name, "coverage", "S_1"),
        *("paper's objective", "its coverage", "its S_1"),
    )
    paper = f"; the paper's rows are of {study.paper.study}" if study.paper.study else ""
    caption = f"Supervised assessment: thresholds chosen on calibration rows, judged on the report rows{paper}"
    return TextTable(caption, columns, rows, words=2)
