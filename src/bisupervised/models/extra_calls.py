"""The further calls that some evidence takes: k sampled answers, and the question whether the answer is true.

No I/O here: the bodies of the requests are made from the first one's, and their replies are read, by whoever
sends them. `OpenAIModel` does, and so does the gateway.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.models.openai_reply import Prices, Route, Usage, read_answer, read_usage
from bisupervised.quantifiers import Quantifier
from bisupervised.records import Evidence, FloatArray, ModelOutput

#: Kadavath et al., "Language Models (Mostly) Know What They Know", 2022.
VERIFICATION_PROMPT: Final = (
    "Question: {question}\nProposed answer: {answer}\nIs the proposed answer:\n(A) True\n(B) False\n"
    "The proposed answer is:"
)
#: Stands for the reply to a call that failed and costs nothing: never sent, or answered with an error status.
NOT_CHARGED: Final[Mapping[str, Any]] = {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}

#: The most alternatives that the API allows on each route.
_MOST_ALTERNATIVES: Final[Mapping[str, int]] = {"chat": 20, "completions": 5}
#: Fields of the first request that no further one has: how it is streamed, sampled, and answered by tools.
_LEFT_OUT: Final = frozenset(
    ("stream_options", "n", "best_of", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
) | {"temperature", "top_p", "top_k", "min_p", "logprobs", "top_logprobs", "echo", "store"}
#: And those that would bend the answer to the question whether the answer is true.
_LEFT_OUT_OF_VERIFICATION: Final = frozenset(
    ("stop", "suffix", "response_format", "logit_bias", "presence_penalty", "frequency_penalty", "prediction")
) | {"seed", "max_tokens", "max_completion_tokens", "grammar", "json_schema"}
_TRUE, _FALSE = frozenset({"true", "yes"}), frozenset({"false", "no"})


@dataclass(frozen=True, slots=True)
class ExtraCalls:
    """Which further calls are made about each answer.

    `samples` further answers to the same request are drawn at `sample_temperature` (None: the server's own), each
    by a call of its own, since servers differ in what they make of `n`; nucleus and top-k sampling of the first
    request are left out. With `logprobs` their tokens' log-probabilities are asked for, which the weighted
    semantic entropy needs. With `self_verification` the model is asked whether its answer is true:
    `verification_prompt` with `{question}` and `{answer}` filled in, and the reply's first token read.
    """

    samples: int = 0
    self_verification: bool = False
    sample_temperature: float | None = 1.0
    logprobs: bool = True
    verification_prompt: str = VERIFICATION_PROMPT

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise InputError(f"samples is how many further answers are drawn, 0 or more, not {self.samples}")
        if self.sample_temperature is not None and not self.sample_temperature >= 0.0:
            raise InputError(f"sample_temperature is a number from 0 on, not {self.sample_temperature}")
        if self.samples > 1 and self.sample_temperature == 0.0:
            raise InputError("at sample_temperature 0 every sample is the same: 1 is usual")
        if "{answer}" not in self.verification_prompt:
            raise InputError("verification_prompt must contain {answer}, and usually {question}")

    @classmethod
    def of(cls, quantifier: Quantifier, settings: Mapping[str, Any]) -> ExtraCalls:
        """Those that a quantifier's evidence takes, and whatever further ones a level's settings ask for.

        `settings` may hold `samples`, `self_verification`, `sample_temperature` and `verification_prompt`; other
        keys are not looked at.
        """
        given = {
            name: settings[name]
            for name in ("samples", "self_verification", "sample_temperature", "verification_prompt")
            if name in settings
        }
        if quantifier.needs is Evidence.SAMPLES:
            given["samples"] = quantifier.extra_calls
        elif quantifier.needs is Evidence.P_TRUE:
            given["self_verification"] = True
        return cls(**given)

    @property
    def count(self) -> int:
        """How many calls there are for each answer."""
        return self.samples + self.self_verification

    # ------------------------------------------------------------ what is sent

    def bodies(self, body: Mapping[str, Any], answer: str, route: Route) -> list[dict[str, Any]]:
        """The further requests about an answer: the samples, then the verification.

        `body` is the first request as it was sent. Raises `InputError` for a prompt that is no text.
        """
        asked = self.sample_bodies(body, route)
        if self.self_verification:
            asked.append(self.verification_body(body, answer, route))
        return asked

    def sample_bodies(self, body: Mapping[str, Any], route: Route) -> list[dict[str, Any]]:
        """The requests for samples; they do not depend on the answer. Each has its own seed if `body` has one."""
        common = {field: value for field, value in body.items() if field not in _LEFT_OUT}
        common["stream"] = False
        if self.sample_temperature is not None:
            common["temperature"] = self.sample_temperature
        if self.logprobs:
            common["logprobs"] = True if route == "chat" else 1
        seed = body.get("seed")
        if not isinstance(seed, int):
            return [dict(common) for _ in range(self.samples)]
        return [common | {"seed": seed + 1 + number} for number in range(self.samples)]

    def verification_body(self, body: Mapping[str, Any], answer: str, route: Route) -> dict[str, Any]:
        """The request whether an answer is true: one token, with its likeliest alternatives.

        On the chat route the question takes the place of the last user message; what came before stays. It is
        asked at temperature 1: a server that applies it to log-probabilities leaves them as they are.
        """
        unwanted = _LEFT_OUT | _LEFT_OUT_OF_VERIFICATION
        asked = {field: value for field, value in body.items() if field not in unwanted}
        asked |= {"stream": False, "temperature": 1.0}
        asked["max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"] = 1
        most = _MOST_ALTERNATIVES[route]
        if route == "chat":
            asked["messages"] = self._verification_messages(body["messages"], answer)
            return asked | {"logprobs": True, "top_logprobs": most}
        asked["prompt"] = self._verification_text(_prompt_text(body["prompt"]), answer)
        return asked | {"logprobs": most}

    def _verification_messages(self, messages: Sequence[Mapping[str, Any]], answer: str) -> list[Any]:
        last = next(
            (place for place in reversed(range(len(messages))) if messages[place].get("role") == "user"), None
        )
        if last is None:
            return [*messages, {"role": "user", "content": self._verification_text("", answer)}]
        content = messages[last].get("content")
        parts = content if isinstance(content, list) else []
        others = [part for part in parts if part.get("type") != "text"]
        question = "".join(part["text"] for part in parts if part.get("type") == "text") if parts else content or ""
        text = self._verification_text(question, answer)
        asked = {"role": "user", "content": [*others, {"type": "text", "text": text}] if others else text}
        # What came after the last user message are calls of tools and what they gave: it stays before the question.
        before = messages[:last] if last == len(messages) - 1 else messages
        return [*before, asked]

    def _verification_text(self, question: str, answer: str) -> str:
        filled = {"question": question, "answer": answer.strip()}
        return re.sub(r"\{(question|answer)\}", lambda match: filled[match[1]], self.verification_prompt)

    # ------------------------------------------------------------ what comes back

    def evidence(self, replies: Sequence[Mapping[str, Any] | None]) -> Extra:
        """What the replies to `bodies` say, in their order.

        None is a call that failed and may have been charged, `NOT_CHARGED` one that failed and was not: their
        evidence is absent, and the answer is none the worse. No replies at all stand for calls that were not made,
        because there was no answer to ask about.
        """
        if replies and len(replies) != self.count:
            raise InputError(f"there are {self.count} further calls for each answer, and {len(replies)} replies")
        drawn = [read_answer(reply) for reply in replies[: self.samples]]
        logprobs = [answer.token_logprobs for answer in drawn]
        return Extra(
            samples=tuple(answer.text for answer in drawn) if self.samples else None,
            sample_logprobs=np.array([row.sum() if len(row) else math.nan for row in logprobs], dtype=np.float64),
            sample_lengths=np.array([len(row) or math.nan for row in logprobs], dtype=np.float64),
            p_true=self._p_true(replies) if self.self_verification else None,
            usages=tuple(read_usage(reply) for reply in replies),
        )

    def _p_true(self, replies: Sequence[Mapping[str, Any] | None]) -> float:
        if not replies or replies[-1] is None:
            return math.nan
        tokens = read_answer(replies[-1]).tokens
        return p_true_in(tokens[0].alternatives) if tokens else math.nan


def p_true_in(alternatives: Mapping[str, float]) -> float:
    """The share of True among the mass of True and False in a token's alternatives; NaN where neither is.

    `A`, `True` and `Yes` stand for True, `B`, `False` and `No` for False; the letters as capitals only. The
    alternatives are the likeliest few: where no word for False is among them, it may be as likely as the least of
    them, and counts so. A model that answers something else altogether is then not taken for a certain one.

    >>> round(p_true_in({" True": math.log(0.6), "(B": math.log(0.2), " a": math.log(0.1)}), 6)
    0.75
    >>> round(p_true_in({"The": math.log(0.5), "A": math.log(0.03), "Hm": math.log(0.01)}), 6)
    0.75
    """
    true = false = 0.0
    for token, logprob in alternatives.items():
        word = token.strip(" \n\t()[].,:*\"'▁Ġ")
        if word == "A" or word.casefold() in _TRUE:
            true += math.exp(logprob)
        elif word == "B" or word.casefold() in _FALSE:
            false += math.exp(logprob)
    if true > 0.0 and false == 0.0:
        false = math.exp(min(alternatives.values()))
    return true / (true + false) if true + false > 0.0 else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """What the further calls about one answer say, and what they used."""

    samples: tuple[str | None, ...] | None  #: None among them: one that failed or holds no text; None: not asked for
    sample_logprobs: FloatArray  #: (samples,) NaN: not known
    sample_lengths: FloatArray  #: (samples,) tokens; NaN: not known
    p_true: float | None  #: NaN: not known; None: not asked for
    usages: tuple[Usage, ...]  #: of each call that was made; NaN in it: not known

    @property
    def calls(self) -> int:
        """How many further calls were made."""
        return len(self.usages)

    def cost(self, prices: Prices) -> float:
        """Currency units for all of them; NaN when one's is not known."""
        return math.fsum(prices.cost(usage) for usage in self.usages)

    def added_to(self, output: ModelOutput, read: Callable[[str], Any] | None = None) -> ModelOutput:
        """An output of one row with this evidence, its calls and its tokens; cost and latency are the caller's.

        `read` is what made the prediction of the answer's text: each sample is read by it too, and is None where
        it raises. By default the text is stripped of surrounding white space.
        """
        given = () if self.samples is None else self.samples
        samples = tuple(None if text is None else _read(text, read) for text in given)
        return replace(
            output,
            samples=None if self.samples is None else [samples],
            sample_logprobs=None if self.samples is None else [self.sample_logprobs],
            sample_lengths=None if self.samples is None else [self.sample_lengths],
            p_true=None if self.p_true is None else np.array([self.p_true]),
            extra_calls=np.array([float(self.calls)]),
            prompt_tokens=_sum(output.prompt_tokens, [usage.prompt for usage in self.usages]),
            completion_tokens=_sum(output.completion_tokens, [usage.completion for usage in self.usages]),
        )


def _read(text: str, read: Callable[[str], Any] | None) -> Any:
    text = text.strip()
    if read is None:
        return text
    try:
        return read(text)
    except Exception:  # somebody's function; it tells about the answer itself
        return None


def _sum(first: FloatArray | None, further: Sequence[float]) -> FloatArray | None:
    return None if first is None else np.asarray(first + math.fsum(further))


def _prompt_text(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise InputError("self-verification needs the prompt as text, not as tokens or several texts")
    return prompt
