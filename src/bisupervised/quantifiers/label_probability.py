"""Label probability: how much of a language model's next-token mass stands for the label it chose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput


def _fold(token: str) -> str:
    return token.strip().lower()


@dataclass(frozen=True, eq=False)
class LabelProbability:
    """confidence = sum of the probabilities of all tokens that stand for the predicted label, in [0, 1].

    Several tokens stand for one label: `{"positive": ["positive", "pos", "yes"]}`. Tokens are compared after
    `fold` (default: white space stripped, lower case), so `" Positive"` counts too. This is what the paper does
    for GPT-3 on IMDB; there, three of each label's words are written with capitals and compared to lower-cased
    tokens, so they never match (`fold` is applied to both sides here).

    With `normalise=True` the sum is divided by the mass of all labels' tokens: how sure among the labels,
    whatever else the model might have written. A prediction that is none of the labels, and an output without
    alternatives, gives NaN.

    >>> q = LabelProbability({1: ["positive", "yes"], 0: ["negative", "no"]})
    >>> top = [{" Positive": math.log(0.6), " yes": math.log(0.2), " Negative": math.log(0.1)}]
    >>> q(ModelOutput(np.array([1]), top_logprobs=top)).round(6)
    array([0.8])
    """

    labels: Mapping[Any, Sequence[str]]
    normalise: bool = False
    fold: Callable[[str], str] = _fold
    name: ClassVar[str] = "label_probability"
    needs: ClassVar[Evidence] = Evidence.TOP_LOGPROBS
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        seen: dict[str, Any] = {}
        for label, tokens in self.labels.items():
            if isinstance(tokens, str) or not tokens:
                raise EvidenceError(f"label {label!r} needs a list of at least one token, not {tokens!r}")
            for token in map(self.fold, tokens):
                if seen.setdefault(token, label) != label:
                    raise EvidenceError(f"the token {token!r} stands for both {seen[token]!r} and {label!r}")
        object.__setattr__(self, "_label_of", seen)

    def label_of(self, token: str) -> Any:
        """The label a token stands for, or None."""
        label_of: dict[str, Any] = self._label_of  # type: ignore[attr-defined]
        return label_of.get(self.fold(token))

    def __call__(self, output: ModelOutput) -> FloatArray:
        if output.top_logprobs is None:
            raise EvidenceError(
                "the model output holds no log-probabilities of alternative tokens; ask the endpoint for them "
                "(top_logprobs = 5 or more)"
            )
        if len(output.top_logprobs) != len(output):
            raise EvidenceError(f"top_logprobs has {len(output.top_logprobs)} rows for {len(output)} predictions")
        return np.array(
            [
                self._score(prediction, alternatives)
                for prediction, alternatives in zip(output.predictions, output.top_logprobs, strict=True)
            ],
            dtype=np.float64,
        )

    def _score(self, prediction: Any, alternatives: Mapping[str, Any]) -> float:
        if prediction is None or prediction not in self.labels or not alternatives:
            return float("nan")
        mass = dict.fromkeys(self.labels, 0.0)
        for token, logprob in alternatives.items():
            if logprob is None:
                return float("nan")  # a server's null: not known
            if logprob > 1e-6:
                raise EvidenceError(
                    f"the log-probability {logprob:.4g} of the token {token!r} is above 0: these are not natural "
                    f"logarithms of probabilities"
                )
            label = self.label_of(token)
            if label is not None:
                mass[label] += math.exp(logprob)
        chosen = mass[prediction]
        if self.normalise:
            total = sum(mass.values())
            return chosen / total if total > 0.0 else float("nan")
        return min(chosen, 1.0)
