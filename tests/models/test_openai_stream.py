"""A stream, put together, is the reply that would have come without streaming."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import ReplyUnreadable
from bisupervised.models.openai_reply import Usage, read_answer
from bisupervised.models.openai_stream import StreamedAnswer

HEAD = {"id": "c1", "created": 1, "model": "tiny", "object": "chat.completion.chunk", "system_fingerprint": "f"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3}
TOKENS = [("Ro", -0.1), ("me", -0.2), (".", -0.3)]


def entry(token: str, logprob: float | None) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": []}


def chat_chunk(delta: Any, logprobs: Any = None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return HEAD | {
        "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason} | more]
    }


def text_chunk(text: str, logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
    return HEAD | {"object": "text_completion", "choices": [choice]}


def fed(chunks: Any, route: Any = "chat") -> StreamedAnswer:
    streamed = StreamedAnswer(route)
    for chunk in chunks:
        streamed.feed(chunk)
    return streamed


def choice_of(streamed: StreamedAnswer) -> dict[str, Any]:
    [choice] = streamed.reply()["choices"]
    return choice


def test_a_chat_stream_becomes_the_whole_reply() -> None:
    chunks = [chat_chunk({"role": "assistant", "content": ""})]
    chunks += [chat_chunk({"content": token}, {"content": [entry(token, p)], "refusal": None}) for token, p in TOKENS]
    chunks += [chat_chunk({}, None, "stop"), HEAD | {"choices": [], "usage": USAGE}]
    whole = {
        "id": "c1",
        "created": 1,
        "model": "tiny",
        "object": "chat.completion",
        "system_fingerprint": "f",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Rome."},
                "logprobs": {"content": [entry(token, p) for token, p in TOKENS], "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
    streamed = fed(chunks)
    assert streamed.reply() == whole
    assert streamed.answer() == read_answer(whole)
    assert (streamed.text, streamed.tokens, streamed.complete) == ("Rome.", 3, True)


@pytest.mark.parametrize("shape", ["completions", "chat"])
def test_a_completions_stream_does_so_in_either_shape_of_log_probabilities(shape: str) -> None:
    def logprobs(tokens: Any) -> Any:
        if shape == "chat":
            return {"content": [entry(token, p) for token, p in tokens]}
        return {
            "tokens": [token for token, _ in tokens],
            "token_logprobs": [p for _, p in tokens],
            "top_logprobs": [{token: p} for token, p in tokens],
            "text_offset": [4] * len(tokens),
        }

    chunks = [
        text_chunk("Rome", logprobs(TOKENS[:2])),
        text_chunk(".", logprobs(TOKENS[2:])),
        text_chunk("", None, "stop"),
    ]
    chunks[-1]["usage"] = USAGE
    streamed = fed(chunks, "completions")
    reply = streamed.reply()
    assert reply["object"] == "text_completion"
    assert reply["choices"] == [{"index": 0, "text": "Rome.", "logprobs": logprobs(TOKENS), "finish_reason": "stop"}]
    answer = streamed.answer()
    assert answer.token_logprobs.tolist() == [-0.1, -0.2, -0.3]
    assert answer.usage == Usage(5, 3)
    assert streamed.tokens == 3


def test_the_evidence_so_far_can_be_read_at_any_time() -> None:
    streamed = StreamedAnswer("chat")
    assert (streamed.text, streamed.tokens, streamed.complete) == ("", 0, False)
    assert streamed.answer().kind == "unreadable"
    streamed.feed(chat_chunk({"role": "assistant", "content": None}))
    assert streamed.answer().kind == "empty"
    for n, (token, p) in enumerate(TOKENS, 1):
        streamed.feed(chat_chunk({"content": token}, {"content": [entry(token, p)]}))
        assert streamed.tokens == n
        assert streamed.text == "".join(token for token, _ in TOKENS[:n])
        np.testing.assert_array_equal(streamed.answer().token_logprobs, [p for _, p in TOKENS[:n]])
        assert not streamed.complete
    assert math.isnan(streamed.answer().usage.prompt)


def test_a_token_whose_log_probability_is_null_is_none_with_one() -> None:
    streamed = fed([chat_chunk({"content": "ab"}, {"content": [entry("a", None), entry("b", -1.0)]})])
    assert streamed.tokens == 1
    assert fed([text_chunk("a", {"tokens": ["a"], "token_logprobs": [None]})], "completions").tokens == 0
    assert fed([chat_chunk({"content": "ab"})]).tokens == 0


def tool_piece(index: int | None, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    number = {} if index is None else {"index": index}
    return {"tool_calls": [number | more | {"function": name | {"arguments": arguments}}]}


def call(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tool_calls_come_in_pieces_under_their_index() -> None:
    deltas = [
        {"role": "assistant", "content": None},
        tool_piece(0, "", id="c1", type="function", name="weather"),
        tool_piece(0, '{"city":'),
        tool_piece(1, "", id="c2", type="function", name="time"),
        tool_piece(0, '"Rome"}'),
        tool_piece(1, "{}"),
    ]
    streamed = fed([*map(chat_chunk, deltas), chat_chunk({}, None, "tool_calls")])
    message = {"role": "assistant", "content": None}
    message["tool_calls"] = [call("c1", "weather", '{"city":"Rome"}'), call("c2", "time", "{}")]
    assert choice_of(streamed)["message"] == message
    assert streamed.calls_tool
    assert streamed.answer().kind == "tool_call"
    assert not fed([chat_chunk(deltas[0])]).calls_tool
    assert fed([chat_chunk(delta) for delta in deltas[:2]]).answer().kind == "tool_call", "as soon as it begins"


def test_servers_that_do_not_number_them_or_repeat_their_names_are_read() -> None:
    whole = [tool_piece(None, "{}", id="c1", type="function", name="a"), tool_piece(None, "{}", id="c2", name="b")]
    calls = choice_of(fed(map(chat_chunk, whole)))["message"]["tool_calls"]
    assert calls == [call("c1", "a", "{}"), {"id": "c2", "function": {"name": "b", "arguments": "{}"}}]
    pieces = [
        tool_piece(None, "{", id="c1", name="a"),
        tool_piece(None, "}", id="c1", name="a"),
        tool_piece(None, " "),
    ]
    calls = choice_of(fed(map(chat_chunk, pieces)))["message"]["tool_calls"]
    assert calls == [{"id": "c1", "function": {"name": "a", "arguments": "{} "}}]


def test_text_before_a_tool_call_stays() -> None:
    streamed = fed([chat_chunk({"content": "Let me look."}), chat_chunk(tool_piece(0, "{}", id="c1", name="a"))])
    assert streamed.answer().text == choice_of(streamed)["message"]["content"] == "Let me look."


def test_the_older_function_call_is_read() -> None:
    deltas = [
        {"content": None, "function_call": {"name": "weather", "arguments": "{"}},
        {"function_call": {"arguments": "}"}},
    ]
    streamed = fed(map(chat_chunk, deltas))
    assert choice_of(streamed)["message"]["function_call"] == {"name": "weather", "arguments": "{}"}
    assert streamed.answer().kind == "tool_call"


def test_refusals_and_thoughts_come_in_pieces_too() -> None:
    streamed = fed(map(chat_chunk, [{"content": None}, {"refusal": "I "}, {"refusal": "cannot."}]))
    assert choice_of(streamed)["message"] == {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert streamed.answer().kind == "refusal"
    streamed = fed(map(chat_chunk, [{"reasoning_content": "Hm"}, {"reasoning_content": "m"}, {"content": "Rome"}]))
    assert choice_of(streamed)["message"]["reasoning_content"] == "Hmm"
    assert streamed.answer().text == streamed.text == "Rome"


def test_several_choices_are_kept_apart() -> None:
    chunks = [chat_chunk({"content": text}) for text in "ab"]
    chunks[1]["choices"][0]["index"] = 1
    streamed = fed([*chunks, chat_chunk({"content": "c"}, None, "stop")])
    assert [choice["message"]["content"] for choice in streamed.reply()["choices"]] == ["ac", "b"]
    assert (streamed.text, streamed.complete) == ("ac", False), "the second has not ended"


def test_other_fields_of_choices_and_chunks_are_kept() -> None:
    first = {"choices": [], "prompt_filter_results": [{"index": 0}], "model": "", "object": ""}
    streamed = fed(
        [first, chat_chunk({"content": "x"}, stop_reason=None), chat_chunk({}, None, "stop", stop_reason=7)]
    )
    assert streamed.reply()["prompt_filter_results"] == [{"index": 0}]
    assert streamed.reply()["model"] == "tiny"
    assert choice_of(streamed)["stop_reason"] == 7


@pytest.mark.parametrize(
    "error", [{"message": "slow  down", "code": 429}, "slow down", {"code": 429, "say": "slow down"}]
)
def test_an_error_in_the_stream_is_raised_and_what_came_before_stays(error: Any) -> None:
    streamed = fed([chat_chunk({"content": "Ro"})])
    with pytest.raises(ReplyUnreadable, match=r"error: .*slow down"):
        streamed.feed({"error": error})
    assert streamed.text == "Ro"
    assert streamed.answer().text == "Ro"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
        ["index", "delta", "text", "logprobs", "content", "tool_calls", "function", "arguments", "token_logprobs",
         "tokens", "logprob", "function_call", "id", "name", "choices", "usage"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.lists(st.fixed_dictionaries({"choices": JSON | st.lists(JSON, max_size=2)}) | JSON, max_size=4), st.booleans()
)
def test_whatever_json_comes_is_read_or_said_to_be_unreadable(chunks: list[Any], chat: bool) -> None:
    streamed = StreamedAnswer("chat" if chat else "completions")
    for chunk in chunks:
        try:
            streamed.feed(chunk)
        except ReplyUnreadable:
            break
    assert isinstance(streamed.text, str)
    json.dumps(streamed.reply())
    streamed.answer()


@given(st.lists(st.tuples(st.text(max_size=4), st.floats(-5, 0)), max_size=8), st.integers(1, 4), st.booleans())
def test_how_the_stream_is_cut_does_not_matter(tokens: list[tuple[str, float]], size: int, chat: bool) -> None:
    def chunk(some: Any) -> Any:
        text, logprobs = "".join(t for t, _ in some), {"content": [entry(*one) for one in some]}
        return chat_chunk({"content": text}, logprobs) if chat else text_chunk(text, logprobs)

    route = "chat" if chat else "completions"
    whole = fed([chunk(tokens)], route)
    cut = fed([chunk([])] + [chunk(tokens[start : start + size]) for start in range(0, len(tokens), size)], route)
    assert cut.reply() == whole.reply()
    assert cut.tokens == whole.tokens == len(tokens)


def test_chunks_are_left_as_they_were() -> None:
    chunks = [chat_chunk({"content": token}, {"content": [entry(token, p)]}) for token, p in TOKENS]
    twins = json.loads(json.dumps(chunks))
    fed(chunks).reply()
    assert chunks == twins
