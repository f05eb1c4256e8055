"""A comparison of supervisors for a terminal: a table for each level, what to be careful about, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bisupervised.evaluation.compared import Comparison, Criterion, LevelComparison
from bisupervised.report.comparison import (
    basis,
    comparison_table,
    level_title,
    next_command,
    notes_in,
    recommendation_text,
    setting_text,
    warnings_in,
)
from bisupervised.report.terminal import (
    ROOMY,
    WIDE,
    figure_text,
    new_console,
    open_table,
    plain_text,
    print_remarks,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


#: A column of its own where there is room, and beneath the name where there is none.
_REMARKS = "remarks"


def print_comparison(comparison: Comparison, source: Sequence[str] = (), console: Console | None = None) -> None:
    """Print it; `source` are the words that name the rows on the command line. Raises `MissingExtra` without rich."""
    console = console or new_console()
    from rich.padding import Padding  # once there is a console, there is rich

    console.print()
    console.print(plain_text(basis(comparison), "dim"))
    for level in comparison.levels.values():
        console.print()
        console.print(plain_text(level_title(level), "bold cyan"))
        console.print(_table(level, console.width))
    print_remarks(console, "Warnings", warnings_in(comparison), "yellow")
    print_remarks(console, "Notes", notes_in(comparison), "dim")
    console.print()
    console.print(plain_text("What to do", "bold"))
    for level in comparison.levels.values():
        console.print(plain_text(recommendation_text(level)))
        console.print(Padding(plain_text(setting_text(level)), (0, 0, 0, 2)))
    command = next_command(comparison, source)
    if command:
        console.print(plain_text(f"then: {command}"), soft_wrap=True)


def _table(level: LevelComparison, width: int) -> Table:
    headings, rows = comparison_table(level)
    hidden = _hidden(level, width)
    shown = [index for index, heading in enumerate(headings) if heading not in hidden]
    names = [headings[index] for index in shown]
    table = open_table([name.replace("versus ", "versus\n") if width < WIDE else name for name in names], width)
    if names[-1] == _REMARKS:
        table.columns[-1].justify = "left"
    for one, cells in rows:
        words = [plain_text(cells[0].value, "bold" if one.name == level.recommended.name else "")]
        if names[-1] != _REMARKS and cells[-1].value:
            words[0].append("\n  " + cells[-1].value.replace(", ", ",\n  "), style="dim")
        words += [figure_text(cells[index], width) for index in shown[1:]]
        table.add_row(*words)
    return table


def _hidden(level: LevelComparison, width: int) -> tuple[str, ...]:
    """Headings of the columns that a narrow terminal has no room for."""
    if width >= ROOMY:
        return () if width >= WIDE else (_REMARKS,)
    return (_REMARKS, "e-AURC", "AUROC") if level.criterion is Criterion.GAIN else (_REMARKS, "e-AURC")
