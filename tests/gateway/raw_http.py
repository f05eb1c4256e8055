"""HTTP/1.1 as bytes: a client's socket with a strict reader, and an application whose paths say what it does."""

from __future__ import annotations

import asyncio
import contextvars
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

from bisupervised.gateway.protocol import HttpProtocol
from bisupervised.gateway.watching import Watch

# ---------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it stood on the wire. `whole`: to its end."""

    status: int
    headers: list[tuple[str, str]]  #: names in lower case
    body: bytes
    whole: bool = True

    def header(self, name: str) -> str | None:
        found = [value for given, value in self.headers if given == name]
        assert len(found) <= 1, f"{name} stands there {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Broken(AssertionError):  # noqa: N818 - reads as what it is
    """The bytes are no HTTP/1.1."""


def read_answer(data: bytes, *, head: bool = False, ended: bool = False) -> tuple[Answer | None, bytes]:
    """The first answer in these bytes, and what comes behind it; None: it is not there yet.

    `head`: the request was HEAD. `ended`: nothing more comes, so what is there is given, as half of one if it is.
    """
    top, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        if ended and data:
            raise Broken(f"half of a head: {data[:200]!r}")
        return None, data
    first, *lines = top.split(b"\r\n")
    version, status, _ = first.split(b" ", 2)
    if version != b"HTTP/1.1" or any(b"\n" in line or b"\r" in line or b": " not in line for line in lines):
        raise Broken(f"not a head: {top!r}")
    headers = [(line.split(b": ", 1)[0].decode().lower(), line.split(b": ", 1)[1].decode()) for line in lines]
    answer = Answer(int(status), headers, b"")
    length, coding = answer.header("content-length"), answer.header("transfer-encoding")
    if length is not None and coding is not None:
        raise Broken("two lengths")
    if head or answer.status in (204, 304) or answer.status < 200:
        return answer, rest
    if coding is not None:
        body, whole, rest = _chunks(rest)
    elif length is not None:
        body, rest, whole = rest[: int(length)], rest[int(length) :], len(rest) >= int(length)
    else:
        body, rest, whole = rest, b"", ended
    if not whole and not ended:
        return None, data
    return Answer(answer.status, headers, body, whole), rest


def _chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            return body, False, b""
        size = int(line, 16)
        if size == 0:
            return body, rest.startswith(b"\r\n"), rest[2:]
        body, end, data = body + rest[:size], rest[size : size + 2], rest[size + 2 :]
        if len(end) < 2:
            return body, False, b""
        if end != b"\r\n":
            raise Broken("a chunk without its end")


def answers_in(data: bytes, *methods: str) -> list[Answer]:
    """Every answer in these bytes, which must be nothing else; those to `methods`, all to GET when there are none."""
    found = []
    while data:
        head = bool(methods) and methods[len([one for one in found if one.status >= 200])] == "HEAD"
        answer, data = read_answer(data, head=head, ended=True)
        assert answer is not None
        found.append(answer)
    return found


# ---------------------------------------------------------------- a client


class Link:
    """A client's socket."""

    def __init__(self, port: int, *, small: bool = False) -> None:
        self.socket = socket.socket()
        if small:  # so that little waits in the system
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *packets: bytes, pause_s: float = 0.01) -> Link:
        """Send these, one after the other, so that they come apart."""
        for number, packet in enumerate(packets):
            if number:
                time.sleep(pause_s)
            self.socket.sendall(packet)
        return self

    def answer(self, *, head: bool = False) -> Answer:
        """The next answer, to its end."""
        ended = False
        while True:
            answer, rest = read_answer(self._held, head=head, ended=ended)
            if answer is not None:
                self._held = rest
                return answer
            piece = self.socket.recv(65536)
            ended = not piece
            if ended and not self._held:
                raise EOFError("the connection was closed, and nothing came")
            self._held += piece

    def until_end(self) -> bytes:
        """Everything until the connection's end. Raises ConnectionResetError for one that is no close."""
        data, self._held = self._held, b""
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def quiet(self, seconds: float = 0.15) -> bool:
        """Whether nothing comes, and the connection stays open, for as long."""
        self.socket.settimeout(seconds)
        try:
            self._held += self.socket.recv(65536)
        except TimeoutError:
            return not self._held
        finally:
            self.socket.settimeout(5)
        return False

    def half_close(self) -> Link:
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def request(path: str = "/hot/echo", body: bytes = b"", method: str = "", *lines: str, version: str = "1.1") -> bytes:
    """A request's bytes; it has a Content-Length if it has a body."""
    given = [f"{method or ('POST' if body else 'GET')} {path} HTTP/{version}", "Host: here", *lines]
    given += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*given, "", ""]).encode("latin-1") + body


def chunked(path: str, *chunks: bytes, trailers: bytes = b"", lines: bytes = b"") -> bytes:
    """A request whose body comes in these chunks."""
    head = b"POST %b HTTP/1.1\r\nHost: here\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (path.encode(), lines)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n" + trailers + b"\r\n"


# ---------------------------------------------------------------- an application

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


class App:
    """`/hot/…` begins as a plain call, `/task/…` as a task; what follows is one of its methods.

    `began`, `cancelled` and `done` are the paths of the requests that did; times are `time.monotonic()`.
    """

    def __init__(self) -> None:
        self.began: list[str] = []
        self.done: list[str] = []
        self.cancelled: dict[str, float] = {}
        self.raised: dict[str, BaseException] = {}
        self.written = 0  # bytes of streams that were handed on
        self.read = 0  # bytes of bodies
        self.free = True  # whether `count` reads

    def at_once(self, path: str) -> bool:
        return path.startswith("/hot/")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.began.append(path)
        watch = Watch(receive)
        options = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        name = path.split("/")[2] if path.count("/") > 1 else "echo"
        try:
            await getattr(self, name, self.echo)(scope, receive, send, watch, options)
            self.done.append(path)
        except asyncio.CancelledError:
            self.cancelled[path] = time.monotonic()
            if not watch.cancelled():
                raise
        except Exception as error:
            self.raised[path] = error
            raise
        finally:
            watch.close()

    async def echo(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """What it saw, all of it."""
        body = await read(receive)
        if "wait" in options:
            await watch.begin()
            await asyncio.sleep(float(options["wait"]))
        await self.say(scope, send, body, options)

    async def say(self, scope: Any, send: Any, body: bytes, options: Any) -> None:
        shown = {
            **{name: scope[name] for name in ("method", "path", "http_version")},
            "query": scope["query_string"].decode("latin-1"),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": body.decode("latin-1"),
        }
        content = json.dumps(shown).encode() + b" " * int(options.get("pad", 0))
        headers = [(b"content-type", b"application/json")]
        if "send" not in options and scope["bisupervised.exchange"].answer(200, headers, content):
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(content), 64):
            await send({"type": "http.response.body", "body": content[start : start + 64], "more_body": True})
        await send({"type": "http.response.body"})

    async def answer_and_wait(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """Its work goes on when its answer is out."""
        await self.say(scope, send, b"", options)
        await asyncio.sleep(float(options["wait"]))

    async def busy(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """It holds the loop for 2 ms."""
        time.sleep(0.002)
        await self.say(scope, send, b"", options)

    async def deaf(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """It answers without a look at the body."""
        await self.say(scope, send, b"", options)

    async def count(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """It reads when it is free to, and says how much there was."""
        while not self.free:
            await asyncio.sleep(0.005)
        more, size = True, 0
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            size += len(message["body"])
            self.read = size
            more = message["more_body"]
        await self.say(scope, send, b"%d" % size, options)

    async def hang(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        await read(receive)
        await watch.begin()
        await asyncio.sleep(60)

    async def hang_unwatched(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        await asyncio.sleep(60)

    async def stream(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """`n` pieces of `size` bytes, with `pause` seconds before each; `length`: announced."""
        await watch.begin()
        headers = [(b"Content-Length", options["length"].encode())] if "length" in options else []
        await send({"type": "http.response.start", "status": int(options.get("status", 200)), "headers": headers})
        for _ in range(int(options.get("n", 3))):
            await asyncio.sleep(float(options.get("pause", 0)))
            piece = b"x" * int(options.get("size", 10))
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.written += len(piece)
        await send({"type": "http.response.body"})

    async def mistake(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """`when`: before the answer; head: its head is handed on; body: some of it is out; after: all of it."""
        when = options.get("when", "before")
        if "wait" in options:
            await watch.begin()
        if when in ("head", "body"):
            headers = [(b"content-length", b"100")] if "length" in options else []
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if when == "body":
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
        if when == "after":
            await self.say(scope, send, b"", options)
        if "returns" not in options:
            raise ValueError("a mistake of the application")

    async def cancels(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        raise asyncio.CancelledError

    async def variable(self, scope: Any, receive: Any, send: Any, watch: Watch, options: Any) -> None:
        """What a context variable holds, before the request sets it and after it has waited."""
        before = SEEN.get()
        SEEN.set(options["set"])
        if "wait" in options:
            await watch.begin()
            await asyncio.sleep(0.01)
        await self.say(scope, send, f"{before} {SEEN.get()}".encode(), options)


async def read(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client is gone")
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


# ---------------------------------------------------------------- its server


class Served:
    """A server in a thread."""

    def __init__(self, server: uvicorn.Server, app: Any, errors: list[dict[str, Any]]) -> None:
        self.server = server
        self.app = app
        self.errors = errors  #: what reached the loop's handler of last resort
        self.port: int = server.servers[0].sockets[0].getsockname()[1]

    def link(self, **options: Any) -> Link:
        return Link(self.port, **options)

    def ask(self, *packets: bytes, **options: Any) -> list[Answer]:
        """The answers to these bytes, sent in these packets; the last request must ask for a close."""
        with self.link() as link:
            return answers_in(link.send(*packets, **options).until_end())

    @property
    def tasks(self) -> int:
        return len(self.server.server_state.tasks)

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


@contextmanager
def serving(app: Any, *, loop: str = "uvloop", drain_s: int = 5, **bounds: Any) -> Iterator[Served]:
    """A real server of this application. At the end, nothing may be left: no connection, no task, no error."""
    errors: list[dict[str, Any]] = []

    class Protocol(HttpProtocol):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._loop.set_exception_handler(lambda _, context: errors.append(context))

    for name, value in bounds.items():
        setattr(Protocol, name, value)
    config = uvicorn.Config(
        app,
        port=0,
        loop=loop,  # type: ignore[arg-type]
        http=Protocol,  # type: ignore[arg-type]
        ws="none",
        interface="asgi3",
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # they would wrap the application, whose `at_once` is then not seen
        log_level="critical",
        timeout_graceful_shutdown=drain_s,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        served = Served(server, app, errors)
        yield served
        until(lambda: not served.connections and not served.tasks)
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not end"
    assert errors == []


def until(condition: Any, timeout_s: float = 5.0) -> None:
    """Wait for a condition. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(0.002)
