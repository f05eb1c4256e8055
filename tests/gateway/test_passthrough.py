"""Other models and other routes: to their own endpoint and back, byte for byte."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.running import InThread, cascade, endpoint, gateway, in_process, wait_until
from gateway.upstreams.handle import FaultyUpstream, faulty_upstream, refused

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
#: Between two neighbours on the way, and different for each pair.
NEIGHBOURS = {"connection", "keep-alive", "transfer-encoding", "host", "date", "server"}


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[FaultyUpstream, FaultyUpstream]]:
    with faulty_upstream() as one, faulty_upstream() as other:
        yield one, other


@pytest.fixture
def upstream(upstreams: tuple[FaultyUpstream, FaultyUpstream]) -> FaultyUpstream:
    """Where everything goes that is not `gpt-…`."""
    for one in upstreams:
        one.reset()
    return upstreams[1]


@pytest.fixture(scope="module")
def running(
    upstreams: tuple[FaultyUpstream, FaultyUpstream], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InThread]:
    first, second = upstreams
    with refused() as nowhere:
        passthrough = [
            {"name": "gpt", "base_url": first.base_url, "models": ["gpt-*", "exactly"]},
            {"name": "nowhere", "base_url": nowhere, "models": ["nobody"]},
            {"name": "slow", "base_url": second.base_url, "models": ["stall_head"], "timeout_s": 0.3},
            {"name": "rest", "base_url": second.base_url, "api_key": "sk-rest", "models": ["*"]},
        ]
        one = cascade(in_process(), endpoint(first.base_url, "large"))
        with gateway(tmp_path_factory.mktemp("gateway"), one, passthrough=passthrough) as gateway_:
            yield gateway_


def exchanged(
    address: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Any:
    """Status, headers that are not between neighbours, and the body, as they come."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, dict(headers or {}))
        reply = connection.getresponse()
        kept = {name.lower(): value for name, value in reply.getheaders() if name.lower() not in NEIGHBOURS}
        return reply.status, kept, reply.read()
    finally:
        connection.close()


def both(running: InThread, upstream: FaultyUpstream, *request: Any) -> tuple[Any, Any]:
    """The same request, to the endpoint itself and through the gateway."""
    return exchanged(f"127.0.0.1:{upstream.port}", *request), exchanged(running.address, *request)


def chat(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "Zürich"}]} | more).encode()


# ---------------------------------------------------------------- there and back


@streamed
@pytest.mark.parametrize(
    "model",
    [
        *("anything", "tool_call", "refusal", "429?retry_after=7", "400", "404", "500", "503", "529"),
        *("html", "redirect", "cut_json", "error_in_200", "error_in_stream", "null_content", "usage_split"),
        *("byte_by_byte", "ok?comments=true", "ok?logprob=-3"),
    ],
)
def test_an_answer_comes_back_as_the_endpoint_gave_it(
    running: InThread, upstream: FaultyUpstream, model: str, stream: bool
) -> None:
    asked = chat(model, stream=stream, logprobs=True, stream_options={"include_usage": True} if stream else None)
    direct, passed = both(running, upstream, "POST", "/v1/chat/completions", asked)
    assert passed == direct


def test_a_request_arrives_as_the_client_sent_it(running: InThread, upstream: FaultyUpstream) -> None:
    body = b' {"model" :\t"anything","messages":[{"role":"user","content":"Z\\u00fcrich","x":1.50e1}],\n"n":1 } '
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Accept": "application/json",
        "X-Stainless-Lang": "python",
        "OpenAI-Organization": "org-1",
        "Idempotency-Key": "k-1",
        "User-Agent": "OpenAI/Python",
    }
    both(running, upstream, "POST", "/v1/chat/completions", body, headers)
    direct, passed = upstream.state().requests
    assert passed["body"] == direct["body"] == body.decode()
    for name in headers:
        assert passed["headers"][name.lower()] == headers[name]
    ours = set(passed["headers"]) ^ set(direct["headers"])
    assert ours == {"authorization"}, "its own key in place of the client's"
    assert passed["headers"]["authorization"] == "Bearer sk-rest"
    assert passed["headers"]["host"] == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files"),
        ("GET", "/v1/files?limit=2&after=%20x&empty=&q=a%26b+c"),
        ("GET", "/v1/files/a%20b%2Fc/content"),
        ("DELETE", "/v1/files/f-1"),
        ("PUT", "/v1/things/1"),
        ("PATCH", "/v1/things/1"),
        ("OPTIONS", "/v1/things"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/audio/transcriptions"),
        ("POST", "/v1/responses"),
    ],
)
def test_a_route_that_the_gateway_does_not_know_is_passed_on(
    running: InThread, upstream: FaultyUpstream, method: str, path: str
) -> None:
    body = bytes(range(256)) * 3 if method in ("POST", "PUT", "PATCH") else b""
    running_first = running.metric("passed_through_total")
    status, _, content = exchanged(running.address, method, path, body, {"Content-Type": "application/octet-stream"})
    seen = json.loads(content)
    assert (status, seen["method"], seen["path"]) == (200, method, path)
    assert base64.b64decode(seen["body"]) == body
    assert running.metric("passed_through_total") == running_first + 1


def test_head_has_a_head_alone(running: InThread, upstream: FaultyUpstream) -> None:
    status, headers, content = exchanged(running.address, "HEAD", "/v1/files/f-1")
    assert (status, content) == (200, b"")
    assert int(headers["content-length"]) > 0
    assert running.request("GET", "/healthz").status == 200


def test_a_compressed_answer_stays_compressed(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.default({"kind": "ok", "gzip": True, "text": "Zürich " * 100})
    headers = {"Accept-Encoding": "gzip"}
    direct, passed = both(running, upstream, "POST", "/v1/chat/completions", chat("anything"), headers)
    assert passed[1]["content-encoding"] == "gzip"
    assert (passed[0], passed[1]) == (direct[0], direct[1])
    assert gzip.decompress(passed[2]) == gzip.decompress(direct[2])
    _, headers_without, plain = exchanged(running.address, "POST", "/v1/chat/completions", chat("anything"))
    assert "content-encoding" not in headers_without
    assert "Zürich" in json.loads(plain)["choices"][0]["message"]["content"]


def test_a_large_answer_comes_whole(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.default({"kind": "huge", "mb": 12, "shape": "none"})
    direct, passed = both(running, upstream, "POST", "/v1/chat/completions", chat("anything"))
    assert len(passed[2]) > 12_000_000
    assert passed == direct


def test_a_stream_comes_as_it_is_made(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.default({"kind": "ok", "text": "one two three four", "delay_s": 0.15})
    with running.client() as client:
        start = time.monotonic()
        messages: Any = [{"role": "user", "content": "x"}]
        stream = client.chat.completions.create(model="anything", messages=messages, stream=True)
        times = [time.monotonic() - start for chunk in stream if chunk.choices[0].delta.content]
    assert len(times) == 4
    assert times[0] < 0.4
    assert all(later - sooner > 0.08 for sooner, later in pairwise(times))


def test_the_unchanged_client_speaks_to_other_models(running: InThread, upstream: FaultyUpstream) -> None:
    with running.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="anything", messages=[{"role": "user", "content": "x"}], logprobs=True
        )
        assert not [name for name in raw.headers if name.startswith("x-bisupervised")]
        answer = raw.parse()
        assert (answer.model, answer.choices[0].message.content) == ("anything", "positive")
        assert answer.choices[0].logprobs is not None
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="429?retry_after=7", messages=[])
        assert caught.value.response.headers["retry-after"] == "7"


# ---------------------------------------------------------------- where to


def test_models_go_where_the_first_pattern_says(
    running: InThread, upstream: FaultyUpstream, upstreams: tuple[FaultyUpstream, FaultyUpstream]
) -> None:
    for model in ("gpt-4o", "gpt-", "exactly", "exactly-not", "gp", "claude"):
        for path, asked in (("chat/completions", chat(model)), ("completions", {"model": model, "prompt": "x"})):
            body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
            assert exchanged(running.address, "POST", f"/v1/{path}", body)[0] == 200
    first, second = ([record["model"] for record in one.state().requests] for one in upstreams)
    assert first == ["gpt-4o"] * 2 + ["gpt-"] * 2 + ["exactly"] * 2
    assert second == ["exactly-not"] * 2 + ["gp"] * 2 + ["claude"] * 2
    assert running.metric("passed_through_total", upstream="gpt", status="200") >= 6


@pytest.mark.parametrize(
    "body",
    [
        {"model": "anything", "messages": []},
        {"model": "anything", "messages": "what the endpoint knows better"},
        {"model": "anything"},
        {"model": "anything", "messages": [{"role": "user", "content": 3}], "stream": "perhaps"},
    ],
)
def test_what_the_gateway_cannot_read_the_endpoint_may(
    running: InThread, upstream: FaultyUpstream, body: dict[str, Any]
) -> None:
    exchanged(running.address, "POST", "/v1/chat/completions", json.dumps(body).encode())
    assert json.loads(upstream.state().requests[-1]["body"]) == body


@pytest.mark.parametrize("status", ["401", "403"])
def test_what_an_endpoint_says_of_this_gateways_own_key_is_not_passed_on(
    running: InThread, upstream: FaultyUpstream, status: str
) -> None:
    reply = running.request("POST", "/v1/chat/completions", chat(status))
    assert (reply.status, reply.code) == (502, "remote_status")
    assert b"sk-rest" not in reply.body


def test_another_route_goes_where_its_model_goes(
    running: InThread, upstream: FaultyUpstream, upstreams: tuple[FaultyUpstream, FaultyUpstream]
) -> None:
    for model in ("gpt-embedding", "another"):
        exchanged(running.address, "POST", "/v1/embeddings", json.dumps({"model": model, "input": "x"}).encode())
    exchanged(running.address, "GET", "/v1/files")
    assert [record["path"] for record in upstreams[0].state().requests] == ["/v1/embeddings"]
    assert [record["path"] for record in upstreams[1].state().requests] == ["/v1/embeddings", "/v1/files"]
    for one in upstreams:
        one.reset()
    exchanged(running.address, "GET", "/v1/models/gpt-4o")
    assert [record["path"] for record in upstreams[0].state().requests] == ["/v1/models/gpt-4o"]
    reply = running.request("POST", "/v1/responses", {"model": "assistant", "input": "x"})
    assert (reply.status, reply.code) == (404, "model_not_found"), "a cascade is asked by its own routes"


def test_a_cascade_is_not_passed_on(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.request("POST", "/v1/chat/completions", {"model": "assistant", "messages": []})
    assert (reply.status, reply.code) == (400, "invalid_request")
    assert running.chat("easy").headers["x-bisupervised-route"] == "local"
    assert upstream.state().begun == 0


def test_without_a_pattern_for_a_model_there_is_none(upstreams: Any, tmp_path: Path) -> None:
    one = cascade(in_process(), endpoint(upstreams[0].base_url, "large"))
    passthrough = [{"name": "gpt", "base_url": upstreams[0].base_url, "models": ["gpt-*"]}]
    with gateway(tmp_path, one, passthrough=passthrough) as running:
        assert running.request("POST", "/v1/chat/completions", chat("gpt-4o")).status == 200
        assert running.request("POST", "/v1/chat/completions", chat("claude")).code == "model_not_found"
        assert running.request("POST", "/v1/embeddings", {"model": "claude"}).code == "model_not_found"
        assert running.request("GET", "/v1/files").code == "model_not_found"


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/../_state", "/v1/../../etc/passwd", "/v1/x/..", "/v1/..", "/v1/%2e%2e/_state", "/v1/%2E./_state"),
        *("/v1//evil.example/", "/v1/x//y", "/v1/..%2f_state", "/v1/..\\_state", "/v1/%2e%2e%2f_state"),
    ],
)
def test_no_path_leaves_the_endpoints_own(running: InThread, upstream: FaultyUpstream, path: str) -> None:
    for method in ("GET", "POST"):
        status, _, content = exchanged(running.address, method, path)
        assert status == 400
        assert json.loads(content)["error"]["code"] == "invalid_request"
    assert upstream.state().begun == 0


# ---------------------------------------------------------------- what goes wrong


def test_an_endpoint_that_is_down_is_a_typed_error(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.request("POST", "/v1/chat/completions", chat("nobody"))
    assert (reply.status, reply.code) == (503, "remote_unreachable")
    assert running.metric("passed_through_total", upstream="nowhere", status="0") >= 1
    start = time.monotonic()
    reply = running.request("POST", "/v1/chat/completions", chat("stall_head"))
    assert (reply.status, reply.code) == (504, "remote_timeout")
    assert time.monotonic() - start < 2.0


@pytest.mark.parametrize("model", ["reset_after_read", "close"])
def test_an_endpoint_that_hangs_up_is_a_typed_error(running: InThread, upstream: FaultyUpstream, model: str) -> None:
    reply = running.request("POST", "/v1/chat/completions", chat(model))
    assert (reply.status, reply.code) == (503, "remote_unreachable")


@streamed
@pytest.mark.parametrize("model", ["reset_mid_body", "close_mid_body"])
def test_an_answer_that_breaks_off_does_not_look_complete(
    running: InThread, upstream: FaultyUpstream, model: str, stream: bool
) -> None:
    for address in (f"127.0.0.1:{upstream.port}", running.address):
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            exchanged(address, "POST", "/v1/chat/completions", chat(model, stream=stream))


@streamed
def test_a_client_that_goes_away_ends_the_call(running: InThread, upstream: FaultyUpstream, stream: bool) -> None:
    upstream.default("drip" if stream else "stall_head")
    connection = http.client.HTTPConnection(running.address, timeout=5)
    connection.request("POST", "/v1/chat/completions", chat("anything", stream=stream))
    upstream.wait_for(lambda state: state.read == 1)
    if stream:
        assert connection.getresponse().read(20)
    gone = time.monotonic()
    connection.close()
    state = upstream.wait_for(lambda state: state.disconnects == 1)
    assert state.requests[-1]["disconnected"] - gone < 0.1
    wait_until(lambda: running.service.in_flight, lambda n: n == 0)


def test_what_is_passed_on_has_no_row(running: InThread, upstream: FaultyUpstream) -> None:
    running.service.log.flush()
    before = len(running.rows())
    exchanged(running.address, "POST", "/v1/chat/completions", chat("anything"))
    running.service.log.flush()
    assert len(running.rows()) == before
