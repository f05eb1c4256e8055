"""One system's figures on recorded rows: what it costs, how long it takes, and how right it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from bisupervised.decision import accept, first_level, route
from bisupervised.evaluation.intervals import (
    NOT_KNOWN,
    Estimate,
    Interval,
    bootstrap_of_sums,
    mean,
    quantile,
    rate,
)
from bisupervised.evaluation.supervised import false_alarm_rate, s_beta
from bisupervised.records import (
    AnyArray,
    BoolArray,
    FloatArray,
    LevelRows,
    PairConfidences,
    Route,
    RouteArray,
)
from bisupervised.table import Table


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from input to answer, quantifier and fallback time included."""

    mean: Estimate
    p50: Estimate
    p95: Estimate


@dataclass(frozen=True, slots=True)
class SystemFigures:
    """How one system does on n inputs. Every figure has a 95 % interval; NaN where it is not known."""

    n: int
    n_labelled: int
    request_rate: Estimate  #: share of inputs sent to the remote model
    system_accuracy: Estimate  #: correct among all labelled inputs, 2nd level ignored
    early_abstention: Estimate  #: share rejected without asking the remote model
    coverage: Estimate  #: share of all inputs answered by a trusted model
    supervised_accuracy: Estimate  #: correct among the accepted, labelled inputs
    false_alarm_rate: float  #: correct predictions rejected / all correct
    s_beta: dict[str, float]  #: S_0.5, S_1, S_2 of supervised accuracy and coverage
    route_shares: dict[str, float]  #: share of inputs by route
    cost_per_input: Estimate  #: currency units, the price of abstentions included
    cost_per_correct_answer: float  #: total cost / accepted correct answers
    latency: Latency
    latency_by_route: dict[str, Latency] = field(default_factory=dict)
    #: 95 % bootstrap intervals of the ratios above: false_alarm_rate, s_beta_0.5, s_beta_1, s_beta_2 and
    #: cost_per_correct_answer; empty when nobody asked for them
    bootstrap: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What a system did on each of n inputs: all that its figures are made of."""

    routes: RouteArray
    requested: BoolArray  #: the remote model was asked
    local_asked: bool  #: remote-only systems never ask the local model
    correct: FloatArray  #: of the prediction taken before the 2nd level judges it; NaN without a label
    latency_s: FloatArray
    cost: FloatArray
    abstained: BoolArray | None = None  #: of a cascade: rejected without asking the remote model


def latency_of(level: LevelRows) -> FloatArray:
    """(n,) prediction and quantifier time of one level; a quantifier time that nobody recorded counts as 0."""
    unrecorded = bool(np.isnan(level.supervisor_s).all())
    return level.latency_s if unrecorded else level.latency_s + np.where(level.asked, level.supervisor_s, 0.0)


def bisupervised(
    table: Table,
    local_threshold: float,
    remote_threshold: float,
    abstain_threshold: float = -math.inf,
    *,
    pair: PairConfidences | None = None,
    abstention_cost: float = 0.0,
) -> Decided:
    """Both supervisors at these thresholds. `pair`: what a supervisor of both levels makes of the rows."""
    accepted, deferred = first_level(table.local.confidences, local_threshold, abstain_threshold)
    confidences = table.remote.confidences if pair is None else pair.confidences
    # What the remote model was never asked counts as rejected, also where a supervisor of both levels knows one.
    answered = deferred & table.remote.asked
    remote_accepted = accept(confidences, remote_threshold) & answered
    preferred = np.zeros(len(table), dtype=np.bool_)
    if pair is not None and pair.local_preferred is not None:
        preferred = answered & pair.local_preferred
    routes = route(accepted | (remote_accepted & preferred), remote_accepted)
    return _cascade(table, routes, deferred, preferred, abstention_cost)


def as_routed(table: Table, routes: RouteArray, *, abstention_cost: float = 0.0) -> Decided:
    """The routes that a running system took and logged."""
    because = table.extra.get("deferred_because")
    deferred = routes != Route.LOCAL
    if because is not None:
        # A local answer may be one that was chosen after a request; a rejection may have come without one.
        known = np.array([one is not None and one == one for one in because], dtype=np.bool_)
        deferred = known & table.remote.asked | (routes == Route.REMOTE)
    return _cascade(table, routes, deferred, deferred & (routes == Route.LOCAL), abstention_cost)


def _cascade(
    table: Table, routes: RouteArray, deferred: BoolArray, preferred: BoolArray, abstention_cost: float
) -> Decided:
    local_s, remote_s = latency_of(table.local), latency_of(table.remote)
    fallback_s = table.extra.get("fallback_s")
    if fallback_s is not None:
        local_s = local_s + np.nan_to_num(np.asarray(fallback_s, dtype=np.float64))
    remote_cost = np.where(table.remote.asked, table.remote.cost, np.nan)  # the 0 of rows not asked is no price
    cost = np.where(deferred, table.local.cost + remote_cost, table.local.cost)
    return Decided(
        routes=routes,
        requested=deferred,
        local_asked=True,
        correct=np.where(deferred & ~preferred, table.correct("remote"), table.correct("local")),
        latency_s=np.where(deferred, local_s + remote_s, local_s),
        cost=cost + abstention_cost * (routes == Route.REJECTED),
        abstained=(routes == Route.REJECTED) & ~deferred,
    )


def local_only(table: Table, threshold: float | None = None, *, abstention_cost: float = 0.0) -> Decided:
    """The local model alone; with a threshold, under its supervisor."""
    trusted = _trusted(table.local.confidences, threshold)
    routes = np.where(trusted, Route.LOCAL, Route.REJECTED).astype(np.uint8)
    return Decided(
        routes=routes,
        requested=np.zeros(len(table), dtype=np.bool_),
        local_asked=True,
        correct=table.correct("local"),
        latency_s=latency_of(table.local),
        cost=table.local.cost + abstention_cost * ~trusted,
    )


def remote_only(table: Table, threshold: float | None = None, *, abstention_cost: float = 0.0) -> Decided:
    """The remote model alone; with a threshold, under its supervisor."""
    trusted = _trusted(table.remote.confidences, threshold)
    routes = np.where(trusted, Route.REMOTE, Route.REJECTED).astype(np.uint8)
    return Decided(
        routes=routes,
        requested=np.ones(len(table), dtype=np.bool_),
        local_asked=False,
        correct=table.correct("remote"),
        latency_s=latency_of(table.remote),
        cost=table.remote.cost + abstention_cost * ~trusted,
    )


def _trusted(confidences: FloatArray, threshold: float | None) -> BoolArray:
    if threshold is None:  # no supervisor: every prediction is the answer
        return np.ones(len(confidences), dtype=np.bool_)
    return accept(confidences, threshold)


def system_figures(decided: Decided) -> SystemFigures:
    """The figures of a system from what it did on each input."""
    n = len(decided.routes)
    labelled = ~np.isnan(decided.correct)
    accepted = decided.routes != Route.REJECTED
    both = labelled & accepted
    right = float(decided.correct[both].sum())
    coverage = rate(int(accepted.sum()), n)
    supervised = rate(right, int(both.sum()))
    paid = float(decided.cost[labelled].sum())
    return SystemFigures(
        n=n,
        n_labelled=int(labelled.sum()),
        request_rate=rate(int(decided.requested.sum()), n),
        system_accuracy=rate(float(decided.correct[labelled].sum()), int(labelled.sum())),
        early_abstention=rate(0 if decided.abstained is None else int(decided.abstained.sum()), n),
        coverage=coverage,
        supervised_accuracy=supervised,
        false_alarm_rate=false_alarm_rate(decided.correct[labelled], accepted[labelled]),
        s_beta={f"{beta:g}": s_beta(supervised.value, coverage.value, beta) for beta in (0.5, 1.0, 2.0)},
        route_shares={r.label: float(np.mean(decided.routes == r)) for r in Route},
        cost_per_input=mean(decided.cost),
        cost_per_correct_answer=paid / right if right > 0 else math.nan,
        latency=latency_figures(decided.latency_s),
        latency_by_route={
            r.label: latency_figures(decided.latency_s[decided.routes == r])
            for r in Route
            if (decided.routes == r).any()
        },
    )


_RATIOS = ("false_alarm_rate", "s_beta_0.5", "s_beta_1", "s_beta_2", "cost_per_correct_answer")


def with_bootstrap(figures: SystemFigures, decided: Decided, *, seed: int = 0) -> SystemFigures:
    """The figures with bootstrap intervals of their ratios, which have no simple closed form. Labelled rows only."""
    known = ~np.isnan(decided.correct)
    if not known.any():
        return figures
    correct, cost = decided.correct[known], decided.cost[known]
    accepted = (decided.routes[known] != Route.REJECTED).astype(np.float64)
    right = (correct >= 0.5).astype(np.float64)
    columns = np.column_stack([np.ones(len(cost)), accepted, accepted * correct, right, right * (1 - accepted), cost])
    low, high = bootstrap_of_sums(columns, _ratios_of_sums, seed=seed)
    intervals = {name: Interval(float(a), float(b)) for name, a, b in zip(_RATIOS, low, high, strict=True)}
    return replace(figures, bootstrap=intervals)


def _ratios_of_sums(sums: FloatArray) -> FloatArray:
    n, accepted, accepted_correct, right, lost, cost = sums.T
    coverage, supervised = accepted / n, accepted_correct / accepted
    s_betas = [(1 + b**2) * supervised * coverage / (b**2 * supervised + coverage) for b in (0.5, 1.0, 2.0)]
    return np.column_stack([lost / right, *s_betas, cost / accepted_correct])


def latency_figures(seconds: FloatArray) -> Latency:
    """Mean, median and 95th percentile; not known when any part is not."""
    if len(seconds) == 0 or np.isnan(seconds).any():
        return Latency(NOT_KNOWN, NOT_KNOWN, NOT_KNOWN)
    return Latency(mean(seconds), quantile(seconds, 0.5), quantile(seconds, 0.95))


def paired_difference(first: AnyArray, second: AnyArray) -> Estimate:
    """Mean of first - second over inputs where both are known, with the interval of paired differences."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return mean(difference[~np.isnan(difference)])


def break_even_rate(local: FloatArray, remote: FloatArray) -> float:
    """The request rate at which the mean of local + rate * remote equals that of remote alone: 1 - local/remote.

    Below it the cascade is the faster (or cheaper) one. Negative when the local model alone already takes
    longer; NaN when either is not known.
    """
    if len(remote) == 0:
        return math.nan
    remote_mean = float(np.mean(remote))
    return 1.0 - float(np.mean(local)) / remote_mean if remote_mean > 0 else math.nan
