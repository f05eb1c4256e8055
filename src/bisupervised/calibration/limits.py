"""What a calibration wants (prices), and what it must keep to (limits). Both read `Counts`, of one rule or of
many."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bisupervised.calibration.rule import Counts
from bisupervised.errors import InputError

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Prices:
    """A price per input: error * (accepted and wrong) + abstention * (rejected) + request * (remote model asked).

    Every objective is one: `utility(r)` is coverage - r * requests, `COVERAGE` the most coverage, `REQUESTS` the
    fewest requests.
    """

    error: float = 0.0
    abstention: float = 0.0
    request: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(price) and price >= 0.0 for price in (self.error, self.abstention, self.request)):
            raise InputError(f"the prices of an error, an abstention and a request are numbers from 0 on, not {self}")

    def total(self, counts: Counts) -> Any:
        """The price of all n inputs."""
        rejected = counts.n - counts.accepted
        return self.error * counts.loss + self.abstention * rejected + self.request * counts.requests

    @property
    def dearest(self) -> float:
        """The most that one input may cost: the early abstention costs no request, the others may."""
        return self.request + max(self.error, self.abstention)


def utility(request: float) -> Prices:
    """Coverage - `request` * request rate, as large as possible: `1 - price` of these prices."""
    return Prices(abstention=1.0, request=request)


COVERAGE = Prices(abstention=1.0)
REQUESTS = Prices(request=1.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is allowed, each a share in [0, 1]; None: anything."""

    risk: float | None = None  #: of the accepted answers; 1 - supervised accuracy
    request_rate: float | None = None
    abstention: float | None = None  #: early or late; 1 - coverage
    cost: float | None = None  #: price per input, by `prices`
    prices: Prices | None = None  #: what `cost` is counted by

    def __post_init__(self) -> None:
        for name in ("risk", "request_rate", "abstention"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise InputError(f"a limit on {name} is a share in [0, 1], not {value}; write 30 % as 0.3")
        if (self.cost is None) != (self.prices is None):
            raise InputError("a limit on the cost needs the prices it is counted by, and prices need the limit")
        if self.cost is not None and not (math.isfinite(self.cost) and self.cost >= 0.0):
            raise InputError(f"a limit on the cost is a price per input from 0 on, not {self.cost}")

    @classmethod
    def least(cls, *, coverage: float | None = None, supervised_accuracy: float | None = None) -> Limits:
        """The same said the other way round: at least this coverage, at least this supervised accuracy."""
        return cls(
            risk=None if supervised_accuracy is None else 1.0 - supervised_accuracy,
            abstention=None if coverage is None else 1.0 - coverage,
        )

    @property
    def given(self) -> dict[str, float]:
        """The limits there are, by name."""
        names = (field.name for field in fields(self) if field.name != "prices")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def within(self, counts: Counts) -> Any:
        """Whether the counted rows keep to every limit; a rule that accepts nothing has no risk."""
        ok = np.ones(np.shape(counts.accepted), dtype=np.bool_)
        for over in self.excess(counts).values():
            ok = ok & (over <= _ROUNDING * counts.n)
        return ok

    def excess(self, counts: Counts) -> dict[str, Any]:
        """How far the counts go beyond each limit, in inputs (in currency units for the cost); <= 0 is within."""
        over: dict[str, Any] = {}
        if self.risk is not None:
            over["risk"] = counts.loss - self.risk * counts.accepted
        if self.request_rate is not None:
            over["request_rate"] = counts.requests - self.request_rate * counts.n
        if self.abstention is not None:
            over["abstention"] = counts.n - counts.accepted - self.abstention * counts.n
        if self.cost is not None and self.prices is not None:
            over["cost"] = self.prices.total(counts) - self.cost * counts.n
        return over
