"""Figures of the supervisors: risk against coverage, and the confidences of correct and of wrong predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bisupervised.records import BoolArray, FloatArray
from bisupervised.report.numerals import threshold
from bisupervised.report.plots import COLORS, Curve, Point, mark_points, new_figure, share_axes, style, thinned


def risk_coverage_figure(
    curves: Mapping[str, Curve],
    *,
    title: str = "",
    point: Point | None = None,
    size: tuple[float, float] = (7.6, 4.2),
) -> Any:
    """Risk (share of wrong predictions among the accepted) against coverage, for each level: lower is better.

    `curves` maps a name to (coverages, risks); `point` is the whole system at its thresholds.
    """
    with style():
        figure, (axes,) = new_figure(*size)
        drawn = [thinned(x, y) for x, y in curves.values()]
        for (name, color), curve in zip(_level_colors(curves), drawn, strict=True):
            axes.plot(*curve, color=color, linewidth=2.0, label=name, zorder=3)
        share_axes(axes, "Coverage: share of inputs accepted", "Risk: wrong among the accepted")
        # The first few accepted inputs make any risk; they do not set the scale.
        settled = [float(np.max(y[x >= 0.05])) for x, y in drawn if (x >= 0.05).any()]
        heights = [*settled, point[1] if point else 0.0, 0.01]
        axes.set_ylim(0.0, 1.15 * max(heights))
        axes.set_title(title)
        axes.legend(loc="upper left", fontsize=9)
        if point is not None and math.isfinite(point[1]):
            mark_points(figure, axes, [point], drawn, None)
    return figure


def _level_colors(names: Mapping[str, Any]) -> list[tuple[str, str]]:
    roles = [next((role for role in ("local", "remote") if role in name), "system") for name in names]
    return [(name, COLORS[role]) for name, role in zip(names, roles, strict=True)]


# ---------------------------------------------------------------- confidence histograms


def confidence_figure(
    levels: Mapping[str, tuple[FloatArray, FloatArray, float]],
    *,
    title: str = "",
    size: tuple[float, float] = (9.2, 3.4),
) -> Any:
    """For each level, how confidence spreads over correct (upwards) and wrong predictions (downwards).

    `levels` maps a name to (confidences, correctness with NaN for not known, threshold). Predictions left of the
    threshold are not trusted.
    """
    with style():
        figure, panels = new_figure(*size, columns=max(len(levels), 1))
        for axes, (name, (confidences, correct, limit)) in zip(panels, levels.items(), strict=False):
            _confidence_panel(axes, confidences, correct, limit)
            axes.set_title(name, fontsize=10)
        handles = {
            label: one for axes in panels for one, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if handles:
            figure.legend(handles.values(), handles, loc="outside lower left", ncols=3, fontsize=9, handlelength=1.0)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _confidence_panel(axes: Any, confidences: FloatArray, correct: FloatArray, limit: float) -> None:
    finite = np.isfinite(confidences)
    axes.set_xlabel("confidence")
    axes.tick_params(length=0)
    axes.set_ylabel("inputs, square-root scale")
    axes.set_yscale("function", functions=(_signed_root, _signed_square))
    if not finite.any():
        axes.text(0.5, 0.5, "no confidence is known", transform=axes.transAxes, ha="center", color=COLORS["muted"])
        return
    edges = np.histogram_bin_edges(confidences[finite], bins=40)
    known = ~np.isnan(correct)
    right = known & (np.nan_to_num(correct) >= 0.5)
    groups: list[tuple[BoolArray, str, str, float]] = [
        (right, "correct", COLORS["system"], 1.0),
        (known & ~right, "wrong", COLORS["wrong"], -1.0),
    ]
    if not known.any():
        groups = [(~known, "label not known", COLORS["muted"], 1.0)]
    tallest = 0
    for rows, name, color, sign in groups:
        counts, _ = np.histogram(confidences[finite & rows], bins=edges)
        axes.bar(
            edges[:-1], sign * counts, np.diff(edges), align="edge", color=color, label=name, linewidth=0, zorder=2
        )
        tallest = max(tallest, int(counts.max()))
    axes.axhline(0.0, color=COLORS["ink"], linewidth=0.8, zorder=3)
    _count_ticks(axes, tallest)
    _mark_threshold(axes, limit, edges)


def _signed_root(values: FloatArray) -> FloatArray:
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))


def _signed_square(values: FloatArray) -> FloatArray:
    return np.asarray(np.sign(values) * np.square(values))


def _count_ticks(axes: Any, tallest: int) -> None:
    """Round counts, above and below the axis; a count is positive on either side."""
    round_one = 10 ** max(math.floor(math.log10(max(tallest, 1))), 0)
    ticks = [round_one * part for part in (0.1, 1.0, 5.0) if 1 <= round_one * part <= tallest]
    low, high = axes.get_ylim()
    axes.set_yticks([t for t in (*(-t for t in ticks), 0.0, *ticks) if low <= t <= high])
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")


def _mark_threshold(axes: Any, limit: float, edges: FloatArray) -> None:
    low, high = float(edges[0]), float(edges[-1])
    pad = 0.02 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    seen = min(max(limit, low - pad), high + pad)
    axes.axvspan(low - pad, seen, color=COLORS["muted"], alpha=0.13, linewidth=0, zorder=1)
    if low <= limit <= high:
        axes.axvline(limit, color=COLORS["ink"], linewidth=1.3, linestyle=(0, (4, 2)), zorder=4)
    words = f"trusted from {threshold(limit)}"
    if math.isinf(limit):
        words = "all trusted" if limit < 0 else "none trusted"
    axes.set_title(words, loc="right", fontsize=9, color=COLORS["muted"], fontweight="normal")
