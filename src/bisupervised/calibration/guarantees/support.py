"""What n rows can support: before there are any, and from the rates of those there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bisupervised.calibration.guarantees.binomial import binomial_cdf, largest_rank, upper_bound
from bisupervised.calibration.guarantees.evidence import check_share
from bisupervised.errors import InputError

MOST_ROWS = 200_000  #: more are not worth naming
_MOST = 2**40


@dataclass(frozen=True, slots=True)
class Support:
    """What n rows that count (accepted ones for a risk, correct ones for a false alarm rate, all for a request rate)
    can say about a target at confidence 1 - delta."""

    n: int
    target: float
    delta: float
    most_errors: int  #: up to so many errors among the n certify the target; -1: not even none does
    lowest: float  #: the lowest target that n rows can certify, when none of them is an error
    rows_without_errors: int  #: the fewest rows that certify the target, when none of them is an error

    @property
    def enough(self) -> bool:
        return self.most_errors >= 0

    @property
    def sentence(self) -> str:
        if not self.enough:
            return (
                f"{self.n} rows cannot certify {self.target:.4g} at confidence {1.0 - self.delta:.4g}, whatever they "
                f"say: {self.rows_without_errors} without an error would, and {self.n} can certify {self.lowest:.3f}"
            )
        errors = "one error" if self.most_errors == 1 else f"{self.most_errors} errors"
        return (
            f"{self.n} rows certify {self.target:.4g} at confidence {1.0 - self.delta:.4g} with up to {errors} "
            f"({self.most_errors / self.n:.3f}) among them"
        )


def supports(n: int, target: float, delta: float = 0.1) -> Support:
    """What n rows can support.

    >>> print(supports(212, 0.05).sentence)
    212 rows certify 0.05 at confidence 0.9 with up to 6 errors (0.028) among them
    >>> print(supports(30, 0.05).sentence)
    30 rows cannot certify 0.05 at confidence 0.9, whatever they say: 45 without an error would, and 30 can certify
    0.074
    """
    if n < 1:
        raise InputError(f"n is a number of rows from 1 on, not {n}")
    target, delta = check_share(target, "a target"), check_share(delta, "delta")
    return Support(
        n=n,
        target=target,
        delta=delta,
        most_errors=largest_rank(n, target, delta) - 1,
        lowest=float(upper_bound(0, n, delta)),
        rows_without_errors=math.ceil(math.log(delta) / math.log1p(-target) - 1e-9),
    )


def rows_needed(rate: float, target: float, delta: float) -> int | None:
    """The fewest rows that certify the target when `rate` of them are errors; None when the rate is not below it.

    >>> rows_needed(0.0, 0.05, 0.1), rows_needed(0.03, 0.05, 0.1), rows_needed(0.05, 0.05, 0.1)
    (45, 282, None)
    """
    if rate >= target:
        return None

    def enough(n: int) -> bool:
        return bool(binomial_cdf(math.ceil(rate * n - 1e-9), n, target) <= delta)

    return smallest(enough, 1)


def rows_on_average(rate: float, target: float, bound: float = 1.0) -> int | None:
    """The fewest rows n with (n rate + bound) / (n + 1) <= target, as a promise on average asks; None: no number."""
    return None if rate >= target else max(math.ceil((bound - target) / (target - rate) - 1e-9), 1)


def smallest(enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest whole number from `start` on with `enough(n)`, for a condition that stays true once it is (nearly:
    counts round); None beyond any number worth saying."""
    high = max(start, 1)
    while not enough(high):
        high *= 2
        if high > _MOST:
            return None
    low = max(high // 2, start)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def growth_needed(enough: Callable[[float], bool], guess: float, *, most: float) -> float | None:
    """The factor above 1 by which rows must grow for `enough(factor)`, within 10 %; None beyond `most`."""
    step = 1.1
    factor = max(guess, step)
    while factor <= most and not enough(factor):
        factor *= step
    if factor > most:
        return None
    while factor > step and enough(factor / step):
        factor /= step
    return factor
