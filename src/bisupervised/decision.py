"""THE acceptance rule: a prediction is trusted iff `confidence >= threshold`. NaN is never trusted.

    local confidence >= local threshold                 accept: the local answer
    else, local confidence < abstention threshold       abstain early: reject, and do not ask the remote model
    else                                                defer: ask the remote model
        remote confidence >= remote threshold           the answer after the request
        else                                            abstain late

The third action of the 1st level is for inputs that the remote model would be rejected on too: asking it would be
paid for nothing. A NaN local confidence is deferred whatever the thresholds: it is no evidence that the remote model
would fail as well. An abstention threshold of -inf, the default everywhere, never abstains early.

Everything that decides goes through these functions: the supervisors of a running system, the replay of
recorded rows, the evaluation and the calibration. There is no second comparison of a confidence anywhere.
"""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np

from bisupervised.errors import ThresholdError
from bisupervised.records import AnyArray, BoolArray, FloatArray, Route, RouteArray

_REJECTED = np.uint8(Route.REJECTED)


@overload
def accept(confidence: float, threshold: float) -> bool: ...
@overload
def accept(confidence: FloatArray, threshold: float | FloatArray) -> BoolArray: ...
def accept(confidence: Any, threshold: Any) -> Any:
    """Whether a prediction is trusted. `-inf` accepts every number, `+inf` none below it; NaN never.

    >>> accept(0.83, 0.83), accept(float("nan"), float("-inf"))
    (True, False)
    >>> accept(np.array([0.2, 0.9, np.nan]), 0.5)
    array([False,  True, False])
    """
    if getattr(confidence, "dtype", np.float64) != np.float64:
        # Else NumPy would round the threshold to float32, and what is accepted would depend on who stored it.
        confidence = np.asarray(confidence).astype(np.float64)[()]
    return confidence >= threshold


@overload
def first_level(confidence: FloatArray, threshold: float, abstain: float = ...) -> tuple[BoolArray, BoolArray]: ...
@overload
def first_level(confidence: FloatArray, threshold: Any, abstain: Any = ...) -> tuple[AnyArray, AnyArray]: ...
def first_level(confidence: Any, threshold: Any, abstain: Any = -math.inf) -> tuple[Any, Any]:
    """(accepted, deferred), booleans of the broadcast shape; what is neither is abstained on early.

    >>> accepted, deferred = first_level(np.array([0.9, 0.5, 0.1, np.nan]), 0.8, 0.3)
    >>> accepted.tolist(), deferred.tolist()
    ([True, False, False, False], [False, True, False, True])
    """
    accepted = accept(confidence, threshold)
    if isinstance(abstain, float) and abstain == -math.inf:
        return accepted, ~accepted
    return accepted, (accept(confidence, abstain) | np.isnan(confidence)) & ~accepted


def route(local_accepted: BoolArray, remote_accepted: BoolArray) -> RouteArray:
    """LOCAL where the local prediction is trusted, else REMOTE where the remote one is, else REJECTED.

    Both are (n,) booleans; `remote_accepted` is not read where `local_accepted` is true.

    >>> route(np.array([True, False, False]), np.array([False, True, False]))
    array([0, 1, 2], dtype=uint8)
    """
    if local_accepted.shape == remote_accepted.shape == (1,):
        # A single input, as every request is: the same in plain numbers, which is several times as fast.
        chosen = Route.LOCAL if local_accepted[0] else Route.REMOTE if remote_accepted[0] else Route.REJECTED
        return np.array([chosen], dtype=np.uint8)
    # REJECTED - remote_accepted is REMOTE or REJECTED; the product turns accepted rows into LOCAL, which is 0.
    not_trusted = np.subtract(_REJECTED, remote_accepted, dtype=np.uint8)
    routes: RouteArray = np.multiply(not_trusted, np.logical_not(local_accepted), out=not_trusted)
    return routes


def decide(
    local_confidence: FloatArray,
    local_threshold: float,
    remote_confidence: FloatArray,
    remote_threshold: float,
    abstain_threshold: float = -math.inf,
) -> RouteArray:
    """The route of each recorded input, (n,), under the thresholds.

    >>> decide(np.array([0.9, 0.1, 0.1]), 0.5, np.array([0.0, 0.8, 0.3]), 0.7)
    array([0, 1, 2], dtype=uint8)
    """
    local_accepted, deferred = first_level(local_confidence, local_threshold, abstain_threshold)
    return route(local_accepted, accept(remote_confidence, remote_threshold) & deferred)


def decide_and_answer(
    local_confidence: FloatArray,
    local_threshold: float,
    remote_confidence: FloatArray,
    remote_threshold: float,
    local_predictions: AnyArray,
    remote_predictions: AnyArray,
    abstain_threshold: float = -math.inf,
) -> tuple[RouteArray, AnyArray]:
    """Route and model's answer of each recorded input.

    The answer of a REJECTED input is the remote prediction, trusted or not: read the route first.
    """
    local_accepted, deferred = first_level(local_confidence, local_threshold, abstain_threshold)
    remote_accepted = accept(remote_confidence, remote_threshold)
    if abstain_threshold != -math.inf:  # else what is not accepted is deferred, and `route` reads no other row
        remote_accepted = remote_accepted & deferred
    routes = route(local_accepted, remote_accepted)
    return routes, _select(local_accepted, local_predictions, remote_predictions)


def _select(mask: BoolArray, chosen: AnyArray, other: AnyArray) -> AnyArray:
    """`np.where(mask, chosen, other)`, twice as fast where the mask is as irregular as confidences are.

    For plain numbers: other ^ ((chosen ^ other) * mask) on their bits, which has no branch to mispredict.
    """
    if chosen.dtype != other.dtype or chosen.dtype.kind not in "iufb" or chosen.itemsize not in (1, 2, 4, 8):
        if chosen.dtype.kind != other.dtype.kind and not {chosen.dtype.kind, other.dtype.kind} <= set("iuf"):
            chosen = chosen.astype(object)  # else NumPy would turn the number 1 into the text "1"
        return np.where(mask, chosen, other)
    word = np.dtype(f"u{chosen.itemsize}")
    chosen_bits, other_bits = np.ascontiguousarray(chosen).view(word), np.ascontiguousarray(other).view(word)
    bits = np.bitwise_xor(chosen_bits, other_bits)
    bits *= mask
    bits ^= other_bits
    selected: AnyArray = bits.view(chosen.dtype)
    return selected


def check_threshold(threshold: float, name: str = "threshold") -> float:
    """The threshold as a float, or `ThresholdError`. Infinities are allowed; NaN is not."""
    try:
        value = float(threshold)
    except (TypeError, ValueError) as error:
        raise ThresholdError(f"{name} must be a number, not {threshold!r}") from error
    if math.isnan(value):
        raise ThresholdError(f"{name} is NaN. Use -inf to accept every prediction, +inf to accept none")
    return value
