"""Keys and scopes, secrets that stay secret, bounds on what a client sends, and nobody's URL fetched."""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from bisupervised.errors import InputError
from bisupervised.gateway import keys as keys_module
from bisupervised.gateway.client import Endpoint
from bisupervised.gateway.keys import Keys, digest_of, new_key
from bisupervised.gateway.openai_wire import header_text
from bisupervised.gateway.settings import KeySettings, Scope, read_gateway
from gateway.running import (
    SECRETS,
    InThread,
    Reply,
    cascade,
    config_text,
    endpoint,
    gateway,
    gateway_process,
    in_process,
    key_section,
)
from gateway.upstreams.handle import FaultyUpstream

SURE = -0.01
SECRET = SECRETS["REMOTE_API_KEY"]


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.default({"kind": "ok", "logprob": SURE})
    return running_upstream


@pytest.fixture(scope="module")
def guarded(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """Three keys, one for each scope, and one that may call and label."""
    large = endpoint(running_upstream.base_url, "large")
    keys = [key_section(scope, f"key-{scope}", scope) for scope in Scope] + [
        key_section("both", "key-both", "call", "label")
    ]
    cascades = [cascade(in_process(), large), cascade(in_process(), in_process(), "classes")]
    passthrough = [{"name": "rest", "base_url": running_upstream.base_url, "api_key": "sk-rest"}]
    with gateway(
        tmp_path_factory.mktemp("guarded"), *cascades, key=keys, passthrough=passthrough, metrics_key=True
    ) as one:
        yield one


# ---------------------------------------------------------------- keys and scopes

CHAT = {"model": "assistant", "messages": [{"role": "user", "content": "easy"}]}
INFER = {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [1], "data": ["easy"]}]}
#: Each route, what it is asked, and the scope that it needs.
ROUTES: list[tuple[str, str, Any, str]] = [
    ("POST", "/v1/chat/completions", CHAT, "call"),
    ("POST", "/v1/completions", {"model": "assistant", "prompt": "easy"}, "call"),
    ("GET", "/v1/models", None, "call"),
    ("GET", "/v1/models/assistant", None, "call"),
    ("POST", "/v1/embeddings", {"model": "e", "input": "x"}, "call"),
    ("POST", "/v2/models/classes/infer", INFER, "call"),
    ("GET", "/v2/models/classes", None, "call"),
    ("GET", "/v1/outcomes", None, "label"),
    ("GET", "/v1/outcomes/nobody", None, "label"),
    ("POST", "/v1/outcomes/nobody/label", {"label": "x"}, "label"),
    ("GET", "/v1/stats", None, "label"),
    ("GET", "/v1/cascades", None, "label"),
    ("GET", "/metrics", None, "label"),
    ("PUT", "/v1/cascades/assistant/mode", {"mode": "enforce"}, "admin"),
    ("PUT", "/v1/cascades/assistant/thresholds", {"local": 0.9, "remote": 0.5}, "admin"),
    ("PUT", "/v1/kill-switch", {"on": False}, "admin"),
    ("GET", "/v1/changes", None, "admin"),
    ("POST", "/v1/changes/1/rollback", None, "admin"),
]
ALLOWED = {"call": {"call", "both", "admin"}, "label": {"label", "both", "admin"}, "admin": {"admin"}}


@pytest.mark.parametrize(("method", "path", "body", "scope"), ROUTES)
def test_a_route_takes_the_keys_of_its_scope_and_no_others(
    guarded: InThread, upstream: FaultyUpstream, method: str, path: str, body: Any, scope: str
) -> None:
    for name in ("call", "label", "admin", "both"):
        reply = guarded.request(method, path, body, key=f"key-{name}")
        if name in ALLOWED[scope]:
            assert reply.status not in (401, 403)
        else:
            assert reply.status == 403
            assert b"key-" not in reply.body
    for key in ("key-nobody", "", "key-cal", "key-call "):
        headers = {"Authorization": f"Bearer {key}"} if key != "key-call " else {"Authorization": "Basic key-call"}
        assert guarded.request(method, path, body, headers, key="").status == 401
    assert guarded.request(method, path, body, key="").status == 401


def test_the_client_knows_the_errors_of_keys(guarded: InThread, upstream: FaultyUpstream) -> None:
    messages: Any = CHAT["messages"]
    for key, error, code in (
        ("key-nobody", openai.AuthenticationError, "invalid_api_key"),
        ("key-label", openai.PermissionDeniedError, "missing_scope"),
    ):
        with guarded.client(key) as client, pytest.raises(error) as caught:
            client.chat.completions.create(model="assistant", messages=messages)
        assert caught.value.code == code
    with guarded.client("key-call") as client:
        assert client.chat.completions.create(model="assistant", messages=messages).choices


def test_health_and_the_description_need_no_key(guarded: InThread) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
        assert guarded.request("GET", path, key="").status == 200, path


def test_the_log_names_the_client_and_never_its_key(guarded: InThread, upstream: FaultyUpstream) -> None:
    reply = guarded.chat("easy", headers={"Authorization": "Bearer key-both"})
    assert guarded.row(reply)["key"] == "both"
    change = guarded.request("PUT", "/v1/kill-switch", {"on": False}, key="key-admin").json
    assert change["by"] == "admin"
    guarded.service.log.flush()
    assert b"key-both" not in stored(guarded.log_path.parent)


def test_a_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    in_constant_time = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return in_constant_time(one, other)

    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    key = new_key()
    digest = digest_of(key)
    near = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    scopes = frozenset({Scope.CALL})
    several = Keys([KeySettings("near", near, scopes), KeySettings("right", digest, scopes)])
    client = several.client(f"Bearer {key}".encode())
    assert client is not None
    assert client.name == "right"
    assert compared == [(near, digest), (digest, digest)], "every candidate is compared, to the last digit"
    assert Keys([KeySettings("near", near, scopes)]).client(f"Bearer {key}".encode()) is None


def test_keys_are_long_and_differ() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("bsk_") and len(key) >= 47 for key in keys)


def test_without_keys_it_listens_on_this_machine_alone() -> None:
    for host, problem in (("0.0.0.0", True), ("10.0.0.3", True), ("127.0.0.1", False), ("::1", False)):
        problems: list[str] = []
        read_gateway({"host": host}, problems)
        assert bool(problems) is problem, host
    problems = []
    read_gateway({"host": "0.0.0.0", "open_to_all": True}, problems)
    read_gateway({"host": "0.0.0.0", "key": [key_section("a", "key-a")]}, problems)
    assert problems == []


# ---------------------------------------------------------------- secrets


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.db*")) if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("given", ["environment", "variable", "file", "header"])
def test_a_secret_is_sent_to_its_endpoint_and_found_nowhere_else(
    upstream: FaultyUpstream, tmp_path: Path, given: str
) -> None:
    """Every error is provoked; then everything that was said, printed and stored is searched."""
    (tmp_path / "key.txt").write_text(f"{SECRET}\n")
    level = {
        "environment": {"api_key": "${REMOTE_API_KEY}"},
        "variable": {"api_key_env": "REMOTE_API_KEY"},
        "file": {"api_key_file": str(tmp_path / "key.txt")},
        "header": {"headers": {"x-secret": "${REMOTE_API_KEY}"}},
    }[given]
    large = endpoint(upstream.base_url, "large", **level) | {"timeout_s": 0.3, "breaker_failures": 1000}
    passed = {key: value for key, value in level.items() if key != "headers"}
    passthrough = [{"name": "rest", "base_url": upstream.base_url, "timeout_s": 0.3} | passed]
    path = tmp_path / "cascade.toml"
    cascades = [cascade(in_process(), large), cascade(large, large, "both", mode="observe")]
    path.write_text(config_text(*cascades, passthrough=passthrough, store_inputs=True), encoding="utf-8")
    said: list[bytes] = []

    def keep(reply: Reply) -> None:
        said.append(repr(reply.headers).encode() + reply.body)

    quoting = f"the key {SECRET} is not known"
    with gateway_process(path) as running:
        for behaviour in (
            *("ok", "401", "403", "500", "429?retry_after=1", "html", "cut_json", "reset_after_read", "stall_head"),
            *({"kind": str(status), "message": quoting} for status in (400, 401, 404, 422, 500)),
            *({"kind": kind, "message": quoting} for kind in ("error_in_200", "error_in_stream")),
            *("sse_cut_event", "redirect?location=http://127.0.0.1:9/", "huge?mb=34&shape=none"),
        ):
            upstream.default(behaviour)
            for model in ("assistant", "both"):
                keep(running.chat("hard", model))
                keep(running.chat("hard", model, stream=True))
        upstream.default({"kind": "500", "message": quoting})
        for request in (
            ("GET", "/metrics"),
            ("GET", "/v1/models"),
            ("GET", "/v1/cascades"),
            ("GET", "/v1/outcomes?limit=1000"),
            ("GET", "/v1/stats"),
            ("GET", "/openapi.json"),
            ("GET", "/v1/nothing/../such"),
        ):
            keep(running.request(*request))
        seen = [record["headers"] for record in upstream.state().requests]
        expected = {"x-secret": SECRET} if given == "header" else {"authorization": f"Bearer {SECRET}"}
        assert seen
        assert all(expected.items() <= headers.items() for headers in seen)
        running.process.terminate()
        running.process.wait(20)
        printed = running.printed.read_bytes()
    for where, content in (("a reply", b"".join(said)), ("the log", printed), ("the store", stored(tmp_path))):
        for piece in (SECRET, SECRET[8:-4], "sk-upstr***4711"):
            assert piece.encode() not in content, f"{piece} is in {where}"
    assert len(stored(tmp_path)) > 10_000


def test_a_client_does_not_hand_its_own_key_on(guarded: InThread, upstream: FaultyUpstream) -> None:
    headers = {"Authorization": "Bearer key-call", "Cookie": "session=mine", "X-Bisupervised-Store": "true"}
    guarded.chat("hard", headers=headers)
    guarded.request("POST", "/v1/echo", {"model": "e"}, headers)
    direct, passed = (record["headers"] for record in upstream.state().requests)
    assert "authorization" not in direct
    assert passed["authorization"] == "Bearer sk-rest"
    for seen in (direct, passed):
        assert "cookie" not in seen
        assert not [name for name in seen if name.startswith("x-bisupervised")]
        assert not [value for value in seen.values() if "key-call" in value]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://user:hunter2@host/v1", "without a user"),
        ("https://host/v1?key=hunter2", "query"),
        ("ftp://host/hunter2", "http"),
        ("host", "http"),
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(tmp_path: Path, url: str, words: str) -> None:
    from bisupervised.errors import ConfigError
    from bisupervised.gateway.building import read_plan

    path = tmp_path / "cascade.toml"
    path.write_text(config_text(cascade(in_process(), endpoint(url, "large"))), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_plan(path)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


# ---------------------------------------------------------------- bounds


@pytest.fixture(scope="module")
def bounded(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"))
    folder = tmp_path_factory.mktemp("bounded")
    with gateway(folder, one, max_body_bytes=600_000, max_header_bytes=4096, header_timeout_s=0.3) as running:
        yield running


@contextmanager
def connected(running: InThread) -> Iterator[socket.socket]:
    host, _, port = running.address.partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=5)) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    content = b""
    while True:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return content
        if not data:
            return content
        content += data


def exchanged(running: InThread, *data: bytes, pause_s: float = 0.0) -> bytes:
    """Send some bytes; what comes until the server closes."""
    with connected(running) as connection:
        for piece in data:
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause_s)
        return everything(connection)


def chat_of(size: int) -> bytes:
    head = b'{"model": "assistant", "messages": [{"role": "user", "content": "easy '
    return head + b"x" * (size - len(head) - 4) + b'"}]}'


def test_a_body_may_be_as_large_as_it_may_and_no_larger(bounded: InThread, upstream: FaultyUpstream) -> None:
    for size, status in ((600_000, 200), (600_001, 413), (5_000_000, 413)):
        reply = bounded.request("POST", "/v1/chat/completions", chat_of(size))
        assert reply.status == status
        if status == 413:
            assert reply.code == "body_too_large"


def test_the_client_learns_that_its_body_is_too_large(bounded: InThread) -> None:
    """And not that the connection was reset while it was still sending."""
    with bounded.client() as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "x" * 20_000_000}])
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


def test_a_body_without_a_length_is_bounded_too(bounded: InThread) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = chat_of(700_000)
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[k : k + 5000]), body[k : k + 5000]) for k in range(0, len(body), 5000)
    )
    answer = exchanged(bounded, head + chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    small = chat_of(500)
    answer = exchanged(bounded, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(small), small))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_announced_too_large_is_not_waited_for(bounded: InThread) -> None:
    start = time.monotonic()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n"
    answer = exchanged(bounded, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize("path", ["/v1/outcomes/x/label", "/v2/models/assistant/infer", "/v1/kill-switch"])
def test_every_route_bounds_its_body(bounded: InThread, path: str) -> None:
    method = "PUT" if "kill" in path else "POST"
    reply = bounded.request(method, path, b"x" * 700_000)
    assert reply.status in (413, 404 if path.startswith("/v2") else 413)


@pytest.mark.parametrize("what", ["one", "many", "path", "never-ending"])
def test_headers_are_bounded(bounded: InThread, what: str) -> None:
    line = {
        "one": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 5000 + b"\r\n\r\n",
        "many": b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X-%d: aaaaaaaaaa\r\n" % k for k in range(500))
        + b"\r\n",
        "path": b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "never-ending": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 200_000,
    }[what]
    answer = exchanged(bounded, line)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"headers_too_large" in answer


def test_headers_within_the_bound_are_read(bounded: InThread) -> None:
    assert bounded.request("GET", "/healthz", headers={"X-A": "a" * 3500}).status == 200


@pytest.mark.parametrize(
    "pieces", [[b""], [b"GET /hea"], [b"G"] * 20, [b"GET /healthz HTTP/1.1\r\n", *[b"X: y\r\n"] * 20]]
)
def test_a_head_that_does_not_come_to_an_end_is_not_waited_for(bounded: InThread, pieces: list[bytes]) -> None:
    start = time.monotonic()
    answer = exchanged(bounded, *pieces, pause_s=0.05)
    assert not answer.startswith(b"HTTP/1.1 200")
    assert time.monotonic() - start < 2.5


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"nonsense\r\n\r\n",
        b"GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        # Two ways to say where a body ends are how requests are smuggled.
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ],
)
def test_what_is_no_proper_request_is_refused_and_the_connection_closed(bounded: InThread, garbage: bytes) -> None:
    answer = exchanged(bounded, garbage)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")) or answer == b""
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert bounded.request("GET", "/healthz").status == 200


def test_requests_on_one_connection_are_answered_in_their_order(bounded: InThread, upstream: FaultyUpstream) -> None:
    upstream.default({"kind": "ok", "latency_s": 0.2, "logprob": SURE, "text": "slow"})

    def request(text: str, last: bool = False) -> bytes:
        body = chat_of(0).replace(b"easy ", text.encode())
        close = b"Connection: close\r\n" if last else b""
        return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (
            close,
            len(body),
            body,
        )

    answer = exchanged(
        bounded,
        request("hard") + request("easy") + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + request("easy", True),
    )
    assert answer.count(b"HTTP/1.1 200 ") == 4
    places = [answer.index(word) for word in (b'"slow"', b'"positive"', b'"alive"')]
    assert places == sorted(places)


def test_a_client_that_waits_to_be_told_to_go_on_is_told(bounded: InThread) -> None:
    body = chat_of(300)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
    with connected(bounded) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert everything(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", ["X-A: b\r\nX-Injected", "X-A\0"])
def test_a_header_cannot_be_made_of_two(name: str) -> None:
    async def make() -> bytes:
        return Endpoint("http://127.0.0.1:9").head("GET", "/", [(name, "value")])

    with pytest.raises(InputError, match="line break"):
        asyncio.run(make())


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a\0b", "a\u2028b", "ü" * 1000])
def test_what_goes_into_a_header_is_one_line_of_plain_text(text: str) -> None:
    shown = header_text(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 300


def test_answers_reflect_nothing_into_headers(bounded: InThread, upstream: FaultyUpstream) -> None:
    wish = "x%0d%0aSet-Cookie:%20a=b"
    reply = bounded.chat("easy", headers={"x-bisupervised-conversation": wish, "x-bisupervised-id": "mine"})
    assert "set-cookie" not in reply.headers
    assert reply.headers["x-bisupervised-id"] != "mine"


# ---------------------------------------------------------------- nobody's URL is fetched


def test_no_url_of_a_client_is_ever_fetched(upstream: FaultyUpstream, tmp_path: Path) -> None:
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.setblocking(False)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/picture.png"
        small, large = endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large")
        cascades = [
            cascade(in_process(), large),
            cascade(small, large, "endpoints", unscorable={"image": "score"}),
            cascade(in_process(input="body"), large, "bodies", unscorable={"image": "score"}),
        ]
        parts = [{"type": "text", "text": "easy"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
        with gateway(tmp_path, *cascades) as running:
            for model in ("assistant", "endpoints", "bodies"):
                body = {"model": model, "messages": [{"role": "user", "content": parts}], "user": url}
                more = {"metadata": {"callback": url}, "webhook": url, "base_url": url}
                assert running.request("POST", "/v1/chat/completions", body | more).status == 200
        for seen in upstream.state().bodies():
            assert seen["messages"][0]["content"] == parts, "it is passed on as it is"
            assert seen["webhook"] == url
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_redirects_are_not_followed(bounded: InThread, upstream: FaultyUpstream) -> None:
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.setblocking(False)
        where = f"http://127.0.0.1:{trap.getsockname()[1]}/"
        upstream.default({"kind": "redirect", "location": where})
        reply = bounded.chat("hard")
        assert (reply.status, reply.code) == (502, "remote_status")
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_the_trap_of_these_tests_would_notice() -> None:
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        socket.create_connection(trap.getsockname()).close()
        trap.accept()[0].close()
