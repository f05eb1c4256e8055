"""The learned columns of `trust.py`, and the goals that are about learned supervisors alone.

Everything is fitted on the choosing half, with the package's defaults, and judged on the other half. Thresholds are
chosen on the cross-fitted confidences of the choosing half. The penalties of the defaults, and the margins, were
chosen on splits of other seeds (TUNING) than those reported.

The remote latency stands for the length of the answer. It is read for SQuADv2 alone, relative to the median of the 50
requests before (so that the day's load is not read with it). The rows of imdb are recorded class by class, and the
latency drifts over the recording: there it tells the label (AUROC .89 from the running median of the latency alone),
which no running system would see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bisupervised.calibration.rule import CalibrationRows
from bisupervised.evaluation.auroc import auroc
from bisupervised.learned import (
    Arbiter,
    CrossFitted,
    DeferralHead,
    PairSupervisor,
    StackedSupervisor,
    calibration_rows,
    cross_fitted,
)
from bisupervised.records import AnyArray, FloatArray, IntArray
from bisupervised.studies.paper import RecordedStudy
from bisupervised.table import Table

Fit: TypeAlias = Callable[[Table], Any]
TUNING = 1000  #: seeds from here on chose the settings; those reported are 0, 1, 2, …
LATENCY = "remote_relative_latency"
_BEFORE = 50


def with_relative_latency(study: RecordedStudy) -> Table:
    """The table with one column more: each remote latency by the median of the 50 before it."""
    latency = study.table.remote.latency_s
    before = np.full(len(latency), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(latency, _BEFORE)
    before[_BEFORE:] = np.median(windows, axis=1)[:-1]
    return replace(study.table, extra={**study.table.extra, LATENCY: latency / before})


class Fits(NamedTuple):
    """How each supervisor is fitted on rows."""

    local: Fit
    deferral: Fit
    pair: Fit
    arbiter: Fit

    @classmethod
    def reading(cls, early: tuple[str, ...] = (), late: tuple[str, ...] = ()) -> Fits:
        """With columns beyond the defaults: known before the remote model is asked, and known after."""
        local = ("local_confidence", "local_prediction", *early)
        return cls(
            partial(StackedSupervisor.fit, columns=local),
            partial(DeferralHead.fit, columns=local),
            partial(PairSupervisor.fit, columns=(*early, *late)),
            partial(Arbiter.fit, columns=(*early, *late)),
        )


@dataclass(frozen=True)
class Learned:
    """One split, learned on its choosing half."""

    choosing: Table
    reporting: Table
    local: CrossFitted[Any]
    arbiter: CrossFitted[Any]
    fits: Fits

    @property
    def halves(self) -> tuple[CalibrationRows, CalibrationRows]:
        """Both halves with the learned columns."""
        return (
            calibration_rows(self.choosing, self.arbiter, self.local),
            calibration_rows(self.reporting, self.arbiter.supervisor, self.local.supervisor),
        )


def learn(table: Table, choosing: IntArray, reporting: IntArray, fits: Fits) -> Learned:
    first, second = table.take(choosing), table.take(reporting)
    return Learned(first, second, cross_fitted(fits.local, first), cross_fitted(fits.arbiter, first), fits)


class Goal:
    """What is reported beside the requests: a name, the figures by which it is judged, and what is wanted."""

    def __init__(self, study: str, name: str, wanted: float, fewer: bool = False) -> None:
        self.study, self.name, self.wanted, self.fewer = study, name, wanted, fewer

    def met(self, value: float) -> bool:
        return value <= self.wanted + 5e-5 if self.fewer else value >= self.wanted - 5e-5


AUROC = "2nd-level AUROC on the deferred 70 %"
AT_70 = "system accuracy at 70 % requests"
EVEN = "requests for remote-only system accuracy"
#: The last two were measured before, and are to be kept.
GOALS = [
    Goal("imdb", EVEN, 0.45, fewer=True),
    Goal("imdb", AT_70, 0.914),
    Goal("imdb", AUROC, 0.85),
    Goal("SQuADv2 (all)", AUROC, 0.69),
    Goal("SQuADv2 (possible only)", AUROC, 0.583),
    Goal("ImageNet", AUROC, 0.78),
]


def figures(learned: Learned) -> dict[str, tuple[float, float]]:
    """name -> (as recorded, learned), of the reported half."""
    rows, recorded = learned.reporting, learned.reporting.local.confidences
    local, remote = rows.correct("local"), rows.correct("remote")
    deferred = _lowest(recorded, 0.7)
    pair = learned.fits.pair(learned.choosing).of_table(rows).confidences
    judged = learned.arbiter.supervisor.of_table(rows)
    assert judged.local_preferred is not None
    answer = np.where(judged.local_preferred, local, remote)
    order = learned.fits.deferral(learned.choosing).of_table(rows)
    return {
        AUROC: (
            auroc(rows.remote.confidences[deferred], remote[deferred]).value,
            auroc(pair[deferred], remote[deferred]).value,
        ),
        AT_70: (
            float(np.where(deferred, remote, local).mean()),
            float(np.where(_lowest(order, 0.7), answer, local).mean()),
        ),
        EVEN: (_even(recorded, local, remote, remote), _even(order, local, answer, remote)),
    }


def _lowest(confidence: FloatArray, share: float) -> AnyArray:
    """(n,) the share of the rows that are deferred first."""
    first = np.argsort(np.where(np.isnan(confidence), -np.inf, confidence), kind="stable")
    chosen = np.zeros(len(confidence), dtype=np.bool_)
    chosen[first[: round(share * len(confidence))]] = True
    return chosen


def _even(order: FloatArray, local: FloatArray, answer: FloatArray, remote: FloatArray) -> float:
    """The fewest requests at which the curve of the reported half reaches remote-only; 1 where it never does."""
    first = np.argsort(order, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum((answer - local)[first])])
    reached = local.sum() + gain >= remote.sum()
    return float(np.argmax(reached)) / len(local) if reached.any() else 1.0


def show_goals(study: str, scores: str, found: list[Learned]) -> bool:
    """One line for each goal of the study; whether all are met."""
    goals = [goal for goal in GOALS if goal.study == study]
    values = [figures(one) for one in found]
    good = True
    for goal in goals:
        pairs = np.array([one[goal.name] for one in values])
        (recorded, mean), error = pairs.mean(axis=0), float(pairs[:, 1].std(ddof=1)) / np.sqrt(len(pairs))
        met = goal.met(float(mean))
        good &= met
        print(
            f"  {goal.name}, {scores}: as recorded {recorded:.4f}, learned {mean:.4f} ± {error:.4f}   "
            f"wanted {goal.wanted:.3f}: {'met' if met else 'MISSED'}",
            flush=True,
        )
    return good
