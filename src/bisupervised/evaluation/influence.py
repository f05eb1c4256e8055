"""What each input adds to the error of a figure, so that two supervisors are compared on the very same inputs.

The figures of two supervisors on one table rise and fall together, and their difference is known far better than
either. With psi_i the influence of input i on a figure, the figure's variance is sum psi_i^2 / n^2, that of a
difference sum (psi_i - psi'_i)^2 / n^2, and both take no more than one sort.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.intervals import Estimate, normal_interval
from bisupervised.records import AnyArray, BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Influence:
    """A figure, and the influence of each of the n inputs on it."""

    value: float  #: NaN where it is not known
    rows: FloatArray  #: (n,) psi, small samples made good for: n / (n - 1) times in the variance
    pairs: int  #: how many independent comparisons the figure is made of at least

    @property
    def estimate(self) -> Estimate:
        """The figure with its 95 % interval."""
        return Estimate(self.value, *normal_interval(self.value, _standard_error(self.rows)))


class Difference(NamedTuple):
    """A figure of one supervisor minus that of another, paired."""

    value: float
    low: float  #: of the 95 % interval
    high: float
    standard_error: float
    p_value: float  #: two-sided, of no difference, in [0, 1]; NaN where the difference is not known


def auroc_influence(order: DeferralOrder, right: BoolArray) -> Influence:
    """AUROC, whose influence is DeLong's (DeLong, DeLong & Clarke-Pearson, Biometrics 1988), O(n log n) by mid-ranks
    (Sun & Xu, IEEE Signal Processing Letters 2014).

    With V_i the share of wrong predictions below a right one (ties one half), or of right ones above a wrong one,
    psi_i = n (V_i - AUROC) / n_right, or / n_wrong. `right` is (n,). Not known when all are right, or all wrong.
    """
    n, n_right = len(right), int(np.count_nonzero(right))
    n_wrong = n - n_right
    if n_right == 0 or n_wrong == 0:
        return Influence(math.nan, np.full(n, math.nan), 0)
    right_until = order.totals(right)
    wrong_until = np.concatenate([[0], order.ends]) - right_until
    wrong_below = (wrong_until[:-1] + wrong_until[1:]) / (2.0 * n_wrong)
    right_above = 1.0 - (right_until[:-1] + right_until[1:]) / (2.0 * n_right)
    group = order.group_of_row()
    value = float(np.dot(np.diff(right_until), wrong_below)) / n_right
    above = np.where(right, wrong_below[group], right_above[group]) - value
    return Influence(value, above * np.where(right, _weight(n, n_right), _weight(n, n_wrong)), min(n_right, n_wrong))


def _weight(n: int, part: int) -> float:
    return n / part * math.sqrt(part / (part - 1)) if part > 1 else math.nan


def deferral_influences(order: DeferralOrder, gain: AnyArray) -> tuple[Influence, Influence]:
    """The gain over random deferral in system accuracy (`AucRac.area_gain`), and AUC-RAC.

    `gain` is (n,), remote minus local correctness d_i. With q_i, tail_i, theta, m and a as in `auc_rac`, the area's
    influence is d_i q_i + tail_i - 2 theta; random deferral's, (d_i - m) / 2, is taken off for the gain, and a (d_i -
    m) for AUC-RAC, which is divided by m, and not known where both models are equally accurate.
    """
    n = len(order)
    d = np.asarray(gain, dtype=np.float64)
    totals = np.asarray(order.totals(gain), dtype=np.float64)
    starts = order.ends - order.group_sizes()
    group = order.group_of_row()
    q = (1.0 - (starts + order.ends.astype(np.float64)) / (2.0 * n))[group]
    tail = ((totals[:-1] + totals[1:]) / (2.0 * n))[group]
    theta, m = float(np.dot(d, q)) / n, float(totals[-1]) / n
    small = math.sqrt(n / (n - 1)) if n > 1 else math.nan
    of_area = d * q + tail - 2.0 * theta
    pairs = int(np.count_nonzero(d))
    area_gain = Influence(theta - m / 2.0, small * (of_area - (d - m) / 2.0), pairs)
    if abs(m) < 1e-12:
        return area_gain, Influence(math.nan, np.full(n, math.nan), 0)
    a = theta / m
    return area_gain, Influence(a, small * (of_area - a * (d - m)) / m, pairs)


def difference(first: Influence, second: Influence) -> Difference:
    """The first figure minus the second, of the same inputs, with its normal interval and p-value.

    Where no input says otherwise than the others the normal error would be 0; the difference then counts as the mean
    of as many differences in [-1, 1] as there are pairs, with one more of either sign (after Agresti & Min,
    Statistics in Medicine 2005).
    """
    value = first.value - second.value
    error = _standard_error(first.rows - second.rows)
    if abs(value) < 1e-12 and error < 1e-12:
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0)
    if error < 1e-12:
        pairs = min(first.pairs, second.pairs)
        mean = pairs * value / (pairs + 2)
        error = math.sqrt(((pairs * value**2 + 2) / (pairs + 2) - mean**2) / max(pairs, 1))
    if math.isnan(value) or math.isnan(error):
        return Difference(value, math.nan, math.nan, math.nan, math.nan)
    p_value = math.erfc(abs(value) / error / math.sqrt(2.0))
    return Difference(value, *normal_interval(value, error), error, p_value)


def _standard_error(rows: FloatArray) -> float:
    return math.sqrt(float(np.dot(rows, rows))) / len(rows)


_DRAWS: Final = 20_000


def adjusted_p_values(
    challengers: Sequence[Influence], baseline: Influence, differences: Sequence[Difference], seed: int = 0
) -> list[float]:
    """p-values of k differences from one baseline, made good for their being k (family-wise, step-down).

    Westfall & Young (1993), as in Romano & Wolf (Econometrica 2005): the largest statistic is compared with the
    largest of k normal ones that are correlated as the differences are, the next one with the largest of the rest,
    and so on. Confidences made of the same probabilities are so alike that k of them are hardly more than one, which
    Holm's factors do not see; where Holm's p-value is smaller nevertheless (far out, where 20,000 seeded draws say
    little), it is taken. A difference that is not known has p = 1.
    """
    k = len(challengers)
    p_values = np.array([1.0 if math.isnan(one.p_value) else one.p_value for one in differences])
    statistics = np.array([_statistic(one) for one in differences])
    draws = np.abs(_correlated([one.rows - baseline.rows for one in challengers], np.random.default_rng(seed)))
    order = np.argsort(-statistics, kind="stable")
    # The largest among those of step s and later, for each draw.
    largest = np.maximum.accumulate(draws[:, order[::-1]], axis=1)[:, ::-1]
    adjusted, before, holm_before = np.ones(k), 0.0, 0.0
    for step, index in enumerate(order.tolist()):
        beyond = int(np.count_nonzero(largest[:, step] >= statistics[index]))
        before = max(before, float(p_values[index]), (beyond + 1) / (_DRAWS + 1))
        holm_before = max(holm_before, min((k - step) * float(p_values[index]), 1.0))
        adjusted[index] = min(before, holm_before)
    values: list[float] = adjusted.tolist()
    return values


def _statistic(one: Difference) -> float:
    return abs(one.value) / one.standard_error if one.standard_error > 0.0 else 0.0


def _correlated(rows: Sequence[FloatArray], rng: np.random.Generator) -> FloatArray:
    """(draws, k) standard normals with the correlations of the k given columns; independent where one is constant."""
    k = len(rows)
    products = np.array([[float(np.dot(one, other)) for other in rows] for one in rows]).reshape(k, k)
    scale = np.sqrt(np.diagonal(products))
    known = np.isfinite(scale) & (scale > 0.0)
    safe = np.where(known, scale, 1.0)
    correlations = np.where(np.outer(known, known), products / np.outer(safe, safe), np.eye(k))
    values, vectors = np.linalg.eigh(correlations)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn: FloatArray = rng.standard_normal((_DRAWS, k)) @ root.T
    return drawn
