"""A real language model as both levels: llama.cpp's own server, few-shot prompts, since it is a base model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.running import InThread, Reply, cascade, cli, config_text, endpoint, gateway, in_process
from llama import CAPITALS, MODEL, start_llama

pytestmark = pytest.mark.slow

FRANCE = CAPITALS.format("What is the capital of France?")
#: A question that nobody can answer in the same form.
NONSENSE = CAPITALS.format("What is the capital of Qwxzvbl?")

routes = pytest.mark.parametrize("route", ["chat", "completions"])
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def llama_url() -> Iterator[str]:
    with start_llama() as url:
        yield url


@pytest.fixture(scope="module")
def running(llama_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    llama = endpoint(llama_url, MODEL, cost_per_input=0.001) | {"timeout_s": 120.0, "max_tokens": 4}
    unjudged = llama | {"quantifier": "constant"}
    cascades = [
        cascade(llama, llama, "assistant", thresholds=(0.6, 0.0)),
        cascade(llama, llama, "prefix", thresholds=(0.6, 0.0), streaming="prefix", prefix_tokens=1),
        cascade(in_process(), llama, "words", thresholds=(2.0, 0.6)),
        cascade(llama | {"quantifier": "p_true"}, unjudged, "verified", thresholds=(0.0, 0.0)),
        cascade(llama | {"quantifier": "self_consistency", "samples": 3}, unjudged, "sampled", thresholds=(0.6, 0.0)),
    ]
    with gateway(tmp_path_factory.mktemp("llama"), *cascades) as one:
        yield one


def ask(running: InThread, model: str, route: str, stream: bool = False, prompt: str = FRANCE, **more: Any) -> Reply:
    options = {"model": model, "temperature": 0, "max_tokens": 2, "stop": ["\n"], "stream": stream} | more
    if route == "chat":
        body = options | {"messages": [{"role": "user", "content": prompt}]}
        return running.request("POST", "/v1/chat/completions", body)
    return running.request("POST", "/v1/completions", options | {"prompt": prompt})


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    if reply.headers["content-type"].startswith("application/json"):
        bodies = [reply.json]
    else:
        lines = [line[6:] for line in reply.body.decode().splitlines() if line.startswith("data: {")]
        bodies = [json.loads(line) for line in lines]
    choices = [choice for body in bodies for choice in body["choices"]]
    pieces = [
        choice.get("text") or (choice.get("message") or choice.get("delta") or {}).get("content")
        for choice in choices
    ]
    return "".join(piece or "" for piece in pieces).strip()


@streamed
@pytest.mark.parametrize("model", ["assistant", "prefix"])
def test_what_the_model_knows_is_answered_locally(running: InThread, model: str, stream: bool) -> None:
    reply = ask(running, model, "completions", stream)
    assert said(reply) == "Paris"
    assert reply.headers["x-bisupervised-route"] == "local"
    assert float(reply.headers["x-bisupervised-local-confidence"]) > 0.6
    assert "logprobs" not in reply.body.decode().replace('"logprobs":null', "")
    row = running.row(reply)
    assert (row["answer"], row["local_completion_tokens"] >= 1, row["local_prompt_tokens"] > 20) == (
        "Paris",
        True,
        True,
    )


@routes
@streamed
def test_both_routes_give_evidence_streamed_or_not(running: InThread, route: str, stream: bool) -> None:
    """In chat's shape on the completions route too: llama.cpp does that."""
    for model in ("assistant", "prefix", "words"):
        reply = ask(running, model, route, stream)
        assert reply.status in (200, 422)
        row = running.row(reply)
        level = "remote" if model == "words" else "local"
        assert 0.0 < row[f"{level}_confidence"] <= 1.0
        assert row["unscorable"] is None


def test_what_it_does_not_know_it_is_less_sure_of(running: InThread) -> None:
    known = running.row(ask(running, "assistant", "completions"))
    unknown = running.row(ask(running, "assistant", "completions", prompt=NONSENSE))
    assert unknown["local_confidence"] < known["local_confidence"]


@streamed
def test_the_model_verifies_its_own_answer(running: InThread, stream: bool) -> None:
    row = running.row(ask(running, "verified", "completions", stream))
    assert 0.0 < row["local_confidence"] < 1.0
    assert row["local_cost"] == pytest.approx(0.002), "the answer and the question whether it is true"


def test_samples_of_what_it_knows_agree(running: InThread) -> None:
    reply = ask(running, "sampled", "completions", seed=3)
    assert said(reply) == "Paris"
    row = running.row(reply)
    assert (row["local_confidence"] >= 1 / 3, row["local_cost"]) == (True, pytest.approx(0.004))


def test_a_client_that_streams_sees_tokens_as_they_are_made(running: InThread) -> None:
    with running.client() as client:
        chunks = list(
            client.completions.create(
                model="prefix",
                prompt=FRANCE,
                max_tokens=4,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].text]) >= 2
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


def test_doctor_finds_what_the_server_gives(llama_url: str, tmp_path: Path) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text(config_text(cascade(in_process(), endpoint(llama_url, MODEL) | {"timeout_s": 120.0})))
    done = cli("doctor", str(path), "--json")
    found = json.loads(done.stdout)["cascades"]["assistant"]["remote"]
    assert found["ok"], found
    for way in ("chat", "chat_streamed", "completions"):
        assert found["signals"][way]["token_logprobs"]
        assert found["signals"][way]["usage"]


def test_a_request_right_after_a_stream_is_not_lost(running: InThread) -> None:
    """llama.cpp's server closes the connection of a stream, although it says that it keeps it."""
    for _ in range(4):
        for stream in (True, False):
            assert ask(running, "prefix", "completions", stream).status == 200
