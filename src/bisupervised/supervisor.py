"""A supervisor: quantifier, probability calibration if any, and threshold -> verdicts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bisupervised.decision import accept, check_threshold
from bisupervised.errors import EvidenceError
from bisupervised.probability_calibration import IsotonicCalibration, TemperatureScaling
from bisupervised.quantifiers import MaxSoftmax, Quantifier
from bisupervised.records import Evidence, FloatArray, ModelOutput, Verdicts


@dataclass(frozen=True, slots=True, eq=False)
class Supervisor:
    """Decides whether each prediction of one model can be trusted.

    `threshold` is compared with the (calibrated) confidence by the one acceptance rule; the default trusts
    nothing, so a system that was never calibrated asks the remote model and rejects rather than guess.
    `never_trust` names predictions that are never accepted whatever their confidence, such as the `other`
    class of a local model that knows only the frequent classes (the paper's input domain reduction): they
    count as giving no evidence.
    """

    quantifier: Quantifier = field(default_factory=MaxSoftmax)
    threshold: float = np.inf
    temperature: TemperatureScaling | None = None
    isotonic: IsotonicCalibration | None = None
    never_trust: Collection[Any] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", check_threshold(self.threshold))
        if self.temperature is not None and self.quantifier.needs is not Evidence.PROBABILITIES:
            raise EvidenceError(
                f"temperature scaling works on class probabilities, and {self.quantifier.name} reads "
                f"{self.quantifier.needs.value}; use isotonic calibration instead"
            )

    def with_threshold(self, threshold: float) -> Supervisor:
        """The same supervisor with another threshold."""
        return replace(self, threshold=threshold)

    def confidences(self, output: ModelOutput) -> FloatArray:
        """(n,) confidences; NaN for failed rows and for predictions that are never trusted."""
        if output.failures and len(output.failures) == len(output):
            return np.full(len(output), np.nan)
        if self.temperature is not None and output.probabilities is not None:
            output = replace(output, probabilities=self.temperature(output.probabilities))
        confidences = self.quantifier(output)
        if self.isotonic is not None:
            confidences = self.isotonic(confidences)
        if output.failures or self.never_trust:
            confidences = np.array(confidences, dtype=np.float64)
            confidences[list(output.failures)] = np.nan
            for row, prediction in enumerate(output.predictions) if self.never_trust else ():
                if prediction in self.never_trust:
                    confidences[row] = np.nan
        return confidences

    def judge(self, output: ModelOutput) -> Verdicts:
        """One verdict for each of the n predictions."""
        confidences = self.confidences(output)
        return Verdicts(confidences, accept(confidences, self.threshold), self.threshold, output.failures)
