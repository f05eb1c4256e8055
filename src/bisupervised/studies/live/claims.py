"""A claim about a mean, tested on the reporting rows: held, not held, or undecided, and then with the rows that would do.

A claim says that a mean over inputs, of paired differences as a rule, lies above a bound. It is held where the lower end
of the one-sided 95 % interval does, not held where the upper end of the other one-sided interval lies below, and undecided
otherwise. Intervals are normal; where inputs come in clusters (questions on one passage), their standard error is that of
the clusters' sums (Liang & Zeger, Biometrika 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np

from bisupervised.errors import InputError
from bisupervised.evaluation.intervals import Z95, Estimate
from bisupervised.records import AnyArray, FloatArray
from bisupervised.studies.live.parts import ALPHA

#: Of the one-sided intervals.
Z_ONE_SIDED: Final = NormalDist().inv_cdf(1.0 - ALPHA)

Verdict = Literal["held", "not held", "undecided", "not known"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether a mean lies above a bound."""

    verdict: Verdict
    estimate: Estimate  #: with its two-sided 95 % interval
    bound: float  #: claimed: the mean is above it
    one_sided: float  #: the lower end of the one-sided 95 % interval
    n: int  #: inputs
    n_needed: int | None  #: of an undecided claim: inputs that would decide it, were the estimate right

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        value, low, high = self.estimate
        return {
            "verdict": self.verdict,
            "value": _known(value),
            "low": _known(low),
            "high": _known(high),
            "bound": self.bound,
            "one_sided": _known(self.one_sided),
            "n": self.n,
            "n_needed": self.n_needed,
        }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def standard_error(values: FloatArray, clusters: AnyArray | None = None) -> float:
    """Of the mean of (n,) values; with (n,) clusters, robust to any dependence within one."""
    n = len(values)
    centred = values - values.mean() if n else values
    if clusters is not None:
        _, place = np.unique(clusters, return_inverse=True)
        centred = np.bincount(place, weights=centred)
    g = len(centred)
    if g < 2:
        return math.nan
    return math.sqrt(g / (g - 1) * float(np.dot(centred, centred))) / n


def estimate(values: FloatArray, clusters: AnyArray | None = None) -> Estimate:
    """The mean with its 95 % interval; NaN when any value is not known."""
    if len(values) == 0 or np.isnan(values).any():
        return Estimate(math.nan, math.nan, math.nan)
    value, error = float(np.mean(values)), standard_error(values, clusters)
    return Estimate(value, value - Z95 * error, value + Z95 * error)


def claim(values: FloatArray, bound: float, clusters: AnyArray | None = None) -> Claim:
    """Is the mean of (n,) values above `bound`?

    >>> claim(np.tile([0.0, 1.0], 500), 0.3).verdict
    'held'
    >>> close = claim(np.tile([0.0, 1.0], 500), 0.49)
    >>> close.verdict, close.n_needed
    ('undecided', 6771)
    """
    if math.isnan(bound):
        raise InputError("the bound of a claim must be a number")
    values = np.asarray(values, dtype=np.float64)
    found, n = estimate(values, clusters), len(values)
    error = (found.high - found.low) / (2.0 * Z95)
    if math.isnan(found.value) or math.isnan(error):
        return Claim("not known", found, bound, math.nan, n, None)
    reach = Z_ONE_SIDED * error
    above = found.value - bound
    if above > reach or (above > 0.0 and error == 0.0):
        return Claim("held", found, bound, found.value - reach, n, None)
    if above < -reach or (above <= 0.0 and error == 0.0):
        return Claim("not held", found, bound, found.value - reach, n, None)
    needed = math.ceil(n * (reach / above) ** 2) if above != 0.0 else None
    return Claim("undecided", found, bound, found.value - reach, n, needed)
