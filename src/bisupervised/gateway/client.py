"""A small HTTP/1.1 client for the hot path: kept connections, replies whole or as they come, and cancellation that
closes the connection at once.

A call over a general client costs as much as everything else that the gateway does for a request; this one knows just
what a gateway needs. Parsing is httptools' (llhttp), TLS and sockets are the event loop's. A call that is cancelled,
or times out, aborts its connection: the endpoint sees it and can stop. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httptools

from bisupervised.errors import InputError

Headers: TypeAlias = list[tuple[bytes, bytes]]  #: names as they came

#: Seconds after which an idle connection is not used again: many servers close theirs after 5.
_IDLE_S: Final = 4.0
#: Seconds for which a connection rests after a stream: llama.cpp's server closes it then, although it says that it
#: keeps it, and a request that is sent meanwhile would be lost.
_REST_S: Final = 0.05
#: Bytes of a reply that wait for their reader until the endpoint is told to wait.
_MOST_WAITING: Final = 256 * 1024
_MOST_HEAD: Final = 64 * 1024


class ConnectFailed(OSError):  # noqa: N818 - reads as what it is
    """No connection was made, so nothing was sent."""


class ConnectionLost(OSError):  # noqa: N818 - reads as what it is
    """The endpoint closed the connection before its reply was complete. `begun`: some of the reply had come."""

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class BrokenReply(ValueError):  # noqa: N818 - reads as what it is
    """What came is no HTTP, or more of it than may be."""


@dataclass(slots=True)
class WholeReply:
    """A reply that has come completely."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """A header's value, by its lower-case name."""
        return header_in(self.headers, name)


def header_in(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """A header's value, by its lower-case name; None when it is not there."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return None


class Endpoint:
    """One host and port, with the connections to it that are kept. Use it in one event loop."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"the URL cannot be read: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("the URL must begin with http:// or https:// and name a host")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname
        self._port = port or (443 if self._tls else 80)
        shown = f"[{self._host}]" if ":" in self._host else self._host
        default = 443 if self._tls else 80
        self.authority = shown if self._port == default else f"{shown}:{self._port}"
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    def head(self, method: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
        """A request's head but for its `Content-Length`, to be made once. Raises `InputError` for a line break, and
        for what is not Latin-1."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in headers]
        text = "\r\n".join(lines) + "\r\n"
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise InputError("a header's name or value holds a line break")
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            raise InputError("a header's name or value, or the URL, holds a character beyond Latin-1") from None

    async def whole(self, head: bytes, body: bytes, *, timeout_s: float, most: int) -> WholeReply:
        """Send a request and wait for all of the reply, of at most `most` bytes.

        Raises `ConnectFailed`, `ConnectionLost`, `BrokenReply` or `TimeoutError`.
        """
        connection = await self._connection(timeout_s)
        try:
            await connection.ask(head, body, timeout_s, most=most)
        except BaseException:
            connection.abort()
            raise
        status, headers, content = connection.status, connection.headers, connection.taken()
        self._give_back(connection)
        encoding = header_in(headers, b"content-encoding")
        if encoding is not None:
            content = _Unpacking(encoding).all(content, most)
        return WholeReply(status, headers, content)

    async def begin(
        self, head: bytes, body: bytes, *, timeout_s: float, unpack: bool = True, bodiless: bool = False
    ) -> Reply:
        """Send a request and wait for the reply's head; `timeout_s` bounds each wait, this one and later ones.

        `unpack`: a compressed reply is given decompressed. `bodiless`: the request was HEAD.
        """
        connection = await self._connection(timeout_s)
        try:
            await connection.ask(head, body, timeout_s, most=None, bodiless=bodiless)
        except BaseException:
            connection.abort()
            raise
        return Reply(self, connection, timeout_s, unpack)

    async def _connection(self, timeout_s: float) -> _Connection:
        now, idle = monotonic(), self._idle
        for place in range(len(idle) - 1, -1, -1):  # from the one that was used last
            connection = idle[place]
            if now < connection.rests_until:
                continue
            del idle[place]
            if connection.is_open and now - connection.idle_since < _IDLE_S:
                return connection
            connection.abort()
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, loop), self._host, self._port, ssl=self._tls, server_hostname=name
                )
        except TimeoutError:
            raise ConnectFailed(f"no connection within {timeout_s:g} s") from None
        except (OSError, UnicodeError) as error:  # the latter: a name that can be no host's
            raise ConnectFailed(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
        self._open.add(connection)
        return connection

    def _give_back(self, connection: _Connection, rest_s: float = 0.0) -> None:
        """Keep a connection whose reply is complete, if it may be kept."""
        if connection.may_be_kept:
            now = connection.idle_since = monotonic()
            connection.rests_until = now + rest_s
            self._idle.append(connection)
            while now - self._idle[0].idle_since >= _IDLE_S:  # of a busier time
                self._idle.pop(0).abort()
        else:
            connection.abort()

    def close(self) -> None:
        """Close every connection."""
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()


class Reply:
    """A reply whose head has come; its body is taken piece by piece. Close it in any case."""

    __slots__ = ("_connection", "_endpoint", "_timeout_s", "_unpacking", "headers", "status")

    def __init__(self, endpoint: Endpoint, connection: _Connection, timeout_s: float, unpack: bool) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self._endpoint = endpoint
        self._connection: _Connection | None = connection
        self._timeout_s = timeout_s
        encoding = header_in(self.headers, b"content-encoding") if unpack else None
        self._unpacking = None if encoding is None else _Unpacking(encoding)

    @property
    def ended(self) -> bool:
        """Whether all of it has come and been taken."""
        connection, unpacking = self._connection, self._unpacking
        if connection is None:
            return True
        return connection.complete and not connection.pieces and (unpacking is None or not unpacking.left)

    async def piece(self) -> bytes:
        """The next bytes of the body; empty at its end. Raises as `Endpoint.whole`."""
        unpacking = self._unpacking
        while (connection := self._connection) is not None:
            if connection.pieces:
                data = connection.taken()
            elif unpacking is not None and unpacking.left:
                data = b""
            elif not connection.complete:
                await self._more(connection)
                continue
            else:
                if unpacking is not None:
                    unpacking.end()
                break
            if unpacking is not None:
                data = unpacking.some(data)
            if data:
                return data
        return b""

    async def _more(self, connection: _Connection) -> None:
        try:
            await connection.more(self._timeout_s)
        except BaseException:
            self.abort()
            raise

    async def read(self, most: int) -> bytes:
        """The rest of the body, or a little more than `most` bytes of it."""
        content = bytearray()
        while len(content) <= most and (piece := await self.piece()):
            content += piece
        return bytes(content)

    def abort(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def close(self) -> None:
        """Keep the connection if the reply has ended, else close it at once."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.complete and not connection.pieces:
            chunked = header_in(self.headers, b"transfer-encoding") is not None
            self._endpoint._give_back(connection, _REST_S if chunked else 0.0)
        else:
            connection.abort()


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: Any = None
        self._busy = False
        self.is_open = False
        self.idle_since = 0.0
        self.rests_until = 0.0

    # ------------------------------------------------------------ a request

    async def ask(
        self, head: bytes, body: bytes, timeout_s: float, *, most: int | None, bodiless: bool = False
    ) -> None:
        """Send a request; return at the reply's end, or at its head when `most` is None."""
        if not self.is_open:
            raise ConnectFailed("it was closed before anything was sent")
        self._parser = httptools.HttpResponseParser(self)
        self._most = most
        self._bodiless = bodiless
        self._busy = True
        self._begun = self._head_done = self.complete = self._keep = self._paused = False
        self._until_close = False
        self._bare_bytes = self._size = 0  # the former: since something of the body came
        self.status = 0
        self.headers: Headers = []
        self.pieces: list[bytes] = []
        self._transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        await self._wait(timeout_s)

    async def more(self, timeout_s: float) -> None:
        """Wait for more of the body."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        await self._wait(timeout_s)

    async def _wait(self, timeout_s: float) -> None:
        if not self.is_open:
            raise ConnectionLost("it was closed", begun=self._begun)
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._too_late)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _too_late(self) -> None:
        self._fail(TimeoutError())

    def taken(self) -> bytes:
        """What has come of the body and nobody has taken."""
        pieces, self.pieces = self.pieces, []
        self._size = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def may_be_kept(self) -> bool:
        """Not when the endpoint has answered before it had all of the request: it may not want the rest."""
        return self.is_open and self.complete and self._keep and not self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self.is_open:
            self.is_open = False
            self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()

    # ------------------------------------------------------------ asyncio's calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.is_open = True

    def eof_received(self) -> None:
        """The endpoint closes. If nothing is under way, nothing will be: the transport takes its time to say so."""
        if not self._busy:
            self.is_open = False

    def connection_lost(self, error: Exception | None) -> None:
        was_open, self.is_open = self.is_open, False
        self._parser = None
        self._endpoint._open.discard(self)
        if self in self._endpoint._idle:
            self._endpoint._idle.remove(self)
        if self._busy and self._until_close and error is None and was_open:
            self.on_message_complete()  # that is how such a reply ends
        elif self._waiter is not None and not self._waiter.done():
            words = getattr(error, "strerror", None) or "the connection was closed"
            self._waiter.set_exception(ConnectionLost(words, begun=self._begun))

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.abort()  # nobody asked
            return
        self._begun = True
        self._bare_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(BrokenReply("it wants to speak another protocol"))
        except httptools.HttpParserError as error:
            self._fail(BrokenReply(str(error)))
        else:
            if self._bare_bytes > _MOST_HEAD and self._busy:
                self._fail(BrokenReply(f"its headers are longer than {_MOST_HEAD:,} bytes"))

    # ------------------------------------------------------------ the parser's calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # what comes behind a body is no header
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_done:
            raise BrokenReply("a second reply")
        status = self._parser.get_status_code()
        if status < 200:  # "100 Continue" and its like come before the reply
            self.headers = []
            return
        self.status = status
        self._head_done = True
        self._keep = self._parser.should_keep_alive()
        framed = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        self._until_close = not framed and status not in (204, 304)
        if self._bodiless:
            self._keep = False  # the parser waits for a body that does not come
            self.on_message_complete()
        elif self._most is None:
            self._wake()

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)
        self._bare_bytes = 0
        self._size += len(data)
        if self._most is None:
            if self._size > _MOST_WAITING and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            self._wake()
        elif self._size > self._most:
            self._fail(BrokenReply(f"it is larger than {self._most:,} bytes"))

    def on_message_complete(self) -> None:
        if not self._head_done:
            return
        self.complete = True
        self._busy = False
        if self._paused and self.is_open:
            self._paused = False
            self._transport.resume_reading()
        self._wake()


class _Unpacking:
    """A compressed body, decompressed as it comes."""

    def __init__(self, encoding: bytes) -> None:
        self._begun = self._more = False
        name = encoding.strip().lower()
        if name in (b"gzip", b"x-gzip"):
            self._unpack: Any = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif name == b"deflate":
            self._unpack = zlib.decompressobj()
        elif name in (b"identity", b""):
            self._unpack = None
        else:
            raise BrokenReply(f"it is compressed as {name[:40].decode('latin-1')}, which nobody asked for")

    @property
    def left(self) -> bool:
        """Whether there is more in what was given."""
        return self._more

    def some(self, data: bytes) -> bytes:
        """What these bytes hold, a bounded part of it at a time; what comes after the end is dropped."""
        unpack = self._unpack
        if unpack is None:
            return data
        if unpack.eof:
            return b""
        self._begun = True
        try:
            content = bytes(unpack.decompress(unpack.unconsumed_tail + data, _MOST_WAITING))
        except zlib.error as error:
            raise BrokenReply(str(error)) from None
        self._more = not unpack.eof and len(content) == _MOST_WAITING
        return content

    def end(self) -> None:
        """No more comes. Raises `BrokenReply` when there should be more."""
        if self._begun and not self._unpack.eof:  # an empty body is not compressed
            raise BrokenReply("it is cut off")

    def all(self, data: bytes, most: int) -> bytes:
        """What a complete body holds, if it is at most `most` bytes."""
        if self._unpack is None or not data:
            return data
        try:
            content = bytes(self._unpack.decompress(data, most + 1))
        except zlib.error as error:
            raise BrokenReply(str(error)) from None
        if len(content) > most or not self._unpack.eof:
            raise BrokenReply("it is cut off, or larger than it may be")
        return content
