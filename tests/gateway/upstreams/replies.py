"""What an OpenAI-compatible server says: completions, chunks of a stream, log-probabilities in both shapes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CREATED = 1_750_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    chat: bool
    model: str
    stream: bool
    include_usage: bool
    logprobs: bool
    top: int  #: alternatives for each token
    n: int  #: choices
    prompt: str
    tools: tuple[str, ...]  #: names

    @classmethod
    def of(cls, chat: bool, body: Mapping[str, Any]) -> Asked:
        wanted = body.get("logprobs")
        return cls(
            chat=chat,
            model=str(body.get("model", "")),
            stream=bool(body.get("stream")),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            logprobs=bool(wanted),
            top=int(body.get("top_logprobs") or 0) if chat else int(wanted or 0),
            n=int(body.get("n") or 1),
            prompt=_prompt(body),
            tools=tuple(str(tool.get("function", {}).get("name")) for tool in body.get("tools") or ()),
        )


def _prompt(body: Mapping[str, Any]) -> str:
    if "messages" not in body:
        prompt = body.get("prompt", "")
        return prompt if isinstance(prompt, str) else json.dumps(prompt)
    said = [message.get("content") for message in body["messages"]]
    return "\n".join(text if isinstance(text, str) else json.dumps(text) for text in said)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer as tokens with their natural log-probabilities, and what the reply says of its usage."""

    tokens: tuple[tuple[str, float], ...]
    prompt_tokens: int
    cached_tokens: int = 0
    usage: bool = True  #: whether the reply tells it
    shape: str = "route"  #: of the log-probabilities: that of the route | chat | completions | none

    @property
    def text(self) -> str:
        return "".join(token for token, _ in self.tokens)


def tokens_of(text: str, logprob: float) -> tuple[tuple[str, float], ...]:
    """Words with the white space before them.

    >>> tokens_of("yes it is", -0.1)
    (('yes', -0.1), (' it', -0.1), (' is', -0.1))
    """
    return tuple((token, logprob) for token in re.findall(r"\s*\S+|\s+", text))


def usage_of(said: Said, choices: int = 1) -> dict[str, Any]:
    written = len(said.tokens) * choices
    return {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": said.prompt_tokens + written,
        "prompt_tokens_details": {"cached_tokens": said.cached_tokens},
    }


def logprobs_of(tokens: tuple[tuple[str, float], ...], asked: Asked, shape: str) -> dict[str, Any] | None:
    """The log-probabilities of some tokens, or None when they are not asked for or not given."""
    if not asked.logprobs or shape == "none":
        return None
    in_chat_shape = asked.chat if shape == "route" else shape == "chat"
    if in_chat_shape:
        return {"content": [_chat_token(*token, asked.top) for token in tokens], "refusal": None}
    return {
        "tokens": [token for token, _ in tokens],
        "token_logprobs": [logprob for _, logprob in tokens],
        "top_logprobs": [dict(_alternatives(*token, asked.top)) for token in tokens],
        "text_offset": [0] * len(tokens),
    }


def _chat_token(token: str, logprob: float, top: int) -> dict[str, Any]:
    others = [
        {"token": other, "logprob": p, "bytes": list(other.encode())}
        for other, p in _alternatives(token, logprob, top)
    ]
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": others}


def _alternatives(token: str, logprob: float, top: int) -> list[tuple[str, float]]:
    rest = max(1.0 - math.exp(logprob), 1e-9)
    others = [(f" other{k}", math.log(rest / 2**k)) for k in range(1, top)]
    return [(token, logprob), *others][:top]


def completion(answers: list[Said], asked: Asked) -> dict[str, Any]:
    """A whole reply with one choice for each answer."""
    choices = [choice(index, said, asked) for index, said in enumerate(answers)]
    reply = frame(asked, "chat.completion" if asked.chat else "text_completion") | {"choices": choices}
    if answers[0].usage:
        reply["usage"] = usage_of(answers[0], len(answers))
    return reply


def choice(index: int, said: Said, asked: Asked) -> dict[str, Any]:
    content = {"message": message(content=said.text)} if asked.chat else {"text": said.text}
    logprobs = logprobs_of(said.tokens, asked, said.shape)
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": "stop"}


def message(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "refusal": None} | fields


def frame(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": "cmpl-upstream", "object": kind, "created": CREATED, "model": asked.model}


def tool_call(asked: Asked) -> dict[str, Any]:
    return {
        "id": "call_1",
        "type": "function",
        "function": {"name": asked.tools[0] if asked.tools else "lookup", "arguments": '{"city": "Bern"}'},
    }


def tool_call_reply(asked: Asked, said: Said) -> dict[str, Any]:
    called = {"index": 0, "message": message(tool_calls=[tool_call(asked)]), "logprobs": None}
    called["finish_reason"] = "tool_calls"
    return frame(asked, "chat.completion") | {"choices": [called], "usage": usage_of(said)}


def refusal_reply(asked: Asked, said: Said) -> dict[str, Any]:
    refused = {"index": 0, "message": message(refusal=said.text), "logprobs": None, "finish_reason": "stop"}
    return frame(asked, "chat.completion") | {"choices": [refused], "usage": usage_of(said)}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, framed; `tokens`: how many tokens of the answer it holds."""

    data: bytes
    tokens: int = 0


DONE = Event(b"data: [DONE]\n\n")


def event(value: Any, tokens: int = 0) -> Event:
    return Event(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n", tokens)


def chunk(
    asked: Asked, said: Said, delta: Mapping[str, Any], finish: str | None = None, **fields: Any
) -> dict[str, Any]:
    """One chunk with one choice; `delta` is the text itself on the completions route."""
    kind = "chat.completion.chunk" if asked.chat else "text_completion"
    content = {"delta": dict(delta)} if asked.chat else {"text": delta.get("content", "")}
    one = {"index": 0, **content, "logprobs": None, "finish_reason": finish} | fields
    told = {"usage": None} if asked.include_usage and said.usage else {}
    return frame(asked, kind) | {"choices": [one]} | told


def stream_of(said: Said, asked: Asked) -> list[Event]:
    """Role, tokens one by one, the end, the usage when it is asked for, `[DONE]`."""
    tokens = [
        event(chunk(asked, said, {"content": token[0]}, logprobs=logprobs_of((token,), asked, said.shape)), tokens=1)
        for token in said.tokens
    ]
    return [*opening(said, asked), *tokens, *ending(said, asked, "stop")]


def opening(said: Said, asked: Asked) -> list[Event]:
    return [event(chunk(asked, said, {"role": "assistant", "content": ""}))] if asked.chat else []


def ending(said: Said, asked: Asked, finish: str) -> list[Event]:
    kind = "chat.completion.chunk" if asked.chat else "text_completion"
    events = [event(chunk(asked, said, {}, finish))]
    if asked.include_usage and said.usage:
        events.append(event(frame(asked, kind) | {"choices": [], "usage": usage_of(said)}))
    return [*events, DONE]


def tool_call_stream(asked: Asked, said: Said) -> list[Event]:
    """The name first, then the arguments in two pieces."""
    called = tool_call(asked)
    arguments = called["function"]["arguments"]
    opened = {"index": 0, **called, "function": {"name": called["function"]["name"], "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (arguments[:6], arguments[6:])]
    deltas = [event(chunk(asked, said, {"tool_calls": [piece]}), tokens=1) for piece in (opened, *pieces)]
    return [*opening(said, asked), *deltas, *ending(said, asked, "tool_calls")]


def refusal_stream(asked: Asked, said: Said) -> list[Event]:
    deltas = [event(chunk(asked, said, {"refusal": token}), tokens=1) for token, _ in said.tokens]
    return [*opening(said, asked), *deltas, *ending(said, asked, "stop")]


def error_body(message: str, kind: str = "server_error", code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
