"""Replies of any shape are read, or said to be unreadable; nothing is invented and nothing raises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.models.openai_reply import Prices, Token, Usage, read_answer, read_tokens

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "text", "logprobs", "token"]), inner)
        | st.dictionaries(st.sampled_from(["tokens", "token_logprobs", "top_logprobs", "logprob", "usage"]), inner)
    ),
    max_leaves=12,
)


@given(JSON | st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"text": JSON, "logprobs": JSON}))}))
def test_whatever_json_comes_back_is_an_answer_or_has_a_problem(reply: Any) -> None:
    answer = read_answer(reply)
    assert (answer.text is None) == (answer.problem is not None)
    assert (answer.kind == "text") <= (answer.text is not None)
    assert answer.token_logprobs.ndim == 1
    assert answer.no_logprobs == bool(np.isnan(answer.token_logprobs).all())


@given(
    st.floats(0, 1e6) | st.just(math.nan),
    st.floats(0, 1e6) | st.just(math.nan),
    st.floats(0, 1e7),
    st.floats(0, 100),
    st.floats(0, 100),
)
def test_cost_is_not_known_exactly_when_the_usage_is_not(
    prompt: float, completion: float, cached: float, price: float, cached_price: float
) -> None:
    cost = Prices(price, price, cached_price).cost(Usage(prompt, completion, cached))
    assert math.isnan(cost) == (math.isnan(prompt) or math.isnan(completion))
    if not math.isnan(cost):
        assert 0.0 <= cost <= (prompt + completion) * max(price, cached_price) / 1e6 * (1 + 1e-9)


@pytest.mark.parametrize("tokens", [None, "12", -1, True, math.nan])
def test_a_token_count_that_is_none_makes_the_cost_not_known(tokens: Any) -> None:
    for usage in (
        {"prompt_tokens": tokens, "completion_tokens": 3},
        {"prompt_tokens": 3, "completion_tokens": tokens},
    ):
        assert math.isnan(Prices(1.0, 1.0).cost(read_answer({"usage": usage}).usage))
    assert math.isnan(Prices(1.0, 1.0).cost(read_answer({"usage": {"prompt_tokens": 3}}).usage))


def chat(*tokens: Any) -> Any:
    return [
        {"token": t, "logprob": p, "top_logprobs": [{"token": o, "logprob": q} for o, q in top]}
        for t, p, top in tokens
    ]


def answer_of(*tokens: Any) -> Any:
    return read_answer({"choices": [{"message": {"content": "x"}, "logprobs": {"content": chat(*tokens)}}]})


def test_the_written_token_counts_among_the_alternatives() -> None:
    answer = answer_of((" ", -0.1, [(" ", -0.1)]), ("yes", -3.0, [("no", -0.1)]))
    assert answer.top_logprobs == {"no": -0.1, "yes": -3.0}


def test_alternatives_that_were_not_given_are_not_made_up_from_the_written_token() -> None:
    assert answer_of(("yes", -3.0, [])).top_logprobs == {}
    assert answer_of(("\n", -3.0, [("a", -1.0)])).top_logprobs == {}
    assert answer_of().top_logprobs == {}


def test_tokens_that_look_alike_have_their_mass_together() -> None:
    top = answer_of(("a", math.log(0.2), [("a", math.log(0.2)), ("a", math.log(0.3))])).top_logprobs
    assert top == pytest.approx({"a": math.log(0.5)})


def test_a_log_probability_that_is_null_is_nan() -> None:
    answer = answer_of(("a", None, []), ("b", -1.0, []))
    np.testing.assert_array_equal(answer.token_logprobs, [math.nan, -1.0])
    assert read_tokens({"tokens": ["a"], "token_logprobs": [None], "top_logprobs": None})[0].logprob is not None


def test_completions_without_alternatives_are_read() -> None:
    assert read_tokens({"tokens": ["a"], "token_logprobs": [-1.0]}) == [Token("a", -1.0, {})]
    assert read_tokens(None) == read_tokens({}) == []


def test_tokens_and_log_probabilities_of_different_number_are_unreadable() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0]}
    answer = read_answer({"choices": [{"text": "a", "logprobs": logprobs}], "usage": {"prompt_tokens": 5}})
    assert answer.problem
    assert answer.usage.prompt == 5


def test_content_in_parts_is_joined() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert read_answer({"choices": [{"message": {"content": content}}]}).text == "ab"


def test_a_log_probability_above_0_makes_the_reply_unreadable_and_keeps_what_it_cost() -> None:
    reply = {
        "choices": [{"text": "yes", "logprobs": {"tokens": ["yes"], "token_logprobs": [0.5]}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    }
    answer = read_answer(reply)
    assert answer.text is None
    assert "above 0" in str(answer.problem)
    assert answer.usage.prompt == 7


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "finish_reason", "kind", "text"),
    [
        ({"content": "Rome"}, "stop", "text", "Rome"),
        ({"content": "Rome", "tool_calls": []}, "length", "text", "Rome"),
        ({"content": "Rome", "refusal": None, "function_call": None}, None, "text", "Rome"),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "tool_call", None),
        ({"tool_calls": [CALL]}, "tool_calls", "tool_call", None),
        ({"content": "Let me look.", "tool_calls": [CALL]}, "tool_calls", "tool_call", "Let me look."),
        ({"content": None, "function_call": CALL["function"]}, "function_call", "tool_call", None),
        ({"content": None, "refusal": "I cannot help with that."}, "stop", "refusal", None),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "stop", "refusal", None),
        ({"content": ""}, "content_filter", "refusal", None),
        ({"content": "Half of", "refusal": None}, "content_filter", "text", "Half of"),
        ({"content": None}, "stop", "empty", None),
        ({"content": " \n"}, "length", "empty", None),
        ({"content": "", "reasoning_content": "The user wants Rome."}, "length", "empty", None),
        ({"content": "Rome", "reasoning_content": "Oslo?"}, "stop", "text", "Rome"),
    ],
)
def test_a_reply_tells_what_it_is(message: Any, finish_reason: str | None, kind: str, text: str | None) -> None:
    reply = {"choices": [{"message": {"role": "assistant"} | message, "finish_reason": finish_reason}]}
    answer = read_answer(reply | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    assert (answer.kind, answer.text, answer.finish_reason) == (kind, text, finish_reason)
    assert (answer.problem is None) == (text is not None)
    assert answer.usage == Usage(3, 2)
    if text is None:
        assert f"finish_reason: {finish_reason}" in str(answer.problem)


def test_completions_have_text_or_are_empty() -> None:
    kinds = [read_answer({"choices": [{"text": text, "finish_reason": "stop"}]}).kind for text in ("Rome", "", None)]
    assert kinds == ["text", "empty", "empty"]


@pytest.mark.parametrize("reply", [None, [], {}, {"choices": []}, {"choices": [{"text": 3}]}, {"error": "no"}])
def test_what_is_no_completion_is_unreadable(reply: Any) -> None:
    assert read_answer(reply).kind == "unreadable"


def test_log_probabilities_that_are_not_there_or_all_null_are_none() -> None:
    assert answer_of().no_logprobs
    assert answer_of(("a", None, []), ("b", None, [])).no_logprobs
    assert not answer_of(("a", None, []), ("b", -1.0, [])).no_logprobs


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}, (9, 2, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, (9, 2, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": None}}, (9, 2, 0)),
        # DeepSeek: hits and misses make the prompt.
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_cache_hit_tokens": 5,
                "prompt_cache_miss_tokens": 4,
            },
            (9, 2, 5),
        ),
        # Anthropic: the prompt is what was read, written and neither.
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 3,
            },
            (9, 2, 5),
        ),
        ({"input_tokens": 9, "output_tokens": 2}, (9, 2, 0)),
        # As proxies give it: OpenAI's names, in which the prompt holds what was read from the cache.
        ({"prompt_tokens": 9, "completion_tokens": 2, "cache_read_input_tokens": 5}, (9, 2, 5)),
        ({"cache_read_input_tokens": 5}, (math.nan, math.nan, 5)),
        ({}, (math.nan, math.nan, 0)),
    ],
)
def test_usage_is_read_under_the_names_in_use(usage: Any, read: tuple[float, float, float]) -> None:
    found = read_answer({"usage": usage}).usage
    np.testing.assert_array_equal([found.prompt, found.completion, found.cached], read)
