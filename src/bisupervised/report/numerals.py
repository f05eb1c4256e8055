"""How numbers are written. The one place that scales: shares to percent, seconds to milliseconds.

A number that is not known (NaN) is written "not known", never 0 and never nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from bisupervised.evaluation.intervals import Estimate

NOT_KNOWN_TEXT = "not known"


class Cell(NamedTuple):
    """A figure as text, with its 95 % interval; the interval is empty where it is not known."""

    value: str
    interval: str = ""


def share(value: float, decimals: int = 3, *, signed: bool = False) -> str:
    """An accuracy, a risk, or a difference of two: three decimals, no leading zero.

    >>> share(0.8912), share(1.0), share(-0.004), share(0.004, signed=True), share(float("nan"))
    ('.891', '1.000', '-.004', '+.004', 'not known')
    """
    if math.isnan(value):
        return NOT_KNOWN_TEXT
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    if float(text) == 0.0:
        text = text.lstrip("+-")
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def difference_text(estimate: Estimate, *, signed: bool = False) -> str:
    """A difference and its interval, with the decimals that keep the interval's ends apart from 0.

    >>> (
    ...     difference_text(Estimate(0.0048, 0.0004, 0.0092)),
    ...     difference_text(Estimate(-0.004, -0.011, 0.003), signed=True),
    ... )
    ('.0048 [.0004, .0092]', '-.004 [-.011, +.003]')
    """
    ends = [end for end in (estimate.low, estimate.high) if end != 0.0]
    decimals = next((d for d in (3, 4, 5) if all(round(end, d) != 0.0 for end in ends)), 6)
    value, low, high = (share(number, decimals, signed=signed) for number in estimate)
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def percent(value: float) -> str:
    """A rate: whole percents from 10 on, one decimal below, and never a 0 or a 100 that is only nearly one.

    >>> [percent(x) for x in (0.412, 0.0412, 0.05, 0.0, 1.0, 0.9971, 0.0003, 0.99999, 1.5)]
    ['41 %', '4.1 %', '5 %', '0 %', '100 %', '99.7 %', '<0.1 %', '>99.9 %', '150 %']
    """
    if math.isnan(value):
        return NOT_KNOWN_TEXT
    scaled = 100.0 * value
    if scaled in (0.0, 100.0):
        return f"{scaled:.0f} %"
    if 0.0 < scaled < 0.05:
        return "<0.1 %"
    if 99.95 < scaled < 100.0:
        return ">99.9 %"
    whole = math.isclose(scaled, round(scaled), abs_tol=1e-9)
    fine = not whole and (-9.95 < scaled < 9.95 or 99.5 <= scaled < 100.0)
    return f"{scaled:.1f} %" if fine else f"{scaled:.0f} %"


def amount(value: float, digits: int = 3) -> str:
    """A number with this many significant digits, never in powers of ten.

    >>> amount(0.000412345), amount(1234.5), amount(0.0), amount(2.5)
    ('0.000412', '1234', '0', '2.5')
    """
    if math.isnan(value):
        return NOT_KNOWN_TEXT
    if value == 0.0 or math.isinf(value):
        return f"{value:g}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(value: float) -> str:
    """A latency in the unit that reads best.

    >>> seconds(0.0621), seconds(0.41), seconds(12.34), seconds(0.0000041), seconds(250.0), seconds(0.3)
    ('62 ms', '0.41 s', '12.3 s', '4.1 µs', '250 s', '0.30 s')
    """
    if math.isnan(value):
        return NOT_KNOWN_TEXT
    unit, scaled = "µs", value * 1e6
    if value >= 0.0995:
        unit, scaled = "s", value
    elif value >= 0.000995:
        unit, scaled = "ms", value * 1e3
    decimals = next((d for limit, d in ((0.995, 2), (9.95, 1)) if scaled < limit), 0)
    if unit == "s":
        decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{decimals if scaled else 0}f} {unit}"


def threshold(value: float) -> str:
    """A threshold with four significant digits, or more where four would read as another whole number.

    >>> threshold(0.83124), threshold(0.99997), threshold(-12.5), threshold(float("-inf"))
    ('0.8312', '0.99997', '-12.5', '-inf')
    """
    if math.isnan(value):
        return NOT_KNOWN_TEXT
    digits = 4
    while (
        digits < 17 and not value.is_integer() and math.isfinite(value) and float(f"{value:.{digits}g}").is_integer()
    ):
        digits += 1
    return f"{value:.{digits}g}"


def interval(low: float, high: float, write: Callable[[float], str] = share) -> str:
    """`[.884, .898]`; the unit once, at the end; empty where an end is not known.

    >>> interval(0.884, 0.898), interval(0.4, 0.42, percent), interval(float("nan"), 1.0)
    ('[.884, .898]', '[40, 42 %]', '')
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    first, last = write(low), write(high)
    unit = last.rpartition(" ")[2] if " " in last else ""
    if unit and first.endswith(f" {unit}"):
        first = first.removesuffix(f" {unit}")
    return f"[{first}, {last}]"


def cell(estimate: Estimate, write: Callable[[float], str] = share) -> Cell:
    """A figure and its interval as text; without one where it is the same for every input, such as a fixed price."""
    if math.isclose(estimate.low, estimate.high):
        return Cell(write(estimate.value))
    return Cell(write(estimate.value), interval(estimate.low, estimate.high, write))


def count(n: int) -> str:
    """A number of rows.

    >>> count(12500)
    '12,500'
    """
    return f"{n:,}"
