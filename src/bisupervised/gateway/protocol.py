"""HTTP/1.1 for the gateway's server: uvicorn's place for a protocol, filled with the shortest way to an answer.

uvicorn listens, runs the loop and ends it; this is what it makes for each connection. The application is started when
a request's body is there, an answer goes out in one piece, and a request's head is bounded in size and in time. It
is plain ASGI otherwise; `scope["bisupervised.exchange"]` is the `Exchange`, for those who know it.

A client that closes its sending side is gone, as for nginx and Go: nobody can tell one that will still read from one
that will not, and a request whose client has left must end. What is answered at once reaches it all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Coroutine
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
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NoRequest(Exception):  # noqa: N818 - reads as what it is
    """What came cannot be taken as a request: a code of `refusals.CODES`, and words."""


class _Deaf:
    """In the parser's place once nothing more is read: what still comes is dropped."""

    def feed_data(self, data: bytes) -> None: ...


_DEAF: Final = _Deaf()


class HttpProtocol(asyncio.Protocol):
    """One client's connection. Subclasses set the bounds."""

    max_header_bytes = 32 * 1024
    #: Seconds that a request's head may take, and each pause in its body.
    header_timeout_s = 20.0
    #: Seconds that a connection may be idle, and that a client may take nothing of its answer.
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
        self._context = contextvars.copy_context()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._url = b""
        self._headers: HeaderList = []
        self._in_head = False  # a request's head is on its way
        self._coming: Exchange | None = None  # whose body is
        self._current: Exchange | None = None  # that is being answered
        self._queue: deque[Exchange] = deque()
        self._bare_bytes = 0  # of what is on its way, since something of a body came
        self._may_begin = True  # no request of these bytes has begun yet
        self._reading = True
        self._stopping = False
        self._quiet_since = self._loop.time()
        self._idle_s = self.header_timeout_s  # until there was a request
        self._unsent = 0
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
        self._parser = _DEAF

    def eof_received(self) -> None:
        """A client that sends no more is gone: the transport closes."""

    def data_received(self, data: bytes) -> None:
        self._bare_bytes += len(data)
        self._may_begin = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._refuse(self._no_request(error))
            return
        else:
            if self._bare_bytes > self.max_header_bytes and (self._in_head or self._coming is not None):
                self._refuse(self._too_large())
            return
        self._decline(rest)

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
        self._bare_bytes = 0
        self._quiet_since = self._loop.time()
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        self._in_head = False
        if self._transport.is_closing():
            return
        length, chunked, expects, size = 0, False, False, len(self._url)
        for name, value in headers:
            size += len(name) + len(value) + 4
            if name == b"content-length":
                length = _length(value)
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"expect":
                expects = value.lower() == b"100-continue"
        if size > self.max_header_bytes:
            raise self._too_large()
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if self._parser.should_upgrade():
            if method == b"CONNECT":
                raise _NoRequest("invalid_request", "this is no proxy")
            self._upgrading = b"%b %b HTTP/%b\r\n" % (method, self._url, version.encode()), headers
            return
        if version != "1.1" and version != "1.0":
            raise _NoRequest("invalid_request", "this server speaks HTTP/1.1 alone")
        exchange = self._coming = Exchange(self, headers)
        exchange.keep_alive = version == "1.1" and self._parser.should_keep_alive() and not self._stopping
        exchange.describe(self._url, method, version, self._app_state)
        exchange.expects = expects and version == "1.1"
        if chunked or exchange.expects or length > _WHOLE_BODY:
            self._take_up(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._coming
        if exchange is not None:
            self._bare_bytes = 0
            self._quiet_since = self._loop.time()
            exchange.pieces.append(data)
            exchange.size += len(data)
            if exchange.taken_up:
                exchange.expects = False
                if exchange.size > _MOST_WAITING:
                    self._pause_reading()
                exchange.wake()

    def on_message_complete(self) -> None:
        if self._headers:
            self._headers = []  # what comes behind a body is no header, of this request or the next
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
        if self._current is None and not self._queue:
            if self._may_begin:
                self._may_begin = False
                self._start(exchange)
                return
            self._loop.call_soon(self._next)  # other connections have their turn first
        self._queue.append(exchange)
        if len(self._queue) >= _MOST_PIPELINED:
            self._pause_reading()

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        work: Any = exchange.run(self._app)
        context = self._context.copy()  # what a request sets there is its own
        if self._at_once is not None and exchange.complete and self._at_once(exchange.scope["path"]):
            try:
                waits_for = context.run(work.send, None)
            except (StopIteration, asyncio.CancelledError):
                return  # answered, and there was nothing to wait for
            work = _Begun(work, waits_for)
        task = self._loop.create_task(work, context=context)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def answered(self, exchange: Exchange) -> None:
        """The answer to the current request is complete."""
        self._state.total_requests += 1
        self._current = None
        self._quiet_since = self._loop.time()
        self._idle_s = self.keep_alive_s
        if self._transport.is_closing():
            return
        if self._stopping:
            self._transport.close()
        elif not exchange.complete:
            self._close_gently()  # the rest of a body that nobody reads would be taken for the next request
        elif not exchange.keep_alive:
            self._transport.close()
        elif self._queue:
            self._loop.call_soon(self._next)  # not from here: this may be the end of another request's task
        elif not self._reading:
            self._resume_reading()

    def _next(self) -> None:
        if self._current is None and self._queue and not self._transport.is_closing():
            exchange = self._queue.popleft()
            self._resume_reading()
            self._start(exchange)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and len(self._queue) < _MOST_PIPELINED and not self._transport.is_closing():
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
        """Close a connection on which nothing happens: no request, no more of one, or nobody who takes the answer."""
        unsent, before = self._transport.get_write_buffer_size(), self._unsent
        self._unsent = unsent
        wait_s = self.header_timeout_s
        coming = self._in_head or self._coming is not None
        if unsent:
            if unsent == before:
                self._transport.abort()
                return
            wait_s = self.keep_alive_s
        elif self._current is None or (self._current is self._coming and self._reading):
            most = self.header_timeout_s if coming else self._idle_s
            left = most - (self._loop.time() - self._quiet_since)
            if left <= 0.0:
                self._transport.close()
                return
            wait_s = min(wait_s, left)
        self._timer = self._loop.call_later(max(wait_s, 0.05), self._look_at_the_time)

    def _close_gently(self) -> None:
        """Close while the client may still be sending: to close at once would reset the connection, and the answer
        would be lost with it."""
        self._parser = _DEAF
        self._coming, self._in_head = None, False
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self.header_timeout_s, self._transport.abort)

    def _no_request(self, error: Exception) -> _NoRequest:
        """What the parser says, or what stopped it here."""
        reason = error.__context__
        if isinstance(reason, _NoRequest):
            return reason
        if reason is not None:
            logger.error("a mistake in the gateway", exc_info=reason)
        return _NoRequest("invalid_request", f"this is no HTTP request: {error}")

    def _too_large(self) -> _NoRequest:
        message = f"the headers are larger than {self.max_header_bytes:,} bytes (max_header_bytes)"
        return _NoRequest("headers_too_large", message)

    def _refuse(self, reason: _NoRequest) -> None:
        """Answer what is no proper request, and close. Requests that came before it are answered first."""
        if self._transport.is_closing():
            return
        broken, self._coming, self._in_head, self._parser = self._coming, None, False, _DEAF
        if broken is not None and self._queue and self._queue[-1] is broken:
            self._queue.pop()
        before = self._queue[-1] if self._queue else self._current
        if before is not None and before is not broken:
            before.keep_alive = False
            return
        if broken is not None and not broken.give_up():
            self._transport.abort()  # the client must see that its answer is cut off
            return
        self._current = None
        refused = refusal(*reason.args)
        head = _STATUS_LINES[refused.status] + b"content-type: application/json\r\nconnection: close\r\n"
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(refused.body), refused.body))
        self._close_gently()

    def _decline(self, rest: bytes) -> None:
        """Read a request that would like another protocol (Java's client asks for HTTP/2 so) as one in this one.

        The parser takes its body, which is in `rest`, for that protocol; so it is given the head without the wish.
        """
        if not self._transport.is_closing():
            first, headers = self._upgrading
            lines = [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(b"%b%b\r\n%b" % (first, b"".join(lines), rest))


def _length(value: bytes) -> int:
    """A Content-Length, whose digits the parser has checked."""
    if len(value) > 20:
        raise _NoRequest("invalid_request", "the Content-Length is too long")
    return int(value)


class _Begun:
    """A coroutine that has begun and waits for something: a task goes on with it as if it had begun there."""

    __slots__ = ("_waits_for", "_work", "close", "send", "throw")

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for
        self.send: Any = self._first
        self.throw = work.throw
        self.close = work.close

    def _first(self, _: None) -> Any:
        self.send = self._work.send
        return self._waits_for

    def __await__(self) -> Any:
        raise TypeError("it is for a task")


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
            "expects",
            "finished",
            "headers",
        ),
        *("keep_alive", "pieces", "scope", "size", "started", "taken_up"),
    )

    def __init__(self, connection: HttpProtocol, headers: HeaderList) -> None:
        self._connection = connection
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left: int | None = None  # bytes of the announced length that are still to come
        self.headers = headers
        self.scope: dict[str, Any] = {}
        self.pieces: list[bytes] = []
        self.size = 0
        self.complete = False  # the request is all here
        self.taken_up = False
        self.expects = False  # the client waits for a word before it sends the body
        self.keep_alive = True
        self.disconnected = False
        self.started = False  # the answer has begun
        self.finished = False  # and is complete

    def describe(self, url: bytes, method: bytes, version: str, app_state: dict[str, Any]) -> None:
        """Make the ASGI scope. Raises `_NoRequest` for a target that is no path."""
        raw, _, query = url.partition(b"?")
        if not raw.startswith(b"/"):
            raise _NoRequest("invalid_request", "the request's target is no path, and this is no proxy")
        path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", "replace")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._connection.server,
            "client": self._connection.client,
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

    async def run(self, app: Any) -> None:
        """Let the application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            logger.exception("a mistake in the gateway")
            if self.started or not self.answer(500, [], b"Internal Server Error"):
                self._break_off()
        except BaseException:
            self._break_off()
            raise
        else:
            if not self.finished:
                self._break_off()  # an answer whose rest will not come must not look complete

    def _break_off(self) -> None:
        if not self.finished:
            self.finished = True
            self.scope = {}
            self.keep_alive = False
            if not self.disconnected:
                self._connection._transport.abort()
            self._connection.answered(self)

    def give_up(self) -> bool:
        """The request cannot be read to its end: what is done for it ends. False when its answer has begun."""
        self.disconnected = True
        if not self.started:
            self.finished = True
        self.wake()
        return not self.started

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
                if not self._connection._reading:
                    self._connection._resume_reading()
                return {"type": "http.request", "body": body, "more_body": not self.complete}
            if self.expects:
                self.expects = False
                self._connection._transport.write(_CONTINUE)
            self._waiter = self._connection._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def send(self, message: dict[str, Any]) -> None:
        """A part of the answer. The head waits for the first part of the body."""
        connection = self._connection
        while connection._drained is not None and not self.disconnected:
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
        if status in (204, 304):
            self._left = 0  # they have no body, whatever is sent
        self._chunked = self._left is None and self.scope["http_version"] == "1.1"
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in headers:
            if self._left is None and name.lower() == b"content-length":  # an endpoint's are as it writes them
                self._left = int(value)
                self._chunked = False
            lines += (name, b": ", value, b"\r\n")
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif self._left is None:
            self.keep_alive = False  # its end is the connection's
        if not (self.keep_alive and self.complete):
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
        self.scope = {}  # which knows this exchange: a circle would wait for the collector
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
        if not (self.keep_alive and self.complete):
            lines.append(b"connection: close\r\n")
        lines += (b"content-length: %d\r\n\r\n" % len(body), body)
        self.started = True
        connection._transport.write(b"".join(lines))
        self._left = None
        self._finish()
        return True
