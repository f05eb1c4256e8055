"""Reading the replies of OpenAI-compatible endpoints: text, token log-probabilities, usage.

Servers differ. The chat route gives `logprobs.content[i].{token, logprob, top_logprobs[]}`, the completions
route `logprobs.{tokens, token_logprobs, top_logprobs[{}]}`; llama.cpp gives the first shape on both routes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from bisupervised.errors import InputError, ReplyUnreadable
from bisupervised.records import FloatArray

#: The API's two routes to a completion.
Route: TypeAlias = Literal["chat", "completions"]
#: What a reply is. `tool_call`: it calls a tool or a function, and may hold text too; `refusal`: the model, or a
#: filter before it, refuses; `empty`: a completion without text; `unreadable`: no completion.
ReplyKind: TypeAlias = Literal["text", "tool_call", "refusal", "empty", "unreadable"]


class Token(NamedTuple):
    """One token of an answer. Log-probabilities are natural; NaN: not given."""

    text: str
    logprob: float
    alternatives: Mapping[str, float]  #: token -> log-probability, as given; empty when not given

    @property
    def with_itself(self) -> Mapping[str, float]:
        """The alternatives and the token that was written, also when it is not among the likeliest."""
        return dict(self.alternatives) if math.isnan(self.logprob) else {self.text: self.logprob, **self.alternatives}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request used; NaN: the reply does not say."""

    prompt: float = math.nan
    completion: float = math.nan
    cached: float = 0.0  #: of the prompt's tokens, those read from the provider's cache


@dataclass(frozen=True, slots=True)
class Prices:
    """Currency units for a million tokens. `cached` (default: `prompt`) is that of cached prompt tokens."""

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for price in (self.prompt, self.completion, self.cached):
            if price is not None and not (math.isfinite(price) and price >= 0.0):
                raise InputError(f"a price is a number, 0 or above, not {price}")

    def cost(self, usage: Usage) -> float:
        """Currency units; NaN when the usage is not known.

        >>> Prices(prompt=2.5, completion=10.0, cached=1.25).cost(Usage(prompt=1000, completion=100, cached=400))
        0.003
        """
        cached = min(usage.cached, usage.prompt) if usage.cached > 0.0 else 0.0
        cached_price = self.prompt if self.cached is None else self.cached
        total = (usage.prompt - cached) * self.prompt + cached * cached_price + usage.completion * self.completion
        return total / 1e6


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says: the text, or why there is none (`problem`), its tokens and its usage."""

    text: str | None
    tokens: Sequence[Token] = ()
    usage: Usage = field(default_factory=Usage)
    problem: str | None = None
    kind: ReplyKind = "text"
    choices: int = 1  #: how many the reply holds; the first one is read
    finish_reason: str | None = None  #: as the server says it: `stop`, `length`, `tool_calls`, `content_filter`, …

    @property
    def no_logprobs(self) -> bool:
        """Whether the reply holds no token's log-probability: nothing for a quantifier that reads them."""
        return all(math.isnan(token.logprob) for token in self.tokens)

    @property
    def token_logprobs(self) -> FloatArray:
        """(tokens,) natural logarithms, NaN where one is not given; empty when none is."""
        return np.array([token[1] for token in self.tokens], dtype=np.float64)

    @property
    def top_logprobs(self) -> Mapping[str, float]:
        """token -> natural log-probability at the first token that is not white space; empty when not given.

        The token that was written counts as one of the alternatives, also when it is not among the likeliest.
        """
        first = next((token for token in self.tokens if token.text.strip()), None)
        if first is None or not first.alternatives:
            return {}
        return first.with_itself

    @property
    def token_alternatives(self) -> FloatArray:
        """(tokens, k) natural log-probabilities of each token's alternatives, the written one among them.

        NaN where a token has fewer than k; empty when no token's alternatives are given.
        """
        rows = [list(token.with_itself.values()) if token.alternatives else [] for token in self.tokens]
        k = max(map(len, rows), default=0)
        if not k:
            return np.empty((0, 0))
        return np.array([row + [math.nan] * (k - len(row)) for row in rows], dtype=np.float64)


def read_answer(reply: Any) -> Answer:
    """The answer in a reply. A reply without a readable text keeps its usage and says what is wrong.

    Of several choices the first is read. What a model thinks before it answers (`reasoning_content`) is no answer.
    """
    usage = read_usage(reply)
    try:
        choice, choices = reply["choices"][0], len(reply["choices"])
        tokens = read_tokens(choice.get("logprobs"))
        text, kind = _text(choice), _kind(choice)
        reason = choice.get("finish_reason")
    except ReplyUnreadable as error:
        return Answer(None, usage=usage, problem=str(error), kind="unreadable")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        problem = f"the reply has not the shape of a completion ({type(error).__name__}: {error})"
        return Answer(None, usage=usage, problem=problem, kind="unreadable")
    reason = reason if isinstance(reason, str) else None
    if text is not None:
        kind = "tool_call" if kind == "tool_call" else "text"
        return Answer(text, tokens, usage, kind=kind, choices=choices, finish_reason=reason)
    problem = f"{_WITHOUT_TEXT[kind]} (finish_reason: {str(reason)[:40]})"
    return Answer(None, tokens, usage, problem, kind, choices, reason)


_WITHOUT_TEXT: Mapping[str, str] = {
    "tool_call": "the reply calls a tool and holds no text",
    "refusal": "the reply is a refusal and holds no text",
    "empty": "the reply holds no text",
}


def _text(choice: Mapping[str, Any]) -> str | None:
    """The text; None when there is none but white space."""
    message = choice.get("message")
    text = choice["text"] if message is None else message.get("content")
    if isinstance(text, list):  # a few servers send the content in parts
        text = "".join(part["text"] for part in text if part.get("type", "text") == "text")
    if text is not None and not isinstance(text, str):
        raise ReplyUnreadable(f"the reply's content is no text: {type(text).__name__}")
    return text if text and text.strip() else None


def _kind(choice: Mapping[str, Any]) -> ReplyKind:
    """What a choice is, apart from its text."""
    message = choice.get("message") or {}
    if message.get("tool_calls") or message.get("function_call"):
        return "tool_call"
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    if message.get("refusal") or any(part.get("type") == "refusal" for part in parts):
        return "refusal"
    return "refusal" if choice.get("finish_reason") == "content_filter" else "empty"


def read_tokens(logprobs: Any) -> list[Token]:
    """The tokens of an answer in either shape; none when the reply has no log-probabilities."""
    if not logprobs:
        return []
    if logprobs.get("content") is not None:
        return [_chat_token(entry) for entry in logprobs["content"]]
    values = logprobs.get("token_logprobs") or []
    texts = logprobs.get("tokens") or [""] * len(values)
    tops = logprobs.get("top_logprobs") or [None] * len(values)
    return [
        Token(str(text), _logprob(value), {str(token): _logprob(p) for token, p in (top or {}).items()})
        for text, value, top in zip(texts, values, tops, strict=True)
    ]


#: No alternatives: what most tokens have, and share.
_NONE: Mapping[str, float] = MappingProxyType({})


def _chat_token(entry: Mapping[str, Any]) -> Token:
    given = entry.get("top_logprobs")
    if not given:
        return Token(str(entry["token"]), _logprob(entry.get("logprob")), _NONE)
    alternatives: dict[str, float] = {}
    for other in given:
        token, logprob = str(other["token"]), _logprob(other["logprob"])
        # Pieces of a character can look alike as text: together they have the mass of both.
        known = alternatives.get(token)
        alternatives[token] = logprob if known is None else float(np.logaddexp(known, logprob))
    return Token(str(entry["token"]), _logprob(entry.get("logprob")), alternatives)


def read_usage(reply: Any) -> Usage:
    """The usage of a reply, NaN where it says nothing. Knows OpenAI's names, DeepSeek's and Anthropic's."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    if not isinstance(usage, Mapping):
        return Usage()
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    usual = len(usage) == 3 and "total_tokens" in usage  # the names that everybody has, and no others
    if usual and type(prompt) is int and type(completion) is int and min(prompt, completion) >= 0:
        return Usage(float(prompt), float(completion))
    details = usage.get("prompt_tokens_details")
    given = details.get("cached_tokens") if isinstance(details, Mapping) else None
    cached = _first_count(given, usage.get("prompt_cache_hit_tokens"), usage.get("cache_read_input_tokens"))
    prompt = _count(usage.get("prompt_tokens"))
    if math.isnan(prompt):
        # Anthropic's own name is for the tokens that were neither read from the cache nor written to it.
        written = _first_count(usage.get("cache_creation_input_tokens"), 0)
        prompt = _count(usage.get("input_tokens")) + _first_count(cached, 0) + written
    completion = _first_count(usage.get("completion_tokens"), usage.get("output_tokens"))
    return Usage(prompt, completion, _first_count(cached, 0))


def _logprob(value: Any) -> float:
    """A natural log-probability, NaN for a missing one; `ReplyUnreadable` for one above 0, which is none."""
    if value is None:
        return math.nan
    if type(value) is float and value <= 1e-6:
        return value
    if float(value) > 1e-6:
        raise ReplyUnreadable(f"a log-probability of {float(value):.4g} is above 0: no logarithm of a probability")
    return float(value)


def _count(value: Any) -> float:
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if is_count else math.nan


def _first_count(*values: Any) -> float:
    """The first value that is a count; NaN when none is."""
    return next((count for value in values if not math.isnan(count := _count(value))), math.nan)
