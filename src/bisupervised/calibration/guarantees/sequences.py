"""Testing an ordered list of hypotheses so that none of the true ones is rejected, with probability 1 - delta.

The fallback procedure (Wiens, Pharmaceutical Statistics 2003; Dmitrienko et al. 2006): hypothesis j begins with a
share w_j of delta; when it is rejected its level passes on to the next one, and when it is not, it is lost. All
weight on the first is the fixed sequence, which stops for good at the first failure. More starts cost a little level
and survive a bad first step. No independence of the p-values is needed.
"""

from __future__ import annotations

import math

import numpy as np

from bisupervised.records import AnyArray, BoolArray, FloatArray


def fallback(p_values: AnyArray, weights: FloatArray, delta: float) -> BoolArray:
    """(..., k): which hypotheses are rejected (= which targets are certified), for (..., k) p-values and (k,) weights
    of sum 1 at most.

    >>> fallback(np.array([0.2, 0.04, 0.09, 0.2]), np.array([0.5, 0.5, 0.0, 0.0]), 0.1).tolist()
    [False, True, False, False]
    """
    rejected = np.zeros(p_values.shape, dtype=np.bool_)
    level = np.zeros(p_values.shape[:-1])
    for j, weight in enumerate(weights * delta):
        level = level + weight
        rejected[..., j] = (p_values[..., j] <= level) & (level > 0.0)
        level = np.where(rejected[..., j], level, 0.0)
    return rejected


def doubling_starts(sizes: AnyArray, target: float, delta: float) -> FloatArray:
    """(k,) weights for hypotheses that rest on rising numbers of rows: half of delta where four times as many rows
    are as are needed without an error, a quarter at twice that number, and so on; what is left joins the first.

    m0 = ln(delta) / ln(1 - target) rows certify only if none is an error, so a sequence that starts there mostly ends
    there.
    """
    rows = 4.0 * math.log(delta) / math.log1p(-target)
    weights = np.zeros(len(sizes))
    if rows > sizes[-1]:
        weights[-1] = 1.0
        return weights
    first, share = int(np.searchsorted(sizes, rows)), 0.5
    while rows <= sizes[-1]:
        weights[int(np.searchsorted(sizes, rows))] += share
        rows, share = 2.0 * rows, 0.5 * share
    weights[first] += 2.0 * share
    return weights
