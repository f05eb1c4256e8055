"""When two answers of a language model say the same: what self-consistency and semantic entropy count by.

An equivalence is any function `equivalent(a, b) -> bool` that does not depend on the order of its two answers.
Answers are texts; the label that was read from one is compared by `==`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from bisupervised.errors import ConfigError, EvidenceError
from bisupervised.records import AnyArray

Equivalence: TypeAlias = Callable[[Any, Any], bool]

_ARTICLES = frozenset({"a", "an", "the"})
#: Punctuation, except what makes a number another one: 3.5 is not 35, and -5 is not 5.
_PUNCTUATION = re.compile(r"(?!(?<!\w)[-−]\d)(?:(?<!\d)[^\w\s]|[^\w\s](?!\d)|_)")
#: Texts whose embedding is kept: an answer is compared with every one of its samples.
_EMBEDDINGS_KEPT = 1024


def normal_words(text: str) -> list[str]:
    """The words of a text without case, punctuation and articles, as SQuAD compares answers.

    Here a number keeps its sign and its point, and a text of nothing else keeps its words: the answer "A" is not
    the answer "The".

    >>> normal_words("The  Eiffel-Tower!"), normal_words("-3.5 %.")
    (['eiffeltower'], ['-3.5'])
    """
    words = _PUNCTUATION.sub("", text.casefold()).split()
    return [word for word in words if word not in _ARTICLES] or words or text.casefold().split()


def exact(a: Any, b: Any) -> bool:
    """The same text, or the same label.

    >>> exact("Paris", "Paris"), exact("Paris", "paris")
    (True, False)
    """
    return bool(a == b)


def normalised(a: Any, b: Any) -> bool:
    """The same words in the same order, whatever their case, punctuation, articles and white space.

    >>> normalised("The Eiffel Tower.", " eiffel\\ttower")
    True
    """
    if isinstance(a, str) and isinstance(b, str):
        return a == b or normal_words(a) == normal_words(b)
    return exact(a, b)


@dataclass(frozen=True, slots=True)
class TokenF1:
    """F1 of the words in common, as `normal_words` sees them, is at least `min` in (0, 1]. Order does not count.

    >>> TokenF1(0.8)("Paris, in the north of France", "north of France, in Paris"), TokenF1(0.8)("Paris", "Lyon")
    (True, False)
    """

    min: float

    def __post_init__(self) -> None:
        if not 0.0 < self.min <= 1.0:
            raise EvidenceError(f"token_f1: min is in (0, 1], not {self.min}")

    def __call__(self, a: Any, b: Any) -> bool:
        if not (isinstance(a, str) and isinstance(b, str)):
            return exact(a, b)
        words_a, words_b = normal_words(a), normal_words(b)
        if not words_a or not words_b:
            return words_a == words_b
        common = sum((Counter(words_a) & Counter(words_b)).values())
        return 2 * common >= self.min * (len(words_a) + len(words_b))


@dataclass(frozen=True)
class Cosine:
    """The cosine of the two texts' embeddings is at least `min` in [-1, 1].

    `embed(text)` gives a vector, always of the same length; each text is embedded once, as long as it is among
    the last thousand. A vector of zeros, or with NaN, is like nothing but the same text.

    >>> Cosine({"good": [1.0, 0.1], "fine": [1.0, 0.0], "bad": [-1.0, 0.2]}.get, 0.9)("good", "fine")
    True
    """

    embed: Callable[[str], Any]
    min: float

    def __post_init__(self) -> None:
        if not -1.0 <= self.min <= 1.0:
            raise EvidenceError(f"cosine: min is in [-1, 1], not {self.min}")
        object.__setattr__(self, "_direction", lru_cache(_EMBEDDINGS_KEPT)(self._embedded))

    def __call__(self, a: Any, b: Any) -> bool:
        if not (isinstance(a, str) and isinstance(b, str)):
            return exact(a, b)
        if a == b:
            return True
        direction: Callable[[str], AnyArray] = self._direction  # type: ignore[attr-defined]
        return float(direction(a) @ direction(b)) >= self.min

    def _embedded(self, text: str) -> AnyArray:
        vector = np.asarray(self.embed(text), dtype=np.float64).reshape(-1)
        length = float(np.linalg.norm(vector))
        return vector / length if 0.0 < length < math.inf else np.full_like(vector, np.nan)


def equivalence_of(setting: Any, load: Callable[[str], Any] | None = None) -> Equivalence:
    """The equivalence that a configuration file names. Raises `ConfigError`.

    `"exact"`, `"normalised"`, `{"token_f1": 0.8}`, `{"cosine": 0.9, "embed": "module:attribute"}`, or
    `"module:attribute"` for any function of two answers, such as a model of entailment asked both ways. `load`
    gives the object that a `module:attribute` names.

    >>> equivalence_of({"token_f1": 0.8})
    TokenF1(min=0.8)
    """
    if callable(setting):
        found: Equivalence = setting
        return found
    if isinstance(setting, str):
        if setting in _BY_NAME:
            return _BY_NAME[setting]
        if ":" in setting:
            return _loaded(setting, load)
    if isinstance(setting, Mapping):
        try:
            if set(setting) == {"token_f1"}:
                return TokenF1(float(setting["token_f1"]))
            if set(setting) == {"cosine", "embed"}:
                return Cosine(_loaded(setting["embed"], load), float(setting["cosine"]))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"equivalence {dict(setting)!r}: {error}") from error
    raise ConfigError(
        f"equivalence is 'exact', 'normalised', {{ token_f1 = 0.8 }}, {{ cosine = 0.9, embed = 'module:attribute' }} "
        f"or 'module:attribute', not {setting!r}"
    )


_BY_NAME: Mapping[str, Equivalence] = {"exact": exact, "normalised": normalised}


def _loaded(name: Any, load: Callable[[str], Any] | None) -> Callable[..., Any]:
    loaded = name if callable(name) else None if load is None else load(str(name))
    if not callable(loaded):
        raise ConfigError(f"{name!r} is no function; a function is named as module:attribute")
    function: Callable[..., Any] = loaded
    return function
