"""What the analysis of one live study finds: frozen records, plain values on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

from bisupervised.evaluation.intervals import Estimate
from bisupervised.records import FloatArray
from bisupervised.report.figures import json_safe
from bisupervised.studies.live.certified import CertifiedRisk
from bisupervised.studies.live.claims import Claim, Outcome, Verdict
from bisupervised.studies.live.latency import LatencyFigures
from bisupervised.studies.live.money import Money
from bisupervised.studies.live.operating_points import ChosenPoint
from bisupervised.studies.live.supervised import SupervisedFigures
from bisupervised.studies.live.supervisors import SupervisorFigures


class DrawnCurve(NamedTuple):
    """A request-accuracy curve of the reporting rows, for drawing."""

    request_rates: FloatArray
    system_accuracy: FloatArray


@dataclass(frozen=True, slots=True)
class SystemRun:
    """One system at the points chosen for it, on the reporting rows."""

    key: str  #: `max_softmax`, `recommended`, `learned`, `reduced_domain`
    title: str
    purpose: str  #: `fewest_requests` or `most_accurate`
    chosen: bool  #: by the choosing rows, to be the one that the claim is about
    reads: Sequence[str]  #: supervisors of the 1st level, split by split
    points: Sequence[ChosenPoint]  #: split by split
    request_rate: Estimate
    system_accuracy: Estimate
    difference: Estimate  #: from remote-only's system accuracy, paired
    kept_local: float  #: share of inputs that were sent, and still answered by the local model
    latency_s: float  #: mean; NaN: not known


@dataclass(frozen=True, slots=True)
class PaperFigures:
    """What the paper has of its own models and data. None: it has none."""

    study: str | None
    auc_rac: float | None
    remote_even: float | None  #: request rate
    best: float | None
    latency_change: float | None  #: against remote-only at its first operating point: -.3 is 30 % faster


@dataclass(frozen=True, slots=True)
class StudyResults:
    """One study. Rates and accuracies in [0, 1], seconds; intervals are 95 %; NaN: not known."""

    name: str
    title: str
    objective: str
    n: int  #: rows of the table
    n_report: int
    n_clusters: int | None  #: among the reporting rows; None: every row is one
    left_out: int  #: rows that not both models were asked about, or whose answers were not graded
    parts: Mapping[str, int]
    cross_fitted: bool
    failures: Mapping[str, int]  #: by level: no usable answer
    truncated: Mapping[str, int | None]  #: by level: inputs that were too long, and cut; None: not known
    local_only: Estimate
    remote_only: Estimate
    claims: Sequence[Claim]  #: `requests`, `accuracy`, `latency`
    systems: Sequence[SystemRun]
    recommended: Mapping[str, Sequence[str]]  #: level -> supervisors, split by split
    reasons: Sequence[str]  #: of the recommendations, in sentences
    supervisors: Sequence[SupervisorFigures]
    supervised: Sequence[SupervisedFigures]
    certified: CertifiedRisk
    latency: LatencyFigures  #: of the system of claim 1
    money: Sequence[Money]  #: of the system of claim 1, by price table
    curves: Mapping[str, DrawnCurve]
    paper: PaperFigures
    notes: Sequence[str]

    def claim(self, key: str) -> Claim:
        """The claim of that key."""
        return next(one for one in self.claims if one.key == key)

    def run(self, purpose: str) -> SystemRun:
        """The system that was chosen for a purpose."""
        return next(one for one in self.systems if one.purpose == purpose and one.chosen)

    @property
    def saved(self) -> Estimate:
        """Share of the remote requests that the system of claim 1 saves."""
        rate = self.run("fewest_requests").request_rate
        return Estimate(1.0 - rate.value, 1.0 - rate.high, 1.0 - rate.low)

    @property
    def auc_rac(self) -> Estimate:
        """Of the recorded local confidence."""
        return next(one.auc_rac for one in self.supervisors if one.level == "local" and one.name == "confidence")

    def to_dict(self) -> dict[str, Any]:
        """Every figure in JSON's types: NaN is None, infinite thresholds are "inf" and "-inf"."""
        found: dict[str, Any] = json_safe(_plain(self))
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, Claim | Verdict):
        return value.to_dict()
    if isinstance(value, Outcome):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
