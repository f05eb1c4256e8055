"""Where a system is run: a threshold of the 1st level, chosen on calibration rows by rules fixed beforehand.

Every attainable threshold is a point; its system accuracy is compared with remote-only's, row by row, and all points
together take one sort. The rules are those of docs/decisions/0013-live-studies.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.records import FloatArray, IntArray
from bisupervised.studies.live.claims import MARGIN, Z

#: The rules of claim 1, the surer one first.
BY_BOUND: Final = "not inferior by its lower bound, with these requests or more"
BY_ESTIMATE: Final = "not inferior by its estimate"
NONE_IS: Final = "no point is, by these rows: the most requests"


@dataclass(frozen=True, slots=True)
class ChosenPoint:
    """A threshold, with what the calibration rows say of it."""

    threshold: float
    request_rate: float
    system_accuracy: float
    difference: float  #: from remote-only
    rule: str  #: which rule found it, in words


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """All points of one order of deferral, fewest requests first; (k,) each."""

    thresholds: FloatArray
    request_rates: FloatArray
    system_accuracy: FloatArray
    differences: FloatArray  #: system accuracy minus remote-only's
    errors: FloatArray  #: standard errors of the differences, as the verdict takes them

    def chosen(self, index: int, rule: str) -> ChosenPoint:
        numbers = (self.thresholds, self.request_rates, self.system_accuracy, self.differences)
        threshold, rate, accuracy, difference = (float(column[index]) for column in numbers)
        return ChosenPoint(threshold, rate, accuracy, difference, rule)


def path_of(
    confidence: FloatArray,
    local_correct: FloatArray,
    answer_correct: FloatArray,
    remote_correct: FloatArray,
    clusters: IntArray | None = None,
) -> Path:
    """The points of (n,) rows; `answer_correct` is of what is answered after a request, by arbitration or not."""
    order = DeferralOrder.of(confidence)
    n, kept, asked = len(order), local_correct - remote_correct, answer_correct - remote_correct
    total = float(kept.sum()) + order.totals(asked - kept)
    within = float(np.dot(kept, kept)) + order.totals(asked**2 - kept**2) - total**2 / n
    between, parts = within, n
    if clusters is not None:
        between, parts = _between(order, clusters, kept, asked, total), len(np.unique(clusters))
    design = np.maximum(np.divide(between, within, out=np.ones_like(within), where=within > 1e-9), 1.0)
    spread = np.sqrt(np.maximum(between, 0.0) * parts / max(parts - 1, 1) + 1.0) / n
    errors = np.maximum(spread, np.sqrt((MARGIN - MARGIN**2) * design / n))
    rates = np.concatenate([[0.0], order.ends / n])
    use = slice(order.attainable.start, order.attainable.stop)
    accuracy = (float(local_correct.sum()) + order.totals(answer_correct - local_correct)) / n
    return Path(order.thresholds[use], rates[use], accuracy[use], (total / n)[use], errors[use])


def _between(
    order: DeferralOrder, clusters: IntArray, kept: FloatArray, asked: FloatArray, total: FloatArray
) -> FloatArray:
    """(g + 1,) sums over clusters of squared deviations, as one row after the other is deferred."""
    sizes = np.bincount(clusters).astype(np.float64)
    n, start = len(clusters), np.bincount(clusters, weights=kept)
    rows = order.order
    cluster, change = clusters[rows], (asked - kept)[rows]
    by_cluster = np.argsort(cluster, kind="stable")
    sums = np.cumsum(change[by_cluster])
    firsts = np.searchsorted(cluster[by_cluster], np.arange(len(sizes)))
    before_cluster = np.concatenate([[0.0], sums])[firsts]
    after = np.empty(n)
    after[by_cluster] = sums - before_cluster[cluster[by_cluster]]
    after += start[cluster]
    squares = np.cumsum(after**2 - (after - change) ** 2)
    products = np.cumsum(change * sizes[cluster])
    ends = order.ends - 1
    square = float(np.dot(start, start)) + np.concatenate([[0.0], squares[ends]])
    product = float(np.dot(start, sizes)) + np.concatenate([[0.0], products[ends]])
    mean = total / n
    return np.asarray(square - 2.0 * mean * product + mean**2 * float(np.dot(sizes, sizes)))


def fewest_requests(path: Path) -> ChosenPoint:
    """The operating point of claim 1: the fewest requests at which the system is inferior by no more than the margin.

    That is the fewest from which on the one-sided 95 % lower bound of the difference stays above -margin (a test of
    one point after the other, from all requests down, which needs no correction for their number). Without one: the
    fewest at which the difference is at least -margin and half a standard error more; else the most requests.
    """
    distance = path.differences + MARGIN
    fails = np.flatnonzero(distance <= Z * path.errors)
    first = 0 if len(fails) == 0 else int(fails[-1]) + 1
    if first < len(distance):
        return path.chosen(first, BY_BOUND)
    enough = distance >= 0.5 * path.errors
    if enough.any():
        return path.chosen(int(np.argmax(enough)), BY_ESTIMATE)
    return path.chosen(len(distance) - 1, NONE_IS)


def most_accurate(path: Path) -> ChosenPoint:
    """The operating point of claim 2: the highest system accuracy with fewer requests than remote-only; the fewest
    requests among equals."""
    fewer = path.request_rates < 1.0
    accuracy = np.where(fewer, path.system_accuracy, -1.0) if fewer.any() else path.system_accuracy
    best = int(np.argmax(accuracy > accuracy.max() - 1e-12))
    return path.chosen(best, "the highest system accuracy")
