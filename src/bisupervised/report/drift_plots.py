"""The figure of `drift`: evidence over the rows, and confidences against the calibration rows'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.monitoring.findings import NAMES, Drift, Finding
from bisupervised.monitoring.ranks import Bins
from bisupervised.records import FloatArray
from bisupervised.report.plots import COLORS, new_figure, save_figure, style, thinned

_LINES = ("system", "wrong", "local", "remote", "second", "muted")
_BARS = 24
_FAR = 8.0  #: times the alarm


def drift_figure(drift: Drift, *, size: tuple[float, float] = (12.6, 4.2)) -> Any:
    """log10 of each e-value after each row, to a few times the alarm; and histograms of both levels' confidences."""
    levels = [("local", "1st level", drift.reference.local, drift.local)]
    if drift.reference.remote is not None and len(drift.remote):
        levels.append(("remote", "2nd level (deferred)", drift.reference.remote, drift.remote))
    with style():
        figure, axes = new_figure(*size, columns=1 + len(levels))
        _evidence(axes[0], drift.findings)
        for one, (color, title, bins, confidences) in zip(axes[1:], levels, strict=True):
            _histograms(one, COLORS[color], title, bins, confidences)
    return figure


def save_drift_figure(path: str | Path, drift: Drift) -> Path:
    """`drift_figure`, as PNG or SVG by the path's suffix. Raises `MissingExtra` without matplotlib."""
    return save_figure(path, drift_figure(drift))


def _evidence(axes: Any, findings: Sequence[Finding]) -> None:
    for number, finding in enumerate(findings):
        look = {"color": COLORS[_LINES[number % len(_LINES)]], "linestyle": "-" if number < len(_LINES) else ":"}
        x, y = thinned(finding.at + 1.0, finding.path, 2_000)
        axes.plot(x, y, linewidth=1.6, **look, label=NAMES[finding.question], zorder=3)
    alarm = findings[0].log10_alarm
    axes.axhline(alarm, color=COLORS["ink"], linewidth=1.0, linestyle=(0, (5, 3)), zorder=2)
    # Evidence far beyond the alarm leaves the figure: on its scale nobody would see when the alarm rang.
    top = max(alarm * 1.6, *(float(one.path.max(initial=0.0)) * 1.05 for one in findings))
    top = min(top, _FAR * alarm)
    axes.text(0.99, alarm, "alarm", transform=axes.get_yaxis_transform(), va="bottom", ha="right", fontsize=9)
    axes.set_ylim(min(-1.0, *(float(one.path.min(initial=0.0)) for one in findings)), top)
    axes.set_title("Evidence that something moved")
    axes.set_xlabel("Row", labelpad=8)
    axes.set_ylabel("log10 of the e-value")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2, fontsize=8)


def _histograms(axes: Any, color: str, title: str, bins: Bins, confidences: FloatArray) -> None:
    known, edges = confidences[np.isfinite(confidences)], bins.edges[np.isfinite(bins.edges)]
    everything = np.concatenate([known, edges])
    if len(everything):
        low, high = float(everything.min()), float(everything.max())
        bars = np.linspace(low, high if high > low else low + 1.0, _BARS + 1)
        then = _density_of_bins(bins, bars)
        now = np.histogram(known, bars)[0] / max(len(confidences), 1)
        axes.stairs(now, bars, fill=True, color=color, alpha=0.45, label="these rows", zorder=2)
        axes.stairs(then, bars, color=COLORS["ink"], linewidth=1.6, label="calibration rows", zorder=3)
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2, fontsize=8)
    missing = float(np.isnan(confidences).mean()) if len(confidences) else 0.0
    axes.set_title(f"Confidences, {title}")
    axes.set_xlabel(f"Confidence (missing: {missing:.1%} now, {bins.missing / bins.rows:.1%} then)", labelpad=8)
    axes.set_ylabel("Share of rows")


def _density_of_bins(bins: Bins, bars: FloatArray) -> FloatArray:
    """The calibration rows' share in each bar: linear between edges, all at once where edges are tied."""
    finite = np.isfinite(bins.edges)
    cumulative = bins.ranks[finite] / bins.rows
    edges = bins.edges[finite]
    if not len(edges):
        return np.zeros(len(bars) - 1)
    start = (bins.missing + float(np.isneginf(bins.edges).any())) / bins.rows
    x = np.concatenate([[bars[0]], edges, [bars[-1]]])
    y = np.concatenate([[min(start, float(cumulative[0]))], cumulative, [1.0]])
    shares: FloatArray = np.diff(np.interp(bars, x, y))
    return shares
