"""The report of `drift` for a terminal: the sentence, a table, and for each question what it means and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bisupervised.monitoring.findings import NAMES, Drift, Finding, Unknown, Verdict, name_of
from bisupervised.report.numerals import NOT_KNOWN_TEXT, amount, count, percent
from bisupervised.report.terminal import new_console, open_table, plain_text, print_remarks

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {Verdict.MOVED: "bold red", Verdict.NO_SIGN: "green", Verdict.TOO_FEW: "yellow"}
_BROKEN = {Verdict.MOVED: "moved", Verdict.NO_SIGN: "no sign\nof change", Verdict.TOO_FEW: "too few\nrows to say"}


def print_drift(drift: Drift, console: Console | None = None) -> None:
    """Print everything that was found. Raises `MissingExtra` without rich."""
    console = console or new_console()
    console.print()
    console.print(plain_text(drift.sentence, "bold"))
    console.print(
        plain_text(
            f"{count(drift.rows)} rows, against {count(drift.reference.rows)} calibration rows. An alarm that "
            f"nothing caused has a probability of at most {percent(drift.alpha)}, for all questions and all rows "
            f"together. {drift.order}",
            "dim",
        )
    )
    console.print()
    table = open_table(["", "verdict", "rows", "now", "calibrated", "evidence"], console.width, left=2)
    narrow = console.width < 100
    for one in drift.findings:
        name, verdict = NAMES[one.question], one.verdict.value
        cells = [count(one.rows), now_text(one), reference_text(one), evidence_text(one.log10_largest)]
        if narrow:  # in two lines
            name, verdict = name.replace(", ", ",\n"), _BROKEN[one.verdict]
            cells = [cell.replace(" [", "\n[") for cell in cells]
        table.add_row(plain_text(name), plain_text(verdict, _STYLES[one.verdict]), *map(plain_text, cells))
    console.print(table)
    for verdict in Verdict:
        for finding in drift.findings:
            if finding.verdict is verdict and verdict is not Verdict.NO_SIGN:
                _print_finding(console, finding)
    quiet = [one for one in drift.findings if one.verdict is Verdict.NO_SIGN]
    if quiet:
        names = "; ".join(NAMES[one.question] for one in quiet)
        print_remarks(
            console, f"No sign of change: {names}", list(dict.fromkeys(t for q in quiet for t in q.said)), ""
        )
    print_remarks(console, "Not known", unknown_texts(drift.unknown), "yellow")
    print_remarks(
        console,
        "Notes",
        [
            *drift.notes,
            "Evidence is the largest e-value so far; the alarm rings at "
            f"{evidence_text(drift.findings[0].log10_alarm)}. Confidences are shown as their mean rank among the "
            f"calibration rows, .5 where nothing moved. Intervals are {percent(1.0 - drift.alpha)}, at all rows at "
            "once.",
        ],
        "dim",
    )


def _print_finding(console: Console, finding: Finding) -> None:
    lines = [finding.said.meaning, finding.said.to_do]
    if finding.rang_at is not None:
        lines.insert(0, alarm_text(finding))
    title = f"{NAMES[finding.question]}: {finding.verdict.value}"
    print_remarks(console, title[0].upper() + title[1:], lines, _STYLES[finding.verdict].removeprefix("bold "))


def unknown_texts(unknown: Sequence[Unknown]) -> list[str]:
    """One sentence for all questions that have the same reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for one in unknown:
        names.setdefault((one.why, one.to_do), []).append(name_of(one.question))
    return [f"{'; '.join(asked)}: {why}. {to_do}" for (why, to_do), asked in names.items()]


def alarm_text(finding: Finding) -> str:
    """When the alarm first rang, and what is seen since then."""
    where = f"row {count(finding.rang_at or 0)}"
    if finding.rang_id is not None:
        where += f" (id {finding.rang_id})"
    if finding.rang_time == finding.rang_time:
        where += f", {datetime.fromtimestamp(finding.rang_time, UTC):%Y-%m-%d %H:%M} UTC"
    lately = _value_text(finding, finding.lately)
    held = "the limit" if finding.of_limit else "calibrated"
    text = f"The alarm first rang at {where}; since then: {lately}, {held}: {reference_text(finding)}."
    if finding.question.endswith("_confidences") and abs(finding.lately - 0.5) < 0.05:
        text += (
            " With a mean rank so near to .50 their spread or shape changed, or the rows are not in the order of "
            "their time (a file sorted by label, say: --shuffle)."
        )
    return text


def now_text(finding: Finding) -> str:
    """The value with its interval."""
    text = _value_text(finding, finding.value)
    if finding.low == finding.low:
        text += f" [{percent(finding.low)}, {percent(finding.high)}]"
    return text


def reference_text(finding: Finding) -> str:
    """The calibration rows' value, or the limit."""
    return f"{'at most ' if finding.of_limit else ''}{_value_text(finding, finding.reference)}"


def _value_text(finding: Finding, value: float) -> str:
    if not finding.question.endswith("_confidences"):
        return percent(value)
    return NOT_KNOWN_TEXT if value != value else f"rank {value:.2f}"


def evidence_text(log10_e: float) -> str:
    """An e-value: as a number while it can be read, else as a power of ten.

    >>> evidence_text(0.0), evidence_text(2.602), evidence_text(37.2)
    ('1', '400', '10^37')
    """
    return f"10^{log10_e:.0f}" if log10_e >= 6.0 else amount(10.0**log10_e)
