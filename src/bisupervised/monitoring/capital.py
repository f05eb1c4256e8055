"""A capital that grows only where a hypothesis is wrong: bets that may begin at any row.

Each of S strategies multiplies its stake by a factor whose expected value, given the past, is at most 1 if the
hypothesis is true. The capital, 1 at the start, is then a test (super)martingale: with a probability of at most alpha
it ever reaches 1 / alpha (Ville 1939). So it may be looked at after every row, and watching may stop at any time.

A change may come late, and a stake that has been lost by then cannot grow. So only a part of the capital enters
before row s, w_s = r_(s-1) - r_s with r_s = 1 / (1 + ln(1 + s)); the rest waits. A change after a million rows is
found as if it had come first, but for a factor of 2 * 10^8 in evidence: 19 more nats, where products from the first
row on would have lost thousands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import FloatArray

_BLOCK: Final = 128  #: rows at a time
_SAFE: Final = 300.0  #: nats that a stake may grow or fall within a block: twice as many are within a float's range


class Capital:
    """The state of the bets: S stakes, the number of rows, the largest capital and where it first reached the
    alarm.
    """

    def __init__(self, strategies: int, alpha: float) -> None:
        if not 0.0 < alpha < 1.0:
            raise InputError(f"alpha, the probability of a false alarm, lies between 0 and 1; got {alpha}")
        self.alpha = alpha
        self.strategies = strategies
        self.rows = 0
        self.log_value = 0.0  #: ln of the capital, the e-value now
        self.log_largest = 0.0  #: ln of the largest so far
        self.rang_at: int | None = None  #: the number of the row, from 1, at which it first reached 1 / alpha
        self._stakes = np.full(strategies, -np.inf)  # ln of what each strategy has in play

    def bet(self, log_factors: FloatArray) -> FloatArray:
        """(n,) ln of the capital after each of n more rows; `log_factors` are (n, S)."""
        n, strategies = log_factors.shape
        if not n:
            return np.empty(0)
        rows = self.rows + np.arange(1, n + 1, dtype=np.float64)
        length = max(1, min(_BLOCK, int(_SAFE / max(float(np.abs(log_factors).max()), 1e-9))))
        values, whole = np.empty(n), n - n % length
        for start, end, long in ((0, whole, length), (whole, n, n - whole)):
            if end > start:
                blocks = log_factors[start:end].reshape(-1, long, strategies)
                values[start:end] = self._blocks(blocks, rows[start:end].reshape(-1, long)).ravel()
        self._note(values)
        return values

    def _blocks(self, log_factors: FloatArray, rows: FloatArray) -> FloatArray:
        """(b, l) values of b blocks of l rows: plain sums within a block, logarithms from one to the next."""
        grown = np.cumsum(log_factors, axis=1)
        own = np.cumsum(np.exp(log_factors - grown) * np.exp(_log_entering(rows))[:, :, None], axis=1)
        ends, begun = grown[:, -1], np.log(own[:, -1])
        starts = np.empty_like(ends)
        stakes = self._stakes
        for block in range(len(starts)):
            starts[block] = stakes
            stakes = ends[block] + np.logaddexp(stakes, begun[block])
        self._stakes = stakes
        scale = np.maximum(starts.max(axis=1), 0.0)
        held = np.exp(starts - scale[:, None])
        total = (np.exp(grown) * (held[:, None, :] + own * np.exp(-scale)[:, None, None])).mean(axis=2)
        values: FloatArray = np.logaddexp(scale[:, None] + np.log(total), -np.log1p(np.log1p(rows)))
        return values

    def _note(self, values: FloatArray) -> None:
        if self.rang_at is None:
            reached = values >= -math.log(self.alpha)
            if reached.any():
                self.rang_at = self.rows + int(np.argmax(reached)) + 1
        self.rows += len(values)
        self.log_value = float(values[-1])
        self.log_largest = max(self.log_largest, float(values.max()))

    def state(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "alpha": self.alpha,
            "rows": self.rows,
            "log_value": self.log_value,
            "log_largest": self.log_largest,
            "rang_at": self.rang_at,
            "log_stakes": [None if math.isinf(stake) else stake for stake in self._stakes.tolist()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`. Raises `ValueError` or `KeyError` for one that does not fit."""
        stakes = np.array([-np.inf if one is None else float(one) for one in state["log_stakes"]])
        if stakes.shape != self._stakes.shape or np.isnan(stakes).any():
            raise ValueError(f"it has {len(stakes)} stakes, not {len(self._stakes)} numbers")
        if float(state["alpha"]) != self.alpha:
            raise ValueError(f"its alpha is {state['alpha']}, not {self.alpha}")
        rows, rang_at = int(state["rows"]), state["rang_at"]
        if rows < 0 or not (rang_at is None or 1 <= int(rang_at) <= rows):
            raise ValueError(f"{rows} rows with an alarm at row {rang_at} cannot be")
        value, largest = float(state["log_value"]), float(state["log_largest"])
        if math.isnan(value) or math.isnan(largest):
            raise ValueError("its evidence is not a number")
        self._stakes = stakes
        self.rows, self.rang_at = rows, None if rang_at is None else int(rang_at)
        self.log_value, self.log_largest = value, largest


def _log_entering(rows: FloatArray) -> FloatArray:
    """ln w_s = ln(r_(s-1) - r_s), without the difference of two nearly equal numbers."""
    before, after = 1.0 + np.log(rows), 1.0 + np.log1p(rows)
    entering: FloatArray = np.log(np.log1p(1.0 / rows)) - np.log(before) - np.log(after)
    return entering
