"""A threshold that follows a long-run target, whatever the inputs do: proposed, never applied by itself.

Adaptive conformal inference (Gibbs & Candes, NeurIPS 2021) on the threshold itself: after each input with feedback

    error share     t <- t + step * (error - target)     error: the loss if the answer was accepted, else 0
    request rate    t <- t - step * (request - target)   request: 1 if the input was deferred, else 0

Over T inputs with feedback the mean differs from the target by (t_T - t_0) / (step T), exactly. With confidences in
[low, high], t above `high` accepts nothing and t below `low` defers nothing, so t stays within a step of them and

    mean request rate:  |mean - target| <= (high - low + step (1 + delay)) / (step T)
    mean error share:    mean - target  <= the same; and >= minus the same unless even accepting all errs less

for any sequence of inputs, an adversary's too. No exchangeability is needed, and none is given: on a day with few
errors it lowers the threshold. It is no substitute for calibration, and it is off unless somebody builds one.

The error share is of all inputs, not of the accepted ones: where nothing is accepted a risk tells nothing, and a
threshold for it would stay where it is for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from bisupervised.decision import accept
from bisupervised.errors import InputError

Aim: TypeAlias = Literal["error_share", "request_rate"]
Missing: TypeAlias = Literal["skip", "error"]
NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became known of one input that was decided by a proposed threshold, maybe long ago."""

    accepted: bool  #: whether the 1st level accepted it then, by the threshold of then
    #: of an accepted answer, in [0, 1]; NaN: not known. A rejected one has lost nothing, whatever stands here.
    loss: float = NAN


@dataclass(frozen=True, slots=True)
class Proposal:
    """A threshold to be reviewed, and to be logged whether it is used or not. Nothing has been changed by it."""

    threshold: float  #: proposed; `+inf`: accept nothing, `-inf`: accept everything
    before: float  #: proposed last
    because: str  #: in one sentence
    counted: int  #: inputs with feedback so far
    not_counted: int  #: those without
    mean: float  #: of the errors or requests counted so far; NaN: none
    target: float
    bound: float  #: the most that the mean may differ from the target after as many, without delay

    @property
    def changes(self) -> bool:
        return self.threshold != self.before


@dataclass(frozen=True, slots=True)
class AdaptiveThreshold:
    """The state, a value: `after(feedback)` gives the next one and the proposal. `low` and `high` bound confidences.

    Late feedback counts when it comes, with what was decided then: up to `delay` inputs late it adds `delay` steps to
    the bound. Feedback that is missing (NaN) of an accepted answer is skipped: the promise is then one for the inputs
    that are handed over, so hand over rejected ones only as often. With `missing="error"` it counts as an error, and
    the promise is for all. Confidences that are missing are deferred by every threshold, and outside of the promise
    on the request rate.

    >>> watch = AdaptiveThreshold(threshold=0.8, target=0.05, step=0.02, low=0.5, high=1.0)
    >>> watch, proposal = watch.after(Feedback(accepted=True, loss=1.0))
    >>> round(proposal.threshold, 4), proposal.because
    (0.819, 'an accepted answer was wrong: the threshold rises')
    """

    threshold: float  #: where it is now, maybe up to a step beyond [low, high]; `proposed` is what to use
    target: float  #: the long-run share of inputs, in [0, 1]
    step: float  #: in units of confidence; larger: quicker and less steady
    low: float
    high: float
    aim: Aim = "error_share"
    missing: Missing = "skip"
    counted: int = 0
    not_counted: int = 0
    total: float = 0.0  #: of the errors or requests counted

    def __post_init__(self) -> None:
        if not 0.0 <= self.target <= 1.0:
            raise InputError(f"the target is a share of inputs in [0, 1], not {self.target}; write 5 % as 0.05")
        if not (math.isfinite(self.step) and self.step > 0.0):
            raise InputError(f"the step is a number above 0, such as 0.005 of [low, high]; got {self.step}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"low < high are the confidences' bounds, both finite; got {self.low} and {self.high}")
        if not self.counted and not self.low <= self.threshold <= self.high:
            raise InputError(f"the threshold starts within [{self.low}, {self.high}]; got {self.threshold}")
        if self.aim not in ("error_share", "request_rate") or self.missing not in ("skip", "error"):
            raise InputError("aim is error_share or request_rate; missing is skip or error")

    @property
    def proposed(self) -> float:
        """The threshold to use: beyond the bounds it accepts nothing, or everything."""
        if self.threshold > self.high:
            return math.inf
        return -math.inf if self.threshold < self.low else self.threshold

    def bound(self, delay: int = 0) -> float:
        """The most that the mean may differ from the target after the inputs counted so far; inf without any."""
        reach = self.high - self.low + self.step * (1.0 + delay)
        return reach / (self.step * self.counted) if self.counted else math.inf

    def accepts(self, confidence: float) -> bool:
        """Whether the proposed threshold would accept: by the one rule."""
        return bool(accept(confidence, self.proposed))

    def after(self, feedback: Feedback) -> tuple[AdaptiveThreshold, Proposal]:
        """The next state and what it proposes. A pure function; raises `InputError` for a loss outside [0, 1]."""
        value, because = self._value(feedback)
        if math.isnan(value):
            following = replace(self, not_counted=self.not_counted + 1)
        else:
            moved = self.step * (value - self.target) * (1.0 if self.aim == "error_share" else -1.0)
            following = replace(
                self,
                threshold=self._held(self.threshold + moved),
                counted=self.counted + 1,
                total=self.total + value,
            )
        return following, following._proposal(self.proposed, because)

    def _value(self, feedback: Feedback) -> tuple[float, str]:
        if self.aim == "request_rate":
            if feedback.accepted:
                return 0.0, "an input was accepted: the threshold rises"
            return 1.0, "an input was deferred: the threshold falls"
        if not feedback.accepted:
            return 0.0, "an input was rejected, which is no error: the threshold falls"
        if math.isnan(feedback.loss):
            if self.missing == "error":
                return 1.0, "nothing is known of an accepted answer, which counts as an error: the threshold rises"
            return NAN, "nothing is known of an accepted answer: the threshold stays"
        if not 0.0 <= feedback.loss <= 1.0:
            raise InputError(f"a loss lies in [0, 1]; got {feedback.loss}")
        if feedback.loss > self.target:
            return feedback.loss, "an accepted answer was wrong: the threshold rises"
        return feedback.loss, "an accepted answer was right: the threshold falls"

    def _held(self, threshold: float) -> float:
        # Errors may stay below the target though all is accepted: going on down would delay the answer to the next
        # change, without end. Held there, the mean can only be lower, never higher.
        return max(threshold, self.low - self.step) if self.aim == "error_share" else threshold

    def _proposal(self, before: float, because: str) -> Proposal:
        mean = self.total / self.counted if self.counted else NAN
        return Proposal(
            self.proposed, before, because, self.counted, self.not_counted, mean, self.target, self.bound()
        )
