"""Token likelihood: what a language model's own token probabilities say about its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput

_AGGREGATES: dict[str, Callable[[FloatArray], float]] = {
    "sum": lambda logprobs: float(logprobs.sum()),
    "mean": lambda logprobs: float(logprobs.mean()),
    "min": lambda logprobs: float(logprobs.min()),
}


@dataclass(frozen=True, slots=True)
class TokenLikelihood:
    """confidence = exp(aggregate of the answer's token log-probabilities), in [0, 1].

    `aggregate` is `"sum"` (the probability of the whole answer: short answers look better), `"mean"` (the
    geometric mean per token, 1/perplexity: a long answer hides one bad token), `"min"` (the least likely
    token; the paper's choice for SQuADv2), or a number q in [0, 1] for that quantile of the token
    log-probabilities (Gupta et al., ICLR 2024). An answer without tokens (None, or none), or with a NaN among
    them, gives NaN.

    >>> output = ModelOutput(np.array(["a"]), token_logprobs=[np.log([0.5, 0.25])])
    >>> [float(TokenLikelihood(a)(output)[0].round(3)) for a in ("sum", "mean", "min", 1.0)]
    [0.125, 0.354, 0.25, 0.5]
    """

    aggregate: str | float = "min"
    needs: ClassVar[Evidence] = Evidence.TOKEN_LOGPROBS
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if isinstance(self.aggregate, str):
            if self.aggregate not in _AGGREGATES:
                raise EvidenceError(
                    f"aggregate must be one of {', '.join(_AGGREGATES)} or a quantile in [0, 1], "
                    f"not {self.aggregate!r}"
                )
        elif not 0.0 <= self.aggregate <= 1.0:
            raise EvidenceError(f"the quantile must be in [0, 1], not {self.aggregate}")

    @property
    def name(self) -> str:
        """`token_likelihood_min`, or `token_likelihood_q0.5` for a quantile."""
        if isinstance(self.aggregate, str):
            return f"token_likelihood_{self.aggregate}"
        short = f"{self.aggregate:g}"
        return f"token_likelihood_q{short if float(short) == self.aggregate else self.aggregate}"

    def __call__(self, output: ModelOutput) -> FloatArray:
        likelihoods: FloatArray = np.exp(self.log_likelihoods(output))
        return likelihoods

    def log_likelihoods(self, output: ModelOutput) -> FloatArray:
        """(n,) the logarithms of the confidences, at or below 0: a long answer's own probability is soon 0."""
        if output.token_logprobs is None:
            raise EvidenceError(
                "the model output holds no token log-probabilities; ask the endpoint for them (logprobs = true) "
                "or use a quantifier that needs what the model gives"
            )
        if len(output.token_logprobs) != len(output):
            raise EvidenceError(f"token_logprobs has {len(output.token_logprobs)} rows for {len(output)} predictions")
        return np.array([self._score(row) for row in output.token_logprobs], dtype=np.float64)

    def _score(self, row: FloatArray | None) -> float:
        if row is None:
            return float("nan")
        try:
            logprobs = np.asarray(row, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EvidenceError(
                f"token log-probabilities must be a list of numbers for each answer: {error}"
            ) from error
        if logprobs.ndim != 1:
            raise EvidenceError(f"an answer's token log-probabilities must be (tokens,), not {logprobs.shape}")
        if logprobs.size == 0 or np.isnan(logprobs).any():
            return float("nan")
        if (logprobs > 1e-6).any():
            raise EvidenceError(
                f"a token log-probability of {logprobs.max():.4g} is above 0: these are not natural logarithms "
                f"of probabilities"
            )
        if isinstance(self.aggregate, str):
            return min(_AGGREGATES[self.aggregate](logprobs), 0.0)
        # An impossible token is -inf, which cannot be interpolated; e to the -1e300 is 0 just the same.
        return min(float(np.quantile(np.maximum(logprobs, -1e300), self.aggregate)), 0.0)
