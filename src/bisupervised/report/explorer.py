"""The points behind the page's slider, as text: the page shows them and calculates nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bisupervised.evaluation.evaluation import Evaluation
from bisupervised.evaluation.request_accuracy import OperatingPoint
from bisupervised.report.numerals import amount, percent, seconds, share
from bisupervised.report.tables import threshold_rule

MAX_POINTS = 400
EXPLORER_COLUMNS = {
    "request_rate": "inputs sent",
    "rule": "trust the local model at",
    "system_accuracy": "system accuracy",
    "versus_remote_only": "against remote-only",
    "cost": "cost per input",
    "latency": "mean latency",
}


def explorer_points(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The attainable points of the curve, at most about 400, and that of the evaluated thresholds, in the words
    that the page shows.

    Each has its numbers `x` (request rate) and `y` (system accuracy) besides. Mean cost and latency add up
    those of the very inputs that are deferred; where a mean is not known, no point has it.
    """
    if evaluation.curves is None:
        return []
    curve, ours = evaluation.curves.curve.thinned(MAX_POINTS), evaluation.systems["bisupervised"]
    attainable = np.flatnonzero(~np.isnan(curve.thresholds))
    chosen = OperatingPoint(ours.request_rate.value, ours.system_accuracy.value, evaluation.local_threshold)
    # The chosen point first: of two at one request rate the page shows the first.
    points = sorted([chosen, *(curve.point(int(i)) for i in attainable)], key=lambda point: point.request_rate)
    return [_words(evaluation, point, curve.remote_only) for point in points]


def _words(evaluation: Evaluation, point: OperatingPoint, remote_only: float) -> dict[str, Any]:
    words = {
        "request_rate": percent(point.request_rate),
        "rule": threshold_rule(point.local_threshold),
        "system_accuracy": share(point.system_accuracy),
        "versus_remote_only": share(point.system_accuracy - remote_only, signed=True),
    }
    curves = evaluation.curves
    assert curves is not None
    cost, latency = (
        float(np.interp(point.request_rate, curves.curve.request_rates, along))
        for along in (curves.cost_per_input, curves.latency_s)
    )
    if not math.isnan(cost):
        words["cost"] = amount(cost)
    if not math.isnan(latency):
        words["latency"] = seconds(latency)
    return {"x": round(point.request_rate, 6), "y": round(point.system_accuracy, 6), **words}


def at_tenths(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points nearest to 0 %, 10 %, …, 100 % of inputs sent: for readers without the slider."""
    if not points:
        return []
    rates = np.array([point["x"] for point in points])
    nearest = {int(np.argmin(np.abs(rates - tenth))) for tenth in np.linspace(0.0, 1.0, 11)}
    return [points[index] for index in sorted(nearest)]


def start_point(points: list[dict[str, Any]], evaluation: Evaluation) -> int:
    """Where the slider starts: at the evaluated thresholds."""
    ours = round(evaluation.systems["bisupervised"].request_rate.value, 6)
    rule = threshold_rule(evaluation.local_threshold)
    return next((i for i, point in enumerate(points) if point["x"] == ours and point["rule"] == rule), 0)
