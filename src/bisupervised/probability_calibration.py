"""Probability calibration: making confidences match frequencies. It does not choose thresholds.

Two methods, both fitted on labelled rows that nothing else was fitted on, both saved as plain JSON values:

* `TemperatureScaling` works on class probabilities, before the quantifier: p_k^(1/T) renormalised, with T
  chosen by maximum likelihood (Guo et al., ICML 2017). It never changes the prediction.
* `IsotonicCalibration` works on confidences, after the quantifier: the non-decreasing step function of least
  squares to correctness, by pool-adjacent-violators (Zadrozny & Elkan, KDD 2002). Its steps make ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.records import BoolArray, FloatArray

_LOG_FLOOR = np.log(1e-12)


class ConfidenceCalibration(Protocol):
    """A monotone map from confidence to an estimated probability of being correct."""

    def __call__(self, confidences: FloatArray) -> FloatArray:
        """Calibrated confidences, (n,); NaN stays NaN."""


@dataclass(frozen=True, slots=True)
class TemperatureScaling:
    """p_k -> p_k^(1/T) / sum_j p_j^(1/T). T > 1 makes an over-confident model less sure."""

    temperature: float

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < np.inf:
            raise EvidenceError(f"the temperature must be a positive number, not {self.temperature}")

    def __call__(self, probabilities: FloatArray) -> FloatArray:
        """(n, classes) -> (n, classes), rows summing to 1; a row that holds NaN stays NaN."""
        logits = _log(probabilities) / self.temperature
        scaled = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        result: FloatArray = scaled / scaled.sum(axis=1, keepdims=True)
        return result

    @classmethod
    def fit(cls, probabilities: FloatArray, label_columns: np.ndarray[Any, Any]) -> TemperatureScaling:
        """The T that minimises the mean negative log-likelihood of the labels.

        `probabilities` is (n, classes), `label_columns` (n,) the column of each row's label. The objective is
        convex in 1/T, so its derivative is bisected, to a relative 1e-9, between T = 0.01 and T = 100. Rows with
        NaN are left out.
        """
        probabilities, label_columns = np.asarray(probabilities), np.asarray(label_columns)
        if probabilities.ndim != 2 or len(probabilities) != len(label_columns):
            raise EvidenceError(
                f"temperature scaling needs class probabilities (inputs, classes) and as many labels as inputs: got "
                f"the shape {probabilities.shape} and {len(label_columns)} labels"
            )
        known = ~np.isnan(probabilities).any(axis=1)
        probabilities, label_columns = probabilities[known], label_columns[known]
        if len(probabilities) == 0:
            raise EvidenceError("temperature scaling needs at least one row with probabilities and a label")
        if label_columns.min() < 0 or label_columns.max() >= probabilities.shape[1]:
            raise EvidenceError(
                f"label columns must lie in 0..{probabilities.shape[1] - 1}; leave out rows whose label is no class"
            )
        logits = _log(probabilities)
        logits = logits - logits.max(axis=1, keepdims=True)
        wanted = logits[np.arange(len(logits)), label_columns].mean()

        def slope(inverse: float) -> float:
            weights = np.exp(logits * inverse)
            weights /= weights.sum(axis=1, keepdims=True)
            return float(np.einsum("ij,ij->i", weights, logits).mean() - wanted)

        low, high = 0.01, 100.0  # of 1/T; the slope rises with it
        if slope(low) >= 0.0:
            return cls(1.0 / low)
        if slope(high) <= 0.0:
            return cls(1.0 / high)
        while high - low > 1e-9 * low:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
        return cls(1.0 / (low * high) ** 0.5)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `calibration_from_dict` reads them."""
        return {"method": "temperature", "temperature": self.temperature}


def _log(probabilities: FloatArray) -> FloatArray:
    p = np.asarray(probabilities, dtype=np.float64)
    with np.errstate(divide="ignore"):
        logarithms: FloatArray = np.maximum(np.log(p), _LOG_FLOOR)
    return logarithms


@dataclass(frozen=True, slots=True, eq=False)
class IsotonicCalibration:
    """A non-decreasing step function: `values[i]` from `starts[i]` on; below the first start, `values[0]`."""

    starts: FloatArray  #: (steps,) rising confidences
    values: FloatArray  #: (steps,) non-decreasing estimates of P(correct), in [0, 1]

    def __call__(self, confidences: FloatArray) -> FloatArray:
        """(n,) -> (n,) in [0, 1]; NaN stays NaN."""
        confidences = np.asarray(confidences, dtype=np.float64)
        step = np.searchsorted(self.starts, confidences, side="right") - 1
        return np.where(np.isnan(confidences), np.nan, self.values[np.maximum(step, 0)])

    @classmethod
    def fit(cls, confidences: FloatArray, correct: BoolArray | FloatArray) -> IsotonicCalibration:
        """Least squares to (n,) correctness under monotonicity, in O(n log n). Rows with NaN are left out."""
        confidences = np.asarray(confidences, dtype=np.float64)
        graded = np.asarray(correct, dtype=np.float64)
        known = ~(np.isnan(confidences) | np.isnan(graded))
        if not known.any():
            raise EvidenceError("isotonic calibration needs at least one row with a confidence and a label")
        starts, inverse = np.unique(confidences[known], return_inverse=True)
        weights = np.bincount(inverse).astype(np.float64)
        means = np.bincount(inverse, weights=graded[known]) / weights
        first, values = _pool_adjacent_violators(means, weights)
        return cls(starts=starts[first], values=values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `calibration_from_dict` reads them."""
        return {"method": "isotonic", "starts": self.starts.tolist(), "values": self.values.tolist()}


def _pool_adjacent_violators(means: FloatArray, weights: FloatArray) -> tuple[list[int], FloatArray]:
    """Blocks of the isotonic regression: the first index of each, and its value."""
    first: list[int] = []
    total: list[float] = []
    weight: list[float] = []
    for index, (mean, w) in enumerate(zip(means.tolist(), weights.tolist(), strict=True)):
        first.append(index)
        total.append(mean * w)
        weight.append(w)
        # Pooling equal neighbours too keeps the number of steps small.
        while len(first) > 1 and total[-2] * weight[-1] >= total[-1] * weight[-2]:
            # Popped first: `total[-2] += total.pop()` would store into the list as it is after the pop.
            last_total, last_weight = total.pop(), weight.pop()
            total[-1] += last_total
            weight[-1] += last_weight
            first.pop()
    return first, np.array(total) / np.array(weight)


def calibration_from_dict(values: dict[str, Any]) -> TemperatureScaling | IsotonicCalibration:
    """Read what `to_dict` wrote."""
    method = values.get("method")
    if method == "temperature":
        return TemperatureScaling(float(values["temperature"]))
    if method == "isotonic":
        return IsotonicCalibration(
            np.asarray(values["starts"], dtype=np.float64), np.asarray(values["values"], dtype=np.float64)
        )
    raise EvidenceError(f"probability calibration {method!r} is unknown; there are: temperature, isotonic")
