"""How often a promise is broken: the data set is the population, rows are drawn from it, and what is promised of the
thresholds is compared with what they do on the population.

The tests draw a few hundred times, `benchmarks/guarantees.py` a thousand times from more populations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bisupervised.calibration.guarantees import (
    ByGroup,
    Certified,
    Guarantee,
    by_group,
    certify,
    expected_error_rate,
    expected_loss,
    false_alarm_rate,
    request_budget,
    selective_risk,
    system_false_alarm_rate,
)
from bisupervised.calibration.limits import Limits, Prices, utility
from bisupervised.calibration.rule import CalibrationRows, Counts, replay
from bisupervised.decision import accept
from bisupervised.records import FloatArray
from bisupervised.studies.paper import RecordedStudy

DELTA = 0.1
PRICES = Prices(error=1.0, abstention=0.3, request=0.1)  #: of the cases with a limit on the cost
REQUEST_PRICE = 0.3  #: utility = coverage - this * request rate


@dataclass(frozen=True, eq=False)
class Population:
    """All there is, and targets that bind on it."""

    name: str
    rows: CalibrationRows
    selective: float  #: risk of the local supervisor alone
    limits: Mapping[str, Limits]
    ties: bool = False
    fixed_local: float = field(init=False)  #: a 1st-level threshold that no draw chooses: 30 % requests
    error_rate: float = field(
        init=False
    )  #: accepted and wrong, of all: what that leaves, and half of the remote errors

    def __post_init__(self) -> None:
        rows = self.rows
        first = float(np.nanquantile(rows.local_confidence, 0.3))
        object.__setattr__(self, "fixed_local", first)
        ends = replay(rows, first, np.array([-math.inf, math.inf])).loss / len(rows)
        object.__setattr__(self, "error_rate", float(ends.mean()))


@dataclass(frozen=True, eq=False)
class Case:
    """One calibrator with a target."""

    name: str
    target: float
    calibrate: Callable[[CalibrationRows, int], Guarantee | ByGroup]
    #: (population, certified) -> (k,) true rates minus targets
    excess: Callable[[CalibrationRows, list[Any]], FloatArray]
    exact: bool = True  #: needless caution shows: a binding target is broken in at least 1 % of the draws
    on_average: bool = False  #: the promise is of the mean
    worth: Callable[[CalibrationRows, list[Any]], FloatArray] | None = None  #: what is to be large


@dataclass(frozen=True)
class Violations:
    """What became of the promises of one case."""

    population: str
    case: str
    n: int
    draws: int
    certified: float  #: share of the draws with thresholds
    violated: float  #: share of the draws whose thresholds break the promise
    mean_excess: float  #: true rate minus target, over the certified draws
    mean_excess_se: float
    worth: float  #: mean over all draws, 0 where nothing was certified
    worth_se: float
    ms: float  #: median time of one calibration
    exact: bool
    on_average: bool
    ties: bool

    @property
    def kept(self) -> bool:
        """Whether the promise is kept, as far as these draws can tell (3 standard errors)."""
        if self.on_average:
            return not self.certified or self.mean_excess <= 3.0 * self.mean_excess_se
        return self.violated <= DELTA + 3.0 * math.sqrt(DELTA * (1.0 - DELTA) / self.draws)

    @property
    def bold(self) -> bool:
        """Whether the exact ones use what they are allowed: not below 1 % where the target binds without ties."""
        if not self.exact or self.on_average or self.ties or self.certified < 0.9:
            return True
        return self.violated >= 0.01


def thresholds(certified: list[Certified], name: str, default: float) -> FloatArray:
    return np.array([one.thresholds.get(name, default) for one in certified])


def counts_of(population: CalibrationRows, certified: list[Certified]) -> Counts:
    """What each of the thresholds does on the population; a level nobody chose accepts nothing."""
    return replay(
        population,
        thresholds(certified, "local", math.inf),
        thresholds(certified, "remote", math.inf),
        thresholds(certified, "abstain", -math.inf),
    )


def _correct(rows: CalibrationRows) -> CalibrationRows:
    return rows.take(rows.local_loss == 0.0)


def _utility(population: CalibrationRows, certified: list[Certified]) -> FloatArray:
    counts = counts_of(population, certified)
    return np.asarray(counts.coverage - REQUEST_PRICE * counts.request_rate)


#: published study -> local selective risk; risk; risk, requests and abstention; cost
_PUBLISHED = {
    "imdb": (0.10, 0.08, (0.10, 0.6, 0.15), 0.19),
    "ImageNet": (0.10, 0.10, (0.13, 0.6, 0.2), 0.23),
    "SQuADv2 (possible only)": (0.25, 0.25, (0.30, 0.5, 0.2), 0.28),
    "SQuADv2 (all)": (0.50, 0.55, (0.60, 0.4, 0.5), 0.35),
}


def published(study: RecordedStudy) -> Population:
    """The paper's predictions with targets that bind."""
    local, remote = study.table.local.confidences, study.table.remote.confidences
    selective, risk, (joint, requests, abstention), cost = _PUBLISHED[study.name]
    limits = {
        "risk": Limits(risk=risk),
        "risk, requests and abstention": Limits(risk=joint, request_rate=requests, abstention=abstention),
        "cost": Limits(cost=cost, prices=PRICES),
    }
    rows = CalibrationRows.of(local, study.correct[0], remote, study.correct[1])
    # 869 reviews of IMDB share a local confidence.
    return Population(study.name, rows, selective, limits, ties=study.name == "imdb")


def order_statistics(population: Population) -> list[Case]:
    budget, alarm = 0.3, 0.1
    first = population.fixed_local

    def over_budget(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        return np.asarray(counts_of(rows, found).request_rate) - budget

    def alarms(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        return 1.0 - np.asarray(counts_of(_correct(rows), found).coverage) - alarm

    def system_alarms(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        right = np.where(accept(rows.local_confidence, first), rows.local_loss, rows.remote_loss) == 0.0
        return 1.0 - np.asarray(counts_of(rows.take(right), found).coverage) - alarm

    def alarm_rate(delta: float | None) -> Callable[[CalibrationRows, int], Guarantee]:
        return lambda rows, _: false_alarm_rate(rows.local_confidence, 1.0 - rows.local_loss, alarm, delta=delta)

    def system_rate(rows: CalibrationRows, _: int) -> Guarantee:
        return system_false_alarm_rate(rows, first, alarm)

    def with_delta(delta: float | None) -> Callable[[CalibrationRows, int], Guarantee]:
        return lambda rows, _: request_budget(rows.local_confidence, budget, delta=delta)

    return [
        Case("request budget", budget, with_delta(DELTA), over_budget),
        Case("request budget, on average", budget, with_delta(None), over_budget, on_average=True),
        Case("false alarm rate", alarm, alarm_rate(DELTA), alarms),
        Case("false alarm rate, on average", alarm, alarm_rate(None), alarms, on_average=True),
        Case("false alarm rate of the system", alarm, system_rate, system_alarms),
    ]


def risks(population: Population) -> list[Case]:
    target, lost = population.selective, 0.05
    first, wrong = population.fixed_local, population.error_rate

    def selective(rows: CalibrationRows, _: int) -> Guarantee:
        return selective_risk(rows.local_confidence, 1.0 - rows.local_loss, target)

    def excess(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        return np.nan_to_num(counts_of(rows, found).risk) - target

    def coverage(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        return np.asarray(counts_of(rows, found).coverage)

    def errors(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        return counts_of(rows, found).loss / len(rows) - wrong

    def rejected_correct(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        right = _correct(rows)
        return (1.0 - np.asarray(counts_of(right, found).coverage)) * len(right) / len(rows) - lost

    def lose_few(rows: CalibrationRows, _: int) -> Guarantee:
        return expected_loss(rows.local_confidence, 0.0, rows.local_loss == 0.0, lost)

    return [
        Case("selective risk", target, selective, excess, worth=coverage),
        Case(
            "conformal: accepted and wrong",
            wrong,
            lambda rows, _: expected_error_rate(rows, first, wrong),
            errors,
            on_average=True,
        ),
        Case("conformal: correct and rejected", lost, lose_few, rejected_correct, on_average=True),
    ]


def pareto(population: Population) -> list[Case]:
    return [_pareto(name, limits) for name, limits in population.limits.items()]


def _pareto(name: str, limits: Limits) -> Case:
    def excess(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        counts = counts_of(rows, found)
        return np.maximum.reduce([np.asarray(over) for over in limits.excess(counts).values()]) / len(rows)

    def calibrate(rows: CalibrationRows, seed: int) -> Guarantee:
        return certify(rows, limits, utility(REQUEST_PRICE), delta=DELTA, seed=seed, explain=False)

    target = next(iter(limits.given.values()))
    return Case(f"pareto: {name}", target, calibrate, excess, exact=limits.cost is None, worth=_utility)


def groups(population: Population) -> list[Case]:
    """Selective risk for each of two groups, by what the remote model thinks of the input: both promises together."""
    middle = float(np.nanmedian(population.rows.remote_confidence))
    target = population.selective

    def of(rows: CalibrationRows) -> Any:
        return np.nan_to_num(rows.remote_confidence, nan=-math.inf) >= middle

    def calibrate(rows: CalibrationRows, _: int) -> ByGroup:
        def one(part: Any, delta: float) -> Guarantee:
            chosen = rows.take(part)
            return selective_risk(chosen.local_confidence, 1.0 - chosen.local_loss, target, delta=delta)

        return by_group(of(rows), one, delta=DELTA, jointly=True)

    def excess(rows: CalibrationRows, found: list[Any]) -> FloatArray:
        worst = np.full(len(found), -math.inf)
        for group in (False, True):
            holders = np.array([group in one.certified for one in found])
            if holders.any():
                certified = [one.certified[group] for one in found if group in one.certified]
                risk = np.nan_to_num(counts_of(rows.take(of(rows) == group), certified).risk)
                worst[holders] = np.maximum(worst[holders], risk - target)
        return worst

    return [Case("selective risk, two groups together", target, calibrate, excess, exact=False)]


def all_cases(population: Population) -> list[Case]:
    return [*order_statistics(population), *risks(population), *pareto(population), *groups(population)]


def violations_of(population: Population, case: Case, n: int, draws: int, seed: int = 0) -> Violations:
    """Draw n rows with replacement, calibrate, compare with the population; `draws` times."""
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    seconds = []
    for draw in range(draws):
        rows = population.rows.take(rng.integers(0, len(population.rows), n))
        start = time.perf_counter()
        result = case.calibrate(rows, draw)
        seconds.append(time.perf_counter() - start)
        if result.certified if isinstance(result, ByGroup) else result:
            found.append(result)
    excess = case.excess(population.rows, found) if found else np.zeros(0)
    worth = np.zeros(draws)
    if case.worth is not None and found:
        worth[: len(found)] = case.worth(population.rows, found)
    return Violations(
        population=population.name,
        case=case.name,
        n=n,
        draws=draws,
        certified=len(found) / draws,
        violated=float(np.count_nonzero(excess > 1e-12)) / draws,
        mean_excess=float(excess.mean()) if len(excess) else math.nan,
        mean_excess_se=float(excess.std() / math.sqrt(max(len(excess), 1))) if len(excess) else math.nan,
        worth=float(worth.mean()),
        worth_se=float(worth.std() / math.sqrt(draws)),
        ms=1e3 * float(np.median(seconds)),
        exact=case.exact,
        on_average=case.on_average,
        ties=population.ties,
    )


def synthetic(kind: str = "smooth", size: int = 40_000, seed: int = 0) -> Population:
    """A made population: `smooth` without ties; `tied` with a dozen different scores and some that are missing;
    `overconfident`, whose most trusted local predictions are no better than the average."""
    rng = np.random.default_rng(seed)
    hard, local, remote = rng.random(size), rng.random(size), rng.random(size)
    score = np.clip(0.75 * (1.0 - hard) + 0.25 * local, 0.0, 1.0)
    remote_score = np.clip(0.5 * (1.0 - hard) + 0.5 * remote, 0.0, 1.0)
    right = rng.random(size) < 0.3 + 0.69 * np.sqrt(score)
    remote_right = rng.random(size) < 0.6 + 0.39 * np.sqrt(remote_score)
    if kind == "overconfident":
        right = np.where(score > np.quantile(score, 0.95), rng.random(size) < 0.7, right)
    if kind == "tied":
        score, remote_score = np.round(score * 12) / 12, np.round(remote_score * 12) / 12
        score[rng.random(size) < 0.03] = np.nan
        remote_score[rng.random(size) < 0.02] = np.nan
    rows = CalibrationRows.of(score, right, remote_score, remote_right)
    limits = {
        "risk": Limits(risk=0.13 if kind == "overconfident" else 0.11),
        "risk, requests and abstention": Limits(risk=0.15, request_rate=0.6, abstention=0.2),
        "cost": Limits(cost=0.23, prices=PRICES),
    }
    selective = 0.17 if kind == "overconfident" else 0.13
    return Population(f"synthetic, {kind}", rows, selective, limits, ties=kind == "tied")
