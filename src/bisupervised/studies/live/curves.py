"""The request-accuracy curves of one study, one panel for each, with the points that its claims are about."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from bisupervised.report.numerals import percent, share
from bisupervised.report.plots import COLORS, Svg, mark_points, new_figure, share_axes, style, svg_of
from bisupervised.studies.live.results import StudyResults
from bisupervised.studies.live.systems import LEARNED, MAX_SOFTMAX, RECOMMENDED, REDUCED

#: Which colour of the page each system's curve has.
LEGEND: Final = {MAX_SOFTMAX: "system", RECOMMENDED: "local", LEARNED: "wrong", REDUCED: "second"}
_DASHES: Final[dict[str, Any]] = {MAX_SOFTMAX: "-", RECOMMENDED: (0, (6, 2)), LEARNED: "-", REDUCED: (0, (2, 2))}


def curve_panel(study: StudyResults, name: str) -> Svg:
    """The panel as SVG; `name` keeps its ids apart from the other panels'. Raises `MissingExtra`."""
    return svg_of(curve_figure(study), name)


def curve_figure(study: StudyResults, size: tuple[float, float] = (5.4, 4.0)) -> Any:
    """Curves, random deferral, remote-only, the two chosen points, and where the paper's remote-even lies."""
    with style():
        figure, (axes,) = new_figure(*size)
        low, high = study.local_only.value, study.remote_only.value
        axes.plot([0, 1], [low, high], color=COLORS["muted"], linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
        axes.axhline(high, color=COLORS["remote"], linewidth=1.1, linestyle=(0, (1, 2)), zorder=2)
        lines = [(np.array([0.0, 1.0]), np.array([low, high])), (np.array([0.0, 1.0]), np.array([high, high]))]
        for key, curve in study.curves.items():
            lines.append((curve.request_rates, curve.system_accuracy))
            axes.plot(*curve, color=COLORS[LEGEND[key]], linestyle=_DASHES[key], linewidth=2.0, zorder=3)
        share_axes(axes, "Inputs sent to the remote model", f"system {study.objective.replace('_', ' ')}")
        points = [(0.0, low, "local-only"), (1.0, high, "remote-only")]
        for number, purpose in enumerate(("fewest_requests", "most_accurate"), start=1):
            run = study.run(purpose)
            rate, accuracy = run.request_rate.value, run.system_accuracy.value
            points.append((rate, accuracy, f"claim {number}: {percent(rate)}"))
        _limits(axes, [*(y for _, y in lines), np.array([y for _, y, _ in points])])
        _paper_mark(axes, study)
        axes.set_title(study.name)
        mark_points(figure, axes, points, lines, _corner(axes, study))
    return figure


def _limits(axes: Any, heights: list[Any]) -> None:
    low, high = min(float(np.min(y)) for y in heights), max(float(np.max(y)) for y in heights)
    span = max(high - low, 0.005)
    axes.set_ylim(low - 0.14 * span, high + 0.16 * span)


def _paper_mark(axes: Any, study: StudyResults) -> None:
    """A mark at the foot of the axis: the paper's request rate for the accuracy of its own remote model."""
    rate = study.paper.remote_even
    if rate is None:
        return
    foot = axes.get_xaxis_transform()
    axes.plot([rate], [0.0], marker="^", markersize=9, color=COLORS["muted"], transform=foot, clip_on=False, zorder=6)


def _corner(axes: Any, study: StudyResults) -> Any:
    ours = study.auc_rac
    text = f"AUC-RAC {share(ours.value)}"
    if not math.isnan(ours.low):
        text += f" [{share(ours.low)}, {share(ours.high)}]"
    if study.paper.auc_rac is not None:
        text += f"\npaper {share(study.paper.auc_rac)}"
    if study.paper.remote_even is not None:
        text += f"; ▲ its remote-even, {percent(study.paper.remote_even)}"
    place = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
    return axes.text(0.985, 0.035, text, fontsize=8.5, color=COLORS["ink"], zorder=4, **place)
