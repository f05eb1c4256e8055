"""What calibration aims at. A target turns recorded rows into a pair of thresholds.

These choose the best thresholds *on the calibration rows*: what they achieve elsewhere is an estimate, reported from
held-out rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.calibration.choice import NO_LABELS, Choice, Target, calibration_rows, labelled_rows, refuse_unasked
from bisupervised.calibration.guarantees import certified, request_budget, system_false_alarm_rate
from bisupervised.calibration.joint import choose_jointly
from bisupervised.calibration.limits import Prices
from bisupervised.calibration.within_limits import WithinLimits
from bisupervised.decision import accept
from bisupervised.errors import InfeasibleTarget, InputError, TableError
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.request_accuracy import RequestAccuracyCurve, request_accuracy_curve
from bisupervised.evaluation.supervised import system_false_alarm_threshold
from bisupervised.evaluation.system import SystemFigures
from bisupervised.records import PairConfidences
from bisupervised.table import Table


def describe(target: Target) -> dict[str, Any]:
    """The target's name and settings, as stored with the thresholds."""
    settings: dict[str, Any] = asdict(target) if is_dataclass(target) else {}
    return {"name": target.name, **settings}


def _check_rate(value: float | None, what: str) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise InputError(f"{what} is a share in [0, 1], not {value}; write 30 % as 0.3")


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """The most inputs sent to the remote model that `request_rate` allows: spend the budget, no more.

    Needs no labels, except for the 2nd level. With `delta` both figures are promised of future inputs, each with
    probability 1 - `delta` over the rows (order statistics); the 2nd level then is calibrated on other rows than the
    1st, since its promise needs a 1st level that is given. Without, a budget so chosen is exceeded half the time.
    """

    request_rate: float
    false_alarm_rate: float | None = 0.05
    delta: float | None = None
    name: ClassVar[str] = "request_budget"

    def __post_init__(self) -> None:
        _check_rate(self.request_rate, "a request budget")
        _check_rate(self.false_alarm_rate, "a false alarm rate")

    def choose(self, rows: Table) -> Choice:
        if self.delta is not None:
            return self._certified(rows, self.delta)
        order = DeferralOrder.of(rows.local.confidences)
        rates = np.concatenate([[0.0], order.ends / len(order)])
        index = int(np.searchsorted(rates, self.request_rate + 1e-12, side="right")) - 1
        local = float(order.thresholds[min(index, order.attainable.stop - 1)])
        if math.isnan(local):
            raise InfeasibleTarget(
                f"{order.never} of {len(order)} inputs have no local confidence and are always deferred: a request "
                f"rate of {order.never / len(order):.3f} is the least possible, above the budget of "
                f"{self.request_rate}"
            )
        return Choice(local, _second_level(rows, local, self.false_alarm_rate))

    def _certified(self, rows: Table, delta: float) -> Choice:
        if self.false_alarm_rate is None:
            budget = certified(request_budget(rows.local.confidences, self.request_rate, delta=delta))
            return Choice(budget.thresholds["local"], -math.inf, evidence=budget.evidence())
        if len(rows) < 2:
            raise InfeasibleTarget("one row cannot calibrate both levels")
        shuffled = np.random.default_rng(0).permutation(len(rows))
        half = len(rows) // 2
        first, second = rows.take(np.sort(shuffled[:half])), rows.take(np.sort(shuffled[half:]))
        budget = certified(request_budget(first.local.confidences, self.request_rate, delta=delta))
        local = budget.thresholds["local"]
        alarms = certified(
            system_false_alarm_rate(calibration_rows(second), local, self.false_alarm_rate, delta=delta)
        )
        evidence = {"request_budget": budget.evidence(), "false_alarms": alarms.evidence()}
        return Choice(local, alarms.thresholds["remote"], evidence=evidence)


@dataclass(frozen=True, slots=True)
class RemoteEven:
    """The fewest requests with system accuracy at least that of the remote model alone, less `margin`.

    The last requests buy little: a margin of .01 often saves a third of them.
    """

    false_alarm_rate: float | None = 0.05
    margin: float = 0.0
    name: ClassVar[str] = "remote_even"

    def __post_init__(self) -> None:
        _check_rate(self.false_alarm_rate, "a false alarm rate")
        _check_rate(self.margin, "a margin of accuracy")

    def choose(self, rows: Table) -> Choice:
        local = _curve(rows).remote_even(self.margin).local_threshold
        if math.isnan(local):
            never = int(np.isposinf(rows.local.confidences).sum())
            raise InfeasibleTarget(
                f"{never} of {len(rows)} inputs have the local confidence +inf and are never deferred: no threshold "
                f"reaches the accuracy of the remote model alone"
            )
        return Choice(local, _second_level(rows, local, self.false_alarm_rate))


@dataclass(frozen=True, slots=True)
class BestAccuracy:
    """The largest system accuracy; the fewest requests among equals."""

    false_alarm_rate: float | None = 0.05
    name: ClassVar[str] = "best_accuracy"

    def __post_init__(self) -> None:
        _check_rate(self.false_alarm_rate, "a false alarm rate")

    def choose(self, rows: Table) -> Choice:
        local = _curve(rows).best().local_threshold
        return Choice(local, _second_level(rows, local, self.false_alarm_rate))


@dataclass(frozen=True, slots=True)
class FalseAlarmRate:
    """At most this share of the correct predictions rejected, with a given 1st-level threshold."""

    false_alarm_rate: float
    local_threshold: float
    name: ClassVar[str] = "false_alarm_rate"

    def __post_init__(self) -> None:
        _check_rate(self.false_alarm_rate, "a false alarm rate")

    def choose(self, rows: Table) -> Choice:
        return Choice(self.local_threshold, _second_level(rows, self.local_threshold, self.false_alarm_rate))


@dataclass(frozen=True, slots=True)
class LowestCost:
    """The least expected cost per input: error * P(accepted and wrong) + abstention * P(rejected) + request *
    P(requested), all thresholds together, exact on a grid of `points` quantiles of either confidence.

    An input that is hopeless for both models may be rejected without asking the remote one (`early_abstention`).
    """

    error: float
    abstention: float
    request: float
    points: int = 400
    early_abstention: bool = True
    name: ClassVar[str] = "lowest_cost"

    def __post_init__(self) -> None:
        costs = (self.error, self.abstention, self.request)
        if not all(math.isfinite(cost) and cost >= 0.0 for cost in costs):
            raise InputError(
                f"the costs of an error, an abstention and a request are finite numbers from 0 on, not {costs}"
            )
        if self.points < 3:
            raise InputError(f"a grid needs at least 3 points, not {self.points}")

    def expected(self, figures: SystemFigures) -> float:
        """The expected cost per input of a system with these figures; NaN where they are not known."""
        coverage, wrong = figures.coverage.value, 1.0 - figures.supervised_accuracy.value
        return (
            (self.error * coverage * wrong if coverage else 0.0)
            + self.abstention * (1.0 - coverage)
            + self.request * figures.request_rate.value
        )

    def choose(self, rows: Table, pair: PairConfidences | None = None) -> Choice:
        found = choose_jointly(
            calibration_rows(rows, pair),
            Prices(self.error, self.abstention, self.request),
            early_abstention=self.early_abstention,
            points=self.points,
        )
        return Choice.of(found.rule)


def _second_level(rows: Table, local: float, false_alarm_rate: float | None) -> float:
    if false_alarm_rate is None:
        return -math.inf
    deferred = ~accept(rows.local.confidences, local)
    refuse_unasked(rows, deferred)
    correct = np.where(deferred, rows.correct("remote"), rows.correct("local"))
    if np.isnan(correct).all():
        raise TableError(NO_LABELS)
    remote = system_false_alarm_threshold(rows, local, false_alarm_rate)
    right = correct >= 0.5
    rejected = int((right & deferred & ~accept(rows.remote.confidences, remote)).sum())
    if rejected > false_alarm_rate * int(right.sum()) + 1e-9:
        raise InfeasibleTarget(
            f"{rejected} of {int(right.sum())} correct predictions have no remote confidence and are always "
            f"rejected: a false alarm rate of {rejected / int(right.sum()):.3f} is the least possible, above the "
            f"target of {false_alarm_rate}. Allow that, or go without a 2nd level"
        )
    return remote


def _curve(rows: Table) -> RequestAccuracyCurve:
    rows = labelled_rows(rows)
    return request_accuracy_curve(rows.local.confidences, rows.correct("local"), rows.correct("remote"))


def target_by_name(name: str, **settings: Any) -> Target:
    """The target of that name with its settings, as in a configuration file."""
    if name not in TARGETS:
        raise InputError(f"no target is called {name!r}; there are: {', '.join(TARGETS)}")
    try:
        target: Target = TARGETS[name](**settings)
    except TypeError as error:
        raise InputError(f"target {name}: {error}") from error
    return target


TARGETS: dict[str, Any] = {
    target.name: target
    for target in (RequestBudget, RemoteEven, BestAccuracy, FalseAlarmRate, LowestCost, WithinLimits)
}
