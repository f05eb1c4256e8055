"""HTTP to an OpenAI-compatible endpoint: whole replies, streams, and other routes byte for byte.

Whatever goes wrong becomes a `ModelError`. A call that is cancelled closes its connection at once: the endpoint
sees it and can stop what nobody waits for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, Final

import msgspec

from bisupervised.errors import (
    CircuitOpen,
    ModelBusy,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.gateway.client import BrokenReply, ConnectFailed, ConnectionLost, Endpoint, Reply, header_in
from bisupervised.gateway.settings import UpstreamSettings
from bisupervised.gateway.slots import Slots
from bisupervised.gateway.sse import EventReader
from bisupervised.gateway.tracing import TRACEPARENT
from bisupervised.models.circuit_breaker import Breaker
from bisupervised.models.json_endpoint import retry_after_s
from bisupervised.models.retry import may_pass

_MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
#: Seconds that one stream may take in all, if it never stalls for longer than the level's timeout.
_MAX_STREAM_S: Final = 3600.0
#: Seconds to wait for the end of a reply whose stream says that it is done.
_END_S: Final = 0.05
#: Characters of a header's value that is no secret: `true`, a version.
_LEAST_SECRET: Final = 8
#: Statuses that are the client's own mistake: the endpoint's words go back to it. Others may quote the gateway's key.
CLIENT_STATUSES: Final = frozenset({400, 404, 405, 406, 409, 413, 415, 422})


#: What to look at first when an endpoint answers so.
_HINTS: Final = {401: ": is the key right?", 403: ": is the key right?", 404: ": are base_url (…/v1) and model_name?"}


class NotSent(ModelUnreachable):
    """No connection was made: the endpoint has seen nothing, and charges nothing."""


class UpstreamStatusError(ModelStatusError):
    """An error status, with the reply's body for a client whose mistake it is."""

    def __init__(self, message: str, *, status: int, retry_after_s: float | None, body: bytes) -> None:
        super().__init__(message, status=status, retry_after_s=retry_after_s)
        self.body = body


def may_be_charged(error: BaseException) -> bool:
    """Whether a call that ended so may cost something nevertheless: all but those that were answered with an error
    status or never sent."""
    return not isinstance(error, NotSent | ModelStatusError | CircuitOpen | ModelBusy)


class Pool:
    """The connections of one gateway, in its event loop. How many there are is the levels' business."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}

    def endpoint(self, base_url: str) -> Endpoint:
        """The endpoint of a URL; one for all URLs of the same host."""
        origin = "/".join(base_url.split("/", 3)[:3])
        endpoint = self._endpoints.get(origin)
        if endpoint is None:
            endpoint = self._endpoints[origin] = Endpoint(origin)
        return endpoint

    def close(self) -> None:
        """Close every connection."""
        for endpoint in self._endpoints.values():
            endpoint.close()


def _path_of(base_url: str) -> str:
    parts = base_url.split("/", 3)
    return f"/{parts[3]}" if len(parts) > 3 else ""


class Upstream:
    """One level's endpoint, with its timeout, attempts, slots and circuit breaker."""

    def __init__(self, settings: UpstreamSettings, pool: Pool) -> None:
        self.settings = settings
        self.name = settings.base_url
        self.breaker = Breaker(self.name, settings.breaker_failures, settings.breaker_reset_s)
        self._endpoint = pool.endpoint(settings.base_url)
        self._slots = Slots(self.name, settings.max_concurrency, settings.max_waiting)
        key = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        common = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "bisupervised"}
        headers = [(name, value) for name, value in {**common, **key, **settings.headers}.items()]
        secrets = [settings.api_key, *settings.headers.values()]
        self._secrets = [secret.encode() for secret in secrets if secret and len(secret) >= _LEAST_SECRET]
        path = _path_of(settings.base_url)
        self._heads = {
            route: self._endpoint.head("POST", f"{path}/{rest}", headers)
            for route, rest in (("chat", "chat/completions"), ("completions", "completions"))
        }

    # ------------------------------------------------------------ one attempt

    async def post(self, route: str, data: bytes) -> dict[str, Any]:
        """One attempt at a whole reply: the JSON object. Raises a `ModelError`."""
        await self._slots.acquire(self.settings.timeout_s)
        try:
            self.breaker.enter()
            error: BaseException | None = None
            try:
                return await self._post(route, data)
            except _FOREIGN as foreign:
                error = self._mapped(foreign)
                raise error from None
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.breaker.leave(error)
        finally:
            self._slots.release()

    async def _post(self, route: str, data: bytes) -> dict[str, Any]:
        timeout_s = self.settings.timeout_s
        head = self._heads[route] + TRACEPARENT.get()
        reply = await self._endpoint.whole(head, data, timeout_s=timeout_s, most=_MAX_REPLY_BYTES)
        if not 200 <= reply.status < 300:
            raise self._status_error(reply.status, reply.header(b"retry-after"), reply.body)
        self._check_kind(reply.header(b"content-type"), b"json")
        return self.object_of(reply.body)

    async def open_stream(self, route: str, data: bytes) -> UpstreamStream:
        """One attempt at a stream. Raises a `ModelError`. The stream must be closed."""
        await self._slots.acquire(self.settings.timeout_s)
        try:
            self.breaker.enter()
            try:
                reply = await self._open(route, data)
            except _FOREIGN as foreign:
                error = self._mapped(foreign)
                self.breaker.leave(error)
                raise error from None
            except BaseException as error:
                self.breaker.leave(error)
                raise
            self.breaker.begun()
            return UpstreamStream(self, reply)
        except BaseException:
            self._slots.release()
            raise

    async def _open(self, route: str, data: bytes) -> Reply:
        head = self._heads[route] + TRACEPARENT.get()
        reply = await self._endpoint.begin(head, data, timeout_s=self.settings.timeout_s)
        try:
            if not 200 <= reply.status < 300:
                body = await reply.read(_MAX_ERROR_BYTES)
                raise self._status_error(reply.status, header_in(reply.headers, b"retry-after"), body)
            self._check_kind(header_in(reply.headers, b"content-type"), b"event-stream")
        except BaseException:
            reply.close()
            raise
        return reply

    # ------------------------------------------------------------ what went wrong

    def _status_error(self, status: int, retry_after: bytes | None, body: bytes) -> ModelError:
        hint = ". Redirects are not followed: give the final URL" if 300 <= status < 400 else _HINTS.get(status, "")
        return UpstreamStatusError(
            f"{self.name} answered {status}{hint}",
            status=status,
            retry_after_s=retry_after_s(None if retry_after is None else retry_after.decode("latin-1")),
            body=body if status in CLIENT_STATUSES and not self._quotes_secrets(body) else b"",
        )

    def _quotes_secrets(self, body: bytes) -> bool:
        """Whether an error repeats what only this gateway and its endpoint may know."""
        return any(secret in body for secret in self._secrets)

    def _check_kind(self, given: bytes | None, kind: bytes) -> None:
        if given is not None and kind not in given.lower():
            shown = given[:80].decode("latin-1")
            raise ReplyUnreadable(f"{self.name} answered with {shown!r} in place of {kind.decode()}")

    def object_of(self, content: bytes) -> dict[str, Any]:
        """The JSON object in these bytes; an `error` inside it is one. Raises `ReplyUnreadable`."""
        try:
            body = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ReplyUnreadable(f"the reply of {self.name} is no JSON, or cut off") from None
        if not isinstance(body, dict):
            raise ReplyUnreadable(f"the reply of {self.name} is no JSON object")
        if body.get("error") and not body.get("choices"):
            raise ReplyUnreadable(f"{self.name} answered with an error in place of a completion")
        return body

    def _mapped(self, error: BaseException) -> ModelError:
        if isinstance(error, TimeoutError):
            return ModelTimeout(f"{self.name} did not answer within {self.settings.timeout_s:g} s")
        if isinstance(error, ConnectFailed):
            return NotSent(f"{self.name} cannot be reached ({error})")
        if isinstance(error, BrokenReply):
            return ReplyUnreadable(f"the reply of {self.name} is no HTTP, or too much of it ({error})")
        if isinstance(error, ConnectionLost) and error.begun:
            return ReplyUnreadable(f"the reply of {self.name} is cut off")
        return ModelUnreachable(f"{self.name} closed the connection ({error})")


#: What the client raises, to be mapped.
_FOREIGN: Final = (OSError, BrokenReply, TimeoutError)


class UpstreamStream:
    """A stream of completion chunks that is under way. It holds one of the upstream's slots until it is closed."""

    def __init__(self, upstream: Upstream, reply: Reply) -> None:
        self._upstream = upstream
        self._reply: Reply | None = reply
        self._ends_at = monotonic() + _MAX_STREAM_S
        self._reader = EventReader()
        self._finished = False  # it has said why it ends
        self._done = False  # and that it has ended
        self._failure: ModelError | None = None  # what came with chunks that are still to be given

    async def chunks(self) -> list[dict[str, Any]]:
        """The chunks that have come since the last call, at least one; empty at the end.

        Raises `ReplyUnreadable` when it ends before its end, and for an error that the endpoint sends in it.
        """
        breaker = self._upstream.breaker
        try:
            chunks = await self._next_chunks()
        except _FOREIGN as foreign:
            error = self._upstream._mapped(foreign)
            breaker.leave(error)
            raise error from None
        except ModelError as error:
            breaker.leave(error)
            if self._reply is not None:
                self._reply.abort()  # who breaks off a stream closes its connection next: it is not used again
            raise
        if not chunks:
            breaker.leave(None)
        return chunks

    async def _next_chunks(self) -> list[dict[str, Any]]:
        reply = self._reply
        if self._failure is not None:
            raise self._failure
        while reply is not None and not (self._done and reply.ended):
            data = await self._read(reply)
            if not data:
                self._check_end()
                return []
            found = self._read_events(self._reader.feed(data))
            if found:
                return found
        return []

    def _read_events(self, events: list[bytes]) -> list[dict[str, Any]]:
        """The chunks in these events. An error among them is raised when what came before it has been given."""
        found: list[dict[str, Any]] = []
        for event in events:
            if self._is_done(event):
                continue
            try:
                chunk = self._upstream.object_of(event)
            except ModelError as error:
                if not found:
                    raise
                self._failure = error
                break
            self._look_for_end(chunk)
            found.append(chunk)
        return found

    async def _read(self, reply: Reply) -> bytes:
        if monotonic() > self._ends_at:
            raise TimeoutError
        if not self._done:
            return await reply.piece()
        try:  # the connection can be used again if the reply's own end follows; it need not
            async with asyncio.timeout(_END_S):
                return await reply.piece()
        except TimeoutError:
            return b""

    def _is_done(self, event: bytes) -> bool:
        if event.strip() != b"[DONE]":
            return False
        self._done = self._finished = True
        return True

    def _look_for_end(self, chunk: Mapping[str, Any]) -> None:
        choices = chunk.get("choices")
        if isinstance(choices, list) and any(
            isinstance(choice, dict) and choice.get("finish_reason") is not None for choice in choices
        ):
            self._finished = True

    def _check_end(self) -> None:
        if not self._finished or self._reader.incomplete:
            raise ReplyUnreadable(f"the stream of {self._upstream.name} was cut off")

    def close(self) -> None:
        """Give the connection back if the stream has ended, else close it; and free the slot. Any number of times."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.close()
            self._upstream._slots.release()


# ---------------------------------------------------------------- attempts


@dataclass(slots=True)
class Attempts:
    """When to try again: the failure may pass, there are attempts left, and there is time."""

    settings: UpstreamSettings
    made: int = 0
    started_s: float = 0.0

    def begin(self) -> None:
        """Before each attempt."""
        self.made += 1
        if self.made == 1:
            self.started_s = perf_counter()

    async def again_after(self, error: ModelError) -> bool:
        """Whether to try again, having waited as long as the endpoint asked, or with growing pauses."""
        if (
            self.made >= self.settings.attempts
            or isinstance(error, CircuitOpen | ModelTimeout)
            or not may_pass(error)
        ):
            return False
        asked = error.retry_after_s if isinstance(error, ModelStatusError) else None
        pause = min(0.1 * 2 ** (self.made - 1), 2.0) if asked is None else asked
        pause += random.uniform(0.0, 0.1)
        if perf_counter() - self.started_s + pause > self.settings.timeout_s:
            return False
        await asyncio.sleep(pause)
        return True


# ---------------------------------------------------------------- other routes


async def pass_on(
    pool: Pool, base_url: str, method: str, path: str, headers: list[tuple[str, str]], body: bytes, timeout_s: float
) -> Reply:
    """Send a request as it is, and give the reply as it comes, not decompressed. Raises a `ModelError`."""
    endpoint = pool.endpoint(base_url)
    kept = [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]
    head = endpoint.head(method, _path_of(base_url) + path, kept)
    try:
        return await endpoint.begin(head, body, timeout_s=timeout_s, unpack=False, bodiless=method == "HEAD")
    except TimeoutError:
        raise ModelTimeout(f"{endpoint.authority} did not answer within {timeout_s:g} s") from None
    except (OSError, BrokenReply) as error:
        raise ModelUnreachable(f"{endpoint.authority} cannot be reached, or speaks no HTTP ({error})") from None


#: Headers that are between two neighbours, and are not passed on.
HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding")
) | {"upgrade", "host", "content-length", "expect"}
