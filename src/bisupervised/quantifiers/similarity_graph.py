"""Scores of the graph in which a language model's answers to one question are joined by how alike they are.

Lin, Trivedi & Sun, "Generating with Confidence", TMLR 2024. The m answers are the prediction and its samples; W is
the matrix of their similarities, D the diagonal of its row sums, L = I - D^-1/2 W D^-1/2. Where the paper has a
confidence in one answer, it is taken, for the prediction. A sample that failed is like no other; a row without any
sample, and one for which `similarity` raises (told in the log), gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from bisupervised.quantifiers.samples import ReadsSamples, by_similarity
from bisupervised.quantifiers.similarity import Similarity, jaccard
from bisupervised.records import FloatArray, ModelOutput

#: Eigenvectors of eigenvalues below it tell the answers apart (the paper's choice).
_LARGEST_EIGENVALUE: Final = 0.9


@dataclass(frozen=True, slots=True)
class DegMat(ReadsSamples):
    """confidence = D_11 / m, the prediction's mean similarity to all m answers, itself one of them, in [1/m, 1].

    >>> DegMat(samples=3)(ModelOutput(np.array(["Rome"]), samples=[["Rome!", "Milan", "Turin"]]))
    array([0.5])
    """

    similarity: Similarity = jaccard
    name: ClassVar[str] = "deg_mat"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return by_similarity(output, self.similarity, lambda matrix: float(matrix[0].mean()))


@dataclass(frozen=True, slots=True)
class Eccentricity(ReadsSamples):
    """confidence = -||v_1 - mean_j v_j||, in [-1, 0]: how far the prediction lies from the answers' middle.

    v_j are the answer's entries in the eigenvectors of L whose eigenvalues are below 0.9.

    >>> Eccentricity(samples=3)(ModelOutput(np.array(["Rome"]), samples=[["Rome!", "Rome", "Rome"]])).round(9) + 0.0
    array([0.])
    """

    similarity: Similarity = jaccard
    name: ClassVar[str] = "eccentricity"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return by_similarity(output, self.similarity, _first_to_middle)


@dataclass(frozen=True, slots=True)
class EigValLaplacian(ReadsSamples):
    """confidence = -sum_k max(0, 1 - lambda_k) of L's eigenvalues, in [-m, -1]: minus how many meanings there are.

    A smooth count: m answers in c groups, alike within and unlike between them, give -c.

    >>> EigValLaplacian(samples=3)(ModelOutput(np.array(["Rome"]), samples=[["Rome!", "Milan", "Milan"]])).round(9)
    array([-2.])
    """

    similarity: Similarity = jaccard
    name: ClassVar[str] = "eig_val_laplacian"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return by_similarity(output, self.similarity, _negative_count)


def laplacian(matrix: FloatArray) -> FloatArray:
    """The symmetric normalised Laplacian of a similarity matrix, whose diagonal is 1."""
    scale = 1.0 / np.sqrt(matrix.sum(axis=1))
    normal: FloatArray = np.eye(len(matrix)) - scale[:, np.newaxis] * matrix * scale
    return normal


def _first_to_middle(matrix: FloatArray) -> float:
    eigenvalues, vectors = np.linalg.eigh(laplacian(matrix))
    vectors = vectors[:, eigenvalues < _LARGEST_EIGENVALUE]
    return 0.0 - float(np.linalg.norm(vectors[0] - vectors.mean(axis=0)))


def _negative_count(matrix: FloatArray) -> float:
    return 0.0 - float(np.maximum(1.0 - np.linalg.eigvalsh(laplacian(matrix)), 0.0).sum())
