"""What the remote model answered, in the shapes that logs keep it in: text, a completion, chunks of a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bisupervised.errors import InputError
from bisupervised.models.openai_reply import Usage, read_answer, read_usage
from bisupervised.models.openai_request import content_text

#: Kinds of an answer's parts by which a model calls a tool.
_TOOL_PARTS: Final = frozenset({"tool_use", "tool_call", "function_call"})


@dataclass(frozen=True, slots=True)
class LoggedReply:
    """A reply's text, or why it has none that could be compared (`kind`, a key of `REASONS`)."""

    text: str | None
    kind: str | None = None
    usage: Usage = field(default_factory=Usage)
    model: str | None = None


def read_reply(value: Any) -> LoggedReply:
    """The reply in a logged value. Raises `InputError` for a value that is of no known shape."""
    if value is None or value == "" or value == {}:
        return LoggedReply(None, "no_answer")
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_object(value)
    if isinstance(value, list):
        if all(isinstance(chunk, Mapping) and "choices" in chunk for chunk in value):
            return _from_chunks(value)
        return LoggedReply(json.dumps(value, ensure_ascii=False))
    return LoggedReply(json.dumps(value))  # a number, true or false: of a classifier, say


def _from_text(text: str) -> LoggedReply:
    if text.startswith("data:"):  # the events of a stream as they came
        lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
        try:
            return _from_chunks([json.loads(line) for line in lines if line and line != "[DONE]"])
        except (ValueError, RecursionError) as error:
            raise InputError(f"its streamed answer is cut or no JSON ({error}); leave the row out") from error
    decoded = json_object(text)
    if decoded is not None and ("choices" in decoded or decoded.get("object") == "response"):
        return _from_object(decoded)
    return LoggedReply(text.strip()) if text.strip() else LoggedReply(None, "no_answer")


def json_object(value: Any) -> Mapping[str, Any] | None:
    """The object that a value is, or holds as text; None when it is neither. Some databases encode twice."""
    for _ in range(2):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", '"'):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None


def _from_object(reply: Mapping[str, Any]) -> LoggedReply:
    model = reply.get("model") if isinstance(reply.get("model"), str) else None
    choices = reply.get("choices")
    if choices is not None:
        return _from_choices(reply, choices, model)
    if "content" in reply and ("role" in reply or reply.get("type") == "message"):
        return _from_message(reply, read_usage(reply), model)
    if isinstance(reply.get("output"), list):  # of the responses route
        return _from_output(reply["output"], read_usage(reply), model)
    if "error" in reply and len(reply) <= 2:
        return LoggedReply(None, "no_answer", model=model)
    return LoggedReply(json.dumps(reply, ensure_ascii=False))  # a JSON answer, kept decoded


def _from_choices(reply: Mapping[str, Any], choices: Any, model: str | None) -> LoggedReply:
    usage = read_usage(reply)
    if not isinstance(choices, Sequence) or not choices or not isinstance(choices[0], Mapping):
        return LoggedReply(None, "no_answer", usage, model)
    if len(choices) > 1:
        return LoggedReply(None, "many", usage, model)
    choice = choices[0]
    if isinstance(choice.get("delta"), Mapping):
        return _from_chunks([reply])
    message = choice.get("message")
    if isinstance(message, Mapping):
        return _from_message(message, usage, model)
    answer = read_answer({"choices": [{**choice, "logprobs": None}]})
    return _of_text(answer.text, usage, model)


def _from_message(message: Mapping[str, Any], usage: Usage, model: str | None) -> LoggedReply:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    if (
        message.get("tool_calls")
        or message.get("function_call")
        or any(isinstance(part, Mapping) and part.get("type") in _TOOL_PARTS for part in parts)
    ):
        return LoggedReply(None, "tool_call", usage, model)
    if message.get("refusal"):
        return LoggedReply(None, "refusal", usage, model)
    if content is not None and not isinstance(content, str | list):
        raise InputError(f"the content of its answer is {type(content).__name__}; it must be text")
    return _of_text(content_text(content), usage, model)


def _from_output(output: Sequence[Any], usage: Usage, model: str | None) -> LoggedReply:
    items = [item for item in output if isinstance(item, Mapping)]
    if any(str(item.get("type", "")).endswith("_call") for item in items):
        return LoggedReply(None, "tool_call", usage, model)
    return _of_text("".join(content_text(item.get("content")) for item in items), usage, model)


def _from_chunks(chunks: Sequence[Any]) -> LoggedReply:
    """The reply that a stream's chunks make up; of several answers, none."""
    texts: list[str] = []
    usage, model, kind = Usage(), None, None
    for chunk in (one for one in chunks if isinstance(one, Mapping)):
        model = model or (chunk.get("model") if isinstance(chunk.get("model"), str) else None)
        if chunk.get("usage"):
            usage = read_usage(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, Mapping):
                continue
            given = choice.get("delta")
            delta: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
            if choice.get("index", 0) != 0:
                kind = kind or "many"
            elif delta.get("tool_calls") or delta.get("function_call"):
                kind = kind or "tool_call"
            elif delta.get("refusal"):
                kind = kind or "refusal"
            texts.append(str(delta.get("content") or choice.get("text") or ""))
    return LoggedReply(None, kind, usage, model) if kind else _of_text("".join(texts), usage, model)


def _of_text(text: str | None, usage: Usage, model: str | None) -> LoggedReply:
    stripped = (text or "").strip()
    return LoggedReply(stripped, None, usage, model) if stripped else LoggedReply(None, "no_answer", usage, model)
