"""Semantic entropy: how many different things the model says when it is asked again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.equivalence import Equivalence, normalised
from bisupervised.quantifiers.samples import ReadsSamples, known, log_broken, row_of_numbers, same, samples_of
from bisupervised.records import FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class SemanticEntropy(ReadsSamples):
    """confidence = sum_c p_c ln p_c over clusters of answers that mean the same, in [-ln S, 0]. Farquhar, 2024.

    That is the entropy of Farquhar et al. (Nature 630, 2024), negated: 0 when all S answers mean the same, -ln S
    when no two do. The S answers are the prediction and its samples: unlike in the paper the prediction is one of
    them, since it is what the confidence is about. An answer joins the first cluster whose first answer it is
    equivalent to (the paper's greedy clustering), or begins one.

    Discrete: p_c is the share of the answers in the cluster. `weighted`: answers count by their likelihood, the
    exponential of the mean log-probability of their tokens, normalised over the S; that needs the token
    log-probabilities of the prediction and of the samples, and gives NaN where one is not known.

    A sample that failed or could not be read is a cluster of its own, so that an overloaded model is not trusted
    more; a row without any sample, and one for which `equivalent` raises (told in the log), gives NaN. `samples`
    is how many the model is asked for: what it states as its extra calls. Each row is scored by those it holds.

    >>> output = ModelOutput(np.array(["Rome", "Rome"]), samples=[["rome", "Rome."], ["Milan", "Turin"]])
    >>> SemanticEntropy(samples=2)(output)
    array([ 0.        , -1.09861229])
    """

    equivalent: Equivalence = normalised
    weighted: bool = False
    name: ClassVar[str] = "semantic_entropy"

    def __call__(self, output: ModelOutput) -> FloatArray:
        rows = samples_of(output)
        if self.weighted:
            _check_logprobs(output)
        return np.array([self._score(output, row, samples) for row, samples in enumerate(rows)], dtype=np.float64)

    def _score(self, output: ModelOutput, row: int, samples: Sequence[Any]) -> float:
        prediction = output.predictions[row]
        if prediction is None or not known(samples):
            return float("nan")
        weights = self._weights(output, row, len(samples))
        if np.isnan(weights).any():
            return float("nan")
        try:
            clusters = clustered([prediction, *samples], self.equivalent)
        except Exception as error:  # somebody's function, or a service behind it
            return log_broken(self.equivalent, error)
        if len(clusters) == 1:
            return 0.0
        shares = [math.fsum(weights[answer] for answer in cluster) for cluster in clusters]
        return min(math.fsum(share * math.log(share) for share in shares if share > 0.0), 0.0)

    def _weights(self, output: ModelOutput, row: int, n: int) -> FloatArray:
        """(1 + n,) what the prediction and each sample count, with the sum 1; NaN where one is not known."""
        if not self.weighted or output.token_logprobs is None:
            return np.full(1 + n, 1.0 / (1 + n))
        own = output.token_logprobs[row]
        logprobs = np.empty(0) if own is None else np.asarray(own, dtype=np.float64)
        sums = row_of_numbers(output.sample_logprobs, row, "sample_logprobs", n)
        lengths = row_of_numbers(output.sample_lengths, row, "sample_lengths", n)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.concatenate([[logprobs.mean() if logprobs.size else np.nan], sums / lengths])
        if (means > 1e-6).any():
            raise EvidenceError(
                f"a mean token log-probability of {np.nanmax(means):.4g} is above 0: these are not natural "
                f"logarithms of probabilities"
            )
        # An impossible answer counts nothing; e to the -1e300 is 0 just the same.
        likelihoods = np.exp(np.maximum(means, -1e300) - max(float(np.max(means)), -1e300))
        weights: FloatArray = likelihoods / math.fsum(likelihoods)
        return weights


def _check_logprobs(output: ModelOutput) -> None:
    if output.token_logprobs is None or output.sample_logprobs is None or output.sample_lengths is None:
        raise EvidenceError(
            "weighted semantic entropy needs the token log-probabilities of the answer and of the samples; ask the "
            "endpoint for them (logprobs = true) or use weighted = false"
        )
    for name in ("token_logprobs", "sample_logprobs", "sample_lengths"):
        if len(getattr(output, name)) != len(output):
            raise EvidenceError(f"{name} has {len(getattr(output, name))} rows for {len(output)} predictions")


def clustered(answers: Sequence[Any], equivalent: Equivalence) -> list[list[int]]:
    """Clusters of answers, as their places in the sequence: each joins the first whose first answer it is like.

    >>> clustered(["a", "b", "A", None, "b"], lambda a, b: a.lower() == b.lower())
    [[0, 2], [1, 4], [3]]
    """
    clusters: list[list[int]] = []
    for place, answer in enumerate(answers):
        for cluster in clusters:
            if same(equivalent, answers[cluster[0]], answer):
                cluster.append(place)
                break
        else:
            clusters.append([place])
    return clusters
