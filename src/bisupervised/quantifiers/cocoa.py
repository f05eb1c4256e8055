"""CoCoA: how unlikely the answer is, times how little the model's further answers are like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.samples import ReadsSamples, by_similarity
from bisupervised.quantifiers.similarity import Similarity, rouge_l
from bisupervised.quantifiers.token_alternatives import TokenEntropy
from bisupervised.quantifiers.token_likelihood import TokenLikelihood
from bisupervised.records import FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class CoCoA(ReadsSamples):
    """confidence = -u mean_s (1 - similarity(answer, s)) over the samples s, at or below 0. Vashurin et al., 2025.

    u is how unlikely the answer itself is: `"sum"`, minus the log-probability of the whole of it; `"mean"`, the same
    for each token (the logarithm of the perplexity); `"entropy"`, the mean token entropy, by the alternatives at each
    token. Its log-probabilities, or alternatives, must be there beside the samples. An answer that is certain, or
    that every sample repeats, gives 0.

    A sample that failed is unlike the answer; a row without any sample, or whose u is not known, and one for which
    `similarity` raises (told in the log), gives NaN.

    >>> output = ModelOutput(np.array(["Rome"]), samples=[["rome", "Milan"]], token_logprobs=[np.log([0.5, 0.5])])
    >>> CoCoA(samples=2)(output)
    array([-0.34657359])
    """

    similarity: Similarity = rouge_l
    unlikely: str = "mean"
    name: ClassVar[str] = "cocoa"

    def __post_init__(self) -> None:
        ReadsSamples.__post_init__(self)
        if self.unlikely not in _LOG_LIKELIHOODS:
            raise EvidenceError(f"unlikely is one of {', '.join(_LOG_LIKELIHOODS)}, not {self.unlikely!r}")

    def __call__(self, output: ModelOutput) -> FloatArray:
        unlike = by_similarity(output, self.similarity, lambda matrix: float((1.0 - matrix[0, 1:]).mean()))
        with np.errstate(invalid="ignore"):  # an impossible answer that every sample repeats
            confidences: FloatArray = _LOG_LIKELIHOODS[self.unlikely](output) * unlike
        return confidences + 0.0


#: -u by name.
_LOG_LIKELIHOODS: Mapping[str, Callable[[ModelOutput], FloatArray]] = {
    "sum": TokenLikelihood("sum").log_likelihoods,
    "mean": TokenLikelihood("mean").log_likelihoods,
    "entropy": TokenEntropy("mean"),
}
