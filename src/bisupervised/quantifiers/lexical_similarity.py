"""Lexical similarity: how alike a language model's answers to one question are, word by word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bisupervised.quantifiers.samples import ReadsSamples, by_similarity
from bisupervised.quantifiers.similarity import Similarity, rouge_l
from bisupervised.records import FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class LexicalSimilarity(ReadsSamples):
    """confidence = mean similarity over the pairs of different answers, in [0, 1]. Fomicheva et al., TACL 2020.

    The answers are the prediction and its samples; the similarity is ROUGE-L by default. A sample that failed is like
    no other; a row without any sample, and one for which `similarity` raises (told in the log), gives NaN. `samples`
    is how many the model is asked for: what it states as its extra calls.

    >>> import numpy as np
    >>> LexicalSimilarity(samples=2)(ModelOutput(np.array(["in Rome"]), samples=[["in Rome", "Milan"]])).round(4)
    array([0.3333])
    """

    similarity: Similarity = rouge_l
    name: ClassVar[str] = "lexical_similarity"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return by_similarity(output, self.similarity, _mean_of_pairs)


def _mean_of_pairs(matrix: FloatArray) -> float:
    m = len(matrix)
    return float((matrix.sum() - m) / (m * (m - 1)))
