"""Exact binomial and beta probabilities in NumPy alone.

Everything stands on the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22,
evaluated by the modified Lentz algorithm): P(Bin(n, p) <= k) = I_(1-p)(n - k, k + 1), and the j-th smallest of n
uniform numbers is Beta(j, n + 1 - j). All functions take numbers or arrays and broadcast them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from bisupervised.records import AnyArray, FloatArray

_TINY = 1e-300
_CLOSE = 1e-15
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


def log_gamma(x: Any) -> FloatArray:
    """log Gamma(x) for x > 0: Stirling's series from 10 on, reached by the recurrence from below.

    >>> float(log_gamma(5.0).round(12)) == float(np.log(24.0).round(12))
    True
    """
    x = np.asarray(x, dtype=np.float64)
    below, shifted = np.zeros_like(x), x.copy()
    for _ in range(10):
        small = shifted < 10.0
        if not small.any():
            break
        below = below + np.where(small, np.log(np.where(small, shifted, 1.0)), 0.0)
        shifted = np.where(small, shifted + 1.0, shifted)
    square, series = shifted * shifted, np.zeros_like(x)
    for term in reversed(_STIRLING):
        series = series / square + term
    log: FloatArray = (shifted - 0.5) * np.log(shifted) - shifted + 0.5 * np.log(2 * np.pi) + series / shifted - below
    return log


def beta_cdf(x: Any, a: Any, b: Any) -> FloatArray:
    """P(Beta(a, b) <= x) = I_x(a, b) for a, b > 0; x is cut to [0, 1].

    >>> beta_cdf(0.25, 1, [1, 2]).round(12).tolist()
    [0.25, 0.4375]
    """
    x, a, b = (np.asarray(one, dtype=np.float64) for one in np.broadcast_arrays(x, a, b))
    x = np.clip(x, 0.0, 1.0)
    # The fraction converges fast below the mean; above it, the other tail is computed.
    other = x > (a + 1.0) / (a + b + 2.0)
    tail = _lower_tail(*(np.where(other, *pair) for pair in ((1.0 - x, x), (b, a), (a, b))))
    return np.where(other, 1.0 - tail, tail)


def _lower_tail(x: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    inside = x > 0.0
    safe = np.where(inside, x, 0.5)
    log_front = a * np.log(safe) + b * np.log1p(-safe) + log_gamma(a + b) - log_gamma(a) - log_gamma(b)
    front = np.exp(log_front) / a
    return np.where(inside, front * _fraction(safe, a, b), 0.0)


def _fraction(x: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """The continued fraction 1 / (1 + d_1 / (1 + d_2 / (1 + ...))) of I_x(a, b), two coefficients a step."""
    c, d = np.ones_like(x), 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d.copy()
    for m in range(1, 20_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d, c = 1.0 / _not_zero(1.0 + even * d), _not_zero(1.0 + even / c)
        value = value * d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d, c = 1.0 / _not_zero(1.0 + odd * d), _not_zero(1.0 + odd / c)
        value = value * d * c
        if m % 4 == 0 and (np.abs(d * c - 1.0) < _CLOSE).all():
            break
    return value


def _not_zero(x: FloatArray) -> FloatArray:
    return np.where(x == 0.0, _TINY, x)


def binomial_cdf(k: Any, n: Any, p: Any) -> FloatArray:
    """P(Bin(n, p) <= k) for whole numbers k and n; 0 below k = 0, 1 from k = n on.

    >>> binomial_cdf([-1, 1, 3], 3, 0.5).round(12).tolist()
    [0.0, 0.5, 1.0]
    """
    k, n, p = (np.asarray(one, dtype=np.float64) for one in np.broadcast_arrays(k, n, p))
    inside = (k >= 0) & (k < n)
    cdf = beta_cdf(1.0 - p, np.where(inside, n - k, 1.0), np.where(inside, k + 1.0, 1.0))
    return np.where(inside, cdf, np.where(k < 0, 0.0, 1.0))


def upper_bound(k: Any, n: Any, delta: Any) -> FloatArray:
    """Clopper & Pearson's upper confidence bound of a rate: the p with P(Bin(n, p) <= k) = delta; 1 for k >= n.

    Every target above it is certified at `delta` by k errors among n, every target below is not (Biometrika 1934).

    >>> float(upper_bound(0, 45, 0.1).round(4))  # 1 - 0.1 ** (1 / 45)
    0.0499
    """
    k, n, delta = (np.asarray(one, dtype=np.float64) for one in np.broadcast_arrays(k, n, delta))
    low, high = np.clip(k / np.maximum(n, 1.0), 0.0, 1.0), np.ones_like(k)
    p = np.minimum((k + 1.0 + 1.3 * np.sqrt(k + 1.0)) / (n + 2.0), 0.5 * (low + 1.0))
    for _ in range(60):
        cdf = binomial_cdf(k, n, p)
        low, high = np.where(cdf > delta, p, low), np.where(cdf > delta, high, p)
        p, before = _newton(k, n, p, cdf, low, high, delta), p
        if (np.abs(p - before) <= 1e-12).all():
            break
    return np.where(k >= n, 1.0, p)


def _newton(
    k: AnyArray, n: AnyArray, p: AnyArray, cdf: AnyArray, low: AnyArray, high: AnyArray, delta: AnyArray
) -> FloatArray:
    """Newton's step on log P(Bin(n, p) <= k) = log delta, or halving where it would leave the bracket."""
    q = np.clip(p, 1e-15, 1.0 - 1e-15)
    log_mass = log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(np.maximum(n - k, 1.0))
    density = np.exp(log_mass + k * np.log(q) + np.maximum(n - k - 1.0, 0.0) * np.log1p(-q))
    step = q + np.log(np.maximum(cdf, _TINY) / delta) * cdf / np.maximum(density, _TINY)
    inside = (step >= low) & (step <= high) & (cdf > 0.0)
    return np.where(inside, step, 0.5 * (low + high))


@lru_cache(maxsize=1024)
def largest_rank(n: int, p: float, delta: float) -> int:
    """The largest j with P(the j-th smallest of n uniform numbers <= p) >= 1 - delta; 0 when there is none.

    The j-th smallest is Beta(j, n + 1 - j), and is at most p iff Bin(n, p) >= j.

    >>> [largest_rank(n, 0.3, 0.1) for n in (6, 7, 100, 2000)]
    [0, 1, 24, 574]
    """
    if n == 0 or p <= 0.0:
        return 0
    if p >= 1.0:
        return n
    k = np.arange(n + 1)
    log_choose = log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(n - k + 1.0)
    below = np.cumsum(np.exp(log_choose + k * np.log(p) + (n - k) * np.log1p(-p)))
    return int(np.searchsorted(below, delta * (1.0 + 1e-12), side="right"))
