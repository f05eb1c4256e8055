"""The p-values of an ordered list of rules on rows that did not order them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from bisupervised.calibration.guarantees.p_values import betting, exact
from bisupervised.calibration.guarantees.path import Path
from bisupervised.calibration.limits import Limits
from bisupervised.calibration.rule import CalibrationRows, Counts, losses_of, replay
from bisupervised.records import AnyArray, FloatArray

_ROUNDING: Final = 1e-9
_CELLS: Final = 500_000  #: of the tables of losses held at a time


@dataclass(frozen=True, eq=False)
class RuleTests:
    """k rules and the n rows they are tested on, in random order."""

    rows: CalibrationRows
    path: Path
    whole: bool  #: losses are 0 or 1
    delta: float

    @cached_property
    def counts(self) -> Counts:
        """What each rule does on the rows."""
        return replay(self.rows, self.path.local, self.path.remote, self.path.abstain)

    def of(self, rules: AnyArray | slice) -> RuleTests:
        """The same for some of the rules."""
        return RuleTests(self.rows, Path(*(column[rules] for column in self.path)), self.whole, self.delta)

    def binomial(self, limit: str) -> tuple[Any, Any] | None:
        """(errors, of how many) where a limit is one on a share of rows; None where it is on a mean of losses."""
        if limit == "risk" and self.whole:
            return self.counts.loss, self.counts.accepted
        if limit == "request_rate":
            return self.counts.requests, self.counts.n
        if limit == "abstention":
            return self.counts.n - self.counts.accepted, self.counts.n
        return None

    def p_values(self, limits: Limits, factor: float = 1.0) -> dict[str, FloatArray]:
        """(k,) p-values for each limit, were there `factor` times the rows at the same rates."""
        values = {}
        for name, limit in limits.given.items():
            share = self.binomial(name)
            if share is None:
                values[name] = self._bets(name, limits, factor)
            else:
                errors = np.ceil(share[0] * factor - _ROUNDING)
                n = np.floor(np.asarray(share[1]) * factor + _ROUNDING)
                values[name] = np.broadcast_to(exact(errors, n, limit), self.path.local.shape)
        return values

    def largest(self, limits: Limits, factor: float = 1.0) -> FloatArray:
        """(k,) the p-value of all limits together."""
        largest: FloatArray = np.maximum.reduce(list(self.p_values(limits, factor).values()))
        return largest

    def _bets(self, name: str, limits: Limits, factor: float) -> FloatArray:
        n = math.floor(len(self.rows) * factor + _ROUNDING)
        rows = self.rows if factor == 1.0 else self.rows.take(np.arange(n) % len(self.rows))
        step = max(1, _CELLS // max(n, 1))
        starts = range(0, len(self.path.local), step)
        return np.concatenate([self.of(slice(s, s + step))._bet(rows, name, limits) for s in starts])

    def _bet(self, rows: CalibrationRows, name: str, limits: Limits) -> FloatArray:
        accepted, deferred, loss = losses_of(rows, self.path.local, self.path.remote, self.path.abstain)
        if name == "risk":
            return betting(loss, accepted, limits.given["risk"], self.delta)
        assert limits.prices is not None
        assert limits.cost is not None
        prices, dearest = limits.prices, max(limits.prices.dearest, 1e-300)
        costs = (prices.error * loss + prices.abstention * ~accepted + prices.request * deferred) / dearest
        return betting(costs, np.ones_like(accepted), limits.cost / dearest, self.delta)
