"""Supervisors side by side: a dot and its interval for each, and beside it its paired lead over the baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from bisupervised.evaluation.compared import LevelComparison
from bisupervised.evaluation.intervals import Estimate
from bisupervised.report.numerals import share
from bisupervised.report.plots import COLORS, new_figure, style


def intervals_figure(level: LevelComparison) -> Any:
    """The candidates of one level, best first: their criterion, with chance as a line, and their lead over the
    baseline, with 0 as a line. The paired interval says whether one is better; that two others overlap says little.
    """
    names = [one.name for one in level.candidates]
    chosen = level.recommended.name
    colors = [COLORS["system" if name == chosen else "muted"] for name in names]
    leads = [Estimate(*one.versus[:3]) for one in level.candidates]
    with style():
        figure, (left, right) = new_figure(9.2, 1.3 + 0.32 * len(names), columns=2)
        _panel(left, [one.criterion for one in level.candidates], colors, level.criterion.chance)
        left.set_title(str(level.criterion), fontsize=10)
        left.set_xlabel(f"chance is {share(level.criterion.chance)}", loc="left", fontsize=9)
        _panel(right, leads, colors, 0.0, far=_far(leads))
        right.set_title(f"lead over {level.baseline}, paired", fontsize=10)
        right.set_xlabel("right of the line: better", loc="left", fontsize=9)
        left.set_yticks(range(len(names)), names)
        right.set_yticks(range(len(names)), [""] * len(names))
        for tick, name in zip(left.get_yticklabels(), names, strict=True):
            tick.set_color(COLORS["ink"])
            tick.set_fontweight("bold" if name == chosen else "normal")
    return figure


def _far(leads: Sequence[Estimate]) -> float:
    """The lead below which a candidate would press the others together: it is written at the edge instead."""
    widths = [one.high - one.low for one in leads if one.high > one.low]
    return -4.0 * statistics.median(widths) if widths else -math.inf


def _panel(
    axes: Any, estimates: Sequence[Estimate], colors: Sequence[str], reference: float, far: float = -math.inf
) -> None:
    axes.axvline(reference, color=COLORS["wrong"], linewidth=1.2, linestyle=(0, (5, 3)), zorder=2)
    for row, (one, color) in enumerate(zip(estimates, colors, strict=True)):
        if math.isnan(one.value):
            axes.text(reference, row, " not known", va="center", fontsize=9, color=COLORS["muted"])
            continue
        if one.value < far:
            edge, words = axes.get_yaxis_transform(), f"← {share(one.value, signed=True)}"
            axes.text(0.01, row, words, transform=edge, va="center", fontsize=9, color=color)
            continue
        if not math.isnan(one.low):
            axes.plot([one.low, one.high], [row, row], color=color, linewidth=2.2, zorder=3)
        dot: Any = {"marker": "o", "markersize": 7, "color": color, "markeredgecolor": COLORS["paper"]}
        axes.plot([one.value], [row], zorder=4, **dot)
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)  # their labels are long
    axes.xaxis.set_major_formatter(_ticks(axes))
    axes.grid(False, axis="y")
    axes.tick_params(length=0, pad=6)


def _ticks(axes: Any) -> Callable[[float, int], str]:
    def text(value: float, _: int) -> str:
        low, high = axes.get_xlim()
        return share(value, 4 if high - low < 0.02 else 3 if high - low < 0.3 else 2, signed=low < 0.0)

    return text
