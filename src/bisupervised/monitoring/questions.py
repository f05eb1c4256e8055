"""One question about the traffic, and its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from bisupervised.monitoring.exchangeability import ExchangeabilityMartingale
from bisupervised.monitoring.findings import NAMES, NAN, Finding, Verdict
from bisupervised.monitoring.noticing import evidence_needed, rows_needed
from bisupervised.monitoring.ranks import Bins, Share
from bisupervised.monitoring.rates import LimitTest, confidence_sequence
from bisupervised.monitoring.words import words_for
from bisupervised.records import FloatArray, IntArray

#: Rows at least that "lately" looks back on.
_LATELY: Final = 100


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a rate may be, and with what probability the promise of it was to fail from the start."""

    most: float
    delta: float = NAN  #: NaN: nothing is promised, somebody gave it


Against: TypeAlias = Bins | Share | Limit


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Values, and what they are held against."""

    name: str
    against: Against
    values: FloatArray  #: (k,)
    at: IntArray  #: (k,) where they are in the order that was read
    counted: int  #: rows that say something: k, or of weighted losses those with a label
    least_share: float = 1.0  #: values times this lie in [0, 1]
    ids: Sequence[Any] | None = None  #: of all rows
    times: FloatArray | None = None  #: of all rows


def answer(question: Question, alpha: float, seed: int) -> Finding:
    """Ask one question. All that there are share alpha, whether they are asked or not: labels, audits or limits that
    come later then change the alarm of none."""
    against, own = question.against, alpha / len(NAMES)
    test = (
        LimitTest(against.most, alpha=own)
        if isinstance(against, Limit)
        else ExchangeabilityMartingale(against, alpha=own, seed=seed)
    )
    path = test.update(question.values)
    strategies, rate = test.capital.strategies, _rate_of(against)
    reference_rows = None if isinstance(against, Limit) else against.rows
    needed = rows_needed(own, strategies, rate, reference_rows)
    value, low, high = _figures(question, alpha)
    rang = test.rang_at
    place = None if rang is None else int(question.at[rang - 1])
    verdict = _verdict(rang, question.counted, needed)
    lately = NAN if rang is None else _lately(question, rang)
    compared = 0.5 if rate is None else rate
    delta = against.delta if isinstance(against, Limit) else NAN
    return Finding(
        question=question.name,
        verdict=verdict,
        rows=question.counted,
        reference_rows=reference_rows or 0,
        log10_e=test.log10_e,
        log10_largest=test.capital.log_largest / math.log(10.0),
        log10_alarm=-math.log10(own),
        rang_at=None if place is None else place + 1,
        rang_id=None if place is None or question.ids is None else str(question.ids[place]),
        rang_time=NAN if place is None or question.times is None else float(question.times[place]),
        needed=needed,
        value=value,
        low=low,
        high=high,
        lately=lately,
        reference=compared,
        delta=delta,
        said=words_for(
            question.name,
            verdict,
            missing=needed - question.counted,
            reference_rows=reference_rows or 0,
            reference_needed=2.0 * evidence_needed(own, strategies, rate),
            delta=delta,
            fell=lately < compared,
        ),
        path=path,
        at=question.at,
    )


def _verdict(rang: int | None, rows: int, needed: float) -> Verdict:
    if rang is not None:
        return Verdict.MOVED
    return Verdict.TOO_FEW if rows < needed else Verdict.NO_SIGN


def _rate_of(against: Against) -> float | None:
    if isinstance(against, Bins):
        return None
    return against.most if isinstance(against, Limit) else against.rate


def _figures(question: Question, alpha: float) -> tuple[float, float, float]:
    """The value and, for a rate, its interval."""
    k = len(question.values)
    if not k:
        return NAN, NAN, NAN
    if isinstance(question.against, Bins):
        return float(mean_rank(question.against, question.values)), NAN, NAN
    least = question.least_share
    low, high = confidence_sequence(float(question.values.sum()) * least, k, alpha)
    return float(question.values.mean()), float(low) / least, min(float(high) / least, 1.0)


def _lately(question: Question, rang: int) -> float:
    values = question.values[max(0, min(rang - 1, len(question.values) - _LATELY)) :]
    return float(mean_rank(question.against, values) if isinstance(question.against, Bins) else values.mean())


def mean_rank(bins: Bins, confidences: FloatArray) -> float:
    """Where the confidences stand among the calibration rows, from 0 (below all) to 1 (above all); 0.5: as they do.

    To the width of a bin; missing ones stand lowest.
    """
    edges = np.where(np.isnan(bins.edges), -np.inf, bins.edges)
    keys = np.where(np.isnan(confidences), -np.inf, confidences)
    middle = np.searchsorted(edges, keys, side="left") + np.searchsorted(edges, keys, side="right")
    bounds = np.concatenate([[0], bins.ranks, [bins.rows + 1]]) / (bins.rows + 1.0)
    centres = 0.5 * (bounds[1:] + bounds[:-1])
    half = 0.5 * middle  # between two edges a whole number, on tied ones the middle of their bins
    below, above = np.floor(half).astype(np.int64), np.ceil(half).astype(np.int64)
    return float(np.mean(0.5 * (centres[below] + centres[above])))
