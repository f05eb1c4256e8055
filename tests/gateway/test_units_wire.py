"""The formats, without a wire: any cutting of a stream, any JSON for a request, any reply of an endpoint."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bisupervised.errors import InputError, ReplyUnreadable
from bisupervised.gateway.openai_wire import (
    CompletionRequest,
    as_asked,
    chunk_as_asked,
    chunks_of,
    completion_of,
    conversation_of,
    read_request,
)
from bisupervised.gateway.sse import DONE, EventReader, decode, encode, event_of
from bisupervised.models.openai_reply import read_answer
from bisupervised.models.openai_stream import StreamedAnswer

# ---------------------------------------------------------------- server-sent events

LINES = st.one_of(
    st.sampled_from(
        [b"", b"", b"data: {}", b"data:x", b"data:", b"data:  two", b": comment", b"event: ping", b"id: 1"]
    ),
    st.binary(max_size=12).map(lambda data: b"data: " + re.sub(rb"[\r\n]", b"?", data)),
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=30).map(b"".join)


def by_the_standard(stream: bytes) -> list[bytes]:
    """The data of every complete event, as the HTML standard says it."""
    events: list[bytes] = []
    data: list[bytes] = []
    *lines, _ = re.split(rb"\r\n|\n|\r", stream)
    for line in lines:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    return events


def pieces_of(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


@given(STREAMS, st.lists(st.integers(0, 500), max_size=20))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 9, 10])
@example(b"data: a\r\rdata: b\n\r\n", [8, 9, 16, 17])
@example(b"data: a\n\n\n\ndata: b\n\n", [9, 10])
def test_a_stream_may_be_cut_anywhere(stream: bytes, cuts: list[int]) -> None:
    reader = EventReader()
    found = [event for piece in pieces_of(stream, cuts) for event in reader.feed(piece)]
    # The last byte may be half of an end of line: more would have to come to tell.
    expected = by_the_standard(stream)
    if stream.endswith(b"\r"):
        assert found in (expected, expected[:-1])
    else:
        assert found == expected


@given(STREAMS)
def test_a_stream_may_come_byte_by_byte(stream: bytes) -> None:
    whole, single = EventReader(), EventReader()
    assert [e for byte in stream for e in single.feed(bytes([byte]))] == whole.feed(stream)
    assert single.incomplete == whole.incomplete


@given(st.lists(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5), max_size=5), STREAMS)
def test_what_is_written_is_read_again(values: list[Any], noise: bytes) -> None:
    reader = EventReader()
    content = b"".join(map(event_of, values)) + DONE
    assert [decode(event) if event != b"[DONE]" else event for event in reader.feed(content)] == [*values, b"[DONE]"]
    assert not reader.incomplete
    reader.feed(b"data: half")
    assert reader.incomplete


def test_an_event_without_an_end_is_not_gathered_for_ever() -> None:
    reader = EventReader(max_event_bytes=1000)
    for _ in range(9):
        assert reader.feed(b"data: " + b"x" * 100) == []
    with pytest.raises(ReplyUnreadable, match="longer than"):
        reader.feed(b"x" * 100)


# ---------------------------------------------------------------- requests

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def perhaps(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, now and then anything."""
    return st.one_of(likely, likely, likely, JSON)


TYPES = st.sampled_from(["text", "image_url", "input_audio", "refusal", "file"])
PART = perhaps(st.fixed_dictionaries({"type": perhaps(TYPES)}, optional={"text": perhaps(st.text(max_size=8))}))
MESSAGE = perhaps(
    st.fixed_dictionaries(
        {"role": perhaps(st.sampled_from(["user", "assistant", "system", "tool"]))},
        optional={"content": perhaps(st.text(max_size=8) | st.lists(PART, max_size=3))},
    )
)
OPTIONS = {
    "stream": perhaps(st.booleans()),
    "stream_options": perhaps(st.fixed_dictionaries({"include_usage": perhaps(st.booleans())})),
    "n": perhaps(st.integers(0, 5)),
    "best_of": perhaps(st.integers(0, 5)),
    "max_tokens": perhaps(st.integers(-1, 100)),
    "max_completion_tokens": perhaps(st.integers(1, 100)),
    "logprobs": perhaps(st.booleans() | st.integers(0, 5)),
    "top_logprobs": perhaps(st.integers(0, 5)),
    "tools": perhaps(st.lists(JSON, max_size=2)),
    "response_format": perhaps(st.fixed_dictionaries({"type": perhaps(st.sampled_from(["text", "json_object"]))})),
    "seed": JSON,
}
CHATS = st.fixed_dictionaries(
    {"model": perhaps(st.just("m")), "messages": perhaps(st.lists(MESSAGE, max_size=3))}, optional=OPTIONS
)
PROMPTS = st.text(max_size=8) | st.lists(JSON, max_size=3)
COMPLETIONS = st.fixed_dictionaries({"model": perhaps(st.just("m")), "prompt": perhaps(PROMPTS)}, optional=OPTIONS)


def accepted(body: Any, route: Any) -> CompletionRequest | None:
    try:
        return read_request(json.dumps(body).encode(), route)
    except InputError:
        return None


@given(st.one_of(st.tuples(CHATS, st.just("chat")), st.tuples(COMPLETIONS, st.just("completions"))))
@example(({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "chat"))
@example(({"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}, "chat"))
def test_a_request_is_read_or_refused_and_what_is_read_can_be_used(asked: tuple[Any, Any]) -> None:
    request = accepted(*asked)
    if request is None:
        return
    for which in ("last_message", "messages", "body"):
        request.text(which)
    assert request.many >= 1
    assert request.max_tokens is None or request.max_tokens >= 0
    bound = request.prompt_tokens_bound
    assert bound is None or bound >= request.size
    assert decode(encode(request.body)) == request.body
    if request.route == "chat":
        conversation_of(request.body["messages"], 2)
    list(chunks_of(completion_of("text", request.route, "id", "m"), request))


@given(st.binary(max_size=50))
@example(b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}')
@example(b"[" * 5000)
@example(b'{"a": 1e999}')
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for route in ("chat", "completions"):
        with contextlib.suppress(InputError):
            read_request(raw, route)  # type: ignore[arg-type]


@given(CHATS)
def test_a_kind_is_found_whatever_stands_beside_it(body: dict[str, Any]) -> None:
    body |= {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}
    body |= {"stream": False, "stream_options": None}
    body |= dict.fromkeys(("n", "best_of", "max_tokens", "max_completion_tokens", "n_predict"))
    request = accepted(body, "chat")
    assert request is not None
    assert "tools" in request.kinds


@pytest.mark.parametrize("name", ["n", "best_of", "max_tokens", "max_completion_tokens", "n_predict"])
@pytest.mark.parametrize("value", [2.5, "2", -1, True, [1]])
def test_a_number_of_answers_or_tokens_is_a_whole_number(name: str, value: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], name: value}
    with pytest.raises(InputError, match=name):
        read_request(json.dumps(body).encode(), "chat")


def test_every_answer_that_may_be_paid_for_is_counted() -> None:
    def many(route: Any = "completions", **body: Any) -> int:
        asked = {"model": "m"} | ({"messages": [{"role": "user", "content": "x"}]} if route == "chat" else {})
        return read_request(json.dumps(asked | body).encode(), route).many

    assert many("chat", n=3) == 3
    assert many(prompt=["a"] * 50, best_of=20, n=2) == 1000
    assert many(prompt=[1, 2, 3]) == 1  # one prompt, in tokens
    assert many(prompt=[[1, 2], [3]], n=2) == 4


# ---------------------------------------------------------------- replies

CALL = perhaps(
    st.fixed_dictionaries({"id": st.just("c"), "function": perhaps(st.just({"name": "f", "arguments": "{}"}))})
)
SAID = st.fixed_dictionaries(
    {"role": perhaps(st.just("assistant"))},
    optional={"content": perhaps(st.text(max_size=8)), "tool_calls": perhaps(st.lists(CALL, max_size=2))},
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": perhaps(st.integers(0, 2)),
        "message": perhaps(SAID),
        "text": perhaps(st.text(max_size=5)),
        "logprobs": JSON,
    },
)
REPLIES = st.fixed_dictionaries(
    {"choices": perhaps(st.lists(perhaps(CHOICE), min_size=1, max_size=3))}, optional={"usage": JSON, "id": JSON}
)


@given(REPLIES, st.sampled_from(["chat", "completions"]), st.booleans())
def test_a_reply_that_can_be_read_can_be_sent_on(body: dict[str, Any], route: Any, usage: bool) -> None:
    answer = read_answer(body)
    if answer.kind == "unreadable":
        return
    asked = {"messages": [{"role": "user", "content": "x"}]} if route == "chat" else {"prompt": "x"}
    request = accepted({"model": "m", "stream": True, "stream_options": {"include_usage": usage}} | asked, route)
    assert request is not None
    shown = as_asked(body, request)
    for chunk in chunks_of(shown, request):
        assert isinstance(encode(chunk), bytes)


@given(REPLIES, st.sampled_from(["chat", "completions"]))
def test_a_stream_of_any_chunks_is_read_or_refused(body: dict[str, Any], route: Any) -> None:
    asked = {"messages": [{"role": "user", "content": "x"}]} if route == "chat" else {"prompt": "x"}
    request = accepted({"model": "m", "stream": True} | asked, route)
    assert request is not None
    streamed = StreamedAnswer(route)
    for choice in body["choices"] if isinstance(body["choices"], list) else []:
        if isinstance(choice, dict) and "message" in choice:
            choice["delta"] = choice.pop("message")
    try:
        streamed.feed(body)
        streamed.answer()
    except ReplyUnreadable:
        return
    chunk_as_asked(body, request)
    for chunk in chunks_of(streamed.reply(), request):
        assert isinstance(encode(chunk), bytes)


def test_a_whole_reply_as_a_stream_says_the_same() -> None:
    request = accepted({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}, "chat")
    assert request is not None
    message = {"role": "assistant", "content": "Rome", "refusal": None}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": message, "finish_reason": "stop"},
            {
                "index": 1,
                "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                "finish_reason": "tool_calls",
            },
        ],
    }
    streamed = StreamedAnswer("chat")
    for chunk in chunks_of(body, request):
        assert chunk["object"] == "chat.completion.chunk"
        streamed.feed(chunk)
    first, second = streamed.reply()["choices"]
    assert (first["message"]["content"], first["finish_reason"]) == ("Rome", "stop")
    assert second["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert second["finish_reason"] == "tool_calls"
