"""The rules of the paper's own code, each behind a named switch, beside the right ones.

The evaluation of Weiss & Tonella (TOSEM 2023, doi:10.1145/3617593) is not consistent with itself: it compares with
`<` in one place and with `>` in another, takes its operating points from a grid, goes past the false alarm rate it
aims at, and counts unreadable replies as wrong answers. `PAPER` does as it does, so that its tables can be repeated
to the last digit; `OURS` is what this package holds to be right. One set of functions serves both, and all accept by
`bisupervised.decision.accept`: `confidence > t` is `confidence >= nextafter(t, inf)`.

What the differences amount to is measured in `docs/findings/paper.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from bisupervised.decision import accept
from bisupervised.errors import InputError
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.request_accuracy import (
    RequestAccuracyCurve,
    request_accuracy_curve,
    request_accuracy_on_grid,
)
from bisupervised.evaluation.supervised import false_alarm_threshold
from bisupervised.records import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class PaperRules:
    """The compatibility switches. The defaults are the right thing; `PAPER` has every switch on."""

    #: Steps of the grid of request rates in which `best` and `remote-even` are looked for; None: among all
    #: attainable points. The published table has 100, although the published code has 1,000.
    eval_point_grid: int | None = None
    #: Steps of the grid of the curves, of AUC-RAC, and of the operating points in the latency table; None: exact.
    curve_grid: int | None = None
    #: `at_most`: the largest threshold whose false alarm rate does not exceed the target. `first_reaching`: the
    #: smallest recorded confidence whose false alarm rate reaches it, which is at or above the target.
    false_alarm: Literal["at_most", "first_reaching"] = "at_most"
    #: `same`: reported rates follow the acceptance rule. `strict`: the 2nd level's acceptance rate, and everything
    #: of the single-model baselines, is counted with `>`, although predictions are rejected with `<`.
    reported_acceptance: Literal["same", "strict"] = "same"
    #: `failed`: an unreadable reply has no confidence and is never accepted. `wrong`: it is an ordinary wrong
    #: prediction of confidence 0.
    unreadable: Literal["failed", "wrong"] = "failed"
    #: `per_input`: the mean over inputs of what each one pays. `mean_times_rate`: mean local latency + request rate
    #: times mean remote latency, as if deferred inputs were like all others.
    latency: Literal["per_input", "mean_times_rate"] = "per_input"


OURS = PaperRules()
PAPER = PaperRules(
    eval_point_grid=100,
    curve_grid=1000,
    false_alarm="first_reaching",
    reported_acceptance="strict",
    unreadable="wrong",
    latency="mean_times_rate",
)

#: An operating point by name, or by the request rate asked for.
PointSpec: TypeAlias = Literal["remote-even", "best"] | float


@dataclass(frozen=True, eq=False)
class PairedRows:
    """n recorded inputs as arrays: both models' confidences, and whether each prediction is correct."""

    local_confidence: FloatArray  #: (n,)
    local_correct: BoolArray  #: (n,)
    remote_confidence: FloatArray  #: (n,) NaN where the reply failed
    remote_correct: BoolArray  #: (n,)

    def __len__(self) -> int:
        return len(self.local_confidence)

    @cached_property
    def order(self) -> DeferralOrder:
        """The order of deferral; sorted once."""
        return DeferralOrder.of(self.local_confidence)

    @cached_property
    def curve(self) -> RequestAccuracyCurve:
        """The exact request-accuracy curve."""
        return request_accuracy_curve(
            self.local_confidence, self.local_correct, self.remote_correct, order=self.order
        )

    def on_grid(self, steps: int) -> tuple[FloatArray, FloatArray]:
        """(request rates asked for, system accuracy), each (steps + 1,), on the paper's grid."""
        return request_accuracy_on_grid(self.local_confidence, self.local_correct, self.remote_correct, steps=steps)

    def paper_threshold(self, request_rate: float) -> float:
        """The order statistic of the local confidences that the paper's code takes for this request rate."""
        n = len(self)
        return float(self.local_confidence[self.order.order[min(int(n * request_rate), n - 1)]])


class EvalPoint(NamedTuple):
    """An operating point at which the system is assessed."""

    request_rate: float  #: asked for on a grid, attained otherwise
    name: str  #: `best`, `remote-even`, or `default` for a request rate chosen beforehand
    local_threshold: float


def evaluation_points(rows: PairedRows, specs: Sequence[PointSpec], grid: int | None) -> list[EvalPoint]:
    """The operating points in the order asked for; where two coincide the later one stays, as in the paper."""
    found = (_exact_point(rows, spec) if grid is None else _grid_point(rows, spec, grid) for spec in specs)
    return list({point.request_rate: point for point in found}.values())


def _exact_point(rows: PairedRows, spec: PointSpec) -> EvalPoint:
    curve = rows.curve
    if not isinstance(spec, str):
        point = curve.within_budget(spec)
        if point is None:
            raise InputError(f"more than {spec:g} of the inputs have no local confidence: they are always deferred")
        # The label says what was asked for; ties make the attained rate smaller.
        return EvalPoint(spec, "default", point.local_threshold)
    point = curve.best() if spec == "best" else curve.remote_even()
    return EvalPoint(point.request_rate, spec, point.local_threshold)


def _grid_point(rows: PairedRows, spec: PointSpec, grid: int) -> EvalPoint:
    if not isinstance(spec, str):
        return EvalPoint(spec, "default", rows.paper_threshold(spec))
    rates, accuracy = rows.on_grid(grid)
    # The last point of the grid stands for remote-only, although the most confident input stays local there.
    index = int(np.argmax(accuracy if spec == "best" else np.greater_equal(accuracy, accuracy[-1])))
    rate = float(rates[index])
    return EvalPoint(rate, spec, rows.paper_threshold(rate))


class Assessment(NamedTuple):
    """What a supervised system, or one supervised model, comes to."""

    remote_acceptance: float | None  #: share of the deferred inputs that the 2nd level accepts; None: no 2nd level
    coverage: float  #: share of all inputs answered
    objective: float  #: supervised accuracy (or exact match); NaN when nothing is answered


def assess_system(
    rows: PairedRows, local_threshold: float, targets: Sequence[float], rules: PaperRules
) -> list[Assessment | None]:
    """Both levels at one local threshold, the remote threshold set for each target false alarm rate.

    None where the target is infeasible: no recorded confidence as threshold rejects so many correct predictions
    (only `first_reaching` can fail in this way).
    """
    kept = accept(rows.local_confidence, local_threshold)
    deferred = np.logical_not(kept)
    confidence, correct = rows.remote_confidence[deferred], rows.remote_correct[deferred]
    n_kept, kept_right = int(np.count_nonzero(kept)), int(np.count_nonzero(kept & rows.local_correct))
    total_right = kept_right + int(np.count_nonzero(correct))
    assessed: list[Assessment | None] = []
    for target in targets:
        threshold = remote_threshold(confidence, correct, target, total_right, rules)
        if threshold is None:
            assessed.append(None)
            continue
        accepted = accept(confidence, threshold)
        answered = n_kept + int(np.count_nonzero(accepted))
        right = kept_right + int(np.count_nonzero(accepted & correct))
        reported = np.count_nonzero(accept(confidence, _as_reported(threshold, rules)))
        assessed.append(
            Assessment(_ratio(int(reported), len(confidence)), answered / len(rows), _ratio(right, answered))
        )
    return assessed


def assess_alone(
    confidence: FloatArray, correct: BoolArray, targets: Sequence[float], rules: PaperRules
) -> list[Assessment | None]:
    """One supervised model on all n inputs: the paper's baselines. None where a target is infeasible."""
    assessed: list[Assessment | None] = []
    for target in targets:
        threshold = remote_threshold(confidence, correct, target, int(np.count_nonzero(correct)), rules)
        if threshold is None:
            assessed.append(None)
            continue
        accepted = accept(confidence, _as_reported(threshold, rules))
        answered = int(np.count_nonzero(accepted))
        right = int(np.count_nonzero(accepted & correct))
        assessed.append(Assessment(None, answered / len(confidence), _ratio(right, answered)))
    return assessed


def remote_threshold(
    confidence: FloatArray, correct: BoolArray, target: float, total_right: int, rules: PaperRules
) -> float | None:
    """The threshold on these (k,) predictions for a target false alarm rate, counted over `total_right`."""
    if rules.false_alarm == "at_most":
        return false_alarm_threshold(confidence, correct, target, correct_in_system=total_right)
    return _first_reaching(confidence, correct, target, total_right)


def _first_reaching(confidence: FloatArray, correct: BoolArray, target: float, total_right: int) -> float | None:
    """The smallest confidence t such that #(correct with confidence < t) / total_right >= target; None: none.

    The paper tries every t in turn, O(k^2). So many correct predictions must be rejected; t is the smallest
    confidence above the last of them: O(k) by selection.
    """
    needed = _rejections_reaching(target, total_right)
    known = confidence[np.logical_not(np.isnan(confidence))]
    of_correct = confidence[correct & np.logical_not(np.isnan(confidence))]
    if needed is None or needed > len(of_correct) or len(known) == 0:
        return None
    if needed == 0:
        return float(known.min())
    last_rejected = float(np.partition(of_correct, needed - 1)[needed - 1])
    above = known[accept(known, math.nextafter(last_rejected, math.inf))]
    return float(above.min()) if len(above) else None


def _rejections_reaching(target: float, total: int) -> int | None:
    """The smallest m with m / total >= target, in the floating-point division the paper's code makes."""
    if total == 0:
        return None
    m = max(math.ceil(target * total) - 1, 0)
    while m / total < target:
        m += 1
    return m


def _as_reported(threshold: float, rules: PaperRules) -> float:
    """The threshold that gives the rate the paper reports: `> t` where the rule itself is `>= t`."""
    return math.nextafter(threshold, math.inf) if rules.reported_acceptance == "strict" else threshold


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def system_latency(
    local_s: FloatArray, remote_s: FloatArray, rows: PairedRows, point: EvalPoint, rules: PaperRules
) -> float:
    """Mean seconds per input at an operating point, from (n,) seconds of each model with its supervisor."""
    if rules.latency == "mean_times_rate":
        return float(np.mean(local_s)) + float(np.mean(remote_s)) * point.request_rate
    kept = accept(rows.local_confidence, point.local_threshold)
    return float(np.mean(local_s)) + float(np.sum(remote_s[np.logical_not(kept)])) / len(rows)
