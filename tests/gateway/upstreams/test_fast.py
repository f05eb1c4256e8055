"""The upstream of the benchmarks answers as a provider does, at the pace that its model's name says."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.upstreams.fast import TOKENS, said
from gateway.upstreams.handle import upstream_process

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with upstream_process("gateway.upstreams.fast") as (_, port):
        yield port


@pytest.fixture
def ask(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-test", max_retries=0, timeout=5) as client:
        yield client


def test_whole_replies_hold_the_answer_its_log_probabilities_and_usage(ask: openai.OpenAI) -> None:
    reply = ask.chat.completions.create(model="fast", messages=HELLO, logprobs=True)
    assert reply.choices[0].message.content == said().text
    assert [token.logprob for token in reply.choices[0].logprobs.content] == [logprob for _, logprob in TOKENS]
    assert reply.usage.completion_tokens == len(TOKENS)
    assert ask.completions.create(model="fast", prompt="x").choices[0].logprobs.token_logprobs[0] == -0.2
    assert [model.id for model in ask.models.list()] == ["fast"]


@pytest.mark.parametrize("model", ["fast", "fast+first50ms+gap5ms", "fast+gap5ms"])
def test_streams_hold_the_same_at_the_pace_that_the_model_names(ask: openai.OpenAI, model: str) -> None:
    began = time.perf_counter()
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    times, text, usages = [], "", 0
    for chunk in ask.chat.completions.create(model=model, messages=HELLO, **options):
        usages += chunk.usage is not None
        if chunk.choices and chunk.choices[0].delta.content:
            text += chunk.choices[0].delta.content
            times.append(time.perf_counter() - began)
    assert (text, usages) == (said().text, 1)
    least = {"fast": 0.0, "fast+first50ms+gap5ms": 0.055, "fast+gap5ms": 0.005}[model]
    assert times[0] >= least
    assert times[-1] - times[0] >= (0.045 if "gap" in model else 0.0)


def test_a_paced_reply_comes_after_all_of_its_tokens(ask: openai.OpenAI) -> None:
    began = time.perf_counter()
    assert ask.chat.completions.create(model="fast+gap5ms", messages=HELLO).usage
    assert time.perf_counter() - began >= 0.055


def test_a_stream_whose_client_left_is_counted(ask: openai.OpenAI, port: int) -> None:
    with ask.chat.completions.create(model="fast+gap900ms", messages=HELLO, stream=True) as stream:
        next(stream)
    for _ in range(200):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_state") as reply:
            if json.load(reply).get("left") == 1:
                return
        time.sleep(0.005)
    pytest.fail("nobody was seen to leave")
