"""Number of semantic sets: in how many different ways the model answers when it is asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bisupervised.quantifiers.equivalence import Equivalence, normalised
from bisupervised.quantifiers.samples import ReadsSamples, by_answers
from bisupervised.quantifiers.semantic_entropy import clustered
from bisupervised.records import FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class NumSemanticSets(ReadsSamples):
    """confidence = -(number of clusters of answers that mean the same), a whole number in [-m, -1]. Lin et al., 2024.

    The m answers are the prediction and its samples, clustered by `equivalent` as for the semantic entropy, which
    also sees how large the clusters are. A sample that failed is a cluster of its own; a row without any sample, and
    one for which `equivalent` raises (told in the log), gives NaN.

    >>> import numpy as np
    >>> NumSemanticSets(samples=2)(ModelOutput(np.array(["Rome"]), samples=[["rome", "Milan"]]))
    array([-2.])
    """

    equivalent: Equivalence = normalised
    name: ClassVar[str] = "num_semantic_sets"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return by_answers(output, self.equivalent, lambda answers: -float(len(clustered(answers, self.equivalent))))
