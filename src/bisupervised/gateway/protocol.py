"""HTTP/1.1 for the gateway's server: uvicorn's place for a protocol, filled with the shortest way to an answer.

uvicorn listens, runs the loop and ends it; this is what it makes for each connection. The application is started when
a request's body is there, an answer goes out in one piece, and a request's head is bounded in size and in time. It
is plain ASGI otherwise; `scope["bisupervised.exchange"]` is the `Exchange`, for those who know it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import types
from collections import deque
from collections.abc import Coroutine, Generator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import httptools

from bisupervised.gateway.refusals import refusal

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

logger = logging.getLogger("bisupervised.gateway")

HeaderList = list[tuple[bytes, bytes]]

#: Bodies up to this size are waited for; the application reads larger ones as they come.
_WHOLE_BODY: Final = 256 * 1024
#: Bytes of a body that wait for the application until the client is told to wait.
_MOST_WAITING: Final = 512 * 1024
#: Requests that a client may send before the answer to its first one.
_MOST_PIPELINED: Final = 16
#: Seconds for which what a refused client still sends is read and dropped, so that it comes to read the answer.
_LINGER_S: Final = 2.0
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpProtocol(asyncio.Protocol):
    """One client's connection. Subclasses set the bounds."""

    max_header_bytes = 32 * 1024
    header_timeout_s = 20.0
    keep_alive_s = 75.0

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None
    ) -> None:
        if not config.loaded:
            config.load()
        self._app: Any = config.loaded_app
        #: Which paths begin as plain calls, and become a task when they wait for something.
        self._at_once: Any = getattr(self._app, "at_once", None)
        self._state = server_state
        self._app_state = app_state
        self._loop: asyncio.AbstractEventLoop = _loop or asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._coming: Exchange | None = None  # whose head or body is still on its way
        self._current: Exchange | None = None  # that is being answered
        self._queue: deque[Exchange] = deque()
        self._head_bytes = 0
        self._in_head = True
        self._reading = True
        self._stopping = False
        self._lingering = False  # the last answer is out: what still comes is dropped
        self._quiet_since = 0.0  # no request has begun: the first one has the time of a head
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int] | None = None

    # ------------------------------------------------------------ asyncio's calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self.server = (str(own[0]), int(own[1])) if isinstance(own, tuple) else None
        self._timer = self._loop.call_later(self.header_timeout_s, self._look_at_the_time)

    def connection_lost(self, error: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        for exchange in (self._current, self._coming, *self._queue):
            if exchange is not None:
                exchange.disconnected = True
                exchange.wake()
        self._queue.clear()
        self._coming = None

    def eof_received(self) -> None:
        """A client that sends no more is gone: the transport closes."""

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse("invalid_request", "this server speaks HTTP/1.1 alone")
        except httptools.HttpParserError as error:
            if not self._transport.is_closing():
                self._refuse("invalid_request", f"this is no HTTP request: {error}")
        else:
            if self._in_head and self._coming is not None:  # these bytes, at most one read of them, are all head
                self._head_bytes += len(data)
                if self._head_bytes > self.max_header_bytes:
                    self._refuse_head()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # ------------------------------------------------------------ the parser's calls

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._quiet_since = self._loop.time()
        self._coming = Exchange(self)

    def on_url(self, url: bytes) -> None:
        if self._coming is not None:
            self._coming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._coming is not None:
            self._coming.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self._coming
        if exchange is None or self._transport.is_closing():
            return
        self._in_head = False
        length, chunked, expects, size = 0, False, False, len(exchange.url)
        for name, value in exchange.headers:
            size += len(name) + len(value)
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"expect":
                expects = value.lower() == b"100-continue"
        if size > self.max_header_bytes:
            self._refuse_head()
            return
        version = self._parser.get_http_version()
        exchange.keep_alive = self._parser.should_keep_alive() and version != "1.0" and not self._stopping
        if not exchange.describe(self, self._parser.get_method(), version, self._app_state):
            self._refuse("invalid_request", "the request's target is no path")
            return
        if expects:
            self._transport.write(_CONTINUE)
        if chunked or length > _WHOLE_BODY:
            self._take_up(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._coming
        if exchange is not None:
            exchange.pieces.append(data)
            exchange.size += len(data)
            if exchange.taken_up:
                if exchange.size > _MOST_WAITING:
                    self._pause_reading()
                exchange.wake()

    def on_message_complete(self) -> None:
        exchange, self._coming = self._coming, None
        if exchange is None or self._transport.is_closing():
            return
        exchange.complete = True
        if exchange.taken_up:
            exchange.wake()
        else:
            self._take_up(exchange)

    # ------------------------------------------------------------ one request after the other

    def _take_up(self, exchange: Exchange) -> None:
        exchange.taken_up = True
        if self._current is None:
            self._start(exchange)
            return
        self._queue.append(exchange)
        if len(self._queue) >= _MOST_PIPELINED:
            self._pause_reading()

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        work = exchange.run(self._app)
        if self._at_once is not None and exchange.complete and self._at_once(exchange.scope["path"]):
            try:
                waits_for = work.send(None)
            except StopIteration:
                return  # answered, and there was nothing to wait for
            work = _rest_of(work, waits_for)
        task = self._loop.create_task(work)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def answered(self, exchange: Exchange) -> None:
        """The answer to the current request is complete."""
        self._state.total_requests += 1
        self._current = None
        self._quiet_since = self._loop.time()
        if self._transport.is_closing():
            return
        if not exchange.complete:
            # The rest of a body that nobody reads would be taken for the next request.
            self._close_gently()
        elif not exchange.keep_alive or self._stopping:
            self._transport.close()
        else:
            self._resume_reading()
            if self._queue:
                self._start(self._queue.popleft())

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    # ------------------------------------------------------------ the end

    def shutdown(self) -> None:
        """uvicorn's call: finish what is under way, and close."""
        self._stopping = True
        if self._current is not None:
            self._current.keep_alive = False
        elif not self._queue:
            self._transport.close()

    def _look_at_the_time(self) -> None:
        """Close a connection on which nothing happens, or whose request's head does not come to an end."""
        if self._transport.is_closing():
            return
        quiet_s = self._loop.time() - self._quiet_since
        half = self._coming is not None or self._quiet_since == 0.0
        most = self.header_timeout_s if half or self._state is None else self.keep_alive_s
        if self._current is not None or self._queue:
            wait_s = self.header_timeout_s
        elif quiet_s >= most:
            self._transport.close()
            return
        else:
            wait_s = min(most - quiet_s, self.header_timeout_s)
        self._timer = self._loop.call_later(max(wait_s, 0.05), self._look_at_the_time)

    def _refuse_head(self) -> None:
        message = f"the headers are larger than {self.max_header_bytes:,} bytes (max_header_bytes)"
        self._refuse("headers_too_large", message)

    def _refuse(self, code: str, message: str) -> None:
        """Answer what is no proper request, and close. An answer that is under way is cut off by that."""
        refused = refusal(code, message)
        self._coming = None
        self._in_head = False
        if self._transport.is_closing():
            return
        if self._current is None:
            head = _STATUS_LINES[refused.status] + b"content-type: application/json\r\nconnection: close\r\n"
            self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(refused.body), refused.body))
            self._close_gently()
        else:
            self._transport.close()

    def _close_gently(self) -> None:
        """Close while the client may still be sending: to close at once would reset the connection, and the answer
        would be lost with it."""
        self._lingering = True
        self._coming = None
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_S, self._transport.close)


async def _rest_of(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """What is left of a coroutine that has begun and waits for something."""
    await _going_on(work, waits_for)


@types.coroutine
def _going_on(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            value = yield waits_for
        except BaseException as error:
            step = functools.partial(work.throw, error)
        else:
            step = functools.partial(work.send, value)
        try:
            waits_for = step()
        except StopIteration:
            return


class Exchange:
    """One request and its answer: ASGI's `receive` and `send`, and `answer`, which does all of it at once."""

    __slots__ = (
        *(
            "_chunked",
            "_connection",
            "_head",
            "_left",
            "_waiter",
            "complete",
            "disconnected",
            "headers",
            "keep_alive",
        ),
        *("pieces", "scope", "size", "started", "taken_up", "url", "finished"),
    )

    def __init__(self, connection: HttpProtocol) -> None:
        self._connection = connection
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left: int | None = None  # bytes of the announced length that are still to come
        self.url = b""
        self.headers: HeaderList = []
        self.scope: dict[str, Any] = {}
        self.pieces: list[bytes] = []
        self.size = 0
        self.complete = False  # the request is all here
        self.taken_up = False
        self.keep_alive = True
        self.disconnected = False
        self.started = False  # the answer has begun
        self.finished = False  # and is complete

    def describe(self, connection: HttpProtocol, method: bytes, version: str, app_state: dict[str, Any]) -> bool:
        """Make the ASGI scope; False for a target that is no path."""
        raw, _, query = self.url.partition(b"?")
        if not raw.startswith(b"/"):
            return False
        path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", "replace")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": connection.server,
            "client": connection.client,
            "scheme": "http",
            "root_path": "",
            "method": method.decode("latin-1"),
            "path": path,
            "raw_path": raw,
            "query_string": query.partition(b"#")[0],
            "headers": self.headers,
            "state": app_state.copy(),
            "bisupervised.exchange": self,
        }
        return True

    async def run(self, app: Any) -> None:
        """Let the application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._break_off()
            raise
        except BaseException:
            logger.exception("a mistake in the gateway")
            if self.started or not self.answer(500, [], b"Internal Server Error"):
                self._break_off()
        else:
            if not self.finished:
                self._break_off()  # an answer whose rest will not come must not look complete

    def _break_off(self) -> None:
        if not self.finished:
            self.finished = True
            self.keep_alive = False
            if not self.disconnected:
                self._connection._transport.abort()
            self._connection.answered(self)

    def wake(self) -> None:
        """Something has come for `receive`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------ ASGI

    async def receive(self) -> dict[str, Any]:
        """The body's next part, or that the client is gone, or has all of its answer."""
        while True:
            if self.disconnected or self.finished:
                return {"type": "http.disconnect"}
            if self.pieces or (self.complete and self.size >= 0):
                pieces, self.pieces = self.pieces, []
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                self.size = -1 if self.complete else 0
                self._connection._resume_reading()
                return {"type": "http.request", "body": body, "more_body": not self.complete}
            self._waiter = self._connection._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def send(self, message: dict[str, Any]) -> None:
        """A part of the answer. The head waits for the first part of the body."""
        connection = self._connection
        if connection._drained is not None and not self.disconnected:
            await asyncio.shield(connection._drained)
        if self.disconnected or self.finished:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            body, data = b"", b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                data += b"0\r\n\r\n"
        else:
            data = self._counted(body)
        if head or data:
            connection._transport.write(head + data)
        if not more:
            self._finish()

    def _begin(self, status: int, headers: HeaderList) -> None:
        self.started = True
        self._chunked = status not in (204, 304) and self.scope["http_version"] == "1.1"
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in headers:
            if name == b"content-length":
                self._left = int(value)
                self._chunked = False
            lines += (name, b": ", value, b"\r\n")
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif self._left is None and status not in (204, 304):
            self.keep_alive = False  # its end is the connection's
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def _counted(self, body: bytes) -> bytes:
        """The body's part, never more than was announced."""
        if self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
        return body

    def _finish(self) -> None:
        if self._left and self.scope["method"] != "HEAD":
            self.keep_alive = False  # less than was announced: the client must see that it is cut off
        self.finished = True
        self.wake()
        self._connection.answered(self)

    # ------------------------------------------------------------ the short way

    def answer(self, status: int, headers: HeaderList, body: bytes) -> bool:
        """Write a complete answer at once, its length added; False when it must go through `send`."""
        connection = self._connection
        if self.started or self.disconnected or connection._drained is not None or self.scope["method"] == "HEAD":
            return False
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"content-length: %d\r\n\r\n" % len(body), body)
        self.started = True
        connection._transport.write(b"".join(lines))
        self._left = None
        self._finish()
        return True
