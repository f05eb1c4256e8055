"""A real language model behind llama.cpp's own server: evidence as a real server gives it, streamed and not."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bisupervised.models import OpenAIModel
from bisupervised.models.openai_reply import read_answer
from bisupervised.models.openai_stream import StreamedAnswer
from bisupervised.quantifiers import PTrue, SelfConsistency, SemanticEntropy, TokenLikelihood
from llama import CAPITALS, MODEL, start_llama
from models.asking import ask

pytestmark = pytest.mark.slow

ROUTES = pytest.mark.parametrize("route", ["chat", "completions"])
FRANCE = CAPITALS.format("What is the capital of France?")
ANIMALS = "Q: Name an animal.\nA: cat\n\nQ: Name an animal.\nA: horse\n\nQ: Name an animal.\nA:"


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with start_llama() as url:
        yield url


def model_at(base_url: str, **settings: Any) -> OpenAIModel:
    return OpenAIModel(MODEL, base_url, timeout_s=120.0, **{"max_tokens": 4} | settings)


def request(route: str, prompt: str, **more: Any) -> dict[str, Any]:
    if route == "chat":
        return {"messages": [{"role": "user", "content": prompt}], "logprobs": True, "top_logprobs": 2} | more
    return {"prompt": prompt, "logprobs": 2} | more


def sent(base_url: str, route: str, body: dict[str, Any]) -> str:
    path = "chat/completions" if route == "chat" else "completions"
    data = json.dumps({"model": MODEL, "temperature": 0.0, "max_tokens": 5} | body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{base_url}/{path}", data, headers), timeout=120) as reply:
        return reply.read().decode()


def test_the_model_knows_capitals(base_url: str) -> None:
    model = model_at(base_url, route="completions", top_logprobs=3, extra={"stop": ["\n"]})
    output = ask(model, [FRANCE])
    assert output.predictions.tolist() == ["Paris"]
    assert TokenLikelihood("min")(output)[0] > 0.5


@ROUTES
def test_every_token_has_its_log_probability_and_its_alternatives(base_url: str, route: Any) -> None:
    output = ask(model_at(base_url, route=route, top_logprobs=3), [FRANCE])
    assert not output.failures
    assert output.token_logprobs[0].shape == (4,)
    assert (output.token_logprobs[0] <= 0.0).all()
    top = output.top_logprobs[0]
    assert 3 <= len(top) <= 4
    assert sum(map(math.exp, top.values())) <= 1.0 + 1e-6
    assert output.token_logprobs[0][0] == pytest.approx(max(top.values())), "greedy: the likeliest is written"
    assert output.completion_tokens == [4]
    assert output.prompt_tokens[0] > 20


@ROUTES
def test_a_stream_put_together_is_the_whole_reply(base_url: str, route: Any) -> None:
    whole = json.loads(sent(base_url, route, request(route, FRANCE)))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = sent(base_url, route, request(route, FRANCE, **options)).split("\n\n")
    data = [event.removeprefix("data: ") for event in events if event.strip()]
    assert data.pop() == "[DONE]"
    streamed = StreamedAnswer(route)
    for chunk in data:
        streamed.feed(json.loads(chunk))
    assert (streamed.tokens, streamed.complete, streamed.calls_tool) == (5, True, False)
    reply = streamed.reply()
    assert reply.keys() == whole.keys()
    assert reply["object"] == whole["object"]
    [choice], [whole_choice] = reply["choices"], whole["choices"]
    assert choice.keys() == whole_choice.keys()
    for name in ("index", "finish_reason", "message" if route == "chat" else "text"):
        assert choice[name] == whole_choice[name]
    for counts in (reply["usage"], whole["usage"]):
        del counts["prompt_tokens_details"]  # of the second request, the prompt is in the cache
    assert reply["usage"] == whole["usage"]
    answer, whole_answer = streamed.answer(), read_answer(whole)
    assert (answer.text, answer.kind) == (whole_answer.text, "text")
    assert [token.text for token in answer.tokens] == [token.text for token in whole_answer.tokens]
    np.testing.assert_allclose(answer.token_logprobs, whole_answer.token_logprobs, atol=1e-3)
    assert answer.tokens[0].alternatives == pytest.approx(whole_answer.tokens[0].alternatives, abs=1e-3)


@ROUTES
def test_the_model_says_how_likely_it_holds_its_answer_for_true(base_url: str, route: Any) -> None:
    output = ask(model_at(base_url, route=route, self_verification=True, top_logprobs=2), [FRANCE])
    assert 0.0 < PTrue()(output)[0] < 1.0
    assert output.extra_calls == [1]
    assert output.completion_tokens == [5]


def test_three_samples_are_drawn_and_scored(base_url: str) -> None:
    model = model_at(
        base_url,
        route="completions",
        samples=3,
        sample_temperature=1.5,
        max_tokens=6,
        extra={"seed": 11, "stop": ["\n"]},
    )
    output = ask(model, [ANIMALS])
    samples = output.samples[0]
    assert len(samples) == 3
    assert all(sample for sample in samples)
    assert len({*samples, output.predictions[0]}) > 1, "at this temperature hardly any two are the same"
    assert (output.sample_logprobs[0] < 0.0).all()
    assert (output.sample_lengths[0] >= 1).all()
    assert output.extra_calls == [3]
    tokens = len(output.token_logprobs[0]) + output.sample_lengths[0].sum()
    assert output.completion_tokens[0] >= tokens, "the stop word's tokens are used too"
    assert output.prompt_tokens == 4 * ask(model_at(base_url, route="completions"), [ANIMALS]).prompt_tokens
    assert SelfConsistency(3)(output)[0] < 1.0
    for weighted in (False, True):
        assert -math.log(4) - 1e-9 <= SemanticEntropy(3, weighted=weighted)(output)[0] < 0.0


def test_samples_of_what_it_knows_agree(base_url: str) -> None:
    model = model_at(
        base_url, route="completions", samples=3, sample_temperature=0.3, extra={"seed": 1, "stop": ["\n"]}
    )
    output = ask(model, [FRANCE])
    assert list(output.samples[0]) == ["Paris"] * 3
    assert SelfConsistency(3)(output) == [1.0]
    assert SemanticEntropy(3)(output) == [0.0]
