"""A rate while it is watched: an interval that holds at every row at once, and a test of a limit that it must keep
to.

The interval is a confidence sequence: the method of mixtures with a Beta(1/2, 1/2) distribution over rates (Robbins
1970; Howard, Ramdas, McAuliffe & Sekhon, Annals of Statistics 2021). It holds all rates p for which

    B(1/2 + k, 1/2 + n - k) / B(1/2, 1/2) / (p^k (1 - p)^(n - k))  <  1 / alpha,      k the sum of n values in [0, 1].

The test bets on values above the limit m: factors 1 + b (x - m) with b < 1 / m have an expected value of at most 1
wherever the mean is at most m, for all x >= 0 (Waudby-Smith & Ramdas, JRSS B 2024). So it takes losses that are
weighted with the inverse of the probability with which they were looked at (Horvitz & Thompson 1952), too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from bisupervised.calibration.guarantees.binomial import log_gamma
from bisupervised.errors import InputError
from bisupervised.monitoring.capital import Capital
from bisupervised.records import FloatArray

_BETS: Final = 0.9 * 2.0 ** -np.arange(0.0, 9.0)  #: of the largest allowed
_BISECTIONS: Final = 50
_BLOCK: Final = 16_384


class RateBounds(NamedTuple):
    """Ends of an interval, arrays or numbers; [0, 1] where nothing is known."""

    low: Any
    high: Any


def confidence_sequence(total: Any, n: Any, alpha: float = 0.05) -> RateBounds:
    """Intervals of a rate after `n` values in [0, 1] that sum to `total`, all of them right with 1 - alpha.

    For values that have, each given the earlier ones, the same mean. A rate that changes has no interval: watch it
    with the exchangeability test as well.

    >>> low, high = confidence_sequence([0, 10, 100], [0, 100, 1000], 0.05)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.029, 0.069], [1.0, 0.228, 0.138])
    """
    if not 0.0 < alpha < 1.0:
        raise InputError(f"alpha lies between 0 and 1; got {alpha}")
    k, n = (np.asarray(one, dtype=np.float64) for one in np.broadcast_arrays(total, n))
    if not ((k >= 0.0) & (k <= n + 1e-9)).all():
        raise InputError("the sum of n values in [0, 1] lies between 0 and n")
    k = np.minimum(k, n)
    # ln of the mixture, less what every rate p is compared with
    level = log_gamma(k + 0.5) + log_gamma(n - k + 0.5) - log_gamma(n + 1.0) - math.log(math.pi) + math.log(alpha)
    mean = np.where(n > 0, k / np.maximum(n, 1.0), 0.5)
    low, high = _root(k, n, level, np.zeros_like(mean), mean), _root(k, n, level, np.ones_like(mean), mean)
    return RateBounds(np.where(n > 0, low, 0.0)[()], np.where(n > 0, high, 1.0)[()])


def _root(k: FloatArray, n: FloatArray, level: FloatArray, outside: FloatArray, inside: FloatArray) -> FloatArray:
    """Where the likelihood k ln p + (n - k) ln(1 - p) crosses the level; the end that is outside, by bisection."""
    edge = outside.copy()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (outside + inside)
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = np.where(k > 0, k * np.log(middle), 0.0) + np.where(n > k, (n - k) * np.log1p(-middle), 0.0)
        kept = likelihood > level
        inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
    # Without a value on one side the interval reaches its end, which is never rejected.
    reaches = np.where(edge == 0.0, k == 0.0, k == n)
    root: FloatArray = np.where(reaches, edge, outside)
    return root


class LimitTest:
    """Does a mean keep to its limit? The e-value against it, at every row; it may begin to be broken late.

    >>> test = LimitTest(0.1, alpha=0.01)
    >>> broken = (np.arange(300) % 4 == 0).astype(float)  # a rate of 0.25
    >>> _ = test.update(broken)
    >>> test.broken, test.rang_at
    (True, 69)
    """

    def __init__(self, limit: float, *, alpha: float = 0.01) -> None:
        if not 0.0 <= limit <= 1.0:
            raise InputError(f"a limit on a rate is a share in [0, 1], not {limit}; write 30 % as 0.3")
        self.limit = limit
        self.capital = Capital(len(_BETS), alpha)

    def update(self, values: FloatArray) -> FloatArray:
        """(n,) log10 of the e-value after each of n more values, >= 0 and finite; 1 where nothing can be said."""
        values = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if not (np.isfinite(values).all() and (values >= 0.0).all()):
            raise InputError("losses are numbers from 0 on; leave out rows whose loss is not known")
        parts = [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
        logs = [self.capital.bet(self._bets(part)) for part in parts]
        return np.concatenate(logs) / math.log(10.0) if logs else np.empty(0)

    def _bets(self, values: FloatArray) -> FloatArray:
        # A limit of 0 is tested as one in a billion: one loss then breaks it.
        limit = max(self.limit, 1e-9)
        return np.log1p(_BETS / limit * (values[:, None] - limit))

    @property
    def rows(self) -> int:
        return self.capital.rows

    @property
    def log10_e(self) -> float:
        """log10 of the e-value now."""
        return self.capital.log_value / math.log(10.0)

    @property
    def broken(self) -> bool:
        """Whether the alarm rang: with a probability of at most alpha while the mean keeps to the limit."""
        return self.capital.rang_at is not None

    @property
    def rang_at(self) -> int | None:
        """The number of the value, from 1, at which it first rang."""
        return self.capital.rang_at

    def state(self) -> dict[str, Any]:
        """Everything that changes, as plain values."""
        return {"limit": self.limit, "capital": self.capital.state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LimitTest:
        """Go on from a `state`. Raises `InputError` when it is not one."""
        try:
            test = cls(float(state["limit"]), alpha=float(state["capital"]["alpha"]))
            test.capital.restore(state["capital"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"this is no saved state of a limit's test ({error}); start anew") from error
        return test
