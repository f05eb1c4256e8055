"""The server's side of HTTP/1.1, on real sockets and, for every way to cut the bytes, in memory."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisupervised.gateway.protocol import HttpProtocol
from gateway.raw_http import SEEN, App, Link, Served, answers_in, chunked, request, serving, until
from gateway.running import InThread, cascade, endpoint, gateway, in_process
from gateway.upstreams.handle import FaultyUpstream, faulty_upstream

CLOSE = "Connection: close"
#: Seconds within which a client's leaving is noticed.
SOON_S = 0.1


@pytest.fixture(scope="module")
def process() -> Iterator[Served]:
    with serving(App()) as served:
        yield served


@pytest.fixture
def served(process: Served) -> Served:
    process.app.__init__()
    return process


def last(path: str = "/hot/echo") -> bytes:
    return request(path, b"", "GET", CLOSE)


# ---------------------------------------------------------------- any cut of the bytes


class Wire:
    """A transport in memory."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = ""

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"

    def write_eof(self) -> None:
        self.closed = self.closed or "ended"

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed in ("closed", "aborted")

    def get_extra_info(self, name: str) -> Any:
        return "127.0.0.1", 1

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


async def exchanged(packets: list[bytes], app: Any) -> Wire:
    """What is written on a connection to which these bytes come, all that can be done being done after each."""
    state: Any = SimpleNamespace(connections=set(), tasks=set(), total_requests=0)
    protocol = HttpProtocol(SimpleNamespace(loaded=True, loaded_app=app), state, {})  # type: ignore[arg-type]
    wire = Wire()
    protocol.connection_made(wire)
    for packet in packets:
        if wire.closed:
            break
        asyncio.get_running_loop().call_soon(protocol.data_received, packet)  # from no task, as transports do
        for _ in range(20):
            await asyncio.sleep(0)
    while state.tasks or (protocol._queue and not wire.is_closing()):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    assert not state.connections
    return wire


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


#: Requests that are each answered in their own way.
REQUESTS = [
    request("/hot/echo"),
    request("/task/echo?a=1", b"body", "PUT", "X-Long: " + "y" * 3000),
    request("/hot/echo?wait=0", b"{}" * 40),
    request("/hot/echo", b"", "HEAD"),
    request("/task/stream?n=3"),
    chunked("/hot/echo", b"one", b"t" * 300, b"three"),
    chunked("/task/echo", b"one", trailers=b"X-Trailer: 1\r\nAuthorization: somebody else\r\n"),
    request("/hot/echo", b"z" * 2000, "POST", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"),
    request("/task/echo?query"),
    b"\r\n" + request("/hot/%C3%A9%ff"),
]
METHODS = ["GET", "PUT", "POST", "HEAD", "GET", "POST", "POST", "POST", "GET", "GET"]


@settings(max_examples=150, deadline=None)
@given(
    order=st.lists(st.integers(0, len(REQUESTS) - 1), min_size=1, max_size=6),
    places=st.lists(st.integers(1, 20_000), max_size=12),
)
def test_any_cut_of_the_bytes_gets_the_same_answers(order: list[int], places: list[int]) -> None:
    data = b"".join(REQUESTS[one] for one in order) + last("/task/end")
    whole = asyncio.run(exchanged([data], App()))
    assert asyncio.run(exchanged(cut(data, places), App())).written == whole.written
    methods = [METHODS[one] for one in order]
    answers = answers_in(whole.written, *methods, "GET")
    assert [one.status for one in answers] == [200] * (len(order) + 1)
    said = [one.json["method"] for one in answers if one.body.startswith(b"{")]
    assert said == [one for one, number in zip(methods, order, strict=True) if number not in (3, 4)] + ["GET"]


def test_bytes_that_come_one_by_one_get_the_same_answers() -> None:
    for one, method in zip(REQUESTS, METHODS, strict=True):
        data = one + last()
        single = asyncio.run(exchanged([data[place : place + 1] for place in range(len(data))], App()))
        assert single.written == asyncio.run(exchanged([data], App())).written
        assert [answer.status for answer in answers_in(single.written, method, "GET")] == [200, 200]


BROKEN = [
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    b"CONNECT there:443 HTTP/1.1\r\nHost: there:443\r\n\r\n",
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@settings(max_examples=80, deadline=None)
@given(
    order=st.lists(st.integers(0, len(REQUESTS) - 1), max_size=3),
    broken=st.sampled_from(BROKEN),
    places=st.lists(st.integers(1, 60_000), max_size=8),
)
def test_requests_before_a_broken_one_are_answered_however_the_bytes_are_cut(
    order: list[int], broken: bytes, places: list[int]
) -> None:
    data = b"".join(REQUESTS[one] for one in order) + broken + request("/hot/after")
    app = App()
    wire = asyncio.run(exchanged(cut(data, places), app))
    answers = answers_in(wire.written, *(METHODS[one] for one in order), "GET")
    assert [one.status for one in answers[: len(order)]] == [200] * len(order)
    # One that comes while another is answered gets no answer of its own: the connection's end says it.
    assert [one.status for one in answers[len(order) :]] in ([], [400], [431])
    assert order or len(answers) == 1
    assert wire.closed
    assert "/hot/after" not in app.began


# ---------------------------------------------------------------- pipelines


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_many_pipelined_requests_are_answered_in_order(loop: str) -> None:
    kinds = ["/hot/echo?", "/hot/echo?wait=0&", "/task/echo?", "/task/echo?send=1&", "/hot/echo?wait=0.001&"]
    paths = [f"{kinds[number % len(kinds)]}number={number}" for number in range(100)]
    with serving(App(), loop=loop) as served:
        answers = served.ask(b"".join(request(path, b"x" * 10) for path in paths) + last())
    assert [answer.json["query"].rpartition("=")[2] for answer in answers[:-1]] == [str(n) for n in range(100)]
    assert answers[-1].header("connection") == "close"


def test_thousands_in_one_packet_behind_a_slow_one_are_answered_without_recursion(served: Served) -> None:
    count = 3000
    answers = served.ask(request("/hot/echo?wait=0.05") + request("/hot/echo") * count + last())
    assert [answer.status for answer in answers] == [200] * (count + 2)
    assert served.app.raised == {}


def test_a_client_that_pipelines_much_leaves_others_their_turn(served: Served) -> None:
    with served.link() as greedy, served.link() as other:
        greedy.send(request("/hot/busy") * 300)  # each of them holds the loop for 2 ms
        until(lambda: served.app.done)
        started = time.monotonic()
        assert other.send(request()).answer().status == 200
        assert time.monotonic() - started < 0.15
        assert [greedy.answer().status for _ in range(300)] == [200] * 300


def test_a_client_that_pipelines_without_end_is_told_to_wait(served: Served) -> None:
    with served.link() as link:
        link.send(request("/hot/echo?wait=1.5"))
        until(lambda: served.app.began)
        (connection,) = served.server.server_state.connections
        link.socket.setblocking(False)
        sent, end = 0, time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                sent += link.socket.send(request() * 1000)
            except BlockingIOError:
                time.sleep(0.01)
        assert sent > 1_000_000  # the system's buffers are full
        assert len(connection._queue) * len(request()) < 600_000  # type: ignore[union-attr]
    until(lambda: not served.connections)


def test_the_second_of_two_pipelined_requests_has_a_task_of_its_own(served: Served) -> None:
    """Its time limits, and its client's leaving, are its own and not those of the request before it."""
    with served.link() as link:
        link.send(request("/hot/echo?wait=0.03") + request("/hot/hang"))
        assert link.answer().status == 200
        until(lambda: "/hot/hang" in served.app.began)
        time.sleep(0.05)
        left = time.monotonic()
    until(lambda: "/hot/hang" in served.app.cancelled)
    assert served.app.cancelled["/hot/hang"] - left < SOON_S


def test_a_request_begins_when_the_one_before_it_is_answered_not_when_its_work_ends(served: Served) -> None:
    started = time.monotonic()
    answers = served.ask(request("/hot/answer_and_wait?wait=0.5") + last())
    assert [answer.status for answer in answers] == [200, 200]
    assert time.monotonic() - started < 0.4


# ---------------------------------------------------------------- how long a connection lasts


@pytest.mark.parametrize(
    ("version", "lines", "kept"),
    [
        ("1.1", (), True),
        ("1.1", ("Connection: keep-alive",), True),
        ("1.1", (CLOSE,), False),
        ("1.1", ("Connection: TE, Close",), False),
        ("1.0", (), False),
        ("1.0", ("Connection: keep-alive",), False),  # allowed, and not worth it
    ],
)
@pytest.mark.parametrize("path", ["/hot/echo", "/task/echo", "/task/stream"])
def test_a_connection_is_kept_or_closed_as_the_client_asks(
    served: Served, version: str, lines: tuple[str, ...], kept: bool, path: str
) -> None:
    with served.link() as link:
        answer = link.send(request(path, b"", "GET", *lines, version=version)).answer()
        assert answer.header("connection") == (None if kept else "close")
        if kept:
            assert link.send(last()).answer().status == 200
        assert link.until_end() == b""


def test_a_stream_to_an_old_client_ends_with_the_connection(served: Served) -> None:
    (answer,) = served.ask(request("/task/stream?n=3", b"", "GET", version="1.0"))
    assert (answer.header("transfer-encoding"), answer.header("content-length")) == (None, None)
    assert answer.body == b"x" * 30


@pytest.mark.parametrize("path", ["/hot/echo?pad=10", "/task/stream", "/task/stream?length=30"])
def test_head_gets_the_head_alone(served: Served, path: str) -> None:
    with served.link() as link:
        link.send(request(path, b"", "HEAD") + request("/hot/echo", b"", "HEAD", CLOSE))
        first, second = link.answer(head=True), link.answer(head=True)
        assert (first.status, second.status) == (200, 200)
        assert link.until_end() == b""


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_gets_none_whatever_is_sent(served: Served, status: int) -> None:
    first, second = served.ask(request(f"/task/stream?status={status}") + last())
    assert (first.status, second.status) == (status, 200)


def test_an_announced_length_is_kept_to(served: Served) -> None:
    exact, less, _ = served.ask(request("/task/stream?length=30") + request("/task/stream?length=20") + last())
    assert (exact.body, less.body) == (b"x" * 30, b"x" * 20)
    for answer in (exact, less):
        assert answer.header("transfer-encoding") is None
    (more,) = served.ask(request("/task/stream?length=40") + last())
    assert (more.body, more.whole) == (b"x" * 30, False)


# ---------------------------------------------------------------- bodies


def test_bodies_of_every_size_come_whole(served: Served) -> None:
    with served.link() as link:
        for size in (1, 262_144, 262_145, 3_000_000):
            link.send(request("/hot/count", b"b" * size))
            assert link.answer().json["body"] == str(size)
        link.send(chunked("/hot/count", *[b"c" * 70_000] * 20))
        assert link.answer().json["body"] == "1400000"


def test_a_client_whose_body_nobody_reads_is_told_to_wait(served: Served) -> None:
    served.app.free = False
    size = 30_000_000
    with served.link() as link:
        sender = threading.Thread(target=lambda: link.send(request("/task/count", b"b" * size)))
        sender.start()
        until(lambda: served.app.began)
        time.sleep(0.3)
        (connection,) = served.server.server_state.connections
        assert connection._current.size < 1_100_000  # type: ignore[union-attr]
        assert sender.is_alive()
        served.app.free = True
        assert link.answer().json["body"] == str(size)
        sender.join()


def test_trailers_are_dropped_and_bounded(served: Served) -> None:
    trailers = b"Authorization: other\r\nX-Bisupervised-Force: remote\r\n"
    first, second = served.ask(chunked("/task/echo?wait=0.02", b"abc", trailers=trailers) + last())
    for answer in (first, second):
        assert not {"authorization", "x-bisupervised-force"} & {name for name, _ in answer.json["headers"]}
    with served.link() as link:
        link.send(chunked("/task/echo", b"abc").removesuffix(b"\r\n"))
        for _ in range(100):
            link.send(b"X-Endless: " + b"y" * 10_000 + b"\r\n")
        assert link.answer().status == 431


@pytest.mark.parametrize(
    "broken",
    [
        b"POST /task/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"POST /task/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n",
        b"POST /task/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc",
        b"POST /task/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
    ][1:],
)
def test_a_broken_body_is_refused_and_what_waits_for_it_ends(served: Served, broken: bytes) -> None:
    (answer,) = served.ask(broken)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
    until(lambda: not served.tasks)
    assert [type(error) for error in served.app.raised.values()] in ([], [ConnectionError])
    with served.link() as link:  # in a packet of its own, when the application is reading
        head, _, rest = broken.partition(b"\r\n\r\n")
        assert link.send(head + b"\r\n\r\n", rest, pause_s=0.03).answer().status == 400
    assert isinstance(served.app.raised["/task/echo"], ConnectionError)


def test_a_body_of_which_half_comes_is_no_request(served: Served) -> None:
    for path, size in (("/hot/echo", 100), ("/hot/echo", 500_000)):
        with served.link() as link:
            link.send(request(path, b"b" * size)[: -size // 2])
            link.half_close()
            assert link.until_end() == b""
    until(lambda: not served.tasks)
    assert served.app.done == []


def test_an_answer_before_the_end_of_a_body_reaches_a_client_that_is_still_sending(served: Served) -> None:
    """As clients like httpx do, which send all of a body before they look for an answer."""
    for size in (300_000, 8_000_000):
        with served.link() as link:
            link.send(request("/task/deaf", b"b" * size))
            answer = link.answer()
            assert (answer.status, answer.header("connection"), link.until_end()) == (200, "close", b"")


@pytest.mark.parametrize("size", [5, 100, 400_000])
def test_a_client_that_waits_for_a_word_before_its_body_gets_it(served: Served, size: int) -> None:
    with served.link() as link:
        data = request("/hot/count", b"b" * size, "POST", "Expect: 100-continue")
        assert link.send(data[:-size]).answer().status == 100
        assert link.send(data[-size:]).answer().json["body"] == str(size)
        assert link.send(data).answer().json["body"] == str(size)  # it did not wait, so it needs no word
        assert link.send(last()).answer().status == 200


def test_a_client_that_waits_for_a_word_and_is_refused_sends_no_body(served: Served) -> None:
    with served.link() as link:
        data = request("/task/deaf", b"b" * 100, "POST", "Expect: 100-continue")
        answer = link.send(data[:-100]).answer()
        assert (answer.status, answer.header("connection"), link.until_end()) == (200, "close", b"")


def test_the_word_to_go_on_does_not_fall_into_another_answer(served: Served) -> None:
    waits = request("/hot/count", b"b" * 10, "POST", "Expect: 100-continue")
    with served.link() as link:
        link.send(request("/task/stream?n=5&pause=0.02"), waits[:-10])
        assert link.answer().body == b"x" * 50
        assert link.answer().status == 100
        assert link.send(waits[-10:]).answer().json["body"] == "10"


def test_an_old_client_gets_no_word_to_go_on(served: Served) -> None:
    data = request("/hot/count", b"b" * 10, "POST", "Expect: 100-continue", version="1.0")
    with served.link() as link:
        assert link.send(data[:-10]).quiet()
        assert link.send(data[-10:]).answer().status == 200


# ---------------------------------------------------------------- what is no request


LENGTH = "POST /task/echo HTTP/1.1\r\n{}\r\n\r\nabc"


@pytest.mark.parametrize(
    "data",
    [
        *[
            LENGTH.format(lines)
            for lines in (
                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 3",
                "Content-Length: 3\r\nContent-Length: 3",
                "Content-Length: 3\r\nContent-Length: 4",
                "Content-Length: 3, 3",
                "Content-Length: -3",
                "Content-Length: +3",
                "Content-Length: 0x3",
                "Content-Length: 3 3",
                "Content-Length:",
                "Content-Length: 99999999999999999999999999",
                "Content-Length: " + "0" * 5000 + "3",
                "Transfer-Encoding: gzip",
                "Transfer-Encoding: chunked, gzip",
                "Transfer-Encoding: xchunked",
                "Transfer-Encoding : chunked",
                "Transfer-Encoding:\x0bchunked",
                "X-Folded: a\r\n b",
                "X-Nul: a\x00b",
                "X-Return: a\rContent-Length: 3",
                "X-Line: a\nContent-Length: 3",
            )
        ],
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/1.1\n\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET foo HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
        "GET http://there/task/echo HTTP/1.1\r\n\r\n",
        "CONNECT there:443 HTTP/1.1\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET /\xff HTTP/1.1\r\n\r\n",
        "NOTHING / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 500,
        "\x00" * 100_000,
        "SSH-2.0-OpenSSH_9.0\r\n",
    ],
    ids=lambda data: repr(data)[:60],
)
def test_what_is_no_request_is_refused_and_closed(served: Served, data: str) -> None:
    (answer,) = served.ask(data.encode("latin-1") + request("/hot/smuggled"))
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
    assert answer.header("connection") == "close"
    until(lambda: not served.tasks)
    assert "/hot/smuggled" not in served.app.began
    assert served.app.done == []


@pytest.mark.parametrize(
    "head",
    [
        "X-Long: " + "y" * 40_000,
        "\r\n".join(f"X-{number}: y" for number in range(8000)),
        "X-Long: " + "y" * 400_000,
    ],
    ids=["one", "many", "huge"],
)
@pytest.mark.parametrize("packet", [500_000, 5_000])
def test_a_head_that_is_too_large_is_refused_in_one_packet_or_many(served: Served, head: str, packet: int) -> None:
    data = request("/hot/echo", b"", "GET", head)
    with served.link() as link:
        link.send(*[data[start : start + packet] for start in range(0, len(data), packet)], pause_s=0.0005)
        answer = link.answer()
        assert (answer.status, answer.json["error"]["code"]) == (431, "headers_too_large")
        assert link.until_end() == b""
    assert served.app.began == []


def test_a_target_that_is_too_long_is_refused(served: Served) -> None:
    (answer,) = served.ask(request("/hot/" + "a" * 40_000))
    assert answer.status == 431


def test_a_body_is_no_head_however_large_it_is_and_whatever_comes_behind_it(served: Served) -> None:
    data = request("/hot/count", b"b" * 200_000)
    with served.link() as link:
        link.send(data + request()[:30], request()[30:], pause_s=0.03)
        assert [link.answer().status, link.answer().status] == [200, 200]


@pytest.mark.parametrize("size", [100, 400_000])
@pytest.mark.parametrize("behind", [0, 20])
def test_a_request_that_would_change_the_protocol_is_answered_in_this_one(
    served: Served, size: int, behind: int
) -> None:
    """Java's client asks for HTTP/2 with every first request, and sends its body right away."""
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")
    data = request("/hot/count", b"b" * size, "POST", *lines)
    with served.link() as link:
        link.send(data[: len(data) - size], data[len(data) - size :], pause_s=behind / 1000)
        assert link.answer().json["body"] == str(size)
        assert link.send(data + last()).answer().json["body"] == str(size)
        assert link.answer().status == 200
    assert served.app.raised == {}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/task/%41%2f%C3%A9?q=%41", "/task/A/é", "q=%41"),
        ("/task/%ff%00", "/task/\ufffd\x00", ""),
        ("/task/%", "/task/%", ""),
        ("/task/a//b/../c", "/task/a//b/../c", ""),
        ("/task/x?a=b?c", "/task/x", "a=b?c"),
        ("/task/x?a#b", "/task/x", "a"),
    ],
)
def test_a_target_becomes_a_path_and_a_query(served: Served, target: str, path: str, query: str) -> None:
    (answer,) = served.ask(request(target, b"", "GET", CLOSE))
    assert (answer.json["path"], answer.json["query"]) == (path, query)


# ---------------------------------------------------------------- time


@pytest.fixture(scope="module")
def impatient() -> Iterator[Served]:
    with serving(App(), header_timeout_s=0.3, keep_alive_s=0.8) as served:
        yield served


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packets", "answers", "least_s", "most_s"),
    [
        ([], 0, 0.3, 0.5),
        ([b"GET"], 0, 0.3, 0.55),
        ([b"\r\n\r\n"], 0, 0.3, 0.55),
        ([request()], 1, 0.8, 1.05),
        ([request(), request()[:20]], 1, 0.3, 0.65),
        ([request("/hot/echo?wait=1"), request()[:20]], 1, 1.2, 1.6),
        ([request("/hot/echo", b"b" * 100)[:-50]], 0, 0.3, 0.55),
        ([request("/hot/echo", b"b" * 300_000)[:-50]], 0, 0.3, 0.55),
        ([chunked("/hot/echo", b"abc").removesuffix(b"0\r\n\r\n")], 0, 0.3, 0.55),
        ([chunked("/hot/echo", b"abc").removesuffix(b"\r\n")], 0, 0.3, 0.55),
    ],
    ids=["nothing", "method", "lines", "idle", "half", "half meanwhile", "body", "large", "chunk", "trailers"],
)
def test_a_client_from_which_nothing_more_comes_is_left(
    impatient: Served, packets: list[bytes], answers: int, least_s: float, most_s: float
) -> None:
    with impatient.link() as link:
        link.send(*packets, pause_s=0.1)
        started = time.monotonic()
        assert len(answers_in(link.until_end())) == answers
        assert least_s - 0.12 < time.monotonic() - started < most_s
    until(lambda: not impatient.tasks)


@pytest.mark.slow
def test_a_head_that_comes_drop_by_drop_is_not_waited_for(impatient: Served) -> None:
    with impatient.link() as link:
        started = time.monotonic()
        link.socket.settimeout(0.02)
        for byte in request("/hot/echo", b"", "GET", "X-Long: " + "y" * 500):
            link.send(bytes([byte]))
            try:
                assert link.socket.recv(1) == b""
            except TimeoutError:
                continue
            break
        assert 0.2 < time.monotonic() - started < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 300_000])
def test_a_body_that_comes_slowly_but_comes_is_waited_for(impatient: Served, size: int) -> None:
    data = request("/hot/count", b"b" * size)
    head = len(data) - size
    pieces = [data[:head], *[data[head + size * n // 6 : head + size * (n + 1) // 6] for n in range(6)]]
    with impatient.link() as link:
        assert link.send(*pieces, pause_s=0.15).answer().json["body"] == str(size)


@pytest.mark.slow
def test_a_body_that_the_application_keeps_waiting_is_not_taken_for_a_slow_one(impatient: Served) -> None:
    impatient.app.free = False
    with impatient.link() as link:
        sender = threading.Thread(target=lambda: link.send(request("/task/count", b"b" * 20_000_000)))
        sender.start()
        time.sleep(0.8)
        impatient.app.free = True
        assert link.answer().json["body"] == "20000000"
        sender.join()


@pytest.mark.slow
def test_an_answer_that_takes_long_is_not_cut_off(impatient: Served) -> None:
    with impatient.link() as link:
        assert link.send(request("/hot/echo?wait=1.5")).answer().status == 200
        assert link.send(request("/task/stream?n=3&pause=0.6")).answer().body == b"x" * 30


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/task/stream?n=100000&size=10000", "/hot/echo?pad=30000000"])
@pytest.mark.parametrize("lines", [(), (CLOSE,)], ids=["kept", "closed"])
def test_a_client_that_takes_nothing_of_its_answer_is_left(
    impatient: Served, path: str, lines: tuple[str, ...]
) -> None:
    with impatient.link(small=True) as link:
        link.send(request(path, b"", "GET", *lines))
        until(lambda: impatient.connections)
        until(lambda: not impatient.connections and not impatient.tasks, 5)


@pytest.mark.slow
def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(impatient: Served) -> None:
    with impatient.link() as link:
        link.send(request("/hot/echo?pad=50000000", b"", "GET", CLOSE))
        data, end = b"", time.monotonic() + 2.5
        while time.monotonic() < end:
            data += link.socket.recv(200_000)
            time.sleep(0.01)
        (answer,) = answers_in(data + link.until_end())
        assert answer.whole


# ---------------------------------------------------------------- answers that are not taken


def test_a_stream_that_the_client_does_not_read_waits_and_ends_when_it_leaves(served: Served) -> None:
    with served.link(small=True) as link:
        link.send(request("/hot/stream?n=100000&size=10000"))
        until(lambda: served.app.written)
        time.sleep(0.3)
        held = served.app.written
        assert held < 8_000_000
        time.sleep(0.1)
        assert served.app.written == held
        left = time.monotonic()
    until(lambda: not served.tasks)
    assert time.monotonic() - left < 2 * SOON_S


def test_an_answer_behind_one_that_is_not_taken_waits_for_it(served: Served) -> None:
    with served.link() as link:
        link.send(request("/hot/echo?pad=20000000") + request("/hot/echo") + last())
        time.sleep(0.2)
        assert [one.status for one in answers_in(link.until_end())] == [200, 200, 200]


# ---------------------------------------------------------------- mistakes of the application


@pytest.mark.parametrize("kind", ["hot", "task"])
@pytest.mark.parametrize("wait", ["", "&wait=0"])
def test_a_mistake_before_the_answer_is_a_500(
    served: Served, kind: str, wait: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), served.link() as link:
        answer = link.send(request(f"/{kind}/mistake?when=before{wait}")).answer()
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert link.send(last()).answer().status == 200
    assert "a mistake in the gateway" in caplog.text


@pytest.mark.parametrize("kind", ["hot", "task"])
@pytest.mark.parametrize("how", ["", "&returns=1"])
@pytest.mark.parametrize("when", ["body", "body&length=1", "head", "before&returns=1"])
def test_an_answer_that_does_not_come_to_its_end_is_seen_to_be_cut_off(
    served: Served, kind: str, when: str, how: str
) -> None:
    with served.link() as link:
        link.send(request(f"/{kind}/mistake?when={when}{how}"))
        try:
            data = link.until_end()
        except ConnectionResetError:
            return
        assert all(not answer.whole for answer in answers_in(data))


def test_a_mistake_after_the_answer_harms_nobody(served: Served) -> None:
    for kind in ("hot", "task"):
        first, second = served.ask(request(f"/{kind}/mistake?when=after") + last())
        assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize("kind", ["hot", "task"])
def test_an_application_that_cancels_itself_closes_the_connection(served: Served, kind: str) -> None:
    with served.link() as link, pytest.raises((ConnectionResetError, EOFError)):
        link.send(request(f"/{kind}/cancels")).answer()


# ---------------------------------------------------------------- clients that leave


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["hot", "task"])
@pytest.mark.parametrize("after_s", [0.0, 0.004, 0.05])
@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
def test_the_work_for_a_client_that_leaves_ends_soon(loop: str, kind: str, after_s: float, how: str) -> None:
    app = App()
    with serving(app, loop=loop) as served, served.link() as link:
        link.send(request(f"/{kind}/hang", b"{}"))
        until(lambda: app.began)
        time.sleep(after_s)
        left = time.monotonic()
        getattr(link, how)()
        until(lambda: app.cancelled)
        assert app.cancelled[f"/{kind}/hang"] - left < SOON_S


def test_a_client_that_closes_its_side_gets_what_is_answered_at_once(served: Served) -> None:
    with served.link() as link:
        link.send(request("/hot/echo") + request("/hot/echo?pad=3000000")).half_close()
        assert [answer.status for answer in answers_in(link.until_end())] == [200, 200]


def test_a_client_that_leaves_takes_its_waiting_requests_along(served: Served) -> None:
    with served.link() as link:
        link.send(request("/hot/hang") + request("/hot/first") + request("/task/second"))
        until(lambda: served.app.began)
    until(lambda: not served.tasks)
    time.sleep(0.05)
    assert served.app.began == ["/hot/hang"]


# ---------------------------------------------------------------- each request for itself


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("wait", ["", "&wait=1"])
@pytest.mark.parametrize("kind", ["hot", "task"])
def test_what_a_request_sets_in_its_context_is_not_seen_by_the_next(
    served: Served, pipelined: bool, wait: str, kind: str
) -> None:
    data = [request(f"/{kind}/variable?set={number}{wait}") for number in range(3)]
    with served.link() as link:
        if pipelined:
            link.send(b"".join(data))
        said = []
        for one in data:
            if not pipelined:
                link.send(one)
            said.append(link.answer().json["body"])
    assert said == ["nothing 0", "nothing 1", "nothing 2"]
    with served.link() as link:
        assert link.send(data[0]).answer().json["body"] == "nothing 0"
    assert SEEN.get() == "nothing"


def test_a_request_leaves_nothing_for_the_collector() -> None:
    """The objects of a request are freed when it ends: a circle among them would keep each until a collection."""

    async def count() -> int:
        gc.collect()
        gc.disable()
        try:
            data = b"".join(request(path, b"{}") for path in ("/hot/echo", "/hot/echo?send=1", "/task/echo"))
            await exchanged([data * 50], App())
            return gc.collect()
        finally:
            gc.enable()

    assert uvloop.run(count()) < 150


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_server_that_stops_finishes_what_is_under_way_and_closes_what_is_idle(loop: str) -> None:
    app = App()
    with serving(app, loop=loop) as served:
        idle, fresh, half = served.link(), served.link(), served.link()
        idle.send(request()).answer()
        half.send(request()[:20])
        busy, queued, sending = served.link(), served.link(), served.link()
        busy.send(request("/hot/echo?wait=0.5"))
        queued.send(request("/task/stream?n=5&pause=0.1") + request("/hot/echo"))
        sending.send(request("/task/count", b"b" * 400_000)[:-1000])
        until(lambda: len(app.began) == 4)
        served.server.should_exit = True
        for link in (idle, fresh, half):
            assert link.until_end() == b""
        sending.send(b"b" * 1000)
        assert sending.answer().json["body"] == "400000"
        answer = busy.answer()
        assert (answer.status, answer.header("connection"), busy.until_end()) == (200, "close", b"")
        first, *_ = answers_in(queued.until_end())
        assert first.body == b"x" * 50
        for link in (idle, fresh, half, busy, queued, sending):
            link.close()


def test_a_server_that_stops_cancels_what_does_not_end() -> None:
    app = App()
    with serving(app, drain_s=1) as served, served.link() as link:
        link.send(request("/hot/hang_unwatched"))
        until(lambda: app.began)
        served.server.should_exit = True
        until(lambda: app.cancelled, 5)
        with pytest.raises((ConnectionResetError, EOFError)):
            link.answer()


def test_a_request_that_is_cancelled_before_its_task_began_is_told_so() -> None:
    """Its coroutine has begun, and must end like any that is cancelled: with what it does at its end."""
    app = App()

    async def cancelled() -> None:
        state: Any = SimpleNamespace(connections=set(), tasks=set(), total_requests=0)
        protocol = HttpProtocol(SimpleNamespace(loaded=True, loaded_app=app), state, {})  # type: ignore[arg-type]
        wire = Wire()
        protocol.connection_made(wire)
        asyncio.get_running_loop().call_soon(protocol.data_received, request("/hot/hang_unwatched"))
        while not state.tasks:
            await asyncio.sleep(0)
        (task,) = state.tasks
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert wire.closed == "aborted"
        protocol.connection_lost(None)

    asyncio.run(cancelled())
    assert list(app.cancelled) == ["/hot/hang_unwatched"]
    assert app.raised == {}


# ---------------------------------------------------------------- headers of answers


def test_an_endpoint_s_own_spelling_of_a_length_is_understood(served: Served) -> None:
    """`Content-Length` and `Transfer-Encoding` together would be two lengths of one answer."""
    (answer,) = served.ask(request("/task/stream?length=30", b"", "GET", CLOSE))
    assert (answer.header("content-length"), answer.header("transfer-encoding")) == ("30", None)


def test_answers_say_nothing_of_the_server(served: Served) -> None:
    (answer,) = served.ask(last())
    assert [name for name, _ in answer.headers] == ["content-type", "connection", "content-length"]


def test_a_mistake_of_the_protocol_is_logged_and_garbage_is_not(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.ask(b"garbage\r\n\r\n")[0].status == 400
    assert caplog.records == []
    monkeypatch.setattr(HttpProtocol, "on_body", lambda *_: 1 / 0)
    assert served.ask(request("/hot/echo", b"x"))[0].status == 400
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------- under the gateway


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with faulty_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[InThread]:
    one = cascade(in_process(), endpoint(upstream.base_url, "m"), thresholds=(0.9, -10.0))
    passthrough = [{"name": "rest", "base_url": upstream.base_url, "models": ["*"]}]
    with gateway(tmp_path_factory.mktemp("gateway"), one, passthrough=passthrough) as running:
        yield running


def chat(text: str = "easy", *lines: str, path: str = "/v1/chat/completions", **more: Any) -> bytes:
    body = {"model": "assistant", "messages": [{"role": "user", "content": text}]} | more
    return request(path, json.dumps(body).encode(), "POST", *lines)


def link_to(running: InThread) -> Link:
    return Link(int(running.address.rpartition(":")[2]))


def test_the_gateway_answers_pipelined_requests_in_order(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.reset()
    with link_to(running) as link:
        link.send(b"".join(chat("easy" if number % 3 else "hard", user=str(number)) for number in range(30)))
        served = [link.answer().header("x-bisupervised-served") for _ in range(30)]
        assert served == ["local" if number % 3 else "remote" for number in range(30)]
        assert link.send(request("/healthz", b"", "GET", CLOSE)).answer().status == 200


def test_the_gateway_answers_a_client_that_asks_for_http_2(running: InThread) -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")
    with link_to(running) as link:
        assert link.send(chat("easy", *lines)).answer().header("x-bisupervised-served") == "local"
        assert link.send(chat("easy")).answer().status == 200


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_stops_the_call_for_a_client_that_leaves(
    running: InThread, upstream: FaultyUpstream, stream: bool, position: int
) -> None:
    upstream.reset()
    upstream.default("stall_head?stall_s=20")
    with link_to(running) as link:
        link.send(chat("easy") * position + chat("hard", stream=stream))
        for _ in range(position):
            link.answer()
        upstream.wait_for(lambda state: state.read == 1)
        left = time.monotonic()
        link.close()
    upstream.wait_for(lambda state: state.disconnects == 1)
    assert time.monotonic() - left < 2 * SOON_S
    until(lambda: running.service.in_flight == 0)


def test_the_gateway_passes_on_one_length_of_a_reply(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.reset()
    with link_to(running) as link:
        for stream, name in ((False, "content-length"), (True, "transfer-encoding")):
            answer = link.send(chat(model="ok", stream=stream)).answer()  # a strict reader: two would be broken
            assert (answer.status, answer.whole) == (200, True)
            assert answer.header(name) is not None


HEADERS = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=HEADERS, text=st.text(max_size=30), name=st.sampled_from(["force", "fallback", "store", "conversation"]))
def test_nothing_that_a_client_says_becomes_a_header_of_its_answer(
    running: InThread, value: str, text: str, name: str
) -> None:
    """In headers, in the model's name, in the text that an answer is about: answers are read strictly."""
    asked = [
        chat("easy" + text, f"X-Bisupervised-{name}: {value}"),
        chat("easy", model=text + "\r\nX-Evil: 1\r\n\r\n" + value, tools=[{"type": value}]),
        request(f"/v2/models/{quote(text + value)}%0d%0aX-Evil:%201/infer", b"{}"),
        request(f"/v1/outcomes/{quote(text)}%0d%0aX-Evil:%201?route={quote(value)}%0d%0aX-Evil:1"),
    ]
    for one in asked:
        with link_to(running) as link:
            link.send(one).half_close()
            try:
                answers = answers_in(link.until_end())
            except ConnectionResetError:
                continue
        assert len(answers) <= 1
        assert not {"x-evil"} & {name for answer in answers for name, _ in answer.headers}
