"""What watching found: one finding for each question, and all of them together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import numpy as np

from bisupervised.monitoring.reference import Reference
from bisupervised.records import FloatArray, IntArray

NAN: Final = float("nan")


class Verdict(StrEnum):
    """The answer to one question."""

    MOVED = "moved"
    NO_SIGN = "no sign of change"
    TOO_FEW = "too few rows to say"


class Said(NamedTuple):
    """Two sentences."""

    meaning: str  #: for the guarantee
    to_do: str


class Unknown(NamedTuple):
    """A question that these rows cannot answer."""

    question: str
    why: str
    to_do: str


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """The answer to one question, with its numbers. Rates in [0, 1]; NaN and None: not known."""

    #: `local_confidences`, `local_missing` (none at all), `remote_confidences`, `remote_missing`, `request_rate`,
    #: `early_abstention`, `local_risk`, `remote_risk`, `disagreement`; whether a limit is kept: `risk_limit`,
    #: `request_rate_limit`, `abstention_limit`
    question: str
    verdict: Verdict
    rows: int  #: that it was asked of
    reference_rows: int  #: calibration rows that they are compared with; 0 for a limit
    log10_e: float  #: log10 of the e-value now
    log10_largest: float  #: of the largest so far
    log10_alarm: float  #: where the alarm rings
    rang_at: int | None  #: the number of the row, from 1, in the order in which the source was read
    rang_id: str | None
    rang_time: float  #: Unix seconds
    needed: float  #: rows from which a change of 0.1 is noticed; inf: never, with so few calibration rows
    #: the rate; of confidences the mean rank among the calibration rows: 0.5 where nothing moved, lower for lower
    #: ones
    value: float
    low: float  #: the rate's interval, right at every row with 1 - alpha while the rate does not change
    high: float
    lately: float  #: the value from the alarm on, of 100 rows at least; NaN: none rang
    reference: float  #: the value of the calibration rows, or the limit
    delta: float  #: the limit is promised, and the promise was to fail from the start so probably; NaN: no promise
    said: Said
    #: (rows,) log10 of the e-value after each row, and where that row is in the order that was read, from 0
    path: FloatArray = field(default_factory=lambda: np.empty(0), repr=False)
    at: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64), repr=False)

    @property
    def moved(self) -> bool:
        return self.verdict is Verdict.MOVED

    @property
    def of_limit(self) -> bool:
        """Whether it is about a limit, and not about the calibration rows."""
        return self.question.endswith("_limit")

    @property
    def of_promise(self) -> bool:
        """Whether that limit was promised, and not only given."""
        return not math.isnan(self.delta)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; None where not known."""
        rounded = {name: _plain(getattr(self, name)) for name in _FIGURES}
        return {
            "question": self.question,
            "verdict": self.verdict.value,
            **rounded,
            "meaning": self.said.meaning,
            "to_do": self.said.to_do,
        }


_FIGURES: Final = (
    *("rows", "reference_rows", "log10_e", "log10_largest", "log10_alarm", "rang_at", "rang_id", "rang_time"),
    *("needed", "value", "low", "high", "lately", "reference", "delta"),
)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """All findings on some rows."""

    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...]  #: what these rows cannot tell
    rows: int
    alpha: float  #: the probability that any alarm rings although nothing changed
    order: str  #: in which order the rows were read, in a sentence
    notes: tuple[str, ...]
    reference: Reference
    local: FloatArray = field(repr=False)  #: confidences in that order, for the figure
    remote: FloatArray = field(repr=False)  #: those of deferred rows

    @property
    def moved(self) -> bool:
        """Whether any alarm rang."""
        return any(finding.moved for finding in self.findings)

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        traffic = [_name(one) for one in self.findings if one.moved and not one.of_limit]
        broken = [_name(one) for one in self.findings if one.moved and one.of_promise]
        above = [_name(one) for one in self.findings if one.moved and one.of_limit and not one.of_promise]
        few = [_name(one) for one in self.findings if one.verdict is Verdict.TOO_FEW]
        if traffic or broken or above:
            said = [f"the traffic has moved away from the calibration rows ({'; '.join(traffic)})"] if traffic else []
            said += [f"a promise is broken ({'; '.join(broken)})"] if broken else []
            said += [f"a limit is exceeded ({'; '.join(above)})"] if above else []
            text = " and ".join(said)
            return f"{text[0].upper()}{text[1:]}."
        if len(few) == len(self.findings):
            return "Too few rows to say whether the traffic has moved."
        return "No sign that the traffic has moved" + (f"; too few rows to say for {'; '.join(few)}." if few else ".")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "moved": self.moved,
            "sentence": self.sentence,
            "rows": self.rows,
            "reference_rows": self.reference.rows,
            "alpha": self.alpha,
            "order": self.order,
            "findings": [finding.to_dict() for finding in self.findings],
            "not_known": [one._asdict() for one in self.unknown],
            "notes": list(self.notes),
        }


def _name(finding: Finding) -> str:
    return name_of(finding.question)


def name_of(question: str) -> str:
    """A question in words; of a promise that is not watched, its figure."""
    return NAMES.get(question, question.replace("_", " "))


#: How each question is called in words; all the questions there are, among which alpha is divided.
NAMES: Final = {
    "local_confidences": "confidences, 1st level",
    "local_missing": "no confidence, 1st level",
    "remote_confidences": "confidences, 2nd level",
    "remote_missing": "no confidence, 2nd level",
    "request_rate": "request rate",
    "early_abstention": "early abstention",
    "local_risk": "risk, 1st level",
    "remote_risk": "risk, 2nd level",
    "disagreement": "disagreement in audits",
    "risk_limit": "risk limit",
    "request_rate_limit": "request rate limit",
    "abstention_limit": "abstention limit",
}
