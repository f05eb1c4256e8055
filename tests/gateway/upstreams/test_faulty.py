"""The upstream of the gateway's tests does to a request what it says, and counts it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import openai
import pytest

from gateway.upstreams.behaviours import KINDS, Behaviour
from gateway.upstreams.handle import FaultyUpstream, faulty_upstream, refused


@pytest.fixture(scope="module")
def process() -> Iterator[FaultyUpstream]:
    with faulty_upstream() as running:
        yield running


@pytest.fixture
def upstream(process: FaultyUpstream) -> FaultyUpstream:
    process.reset()
    return process


def body_of(model: str = "any", **fields: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]} | fields).encode()


def raw(upstream: FaultyUpstream, body: bytes, route: str = "/v1/chat/completions") -> bytes:
    """Everything that comes back until the end of the reply; raises ConnectionResetError for a reset."""
    with connected(upstream, body, route) as link:
        received = b""
        while piece := link.recv(65536):
            received += piece
        return received


def connected(upstream: FaultyUpstream, body: bytes, route: str = "/v1/chat/completions") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", upstream.port), timeout=5)
    lines = f"POST {route} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    link.sendall(lines.encode() + body)
    return link


def post(
    upstream: FaultyUpstream, body: bytes, route: str = "/v1/chat/completions"
) -> tuple[int, dict[str, str], bytes]:
    async def exchange() -> tuple[int, dict[str, str], bytes]:
        async with aiohttp.ClientSession() as session:
            options: dict[str, Any] = {"data": body, "allow_redirects": False, "timeout": aiohttp.ClientTimeout(5)}
            options["headers"] = {"Authorization": "Bearer sk-secret-key-1234"}
            async with session.post(upstream.root + route, **options) as reply:
                return reply.status, dict(reply.headers), await reply.read()

    return asyncio.run(exchange())


def client(upstream: FaultyUpstream) -> openai.OpenAI:
    return openai.OpenAI(base_url=upstream.base_url, api_key="sk-test", max_retries=0, timeout=5)


HELLO: Any = [{"role": "user", "content": "hello"}]


def test_the_openai_client_reads_answer_log_probabilities_and_usage(upstream: FaultyUpstream) -> None:
    with client(upstream) as ask:
        reply = ask.chat.completions.create(
            model="ok?text=yes it is&logprob=-0.5&cached_tokens=4", messages=HELLO, logprobs=True, top_logprobs=2
        )
        assert reply.choices[0].message.content == "yes it is"
        assert [token.logprob for token in reply.choices[0].logprobs.content] == [-0.5] * 3
        assert len(reply.choices[0].logprobs.content[0].top_logprobs) == 2
        assert reply.usage.prompt_tokens_details.cached_tokens == 4
        completion = ask.completions.create(model="ok", prompt="hello", logprobs=1)
        assert completion.choices[0].logprobs.token_logprobs == [-0.05]
    assert upstream.state().completion_tokens == 4


def test_the_openai_client_reads_a_stream_and_its_usage_only_when_asked(upstream: FaultyUpstream) -> None:
    with client(upstream) as ask:
        for options, usages in (({}, 0), ({"stream_options": {"include_usage": True}}, 1)):
            chunks = list(
                ask.chat.completions.create(
                    model="ok?text=a b c", messages=HELLO, stream=True, logprobs=True, **options
                )
            )
            said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
            assert "".join(filter(None, said)) == "a b c"
            assert sum(chunk.usage is not None for chunk in chunks) == usages
        texts = [c.choices[0].text for c in ask.completions.create(model="ok?text=a b", prompt="x", stream=True)]
    assert "".join(texts) == "a b"


def test_the_openai_client_reads_tool_calls_refusals_and_several_choices(upstream: FaultyUpstream) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    with client(upstream) as ask:
        create = ask.chat.completions.create
        called = create(model="tool_call", messages=HELLO, tools=tools).choices[0]
        assert called.finish_reason == "tool_calls"
        assert called.message.tool_calls[0].function.name == "weather"
        pieces = [
            piece.function.arguments
            for chunk in create(model="tool_call", messages=HELLO, tools=tools, stream=True)
            for piece in chunk.choices[0].delta.tool_calls or ()
        ]
        assert json.loads("".join(pieces)) == {"city": "Bern"}
        assert create(model="refusal?text=No.", messages=HELLO).choices[0].message.refusal == "No."
        several = create(model="ok?texts=a|b", messages=HELLO, n=3).choices
        assert [choice.message.content for choice in several] == ["a", "b", "a"]


@pytest.mark.parametrize("kind", ["reset_before_read", "reset_after_read", "reset_mid_body"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_is_a_reset_and_says_how_far_it_came(upstream: FaultyUpstream, kind: str, stream: bool) -> None:
    upstream.script(kind)
    with connected(upstream, body_of(stream=stream)) as link:
        received = b"".join(until_reset(link))
    state = upstream.wait_for(lambda state: state.connections_open == 0)
    assert (state.begun, state.read, state.completed) == (1, int(kind != "reset_before_read"), 0)
    assert bool(received) == (kind == "reset_mid_body")


def until_reset(link: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            piece = link.recv(65536)
        except ConnectionResetError:
            return
        assert piece, "an orderly end, no reset"
        yield piece


@pytest.mark.parametrize(
    ("behaviour", "ends"),
    [
        ("close", b""),
        ("close_mid_body", None),
        ("cut_json", None),
        ("html", b"</html>"),
    ],
)
def test_whole_replies_are_broken_as_they_should_be(
    upstream: FaultyUpstream, behaviour: str, ends: bytes | None
) -> None:
    upstream.default(behaviour)
    reply = raw(upstream, body_of())
    if ends is not None:
        assert reply.endswith(ends)
        return
    head, _, content = reply.partition(b"\r\n\r\n")
    promised = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert (len(content) < promised) == (behaviour == "close_mid_body")
    with pytest.raises(ValueError):
        json.loads(content)


@pytest.mark.parametrize("code", [400, 401, 429, 500, 502, 503, 529])
def test_errors_have_their_status_and_openais_body(upstream: FaultyUpstream, code: int) -> None:
    status, headers, content = post(upstream, body_of(f"{code}?retry_after=3"))
    message = json.loads(content)["error"]["message"]
    assert (status, headers["Retry-After"]) == (code, "3")
    assert ("sk-secre" in message) == (code == 401)
    assert "Retry-After" not in post(upstream, body_of(str(code)))[1]


def test_a_burst_ends(upstream: FaultyUpstream) -> None:
    assert [post(upstream, body_of("503?first=2"))[0] for _ in range(3)] == [503, 503, 200]
    upstream.script("500", "502")
    assert [post(upstream, body_of())[0] for _ in range(3)] == [500, 502, 200]


@pytest.mark.parametrize(
    ("behaviour", "end"),
    [
        ("sse_no_done", b"\n\n"),
        ("sse_cut_event", None),
        ("sse_cut_utf8", b"\xc3"),
        ("error_in_stream", b"529}}\n\n"),
        ("error_in_200", b"502}}\n\n"),
        ("ok?text=a b c d", b"data: [DONE]\n\n"),
        ("byte_by_byte", b"data: [DONE]\n\n"),
        ("cut_json", b"data: [DONE]\n\n"),
    ],
)
def test_streams_are_broken_as_they_should_be(upstream: FaultyUpstream, behaviour: str, end: bytes | None) -> None:
    upstream.models(broken=Behaviour.of(behaviour).options | {"kind": behaviour.partition("?")[0], "text": "a b c d"})
    status, _, content = post(upstream, body_of("broken", stream=True))
    assert status == 200
    assert content.endswith(end) if end is not None else not content.endswith(b"\n")
    assert (b"[DONE]" in content) == (end is not None and b"DONE" in end)


def test_a_stream_may_break_its_coding_too(upstream: FaultyUpstream) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        post(upstream, body_of("sse_cut_event?terminate=false", stream=True))


def test_bytes_come_one_by_one(upstream: FaultyUpstream) -> None:
    with connected(upstream, body_of("byte_by_byte?byte_delay_s=0.0005")) as link:
        sizes = [len(link.recv(65536)) for _ in range(100)]
    assert max(sizes) < 20
    assert sorted(sizes)[len(sizes) // 2] == 1


@pytest.mark.parametrize(("behaviour", "stream"), [("stall_head", False), ("stall_mid_body", False), ("drip", True)])
def test_the_time_of_a_disconnect_is_noticed_at_once(upstream: FaultyUpstream, behaviour: str, stream: bool) -> None:
    with connected(upstream, body_of(behaviour, stream=stream)) as link:
        upstream.wait_for(lambda state: state.read == 1)
        if behaviour != "stall_head":
            assert link.recv(10)
        left = time.monotonic()
    state = upstream.wait_for(lambda state: state.disconnects == 1)
    assert 0 <= state.requests[0]["disconnected"] - left < 0.1
    assert (state.completed, state.connections_open) == (0, 0)


def test_a_stall_ends(upstream: FaultyUpstream) -> None:
    for model in ("stall_head?stall_s=0.2", "stall_mid_body?stall_s=0.2"):
        for stream in (False, True):
            began = time.monotonic()
            content = post(upstream, body_of(model, stream=stream))[2]
            assert b"[DONE]" in content if stream else json.loads(content)
            assert 0.2 <= time.monotonic() - began < 1


def test_log_probabilities_are_left_out_or_have_the_other_shape(upstream: FaultyUpstream) -> None:
    body = json.dumps({"model": "x", "prompt": "hello", "logprobs": 1}).encode()
    shapes = {}
    for behaviour in ("ok", "no_logprobs", "chat_logprobs"):
        upstream.default(behaviour)
        shapes[behaviour] = json.loads(post(upstream, body, "/v1/completions")[2])["choices"][0]["logprobs"]
    assert shapes["no_logprobs"] is None
    assert "token_logprobs" in shapes["ok"]
    assert "content" in shapes["chat_logprobs"]


def test_a_huge_reply_a_redirect_and_a_page(upstream: FaultyUpstream) -> None:
    assert len(post(upstream, body_of("huge?mb=5"))[2]) > 5e6
    status, headers, _ = post(upstream, body_of("redirect?location=http://elsewhere/"))
    assert (status, headers["Location"]) == (307, "http://elsewhere/")
    assert "text/html" in post(upstream, body_of("html"))[1]["Content-Type"]


def test_a_path_chooses_a_behaviour_and_other_paths_are_an_echo(upstream: FaultyUpstream) -> None:
    route = upstream.base_url_for("503?retry_after=1").removeprefix(upstream.root) + "/chat/completions"
    assert post(upstream, body_of(), route)[0] == 503
    echo = json.loads(post(upstream, b"\x00\x01", "/v1/embeddings?x=1")[2])
    assert (echo["path"], echo["body"]) == ("/v1/embeddings?x=1", "AAE=")
    assert upstream.state().bodies()[0]["model"] == "any"


def test_an_unknown_behaviour_is_refused_and_changes_nothing(upstream: FaultyUpstream) -> None:
    with pytest.raises(ValueError, match="there is no behaviour 'resett'"):
        upstream.script("ok", "resett")
    with pytest.raises(ValueError, match="unknown latency"):
        upstream.default("ok?latency=1")
    assert upstream.state().script_left == 0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"drip", "status"}))
@pytest.mark.parametrize("stream", [False, True])
def test_every_behaviour_comes_to_an_end(upstream: FaultyUpstream, kind: str, stream: bool) -> None:
    options = {"stall_s": 0.01} | ({"mb": 0.1} if kind == "huge" else {})
    upstream.default({"kind": kind} | options)
    try:
        post(upstream, body_of(stream=stream))
    except (aiohttp.ClientError, ConnectionError):
        assert kind.startswith(("reset", "close"))
    state = upstream.wait_for(lambda state: state.connections_open == 0)
    assert (state.begun, state.disconnects) == (1, 0)


def test_nobody_listens_where_connections_are_refused() -> None:
    with refused() as base_url, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(base_url.split(":")[2].split("/")[0])))


def test_the_process_ends_with_its_block_and_when_it_is_killed() -> None:
    with faulty_upstream() as upstream:
        upstream.kill()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", upstream.port))
    assert upstream.process.poll() is not None
