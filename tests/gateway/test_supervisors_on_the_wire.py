"""Supervisors that ask a language model more: what they ask, what it costs, and what becomes of it."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.running import InThread, Reply, cascade, endpoint, gateway, wait_until
from gateway.upstreams.handle import FaultyUpstream

PRICES = {"prompt_price": 2.0, "completion_price": 8.0}
#: One call: 10 tokens asked and 1 written.
CALL = (10 * 2.0 + 1 * 8.0) / 1e6

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(large="ok?text=remote")
    return running_upstream


@pytest.fixture(scope="module")
def running(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    url = running_upstream.base_url

    def local(quantifier: str, **more: Any) -> dict[str, Any]:
        return endpoint(url, "small", **PRICES) | {"quantifier": quantifier} | more

    remote = endpoint(url, "large", cost_per_input=0.0) | {"quantifier": "constant"}
    truthful = endpoint(url, "large", **PRICES) | {"quantifier": "p_true"}
    cascades = [
        cascade(local("p_true"), remote, "p-true"),
        cascade(local("self_consistency", samples=3), remote, "consistency", thresholds=(0.6, 0.5)),
        cascade(local("semantic_entropy", samples=3), remote, "entropy", thresholds=(-0.6, 0.5)),
        cascade(local("p_true"), remote, "p-true-prefix", streaming="prefix", prefix_tokens=1),
        cascade(local("constant"), truthful, "above", thresholds=(2.0, 0.9)),
        cascade(local("label_probability", labels={"yes": ["yes"], "no": ["no"]}), remote, "labels"),
        cascade(local("token_entropy_mean"), remote, "token-entropy", thresholds=(-0.3, 0.5)),
        cascade(local("cocoa", samples=2, unlikely="entropy"), remote, "cocoa", thresholds=(-1.0, 0.5)),
        cascade(local("verbalised_confidence"), remote, "verbalised", thresholds=(0.8, 0.5)),
    ]
    with gateway(tmp_path_factory.mktemp("gateway"), *cascades) as one:
        yield one


def said(upstream: FaultyUpstream, *texts: str, **options: Any) -> None:
    """What the model says to the next requests, in turn."""
    upstream.script(*({"kind": "ok", "text": text} | options for text in texts))


def ask(running: InThread, model: str, **more: Any) -> Reply:
    return running.chat("What is the capital of Italy?", model, **more)


def known(reply: Reply, level: str = "local") -> tuple[float, float]:
    """Confidence and cost."""
    return tuple(float(reply.headers[f"x-bisupervised-{level}-{name}"]) for name in ("confidence", "cost"))  # type: ignore[return-value]


def route(reply: Reply) -> str:
    return reply.headers["x-bisupervised-route"]


# ---------------------------------------------------------------- P(True)


@streamed
@pytest.mark.parametrize("model", ["p-true", "p-true-prefix"])
def test_the_model_is_asked_whether_its_answer_is_true(
    running: InThread, upstream: FaultyUpstream, model: str, stream: bool
) -> None:
    said(upstream, "Rome", "A")
    reply = ask(running, model, stream=stream, temperature=0.5, stop=["\n"])
    assert (reply.status, route(reply)) == (200, "local")
    assert b"Rome" in reply.body
    assert b'"A"' not in reply.body, "what the model thinks of its answer is no answer"
    confidence, cost = known(reply)
    assert confidence > 0.9
    assert cost == pytest.approx(2 * CALL)
    asked, verified = upstream.state().bodies()
    assert "Proposed answer: Rome" in verified["messages"][-1]["content"]
    assert "What is the capital of Italy?" in verified["messages"][-1]["content"]
    assert (verified["max_tokens"], verified["model"], verified["stream"]) == (1, "small", False)
    assert "stop" not in verified
    assert asked["stop"] == ["\n"]
    row = running.row(reply)
    assert row["local_cost"] == pytest.approx(2 * CALL)
    assert (row["local_prompt_tokens"], row["local_completion_tokens"]) == (20, 2)


def test_an_answer_that_the_model_holds_for_false_is_deferred(running: InThread, upstream: FaultyUpstream) -> None:
    said(upstream, "Milan", "B")
    reply = ask(running, "p-true")
    assert (route(reply), b"Milan" in reply.body) == ("remote", False)
    confidence, cost = known(reply)
    assert confidence < 0.1
    assert cost == pytest.approx(2 * CALL)


@pytest.mark.parametrize(("behaviour", "charged"), [("500", 1), ("null_content", 2), ("no_logprobs?text=A", 2)])
def test_no_word_about_its_truth_is_no_evidence(
    running: InThread, upstream: FaultyUpstream, behaviour: str, charged: int
) -> None:
    upstream.script("ok?text=Rome", behaviour)
    reply = ask(running, "p-true")
    assert (route(reply), reply.headers["x-bisupervised-deferred-because"]) == ("remote", "no_evidence")
    assert "x-bisupervised-local-confidence" not in reply.headers
    if behaviour != "null_content":
        assert float(reply.headers["x-bisupervised-local-cost"]) == pytest.approx(charged * CALL)


def test_a_verification_that_may_have_been_charged_makes_the_cost_unknown(
    running: InThread, upstream: FaultyUpstream
) -> None:
    upstream.script("ok?text=Rome", "reset_after_read")
    reply = ask(running, "p-true")
    assert route(reply) == "remote"
    assert "x-bisupervised-local-cost" not in reply.headers
    row = running.row(reply)
    assert (row["local_cost"], row["cost_bound"] > 0.0) == (None, True)


def test_the_remote_model_may_be_asked_so_too(running: InThread, upstream: FaultyUpstream) -> None:
    said(upstream, "Milan", "Rome", "A")
    reply = ask(running, "above")
    assert (reply.status, route(reply)) == (200, "remote")
    assert known(reply, "remote") == (pytest.approx(0.99, abs=0.05), pytest.approx(2 * CALL))
    said(upstream, "Milan", "Rome", "B")
    assert (ask(running, "above").code) == "not_trusted"


@pytest.mark.parametrize("prompt", [[1, 2, 3], ["one", "two"], [[1, 2], [3]]])
def test_a_prompt_that_words_cannot_ask_about_brings_no_evidence_and_no_error(
    running: InThread, upstream: FaultyUpstream, prompt: Any
) -> None:
    reply = running.request("POST", "/v1/completions", {"model": "above", "prompt": prompt})
    assert reply.status == 200, "the rule for `many` trusts the remote model"
    assert running.row(reply)["unscorable"] == "many"
    headers = {"x-bisupervised-force": "local"}
    forced = running.request("POST", "/v1/completions", {"model": "p-true", "prompt": prompt}, headers)
    assert forced.status == 200


# ---------------------------------------------------------------- samples


@streamed
@pytest.mark.parametrize("model", ["consistency", "entropy"])
def test_samples_that_agree_are_trusted_and_paid_for(
    running: InThread, upstream: FaultyUpstream, model: str, stream: bool
) -> None:
    said(upstream, "Rome", "Rome.", "rome", "Rome")
    reply = ask(running, model, stream=stream, temperature=0, tool_choice="none", top_p=0.1)
    assert (reply.status, route(reply)) == (200, "local")
    confidence, cost = known(reply)
    assert confidence == pytest.approx(1.0 if model == "consistency" else 0.0, abs=1e-9)
    assert cost == pytest.approx(4 * CALL)
    first, *samples = upstream.state().bodies()
    assert len(samples) == 3
    assert first["temperature"] == 0
    assert all(body["temperature"] == 1.0 and "top_p" not in body and not body["stream"] for body in samples)
    assert running.row(reply)["local_completion_tokens"] == 4


@pytest.mark.parametrize(("model", "confidence"), [("consistency", 1 / 3), ("entropy", None)])
def test_samples_that_differ_are_not(
    running: InThread, upstream: FaultyUpstream, model: str, confidence: float | None
) -> None:
    said(upstream, "Rome", "Milan", "Rome", "Turin")
    reply = ask(running, model)
    assert route(reply) == "remote"
    expected = confidence if confidence is not None else sum(p * math.log(p) for p in (0.5, 0.25, 0.25))
    assert known(reply) == (pytest.approx(expected), pytest.approx(4 * CALL))


def test_a_sample_that_fails_agrees_with_nothing(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.script("ok?text=Rome", "500", "ok?text=Rome", "500")
    reply = ask(running, "consistency")
    assert route(reply) == "remote"
    assert known(reply) == (pytest.approx(1 / 3), pytest.approx(2 * CALL))


def test_each_sample_has_a_seed_of_its_own(running: InThread, upstream: FaultyUpstream) -> None:
    ask(running, "consistency", seed=7)
    bodies = [body for body in upstream.state().bodies() if body["model"] == "small"]
    assert sorted(body["seed"] for body in bodies) == [7, 8, 9, 10]


def test_samples_are_drawn_at_the_same_time(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.script("ok?text=Rome", *(["ok?text=Rome&latency_s=0.3"] * 3))
    reply = ask(running, "consistency")
    assert route(reply) == "local"
    assert 0.3 <= float(reply.headers["x-bisupervised-local-latency-s"]) < 0.6


def test_no_paid_sample_goes_on_when_the_client_has_gone(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.script("ok?text=Rome", *(["stall_head?stall_s=5"] * 3))
    connection = http.client.HTTPConnection(running.address, timeout=5)
    body = {"model": "consistency", "messages": [{"role": "user", "content": "hello"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    upstream.wait_for(lambda state: state.read == 4)
    connection.close()
    upstream.wait_for(lambda state: state.disconnects == 3)
    rows = wait_until(lambda: [row for row in running.rows() if row["status"] == 499], bool)
    [row] = rows
    assert (row["reason"], row["served"], row["remote_asked"]) == ("cancelled", "none", False)
    assert (row["local_cost"], row["cost_bound"] > 0.0) == (None, True), "nobody will say what it cost"


def test_a_budget_that_ends_within_the_samples_leaves_the_answer_without_evidence(
    running_upstream: FaultyUpstream, tmp_path: Path
) -> None:
    running_upstream.reset()
    local = endpoint(running_upstream.base_url, "small", cost_per_input=1.0)
    local |= {"quantifier": "self_consistency", "samples": 3}
    remote = endpoint(running_upstream.base_url, "large", cost_per_input=0.0) | {"quantifier": "constant"}
    with gateway(tmp_path, cascade(local, remote, daily_budget=2.0, thresholds=(0.5, 0.0))) as running:
        reply = running.chat("hello")
        assert reply.status == 200
        assert (route(reply), float(reply.headers["x-bisupervised-local-cost"])) == ("remote", 2.0)
        assert [body["model"] for body in running_upstream.state().bodies()] == ["small", "small", "large"]


# ---------------------------------------------------------------- labels


@streamed
def test_the_likelihood_of_a_label_decides(running: InThread, upstream: FaultyUpstream, stream: bool) -> None:
    said(upstream, "yes", logprob=-0.01)
    reply = ask(running, "labels", stream=stream)
    assert (route(reply), known(reply)[0]) == ("local", pytest.approx(0.99, abs=0.01))
    said(upstream, "yes", logprob=-1.0)
    assert route(ask(running, "labels", stream=stream)) == "remote"
    said(upstream, "perhaps", logprob=-0.01)
    reply = ask(running, "labels", stream=stream)
    assert (route(reply), reply.headers["x-bisupervised-deferred-because"]) == ("remote", "failed")
    assert running.row(reply)["local_error"].startswith("unreadable")
    assert all(body["top_logprobs"] == 5 for body in upstream.state().bodies() if body["model"] == "small")


# ---------------------------------------------------------------- the alternatives at each token, and the text


@streamed
def test_the_entropy_at_each_token_decides(running: InThread, upstream: FaultyUpstream, stream: bool) -> None:
    said(upstream, "yes it is", logprob=-0.01)
    reply = ask(running, "token-entropy", stream=stream)
    assert (route(reply), -0.3 < known(reply)[0] < 0.0) == ("local", True)
    said(upstream, "yes it is", logprob=-1.0)
    assert route(ask(running, "token-entropy", stream=stream)) == "remote"
    assert all(body["top_logprobs"] == 5 for body in upstream.state().bodies() if body["model"] == "small")


def test_samples_and_the_entropy_of_the_answer_are_asked_for_together(
    running: InThread, upstream: FaultyUpstream
) -> None:
    said(upstream, "yes", "yes", "yes", logprob=-1.0)
    assert known(ask(running, "cocoa"))[0] == 0.0, "every sample repeats the answer"
    assert upstream.state().bodies()[0]["top_logprobs"] == 5
    said(upstream, "yes", "no", "never", logprob=-1.0)
    assert known(ask(running, "cocoa"))[0] < 0.0


@streamed
def test_a_confidence_in_words_is_read_once_the_answer_is_whole(
    running: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    said(upstream, "Rome. Confidence: 90%")
    reply = ask(running, "verbalised", stream=stream)
    assert (route(reply), known(reply)[0]) == ("local", 0.9)
    said(upstream, "Rome. Confidence: 40%")
    assert route(ask(running, "verbalised", stream=stream)) == "remote"
    said(upstream, "Rome, I think")
    reply = ask(running, "verbalised", stream=stream)
    assert (route(reply), reply.headers["x-bisupervised-deferred-because"]) == ("remote", "no_evidence")
