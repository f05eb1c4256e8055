"""AUC-RAC: the area under the request-accuracy curve, normalised (Weiss & Tonella 2023).

Local-only is 0, remote-only 1, and random deferral has 0.5. With d_i = R_i - L_i (correctness of the remote and
of the local prediction) and mid-ranks r_i of the deferral order (1 = deferred first),

    AUC-RAC = sum_i d_i (1 - (r_i - 1/2) / n) / sum_i d_i,

the exact area under the tie-averaged curve. It may exceed 1 (super-accurate), and is undefined where both models
are equally accurate, unstable where they nearly are: read the un-normalised gain beside it. RouteLLM calls it APGR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.intervals import Interval, normal_interval
from bisupervised.records import AnyArray, FloatArray


@dataclass(frozen=True, slots=True)
class AucRac:
    """The area, its standard error, and what normalises it."""

    value: float  #: NaN when both models are equally accurate
    standard_error: float  #: NaN for a single input
    area: float  #: mean system accuracy over all request rates (not normalised)
    local_only: float  #: system accuracy at request rate 0
    remote_only: float  #: system accuracy at request rate 1

    @property
    def interval(self) -> Interval:
        """95 % interval from the standard error; NaN ends where it is undefined."""
        return normal_interval(self.value, self.standard_error)

    @property
    def area_gain(self) -> float:
        """Area above random deferral, in system accuracy: what stays meaningful when the models are close."""
        return self.area - (self.local_only + self.remote_only) / 2.0


def auc_rac(
    local_confidence: FloatArray,
    local_correct: AnyArray,
    remote_correct: AnyArray,
    *,
    order: DeferralOrder | None = None,
    standard_error: bool = True,
) -> AucRac:
    """The exact AUC-RAC of n recorded inputs, O(n log n); correctness is boolean or a grade in [0, 1].

    The standard error is that of the influence function

        psi_i = (d_i q_i + tail_i - 2 theta - a (d_i - m)) / m,   tail_i = (S(<s_i) + S(<=s_i)) / 2n,

    with q_i = 1 - (r_i - 1/2)/n, m = mean d, theta = mean d q, a = theta/m and S the sum of d over the inputs
    deferred before (and with) i. It agrees with the bootstrap at a thousandth of its price.
    """
    order = order or DeferralOrder.of(local_confidence)
    n = len(order)
    gain = correctness_gain(local_correct, remote_correct)
    totals = order.totals(gain)
    m = float(totals[-1]) / n
    if abs(m) < 1e-12:  # equally accurate: the rest is the rounding of summed grades
        m = 0.0
    # theta = (1/n) sum d q, by parts: the tie-averaged area under the totals.
    if order.has_ties:
        # In float64: a group's size times a total does not fit the counters' 32 bits.
        sizes = order.group_sizes().astype(np.float64)
        theta = float(np.dot(sizes, totals[:-1] + totals[1:])) / (2.0 * n * n)
    else:
        theta = (float(totals.sum(dtype=np.float64)) - float(totals[-1]) / 2.0) / (float(n) * n)
    local_only = float(np.mean(local_correct))
    value = theta / m if m != 0.0 else math.nan
    error = math.nan
    if standard_error and m != 0.0 and n > 1:
        error = _standard_error(order, gain, totals, theta, m)
    return AucRac(value, error, local_only + theta, local_only, local_only + m)


def correctness_gain(local_correct: AnyArray, remote_correct: AnyArray) -> AnyArray:
    """(n,) d = remote minus local correctness: int8 for booleans, float64 for grades."""
    if local_correct.dtype.kind == "b" and remote_correct.dtype.kind == "b":
        return np.subtract(remote_correct.view(np.int8), local_correct.view(np.int8))
    return np.asarray(remote_correct, dtype=np.float64) - np.asarray(local_correct, dtype=np.float64)


_BLOCK = 1 << 18


def _standard_error(order: DeferralOrder, gain: AnyArray, totals: AnyArray, theta: float, m: float) -> float:
    n = len(order)
    a = theta / m
    squares = None
    if order.has_ties or gain.dtype.kind == "f":
        squares = order.totals(gain * gain if gain.dtype.kind == "f" else np.abs(gain))
    first = second = 0.0
    # psi depends on the group and on d_i alone: constant_g + slope_g d_i. In blocks, to stay in the cache.
    for start in range(0, len(order.ends), _BLOCK):
        stop = min(start + _BLOCK, len(order.ends))
        below, until = totals[start:stop], totals[start + 1 : stop + 1]
        ends = order.ends[start:stop]
        starts = np.concatenate([[0 if start == 0 else order.ends[start - 1]], ends[:-1]])
        sizes = ends - starts
        slope = (1.0 - (starts + ends) / (2.0 * n) - a) / m
        constant = ((below + until) / (2.0 * n) - 2.0 * theta) / m + a
        d_sum = until - below
        d_square = np.abs(d_sum) if squares is None else squares[start + 1 : stop + 1] - squares[start:stop]
        first += float(np.dot(constant, sizes) + np.dot(slope, d_sum))
        second += float(np.dot(constant * constant, sizes) + np.dot(slope, 2.0 * constant * d_sum + slope * d_square))
    variance = max(second / n - (first / n) ** 2, 0.0) * n / max(n - 1, 1)
    return math.sqrt(variance / n)


def auc_rac_on_grid(curve_on_grid: FloatArray) -> float:
    """AUC-RAC from system accuracies on a grid of request rates, as the paper's code computes it.

    (mean - first) / (last - first). The value depends on the grid: IMDB .8009 with 100 steps, .8037 with 1,000,
    .8056 exact. For repeating published numbers only; see `request_accuracy_on_grid`.
    """
    first, last = curve_on_grid[0], curve_on_grid[-1]
    if last == first:
        return math.nan
    return float((np.mean(curve_on_grid) - first) / (last - first))
