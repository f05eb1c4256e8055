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
    thresholds: FloatArray  #: (g + 1,) NaN where no threshold attains the point (inputs without confidence)

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
    def _first(self) -> int:
        return int(math.isnan(self.thresholds[0]))

    def remote_even(self) -> OperatingPoint:
        """The attainable point of the smallest request rate with system accuracy >= remote-only.

        It always exists: deferring everything is remote-only.
        """
        enough = self.system_accuracy[self._first :] >= self.remote_only
        return self.point(self._first + int(np.argmax(enough)))

    def best(self) -> OperatingPoint:
        """The attainable point of the largest system accuracy; the fewest requests among equals."""
        return self.point(self._first + int(np.argmax(self.system_accuracy[self._first :])))

    def within_budget(self, request_rate: float) -> OperatingPoint | None:
        """The attainable point of the largest request rate <= the given one; None when even none exceeds it."""
        index = int(np.searchsorted(self.request_rates, request_rate, side="right")) - 1
        return self.point(index) if index >= self._first else None

    def area(self) -> float:
        """Mean system accuracy over all request rates: the exact area under the curve."""
        return float(np.trapezoid(self.system_accuracy, self.request_rates))

    def thinned(self, points: int = 1000) -> RequestAccuracyCurve:
        """At most about `points` of the points, first, last, best and remote-even among them, for drawing."""
        if len(self.request_rates) <= points:
            return self
        keep = np.unique(
            np.concatenate(
                [
                    np.linspace(0, len(self.request_rates) - 1, points).astype(np.int64),
                    [int(np.argmax(self.system_accuracy))],
                    [int(np.searchsorted(self.request_rates, self.remote_even().request_rate))],
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


def oracle_curve(request_rates: FloatArray, local_correct: AnyArray, remote_correct: AnyArray) -> FloatArray:
    """System accuracy of an oracle that defers first where only the remote model is right, last where only
    the local one is: acc_L + min(c, p_RO) - max(0, c - (1 - p_LO))."""
    only_remote = float(np.mean(np.maximum(np.subtract(remote_correct, local_correct, dtype=np.float64), 0.0)))
    only_local = float(np.mean(np.maximum(np.subtract(local_correct, remote_correct, dtype=np.float64), 0.0)))
    gained = np.minimum(request_rates, only_remote)
    lost = np.maximum(0.0, request_rates - (1.0 - only_local))
    return np.asarray(float(np.mean(local_correct)) + gained - lost)


def oracle_area(local_correct: AnyArray, remote_correct: AnyArray) -> float:
    """The exact area under the oracle's curve."""
    corners = np.array(
        [
            0.0,
            float(np.mean(np.maximum(np.subtract(remote_correct, local_correct, dtype=np.float64), 0.0))),
            1.0 - float(np.mean(np.maximum(np.subtract(local_correct, remote_correct, dtype=np.float64), 0.0))),
            1.0,
        ]
    )
    corners.sort()
    return float(np.trapezoid(oracle_curve(corners, local_correct, remote_correct), corners))


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
