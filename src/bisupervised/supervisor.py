"""A supervisor: quantifier, probability calibration if any, and threshold -> verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from bisupervised.decision import accept, check_threshold, first_level
from bisupervised.errors import EvidenceError, InputError
from bisupervised.probability_calibration import ConfidenceCalibration, TemperatureScaling
from bisupervised.quantifiers import MaxSoftmax, Quantifier
from bisupervised.quantifiers.port import probabilities_of
from bisupervised.records import (
    BothLevels,
    Deferred,
    Evidence,
    FloatArray,
    ModelOutput,
    PairConfidences,
    Verdicts,
    take_outputs,
)

#: A learned supervisor of one level: its output and the confidences in it -> (n,) learned ones.
Learned: TypeAlias = Callable[[ModelOutput, FloatArray], FloatArray]
#: A supervisor that has read both levels.
Pair: TypeAlias = Callable[[BothLevels], PairConfidences]


@dataclass(frozen=True, slots=True, eq=False)
class Supervisor:
    """Decides whether each prediction of one model can be trusted.

    `threshold` is compared with the (calibrated) confidence by the one acceptance rule; the default trusts
    nothing, so a system that was never calibrated asks the remote model and rejects rather than guess.
    `temperature` makes the class probabilities match frequencies before the quantifier reads them,
    `confidence_calibration` (isotonic, beta, Venn-ABERS) the confidences after it.
    `abstain` is a second threshold, for the 1st level: below it an input is rejected at once, without asking the
    remote model (see `bisupervised.decision`). `learned`, for the 1st level, and `pair`, for the 2nd, are learned
    supervisors: the threshold is compared with their confidences in the place of this one's. A pair reads both
    levels, and may prefer the local prediction.
    `never_trust` names predictions that are never accepted whatever their confidence, such as the `other`
    class of a local model that knows only the frequent classes (the paper's input domain reduction): they
    count as giving no evidence.
    """

    quantifier: Quantifier = field(default_factory=MaxSoftmax)
    threshold: float = np.inf
    temperature: TemperatureScaling | None = None
    confidence_calibration: ConfidenceCalibration | None = None
    never_trust: Collection[Any] = ()
    abstain: float = -math.inf
    learned: Learned | None = None
    pair: Pair | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", check_threshold(self.threshold))
        object.__setattr__(self, "abstain", check_threshold(self.abstain, "abstain"))
        if self.temperature is not None and self.quantifier.needs is not Evidence.PROBABILITIES:
            reads = "nothing" if self.quantifier.needs is None else self.quantifier.needs.value
            raise EvidenceError(
                f"temperature scaling works on class probabilities, and {self.quantifier.name} reads {reads}; give "
                f"a confidence_calibration instead"
            )
        if isinstance(self.never_trust, str):
            raise InputError(f"never_trust is a collection of predictions: never_trust=[{self.never_trust!r}]")

    def with_threshold(self, threshold: float, abstain: float = -math.inf) -> Supervisor:
        """The same supervisor with other thresholds."""
        return replace(self, threshold=threshold, abstain=abstain)

    def confidences(self, output: ModelOutput) -> FloatArray:
        """(n,) confidences; NaN for failed rows and for predictions that are never trusted."""
        if output.failures or not len(output):
            confidences = np.full(len(output), np.nan)
            if len(output.failures) == len(output):
                return confidences
            # A failed row holds anything, a zero for each class say: its evidence is not read.
            answered = np.setdiff1d(np.arange(len(output)), list(output.failures))
            confidences[answered] = self.confidences(take_outputs(output, answered))
            return confidences
        confidences = self._score(output)
        if len(self.never_trust):
            confidences = confidences.copy()
            for row, prediction in enumerate(output.predictions):
                if prediction in self.never_trust:
                    confidences[row] = np.nan
        return confidences

    def _score(self, output: ModelOutput) -> FloatArray:
        if self.temperature is not None:
            output = replace(output, probabilities=self.temperature(probabilities_of(output)))
        confidences = np.asarray(self.quantifier(output), dtype=np.float64)
        if confidences.shape != (len(output),):
            raise EvidenceError(
                f"{self.quantifier.name} gave confidences of the shape {confidences.shape} for {len(output)} "
                f"predictions; there must be one for each"
            )
        return confidences if self.confidence_calibration is None else self.confidence_calibration(confidences)

    def judge(self, output: ModelOutput, deferred: Deferred | None = None) -> Verdicts:
        """One verdict for each of the n predictions.

        `deferred` is given at the 2nd level: what the 1st made of the same inputs.
        """
        confidences = self.confidences(output)
        if deferred is not None and self.pair is not None:
            return self._judge_pair(output, confidences, deferred, self.pair)
        learned = None if self.learned is None else known_where(confidences, self.learned(output, confidences))
        compared = confidences if learned is None else learned
        if self.abstain == -math.inf:
            accepted, abstained = accept(compared, self.threshold), None
        else:
            accepted, asked = first_level(compared, self.threshold, self.abstain)
            abstained = ~(accepted | asked)
        return Verdicts(confidences, accepted, self.threshold, output.failures, abstained=abstained, learned=learned)

    def _judge_pair(self, output: ModelOutput, confidences: FloatArray, deferred: Deferred, pair: Pair) -> Verdicts:
        local_output, local_confidences = deferred.taken()
        seen = pair(BothLevels(local_output, local_confidences, output, confidences))
        seen = weighed(seen, local_confidences, confidences)
        return Verdicts(
            confidences,
            accept(seen.confidences, self.threshold),
            self.threshold,
            output.failures,
            local_preferred=seen.local_preferred,
            learned=seen.confidences,
        )


def known_where(confidences: FloatArray, learned: FloatArray) -> FloatArray:
    """(n,) learned confidences, NaN where the level's own is: it failed, brought no evidence, or is never trusted."""
    unknown = np.isnan(confidences)
    return np.where(unknown, np.nan, learned) if unknown.any() else learned


def weighed(seen: PairConfidences, local_confidences: FloatArray, remote_confidences: FloatArray) -> PairConfidences:
    """What a supervisor of both levels makes of k inputs, without what nobody may trust.

    NaN where the prediction that would be the answer has no confidence of its own.
    """
    unknown = np.isnan(remote_confidences)
    if seen.local_preferred is not None:
        unknown = np.where(seen.local_preferred, np.isnan(local_confidences), unknown)
    if not unknown.any():
        return seen
    return replace(seen, confidences=np.where(unknown, np.nan, seen.confidences))
