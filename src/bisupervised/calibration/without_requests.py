"""What the local model with its supervisor does alone, at the coverage of a rule that asks the remote model.

A rule is worth its requests only if it answers better than that. On some data it does not (SQuADv2 with its
unanswerable questions is one), and whoever pays for the requests should be told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of
from bisupervised.decision import accept, first_level
from bisupervised.evaluation.intervals import Estimate, normal_interval
from bisupervised.records import BoolArray, FloatArray

AS_GOOD: Final = 0.005  #: a difference in accuracy or coverage that no one would pay requests for


@dataclass(frozen=True, slots=True)
class WithoutRequests:
    """Local-only with a supervisor beside a rule, on rows that chose neither."""

    threshold: float  #: of the local confidence
    coverage: float
    supervised_accuracy: float
    rule_coverage: float
    rule_supervised_accuracy: float
    rule_request_rate: float
    difference: Estimate  #: supervised accuracy of local-only minus that of the rule, paired

    @property
    def matches(self) -> bool:
        """Whether local-only is as good for all that matters: at most half a percent point below the rule, in
        supervised accuracy and in coverage, with rows enough that this is not the noise of a few."""
        enough = self.difference.high - self.difference.low <= 8.0 * AS_GOOD
        return enough and self.difference.value >= -AS_GOOD and self.coverage >= self.rule_coverage - AS_GOOD

    @property
    def sentence(self) -> str:
        """What to tell the user."""
        alone = f"supervised accuracy {self.supervised_accuracy:.3f} at coverage {self.coverage:.3f}"
        rule = f"{self.rule_supervised_accuracy:.3f} at {self.rule_coverage:.3f}"
        gap = f"difference {self.difference.value:+.3f} [{self.difference.low:+.3f}, {self.difference.high:+.3f}]"
        if self.matches:
            return (
                f"The local model with its supervisor already matches this without any remote request: {alone} "
                f"against {rule} with {self.rule_request_rate:.1%} requests; {gap}."
            )
        return (
            f"Without requests, at about the same coverage, the local model with its supervisor comes to {alone} "
            f"against {rule}; {gap}."
        )


def without_requests(choosing: CalibrationRows, judging: CalibrationRows, rule: Rule) -> WithoutRequests:
    """Choose the local threshold with the coverage of the rule on one part of the rows, and compare both on the
    other.

    The interval is that of the difference of two ratios over the same rows, by their influence functions.
    """
    threshold = _threshold_of_coverage(choosing.local_confidence, figures_of(choosing, rule).accepted)
    alone = accept(judging.local_confidence, threshold)
    accepted, deferred = first_level(judging.local_confidence, rule.local, rule.abstain)
    answered = accepted | (deferred & accept(judging.remote_confidence, rule.remote))
    losses = np.where(accepted, judging.local_loss, judging.remote_loss)
    of_alone, ours = _accuracy(alone, judging.local_loss)
    of_rule, theirs = _accuracy(answered, losses)
    error = float(np.std(ours - theirs)) / math.sqrt(len(judging))
    return WithoutRequests(
        threshold=threshold,
        coverage=float(alone.mean()),
        supervised_accuracy=of_alone,
        rule_coverage=float(answered.mean()),
        rule_supervised_accuracy=of_rule,
        rule_request_rate=float(deferred.mean()),
        difference=Estimate(of_alone - of_rule, *normal_interval(of_alone - of_rule, error)),
    )


def _threshold_of_coverage(confidences: FloatArray, accepted: int) -> float:
    """The highest threshold that accepts at least so many; -inf where too few have a confidence."""
    known = np.sort(confidences[~np.isnan(confidences)])[::-1]
    if accepted == 0:
        return math.inf
    return float(known[accepted - 1]) if accepted <= len(known) else -math.inf


def _accuracy(answered: BoolArray, loss: FloatArray) -> tuple[float, FloatArray]:
    """Supervised accuracy, and each row's influence on it; NaN where nothing is answered."""
    if not answered.any():
        return math.nan, np.full(len(loss), math.nan)
    accuracy = 1.0 - float(loss[answered].mean())
    return accuracy, np.where(answered, (1.0 - loss - accuracy) / answered.mean(), 0.0)
