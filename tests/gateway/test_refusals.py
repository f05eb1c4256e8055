"""No answer: the typed errors that clients see, and the fallbacks that answer instead."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from bisupervised.decision_log import PendingInputs
from bisupervised.gateway.refusals import CODES, refusal
from bisupervised.records import LevelName
from gateway.running import InThread, Reply, cascade, endpoint, gateway, in_process, wait_until
from gateway.upstreams.handle import FaultyUpstream, refused

SURE, UNSURE = -0.01, -2.0
PRICES = {"prompt_price": 2.0, "completion_price": 8.0}

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    """Nobody is sure of anything."""
    running_upstream.reset()
    running_upstream.models(
        small={"kind": "ok", "text": "a local answer", "logprob": UNSURE},
        large={"kind": "ok", "text": "a remote answer", "logprob": UNSURE},
    )
    return running_upstream


@pytest.fixture(scope="module")
def running(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    url = running_upstream.base_url
    small, large = endpoint(url, "small"), endpoint(url, "large", breaker_failures=100, timeout_s=0.5)
    kinds = {
        "default": {"kind": "default", "answer": "nobody knows"},
        "untrusted": {"kind": "local_untrusted"},
        "call": {"kind": "call", "function": "gateway.local_models:answering"},
        "broken": {"kind": "call", "function": "gateway.local_models:breaking"},
        "queue": {"kind": "queue", "path": "waiting.db"},
    }
    with refused() as nowhere:
        cascades = [
            cascade(small, large, "assistant"),
            cascade(in_process(), large, "words"),
            *(cascade(small, large, name, fallback=fallback) for name, fallback in kinds.items()),
            cascade(in_process(), large, "words-untrusted", fallback=kinds["untrusted"]),
            cascade(in_process(), in_process("breaking_model"), "broken-remote", interface="openai"),
            cascade(in_process(), endpoint(nowhere, "large"), "unreachable"),
            cascade(in_process(), large | {"breaker_failures": 1, "breaker_reset_s": 60.0}, "fragile"),
            cascade(in_process(), large | {"max_concurrency": 1, "max_waiting": 0, "timeout_s": 5.0}, "narrow"),
            cascade(in_process(), large | PRICES | {"max_tokens": 100}, "poor", daily_budget=1e-6),
            cascade(in_process(), large, "strict", unscorable={"tools": "reject"}),
            cascade(in_process(), large, "hopeless", thresholds=(0.9, 0.5, 0.7)),
        ]
        with gateway(tmp_path_factory.mktemp("gateway"), *cascades) as one:
            yield one


def caught(running: InThread, model: str = "assistant", text: str = "hard", **options: Any) -> openai.APIStatusError:
    """What the client raises."""
    with running.client() as client, pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **options)
    return raised.value


# ---------------------------------------------------------------- rejected


@streamed
def test_what_nobody_trusts_is_a_typed_error_that_says_what_to_do(
    running: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    error = caught(running, stream=stream)
    assert isinstance(error, openai.UnprocessableEntityError)
    assert (error.status_code, error.code, error.type) == (422, "not_trusted", "prediction_rejected")
    assert "x-bisupervised-fallback: local_untrusted" in error.message
    headers = error.response.headers
    assert headers["content-type"] == "application/json"
    told = error.body["bisupervised"]
    assert told["id"] == headers["x-bisupervised-id"]
    assert (told["route"], told["reason"]) == ("rejected", "not_trusted")
    for level in ("local", "remote"):
        assert told[f"{level}_confidence"] == pytest.approx(0.1353, abs=1e-4)
        assert float(headers[f"x-bisupervised-{level}-confidence"]) == pytest.approx(0.1353, abs=1e-4)
    row = running.row(told["id"])
    assert (row["route"], row["fallback"], row["served"], row["status"]) == ("rejected", "raise", "error", 422)
    assert headers["x-bisupervised-served"] == "error"
    assert (row["answer"], row["local_prediction"], row["remote_prediction"]) == (
        None,
        "a local answer",
        "a remote answer",
    )


def test_a_rejected_draft_is_not_in_the_error(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard")
    assert b"answer" not in reply.body.replace(b"no answer", b"")


@streamed
def test_a_fixed_answer_takes_the_place_of_what_nobody_trusts(
    running: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    reply = running.chat("hard", "default", stream=stream)
    assert (reply.status, text_of(reply)) == (200, "nobody knows")
    assert reply.headers["x-bisupervised-served"] == "default"
    assert reply.headers["x-bisupervised-route"] == "rejected"
    row = running.row(reply)
    assert (row["route"], row["fallback"], row["served"], row["answer"]) == (
        "rejected",
        "default",
        "default",
        "nobody knows",
    )


@streamed
@pytest.mark.parametrize(("model", "answer"), [("untrusted", "a local answer"), ("words-untrusted", "positive")])
def test_the_local_answer_that_was_not_trusted_is_marked(
    running: InThread, upstream: FaultyUpstream, model: str, answer: str, stream: bool
) -> None:
    reply = running.chat("hard", model, stream=stream)
    assert (reply.status, text_of(reply)) == (200, answer)
    assert reply.headers["x-bisupervised-served"] == "local_untrusted"
    assert reply.headers["x-bisupervised-route"] == "rejected"
    assert running.row(reply)["answer"] == answer


def test_the_local_answer_is_at_hand_when_the_remote_is_down(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large="503")
    reply = running.chat("hard", "untrusted")
    assert (reply.status, text_of(reply)) == (200, "a local answer")
    assert (reply.headers["x-bisupervised-reason"], reply.headers["x-bisupervised-served"]) == (
        "failed",
        "local_untrusted",
    )


def test_there_is_no_local_answer_where_the_local_model_failed(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(small="503")
    reply = running.chat("hard", "untrusted")
    assert (reply.status, reply.code) == (422, "not_trusted")


def test_a_function_answers(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "call")
    id_ = reply.headers["x-bisupervised-id"]
    assert (reply.status, text_of(reply)) == (200, f"called for {id_}: hard")
    assert running.row(reply)["served"] == "call"


def test_a_function_that_raises_is_an_error_and_told_in_the_log(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "broken")
    assert (reply.status, reply.code) == (500, "fallback_failed")
    assert "broke" not in reply.body.decode(), "what went wrong inside is no client's business"
    row = running.row(reply)
    assert row["fallback_error"] == "RuntimeError: the fallback broke"
    assert (row["served"], row["status"]) == ("error", 500)


def test_an_input_is_handed_to_the_queue(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "queue", seed=7)
    assert (reply.status, reply.code) == (422, "queued")
    assert reply.headers["x-should-retry"] == "false"
    row = running.row(reply)
    assert (row["fallback"], row["served"], row["status"]) == ("queue", "error", 422)
    waiting = {item.id: item.x for item in PendingInputs(running.log_path.parent / "waiting.db").waiting()}
    asked = waiting[reply.headers["x-bisupervised-id"]]
    assert (asked["messages"], asked["seed"]) == ([{"role": "user", "content": "hard"}], 7)


def test_what_must_not_be_stored_is_not_handed_to_the_queue(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard, and private", "queue", headers={"x-bisupervised-store": "false"})
    assert (reply.status, reply.code) == (422, "not_trusted")
    assert b"private" not in (running.log_path.parent / "waiting.db").read_bytes()


@pytest.mark.parametrize(
    ("model", "wish", "served"),
    [
        ("assistant", "local_untrusted", "local_untrusted"),
        ("default", "raise", "error"),
        ("default", "local_untrusted", "local_untrusted"),
        ("default", "default", "default"),
        ("assistant", "default", "error"),
        ("queue", "raise", "error"),
    ],
)
def test_a_client_chooses_its_own_fallback(
    running: InThread, upstream: FaultyUpstream, model: str, wish: str, served: str
) -> None:
    reply = running.chat("hard", model, headers={"x-bisupervised-fallback": wish})
    assert reply.status == (422 if served == "error" else 200)
    assert running.row(reply)["served"] == served


def test_the_wish_changes_nothing_for_what_is_trusted(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("easy", "words", headers={"x-bisupervised-fallback": "local_untrusted"})
    assert (reply.headers["x-bisupervised-served"], reply.headers["x-bisupervised-route"]) == ("local", "local")


# ---------------------------------------------------------------- the errors


#: The code that a client sees, what it asks, and what the remote model does meanwhile.
PROVOKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "not_trusted": ({}, {}),
    "abstained": ({"model": "hopeless"}, {}),
    "no_evidence": ({}, {"large": "no_logprobs"}),
    "unscorable": ({"model": "strict", "tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
    "queued": ({"model": "queue"}, {}),
    "fallback_failed": ({"model": "broken"}, {}),
    "budget_exhausted": ({"model": "poor"}, {}),
    "model_not_found": ({"model": "somebody-else"}, {}),
    "invalid_request": ({"extra_body": {"messages": []}}, {}),
    "remote_rate_limited": ({}, {"large": "429?retry_after=3"}),
    "remote_status": ({}, {"large": "500"}),
    "remote_unreadable": ({}, {"large": "cut_json"}),
    "remote_failed": ({"model": "broken-remote"}, {}),
    "remote_unreachable": ({"model": "unreachable"}, {}),
    "remote_timeout": ({}, {"large": "stall_head"}),
    "circuit_open": ({"model": "fragile"}, {"large": "503"}),
    "local_failed": ({"extra_headers": {"x-bisupervised-force": "local"}}, {"small": "503"}),
}
#: And those that take more to provoke, each with a test of its own, in this file or in that of their subject.
ELSEWHERE = {
    "remote_busy",
    "too_many_requests",
    "log_full",
    "shutting_down",
    "internal_error",
    "method_not_allowed",
    "outcome_not_found",
    "outcome_pending",
    "invalid_api_key",
    "missing_scope",
    "body_too_large",
    "headers_too_large",
}
CLASSES = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}


def test_every_error_is_provoked() -> None:
    assert set(PROVOKED) | ELSEWHERE == set(CODES)


@streamed
@pytest.mark.parametrize("code", PROVOKED)
def test_an_error_has_its_documented_status_and_the_shape_that_clients_read(
    running: InThread, upstream: FaultyUpstream, code: str, stream: bool
) -> None:
    options, behaviours = PROVOKED[code]
    upstream.models(**behaviours)
    if code == "circuit_open":
        running.chat("hard", "fragile")
    error = caught(running, stream=stream, **options)
    status, _ = CODES[code]
    assert (error.status_code, error.code) == (status, code)
    assert isinstance(error, CLASSES.get(status, openai.InternalServerError))
    told = error.response.json()["error"]
    assert told.keys() - {"bisupervised"} == {"message", "type", "param", "code"}
    assert told["message"]
    assert told["type"] in ("invalid_request_error", "prediction_rejected", "rate_limit_error", "api_error")
    headers = error.response.headers
    assert (int(headers.get("retry-after", 0)) >= 1) is (status == 429 or code == "circuit_open")
    if code in ("model_not_found", "invalid_request"):
        assert "x-bisupervised-id" not in headers, "it was never accepted"
        assert running.metric("refused_total", code=code) >= 1
    else:
        row = running.row(headers["x-bisupervised-id"])
        assert (row["status"], row["served"], row["route"]) in (
            (status, "error", "rejected"),
            (status, "error", "remote"),
        )


def test_the_endpoints_own_retry_after_is_passed_on(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large="429?retry_after=3")
    assert running.chat("hard").headers["retry-after"] == "3"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_clients_own_mistakes_are_told_in_the_endpoints_words(
    running: InThread, upstream: FaultyUpstream, status: int
) -> None:
    upstream.models(large=f"{status}?message=temperature is at most 2")
    reply = running.chat("hard", temperature=9)
    assert reply.status == status
    assert reply.json["error"]["message"] == "temperature is at most 2"
    assert running.row(reply)["remote_error"].startswith("status")


def test_what_the_gateway_may_not_do_at_the_endpoint_is_not_the_clients_mistake(
    running: InThread, upstream: FaultyUpstream
) -> None:
    for status in (401, 403):
        upstream.models(large=f"{status}?message=the key sk-SECRET is wrong")
        reply = running.chat("hard")
        assert (reply.status, reply.code) == (502, "remote_status")
        assert b"SECRET" not in reply.body


def test_a_trusted_local_answer_needs_no_remote_model(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large="503")
    for model in ("words", "unreachable", "fragile", "poor"):
        assert running.chat("easy", model).status == 200


def test_a_local_model_that_fails_defers(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large={"kind": "ok", "logprob": SURE})
    reply = running.chat("broken", "words")
    assert (reply.status, reply.headers["x-bisupervised-deferred-because"]) == (200, "failed")
    row = running.row(reply)
    assert row["local_error"].startswith("model: RuntimeError") or "RuntimeError" in row["local_error"]
    assert running.metric("failures_total", cascade="words", level="local") >= 1


def test_the_client_tries_again_only_where_that_may_help(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large={"kind": "429", "first": 1, "retry_after": 0, "logprob": SURE, "text": "at last"})
    with running.client(max_retries=2) as client:
        messages: Any = [{"role": "user", "content": "hard"}]
        answer = client.chat.completions.create(model="words", messages=messages)
        assert answer.choices[0].message.content == "at last"
        assert upstream.state().begun == 2
        upstream.models(large={"kind": "ok", "logprob": UNSURE})
        for model in ("poor", "queue", "strict", "assistant"):
            running.service.log.flush()
            before = len(running.rows())
            tools = PROVOKED["unscorable"][0]["tools"] if model == "strict" else []
            with pytest.raises(openai.APIStatusError):
                client.chat.completions.create(model=model, messages=messages, tools=tools)
            running.rows(before + 1)
            running.service.log.flush()
            assert len(running.rows()) == before + 1, model


# ---------------------------------------------------------------- those that take more


@contextmanager
def asking(running: InThread, model: str, count: int = 1) -> Iterator[list[Reply]]:
    """Requests that are under way while the block runs."""
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(running.chat("hard", model))) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: running.service.in_flight, lambda n: n >= count)
        yield replies
    finally:
        for thread in threads:
            thread.join()


def test_no_more_remote_calls_than_may_run_and_wait(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large={"kind": "ok", "latency_s": 0.5, "logprob": SURE})
    with asking(running, "narrow") as replies:
        upstream.wait_for(lambda state: state.read == 1)
        busy = running.chat("hard", "narrow")
        assert (busy.status, busy.code, busy.headers["retry-after"]) == (429, "remote_busy", "1")
        assert running.chat("easy", "narrow").status == 200, "a local answer waits for nobody"
    assert [reply.status for reply in replies] == [200]
    assert running.row(busy)["remote_error"].startswith("busy")


def test_no_more_requests_than_may_be_in_flight(running_upstream: FaultyUpstream, tmp_path: Path) -> None:
    running_upstream.reset()
    running_upstream.default({"kind": "ok", "latency_s": 0.5, "logprob": SURE})
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"))
    with gateway(tmp_path, one, max_concurrency=2) as running:
        with asking(running, "assistant", 2) as replies:
            reply = running.chat("easy")
            assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "too_many_requests", "1")
        assert [reply.status for reply in replies] == [200, 200]
        assert running.chat("easy").status == 200
        assert len(running.rows(3)) == 3, "what was not accepted has no row"
        assert running.metric("refused_total", code="too_many_requests") == 1


def test_a_log_that_is_full_may_refuse_requests(running_upstream: FaultyUpstream, tmp_path: Path) -> None:
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"))
    with gateway(tmp_path, one, log_capacity=1, when_log_full="refuse") as running:
        counts = running.service.log.counts
        running.service.log.counts = lambda: replace(counts(), pending=1)  # type: ignore[method-assign]
        reply = running.chat("easy")
        assert (reply.status, reply.code) == (503, "log_full")
        running.service.log.counts = counts  # type: ignore[method-assign]
        assert running.chat("easy").status == 200


def test_a_gateway_that_stops_takes_nothing_new(running_upstream: FaultyUpstream, tmp_path: Path) -> None:
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"))
    with gateway(tmp_path, one) as running:
        assert (running.request("GET", "/readyz").status, running.request("GET", "/healthz").status) == (200, 200)
        running.service.draining = True
        reply = running.chat("easy")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "shutting_down", "1")
        assert (running.request("GET", "/readyz").status, running.request("GET", "/healthz").status) == (503, 200)


@streamed
def test_a_mistake_in_the_gateway_is_one_error_and_one_row(
    running_upstream: FaultyUpstream, tmp_path: Path, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"))
    with gateway(tmp_path, one) as running:

        async def mistaken(*args: Any) -> Any:
            raise ZeroDivisionError("a secret of the code")

        running.service.cascades["assistant"].backends[LevelName.LOCAL].whole = mistaken  # type: ignore[method-assign]
        reply = running.chat("easy", stream=stream)
        assert (reply.status, reply.code) == (500, "internal_error")
        assert b"secret" not in reply.body
        row = running.row(reply)
        assert (row["route"], row["reason"], row["served"], row["status"]) == ("rejected", "failed", "error", 500)
        assert "a secret of the code" in caplog.text
        assert reply.headers["x-bisupervised-id"] in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/chat/completions"), ("PUT", "/v1/completions"), ("POST", "/v1/models"), ("DELETE", "/v1/stats")],
)
def test_a_method_that_a_route_does_not_know(running: InThread, method: str, path: str) -> None:
    reply = running.request(method, path)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] in ("POST", "GET")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/embeddings", "/v1/chat", "/v3/health", "/docs", "/v1/a%0Ab", "/%0A"]
)
def test_a_path_that_there_is_not(running: InThread, path: str) -> None:
    reply = running.request("POST", path, {"model": "x"})
    assert (reply.status, reply.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"model": "assistant"}),
        json.dumps({"model": 3, "messages": [{"role": "user", "content": "x"}]}),
        json.dumps({"messages": [{"role": "user", "content": "x"}]}),
        json.dumps({"model": "assistant", "messages": "x"}),
        json.dumps({"model": "assistant", "messages": [{"content": "x"}]}),
        json.dumps({"model": "assistant", "messages": [{"role": "user", "content": 3}]}),
        json.dumps({"model": "assistant", "messages": [{"role": "user", "content": ["x"]}]}),
        json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}),
        json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "x"}], "stream_options": 1}),
    ],
)
def test_a_request_that_cannot_be_read_is_told_why(running: InThread, upstream: FaultyUpstream, body: Any) -> None:
    reply = running.request("POST", "/v1/chat/completions", body)
    assert (reply.status, reply.code) == (400, "invalid_request")
    assert reply.json["error"]["message"]
    assert upstream.state().begun == 0


def test_a_refusal_has_the_codes_status() -> None:
    for code, (status, meaning) in CODES.items():
        assert refusal(code, "words").status == status
        assert meaning


def text_of(reply: Reply) -> str:
    """The answer's text, streamed or not."""
    if reply.headers["content-type"].startswith("application/json"):
        return str(reply.json["choices"][0]["message"]["content"])
    events = [line.removeprefix("data: ") for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return "".join(c["delta"].get("content") or "" for event in events for c in json.loads(event)["choices"])
