"""What a guarantee comes as: thresholds with the evidence for them, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bisupervised.calibration.rule import Rule
from bisupervised.errors import InfeasibleTarget, InputError

INDEPENDENT = (
    "Holds if future inputs and the {n} calibration rows are independent draws from one source, and no row fitted a "
    "model or supervisor."
)
FIXED_FIRST_LEVEL = "The thresholds of the 1st level must come from other rows."
EXCHANGEABLE = (
    "Holds if the next input is exchangeable with the {n} calibration rows, and no row fitted a model or supervisor."
)


@dataclass(frozen=True, slots=True)
class Certified:
    """Thresholds, and what is promised of them."""

    method: str  #: `order statistic`, `fixed sequence`, `conformal risk control`, `pareto testing`
    thresholds: Mapping[str, float]  #: those it chose, of `local`, `abstain` and `remote`
    target: Mapping[str, float]  #: what is promised: figure -> the most it may be
    #: the promise fails with at most this probability over the calibration rows; None: it is one of expectation, for
    #: the next input
    delta: float | None
    n: int  #: labelled (or, for a request budget, recorded) rows it was computed from
    counts: Mapping[str, int | float]  #: what was counted for it
    bounds: Mapping[str, float]  #: figure -> the upper confidence bound at `delta`, alone; its mean without `delta`
    assumption: str  #: in one sentence
    remarks: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule:
        """The rule of both levels; `InputError` when this chose only a part of it."""
        if not {"local", "remote"} <= self.thresholds.keys():
            raise InputError(
                f"{self.method} chose only {', '.join(self.thresholds)}: combine it with the other level"
            )
        return Rule(**self.thresholds)

    @property
    def sentence(self) -> str:
        """The promise in one sentence."""
        promised = " and ".join(f"{_words(name)} at most {value:.4g}" for name, value in self.target.items())
        if self.delta is None:
            return f"On average over calibration rows and inputs: {promised} (n = {self.n})."
        return f"With confidence {1.0 - self.delta:.4g}: {promised} (n = {self.n})."

    def evidence(self) -> dict[str, Any]:
        """The same as plain values, for `thresholds.toml` and JSON."""
        return {
            "promise": self.sentence,
            "method": self.method,
            "guarantee": dict(self.target),
            **({} if self.delta is None else {"delta": self.delta}),
            "n": self.n,
            "counts": dict(self.counts),
            "bounds": dict(self.bounds),
            "assumption": self.assumption,
            **({"remarks": list(self.remarks)} if self.remarks else {}),
        }


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No thresholds can be certified; what these rows could support, and how many would do."""

    method: str
    target: Mapping[str, float]
    delta: float | None
    n: int
    reason: str  #: what is in the way
    #: figure -> the lowest target that these rows could have certified by the same method; NaN where not known
    lowest: Mapping[str, float] = field(default_factory=dict)
    more_rows: int | None = (
        None  #: further rows that would do at the present rates; None: no number would, or not known
    )

    @property
    def sentence(self) -> str:
        """ "Infeasible: with n = 212 labelled rows the lowest risk that can be certified is 0.081; …" """
        able = [f"the lowest {_words(f)} that can be certified is {v:.3f}" for f, v in self.lowest.items() if v == v]
        said = f"infeasible: with n = {self.n} {'labelled ' if self._needs_labels else ''}rows "
        if len(able) > 1:
            able[-1] += " (each with the other limits as they are)"
        said = said + " and ".join(able) if able else f"{said.rstrip()}, {self.reason}"
        if self.more_rows is None:
            return f"{said}; {self.reason}" if able else said
        asked = " and ".join(f"{value:.4g}" for value in self.target.values())
        more = "row" if self.more_rows == 1 else "rows"
        return (
            f"{said}; {self.more_rows} more {more} would {f'certify {asked} at the present rates' if asked else 'do'}"
        )

    @property
    def _needs_labels(self) -> bool:
        return bool(set(self.target) - {"request_rate"})

    def __bool__(self) -> bool:
        return False

    def raised(self) -> InfeasibleTarget:
        """The same as an error, to raise."""
        return InfeasibleTarget(self.sentence)


Guarantee: TypeAlias = Certified | Infeasible


def certified(guarantee: Guarantee) -> Certified:
    """The guarantee, which must be one. Raises `InfeasibleTarget` with what the rows could support."""
    if isinstance(guarantee, Infeasible):
        raise guarantee.raised()
    return guarantee


def check_share(value: float, what: str) -> float:
    """The number, which must be inside (0, 1)."""
    if not (math.isfinite(value) and 0.0 < value < 1.0):
        raise InputError(f"{what} is a share between 0 and 1, as in 0.1, not {value}")
    return float(value)


def _words(figure: str) -> str:
    return figure.replace("_", " ")
