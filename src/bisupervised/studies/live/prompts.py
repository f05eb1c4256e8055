"""How a language model is asked what a study's classifier is: the classes are named, and one is to be written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.models.openai import OpenAIModel
from bisupervised.quantifiers import LabelProbability
from bisupervised.records import AnyArray, Evidence, ModelOutput

#: Texts are cut to so many characters, about 2,000 tokens.
MAX_CHARACTERS: Final = 8_000
TOP_LOGPROBS: Final = 10
MAX_TOKENS: Final = 3


@dataclass(frozen=True)
class Prompt:
    """A task in words, the label that each class's word stands for, and the text of an input."""

    task: str
    words: Mapping[str, Any]  #: word -> label
    text_of: Callable[[Any], str] = str

    def messages(self, x: Any) -> list[dict[str, str]]:
        """The conversation about one input."""
        *first, last = self.words
        answer = f"Answer with one word, {', '.join(first)} or {last}, and nothing else."
        return [
            {"role": "system", "content": f"{self.task} {answer}"},
            {"role": "user", "content": self.text_of(x)[:MAX_CHARACTERS]},
        ]

    def read_label(self, answer: str) -> Any:
        """The label of an answer's first word; None for an answer that is none.

        >>> PROMPTS["imdb"].read_label(" Positive."), PROMPTS["imdb"].read_label("I cannot tell")
        (1, None)
        """
        word = re.search(r"\w+", answer)
        return self.words.get(word.group().lower()) if word else None


def issue_text(issue: Mapping[str, str]) -> str:
    """The title and the body."""
    return f"{issue['title']}\n\n{issue['body']}"


PROMPTS: Final[Mapping[str, Prompt]] = {
    "imdb": Prompt("You judge film reviews: did the writer like the film?", {"negative": 0, "positive": 1}),
    "issues": Prompt(
        "You sort issues of software projects: does this one report a bug, ask for a feature, or ask a question?",
        {"bug": "bug", "feature": "feature", "question": "question"},
        issue_text,
    ),
}


class LabelledAnswers:
    """A language model asked with a `Prompt`, as a classifier.

    Its class probabilities are those of the words at the answer's first token, divided by their sum: how sure among
    the classes. NaN where an endpoint gives no alternatives, or none of them is a class's word.
    """

    max_batch = 1

    def __init__(self, model: OpenAIModel, prompt: Prompt) -> None:
        self._model = model
        self._words: dict[Any, Sequence[str]] = {label: [word] for word, label in prompt.words.items()}
        self._read = LabelProbability(self._words)
        self.name = model.name
        self.provides = model.provides | {Evidence.PROBABILITIES}

    async def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for one input. Raises a `ModelError`."""
        output = await self._model.predict(inputs)
        classes = np.empty(len(self._words), dtype=object)
        classes[:] = list(self._words)
        return replace(output, probabilities=self._probabilities(output), classes=classes)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._model.aclose()

    def _probabilities(self, output: ModelOutput) -> AnyArray:
        """(n, classes), each row divided by its sum."""
        mass = np.full((len(output), len(self._words)), np.nan)
        for column, label in enumerate(self._words):
            answers = np.empty(len(output), dtype=object)
            answers[:] = [label] * len(output)
            with suppress(EvidenceError):  # what is no logarithm of a probability is no evidence
                mass[:, column] = self._read(replace(output, predictions=answers))
        total = mass.sum(axis=1, keepdims=True)
        probabilities: AnyArray = np.divide(mass, total, out=np.full(mass.shape, np.nan), where=total > 0.0)
        return probabilities
