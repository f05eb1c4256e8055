"""The request-accuracy figure of an evaluation, with the points that matter marked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bisupervised.evaluation.evaluation import Evaluation
from bisupervised.report import plots
from bisupervised.report.headline import objective_label


def curve_figure(evaluation: Evaluation, *, title: str = "", size: tuple[float, float] = (9.2, 5.0)) -> Any:
    """The figure; None where the curve is not known."""
    curves = evaluation.curves
    if curves is None:
        return None
    curve, ours = curves.curve.thinned(), evaluation.systems["bisupervised"]
    points = [
        (curves.remote_even.request_rate, curves.remote_even.system_accuracy, "remote-even"),
        (curves.best.request_rate, curves.best.system_accuracy, "best"),
        (ours.request_rate.value, ours.system_accuracy.value, "these thresholds"),
    ]
    return plots.request_accuracy_figure(
        {"BiSupervised": (curve.request_rates, curve.system_accuracy)},
        title=title,
        y_label=objective_label(evaluation),
        points=points,
        auc_rac=None if math.isnan(curves.auc_rac.value) else curves.auc_rac.value,
        interval=curves.auc_rac.interval,
        oracle=(curves.oracle_rates, curves.oracle_accuracy) if not math.isnan(curves.captured_gain) else None,
        size=size,
    )


def save_curve_of(evaluation: Evaluation, path: str | Path, *, title: str = "") -> Path | None:
    """Write the figure as PNG or SVG, by suffix; None where there is no curve."""
    figure = curve_figure(evaluation, title=title)
    return None if figure is None else plots.save_figure(path, figure)
