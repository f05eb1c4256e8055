"""What the reports for a terminal are made of: an open table, a figure with its interval, remarks.

rich is imported when it is needed, and its markup is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bisupervised.errors import MissingExtra
from bisupervised.report.numerals import Cell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDE = 170  #: columns from which an interval stands beside its figure
ROOMY = 128  #: columns from which both quantiles of latency have a column of their own


def new_console(**options: Any) -> Console:
    """A console without guessed colours. Raises `MissingExtra` without rich."""
    try:
        from rich.console import Console
    except ImportError as error:
        raise MissingExtra("rich", "report") from error
    return Console(highlight=False, **options)


def plain_text(words: str, style: str = "") -> Text:
    """Words as they are, never markup: "[.884, .898]" and what users write are text."""
    from rich.text import Text

    return Text(words, style=style)


def print_remarks(console: Console, title: str, remarks: Sequence[str], style: str) -> None:
    """A titled list; yellow ones are warnings."""
    from rich.padding import Padding

    if not remarks:
        return
    console.print()
    console.print(plain_text(title, f"bold {style}"))
    for remark in remarks:
        table = grid()
        table.add_row(plain_text("!" if style == "yellow" else "-", style), plain_text(remark, style))
        console.print(Padding(table, (0, 0, 0, 1)))


def grid() -> Table:
    """Columns without lines."""
    from rich.table import Table

    return Table.grid(padding=(0, 1), pad_edge=False)


def open_table(columns: Sequence[str], width: int, *, left: int = 1) -> Table:
    """An open table; the first `left` columns are words, the others numbers."""
    from rich import box
    from rich.table import Table

    padding = (0, 1 if width >= ROOMY else 0, 0, 0)  # beside the one space that the box draws
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding, header_style="dim", show_edge=False)
    for index, column in enumerate(columns):
        # Broken by hand, since a cell broken elsewhere separates a number from its unit.
        heading = column if width >= WIDE else column.replace("accuracy", "accur.").replace(" ", "\n")
        table.add_column(heading, justify="left" if index < left else "right", vertical="top", no_wrap=True)
    return table


def figure_text(value: Cell, width: int) -> Text:
    """A figure; its interval dim beside it, or beneath in a narrow terminal."""
    text = plain_text(value.value)
    if value.interval:
        long = width < WIDE and len(value.interval) > 15
        comma = ",\n" if long else ", " if width >= ROOMY else ","
        interval = value.interval.replace(", ", comma)
        text.append(" " if width >= WIDE else "\n").append(interval, style="dim")
    return text
