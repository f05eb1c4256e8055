"""OpenAI's format of a request: what an in-process model is given of it, and why no supervisor can score it.

One reading for the gateway, which answers requests, and for a log of them, which says what the gateway would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from bisupervised.errors import InputError

Route: TypeAlias = Literal["chat", "completions"]


def route_of(body: Mapping[str, Any]) -> Route | None:
    """The route of a request by its fields; None for one of another kind (embeddings, responses, images)."""
    if "messages" in body:
        return "chat"
    return "completions" if "prompt" in body and "size" not in body else None


def input_of(body: Mapping[str, Any], route: Route, which: str) -> Any:
    """What an in-process model is given: the last user message's text (`last_message`), all `messages` (of a text
    completion: its prompt), or the whole `body`."""
    if which == "body":
        return body
    if route == "completions":
        prompt = body["prompt"]
        return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    messages: list[Any] = body["messages"]
    if which == "messages":
        return messages
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_text(message.get("content"))
    return content_text(messages[-1].get("content"))


def content_text(content: Any) -> str:
    """The text of a message's content, its parts joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text"))
    return "".join(text for part in parts if isinstance(text := part.get("text"), str))


def kinds_of(body: Mapping[str, Any], route: Route) -> tuple[str, ...]:
    """Why no supervisor can score a request as such; empty for a plain one.

    Raises `InputError` for one that no endpoint would take.

    >>> kinds_of({"messages": [{"role": "user", "content": "hi"}], "tools": [{}], "n": 2}, "chat")
    ('tools', 'many')
    """
    kinds = _chat_kinds(body) if route == "chat" else _completions_kinds(body)
    return tuple(dict.fromkeys([*kinds, *_common_kinds(body)]))


def _chat_kinds(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InputError("`messages` is a list of at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InputError(f"`messages[{number}]` is an object with a `role`")
        content = message.get("content")
        if isinstance(content, list):
            yield from _part_kinds(content, number)
        elif content is not None and not isinstance(content, str):
            raise InputError(f"`messages[{number}].content` is text, or a list of parts")
    if body.get("tools") or body.get("functions"):
        yield "tools"


def _part_kinds(content: list[Any], number: int) -> Iterator[str]:
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise InputError(f"the parts of `messages[{number}].content` are objects with a `type`")
        if kind == "text" and not isinstance(part.get("text"), str):
            raise InputError(f"a text part of `messages[{number}].content` has its text in `text`")
        if kind == "input_audio":
            yield "audio"
        elif kind not in ("text", "refusal"):
            yield "image"  # images, files, and whatever else comes to be


def _completions_kinds(body: Mapping[str, Any]) -> Iterator[str]:
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise InputError("`prompt` is text")
    if isinstance(prompt, list) and len(prompt) > 1:
        yield "many"


def _common_kinds(body: Mapping[str, Any]) -> Iterator[str]:
    if body.get("n") not in (None, 0, 1) or body.get("best_of") not in (None, 0, 1):
        yield "many"
    form = body.get("response_format")
    if isinstance(form, dict) and form.get("type") not in (None, "text"):
        yield "json_mode"
