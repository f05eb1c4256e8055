"""What the demo says to its remote model, and how it reads the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from bisupervised.quantifiers import LabelProbability

#: Tokens, after folding, that stand for each label; some tokenisers begin the words with these pieces.
LABEL_TOKENS: Mapping[str, Sequence[str]] = {
    "negative": ["negative", "neg"],
    "positive": ["positive", "pos"],
}
LABEL_PROBABILITY = LabelProbability(LABEL_TOKENS)
TOP_LOGPROBS = 5
MAX_ANSWER_TOKENS = 3

_TASK = (
    "You judge film reviews. Say whether the writer liked the film: answer with the single word Positive or the "
    "single word Negative, and nothing else."
)
_EXAMPLES = (
    ("I expected little and was won over within minutes. Warm, sharp, and over far too soon.", "Positive"),
    ("Two hours of my life spent on a plot that a trailer could have told. Even the music gave up.", "Negative"),
)
_BEFORE, _AFTER = "<review>\n", "\n</review>"


def messages_of(review: str) -> list[dict[str, str]]:
    """The few-shot prompt for one review, as chat messages."""
    messages = [{"role": "system", "content": _TASK}]
    for example, answer in _EXAMPLES:
        messages += [{"role": "user", "content": _question(example)}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": _question(review)}]


def _question(review: str) -> str:
    return f"{_BEFORE}{review}{_AFTER}\nPositive or Negative?"


def review_in(question: str) -> str:
    """The review in a question; all of it when it is another kind of question.

    >>> review_in(messages_of("Fine.")[-1]["content"])
    'Fine.'
    """
    start, end = question.find(_BEFORE), question.rfind(_AFTER)
    return question[start + len(_BEFORE) : end] if 0 <= start < end else question


def read_label(answer: str) -> str | None:
    """The label that an answer's first word stands for, or None.

    >>> read_label(" Positive."), read_label("I cannot tell")
    ('positive', None)
    """
    word = re.search(r"\w+", answer)
    label: str | None = LABEL_PROBABILITY.label_of(word.group()) if word else None
    return label


def tokens_in(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens messages have, by the rule of thumb of four characters a token."""
    return math.ceil(sum(len(message["content"]) for message in messages) / 4)
