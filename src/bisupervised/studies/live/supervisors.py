"""Every supervisor of a level on the reporting rows, beside the recorded confidence: the negative results too.

Intervals are those of influences, summed over the rows of a cluster. A supervisor was chosen on other rows, so the
figures of the chosen one are no better than they should be; those of the best of the table may be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bisupervised.evaluation.auc_rac import correctness_gain
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.influence import Influence, auroc_influence, deferral_influences
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate, normal_interval
from bisupervised.records import BoolArray, FloatArray, IntArray
from bisupervised.studies.live.systems import confidences_by
from bisupervised.table import Table

LEARNED = ("deferral_head", "stacked")


@dataclass(frozen=True, slots=True)
class SupervisorFigures:
    """One supervisor on n reporting rows; differences are from the recorded confidence, paired."""

    level: str
    name: str
    also: tuple[str, ...]  #: supervisors that put the rows in the same order
    learned: bool
    chosen: bool  #: recommended on the choosing rows (of a cross-fitted set: by most folds)
    missing: int  #: rows without a confidence
    auroc: Estimate
    auroc_versus: Estimate
    auc_rac: Estimate  #: 1st level
    gain: Estimate  #: 1st level: mean system accuracy over all request rates above random deferral's
    gain_versus: Estimate
    auroc_deferred: Estimate  #: 2nd level, on the inputs that the recorded local confidence defers at half requests
    auroc_deferred_versus: Estimate

    @property
    def criterion(self) -> tuple[Estimate, Estimate]:
        """What its level is chosen by, and the difference from the recorded confidence."""
        if self.level == "local":
            return self.gain, self.gain_versus
        return self.auroc_deferred, self.auroc_deferred_versus


def supervisor_table(
    report: Table,
    level: str,
    learned: Mapping[str, FloatArray],
    chosen: str,
    deferred: BoolArray,
    clusters: IntArray | None = None,
) -> list[SupervisorFigures]:
    """The recorded confidence first, then the others, best first by the level's criterion."""
    prefix = f"{level}_score_"
    names = ["confidence", *(name.removeprefix(f"{level}_") for name in report.extra if name.startswith(prefix))]
    scores = {name: confidences_by(report, level, name) for name in names} | dict(learned)
    orders: dict[bytes, list[str]] = {}
    for name, values in scores.items():
        order = DeferralOrder.of(values)
        orders.setdefault(order.group_of_row().tobytes() + bytes([order.never > 0]), []).append(name)
    judge = _Judge(report, level, deferred, clusters)
    base = judge.influences(scores["confidence"])
    found = []
    for names in orders.values():
        first = names[0]
        found.append(judge.figures(first, tuple(names[1:]), scores[first], base, first in learned, chosen in names))
    head, *others = found

    def rank(one: SupervisorFigures) -> float:
        return -math.inf if math.isnan(one.criterion[0].value) else one.criterion[0].value

    return [head, *sorted(others, key=rank, reverse=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    report: Table
    level: str
    deferred: BoolArray
    clusters: IntArray | None

    def influences(self, scores: FloatArray) -> dict[str, Influence]:
        right = self.report.correct(self.level)
        order = DeferralOrder.of(scores)
        found = {"auroc": auroc_influence(order, right >= 0.5)}
        if self.level == "local":
            gain = correctness_gain(right, self.report.correct("remote"))
            found["gain"], found["auc_rac"] = deferral_influences(order, gain)
        elif self.deferred.any():
            seen = self.deferred
            found["deferred"] = auroc_influence(DeferralOrder.of(scores[seen]), right[seen] >= 0.5)
        return found

    def figures(
        self,
        name: str,
        also: tuple[str, ...],
        scores: FloatArray,
        base: Mapping[str, Influence],
        learned: bool,
        chosen: bool,
    ) -> SupervisorFigures:
        mine = self.influences(scores)

        def own(key: str) -> Estimate:
            return self._estimate(key, mine[key].value, mine[key].rows) if key in mine else NOT_KNOWN

        def versus(key: str) -> Estimate:
            if key not in mine:
                return NOT_KNOWN
            return self._estimate(key, mine[key].value - base[key].value, mine[key].rows - base[key].rows)

        return SupervisorFigures(
            level=self.level,
            name=name,
            also=also,
            learned=learned,
            chosen=chosen,
            missing=int(np.isnan(scores).sum()),
            auroc=own("auroc"),
            auroc_versus=versus("auroc"),
            auc_rac=own("auc_rac"),
            gain=own("gain"),
            gain_versus=versus("gain"),
            auroc_deferred=own("deferred"),
            auroc_deferred_versus=versus("deferred"),
        )

    def _estimate(self, key: str, value: float, rows: FloatArray) -> Estimate:
        """A figure with the interval of its influences, which have the mean 0."""
        if math.isnan(value) or np.isnan(rows).any():
            return Estimate(value, math.nan, math.nan)
        clusters = self.clusters
        if clusters is not None and key == "deferred":
            clusters = clusters[self.deferred]
        sums = rows if clusters is None else np.bincount(clusters, weights=rows)
        return Estimate(value, *normal_interval(value, math.sqrt(float(np.dot(sums, sums))) / len(rows)))
