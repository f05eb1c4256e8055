"""Whether a model gives the evidence that it declares: one request, for `bisupervised doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bisupervised.models.outputs import evidence_in
from bisupervised.records import Evidence, Failure, ModelOutput


@dataclass(frozen=True, slots=True)
class EvidenceCheck:
    """What one request showed."""

    model: str
    declared: frozenset[Evidence]
    given: frozenset[Evidence]  #: evidence that really came back, NaN and empty ones left out
    prediction: Any  #: of the example input; None when it could not be read
    failure: Failure | None  #: why the reply gave no prediction; its evidence may be fine all the same
    latency_s: float  #: seconds; NaN: not known
    cost: float  #: currency units this check cost; NaN: not known

    @property
    def missing(self) -> frozenset[Evidence]:
        """Declared, and not given: a supervisor that needs it would never trust anything."""
        return self.declared - self.given

    @property
    def ok(self) -> bool:
        """Whether everything that is declared came back."""
        return not self.missing


def evidence_check(name: str, declared: frozenset[Evidence], output: ModelOutput) -> EvidenceCheck:
    """What an output for one input, with all the evidence that came back, shows."""
    return EvidenceCheck(
        model=name,
        declared=declared,
        given=evidence_in(output),
        prediction=None if 0 in output.failures else output.predictions[0],
        failure=output.failures.get(0),
        latency_s=float("nan") if output.latency_s is None else float(output.latency_s[0]),
        cost=float("nan") if output.cost is None else float(output.cost[0]),
    )
