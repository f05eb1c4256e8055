"""The OpenAI-compatible formats: a client's request read, replies and errors written. No HTTP here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any, Final

import msgspec

from bisupervised.errors import InputError
from bisupervised.gateway.sse import encode
from bisupervised.models.openai_request import Route, content_text, input_of, kinds_of

#: Tokens that the format itself may add to a request's text (roles, separators), for each message.
_TOKENS_A_MESSAGE: Final = 16
#: Every field in which a client may bound an answer's length.
LENGTHS: Final = ("max_completion_tokens", "max_tokens", "n_predict")


@dataclass(slots=True)
class CompletionRequest:
    """A client's request for a chat completion or a completion."""

    route: Route
    body: dict[str, Any]
    size: int  #: bytes of the body as it came
    model: str
    stream: bool
    include_usage: bool  #: the client wants a last chunk with the usage
    wants_logprobs: bool
    kinds: tuple[str, ...]  #: why no supervisor can score it, see `settings.REQUEST_KINDS`

    @property
    def many(self) -> int:
        """How many answers are made at most, each of them paid for: for every prompt, and every candidate."""
        prompt = self.body.get("prompt")
        several = isinstance(prompt, list) and not all(isinstance(one, int) for one in prompt)
        prompts = len(prompt) if isinstance(prompt, list) and several else 1
        return prompts * max(self.body.get("n") or 1, self.body.get("best_of") or 1)

    @property
    def max_tokens(self) -> int | None:
        """The client's own bound on the answer's tokens; None: it gave none."""
        given = [value for name in LENGTHS if (value := self.body.get(name)) is not None]
        return max(given) if given else None  # an endpoint may read any of them

    @property
    def prompt_tokens_bound(self) -> int | None:
        """More tokens than the prompt can have: one for each byte, and what the format adds; None for images
        and audio, whose tokens do not follow from their bytes."""
        if "image" in self.kinds or "audio" in self.kinds:
            return None
        messages = self.body.get("messages")
        return self.size + _TOKENS_A_MESSAGE * (1 + (len(messages) if isinstance(messages, list) else 0))

    def text(self, which: str) -> Any:
        """What an in-process model is given, see `input_of`."""
        return input_of(self.body, self.route, which)


def read_request(raw: bytes, route: Route) -> CompletionRequest:
    """The request in these bytes. Raises `InputError` with what is wrong, for a 400."""
    body = read_object(raw)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InputError("`model` is missing: name one of GET /v1/models")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InputError("`stream` is true or false")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InputError("`stream_options` is an object")
    for name in ("n", "best_of", *LENGTHS):
        value = body.get(name)
        if isinstance(value, float) and value.is_integer() and value < 2**53:
            value = body[name] = int(value)  # 72.0 is a whole number in JSON Schema
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise InputError(f"`{name}` is a whole number from 0 on")
    wants = body.get("logprobs")
    return CompletionRequest(
        route=route,
        body=body,
        size=len(raw),
        model=model,
        stream=bool(stream),
        include_usage=bool(options and options.get("include_usage")),
        wants_logprobs=wants is True or (route == "completions" and isinstance(wants, int)),
        kinds=kinds_of(body, route),
    )


def read_object(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises `InputError`."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise InputError(f"the body is a JSON object, not {type(body).__name__}")
    return body


# ---------------------------------------------------------------- replies


def completion_of(text: str, route: Route, id_: str, model: str) -> dict[str, Any]:
    """The body of an answer that no language model wrote: an in-process model's label, a fallback's text.

    It has no `usage`: how many tokens that would have been is not known.
    """
    created = int(time())
    if route == "chat":
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {"id": f"chatcmpl-{id_}", "object": "chat.completion", "created": created, "model": model} | {
            "choices": [choice]
        }
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    return {"id": f"cmpl-{id_}", "object": "text_completion", "created": created, "model": model, "choices": [choice]}


def as_asked(body: dict[str, Any], request: CompletionRequest) -> dict[str, Any]:
    """A reply without the log-probabilities that only the supervisor asked for."""
    if request.wants_logprobs:
        return body
    choices = body.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and choice.get("logprobs") is not None:
                choice["logprobs"] = None
    return body


def chunk_as_asked(chunk: dict[str, Any], request: CompletionRequest) -> dict[str, Any] | None:
    """A chunk of a stream, as `as_asked`; None for one that only says the usage, which the client did not ask for."""
    choices = chunk.get("choices")
    if not request.include_usage and "usage" in chunk:
        if not choices and chunk["usage"] is not None:
            return None
        del chunk["usage"]
    if not request.wants_logprobs and isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict):
                choice.pop("logprobs", None)
    return chunk


def chunks_of(body: Mapping[str, Any], request: CompletionRequest) -> Iterator[dict[str, Any]]:
    """A whole reply as the chunks of a stream: what a client that asked for one can read."""
    chat = request.route == "chat"
    head = {key: body[key] for key in ("id", "created", "model", "system_fingerprint") if key in body}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    for choice in body.get("choices", ()):
        if not isinstance(choice, dict):
            continue  # the first one was read; what an endpoint puts beside it may be anything
        index = choice.get("index", 0)
        logprobs = {"logprobs": choice["logprobs"]} if choice.get("logprobs") is not None else {}
        if chat:
            yield head | {"choices": [{"index": index, "delta": _delta(choice), "finish_reason": None} | logprobs]}
            end: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
        else:
            yield head | {"choices": [{"index": index, "text": _text_of(choice), "finish_reason": None} | logprobs]}
            end = {"index": index, "text": "", "finish_reason": choice.get("finish_reason")}
        yield head | {"choices": [end]}
    if request.include_usage:
        yield head | {"choices": [], "usage": body.get("usage")}


def _delta(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        return {"role": "assistant", "content": _text_of(choice)}
    delta = {key: value for key, value in message.items() if value is not None}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        calls = [call for call in calls if isinstance(call, dict)]
        delta["tool_calls"] = [{"index": number} | call for number, call in enumerate(calls)]
    return delta


def _text_of(choice: Mapping[str, Any]) -> str:
    """A choice's text in the shape of either route."""
    text, message = choice.get("text"), choice.get("message")
    if isinstance(text, str):
        return text
    return content_text(message.get("content")) if isinstance(message, dict) else ""


def error_body(message: str, kind: str, code: str | None = None, **more: Any) -> bytes:
    """An error as OpenAI's clients read it; `more` stands beside its usual fields."""
    return encode({"error": {"message": message, "type": kind, "param": None, "code": code} | more})


_HEADER_UNSAFE = re.compile(r"[^\x20-\x7e]+")


def header_text(value: object) -> str:
    """A value on one line of printable ASCII, for a header."""
    return _HEADER_UNSAFE.sub(" ", str(value))[:300]


def conversation_of(messages: Sequence[Any], until: int) -> bytes:
    """What tells a conversation: its first `until` messages, role and content alone."""
    return encode([(message.get("role"), content_text(message.get("content"))) for message in messages[:until]])
