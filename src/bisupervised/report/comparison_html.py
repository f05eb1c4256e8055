"""A comparison of supervisors as one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bisupervised.evaluation.compared import Comparison, LevelComparison
from bisupervised.report import plots
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
from bisupervised.report.comparison_plots import intervals_figure
from bisupervised.report.html import rendered


def write_comparison_report(comparison: Comparison, path: str | Path, *, source: Sequence[str]) -> Path:
    """Write the page and give its path; `source` are the words that name the rows. Raises `MissingExtra`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(comparison_report(comparison, source=source), encoding="utf-8")
    return path


def comparison_report(comparison: Comparison, *, source: Sequence[str]) -> str:
    """The page's text."""
    return rendered(
        "comparison.html.j2",
        title=f"BiSupervised: supervisors of {' '.join(source)}",
        basis=basis(comparison),
        levels=[_level(level) for level in comparison.levels.values()],
        warnings=warnings_in(comparison),
        notes=notes_in(comparison),
        command=next_command(comparison, source),
    )


def _level(level: LevelComparison) -> dict[str, Any]:
    columns, rows = comparison_table(level)
    return {
        "key": level.level.value,
        "title": level_title(level),
        "use": recommendation_text(level),
        "setting": setting_text(level),
        "columns": columns,
        "rows": [(one.name == level.recommended.name, cells) for one, cells in rows],
        "svg": plots.svg_of(intervals_figure(level), level.level.value),
        "caption": f"Left: {level.criterion} of each supervisor. Right: its lead over {level.baseline} on the same "
        f"inputs. With 95 % intervals; that those on the left overlap says little, those on the right tell.",
    }
