"""The claims, fixed before the first report, and how rows decide them: held, not held, or undecided.

Every claim is that a mean of one number per input, nearly always a paired difference, lies above a bound. It is held
where the one-sided 95 % lower bound of the mean does, not held where the upper one lies below, and undecided between,
with the rows that would decide it. A claim of several parts needs all of them (an intersection-union test: each at
its full level). The rows of one cluster (questions on one passage) are summed before they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np

from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate, normal_interval
from bisupervised.records import FloatArray, IntArray

MARGIN: Final = 0.01  #: of system accuracy: by so much the system may be less accurate than remote-only
SAVING: Final = 0.30  #: share of the remote requests that is saved, claim 1
GOAL: Final = 0.50  #: our goal for the same share, as a point estimate
ALPHA: Final = 0.05  #: one-sided
Z: Final = NormalDist().inv_cdf(1.0 - ALPHA)


class Outcome(StrEnum):
    """What the rows say of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    UNDECIDED = "undecided"


class MeanError(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float  #: NaN for fewer than two rows, or clusters
    design: float  #: by how much clusters make the variance of the mean larger, at least 1


def mean_error(values: FloatArray, clusters: IntArray | None = None, *, bounded: bool = True) -> MeanError:
    """The mean of (n,) values with its cluster-robust standard error, sqrt(sum_c e_c^2 C / (C - 1)) / n, where e_c is
    the sum of the cluster's deviations (without clusters every row is one).

    `bounded` values lie in [-1, 1]; half a row of either sign is then added to the variance (Agresti & Min,
    Statistics in Medicine 2005), since a handful of rows that differ, or none, would make the error too small.
    """
    n = len(values)
    if n == 0 or np.isnan(values).any():
        return MeanError(math.nan, math.nan, 1.0)
    value = float(np.mean(values))
    deviations = np.asarray(values, dtype=np.float64) - value
    squares = float(np.dot(deviations, deviations))
    sums = deviations if clusters is None else np.bincount(clusters, weights=deviations)
    parts = n if clusters is None else len(np.unique(clusters))
    if parts < 2:
        return MeanError(value, math.nan, 1.0)
    between = float(np.dot(sums, sums))
    variance = between * parts / (parts - 1) + (1.0 if bounded else 0.0)
    return MeanError(value, math.sqrt(variance) / n, max(between / squares, 1.0) if squares > 0.0 else 1.0)


def mean_estimate(values: FloatArray, clusters: IntArray | None = None, *, bounded: bool = True) -> Estimate:
    """The mean with its two-sided 95 % interval."""
    found = mean_error(values, clusters, bounded=bounded)
    return Estimate(found.value, *normal_interval(found.value, found.error))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What n rows say of the claim that a mean lies above `bound`."""

    what: str  #: the claim, in words
    outcome: Outcome
    bound: float
    estimate: Estimate  #: of the mean, with its two-sided 95 % interval; NaN where it is not known
    lower: float  #: one-sided 95 % bounds of the mean
    upper: float
    n: int  #: rows
    #: rows that decide it with even odds, if the estimate and the spread stay; None: no number does, or decided
    n_needed: int | None = None
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "what": self.what,
            "outcome": self.outcome.value,
            "bound": self.bound,
            "estimate": self.estimate._asdict(),
            "lower": self.lower,
            "upper": self.upper,
            "n": self.n,
            "n_needed": self.n_needed,
            "remark": self.remark,
        }


def above(
    what: str, values: FloatArray, bound: float, clusters: IntArray | None = None, *, bounded: bool = True
) -> Verdict:
    """Whether the mean of (n,) values lies above `bound`; `clusters` are numbers of (n,) clusters from 0.

    Of `bounded` values, whole numbers from -1 to 1, the variance used is at least the one they would have at the
    bound itself, |b| - b^2: of a share that is the score test, of a paired difference nearly that of Tango
    (Statistics in Medicine 1998); and the bounds lie half a row further out, since sums of such values move in whole
    steps. Undecided, and not known, where a value is NaN or there are fewer than two rows.

    >>> above("more than nothing", np.array([1.0, 0.0, 0.0, 1.0] * 20), 0.0).outcome.value
    'held'
    """
    found = mean_error(values, clusters, bounded=bounded)
    if math.isnan(found.error):
        estimate = Estimate(found.value, math.nan, math.nan)
        return Verdict(what, Outcome.UNDECIDED, bound, estimate, math.nan, math.nan, len(values), None, "not known")
    error = max(found.error, _error_at(bound, len(values), found.design) if bounded else 0.0)
    reach = Z * error + (0.5 / len(values) if bounded else 0.0)
    lower, upper = found.value - reach, found.value + reach
    outcome = Outcome.HELD if lower > bound else Outcome.NOT_HELD if upper < bound else Outcome.UNDECIDED
    estimate = Estimate(found.value, *normal_interval(found.value, found.error))
    needed = None
    if outcome is Outcome.UNDECIDED:
        needed = rows_to_decide(found.value, error, bound, len(values), bounded=bounded)
    return Verdict(what, outcome, bound, estimate, lower, upper, len(values), needed)


def not_known(what: str, bound: float, n: int, why: str) -> Verdict:
    """An undecided claim for want of a measurement."""
    return Verdict(what, Outcome.UNDECIDED, bound, NOT_KNOWN, math.nan, math.nan, n, None, why)


def _error_at(bound: float, n: int, design: float) -> float:
    return math.sqrt(max(abs(bound) - bound**2, 0.0) * design / n)


def rows_to_decide(estimate: float, error: float, bound: float, n: int, *, bounded: bool = True) -> int | None:
    """Rows at which a one-sided bound reaches `bound`, the error shrinking with their root (and the half row with
    their number); None where the estimate sits on the bound, and no number would do.

    >>> rows_to_decide(0.0, 0.01, -0.01, 1000), rows_to_decide(-0.01, 0.01, -0.01, 1000)
    (2805, None)
    """
    distance = abs(estimate - bound)
    if distance < 1e-12:
        return None
    spread = Z * error * math.sqrt(n)
    # distance = spread x + x^2 / 2 (or spread x), where x = 1 / sqrt(rows)
    root = (spread + math.sqrt(spread**2 + (2.0 * distance if bounded else 0.0))) / (2.0 * distance)
    return math.ceil(root**2)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of one study: all of its parts."""

    key: str  #: `requests`, `accuracy`, `latency`
    title: str
    parts: Sequence[Verdict]
    remark: str = ""

    @property
    def outcome(self) -> Outcome:
        """Held where all parts are, not held where one is not."""
        found = {part.outcome for part in self.parts}
        if Outcome.NOT_HELD in found:
            return Outcome.NOT_HELD
        return Outcome.HELD if found == {Outcome.HELD} else Outcome.UNDECIDED

    @property
    def n_needed(self) -> int | None:
        """Rows that would decide every undecided part; None where it is decided, or no number of rows would do."""
        open_parts = [part for part in self.parts if part.outcome is Outcome.UNDECIDED]
        if self.outcome is not Outcome.UNDECIDED:
            return None
        numbers = [part.n_needed for part in open_parts if part.n_needed is not None]
        return max(numbers) if len(numbers) == len(open_parts) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "key": self.key,
            "title": self.title,
            "outcome": self.outcome.value,
            "n_needed": self.n_needed,
            "parts": [part.to_dict() for part in self.parts],
            "remark": self.remark,
        }
