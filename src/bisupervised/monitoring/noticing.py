"""From how many rows on a change would be noticed: what keeps "no sign of change" apart from "too few rows to say".

The change that counts is one of 0.1: the mean rank of the confidences from 0.5 to 0.6 or 0.4, a rate by 10 points.
The best of S strategies then gains g nats a row, the Kullback-Leibler divergence of the change; with n calibration
rows and m new ones, g n m / (n + m) in all, since earlier traffic joins the calibration rows. The alarm needs ln(1 /
alpha) + ln S + 2 (what the bets cost that begin elsewhere). An estimate, which the power tests check; no guarantee
rests on it.
"""

from __future__ import annotations

import math
from typing import Final

CHANGE: Final = 0.1
_RANK_GAIN: Final = (6.0 * CHANGE) ** 2 / 6.0  #: of the density 1 + e (2p - 1), whose mean is 0.5 + e / 6
_BEGINNING: Final = 2.0


def evidence_needed(alpha: float, strategies: int, rate: float | None) -> float:
    """Rows, were the calibration rows endless; `rate` None: of confidences."""
    gain = _RANK_GAIN if rate is None else _rate_gain(rate)
    return (math.log(strategies / alpha) + _BEGINNING) / gain


def rows_needed(alpha: float, strategies: int, rate: float | None, reference_rows: int | None) -> float:
    """Rows from which such a change is noticed; inf: never, the calibration rows are too few. `reference_rows` None:
    compared with a limit.

    >>> rows_needed(0.01, 24, None, 1000), rows_needed(0.01, 8, 0.05, 200), rows_needed(0.01, 24, None, 100)
    (195.0, 324.0, inf)
    """
    needed = evidence_needed(alpha, strategies, rate)
    if reference_rows is None:
        return math.ceil(needed)
    if reference_rows <= needed:
        return math.inf
    return float(math.ceil(needed * reference_rows / (reference_rows - needed)))


def _rate_gain(rate: float) -> float:
    rate = min(max(rate, 0.01), 0.99)
    new = rate + CHANGE if rate <= 0.5 else rate - CHANGE
    return new * math.log(new / rate) + (1.0 - new) * math.log((1.0 - new) / (1.0 - rate))
