"""How undecided a language model was at each token of its answer, by the likeliest alternatives there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput

#: How far the alternatives of one token may be from a mass of at most 1.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class TokenEntropy:
    """confidence = -(mean or max over the answer's tokens of the entropy in nats), at or below 0.

    An endpoint gives the k likeliest alternatives only. With `tail` the mass that they leave counts as one more
    alternative, which gives the least entropy there may be; without, the k are renormalised, which forgets it.
    `aggregate` is `"mean"` or `"max"`: the most undecided token. An answer without tokens, and one with a token
    whose alternatives are not known, gives NaN. Malinin & Gales, ICLR 2021 (there over the whole vocabulary).

    >>> output = ModelOutput(np.array(["a"]), token_alternatives=[np.log([[0.5, 0.25], [0.98, 0.02]])])
    >>> [float(TokenEntropy(aggregate)(output)[0].round(4)) for aggregate in ("mean", "max")]
    [-0.5689, -1.0397]
    """

    aggregate: str = "mean"
    tail: bool = True
    needs: ClassVar[Evidence] = Evidence.TOKEN_ALTERNATIVES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.aggregate not in ("mean", "max"):
            raise EvidenceError(f"aggregate is 'mean' or 'max', not {self.aggregate!r}")

    @property
    def name(self) -> str:
        """`token_entropy_mean` or `token_entropy_max`."""
        return f"token_entropy_{self.aggregate}"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return _by_answer(output, self._score)

    def _score(self, p: FloatArray) -> float:
        entropies = token_entropies(p, tail=self.tail)
        return 0.0 - float(entropies.mean() if self.aggregate == "mean" else entropies.max())


@dataclass(frozen=True, slots=True)
class TokenMargin:
    """confidence = mean or min over the answer's tokens of p_(1) - p_(2), in [0, 1].

    The likeliest and the second likeliest alternative; `aggregate` is `"mean"`, or `"min"`: the most undecided token.
    An answer without tokens, and one with a token of which two alternatives are not known, gives NaN.

    >>> alternatives = [np.log([[0.5, 0.25], [0.98, 0.02]])]
    >>> TokenMargin("min")(ModelOutput(np.array(["a"]), token_alternatives=alternatives))
    array([0.25])
    """

    aggregate: str = "mean"
    needs: ClassVar[Evidence] = Evidence.TOKEN_ALTERNATIVES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.aggregate not in ("mean", "min"):
            raise EvidenceError(f"aggregate is 'mean' or 'min', not {self.aggregate!r}")

    @property
    def name(self) -> str:
        """`token_margin_mean` or `token_margin_min`."""
        return f"token_margin_{self.aggregate}"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return _by_answer(output, self._score)

    def _score(self, p: FloatArray) -> float:
        if p.shape[1] < 2:
            return float("nan")
        ordered = np.sort(np.where(np.isnan(p), -1.0, p), axis=1)
        first, second = ordered[:, -1], ordered[:, -2]
        margins = np.where(second < 0.0, np.nan, first - second)
        return float(margins.mean() if self.aggregate == "mean" else margins.min())


def alternatives_of(output: ModelOutput) -> list[FloatArray]:
    """n arrays (tokens, k) of the probabilities of the alternatives, NaN where there are fewer, checked.

    Raises `EvidenceError` when there are none, not one array for each prediction, or no natural logarithms of
    probabilities.
    """
    if output.token_alternatives is None:
        raise EvidenceError(
            "the model output holds no alternatives for each token; ask the endpoint for them (top_logprobs = 5 or "
            "more) or use a quantifier that needs what the model gives"
        )
    if len(output.token_alternatives) != len(output):
        raise EvidenceError(
            f"token_alternatives has {len(output.token_alternatives)} rows for {len(output)} predictions"
        )
    return [_probabilities(row) for row in output.token_alternatives]


def token_entropies(p: FloatArray, *, tail: bool = True) -> FloatArray:
    """(tokens,) entropies in nats of the alternatives' probabilities, (tokens, k); NaN without any alternative."""
    known = ~np.isnan(p)
    p = np.where(known, p, 0.0)
    mass = p.sum(axis=1)
    rest = np.maximum(1.0 - mass, 0.0) if tail else np.zeros(len(p))
    total = mass + rest
    entropies = -(_x_log_x(p).sum(axis=1) + _x_log_x(rest))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of p / total, from sums of p: H = (sum -p ln p) / total + ln total.
        entropies = np.where(mass > 0.0, entropies / total + np.log(total), np.nan)
    return np.where(known.any(axis=1), np.maximum(entropies, 0.0), np.nan)


def _by_answer(output: ModelOutput, score: Callable[[FloatArray], float]) -> FloatArray:
    return np.array([score(p) if p.size else np.nan for p in alternatives_of(output)], dtype=np.float64)


def _probabilities(row: FloatArray | None) -> FloatArray:
    if row is None:
        return np.empty((0, 0))
    try:
        logprobs = np.ascontiguousarray(row, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"an answer's token alternatives must be numbers, (tokens, k): {error}") from error
    if logprobs.size == 0:
        return np.empty((0, 0))
    if logprobs.ndim != 2:
        raise EvidenceError(f"an answer's token alternatives must be (tokens, k), not {logprobs.shape}")
    with np.errstate(over="ignore"):
        p = np.exp(logprobs)
        mass = np.nansum(p, axis=1)
    if (mass > 1.0 + _TOLERANCE).any():
        raise EvidenceError(
            f"the alternatives of a token have the mass {mass.max():.4g}, above 1: these are not natural logarithms "
            f"of the probabilities of different tokens"
        )
    return p


def _x_log_x(p: FloatArray) -> FloatArray:
    log_p: FloatArray = np.log(p, out=np.zeros_like(p), where=p > 0.0)
    return p * log_p
