"""Request budget and false alarm rate by order statistics: exact for every n, without any model of the scores.

Of n independent scores, the share of future ones below the k-th smallest is Beta(k, n + 1 - k); ties only lower it.
So "below the k-th smallest" happens to a share of at most b, with probability 1 - delta, for the largest k with
P(Beta(k, n + 1 - k) <= b) >= 1 - delta, and to a share of b on average for k = floor(b (n + 1)).

A NaN is a score below all others that no threshold accepts: it uses up the budget first.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bisupervised.calibration.guarantees.binomial import largest_rank, upper_bound
from bisupervised.calibration.guarantees.evidence import (
    EXCHANGEABLE,
    FIXED_FIRST_LEVEL,
    INDEPENDENT,
    Certified,
    Guarantee,
    Infeasible,
    check_share,
)
from bisupervised.calibration.guarantees.support import rows_needed, rows_on_average
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.decision import accept, first_level
from bisupervised.errors import InputError
from bisupervised.records import AnyArray, FloatArray

_METHOD = "order statistic"


def request_budget(local_confidence: FloatArray, budget: float, *, delta: float | None = 0.1) -> Guarantee:
    """The local threshold with a request rate of at most `budget`: with probability 1 - delta over the n rows, or on
    average where `delta` is None. Needs no labels.

    >>> scores = np.arange(100) / 100
    >>> certified = request_budget(scores, 0.3)
    >>> certified.thresholds, certified.counts["rank"]
    ({'local': 0.23}, 24)
    >>> request_budget(scores, 0.3, delta=None).thresholds
    {'local': 0.29}
    """
    scores = np.asarray(local_confidence, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise InputError(f"confidences are one number per input, at least one; got the shape {scores.shape}")
    return _at_rank(scores, "request_rate", check_share(budget, "a request budget"), delta, "local", len(scores))


def false_alarm_rate(
    confidence: FloatArray, correct: AnyArray, target: float, *, delta: float | None = 0.1, level: str = "local"
) -> Guarantee:
    """The threshold of one supervisor that rejects at most `target` of the correct predictions, counted alone.

    With probability 1 - delta, or on average over correct predictions where `delta` is None (conformal: Weiss &
    Tonella's supervisors fix it on nominal data without either). Grades are correct from 0.5 on.
    """
    scores = np.asarray(confidence, dtype=np.float64)[np.asarray(correct, dtype=np.float64) >= 0.5]
    if not len(scores):
        return _nothing_correct(target, delta, len(confidence))
    return _at_rank(scores, "false_alarm_rate", check_share(target, "a false alarm rate"), delta, level, len(scores))


def system_false_alarm_rate(
    rows: CalibrationRows, local: float, target: float, *, abstain: float = -math.inf, delta: float | None = 0.1
) -> Guarantee:
    """The remote threshold that keeps the false alarm rate of the whole system, the 1st level's thresholds given.

    Counted over all correct predictions: a local one that is accepted is never rejected, one that is abstained on
    early always, a remote one iff below the threshold. The 1st level's thresholds must not come from these rows.
    """
    accepted, deferred = first_level(rows.local_confidence, local, abstain)
    right = np.where(deferred, rows.remote_loss, rows.local_loss) <= 0.5
    if not right.any():
        return _nothing_correct(target, delta, len(rows))
    scores = np.where(accepted, np.inf, np.where(deferred, rows.remote_confidence, np.nan))[right]
    target = check_share(target, "a false alarm rate")
    found = _at_rank(scores, "false_alarm_rate", target, delta, "remote", int(right.sum()))
    if isinstance(found, Certified):
        whole = {"local": float(local), "abstain": float(abstain), **found.thresholds}
        counts = {**found.counts, "deferred": int((right & deferred).sum())}
        return replace(found, thresholds=whole, counts=counts, remarks=(*found.remarks, FIXED_FIRST_LEVEL))
    return found


def _at_rank(scores: FloatArray, figure: str, target: float, delta: float | None, level: str, n: int) -> Guarantee:
    missing = int(np.isnan(scores).sum())
    rank = math.floor(target * (n + 1) + 1e-9) if delta is None else largest_rank(n, target, _checked(delta))
    rank = min(rank, n)
    if rank <= missing:
        return _too_many_missing(missing, figure, target, delta, n)
    threshold = float(np.partition(scores, rank - missing - 1)[rank - missing - 1])
    below = int(np.count_nonzero(~accept(scores, threshold)))
    return Certified(
        method=_METHOD,
        thresholds={level: threshold},
        target={figure: target},
        delta=delta,
        n=n,
        counts={"rank": rank, "below": below, "missing": missing, "tied": _tied(scores, threshold)},
        bounds={figure: rank / (n + 1) if delta is None else _bound(rank, n, delta)},
        assumption=(EXCHANGEABLE if delta is None else INDEPENDENT).format(n=n),
    )


def _checked(delta: float) -> float:
    return check_share(delta, "delta")


def _tied(scores: FloatArray, threshold: float) -> int:
    return int(np.count_nonzero(scores == threshold))


@lru_cache(maxsize=1024)
def _bound(rank: int, n: int, delta: float) -> float:
    """What Beta(rank, n + 1 - rank) exceeds with probability delta."""
    return float(upper_bound(rank - 1, n, delta))


def _too_many_missing(missing: int, figure: str, target: float, delta: float | None, n: int) -> Infeasible:
    share = missing / n
    needed = rows_on_average(share, target) if delta is None else rows_needed(share, target, delta)
    return Infeasible(
        _METHOD,
        {figure: target},
        delta,
        n,
        f"{missing} of them have no confidence (or were abstained on early): they count whatever the threshold"
        if missing
        else "so few rows cannot exclude that as many inputs have no confidence at all",
        {figure: (missing + 1) / (n + 1) if delta is None else _bound(missing + 1, n, delta)},
        None if needed is None else max(needed - n, 1),
    )


def _nothing_correct(target: float, delta: float | None, n: int) -> Infeasible:
    return Infeasible(_METHOD, {"false_alarm_rate": target}, delta, n, "there is no correct prediction among them")
