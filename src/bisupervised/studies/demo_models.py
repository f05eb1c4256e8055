"""The demo's two models: what they read of a review, how they are trained, and how they predict.

The local one has the limits of the paper's: the 2,000 most frequent words, and the first 100 words of a review.
The remote one reads all words and word pairs: naive Bayes log-count ratios as features of a logistic regression
(Wang & Manning, "Baselines and Bigrams", ACL 2012), hashed, so that it needs no vocabulary.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bisupervised.errors import MissingExtra
from bisupervised.records import AnyArray, Evidence, FloatArray, IntArray, ModelOutput
from bisupervised.studies.demo_reviews import LABELS, Reviews

VOCABULARY = 2_000
FIRST_WORDS = 100
BUCKETS = 1 << 20

_WORD = re.compile(r"[a-z0-9']+")
_CLASSES = np.array(LABELS, dtype=object)


def words_of(text: str, limit: int | None = None) -> list[str]:
    """The lower-case words of a text, at most `limit`; line breaks in HTML are none.

    >>> words_of("Don't!<br />Go", 3)
    ["don't", 'go']
    """
    found = _WORD.finditer(text.lower().replace("<br />", " "))
    return [match.group() for match in islice(found, limit)]


def sigmoid(score: float) -> float:
    """1 / (1 + exp(-score)), without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * score))


# ---------------------------------------------------------------- local


class LocalReviewModel:
    """A linear model over which of the 2,000 most frequent words occur in a review's first 100 words.

    It times every review by itself, so that a latency is what a single request would see and no share of a batch.
    """

    name: ClassVar[str] = "a linear model over 2,000 words, of the first 100 of a review"
    provides: ClassVar[frozenset[Evidence]] = frozenset({Evidence.PROBABILITIES})
    max_batch: ClassVar[int | None] = None

    def __init__(self, vocabulary: Sequence[str], weights: FloatArray, bias: float) -> None:
        self._weight_of = dict(zip(vocabulary, weights.tolist(), strict=True))
        self._bias = bias

    def probability(self, text: str) -> float:
        """The probability that a review is positive."""
        weight_of = self._weight_of
        words = set(words_of(text, FIRST_WORDS))
        return sigmoid(self._bias + sum(weight_of.get(word, 0.0) for word in sorted(words)))

    def predict(self, inputs: Sequence[str]) -> ModelOutput:
        """Class probabilities, predictions and the seconds each took."""
        positive, seconds = np.empty(len(inputs)), np.empty(len(inputs))
        for row, text in enumerate(inputs):
            start = perf_counter()
            positive[row] = self.probability(text)
            seconds[row] = perf_counter() - start
        probabilities = np.stack([1.0 - positive, positive], axis=1)
        return ModelOutput(
            predictions=_CLASSES[probabilities.argmax(axis=1)],
            probabilities=probabilities,
            classes=_CLASSES,
            latency_s=seconds,
        )


def train_local(reviews: Reviews, *, inverse_penalty: float = 0.1) -> LocalReviewModel:
    """Logistic regression on the reviews. `inverse_penalty` is scikit-learn's C."""
    firsts = [words_of(text, FIRST_WORDS) for text in reviews.texts]
    counts = Counter(word for words in firsts for word in words)
    vocabulary = [word for word, _ in counts.most_common(VOCABULARY)]
    column_of = {word: column for column, word in enumerate(vocabulary)}
    rows = [sorted(column_of[word] for word in set(words) if word in column_of) for words in firsts]
    matrix = _sparse([np.array(row, dtype=np.int64) for row in rows], len(vocabulary))
    weights, bias = _logistic_regression(matrix, reviews.labels, inverse_penalty)
    return LocalReviewModel(vocabulary, weights, bias)


# ---------------------------------------------------------------- remote


@dataclass(frozen=True, slots=True, eq=False)
class WordPairModel:
    """The remote model's inside: a linear model over all words and word pairs of a review."""

    scale: NDArray[np.float32]  #: (buckets,) naive Bayes log-count ratio of each feature
    weights: NDArray[np.float32]  #: (buckets,) weight of the scaled feature, times its scale
    bias: float

    def probability(self, text: str) -> float:
        """The probability that a review is positive."""
        features = word_pair_features(text)
        scale = self.scale[features]
        length = math.sqrt(float(scale @ scale))
        if length == 0.0:
            return sigmoid(self.bias)
        return sigmoid(self.bias + float(self.weights[features].sum()) / length)

    def save(self, path: Path) -> None:
        """Write the model as an `npz` file."""
        np.savez(path, scale=self.scale, weights=self.weights, bias=np.array(self.bias))

    @classmethod
    def load(cls, path: Path) -> WordPairModel:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["scale"], arrays["weights"], float(arrays["bias"]))


def word_pair_features(text: str) -> IntArray:
    """The rising hash buckets of a text's words and pairs of neighbouring words."""
    words = words_of(text)
    single = np.fromiter((zlib.crc32(word.encode()) for word in words), dtype=np.uint64, count=len(words))
    # Odd multipliers mix both words' bits; the arithmetic is modulo 2^64.
    pairs = single[:-1] * np.uint64(2654435761) + single[1:] * np.uint64(40503) + np.uint64(7)
    return np.unique(np.concatenate([single, pairs]) % np.uint64(BUCKETS)).astype(np.int64)


def train_remote(reviews: Reviews, *, inverse_penalty: float = 16.0) -> WordPairModel:
    """Naive Bayes scaling and logistic regression on the reviews. `inverse_penalty` is scikit-learn's C."""
    matrix = _sparse([word_pair_features(text) for text in reviews.texts], BUCKETS)
    scale = _log_count_ratio(matrix, reviews.labels == LABELS[1])
    matrix.data = scale[matrix.indices]
    row_of = np.repeat(np.arange(len(reviews)), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(row_of, weights=matrix.data**2, minlength=len(reviews)))
    matrix.data /= np.maximum(lengths, 1e-12).astype(np.float32)[row_of]
    weights, bias = _logistic_regression(matrix, reviews.labels, inverse_penalty)
    return WordPairModel(scale, (weights * scale).astype(np.float32), bias)


def _log_count_ratio(matrix: Any, positive: AnyArray) -> NDArray[np.float32]:
    ones = 1.0 + np.asarray(matrix[positive].sum(axis=0), dtype=np.float64).ravel()
    others = 1.0 + np.asarray(matrix[~positive].sum(axis=0), dtype=np.float64).ravel()
    ratio: NDArray[np.float32] = np.log((ones / ones.sum()) / (others / others.sum())).astype(np.float32)
    return ratio


# ---------------------------------------------------------------- training


def _sparse(rows: Iterable[IntArray], width: int) -> Any:
    """A CSR matrix with a 1 at each row's columns."""
    rows = list(rows)
    try:
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingExtra("scikit-learn", "demo") from error
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate(rows)
    return csr_matrix((np.ones(len(columns), dtype=np.float32), columns, ends), shape=(len(rows), width))


def _logistic_regression(matrix: Any, labels: AnyArray, inverse_penalty: float) -> tuple[FloatArray, float]:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "demo") from error
    fitted = LogisticRegression(C=inverse_penalty, solver="liblinear", tol=1e-2)
    fitted.fit(matrix, (labels == LABELS[1]).astype(np.int64))
    return np.asarray(fitted.coef_[0], dtype=np.float64), float(fitted.intercept_[0])
