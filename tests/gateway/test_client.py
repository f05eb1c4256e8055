"""The gateway's HTTP client against endpoints that are written out byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import InputError, ModelUnreachable, ReplyUnreadable
from bisupervised.gateway import client
from bisupervised.gateway.client import (
    BrokenReply,
    ConnectFailed,
    ConnectionLost,
    Endpoint,
    Reply,
    WholeReply,
)
from bisupervised.gateway.levels import Attempts
from bisupervised.gateway.settings import UpstreamSettings
from bisupervised.gateway.upstream import NotSent, Pool, Upstream, may_be_charged
from gateway.raw_http import until
from gateway.upstreams.handle import faulty_upstream, refused

MOST = 1_000_000
#: Seconds within which an endpoint sees that nobody waits for its reply any more.
SOON_S = 0.1


# ---------------------------------------------------------------- endpoints


class Link:
    """One connection, as the endpoint has it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.requests: list[bytes] = []  #: bodies
        self.heads: list[bytes] = []
        self.closed_at: float | None = None
        self._held = b""

    def request(self) -> bytes:
        """The next request's body. Raises EOFError at the end."""
        while b"\r\n\r\n" not in self._held:
            self._read()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        self.heads.append(head)
        while len(self._held) < length:
            self._read()
        self.requests.append(self._held[:length])
        self._held = self._held[length:]
        return self.requests[-1]

    def _read(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError
        self._held += piece

    def send(self, *packets: bytes, pause_s: float = 0.01) -> None:
        for number, packet in enumerate(packets):
            if number:
                time.sleep(pause_s)
            self.socket.sendall(packet)

    def wait_for_close(self) -> None:
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass
        self.closed_at = time.monotonic()


Script = Callable[[Link], Any]


class Scripted:
    """A listening endpoint: its nth connection is treated as the nth script says, further ones as the last does."""

    def __init__(self, listening: socket.socket, scripts: tuple[Script, ...], tls: ssl.SSLContext | None) -> None:
        self.links: list[Link] = []
        self.port: int = listening.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://localhost:{self.port}"
        self._listening = listening
        self._scripts = scripts
        self._tls = tls

    def accept(self) -> None:
        for number in itertools.count():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            script = self._scripts[min(number, len(self._scripts) - 1)]
            threading.Thread(target=self._serve, args=(connection, script), daemon=True).start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(connection)
        try:
            if self._tls is not None:
                link.socket = self._tls.wrap_socket(connection, server_side=True)
            self.links.append(link)
            script(link)
            link.wait_for_close()
        except (OSError, EOFError):
            link.closed_at = link.closed_at or time.monotonic()
        finally:
            link.socket.close()


@contextmanager
def endpoint(*scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Scripted]:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        scripted = Scripted(listening, scripts, tls)
        if host != "127.0.0.1":
            scripted.url = f"http://[{host}]:{scripted.port}"
        thread = threading.Thread(target=scripted.accept)
        thread.start()
        try:
            yield scripted
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def reply(body: bytes = b"{}", *lines: str, status: int = 200, version: str = "1.1") -> bytes:
    given = [f"HTTP/{version} {status} Fine", *lines, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(given).encode("latin-1") + body


def chunked(*chunks: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(one), extension, one) for one in chunks)
    return b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


def always(*packets: bytes, pause_s: float = 0.01) -> Script:
    """Answer every request with these packets."""

    def script(link: Link) -> None:
        while True:
            link.request()
            link.send(*packets, pause_s=pause_s)

    return script


def once(*packets: bytes, then: Callable[[Link], Any] = Link.wait_for_close) -> Script:
    """Answer one request so."""

    def script(link: Link) -> None:
        link.request()
        link.send(*packets)
        then(link)

    return script


def closes(link: Link) -> None:
    link.socket.close()


def resets(link: Link) -> None:
    time.sleep(0.02)  # so that what was sent is there before
    link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    link.socket.close()


# ---------------------------------------------------------------- asking


def head_of(one: Endpoint, method: str = "POST") -> bytes:
    return one.head(method, "/v1/x?y=z", [("Content-Type", "application/json")])


async def whole(one: Endpoint, body: bytes = b"{}", *, timeout_s: float = 3.0, most: int = MOST) -> WholeReply:
    return await one.whole(head_of(one), body, timeout_s=timeout_s, most=most)


async def begun(one: Endpoint, *, timeout_s: float = 3.0, method: str = "POST", unpack: bool = True) -> Reply:
    return await one.begin(head_of(one, method), b"{}", timeout_s=timeout_s, unpack=unpack, bodiless=method == "HEAD")


async def pieces_of(one: Endpoint, **options: Any) -> tuple[Reply, list[bytes]]:
    answer = await begun(one, **options)
    try:
        found = []
        while piece := await answer.piece():
            found.append(piece)
        return answer, found
    finally:
        answer.close()


def run(url: str, work: Callable[[Endpoint], Coroutine[Any, Any, Any]], *, loop: str = "uvloop") -> Any:
    """Do this with an endpoint that is closed at the end, which leaves no connection behind."""

    async def done() -> Any:
        one = Endpoint(url)
        try:
            return await work(one)
        finally:
            one.close()
            for _ in range(3):
                await asyncio.sleep(0)
            assert one._open == set()

    return (uvloop.run if loop == "uvloop" else asyncio.run)(done())


def get(url: str, **options: Any) -> WholeReply:
    answer: WholeReply = run(url, lambda one: whole(one, **options))
    return answer


def stream(url: str, **options: Any) -> tuple[Reply, bytes]:
    answer, pieces = run(url, lambda one: pieces_of(one, **options))
    return answer, b"".join(pieces)


# ---------------------------------------------------------------- any cut of the bytes


class Wire:
    """A transport in memory, whose endpoint answers a request with these packets, and closes if it is to."""

    def __init__(self, connection: Any, packets: list[bytes], closes: bool) -> None:
        self._connection = connection
        self._packets = packets
        self._closes = closes
        self._paused = False
        self._sending: asyncio.Task[None] | None = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        self._sending = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        for packet in self._packets:
            await asyncio.sleep(0)
            while self._paused:
                await asyncio.sleep(0)
            if self.aborted:
                return
            self._connection.data_received(packet)
        if self._closes:
            self._connection.eof_received()
            self._connection.connection_lost(None)

    def abort(self) -> None:
        self.aborted = True
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False

    def get_write_buffer_size(self) -> int:
        return 0


async def over_a_wire(packets: list[bytes], closes: bool, *, streamed: bool) -> Any:
    """What comes of a reply that comes so, and whether its connection is kept."""
    one = Endpoint("http://here")
    connection = client._Connection(one, asyncio.get_running_loop())
    connection.connection_made(Wire(connection, packets, closes))
    connection.idle_since = time.monotonic()
    one._idle.append(connection)
    try:
        if streamed:
            answer, pieces = await pieces_of(one)
            return answer.status, answer.headers, b"".join(pieces), bool(one._idle)
        given = await whole(one)
        return given.status, given.headers, given.body, bool(one._idle)
    except (BrokenReply, ConnectionLost) as error:
        return type(error)


SQUEEZED = gzip.compress(b"squeezed" * 100)
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
#: Replies: their bytes, whether the connection closes behind them, and status, body, and whether it is kept.
REPLIES: dict[str, tuple[bytes, bool, tuple[int, bytes, bool]]] = {
    "length": (reply(b"{}" * 500), False, (200, b"{}" * 500, True)),
    "empty": (reply(b"", status=503), False, (503, b"", True)),
    "early": (EARLY + reply(b"late"), False, (200, b"late", True)),
    "chunked": (chunked(b"one", b"t" * 700, b"three"), False, (200, b"one" + b"t" * 700 + b"three", True)),
    "extended": (chunked(b"one", extension=b';a=b;c="d"', trailers=b"X-T: 1\r\n"), False, (200, b"one", True)),
    "until close": (b"HTTP/1.1 200 Fine\r\nX: y\r\n\r\nuntil close", True, (200, b"until close", False)),
    "old": (b"HTTP/1.0 200 Fine\r\n\r\nold", True, (200, b"old", False)),
    "old, kept": (reply(b"x", "Connection: keep-alive", version="1.0"), False, (200, b"x", True)),
    "closing": (reply(b"x", "Connection: close"), False, (200, b"x", False)),
    "no content": (b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n", False, (204, b"", True)),
    "not modified": (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", False, (304, b"", True)),
    "gzip": (reply(SQUEEZED, "Content-Encoding: gzip"), False, (200, b"squeezed" * 100, True)),
    "deflate": (reply(zlib.compress(b"abc" * 99), "Content-Encoding: Deflate"), False, (200, b"abc" * 99, True)),
    "nothing, squeezed": (reply(b"", "Content-Encoding: gzip"), False, (200, b"", True)),
    "upgrade": (reply(b"{}", "Connection: upgrade", "Upgrade: h2c"), False, (200, b"{}", True)),
}
BROKEN: dict[str, tuple[bytes, bool]] = {
    "two lengths": (reply(b"{}", "Transfer-Encoding: chunked"), True),
    "length twice": (reply(b"{}", "Content-Length: 3"), True),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.0\r\n\r\n", True),
    "other protocol": (b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc", False),
    "no chunk": (b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", False),
    "folded": (reply(b"{}", "X: a\r\n b"), False),
    "long head": (reply(b"{}", *(f"X-{n}: {'y' * 1000}" for n in range(400))), False),
    "long early heads": (EARLY * 4000 + reply(b"{}"), False),
    "cut off": (reply(b"{}" * 100)[:-1], True),
    "cut off in a chunk": (chunked(b"one", b"two")[:-8], True),
    "cut off in the head": (reply(b"{}")[:20], True),
    "squeezed and cut off": (reply(SQUEEZED[:-9], "Content-Encoding: gzip"), False),
    "not squeezed": (reply(b"plain", "Content-Encoding: gzip"), False),
    "unknown squeeze": (reply(b"plain", "Content-Encoding: br"), False),
    "nothing": (b"", True),
}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)] if data else [0]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(REPLIES)), streamed=st.booleans(), places=st.lists(st.integers(1, 2000), max_size=9)
)
def test_any_cut_of_the_bytes_gives_the_same_reply(name: str, streamed: bool, places: list[int]) -> None:
    data, closed, (status, body, kept) = REPLIES[name]
    given = asyncio.run(over_a_wire(cut(data, places), closed, streamed=streamed))
    assert (given[0], given[2], given[3]) == (status, body, kept)
    assert given[1] == asyncio.run(over_a_wire([data], closed, streamed=streamed))[1]
    assert not {b"X-T", b"Link"} & {key for key, _ in given[1]}


@pytest.mark.parametrize("streamed", [False, True])
def test_bytes_that_come_one_by_one_give_the_same_reply(streamed: bool) -> None:
    for data, closed, (status, body, kept) in REPLIES.values():
        packets = [bytes([byte]) for byte in data]
        given = asyncio.run(over_a_wire(packets, closed, streamed=streamed))
        assert (given[0], given[2], given[3]) == (status, body, kept)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(BROKEN)), streamed=st.booleans(), places=st.lists(st.integers(1, 500_000), max_size=9)
)
def test_a_broken_reply_is_broken_however_it_is_cut(name: str, streamed: bool, places: list[int]) -> None:
    data, closed = BROKEN[name]
    packets = [part for one in cut(data, places) for part in cut(one, list(range(0, len(one), 65_536)))]
    given = asyncio.run(over_a_wire(packets, closed, streamed=streamed))
    assert given in (BrokenReply, ConnectionLost)


@settings(max_examples=100, deadline=None)
@given(
    behind=st.sampled_from([reply(b"EVIL!", "X-Evil: 1", status=201), b"garbage", b"HTTP/1.1 200", b"\x00" * 9]),
    places=st.lists(st.integers(1, 200), max_size=4),
    streamed=st.booleans(),
)
def test_what_comes_behind_a_reply_is_no_part_of_it(behind: bytes, places: list[int], streamed: bool) -> None:
    data = reply(b'{"a": 1}')
    packets = cut(data + behind, places) if places else [data + behind]
    status, headers, body, _ = asyncio.run(over_a_wire(packets, False, streamed=streamed))
    assert (status, body) == (200, b'{"a": 1}')
    assert [key for key, _ in headers] == [b"Content-Length"]


# ---------------------------------------------------------------- kept connections


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_one_connection_serves_one_request_after_the_other(loop: str) -> None:
    async def ask(one: Endpoint) -> None:
        for number in range(10):
            assert (await whole(one, b"%d" % number)).body == b"{}"
            answer, pieces = await pieces_of(one)
            assert (answer.status, b"".join(pieces)) == (200, b"{}")

    with endpoint(always(reply())) as there:
        run(there.url, ask, loop=loop)
        assert [len(link.requests) for link in there.links] == [20]
        assert b"POST /v1/x?y=z HTTP/1.1\r\nHost: localhost:%d\r\n" % there.port in there.links[0].heads[0]


def test_requests_at_the_same_time_have_a_connection_each_and_share_them_later() -> None:
    async def ask(one: Endpoint) -> None:
        for _ in range(3):
            await asyncio.gather(*(whole(one) for _ in range(8)))

    with endpoint(always(reply(), pause_s=0.0)) as there:
        run(there.url, ask)
        assert len(there.links) == 8
        assert sum(len(link.requests) for link in there.links) == 24


def test_a_connection_that_was_idle_for_long_is_closed_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_IDLE_S", 0.1)

    async def ask(one: Endpoint) -> None:
        await asyncio.gather(whole(one), whole(one))
        await asyncio.sleep(0.2)
        await whole(one)
        await asyncio.sleep(0.05)
        assert len(one._open) == 1

    with endpoint(always(reply())) as there:
        run(there.url, ask)
        assert [len(link.requests) for link in there.links] == [1, 1, 1]


@pytest.mark.parametrize("lines", [("Connection: close",), ()])
def test_a_connection_that_the_endpoint_closes_gets_no_other_request(lines: tuple[str, ...]) -> None:
    async def ask(one: Endpoint) -> None:
        for _ in range(3):
            await whole(one)
            await asyncio.sleep(0.03)

    with endpoint(once(reply(b"{}", *lines), then=closes)) as there:
        run(there.url, ask)
        assert [len(link.requests) for link in there.links] == [1, 1, 1]


def test_a_connection_is_not_used_from_the_moment_that_its_end_is_read() -> None:
    """The transport says that it is lost only later."""

    async def ask(one: Endpoint) -> None:
        await whole(one)
        (connection,) = one._idle
        connection._transport.close()
        connection.eof_received()
        assert (await whole(one)).status == 200

    with endpoint(always(reply())) as there:
        run(there.url, ask)
        assert [len(link.requests) for link in there.links] == [1, 1]


def test_a_connection_rests_after_a_stream_since_some_endpoints_close_it_then() -> None:
    def script(link: Link) -> None:
        link.request()
        link.send(chunked(b"x"))
        time.sleep(0.02)
        link.socket.close()

    async def ask(one: Endpoint) -> None:
        await pieces_of(one)
        assert (await whole(one)).body == b"{}"  # at once, on another one
        await pieces_of(one)
        await asyncio.sleep(2 * client._REST_S)
        assert (await whole(one)).body == b"y"  # by now, its end would be known

    with endpoint(script, once(reply(), then=always(chunked(b"y")))) as there:
        run(there.url, ask)
        assert [len(link.requests) for link in there.links] == [1, 3]


@pytest.mark.parametrize("behind", [b"garbage", reply(b"a second one"), b"HTTP/1.1 408 Late\r\n\r\n"])
@pytest.mark.parametrize("later", [False, True])
def test_a_connection_on_which_something_comes_that_nobody_asked_for_is_closed(behind: bytes, later: bool) -> None:
    async def ask(one: Endpoint) -> None:
        assert (await whole(one)).body == b"{}"
        await asyncio.sleep(0.05)
        assert one._idle == []
        assert (await whole(one)).body == b"{}"

    packets = (reply(), behind) if later else (reply() + behind,)
    with endpoint(once(*packets), always(reply())) as there:
        run(there.url, ask)
        assert [len(link.requests) for link in there.links] == [1, 1]


def test_a_connection_whose_request_was_answered_before_it_was_sent_is_not_used_again() -> None:
    """An endpoint that refuses a large request may not read the rest of it."""

    def script(link: Link) -> None:
        link.socket.recv(1000)
        link.send(reply(b"too large", status=413))
        time.sleep(0.3)

    async def ask(one: Endpoint) -> None:
        assert (await whole(one, b"x" * 30_000_000)).status == 413
        assert (await whole(one)).status == 200

    with endpoint(script, always(reply())) as there:
        run(there.url, ask)
        assert len(there.links) == 2


def settings_of(url: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(base_url=url + "/v1", model_name="m", **{"timeout_s": 3.0, "attempts": 3} | more)


def test_a_request_on_a_connection_that_closes_meanwhile_may_be_charged_and_is_tried_again() -> None:
    """Nobody can tell whether the endpoint has read it: what it costs is not known, and it may pass."""

    def script(link: Link) -> None:
        link.request()
        link.send(reply())
        link.socket.recv(1)  # of the next one
        resets(link)

    async def ask() -> None:
        pool = Pool()
        upstream = Upstream(settings_of(there.url), pool)
        attempts = Attempts(upstream.settings)
        await upstream.post("chat", b"{}")
        attempts.begin()
        with pytest.raises(ModelUnreachable) as raised:
            await upstream.post("chat", b"{}")
        assert not isinstance(raised.value, NotSent)
        assert may_be_charged(raised.value)
        assert await attempts.again_after(raised.value)
        assert await upstream.post("chat", b"{}") == {}
        pool.close()

    with endpoint(script, always(reply())) as there:
        uvloop.run(ask())


def test_a_request_for_which_there_is_no_connection_is_not_sent_and_costs_nothing() -> None:
    async def ask(url: str) -> None:
        pool = Pool()
        upstream = Upstream(settings_of(url), pool)
        with pytest.raises(NotSent) as raised:
            await upstream.post("chat", b"{}")
        assert not may_be_charged(raised.value)

    with refused() as url:
        uvloop.run(ask(url.removesuffix("/v1")))


def test_a_connection_that_was_lost_before_anything_was_sent_is_no_request() -> None:
    async def ask(one: Endpoint) -> None:
        await whole(one)
        (connection,) = one._idle
        connection.is_open = False
        with pytest.raises(ConnectFailed):
            await connection.ask(head_of(one), b"", 1.0, most=10)
        connection.is_open = True

    with endpoint(always(reply())) as there:
        run(there.url, ask)


# ---------------------------------------------------------------- how replies end


def test_head_has_no_body_whatever_its_headers_say() -> None:
    with endpoint(once(reply(b"x" * 100)[:-100])) as there:
        answer, body = stream(there.url, method="HEAD")
        assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_reply_until_the_close_that_is_reset_is_cut_off(streamed: bool) -> None:
    with (
        endpoint(once(b"HTTP/1.1 200 Fine\r\n\r\nhalf", then=resets)) as there,
        pytest.raises(ConnectionLost) as lost,
    ):
        (stream if streamed else get)(there.url)
    assert lost.value.begun


def test_a_stream_that_this_side_closes_has_not_ended() -> None:
    async def ask(one: Endpoint) -> None:
        answer = await begun(one)
        assert await answer.piece() == b"half"
        waiting = asyncio.ensure_future(answer.piece())
        await asyncio.sleep(0.01)
        one.close()
        with pytest.raises(ConnectionLost):
            await waiting

    with endpoint(once(b"HTTP/1.1 200 Fine\r\n\r\nhalf")) as there:
        run(there.url, ask)


def test_trailers_without_end_are_not_kept() -> None:
    def script(link: Link) -> None:
        link.request()
        link.send(chunked(b"x").removesuffix(b"\r\n"))
        while True:
            link.send(b"X-Endless: " + b"y" * 10_000 + b"\r\n")

    for ask in (get, stream):
        with endpoint(script) as there, pytest.raises((BrokenReply, ConnectionLost)):
            ask(there.url)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("script", "begun_"),
    [(once(then=closes), False), (once(then=resets), False), (once(reply()[:9], then=closes), True)],
)
def test_a_connection_that_is_lost_says_whether_there_was_a_reply(
    streamed: bool, script: Script, begun_: bool
) -> None:
    with endpoint(script) as there, pytest.raises(ConnectionLost) as lost:
        (stream if streamed else get)(there.url)
    assert lost.value.begun is begun_


# ---------------------------------------------------------------- bounds


def test_a_reply_that_is_larger_than_it_may_be_ends_the_connection() -> None:
    for data in (reply(b"x" * 5000), chunked(*[b"x" * 1000] * 5), b"HTTP/1.1 200 Fine\r\n\r\n" + b"x" * 5000):
        with endpoint(once(data)) as there:
            with pytest.raises(BrokenReply, match="larger"):
                get(there.url, most=4000)
            until(lambda: there.links[0].closed_at is not None)


def test_a_reply_as_large_as_it_may_be_is_taken() -> None:
    with endpoint(always(reply(b"x" * 4000))) as there:
        assert len(get(there.url, most=4000).body) == 4000


def test_the_beginning_of_a_reply_can_be_read() -> None:
    async def ask(one: Endpoint) -> None:
        answer = await begun(one)
        assert 4000 < len(await answer.read(4000)) < 1_000_000
        answer.close()

    with endpoint(once(reply(b"x" * 50_000_000))) as there:
        run(there.url, ask)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_unpacked_no_further_than_it_may_be(coding: str) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS if coding == "gzip" else zlib.MAX_WBITS)
    bomb = b"".join(pack.compress(bytes(1_000_000)) for _ in range(200)) + pack.flush()  # 200 MB in 200 kB

    async def read(one: Endpoint) -> int:
        answer, size = await begun(one), 0
        while piece := await answer.piece():
            assert len(piece) <= 512 * 1024
            size += len(piece)
        assert answer.ended
        answer.close()
        return size

    with endpoint(always(reply(bomb, f"Content-Encoding: {coding}"))) as there:
        with pytest.raises(BrokenReply, match="larger"):
            get(there.url)
        tracemalloc.start()
        try:
            assert run(there.url, read) == 200_000_000
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()


def test_a_packed_stream_of_which_most_pieces_hold_nothing_is_read() -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    parts = [pack.compress(b"x" * 1000) + pack.flush(zlib.Z_SYNC_FLUSH)]
    parts += [b"\x00\x00\x00\xff\xff" for _ in range(3000)]  # empty blocks
    data = chunked(*parts, pack.flush()).replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1)
    head, _, body = data.partition(b"\r\n\r\n")
    packets = [head + b"\r\n\r\n", *(body[place : place + 4] for place in range(0, len(body), 4))]
    _, _, content, _ = asyncio.run(over_a_wire(packets, False, streamed=True))
    assert content == b"x" * 1000


def test_what_comes_behind_a_packed_body_is_dropped() -> None:
    with endpoint(always(reply(SQUEEZED + b"rest" * 1000, "Content-Encoding: gzip"))) as there:
        assert get(there.url).body == b"squeezed" * 100
        assert stream(there.url)[1] == b"squeezed" * 100


def test_a_packed_body_can_be_passed_on_as_it_is() -> None:
    with endpoint(always(reply(SQUEEZED, "Content-Encoding: gzip"))) as there:
        assert stream(there.url, unpack=False)[1] == SQUEEZED


@pytest.mark.slow
def test_a_long_stream_waits_for_its_reader_and_comes_whole() -> None:
    size, sent = 50_000_000, 0

    def script(link: Link) -> None:
        nonlocal sent
        link.request()
        link.send(b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            link.socket.sendall(bytes(100_000))
            sent += 100_000
        link.request()
        link.send(reply())

    async def ask(one: Endpoint) -> None:
        answer = await begun(one, timeout_s=1.0)
        connection = answer._connection
        assert connection is not None
        got = len(await answer.piece())
        await asyncio.sleep(0.3)
        held, before = connection._size, sent
        assert held < 600_000
        assert before < 20_000_000  # the rest is in the system's buffers
        await asyncio.sleep(0.1)
        assert (connection._size, sent) == (held, before)
        while piece := await answer.piece():
            got += len(piece)
            if got % 7 == 0:
                await asyncio.sleep(0.001)
        assert got == size
        answer.close()
        assert (await whole(one)).status == 200

    with endpoint(script) as there:
        run(there.url, ask)
        assert len(there.links) == 1


# ---------------------------------------------------------------- cancelled, or too late


def silent(link: Link) -> None:
    link.request()


STAGES: dict[str, tuple[Script, Callable[[Endpoint], Coroutine[Any, Any, Any]]]] = {
    "head": (silent, whole),
    "head of a stream": (silent, begun),
    "half a head": (once(reply()[:10]), whole),
    "body": (once(reply(b"x" * 100)[:-1]), whole),
    "piece": (once(reply(b"x" * 100)[:-100]), pieces_of),
    "next piece": (once(reply(b"x" * 100)[:-1]), pieces_of),
    "chunk": (once(chunked(b"x" * 100)[:-5]), pieces_of),
    "until close": (once(b"HTTP/1.1 200 Fine\r\n\r\nabc"), whole),
}


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_call_that_is_cancelled_closes_its_connection_at_once(stage: str, loop: str) -> None:
    script, ask = STAGES[stage]

    async def cancelled(one: Endpoint) -> None:
        task = asyncio.ensure_future(ask(one))
        await asyncio.sleep(0.08)
        left = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        while there.links[0].closed_at is None:
            await asyncio.sleep(0.001)
        assert there.links[0].closed_at - left < SOON_S
        if stage != "head of a stream":
            assert task.cancelled()

    with endpoint(script) as there:
        run(there.url, cancelled, loop=loop)


@pytest.mark.parametrize("stage", STAGES)
def test_a_call_that_takes_too_long_ends_and_closes_its_connection(stage: str) -> None:
    script, ask = STAGES[stage]

    async def late(one: Endpoint) -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await ask(one, timeout_s=0.2)  # type: ignore[call-arg]
        assert 0.15 < time.monotonic() - started < 0.4
        while there.links[0].closed_at is None:
            await asyncio.sleep(0.001)

    with endpoint(script) as there:
        run(there.url, late)


def test_a_whole_reply_that_drips_is_bounded_in_all_and_a_stream_in_each_wait() -> None:
    drops = [reply(b"x" * 10)[:-10], *[b"x"] * 10]
    with endpoint(always(*drops, pause_s=0.05)) as there:
        with pytest.raises(TimeoutError):
            get(there.url, timeout_s=0.2)
        assert stream(there.url, timeout_s=0.2)[1] == b"x" * 10


def test_a_connection_that_does_not_come_about_in_time_is_no_request() -> None:
    def mute(link: Link) -> None: ...

    async def ask() -> None:
        one = Endpoint(there.url.replace("http:", "https:"))
        started = time.monotonic()
        with pytest.raises(ConnectFailed, match=r"within 0\.2 s"):
            await whole(one, timeout_s=0.2)
        assert time.monotonic() - started < 0.4
        task = asyncio.ensure_future(whole(one))
        await asyncio.sleep(0.05)
        left = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        while len(there.links) < 2 or there.links[1].closed_at is None:
            await asyncio.sleep(0.001)
        assert there.links[1].closed_at - left < SOON_S
        assert one._open == set()

    with endpoint(mute) as there:
        uvloop.run(ask())


# ---------------------------------------------------------------- where to


@pytest.mark.parametrize(
    "url", ["ftp://here", "here", "http://", "http://here:99999", "http://here:x", "http://[::1"]
)
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(InputError, match="URL"):
        Endpoint(url)


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://a..b", f"http://{'a' * 70}.invalid"])
def test_a_host_that_there_is_not_is_not_reached(url: str) -> None:
    with pytest.raises(ConnectFailed):
        get(url)


@pytest.mark.parametrize("text", ["a\r\nX: b", "a\nb", "a\rb", "a\0b", "a\u2028b", "→"])
@pytest.mark.parametrize("place", ["method", "target", "name", "value"])
def test_no_line_of_a_head_can_become_two(text: str, place: str) -> None:
    given = {"method": "GET", "target": "/", "name": "X", "value": "y"} | {place: text}
    with pytest.raises(InputError):
        Endpoint("http://here").head(given["method"], given["target"], [(given["name"], given["value"])])


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://here", "here"),
        ("http://here:80", "here"),
        ("https://here:443", "here"),
        ("https://here:80", "here:80"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_the_host_is_named_as_servers_expect_it(url: str, authority: str) -> None:
    assert Endpoint(url).authority == authority


def test_an_address_of_version_6_is_reached() -> None:
    try:
        with endpoint(always(reply()), host="::1") as there:
            assert get(there.url).status == 200
            assert b"Host: [::1]:%d\r\n" % there.port in there.links[0].heads[0]
    except OSError as error:
        pytest.skip(f"there is no IPv6 here: {error}")


def test_two_event_loops_have_an_endpoint_each() -> None:
    done: list[int] = []

    async def ask(one: Endpoint) -> None:
        replies = [await asyncio.gather(*(whole(one) for _ in range(5))) for _ in range(20)]
        done.append(sum(len(some) for some in replies))

    with endpoint(always(reply())) as there:
        threads = [threading.Thread(target=run, args=(there.url, ask)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [100, 100]


def test_the_faulty_upstream_s_faults_have_their_names() -> None:
    expected = {
        "reset_before_read": ModelUnreachable,
        "reset_after_read": ModelUnreachable,
        "reset_mid_body": ReplyUnreadable,
        "close": ModelUnreachable,
        "close_mid_body": ReplyUnreadable,
        "cut_json": ReplyUnreadable,
        "html": ReplyUnreadable,
        "huge?mb=40": ReplyUnreadable,
    }

    async def ask(behaviour: str) -> None:
        pool = Pool()
        upstream = Upstream(settings_of(there.base_url_for(behaviour).removesuffix("/v1")), pool)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
        with pytest.raises(expected[behaviour]):
            await upstream.post("chat", body)
        pool.close()

    with faulty_upstream() as there:
        for behaviour in expected:
            uvloop.run(ask(behaviour))
        there.wait_for(lambda state: state.connections_open == 0)


# ---------------------------------------------------------------- TLS


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority of its own, and a certificate for `localhost` alone."""
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    try:
        openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    except OSError:
        pytest.skip("there is no openssl here to make a certificate with")
    openssl(folder, "req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl(folder, "x509", "-req", "-in", "request.pem", "-out", "cert.pem", *signed)
    return folder


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    return context


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_endpoint_with_tls_is_asked_when_its_certificate_is_trusted(
    certificates: Path, tls: ssl.SSLContext, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    async def ask(one: Endpoint) -> None:
        for _ in range(3):
            assert (await whole(one)).body == b"x" * 100_000
        answer, pieces = await pieces_of(one)
        assert (answer.status, len(b"".join(pieces))) == (200, 100_000)

    with endpoint(always(reply(b"x" * 100_000)), tls=tls) as there:
        run(there.url, ask, loop=loop)
        assert [len(link.requests) for link in there.links] == [4]


def test_an_endpoint_that_cannot_be_trusted_is_told_nothing(
    certificates: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(always(reply()), tls=tls) as there:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(ConnectFailed, match="certificate"):
            get(there.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
        with pytest.raises(ConnectFailed, match="certificate"):
            get(there.url.replace("localhost", "127.0.0.1"))
        assert all(link.requests == [] for link in there.links)
    with endpoint(lambda link: link.send(reply(status=400))) as plain, pytest.raises(ConnectFailed):
        get(plain.url.replace("http:", "https:"))


def test_a_call_over_tls_that_is_cancelled_closes_its_connection_at_once(
    certificates: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    async def cancelled(one: Endpoint) -> None:
        for work in (whole(one), begun(one)):
            task = asyncio.ensure_future(work)
            await asyncio.sleep(0.1)
            left = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            while there.links[-1].closed_at is None:
                await asyncio.sleep(0.001)
            assert there.links[-1].closed_at - left < SOON_S

    with endpoint(silent, tls=tls) as there:
        run(there.url, cancelled)


def test_a_stream_over_tls_waits_for_its_reader(
    certificates: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    async def ask(one: Endpoint) -> None:
        answer = await begun(one)
        connection = answer._connection
        assert connection is not None
        got = len(await answer.piece())
        await asyncio.sleep(0.2)
        assert connection._size < 1_000_000
        while piece := await answer.piece():
            got += len(piece)
        assert got == 20_000_000
        answer.close()

    with endpoint(always(reply(bytes(20_000_000))), tls=tls) as there:
        run(there.url, ask)
