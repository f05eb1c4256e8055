"""A client's request as the gateway would see it: its route, and why no supervisor can score it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from bisupervised.errors import InputError


def route_of(body: Mapping[str, Any]) -> Literal["chat", "completions"] | None:
    """The route of a request by its fields; None for one of another kind (embeddings, responses, images)."""
    if "messages" in body:
        return "chat"
    return "completions" if "prompt" in body and "size" not in body else None


def kinds_of(body: Mapping[str, Any], route: Literal["chat", "completions"]) -> tuple[str, ...]:
    """Why no supervisor can score a request as such; empty for a plain one.

    Raises `InputError` for one that no endpoint would take.

    >>> kinds_of({"messages": [{"role": "user", "content": "hi"}], "tools": [{}], "n": 2}, "chat")
    ('tools', 'many')
    """
    kinds = _chat_kinds(body) if route == "chat" else _completions_kinds(body)
    return tuple(dict.fromkeys([*kinds, *_common_kinds(body)]))


def _chat_kinds(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise InputError("its messages are no list of at least one message; leave the row out")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError(f"its message {number} is no object with a role; write {{'role': …, 'content': …}}")
        content = message.get("content")
        if isinstance(content, list):
            yield from _part_kinds(content, number)
        elif content is not None and not isinstance(content, str):
            raise InputError(f"the content of its message {number} is {type(content).__name__}; it must be text")
    if body.get("tools") or body.get("functions"):
        yield "tools"


def _part_kinds(content: list[Any], number: int) -> Iterator[str]:
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(kind, str):
            raise InputError(f"a part of its message {number} has no type; write {{'type': 'text', 'text': …}}")
        if kind == "input_audio":
            yield "audio"
        elif kind not in ("text", "refusal"):
            yield "image"


def _completions_kinds(body: Mapping[str, Any]) -> Iterator[str]:
    prompt = body["prompt"]
    if not isinstance(prompt, str | list) or not prompt:
        raise InputError("its prompt is empty, or no text; leave the row out")
    if isinstance(prompt, list) and len(prompt) > 1:
        yield "many"


def _common_kinds(body: Mapping[str, Any]) -> Iterator[str]:
    n = body.get("n")
    if (isinstance(n, int) and n > 1) or isinstance(body.get("best_of"), int):
        yield "many"
    form = body.get("response_format")
    if isinstance(form, Mapping) and form.get("type") not in (None, "text"):
        yield "json_mode"
