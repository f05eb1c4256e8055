"""95 % intervals: for rates, means, quantiles, and, by the bootstrap, for anything made of sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bisupervised.records import AnyArray, FloatArray

Z95 = 1.959963984540054


class Interval(NamedTuple):
    """A 95 % interval; NaN ends where it is not known."""

    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


class Estimate(NamedTuple):
    """A figure with its 95 % interval; NaN where it is not known."""

    value: float
    low: float
    high: float


NOT_KNOWN = Estimate(math.nan, math.nan, math.nan)


def normal_interval(value: float, standard_error: float) -> Interval:
    """value -+ 1.96 standard errors."""
    return Interval(value - Z95 * standard_error, value + Z95 * standard_error)


def rate(successes: float, n: int) -> Estimate:
    """A share with Wilson's interval, which keeps to [0, 1] and holds for small n (Wilson, JASA 1927).

    `successes` may be a sum of grades in [0, 1]: their variance is at most the binomial one.
    """
    if n == 0:
        return NOT_KNOWN
    p = successes / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Estimate(p, max(centre - half, 0.0) if p > 0 else 0.0, min(centre + half, 1.0) if p < 1 else 1.0)


def mean(values: FloatArray) -> Estimate:
    """A mean with its normal interval; NaN when any value is not known."""
    n = len(values)
    if n == 0:
        return NOT_KNOWN
    centre = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(centre, *normal_interval(centre, error))


def quantile(values: FloatArray, q: float) -> Estimate:
    """A quantile with a distribution-free interval between order statistics (normal approximation to the
    binomial rank). NaN when any value is not known. The ends stay within the sample: below about 4 / min(q, 1 - q)
    values (80 for the 95th percentile) an interval that reaches the largest value covers less than 95 %."""
    n = len(values)
    if n == 0 or np.isnan(values).any():
        return NOT_KNOWN
    ranked = np.sort(values)
    spread = Z95 * math.sqrt(n * q * (1 - q))
    low = max(math.floor(n * q - spread), 0)
    high = min(math.ceil(n * q + spread), n - 1)
    return Estimate(float(np.quantile(ranked, q)), float(ranked[low]), float(ranked[high]))


def bootstrap_of_sums(
    columns: AnyArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Percentile-bootstrap interval (low, high) of any statistic of column sums, rows resampled together.

    `columns` is (n, k); `statistic` takes (resamples, k) sums and gives (resamples, m) values. All m values
    come from the same resamples, so differences between them are paired. Of more than 20,000 rows, 2,000 random
    groups of (nearly) equal size are resampled in place of rows: the same variance of the sums, at a bounded price.
    """
    rng = np.random.default_rng(seed)
    wide = np.ascontiguousarray(columns, dtype=np.float64)
    if len(wide) > 20_000:
        starts = np.linspace(0, len(wide), 2_000, endpoint=False).astype(np.int64)
        wide = np.add.reduceat(wide[rng.permutation(len(wide))], starts, axis=0)
    n = len(wide)
    sums = np.empty((resamples, wide.shape[1]))
    # Rows per block bounded, so that a million rows do not take gigabytes.
    block = max(1, 4_000_000 // max(n, 1))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        picks = rng.integers(0, n, size=(size, n), dtype=np.int64)
        picks += np.arange(size)[:, None] * n
        counts = np.bincount(picks.ravel(), minlength=size * n).reshape(size, n)
        sums[start : start + size] = counts @ wide
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(sums)
    values[~np.isfinite(values)] = np.nan  # a resample in which nothing was accepted, say
    ends = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values).all(axis=0)
    ends[:, known] = np.nanquantile(values[:, known], [0.025, 0.975], axis=0)
    return ends[0], ends[1]


def bootstrap_of_objective(
    labels: AnyArray | None,
    answers: Sequence[AnyArray],
    score: Callable[[AnyArray, AnyArray], float],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Estimate:
    """A scored objective of one column of answers, or the paired difference between two, by the bootstrap."""
    if labels is None or len(labels) == 0:
        return NOT_KNOWN

    def value(rows: AnyArray | slice) -> float:
        scores = [score(labels[rows], column[rows]) for column in answers]
        return scores[0] if len(scores) == 1 else scores[0] - scores[1]

    rng = np.random.default_rng(seed)
    values = np.array([value(rng.integers(0, len(labels), len(labels))) for _ in range(resamples)])
    if np.isnan(values).all():
        return Estimate(value(slice(None)), math.nan, math.nan)
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Estimate(value(slice(None)), float(low), float(high))
