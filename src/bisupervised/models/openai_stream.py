"""A streamed answer, put together from its chunks as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bisupervised.errors import ReplyUnreadable
from bisupervised.models.openai_reply import Answer, Route, read_answer

#: Texts of a message that come in pieces. Everything else comes once.
_PIECES: Final = ("content", "refusal", "reasoning_content", "reasoning")
#: Characters of a server's error that a message shows.
_EXCERPT: Final = 200


class StreamedAnswer:
    """The choices of one streamed completion, fed with its decoded chunks.

    `feed` costs what its chunk holds; `text`, `answer` and `reply` cost what there is so far.

    >>> streamed = StreamedAnswer("completions")
    >>> for text in ("Ro", "me"):
    ...     streamed.feed({"choices": [{"index": 0, "text": text}]})
    >>> streamed.text, streamed.tokens, streamed.complete
    ('Rome', 0, False)
    """

    def __init__(self, route: Route = "chat") -> None:
        self._chat = route == "chat"
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def feed(self, chunk: Mapping[str, Any]) -> None:
        """Take the next chunk. Raises `ReplyUnreadable` for an error that the server sends in its place, and for
        what is no chunk; what came before stays readable."""
        try:
            if chunk.get("error"):
                raise ReplyUnreadable(f"the stream ends with an error: {_message(chunk['error'])}")
            for field, value in chunk.items():
                if field != "choices" and value not in (None, "", []):
                    self._head[field] = value
            for given in chunk.get("choices") or ():
                place = _place(given) or 0
                choice = self._choices.get(place)
                if choice is None:
                    choice = self._choices[place] = _Choice(self._chat)
                choice.feed(given)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ReplyUnreadable(
                f"a chunk of the stream has not the shape of one ({type(error).__name__}: {error})"
            ) from error

    @property
    def text(self) -> str:
        """The first choice's text so far."""
        return "".join(self._first.text) if self._first is not None else ""

    @property
    def tokens(self) -> int:
        """How many tokens of the first choice have come with their log-probability."""
        return 0 if self._first is None else self._first.tokens

    @property
    def calls_tool(self) -> bool:
        """Whether the first choice has begun to call a tool or a function."""
        return self._first is not None and self._first.calls_tool

    @property
    def complete(self) -> bool:
        """Whether every choice has said why it ended: a stream that ends before was cut off."""
        return bool(self._choices) and all(choice.fields.get("finish_reason") for choice in self._choices.values())

    @property
    def _first(self) -> _Choice | None:
        return self._choices.get(0)

    def answer(self) -> Answer:
        """The first choice so far, as `read_answer` reads a whole reply: text, tokens, usage, kind."""
        return read_answer(self.reply())

    def reply(self) -> dict[str, Any]:
        """The completion that the server would have sent without streaming, of what has come so far."""
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [choice.whole(place) for place, choice in sorted(self._choices.items())]
        return {**self._head, "object": kind, "choices": choices}


class _Choice:
    """One choice: pieces of text, whole fields, tool calls by index, and the log-probabilities' lists."""

    def __init__(self, chat: bool) -> None:
        self._chat = chat
        self.fields: dict[str, Any] = {"finish_reason": None}
        self.tokens = 0
        self._message: dict[str, Any] = {"role": "assistant"}
        self._pieces: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._function: dict[str, Any] | None = None
        self._logprobs: dict[str, Any] | None = None

    @property
    def text(self) -> list[str]:
        return self._pieces.get("content" if self._chat else "text", [])

    @property
    def calls_tool(self) -> bool:
        return bool(self._calls) or self._function is not None

    def feed(self, given: Mapping[str, Any]) -> None:
        for field, value in given.items():
            if field == "delta":
                self._feed_delta(value or {})
            elif field == "text":
                self._feed_piece("text", value)
            elif field == "logprobs":
                self._feed_logprobs(value)
            elif field != "index" and value is not None:
                self.fields[field] = value

    def _feed_delta(self, delta: Mapping[str, Any]) -> None:
        for field, value in delta.items():
            if field in _PIECES:
                self._feed_piece(field, value)
            elif field == "tool_calls":
                for call in value or ():
                    self._feed_call(call)
            elif field == "function_call":
                if value is not None:
                    self._function = _with_function(self._function or {}, value)
            elif value is not None:
                self._message[field] = value

    def _feed_piece(self, field: str, value: Any) -> None:
        if value is not None:
            self._pieces.setdefault(field, []).append(_piece(field, value))

    def _feed_call(self, given: Mapping[str, Any]) -> None:
        place = _place(given)
        if place is None:  # a few servers do not number them: one with an id of its own is the next
            is_new = not self._calls or (given.get("id") and given["id"] != self._calls[max(self._calls)].get("id"))
            place = len(self._calls) if is_new else max(self._calls)
        call = self._calls.setdefault(place, {})
        for field, value in given.items():
            if field == "function":
                call["function"] = _with_function(call.get("function", {}), value or {})
            elif field != "index" and value is not None:
                call.setdefault(field, value)

    def _feed_logprobs(self, given: Mapping[str, Any] | None) -> None:
        if given is None:
            return
        values = given.get("token_logprobs") or [entry.get("logprob") for entry in given.get("content") or ()]
        self.tokens += sum(value is not None for value in values)
        if self._logprobs is None:
            self._logprobs = {}
        for field, value in given.items():
            if isinstance(value, list):
                known = self._logprobs.get(field)
                if known is None:
                    known = self._logprobs[field] = []
                known += value
            else:
                self._logprobs.setdefault(field, value)

    def whole(self, place: int) -> dict[str, Any]:
        """The choice as it is in a reply that is not streamed."""
        choice: dict[str, Any] = {"index": place}
        if self._chat:
            choice["message"] = self._whole_message()
        else:
            choice["text"] = "".join(self._pieces.get("text", ()))
        return choice | {"logprobs": self._logprobs} | self.fields

    def _whole_message(self) -> dict[str, Any]:
        texts = {field: "".join(pieces) for field, pieces in self._pieces.items()}
        content = texts.pop("content", None)
        message = {**self._message, "content": content, **texts}
        if self._calls:
            message["tool_calls"] = [_whole_call(call) for _, call in sorted(self._calls.items())]
        if self._function is not None:
            message["function_call"] = _joined(self._function)
        if self.calls_tool and not content:
            message["content"] = None
        return message


def _piece(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{field} is {type(value).__name__}, not text")
    return value


def _place(given: Mapping[str, Any]) -> int | None:
    """The `index` of a choice or a tool call; None when it has none."""
    place = given.get("index")
    if place is not None and not isinstance(place, int):
        raise TypeError(f"index is {type(place).__name__}, not a number")
    return place


def _with_function(known: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A function with a further piece of its arguments; its name comes once."""
    for field, value in given.items():
        if field == "arguments":
            known.setdefault("arguments", []).append(_piece(field, value or ""))
        elif value:
            known.setdefault(field, value)
    return known


def _joined(function: Mapping[str, Any]) -> dict[str, Any]:
    return {**function, "arguments": "".join(function.get("arguments", ()))}


def _whole_call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {**call, "function": _joined(call["function"])} if "function" in call else dict(call)


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, Mapping) else error
    return " ".join(str(said if said else error).split())[:_EXCERPT]
