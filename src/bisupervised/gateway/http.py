"""HTTP as the hot path needs it: a request's head and body, one answer, and a client that goes away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from bisupervised.gateway.asking import HeaderList
from bisupervised.gateway.refusals import refusal
from bisupervised.gateway.service import Refused
from bisupervised.gateway.watching import Watch

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_EVENT_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_NO_CACHE: Final = (b"cache-control", b"no-cache")


class ClientGone(Exception):  # noqa: N818 - reads as what it is
    """The client closed the connection before the request was complete."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """A header's value, by its lower-case name; None when it is not there."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """The request's body. Raises `Refused` for one of more than `most` bytes, `ClientGone` for half of one."""
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > most:
        raise _too_large(most)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > most:
            raise _too_large(most)
        return body
    parts = bytearray(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts += message.get("body", b"")
        if len(parts) > most:
            raise _too_large(most)
    return bytes(parts)


def _too_large(most: int) -> Refused:
    return Refused(refusal("body_too_large", f"the body is larger than {most:,} bytes (max_body_bytes)"))


class HttpChannel:
    """One request's answer over ASGI. Close it at the end."""

    __slots__ = ("_exchange", "_send", "started", "watch")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        self._exchange = scope.get("bisupervised.exchange")
        self.watch = Watch(receive)
        self.started = False

    async def waiting(self) -> None:
        """Before anything that takes time: from now on, the client's leaving cancels the request."""
        await self.watch.begin()

    async def whole(self, status: int, headers: HeaderList, body: bytes) -> None:
        self.started = True
        self.watch.close()  # nothing is left to cancel
        if self._exchange is not None and self._exchange.answer(status, headers, body):
            return
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def raw(self, status: int, headers: HeaderList, piece: Callable[[], Awaitable[bytes]]) -> None:
        """Send another endpoint's answer as it comes; what reading it raises goes through."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        while data := await piece():
            await self.send(data)
        await self.end()

    async def begin(self, headers: HeaderList) -> None:
        self.started = True
        headers = [*headers, _EVENT_STREAM, _NO_CACHE]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        self.watch.close()
        await self._send({"type": "http.response.body", "body": b""})
