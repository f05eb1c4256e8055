"""Probability calibration: making confidences match frequencies. It does not choose thresholds.

Four methods, all fitted on labelled rows that nothing else was fitted on, all saved as plain JSON values:

* `TemperatureScaling` works on class probabilities, before the quantifier: p_k^(1/T) renormalised, with T
  chosen by maximum likelihood (Guo et al., ICML 2017). It never changes the prediction.
* `IsotonicCalibration` works on confidences, after the quantifier: the non-decreasing step function of least
  squares to correctness, by pool-adjacent-violators (Zadrozny & Elkan, KDD 2002). Its steps make ties.
* `BetaCalibration` works on confidences in [0, 1]: a smooth curve of three parameters that can leave them as they
  are (Kull, Silva Filho & Flach, AISTATS 2017). It makes no ties, and is the one for few rows.
* `VennAbers` works on any confidences: two isotonic estimates for each, one for either label that it may have. The
  one for the true label is calibrated, whatever the data are (Vovk, Petej & Fedorova, NeurIPS 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

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

    def __post_init__(self) -> None:
        _check_steps(self.starts, self.values)

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


def _check_steps(starts: FloatArray, values: FloatArray) -> None:
    if starts.ndim != 1 or starts.shape != values.shape or not len(starts):
        raise EvidenceError(f"there is one value for each start, not {starts.shape} and {values.shape}")
    # An infinite confidence can be a start; NaN fails each comparison.
    rising = bool((starts[1:] > starts[:-1]).all()) and not np.isnan(starts).any()
    slack = 1e-9  # of rounding
    if not (
        rising and (values[1:] >= values[:-1] - slack).all() and -slack <= values[0] and values[-1] <= 1.0 + slack
    ):
        raise EvidenceError("the starts rise, and the values do not fall and lie in [0, 1]")


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


@dataclass(frozen=True, slots=True)
class BetaCalibration:
    """s -> 1 / (1 + e^-(a ln s - b ln(1 - s) + c)). With a = b = 1 and c = 0 nothing changes.

    a and b are not negative, so that the order of the confidences stays; where one of them is positive, no ties are
    made. Confidences outside [0, 1] are refused: calibrate others by `IsotonicCalibration` or `VennAbers`.
    """

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.a < np.inf and 0.0 <= self.b < np.inf and np.isfinite(self.c)):
            raise EvidenceError(f"a and b are numbers from 0 on, c is any, not {self.a}, {self.b} and {self.c}")

    def __call__(self, confidences: FloatArray) -> FloatArray:
        """(n,) in [0, 1] -> (n,) in [0, 1]; NaN stays NaN."""
        log_s, minus_log_rest = _beta_terms(confidences)
        return _sigmoid(self.a * log_s + self.b * minus_log_rest + self.c)  # no product of BLAS: each row on its own

    @classmethod
    def fit(cls, confidences: FloatArray, correct: BoolArray | FloatArray) -> BetaCalibration:
        """Maximum likelihood, by Newton's method, of (n,) correctness in [0, 1]. Rows with NaN are left out.

        Where the likelihood would have a or b negative, it is 0, as Kull et al. do. A penalty of 1e-4 times the
        squared distance to (1, 1, 0) keeps the three finite where right and wrong rows do not overlap.
        """
        confidences = np.asarray(confidences, dtype=np.float64)
        graded = np.asarray(correct, dtype=np.float64)
        known = ~(np.isnan(confidences) | np.isnan(graded))
        if not known.any():
            raise EvidenceError("beta calibration needs at least one row with a confidence and a label")
        columns = np.column_stack([*_beta_terms(confidences[known]), np.ones(int(known.sum()))])
        kept = np.array([True, True, True])
        for _ in range(3):
            found = np.zeros(3)
            found[kept] = _logistic_fit(columns[:, kept], graded[known], np.array([1.0, 1.0, 0.0])[kept])
            if (found[:2] >= 0.0).all():
                break
            kept[int(np.argmin(found[:2]))] = False
        return cls(*(float(value) for value in found))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `calibration_from_dict` reads them."""
        return {"method": "beta", "a": self.a, "b": self.b, "c": self.c}


def _beta_terms(confidences: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n,) ln s and (n,) -ln(1 - s), no further from 0 than at 1e-12."""
    s = np.asarray(confidences, dtype=np.float64)
    if (s < 0.0).any() or (s > 1.0).any():
        raise EvidenceError(
            f"beta calibration works on confidences in [0, 1], and there are some from {np.nanmin(s):.4g} to "
            f"{np.nanmax(s):.4g}: use isotonic or Venn-ABERS calibration instead"
        )
    return _log(s), -_log(1.0 - s)


def _sigmoid(log_odds: FloatArray) -> FloatArray:
    half: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * log_odds))  # neither end overflows
    return half


def _logistic_fit(columns: FloatArray, graded: FloatArray, start: FloatArray, penalty: float = 1e-4) -> FloatArray:
    """The weights of the largest likelihood less penalty |weights - start|^2, by Newton steps that are halved where
    they overshoot."""

    def loss(weights: FloatArray) -> float:
        z = columns @ weights
        fit = float(np.sum(np.logaddexp(0.0, z) - graded * z))
        return fit + penalty * float(np.sum((weights - start) ** 2))

    weights, before = start.copy(), loss(start)
    for _ in range(100):
        p = _sigmoid(columns @ weights)
        gradient = columns.T @ (p - graded) + 2.0 * penalty * (weights - start)
        curvature = (columns * (p * (1.0 - p))[:, np.newaxis]).T @ columns + 2.0 * penalty * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        while (after := loss(weights - step)) > before and np.abs(step).max() > 1e-12:
            step = step / 2.0
        if before - after <= 1e-12 * (1.0 + abs(before)):
            break
        weights, before = weights - step, after
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class VennAbers:
    """confidence -> p1 / (1 - p0 + p1), where p0 <= p1 are its isotonic estimates with label 0 and with label 1.

    `interval` gives p0 and p1: how much the calibration rows leave open, wide where they are few.
    """

    starts: FloatArray  #: (k,) rising distinct confidences of the calibration rows
    lower: FloatArray  #: (k,) p0 from that confidence on up to the next; below the first it is 0
    upper: FloatArray  #: (k,) p1 up to that confidence from the one before; above the last it is 1

    def __post_init__(self) -> None:
        _check_steps(self.starts, self.lower)
        _check_steps(self.starts, self.upper)
        if (self.lower > self.upper + 1e-9).any():
            raise EvidenceError("the lower estimates lie at or below the upper ones")

    def __call__(self, confidences: FloatArray) -> FloatArray:
        """(n,) -> (n,) in [0, 1]; NaN stays NaN."""
        p0, p1 = self.interval(confidences)
        calibrated: FloatArray = p1 / (1.0 - p0 + p1)
        return calibrated

    def interval(self, confidences: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(n,) p0 and (n,) p1, in [0, 1]; NaN for NaN. A binary search each."""
        confidences = np.asarray(confidences, dtype=np.float64)
        below = np.searchsorted(self.starts, confidences, side="right")
        above = np.searchsorted(self.starts, confidences, side="left")
        unknown = np.isnan(confidences)
        p0 = np.where(unknown, np.nan, np.concatenate([[0.0], self.lower])[below])
        p1 = np.where(unknown, np.nan, np.concatenate([self.upper, [1.0]])[above])
        return p0, p1

    @classmethod
    def fit(cls, confidences: FloatArray, correct: BoolArray | FloatArray) -> VennAbers:
        """From (n,) correctness, true or false, in O(n log n). Rows with NaN are left out."""
        confidences = np.asarray(confidences, dtype=np.float64)
        graded = np.asarray(correct, dtype=np.float64)
        known = ~(np.isnan(confidences) | np.isnan(graded))
        if not known.any():
            raise EvidenceError("Venn-ABERS calibration needs at least one row with a confidence and a label")
        if ((graded[known] != 0.0) & (graded[known] != 1.0)).any():
            raise EvidenceError("Venn-ABERS calibration needs labels that are right or wrong, not graded ones")
        starts, inverse = np.unique(confidences[known], return_inverse=True)
        weights = np.bincount(inverse).astype(np.float64)
        right = np.bincount(inverse, weights=graded[known]).astype(np.float64)
        # With the order and the labels turned round, a label of 0 is one of 1.
        lower = 1.0 - _estimates_with_label_1(weights[::-1], (weights - right)[::-1])[::-1]
        return cls(starts, lower, _estimates_with_label_1(weights, right))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `calibration_from_dict` reads them."""
        columns = {name: getattr(self, name).tolist() for name in ("starts", "lower", "upper")}
        return {"method": "venn_abers", **columns}


def _estimates_with_label_1(weights: FloatArray, right: FloatArray) -> FloatArray:
    """(k,) the isotonic estimate of each group when one more row of it, with label 1, is added.

    Vovk et al., 2015, algorithms 1 and 2: the slopes of the greatest convex minorant of the cumulative sums of
    (weight, right), whose extra step (1, 1) is moved from before the first group to behind it, and so on. A corner
    that the moving step leaves to its left never matters again, so that all is one pass over a stack.
    """
    xs = np.concatenate([[-1.0, 0.0], np.cumsum(weights)]).tolist()
    ys = np.concatenate([[-1.0, 0.0], np.cumsum(right)]).tolist()
    corners: list[tuple[float, float]] = []  # of the minorant, the leftmost on top
    for point in zip(reversed(xs), reversed(ys), strict=True):
        while len(corners) > 1 and _turn(point, corners[-1], corners[-2]) <= 0.0:
            corners.pop()
        corners.append(point)
    estimates = np.empty(len(weights))
    moving = (-1.0, -1.0)
    for group in range(len(weights)):
        (x0, y0), (x1, y1) = corners[-1], corners[-2]
        estimates[group] = (y1 - y0) / (x1 - x0)
        moving = (xs[group + 2] - 1.0, ys[group + 2] - 1.0)
        if _turn(corners[-1], moving, corners[-2]) <= 0.0:
            continue  # on or above the minorant
        corners.pop()
        while len(corners) > 1 and _turn(moving, corners[-1], corners[-2]) <= 0.0:
            corners.pop()
        corners.append(moving)
    return estimates


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Above 0 when the way from a to c by b turns left there: b lies below the line from a to c."""
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


AnyCalibration: TypeAlias = TemperatureScaling | IsotonicCalibration | BetaCalibration | VennAbers


def calibration_from_dict(values: dict[str, Any]) -> AnyCalibration:
    """Read what `to_dict` wrote."""
    method = values.get("method")
    if method == "temperature":
        return TemperatureScaling(float(values["temperature"]))
    if method == "beta":
        return BetaCalibration(float(values["a"]), float(values["b"]), float(values["c"]))
    if method == "isotonic":
        return IsotonicCalibration(*_columns(values, "starts", "values"))
    if method == "venn_abers":
        return VennAbers(*_columns(values, "starts", "lower", "upper"))
    raise EvidenceError(
        f"probability calibration {method!r} is unknown; there are: temperature, isotonic, beta, venn_abers"
    )


def _columns(values: dict[str, Any], *names: str) -> list[FloatArray]:
    return [np.asarray(values[name], dtype=np.float64) for name in names]
