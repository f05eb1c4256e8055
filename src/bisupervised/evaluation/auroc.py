"""AUROC of a supervisor: the probability that a correct prediction is trusted more than a wrong one."""

from __future__ import annotations

import math

import numpy as np

from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.intervals import NOT_KNOWN, Z95, Estimate, rate
from bisupervised.records import AnyArray, FloatArray


def auroc(confidences: FloatArray, correct: AnyArray, *, order: DeferralOrder | None = None) -> Estimate:
    """AUROC in [0, 1] by mid-ranks, with DeLong's interval (DeLong et al., Biometrics 1988), O(n log n).

    Ties count one half; an input without confidence (NaN) ranks below all others. Correctness is boolean, or
    grades read as correct from 0.5 on. Not known when all predictions are correct, or all wrong. DeLong's
    variance is 0 under perfect separation and unknown with a single correct or wrong prediction; the interval
    then is Wilson's for as many independent pairs as can be made, min(correct, wrong).

    >>> auroc(np.array([0.9, 0.8, 0.3]), np.array([True, True, False])).value
    1.0
    """
    right = (
        np.asarray(correct) >= 0.5 if np.asarray(correct).dtype.kind == "f" else np.asarray(correct, dtype=np.bool_)
    )
    n_right = int(np.count_nonzero(right))
    n_wrong = len(right) - n_right
    if n_right == 0 or n_wrong == 0:
        return NOT_KNOWN
    order = order or DeferralOrder.of(confidences)
    right_until = order.totals(right)
    wrong_until = np.concatenate([[0], order.ends]) - right_until
    # Per group: the share of wrong predictions below (half of those within), and the mirror image.
    wrong_below = (wrong_until[:-1] + wrong_until[1:]) / (2.0 * n_wrong)
    right_above = 1.0 - (right_until[:-1] + right_until[1:]) / (2.0 * n_right)
    right_in, wrong_in = np.diff(right_until), np.diff(wrong_until)
    value = float(np.dot(right_in, wrong_below)) / n_right
    pairs = min(n_right, n_wrong)
    if pairs == 1 or value in (0.0, 1.0):
        return Estimate(value, *rate(value * pairs, pairs)[1:])
    variance = _variance(wrong_below, right_in, value) + _variance(right_above, wrong_in, value)
    half = Z95 * math.sqrt(variance)
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0))


def _variance(placements: FloatArray, counts: AnyArray, value: float) -> float:
    n = int(counts.sum())
    return float(np.dot(counts, (placements - value) ** 2)) / (n - 1) / n
