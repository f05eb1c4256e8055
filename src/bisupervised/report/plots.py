"""Figures from evaluation's numbers: drawn off screen, without pyplot, in one style for colour-blind readers too.

Every `…_figure` function gives a matplotlib `Figure`; `save_figure` writes it as PNG or SVG, `svg_of` gives it as SVG
for a page, with its colours as CSS variables, so that the page decides between light and dark.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import MissingExtra
from bisupervised.records import AnyArray, FloatArray
from bisupervised.report.numerals import interval as interval_text
from bisupervised.report.numerals import percent, share
from bisupervised.report.placement import Box, Surroundings, place_labels

# Okabe and Ito's colours, which differ for all common kinds of colour blindness.
COLORS = {
    "ink": "#24292f",
    "muted": "#6a737d",
    "line": "#d5d9de",
    "paper": "#fefefe",
    "system": "#0072b2",
    "local": "#009e73",
    "remote": "#b8568f",
    "wrong": "#d55e00",
    "second": "#e69f00",
}
_CURVE_COLORS = ("system", "wrong", "local", "remote", "second", "muted")
_SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": COLORS["ink"],
    "text.parse_math": False,  # a title is text, dollars included
    "axes.edgecolor": COLORS["line"],
    "axes.facecolor": COLORS["paper"],
    "axes.labelcolor": COLORS["muted"],
    "axes.titlecolor": COLORS["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlepad": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "figure.facecolor": COLORS["paper"],
    "savefig.facecolor": COLORS["paper"],
    "xtick.color": COLORS["line"],
    "ytick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["muted"],
    "legend.frameon": False,
    "legend.labelcolor": COLORS["ink"],
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, selectable, and read aloud
}
_RANDOM, _ORACLE, _REMOTE_ONLY = "random deferral", "oracle", "remote-only"

Curve = tuple[AnyArray, AnyArray]
Point = tuple[float, float, str]

# matplotlib reads part of its style from process-wide settings; two threads must not change them at once.
_STYLE_LOCK = threading.Lock()


@contextmanager
def style(name: str = "figure") -> Iterator[None]:
    """The settings that figures are drawn and saved under; `name` keeps the ids of one page's figures apart."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra("matplotlib", "report") from error
    settings: Any = {**_SETTINGS, "svg.hashsalt": name}  # matplotlib types the keys one by one
    with _STYLE_LOCK, matplotlib.rc_context(settings):
        yield


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    """An empty figure of that size in inches, with its axes side by side; call it under `style`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save_figure(path: str | Path, figure: Any) -> Path:
    """Write a figure as PNG or SVG, by the suffix."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=200, metadata=metadata)
    return path


@dataclass(frozen=True, slots=True)
class Svg:
    """A figure for a page."""

    markup: str  #: an `<svg>` element that loads nothing
    #: the first axes in the units of the viewBox, y downwards; for the request-accuracy figure x runs from 0 to 1
    axes: Box
    y_limits: tuple[float, float]  #: what its bottom and its top stand for


def svg_of(figure: Any, name: str) -> Svg:
    """The figure as an inline `<svg>`: ids made unique by `name`, colours as `var(--fig-…, #…)`, no address in it."""
    stream = io.StringIO()
    with style(name):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:xlink)?)="[^"]*"', "", text)  # implied inside HTML
    text = re.sub(
        r"<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true" focusable="false">', text, count=1
    )
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for role, color in COLORS.items():
        text = text.replace(color, f"var(--fig-{role}, {color})")
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    axes = figure.axes[0]
    width, height = (72.0 * inches for inches in figure.get_size_inches())
    spot = axes.get_position()
    box = Box(spot.x0 * width, (1 - spot.y0) * height, spot.x1 * width, (1 - spot.y1) * height)
    low, high = axes.get_ylim()
    return Svg(text, box, (float(low), float(high)))


# ---------------------------------------------------------------- request-accuracy


def save_request_accuracy_figure(
    path: str | Path,
    curves: Mapping[str, Curve],
    *,
    title: str,
    y_label: str,
    points: Sequence[Point] = (),
    auc_rac: float | None = None,
    oracle: Curve | None = None,
    interval: tuple[float, float] | None = None,
) -> Path:
    """`request_accuracy_figure`, written as PNG or SVG by the path's suffix."""
    figure = request_accuracy_figure(
        curves, title=title, y_label=y_label, points=points, auc_rac=auc_rac, oracle=oracle, interval=interval
    )
    return save_figure(path, figure)


def request_accuracy_figure(
    curves: Mapping[str, Curve],
    *,
    title: str = "",
    y_label: str = "system accuracy",
    points: Sequence[Point] = (),
    auc_rac: float | None = None,
    oracle: Curve | None = None,
    interval: tuple[float, float] | None = None,
    size: tuple[float, float] = (7.6, 5.0),
) -> Any:
    """System accuracy against the share of inputs sent to the remote model.

    `curves` maps names to (request rates, system accuracy); one named "random deferral" replaces the straight line
    that is drawn otherwise. `points` are (request rate, system accuracy, label) to mark. Of curves with more than a
    thousand points every so many are drawn.
    """
    with style():
        figure, (axes,) = new_figure(*size)
        drawn = {name: thinned(x, y) for name, (x, y) in curves.items()}
        own = [name for name in drawn if name != _RANDOM]
        first = drawn[own[0]] if own else next(iter(drawn.values()))
        _reference_lines(axes, first, drawn.get(_RANDOM), oracle)
        for name, color in zip(own, _cycle(), strict=False):
            axes.plot(*drawn[name], color=color, linewidth=2.2, label=name, zorder=3, clip_on=False)
        share_axes(axes, "Inputs sent to the remote model", y_label)
        _y_limits(axes, [y for _, y in drawn.values()], oracle)
        axes.set_title(title)
        _legend(axes)
        corner = _auc_rac_note(axes, auc_rac, interval)
        lines = [*drawn.values(), *(line.get_data() for line in axes.get_lines() if line.get_linestyle() != "-")]
        mark_points(figure, axes, points, lines, corner)
    return figure


def _cycle() -> Iterator[str]:
    while True:
        yield from (COLORS[role] for role in _CURVE_COLORS)


def thinned(x: AnyArray, y: AnyArray, points: int = 1000) -> Curve:
    """At most so many of a curve's points, evenly taken."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).astype(np.int64))
    return np.asarray(x, dtype=np.float64)[keep], np.asarray(y, dtype=np.float64)[keep]


def _reference_lines(axes: Any, curve: Curve, random: Curve | None, oracle: Curve | None) -> None:
    start, end = float(curve[1][0]), float(curve[1][-1])
    if oracle is not None:
        axes.plot(*oracle, color=COLORS["muted"], linewidth=1.1, alpha=0.55, label=_ORACLE, zorder=1.5)
    rates, accuracy = random or (np.array([0.0, 1.0]), np.array([start, end]))
    axes.plot(rates, accuracy, color=COLORS["muted"], linewidth=1.2, linestyle=(0, (5, 3)), label=_RANDOM, zorder=2)
    axes.axhline(end, color=COLORS["remote"], linewidth=1.2, linestyle=(0, (1, 2)), label=_REMOTE_ONLY, zorder=2)


def share_axes(axes: Any, x_label: str, y_label: str) -> None:
    """Percent from 0 to 100 along x, accuracies or risks along y."""
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks(np.linspace(0.0, 1.0, 6))
    axes.xaxis.set_major_formatter(lambda value, _: percent(round(value, 6)))
    axes.yaxis.set_major_formatter(lambda value, _: share(value, _decimals(axes)))
    axes.set_xlabel(x_label, labelpad=8)
    axes.set_ylabel(y_label[:1].upper() + y_label[1:], labelpad=8)
    axes.tick_params(length=0, pad=6)


def _decimals(axes: Any) -> int:
    """As many as tell the y axis's ticks apart."""
    ticks = axes.yaxis.get_majorticklocs()
    step = float(ticks[1] - ticks[0]) if len(ticks) > 1 else 0.1
    return next(d for d in range(1, 8) if d == 7 or abs(round(step, d) - step) < 1e-9)


def _y_limits(axes: Any, heights: Sequence[AnyArray], oracle: Curve | None) -> None:
    """The curves with some air; the oracle as far as it does not press them flat."""
    low = min(float(np.min(y)) for y in heights)
    high = max(float(np.max(y)) for y in heights)
    span = max(high - low, 0.005)
    top = high + 0.12 * span
    if oracle is not None:
        top = min(max(top, float(np.max(oracle[1])) + 0.04 * span), high + 0.75 * span)
    axes.set_ylim(low - 0.10 * span, top)


def _legend(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] in (_RANDOM, _ORACLE, _REMOTE_ONLY))
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.13),
        ncols=4,
        fontsize=9,
        handlelength=2.4,
        columnspacing=1.8,
    )


def _auc_rac_note(axes: Any, value: float | None, interval: tuple[float, float] | None) -> Any:
    if value is None:
        return None
    text = f"AUC-RAC  {share(value)}"
    if interval is not None and not math.isnan(interval[0]):
        text += f"\n{interval_text(*interval)}"
    return axes.text(
        0.985,
        0.03,
        text,
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=10,
        color=COLORS["ink"],
        zorder=4,
    )


def mark_points(figure: Any, axes: Any, points: Sequence[Point], lines: Sequence[Curve], corner: Any) -> None:
    """Mark points with labels that keep clear of the given lines, of each other and of the text `corner`."""
    for x, y, _ in points:
        style = {"color": COLORS["ink"], "markeredgecolor": COLORS["paper"], "markeredgewidth": 1.6}
        axes.plot([x], [y], marker="o", markersize=8, linestyle="", zorder=5, clip_on=False, **style)
    # The layout first: only then do data have pixels.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()
    points = _merged(axes, points)
    anchors = [tuple(axes.transData.transform((x, y))) for x, y, _ in points]
    texts = [_label(axes, *point) for point in points]
    extents = [text.get_window_extent(renderer) for text in texts]
    samples = np.vstack([*(_pixels(axes, line) for line in lines), *(np.array([anchor]) for anchor in anchors)])
    frame = axes.get_window_extent(renderer)
    blocked = [Box(*corner.get_window_extent(renderer).extents)] if corner is not None else []
    around = Surroundings(Box(frame.x0 + 4, frame.y0 + 4, frame.x1 - 2, frame.y1 - 2), samples, blocked)
    boxes = place_labels(anchors, [(one.width, one.height) for one in extents], around)
    for text, box, anchor in zip(texts, boxes, anchors, strict=True):
        middle = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        text.set_position(axes.transData.inverted().transform(middle))
        _leader(axes, anchor, box)


def _merged(axes: Any, points: Sequence[Point]) -> list[Point]:
    """Points whose markers coincide share one label."""
    merged: list[Point] = []
    for x, y, label in points:
        for index, (a, b, other) in enumerate(merged):
            if math.dist(axes.transData.transform((x, y)), axes.transData.transform((a, b))) < 7.0:
                merged[index] = (a, b, f"{other}\n{label}")
                break
        else:
            merged.append((x, y, label))
    return merged


def _label(axes: Any, x: float, y: float, label: str) -> Any:
    backing = {"facecolor": COLORS["paper"], "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
    return axes.text(x, y, label, fontsize=9, ha="center", va="center", zorder=6, bbox=backing)


def _pixels(axes: Any, curve: Curve) -> FloatArray:
    """A curve in pixels, evenly sampled, so that a straight piece hides as much as a bent one."""
    x = np.linspace(float(curve[0][0]), float(curve[0][-1]), 120)
    pixels: FloatArray = axes.transData.transform(np.column_stack([x, np.interp(x, curve[0], curve[1])]))
    return pixels


def _leader(axes: Any, anchor: tuple[float, ...], box: Box) -> None:
    """A thin line to a label that stands far from its point."""
    near = (min(max(anchor[0], box.left), box.right), min(max(anchor[1], box.bottom), box.top))
    if math.dist(anchor, near) < 14.0:
        return
    ends = axes.transData.inverted().transform([anchor, near])
    axes.plot(ends[:, 0], ends[:, 1], color=COLORS["muted"], linewidth=0.8, zorder=4)


# ---------------------------------------------------------------- cost and latency


@dataclass(frozen=True, slots=True)
class Bars:
    """One quantity of several systems."""

    title: str
    values: Mapping[str, float]  #: by system; NaN where not known
    write: Callable[[float], str]
    caption: str = ""  #: where the break-even lies


def bars_figure(panels: Sequence[Bars], *, size: tuple[float, float] = (9.2, 2.3)) -> Any:
    """Cost and latency of the systems as bars, the remote-only one as the line to stay below."""
    with style():
        figure, axes = new_figure(*size, columns=max(len(panels), 1))
        for one, panel in zip(axes, panels, strict=False):
            _bars_panel(one, panel)
    return figure


_BAR_COLORS = {"local-only": "local", "remote-only": "remote", "BiSupervised": "system"}


def _bars_panel(axes: Any, panel: Bars) -> None:
    names = list(panel.values)
    heights = [0.0 if math.isnan(value) else value for value in panel.values.values()]
    colors = [COLORS[_BAR_COLORS.get(name, "muted")] for name in names]
    axes.barh(names, heights, height=0.62, color=colors, zorder=2)
    longest = max([*heights, 1e-12])
    for row, value in enumerate(panel.values.values()):
        place = 0.0 if math.isnan(value) else value
        axes.text(place + 0.02 * longest, row, panel.write(value), va="center", fontsize=9, zorder=3)
    axes.set_xlim(0.0, 1.25 * longest)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xticks([])
    axes.tick_params(length=0, labelcolor=COLORS["ink"])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.caption, loc="left", fontsize=9)
