"""The report for a terminal: the sentence first, then the tables, then what to be careful about.

Readable in 80 columns, where intervals take a second line, and in a pipe, where it is plain text.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bisupervised.assessment import Assessment
from bisupervised.calibration.thresholds import ASSUMPTION
from bisupervised.evaluation.evaluation import Evaluation
from bisupervised.report.headline import headline, second_line
from bisupervised.report.numerals import count, percent
from bisupervised.report.tables import (
    SUPERVISED_COLUMNS,
    SUPERVISOR_COLUMNS,
    SYSTEM_COLUMNS,
    SystemRow,
    column_label,
    evidence_rows,
    facts,
    supervised_rows,
    supervisor_rows,
    system_rows,
)
from bisupervised.report.terminal import (
    ROOMY,
    WIDE,
    figure_text,
    grid,
    new_console,
    open_table,
    plain_text,
    print_remarks,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_WIDE_ONLY = ("S_0.5", "S_2")  #: columns of the supervised table that 80 columns have no room for


def print_report(assessment: Assessment, console: Console | None = None) -> None:
    """Print everything that is known about an assessment. Raises `MissingExtra` without rich."""
    console = console or new_console()
    evaluation = assessment.evaluation
    console.print()
    console.print(plain_text(headline(assessment), "bold"))
    console.print(plain_text(second_line(assessment)))
    console.print(plain_text(_basis(evaluation), "dim"))
    for title, body in (
        ("Systems", _systems(evaluation, console.width)),
        ("Supervisors: does confidence tell correct from wrong?", _supervisors(evaluation, console.width)),
        ("Request-accuracy curve", _facts(evaluation)),
        ("Supervised assessment, thresholds set on these rows", _supervised(evaluation, console.width)),
        ("Thresholds", _evidence(assessment)),
    ):
        if body is not None:
            console.print()
            console.print(plain_text(title, "bold cyan"))
            console.print(body)
    print_remarks(console, "Warnings", evaluation.warnings, "yellow")
    print_remarks(console, "Notes", [*evaluation.notes, ASSUMPTION], "dim")


def _basis(evaluation: Evaluation) -> str:
    labelled = "all" if evaluation.n_labelled == evaluation.n else count(evaluation.n_labelled)
    return f"{count(evaluation.n)} rows, {labelled} labelled; intervals are 95 %."


def _systems(evaluation: Evaluation, width: int) -> RenderableType:
    columns = [name for name in SYSTEM_COLUMNS if name != "mean latency"]
    headings = [column_label(name, evaluation) for name in columns]
    roomy = width >= ROOMY
    if not roomy:  # the two quantiles of latency share one column, and go without their intervals
        columns, headings = columns[:-2], [*headings[:-2], "latency p50,p95"]
    table = open_table(["", *headings], width)
    for row in system_rows(evaluation):
        if row.key == "local_only_supervised":
            table.add_section()
        cells = [figure_text(row.cells[name], width) for name in columns]
        if not roomy:
            cells.append(_latencies(row))
        name = row.name if roomy else row.name.replace(", ", ",\n")
        table.add_row(plain_text(name, "bold" if row.key == "bisupervised" else ""), *cells)
    return table


def _latencies(row: SystemRow) -> Text:
    median, high = row.cells["latency p50"].value, row.cells["latency p95"].value
    return plain_text(median if median == high else f"{median}\n{high}")


def _supervisors(evaluation: Evaluation, width: int) -> RenderableType | None:
    rows = supervisor_rows(evaluation)
    if not rows:
        return None
    table = open_table(["", *SUPERVISOR_COLUMNS], width)
    for name, cells in rows:
        name = name if width >= WIDE else name.replace(", ", ",\n")
        table.add_row(plain_text(name), *(figure_text(one, width) for one in cells))
    return table


def _facts(evaluation: Evaluation) -> RenderableType:
    table = grid()
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column()
    for fact in facts(evaluation):
        meaning = plain_text(fact.cell.interval, "dim")
        if fact.meaning:
            meaning.append(" " if fact.cell.interval else "").append(fact.meaning, style="dim")
        table.add_row(plain_text(fact.name), plain_text(fact.cell.value, "bold"), meaning)
    return table


def _supervised(evaluation: Evaluation, width: int) -> RenderableType | None:
    rows = supervised_rows(evaluation)
    if not rows:
        return None
    shown = [name for name in SUPERVISED_COLUMNS if width >= ROOMY or name not in _WIDE_ONLY]
    table = open_table([column_label(name, evaluation) for name in shown], width, left=2)
    before = ""
    for row in rows:
        cells = dict(zip(SUPERVISED_COLUMNS, row, strict=True))
        target = cells["false alarm target"]
        if target == before:  # said once for its rows
            cells["false alarm target"] = ""
        elif before:
            table.add_section()
        before = target
        table.add_row(*(plain_text(cells[name]) for name in shown))
    return table


def _evidence(assessment: Assessment) -> RenderableType:
    table = grid()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in evidence_rows(assessment):
        table.add_row(plain_text(name, "dim"), plain_text(value))
    return table


# ---------------------------------------------------------------- progress


@contextmanager
def progress_bar(total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Progress on standard error: `with progress_bar(n, "asking") as on_done: …; on_done(k)` tells of k more.

    A bar on a terminal; elsewhere a plain line every tenth of the way, without rich.
    """
    if not sys.stderr.isatty():
        yield _sparse_lines(total, description)
        return
    console = new_console(stderr=True)
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}", markup=False), *columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda more: progress.advance(task, more)


def _sparse_lines(total: int, description: str) -> Callable[[int], None]:
    done, tenth, start = 0, 0, time.monotonic()

    def on_done(more: int) -> None:
        nonlocal done, tenth
        done += more
        reached = 10 * done // total if total > 0 else 10
        if reached > tenth:
            tenth = reached
            elapsed = time.monotonic() - start
            share_done = percent(done / total) if total > 0 else percent(1.0)
            line = f"{description}: {count(done)} of {count(total)} ({share_done}), {elapsed:.0f} s\n"
            sys.stderr.write(line)
            sys.stderr.flush()

    return on_done
