"""How alike two answers of a language model are: what lexical similarity, CoCoA and the graph scores compare by.

A similarity is any function `similarity(a, b)` into [0, 1] that does not depend on the order of its two answers.
What it gives below 0 or above 1 counts as 0 and 1. Answers are texts; labels read from them are alike when equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bisupervised.errors import ConfigError
from bisupervised.quantifiers.equivalence import exact, normal_words, normalised
from bisupervised.records import FloatArray

Similarity: TypeAlias = Callable[[Any, Any], float | bool]


def rouge_l(a: Any, b: Any) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words, as `normal_words` sees them. Lin, 2004.

    >>> rouge_l("The tower is in Paris.", "tower in Paris"), rouge_l("Paris", "Lyon")
    (0.8571428571428571, 0.0)
    """
    if not (isinstance(a, str) and isinstance(b, str)):
        return float(exact(a, b))
    words_a, words_b = normal_words(a), normal_words(b)
    if not words_a or not words_b:
        return float(words_a == words_b)
    return 2 * common_length(words_a, words_b) / (len(words_a) + len(words_b))


def jaccard(a: Any, b: Any) -> float:
    """The share that two answers' words have in common of all their different words. Order does not count.

    >>> jaccard("in Paris", "Paris"), jaccard("Paris", "Paris!")
    (0.5, 1.0)
    """
    if not (isinstance(a, str) and isinstance(b, str)):
        return float(exact(a, b))
    words_a, words_b = set(normal_words(a)), set(normal_words(b))
    if not words_a or not words_b:
        return float(words_a == words_b)
    return len(words_a & words_b) / len(words_a | words_b)


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a whole row of its table at a time in the bits of a number.

    Crochemore et al., "A fast and practical bit-vector algorithm for the longest common subsequence problem", 2001.

    >>> common_length("a b c d".split(), "b x d".split())
    2
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    all_places = (1 << len(a)) - 1
    row = all_places
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_places
    return len(a) - row.bit_count()


def similarity_matrix(answers: Sequence[Any], similarity: Similarity) -> FloatArray:
    """(m, m) how alike m answers are, in [0, 1]: symmetric, and 1 on the diagonal.

    An answer that failed or could not be read (None) is like no other.
    """
    m = len(answers)
    matrix = np.eye(m)
    for i in range(m):
        for j in range(i):
            if answers[i] is not None and answers[j] is not None:
                matrix[i, j] = matrix[j, i] = similarity(answers[i], answers[j])
    return np.clip(matrix, 0.0, 1.0)


def similarity_of(setting: Any, load: Callable[[str], Any] | None = None) -> Similarity:
    """The similarity that a configuration file names. Raises `ConfigError`.

    `"rouge_l"`, `"jaccard"`, `"exact"`, `"normalised"`, or `"module:attribute"` for any function of two answers, such
    as a cross-encoder. `load` gives the object that a `module:attribute` names.

    >>> similarity_of("rouge_l")("in Paris", "in Paris, France")
    0.8
    """
    if isinstance(setting, str) and setting in _BY_NAME:
        return _BY_NAME[setting]
    loaded = load(setting) if isinstance(setting, str) and ":" in setting and load is not None else setting
    if not callable(loaded):
        raise ConfigError(
            f"similarity is {', '.join(map(repr, _BY_NAME))}, or 'module:attribute' for a function, not {setting!r}"
        )
    found: Similarity = loaded
    return found


_BY_NAME: Mapping[str, Similarity] = {
    "rouge_l": rouge_l,
    "jaccard": jaccard,
    "exact": exact,
    "normalised": normalised,
}
