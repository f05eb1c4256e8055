"""The request-accuracy curve: system accuracy against the share of inputs sent to the remote model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bisupervised.decision import accept
from bisupervised.evaluation.auc_rac import correctness_gain
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.records import AnyArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One attainable point of the curve."""

    request_rate: float
    system_accuracy: float
    local_threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class RequestAccuracyCurve:
    """System accuracy after deferring each group of equally trusted inputs, least trusted first.

    Between two points the curve is straight: the expectation under random tie-breaking. The first point is
    (0, local-only), the last (1, remote-only). A point is attained by accepting `confidence >= threshold`.
    """

    request_rates: FloatArray  #: (g + 1,) rising from 0 to 1
    system_accuracy: FloatArray  #: (g + 1,)
    #: (g + 1,) NaN where no threshold attains the point: the first where inputs have no confidence, the last where
    #: some have the confidence +inf
    thresholds: FloatArray

    @property
    def local_only(self) -> float:
        return float(self.system_accuracy[0])

    @property
    def remote_only(self) -> float:
        return float(self.system_accuracy[-1])

    def at(self, request_rate: float | FloatArray) -> FloatArray:
        """System accuracy at any request rate, tie-averaged."""
        return np.asarray(np.interp(request_rate, self.request_rates, self.system_accuracy))

    def point(self, index: int) -> OperatingPoint:
        return OperatingPoint(
            float(self.request_rates[index]), float(self.system_accuracy[index]), float(self.thresholds[index])
        )

    @property
    def _attainable(self) -> slice:
        return slice(int(math.isnan(self.thresholds[0])), len(self.thresholds) - int(math.isnan(self.thresholds[-1])))

    def _first_of_at_least(self, accuracy: float) -> int:
        # Sums of grades that are equal on paper may differ in their last bits.
        enough = self.system_accuracy[self._attainable] >= accuracy - 1e-12
        return self._attainable.start + int(np.argmax(enough)) if enough.any() else len(self.thresholds) - 1

    def remote_even(self, margin: float = 0.0) -> OperatingPoint:
        """The attainable point of the smallest request rate with system accuracy >= remote-only - margin.

        Deferring everything is remote-only, so it exists, unless inputs of confidence +inf can never be deferred:
        then it may be (1, remote-only) with the threshold NaN, which no threshold attains.
        """
        return self.point(self._first_of_at_least(self.remote_only - margin))

    def best(self) -> OperatingPoint:
        """The attainable point of the largest system accuracy; the fewest requests among equals."""
        return self.point(self._first_of_at_least(float(np.max(self.system_accuracy[self._attainable]))))

    def within_budget(self, request_rate: float) -> OperatingPoint | None:
        """The attainable point of the largest request rate <= the given one; None when even none exceeds it."""
        index = int(np.searchsorted(self.request_rates, request_rate + 1e-12, side="right")) - 1
        index = min(index, self._attainable.stop - 1)
        return self.point(index) if index >= self._attainable.start else None

    def area(self) -> float:
        """Mean system accuracy over all request rates: the exact area under the curve."""
        return _area_under(self.request_rates, self.system_accuracy)

    def thinned(self, points: int = 1000) -> RequestAccuracyCurve:
        """At most about `points` of the points, first, last, best and remote-even among them, for drawing."""
        if len(self.request_rates) <= points:
            return self
        keep = np.unique(
            np.concatenate(
                [
                    np.linspace(0, len(self.request_rates) - 1, points).astype(np.int64),
                    np.searchsorted(self.request_rates, [self.best().request_rate, self.remote_even().request_rate]),
                ]
            )
        )
        return RequestAccuracyCurve(self.request_rates[keep], self.system_accuracy[keep], self.thresholds[keep])


def request_accuracy_curve(
    local_confidence: FloatArray,
    local_correct: AnyArray,
    remote_correct: AnyArray,
    *,
    order: DeferralOrder | None = None,
) -> RequestAccuracyCurve:
    """The exact curve of n recorded inputs, O(n log n); correctness is boolean or a grade in [0, 1].

    >>> confidence = np.array([0.1, 0.2, 0.9])
    >>> curve = request_accuracy_curve(confidence, np.array([False, True, True]), np.array([True, True, False]))
    >>> curve.system_accuracy.round(3)
    array([0.667, 1.   , 1.   , 0.667])
    >>> curve.best()
    OperatingPoint(request_rate=0.3333333333333333, system_accuracy=1.0, local_threshold=0.2)
    """
    order = order or DeferralOrder.of(local_confidence)
    n = len(order)
    totals = order.totals(correctness_gain(local_correct, remote_correct))
    # Counts stay exact integers up to the one division.
    totals += np.asarray(np.sum(local_correct)).astype(totals.dtype)
    accuracy = np.divide(totals, n)
    rates = np.empty(len(totals))
    rates[0] = 0.0
    np.divide(order.ends, n, out=rates[1:])
    return RequestAccuracyCurve(rates, accuracy, order.thresholds)


def _area_under(x: FloatArray, y: FloatArray) -> float:
    return float(np.dot(np.diff(x), y[1:] + y[:-1])) / 2.0


def oracle_curve(request_rates: FloatArray, local_correct: AnyArray, remote_correct: AnyArray) -> FloatArray:
    """System accuracy of an oracle that defers first where the remote model gains most, last where it loses most.

    For booleans: acc_L + min(c, p_RO) - max(0, c - (1 - p_LO)).
    """
    return np.asarray(np.interp(request_rates, *_oracle_corners(local_correct, remote_correct)))


def oracle_area(local_correct: AnyArray, remote_correct: AnyArray) -> float:
    """The exact area under the oracle's curve."""
    return _area_under(*_oracle_corners(local_correct, remote_correct))


def _oracle_corners(local_correct: AnyArray, remote_correct: AnyArray) -> tuple[FloatArray, FloatArray]:
    gains, counts = np.unique(correctness_gain(local_correct, remote_correct), return_counts=True)
    rates = np.concatenate([[0.0], np.cumsum(counts[::-1]) / len(local_correct)])
    gained = np.concatenate([[0.0], np.cumsum((gains * counts)[::-1]) / len(local_correct)])
    return rates, float(np.mean(local_correct)) + gained


# ---------------------------------------------------------------- compatibility with published numbers


def paper_threshold_indices(n: int, steps: int) -> IntArray:
    """The index into the sorted confidences that the paper's code takes as threshold at each grid point."""
    cutoffs = np.arange(0.0, 1.0001, 1.0 / min(steps, n))
    return np.minimum((n * cutoffs).astype(np.int64), n - 1)


def request_accuracy_on_grid(
    local_confidence: FloatArray, local_correct: AnyArray, remote_correct: AnyArray, *, steps: int
) -> tuple[FloatArray, FloatArray]:
    """(request rates asked for, system accuracy) on the paper's grid of `steps` steps, each (steps + 1,).

    As in the paper's code the threshold is an order statistic of the confidences, so ties and the last point
    (which keeps the most confident inputs local) give fewer requests than asked for. For repeating published
    numbers; `request_accuracy_curve` is the exact curve.
    """
    n = len(local_confidence)
    ranked_rows = np.argsort(local_confidence, kind="stable")
    ranked = local_confidence[ranked_rows]
    thresholds = ranked[paper_threshold_indices(n, steps)]
    # The first input that is accepted: everything before it is deferred.
    deferred = np.searchsorted(ranked, thresholds, side="left")
    gain = np.asarray(remote_correct, dtype=np.int64) - np.asarray(local_correct, dtype=np.int64)
    totals = np.concatenate([[0], np.cumsum(gain[ranked_rows])])
    accuracy = (np.count_nonzero(local_correct) + totals[deferred]) / n
    return np.arange(0.0, 1.0001, 1.0 / min(steps, n)), accuracy


def achieved_request_rate(local_confidence: FloatArray, threshold: float) -> float:
    """The share of inputs that this threshold defers."""
    return 1.0 - float(np.count_nonzero(accept(local_confidence, threshold))) / len(local_confidence)
