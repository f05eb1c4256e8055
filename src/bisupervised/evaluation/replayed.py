"""What a replayed log says: request rates, savings and disagreement at several thresholds, and where to start.

Money is in currency units over the log's period. No label is needed for any of this; `versus_remote_only` is known
where there are some.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bisupervised.decision import accept
from bisupervised.errors import InputError
from bisupervised.evaluation.agreement import agreement, normal_form, same_answer, token_f1
from bisupervised.evaluation.auroc import auroc
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate, bootstrap_of_sums, rate
from bisupervised.evaluation.labels_needed import LabelsNeeded, Stratum, labels_needed, versus_remote_only
from bisupervised.records import BoolArray, FloatArray
from bisupervised.table import Table

#: Request rates at which a report shows what the cascade would have done.
REQUEST_RATES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
#: From as many words in the median answer on, answers in words are not expected to be the same word for word.
LONG_ANSWER: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class LoggedTraffic:
    """What is known of the whole log, of which a sample was replayed."""

    costs: FloatArray  #: (n,) what the remote model cost for each scorable request; NaN: not known
    other_costs: FloatArray  #: (m,) for each other request
    unscorable: Mapping[str, int]  #: why the others are not scorable -> how many
    days: float = math.nan  #: that the log covers; NaN: not known

    @property
    def n_scorable(self) -> int:
        return len(self.costs)

    @property
    def n_requests(self) -> int:
        return len(self.costs) + len(self.other_costs)

    @property
    def known_spend(self) -> float:
        """Of all requests whose cost is known; NaN when that is none."""
        return _known_sum(np.concatenate([self.costs, self.other_costs]))

    @property
    def n_unknown_costs(self) -> int:
        return int(np.isnan(self.costs).sum() + np.isnan(self.other_costs).sum())


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a label says of one row: how far either prediction is correct, in [0, 1]."""

    local: float
    remote: float


@dataclass(frozen=True, slots=True)
class ReplayPoint:
    """What one local threshold would have done. Rates in [0, 1], money in currency units over the log's period."""

    local_threshold: float
    request_rate: Estimate  #: of the scorable requests
    request_rate_of_all: Estimate  #: of all, the unscorable ones being requests
    n_local: int  #: sampled requests that are answered locally
    n_differing: float  #: those of them that the remote model answered differently (with grades: their sum)
    disagreement: Estimate  #: share of the locally answered that differ
    token_f1: float  #: mean over the locally answered
    saved: Estimate  #: what the remote model would not have cost, less what the local one costs
    saved_share: Estimate  #: of all known spend
    versus_remote_only: Estimate  #: system accuracy minus remote-only's, over the scorable; not known without labels
    configured: bool = False  #: the threshold of the configuration


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Everything a replay knows. A figure that is not known is NaN."""

    traffic: LoggedTraffic
    n_sample: int
    failures: Mapping[str, int]  #: kind -> sampled requests on which the local model failed: they are requests
    n_without_confidence: int  #: answered, and not scored
    agreement: Estimate  #: share of the answered sample on which both models say the same
    token_f1: float  #: mean over the answered sample
    answer_words: float  #: words of the median remote answer
    auroc: Estimate  #: that an agreeing answer has the higher confidence
    latency_s: Mapping[str, float]  #: `local`, `remote`: medians
    points: Sequence[ReplayPoint]  #: request rates falling
    start: ReplayPoint | None  #: where to start observing; None: no point keeps within the disagreement allowed
    max_disagreement: float
    labels: LabelsNeeded | None  #: at `start`, else at the point of the highest request rate
    n_labelled: int  #: differing sampled rows with a label
    agreeing_correct: Estimate  #: share of the agreeing sampled rows with a label on which both models are correct
    n_no_label_read: int  #: remote answers that are none of the given labels
    table: Table
    judged: Sequence[Judgement | None]  #: (n,) what labels say of each sampled row
    grades: FloatArray  #: (n,) agreement of each sampled row; NaN: no local answer

    @property
    def in_words(self) -> bool:
        """Whether the answers are texts that two models rarely write the same."""
        return self.answer_words >= LONG_ANSWER and not self.agreement.value >= 0.5

    @property
    def shown(self) -> ReplayPoint | None:
        """The point that a report opens with: the start, else the configured one, else that of the most requests.

        None when nothing would be answered locally.
        """
        return _shown(self.points, self.start)


def _shown(points: Sequence[ReplayPoint], start: ReplayPoint | None) -> ReplayPoint | None:
    local = sorted((point for point in points if point.n_local), key=lambda point: not point.configured)
    return start or (local[0] if local else None)


@dataclass(frozen=True, slots=True)
class Question:
    """How a replay is judged."""

    grade: Callable[[Any, Any], float] = same_answer
    read_label: Callable[[Any], Any] | None = None  #: answers are labels, read by this
    request_rates: Sequence[float] = REQUEST_RATES
    configured_threshold: float = math.nan  #: NaN: none
    max_disagreement: float = 0.05
    margin: float = 0.01
    seed: int = 0


def judge(
    table: Table,
    traffic: LoggedTraffic,
    question: Question | None = None,
    judgements: Mapping[str, Judgement] | None = None,
) -> Replay:
    """All figures of a random sample of the scorable requests, as the one table.

    `judgements` are what labels say of sampled rows, by id (`labelling.judgements_of`).
    """
    if len(table) == 0:
        raise InputError("no request was replayed: the sample is empty")
    question = question or Question()
    grades = agreement(table.local.predictions, table.remote.predictions, question.grade, question.read_label)
    f1 = agreement(table.local.predictions, table.remote.predictions, token_f1)
    thresholds = _thresholds(table.local.confidences, question)
    judged = [(judgements or {}).get(str(id_)) for id_ in table.ids]
    points = _points(table, grades, f1, thresholds, traffic, question, judged)
    start = _start(points, question.max_disagreement)
    shown = _shown(points, start)
    answered = ~np.isnan(grades)
    read = question.read_label
    words = [len(normal_form(answer).split()) for answer in table.remote.predictions]
    return Replay(
        traffic=traffic,
        n_sample=len(table),
        failures=Counter(str(error).partition(":")[0] for error in table.local.errors if error is not None),
        n_without_confidence=int((answered & np.isnan(table.local.confidences)).sum()),
        agreement=rate(float(grades[answered].sum()), int(answered.sum())),
        token_f1=_mean_of(f1[answered]),
        answer_words=float(np.median(words)),
        auroc=_auroc(table.local.confidences, grades),
        latency_s={"local": _median(table.local.latency_s[answered]), "remote": _median(table.remote.latency_s)},
        points=points,
        start=start,
        max_disagreement=question.max_disagreement,
        labels=None if shown is None else labels_needed(rate(shown.n_differing, len(table)), question.margin),
        n_labelled=sum(one is not None and bool(grade < 1.0) for one, grade in zip(judged, grades, strict=True)),
        agreeing_correct=_agreeing_correct(judged, grades),
        n_no_label_read=0 if read is None else sum(read(answer) is None for answer in table.remote.predictions),
        table=table,
        judged=judged,
        grades=grades,
    )


def kept_locally(table: Table, grades: FloatArray, threshold: float) -> BoolArray:
    """(n,) which sampled requests this local threshold answers locally."""
    return accept(table.local.confidences, threshold) & ~np.isnan(grades)


def _known_sum(costs: FloatArray) -> float:
    return math.nan if np.isnan(costs).all() else float(np.nansum(costs))


def _median(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan


def _auroc(confidences: FloatArray, grades: FloatArray) -> Estimate:
    scored = ~np.isnan(grades) & ~np.isnan(confidences)
    return auroc(confidences[scored], grades[scored]) if scored.any() else NOT_KNOWN


def _mean_of(values: FloatArray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _thresholds(confidences: FloatArray, question: Question) -> list[float]:
    """The attainable thresholds next below each wanted request rate, and the configured one; falling."""
    order = DeferralOrder.of(confidences)
    rates = np.concatenate([[0.0], order.ends / len(order)])
    attainable = order.attainable
    chosen = set()
    for wanted in question.request_rates:
        if not 0.0 <= wanted <= 1.0:
            raise InputError(f"a request rate is a share, as in 0.3, not {wanted}")
        index = min(int(np.searchsorted(rates, wanted + 1e-12, side="right")) - 1, attainable.stop - 1)
        chosen.add(float(order.thresholds[max(index, attainable.start)]))
    if not math.isnan(question.configured_threshold):
        chosen.add(question.configured_threshold)
    return sorted(chosen, reverse=True)


def _points(
    table: Table,
    grades: FloatArray,
    f1: FloatArray,
    thresholds: Sequence[float],
    traffic: LoggedTraffic,
    question: Question,
    judged: Sequence[Judgement | None],
) -> list[ReplayPoint]:
    n, share = len(table), traffic.n_scorable / traffic.n_requests
    kept = [kept_locally(table, grades, threshold) for threshold in thresholds]
    saved, shares = _savings(table, kept, traffic, question.seed)
    losses = _versus_remote_only(grades, kept, judged)
    points = []
    for number, (threshold, mask) in enumerate(zip(thresholds, kept, strict=True)):
        requests = rate(n - int(mask.sum()), n)
        differing = float((1.0 - grades[mask]).sum())
        points.append(
            ReplayPoint(
                local_threshold=threshold,
                request_rate=requests,
                request_rate_of_all=Estimate(*(share * value + 1.0 - share for value in requests)),
                n_local=int(mask.sum()),
                n_differing=differing,
                disagreement=rate(differing, int(mask.sum())),
                token_f1=_mean_of(f1[mask]),
                saved=saved[number],
                saved_share=shares[number],
                versus_remote_only=losses[number],
                configured=threshold == question.configured_threshold,
            )
        )
    return points


def _savings(
    table: Table, kept: Sequence[BoolArray], traffic: LoggedTraffic, seed: int
) -> tuple[list[Estimate], list[Estimate]]:
    """What each point saves, from the sample's known costs: the share of the sample's spend that it keeps local, of
    all that the scorable requests are known to have cost, less what asking the local model about each of them costs.

    The share is a ratio of two sums, so its interval is the bootstrap's. It stands for the traffic that the log is a
    sample of, also where every request was replayed.
    """
    known = ~np.isnan(table.remote.cost)
    if not known.any() or not kept:
        return [NOT_KNOWN] * len(kept), [NOT_KNOWN] * len(kept)
    spent = _known_sum(traffic.costs)
    remote, local = table.remote.cost[known], table.local.cost[known]
    columns = np.column_stack([remote, local, np.ones(len(remote)), *(mask[known] * remote for mask in kept)])

    def statistic(sums: FloatArray) -> FloatArray:
        shares = sums[:, 3:] / sums[:, :1]
        return np.asarray(shares * spent - traffic.n_scorable * sums[:, 1:2] / sums[:, 2:3])

    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(columns.sum(axis=0, keepdims=True))[0]
    low, high = bootstrap_of_sums(columns, statistic, seed=seed)
    saved = [Estimate(*map(float, one)) for one in zip(values, low, high, strict=True)]
    total = traffic.known_spend if traffic.known_spend > 0.0 else math.nan
    return saved, [Estimate(*(value / total for value in one)) for one in saved]


def _start(points: Sequence[ReplayPoint], most: float) -> ReplayPoint | None:
    """The fewest requests whose disagreement lies within `most`, interval included.

    Chosen among several points on the rows that it is judged on, so a little optimistic: it is where to start
    observing, and what is observed judges it anew.
    """
    within = [point for point in points if point.n_local and point.disagreement.high <= most]
    return within[-1] if within else None


def _versus_remote_only(
    grades: FloatArray, kept: Sequence[BoolArray], judged: Sequence[Judgement | None]
) -> list[Estimate]:
    """System accuracy minus remote-only's at each point, by what labels say of the differing rows of each band."""
    if all(one is None for one in judged):
        return [NOT_KNOWN] * len(kept)
    differences = np.array([math.nan if one is None else one.local - one.remote for one in judged])
    inner = np.zeros(len(grades), dtype=np.bool_)
    strata, losses = [], []
    for mask in kept:  # thresholds falling: each accepts what the one before did, and a band more
        band = mask & ~inner & (grades < 1.0)
        strata.append(Stratum(int(band.sum()), differences[band & ~np.isnan(differences)]))
        losses.append(versus_remote_only(strata, len(grades)))
        inner = mask
    return losses


def _agreeing_correct(judged: Sequence[Judgement | None], grades: FloatArray) -> Estimate:
    right = [one.remote for one, grade in zip(judged, grades, strict=True) if one is not None and grade >= 1.0]
    return rate(sum(right), len(right))
