"""Risk against coverage of one supervised model: how wrong the accepted predictions are, as fewer are accepted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.records import AnyArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """The curve and its areas. All are risks: lower is better.

    aurc    mean over k = 1..n of the risk of the k most trusted predictions (Geifman et al., ICLR 2019)
    e_aurc  aurc - (e + (1 - e) ln(1 - e)): what a perfect order would not have; e is the risk of all
    augrc   mean over k of the *share of all inputs* accepted and wrong (Traub et al., NeurIPS 2024)
    """

    coverages: FloatArray  #: (g,) rising to 1: the most trusted group first
    risks: FloatArray  #: (g,) share of wrong predictions among the accepted
    aurc: float
    e_aurc: float
    augrc: float


def risk_coverage(confidences: FloatArray, correct: AnyArray, *, order: DeferralOrder | None = None) -> RiskCoverage:
    """The curve of n predictions, O(n log n). Tied predictions are averaged over their order; an input without
    confidence (NaN) is accepted last."""
    order = order or DeferralOrder.of(confidences)
    n = len(order)
    right_total = order.totals(np.asarray(correct))
    # Seen from the most trusted end: after accepting each group, how many are in and how many of them are wrong.
    accepted = np.empty_like(order.ends)
    accepted[0], accepted[1:] = n, n - order.ends[:-1]
    wrong = accepted - (right_total[-1] - right_total[:-1])
    accepted, wrong = accepted[::-1], wrong[::-1]
    risks = wrong / accepted
    risk_of_all = float(wrong[-1]) / n
    best = risk_of_all + (1.0 - risk_of_all) * math.log(1.0 - risk_of_all) if risk_of_all < 1.0 else 1.0
    if order.has_ties:
        aurc, augrc = _areas_with_ties(accepted, wrong, n)
    else:
        aurc, augrc = float(np.mean(risks)), float(wrong.sum(dtype=np.float64)) / n**2
    return RiskCoverage(accepted / n, risks, aurc, aurc - best, augrc)


def _areas_with_ties(accepted: AnyArray, wrong: AnyArray, n: int) -> tuple[float, float]:
    """(AURC, AUGRC). Within a group the expected number of wrong among the k most trusted rises evenly:
    wrong_before + rate (k - before). AURC divides it by k, by differences of harmonic numbers."""
    before = np.concatenate([[0], accepted[:-1]])
    wrong_before = np.concatenate([[0], wrong[:-1]])
    sizes = accepted - before
    rate = (wrong - wrong_before) / sizes
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])
    inverse_sum = harmonic[accepted] - harmonic[before]
    aurc = (float(np.dot(wrong_before - rate * before, inverse_sum)) + float(np.dot(rate, sizes))) / n
    augrc = float(np.dot(sizes, wrong_before) + np.dot(rate, sizes * (sizes + 1.0) / 2.0)) / n**2
    return aurc, augrc
