"""What an upstream can do to a request: one function for each kind, found by its name.

A behaviour is a kind with options, as text `kind?option=value&option=value` or as a mapping
`{"kind": "503", "first": 2}`. Kinds that hold for a whole reply and for a stream do the one or the other,
as the request asks.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import parse_qsl

from gateway.upstreams.replies import (
    DONE,
    Asked,
    Event,
    Said,
    completion,
    error_body,
    event,
    refusal_reply,
    refusal_stream,
    stream_of,
    tokens_of,
    tool_call_reply,
    tool_call_stream,
    usage_of,
)

#: The options of every behaviour, with their defaults.
OPTIONS: dict[str, Any] = {
    "text": "positive",
    "texts": None,  #: `a|b`: the answers of the choices when n > 1, in turn
    "tokens": None,  #: [[token, log-probability], …] instead of `text`
    "logprob": -0.05,  #: of every token of `text`
    "shape": "route",  #: of the log-probabilities: route | chat | completions | none
    "prompt_tokens": 10,
    "cached_tokens": 0,
    "usage": True,
    "latency_s": 0.0,  #: before the head of a reply that has one
    "delay_s": 0.0,  #: before each token of a stream
    "first": None,  #: only for so many requests, `ok` afterwards
    "after": 2,  #: tokens of a stream before the fault
    "stall_s": 10.0,
    "code": 0,
    "retry_after": None,  #: the header's value, in seconds or as a date
    "message": None,  #: of an error
    "mb": 20.0,
    "location": "/v1/elsewhere",
    "gzip": False,  #: compress whole replies for those who accept it
    "byte_delay_s": 0.0,
    "terminate": True,  #: whether a cut stream still ends as the chunked coding demands
    "comments": False,  #: a comment line before every event, as some providers send to keep a connection
}

Function = Callable[["Exchange"], Awaitable[None]]
KINDS: dict[str, Function] = {}
#: They end before any token is made, and cost nothing.
FREE = {"status", "html", "redirect", "reset_before_read"}


def kind(*names: str) -> Callable[[Function], Function]:
    def named(function: Function) -> Function:
        KINDS.update(dict.fromkeys(names, function))
        return function

    return named


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A kind with its options."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: str | Mapping[str, Any]) -> Behaviour:
        """Raises ValueError for an unknown kind or option."""
        if isinstance(given, str):
            name, _, query = given.partition("?")
            options = {key: _value(value) for key, value in parse_qsl(query, keep_blank_values=True)}
        else:
            options = dict(given)
            name = str(options.pop("kind", "ok"))
        if name.isdigit():
            name, options = "status", {"code": int(name)} | options
        if name not in KINDS:
            raise ValueError(f"there is no behaviour {name!r}; there are: {', '.join(sorted(KINDS))}")
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; there are: {', '.join(OPTIONS)}")
        return cls(name, options)

    def __getitem__(self, option: str) -> Any:
        return self.options.get(option, OPTIONS[option])

    @property
    def key(self) -> str:
        return json.dumps([self.kind, dict(self.options)], sort_keys=True)


def is_behaviour(name: str) -> bool:
    """Whether a model's name is that of a behaviour."""
    name = name.partition("?")[0]
    return name in KINDS or (name.isdigit() and len(name) == 3)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Link(Protocol):
    """The connection, as a behaviour sees it."""

    async def send(self, data: bytes) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Exchange:
    """One request and its connection."""

    link: Link
    method: str
    path: str
    headers: Mapping[str, str]  #: names in lower case
    body: bytes
    asked: Asked
    behaviour: Behaviour
    bill: Callable[[int], None]  #: takes the tokens that were just written

    @property
    def said(self) -> Said:
        return self._answer(self.behaviour["text"])

    @property
    def answers(self) -> list[Said]:
        texts = str(self.behaviour["texts"] or self.behaviour["text"]).split("|")
        return [self._answer(texts[index % len(texts)]) for index in range(self.asked.n)]

    def _answer(self, text: Any) -> Said:
        given = self.behaviour["tokens"]
        tokens = tuple(map(tuple, given)) if given else tokens_of(str(text), float(self.behaviour["logprob"]))
        return Said(
            tokens,
            prompt_tokens=int(self.behaviour["prompt_tokens"]),
            cached_tokens=int(self.behaviour["cached_tokens"]),
            usage=bool(self.behaviour["usage"]),
            shape=str(self.behaviour["shape"]),
        )

    def seen_as(self, **options: Any) -> Exchange:
        """The same exchange with other options."""
        behaviour = Behaviour(self.behaviour.kind, dict(self.behaviour.options) | options)
        return replace(self, behaviour=behaviour)

    # Whole replies

    def whole(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
        """Head and body of a JSON reply."""
        content, given = json.dumps(value).encode(), dict(headers or {})
        if self.behaviour["gzip"] and "gzip" in self.headers.get("accept-encoding", ""):
            content, given = gzip.compress(content), given | {"Content-Encoding": "gzip"}
        return head(status, {"Content-Length": len(content)} | given) + content

    def answer(self) -> bytes:
        return self.whole(completion(self.answers, self.asked))

    async def answer_with(self, reply: bytes) -> None:
        await asyncio.sleep(self.behaviour["latency_s"])
        self.bill(len(self.said.tokens) * self.asked.n)
        await self.link.send(reply)

    # Streams

    async def open_stream(self) -> None:
        await asyncio.sleep(self.behaviour["latency_s"])
        await self.link.send(STREAM_HEAD)

    async def send_events(self, events: list[Event]) -> None:
        for one in events:
            if one.tokens:
                await asyncio.sleep(self.behaviour["delay_s"])
                self.bill(one.tokens)
            comment = b": keep-alive\n\n" if self.behaviour["comments"] else b""
            await self.link.send(chunked(comment + one.data))

    async def end_stream(self) -> None:
        await self.link.send(LAST_CHUNK)

    async def stream(self, events: list[Event]) -> None:
        await self.open_stream()
        await self.send_events(events)
        await self.end_stream()

    def until_fault(self) -> tuple[list[Event], list[Event]]:
        """The events of the stream up to the token of the fault, and those after it."""
        events, tokens = stream_of(self.said, self.asked), 0
        for place, one in enumerate(events):
            if one.tokens and tokens == self.behaviour["after"]:
                return events[:place], events[place:]
            tokens += one.tokens
        last = next(place for place in range(len(events), 0, -1) if events[place - 1].tokens)
        return events[:last], events[last:]


REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests"}
LAST_CHUNK = b"0\r\n\r\n"
SETTLE_S = 0.02  #: so that what was sent is there before a reset


def head(status: int, headers: Mapping[str, Any]) -> bytes:
    lines = {"Content-Type": "application/json"} | dict(headers)
    shown = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n{shown}\r\n".encode()


STREAM_HEAD = head(200, {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked"})


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@kind("ok")
async def ok(x: Exchange) -> None:
    if x.asked.stream:
        await x.stream(stream_of(x.said, x.asked))
    else:
        await x.answer_with(x.answer())


@kind("reset_before_read", "reset_after_read")
async def reset(x: Exchange) -> None:
    """Before the request was read: `faulty.py` resets as soon as it knows that it is meant to."""
    x.link.reset()


@kind("reset_mid_body")
async def reset_mid_body(x: Exchange) -> None:
    await _first_part(x)
    await asyncio.sleep(SETTLE_S)
    x.link.reset()


@kind("close")
async def close(x: Exchange) -> None:
    """No reply: the connection ends as if that were one."""
    x.link.close()


@kind("close_mid_body")
async def close_mid_body(x: Exchange) -> None:
    """The connection ends, and less came than Content-Length or the chunked coding promised."""
    await _first_part(x)
    x.link.close()


@kind("stall_head")
async def stall_head(x: Exchange) -> None:
    await asyncio.sleep(x.behaviour["stall_s"])
    await ok(x)


@kind("stall_mid_body")
async def stall_mid_body(x: Exchange) -> None:
    rest = await _first_part(x)
    await asyncio.sleep(x.behaviour["stall_s"])
    if isinstance(rest, bytes):
        await x.link.send(rest)
    else:
        await x.send_events(rest)
        await x.end_stream()


async def _first_part(x: Exchange) -> bytes | list[Event]:
    """Sends the reply up to half of its body, or the stream up to the token of the fault; returns the rest."""
    if x.asked.stream:
        before, rest = x.until_fault()
        await x.open_stream()
        await x.send_events(before)
        return rest
    reply = x.answer()
    half = (len(reply) + reply.index(b"\r\n\r\n")) // 2
    await x.answer_with(reply[:half])
    return reply[half:]


MESSAGES = {
    400: "Invalid value for 'temperature': must be at most 2.",
    429: "Rate limit reached. Please try again later.",
    529: "Overloaded",
}


@kind("status")
async def status(x: Exchange) -> None:
    """An HTTP error with OpenAI's error body. A 401 repeats a part of the key, as some providers do."""
    code = int(x.behaviour["code"])
    message = x.behaviour["message"] or MESSAGES.get(code, "The server had an error processing your request.")
    if code == 401:
        key = x.headers.get("authorization", "").removeprefix("Bearer ")
        message = f"Incorrect API key provided: {key[:8]}***{key[-4:]}. Get one from your administrator."
    named = {400: "invalid_request_error", 401: "invalid_request_error", 429: "rate_limit_error"}.get(code)
    wait = x.behaviour["retry_after"]
    headers = {} if wait is None else {"Retry-After": str(wait)}
    await asyncio.sleep(x.behaviour["latency_s"])
    await x.link.send(x.whole(error_body(message, named or "server_error", code), code, headers))


@kind("redirect")
async def redirect(x: Exchange) -> None:
    await x.link.send(head(307, {"Location": x.behaviour["location"], "Content-Length": 0}))


@kind("html")
async def html(x: Exchange) -> None:
    """A page with status 200, as a proxy before the upstream may send."""
    page = b"<html><body>" + b"Sign in, please. " * 50 + b"</body></html>"
    await x.link.send(head(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": len(page)}) + page)


@kind("byte_by_byte")
async def byte_by_byte(x: Exchange) -> None:
    """Every byte in a packet of its own, those of the head and of the chunked coding too."""
    reply = x.answer()
    if x.asked.stream:
        reply = STREAM_HEAD + b"".join(chunked(one.data) for one in stream_of(x.said, x.asked)) + LAST_CHUNK
    x.bill(len(x.said.tokens) * x.asked.n)
    for place in range(len(reply)):
        await x.link.send(reply[place : place + 1])
        await asyncio.sleep(x.behaviour["byte_delay_s"])


@kind("cut_json")
async def cut_json(x: Exchange) -> None:
    """A whole body of half a JSON document; in a stream, an event whose JSON is cut, with its blank line."""
    if x.asked.stream:
        before, rest = x.until_fault()
        await x.stream([*before, Event(rest[0].data[: len(rest[0].data) // 2] + b"\n\n"), *rest[1:]])
        return
    content = json.dumps(completion(x.answers, x.asked)).encode()
    content = content[: len(content) // 2]
    await x.answer_with(head(200, {"Content-Length": len(content)}) + content)


@kind("sse_no_done", "sse_cut_event", "sse_cut_utf8")
async def cut_stream(x: Exchange) -> None:
    """A stream that ends too early; with `terminate=false` without the last chunk of its coding, too.

    `sse_no_done`: after the token before the fault, with no end, no usage and no `[DONE]`; `sse_cut_event`:
    within an event; `sse_cut_utf8`: within a character, one that the text holds or one added to it.
    """
    if not x.asked.stream:
        await ok(x)
        return
    if x.behaviour.kind == "sse_cut_utf8" and x.said.text.isascii():
        x = x.seen_as(tokens=[*x.said.tokens, [" é", -0.05]])
    before, rest = x.until_fault()
    cut = len(rest[0].data) // 2 if x.behaviour.kind == "sse_cut_event" else 0
    if x.behaviour.kind == "sse_cut_utf8":
        events = [*before, *rest]
        place = next(place for place, one in enumerate(events) if not one.data.isascii())
        before, rest = events[:place], events[place:]
        cut = next(place for place, byte in enumerate(rest[0].data) if byte >= 0xC0) + 1
    await x.open_stream()
    await x.send_events(before)
    if cut:
        await x.link.send(chunked(rest[0].data[:cut]))
    if x.behaviour["terminate"]:
        await x.end_stream()
    x.link.close()


@kind("no_logprobs")
async def no_logprobs(x: Exchange) -> None:
    await ok(x.seen_as(shape="none"))


@kind("chat_logprobs")
async def chat_logprobs(x: Exchange) -> None:
    """Chat's shape of log-probabilities on the completions route too, as llama.cpp gives it."""
    await ok(x.seen_as(shape="chat"))


@kind("tool_call")
async def tool_call(x: Exchange) -> None:
    if x.asked.stream:
        await x.stream(tool_call_stream(x.asked, x.said))
    else:
        await x.answer_with(x.whole(tool_call_reply(x.asked, x.said)))


@kind("refusal")
async def refusal(x: Exchange) -> None:
    if x.asked.stream:
        await x.stream(refusal_stream(x.asked, x.said))
    else:
        await x.answer_with(x.whole(refusal_reply(x.asked, x.said)))


@kind("null_content")
async def null_content(x: Exchange) -> None:
    """An answer that was stopped before its first word: usage, but no text."""
    reply = completion(x.answers, x.asked)
    for choice in reply["choices"]:
        choice |= {"finish_reason": "length", "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": None}} if x.asked.chat else {"text": ""}
    if x.asked.stream:
        await x.stream([one for one in stream_of(x.said, x.asked) if not one.tokens])
    else:
        await x.answer_with(x.whole(reply))


@kind("error_in_200")
async def error_in_200(x: Exchange) -> None:
    """An error object with status 200; in a stream, as its only event."""
    failed = error_body(x.behaviour["message"] or "Provider returned error", code=502)
    if x.asked.stream:
        await x.stream([event(failed)])
    else:
        await x.link.send(x.whole(failed))


@kind("error_in_stream")
async def error_in_stream(x: Exchange) -> None:
    """After some tokens an event with an error, and the end; a whole reply is `error_in_200`."""
    if not x.asked.stream:
        await error_in_200(x)
        return
    before, _ = x.until_fault()
    failed = error_body(x.behaviour["message"] or "The model is overloaded", "overloaded_error", 529)
    await x.stream([*before, event(failed)])


@kind("huge")
async def huge(x: Exchange) -> None:
    """An answer of `mb` megabytes; in a stream, in one event."""
    text = "x" * int(float(x.behaviour["mb"]) * 1e6)
    x = x.seen_as(tokens=[[text, -0.05]])
    if x.asked.stream:
        await x.stream(stream_of(x.said, x.asked))
    else:
        await x.answer_with(x.answer())


@kind("drip")
async def drip(x: Exchange) -> None:
    """A stream that never ends, a token every `delay_s` (default 0.05 s); or a whole reply of endless white space."""
    token = next(one.data for one in stream_of(x.said, x.asked) if one.tokens)
    await x.link.send(STREAM_HEAD if x.asked.stream else head(200, {"Transfer-Encoding": "chunked"}))
    while True:
        x.bill(1)
        await x.link.send(chunked(token if x.asked.stream else b" "))
        await asyncio.sleep(x.behaviour["delay_s"] or 0.05)


@kind("usage_split")
async def usage_split(x: Exchange) -> None:
    """A stream whose usage comes with the chunk that ends the choice, as a few servers send it, not after it."""
    if not x.asked.stream:
        await ok(x)
        return
    events = stream_of(x.said, x.asked)
    last = next(place for place in range(len(events) - 1, -1, -1) if b'"finish_reason": "stop"' in events[place].data)
    ended = json.loads(events[last].data.removeprefix(b"data: ")) | {"usage": usage_of(x.said)}
    await x.stream([*events[:last], event(ended), DONE])
