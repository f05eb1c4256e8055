"""Exact match as SQuAD's official evaluation computes it (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(answer: str) -> str:
    """Lower case, without punctuation, articles and needless white space.

    >>> normalised("The  10th and 11th centuries.")
    '10th and 11th centuries'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1.0 where the answer equals one of the gold answers, normalised; no gold answer: where it is empty.

    >>> exact_match("the Normans", ["Normans"]), exact_match("", []), exact_match("Normans", [])
    (1.0, 1.0, 0.0)
    """
    return float(normalised(answer) in ({normalised(one) for one in gold} or {""}))
