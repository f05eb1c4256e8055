"""One exchange over HTTP, JSON or bytes: the only file that knows aiohttp, and where its errors become ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import weakref
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from bisupervised.errors import (
    ConfigError,
    InputError,
    MissingExtra,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)

if TYPE_CHECKING:
    import aiohttp

MAX_REPLY_BYTES = 16 * 1024 * 1024
#: Characters of a reply that an error message shows.
EXCERPT = 200
#: An error reply is read only as far as a message needs; more would let a broken server cost memory.
_MAX_ERROR_BYTES = 64 * 1024
_PUBLIC_HEADERS = {"content-type", "accept", "accept-language", "user-agent"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A reply that is JSON, and the seconds from sending the request to having read the reply."""

    reply: Any
    latency_s: float


@dataclass(frozen=True, slots=True)
class BytesExchange:
    """A reply as it came, and the seconds from sending the request to having read the reply."""

    content: bytes
    headers: Mapping[str, str]  #: names in any case
    latency_s: float


class JsonEndpoint:
    """POSTs JSON to one URL and reads JSON back; opens one connection pool for each event loop.

    A pool is closed with its loop (`asyncio.run`, a system's `close`), by `aclose`, or when the interpreter
    exits. Redirects are not followed: they would carry keys to another host. No message holds a secret, a query
    string or more than a short excerpt of a reply.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        timeout_s: float = 30.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        _aiohttp()
        if not timeout_s > 0:
            raise InputError(f"timeout_s must be above 0, not {timeout_s}")
        self._url = url
        self.shown_url = _shown(url)
        self._headers = _checked({"Content-Type": "application/json", "Accept": "application/json"}, headers or {})
        known = {secret for secret in secrets if secret} | _secrets_in(self._headers, url)
        self._secrets = sorted(known, key=len, reverse=True)
        self._timeout_s = timeout_s
        self._max_reply_bytes = max_reply_bytes
        self._pools: _Pools = {}
        _close_at_exit(self)

    def __repr__(self) -> str:
        return f"JsonEndpoint({self.shown_url!r})"

    async def post(self, body: Any) -> Exchange:
        """Send one request.

        Raises `ModelTimeout`, `ModelUnreachable`, `ModelStatusError` for any status but 2xx, `ReplyUnreadable`
        for a reply that is no JSON, cut off, or larger than `max_reply_bytes`; `InputError` for a body that
        JSON cannot hold.
        """
        exchange = await self.post_bytes(_encoded(body))
        return Exchange(self._json(exchange), exchange.latency_s)

    async def post_bytes(self, body: bytes, headers: Mapping[str, str] | None = None) -> BytesExchange:
        """Send a body as it is, under these headers and the endpoint's own others.

        Raises what `post` raises, but for what it says of JSON.
        """
        sent = _checked(self._headers, headers) if headers else self._headers
        start = perf_counter()
        try:
            status, received, content = await self._exchange(body, sent)
        except Exception as error:
            failure = self._mapped(error)
        else:
            latency_s = perf_counter() - start
            self._check_status(status, received, content)
            return BytesExchange(content, received, latency_s)
        # Raised outside the handler: aiohttp's errors hold the request's headers, keys included.
        raise failure

    async def aclose(self) -> None:
        """Close the running loop's connections; a later request opens new ones."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None:
            await pool.aclose()

    async def _exchange(self, data: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        session = await self._session()
        async with session.post(self._url, data=data, headers=headers, allow_redirects=False) as response:
            limit = self._max_reply_bytes if response.ok else _MAX_ERROR_BYTES
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > limit:
                    if not response.ok:
                        break
                    raise ReplyUnreadable(f"the reply of {self.shown_url} is larger than {limit:,} bytes")
            return response.status, response.headers, bytes(content)

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for other in [other for other in self._pools if other.is_closed()]:
                self._pools.pop(other, None)
            pool = self._pools[loop] = _Pool(self._pools, self._timeout_s)
            await pool.open()
        return pool.session

    def _mapped(self, error: Exception) -> Exception:
        """Our error for one of aiohttp's, asyncio's or the operating system's; any other is given back."""
        aiohttp = _aiohttp()
        if isinstance(error, ModelError):
            return error
        if isinstance(error, TimeoutError):
            return ModelTimeout(f"{self.shown_url} did not answer within {self._timeout_s:g} s")
        broken = (aiohttp.ClientPayloadError, aiohttp.ClientResponseError)
        if isinstance(error, (*broken, aiohttp.http_exceptions.HttpProcessingError)):
            return ReplyUnreadable(f"the reply of {self.shown_url} is cut off or no HTTP ({type(error).__name__})")
        # Last of all, since a few of aiohttp's timeouts and broken replies are connection errors too.
        if isinstance(error, aiohttp.ClientError | OSError):
            return ModelUnreachable(f"{self.shown_url} cannot be reached ({_cause(error)})")
        return error

    def _check_status(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        if not 200 <= status < 300:
            hint = ". Redirects are not followed: give the final URL" if 300 <= status < 400 else ""
            raise ModelStatusError(
                f"{self.shown_url} answered {status}{hint}: {self._excerpt(content)}",
                status=status,
                retry_after_s=retry_after_s(headers.get("Retry-After")),
            )

    def _json(self, exchange: BytesExchange) -> Any:
        content = exchange.content
        kind = exchange.headers.get("Content-Type", "application/json")
        if "json" not in kind.lower():
            raise ReplyUnreadable(
                f"{self.shown_url} answered with {kind[:80]}, not with JSON: {self._excerpt(content)}"
            )
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ReplyUnreadable(f"the reply of {self.shown_url} is no JSON: {self._excerpt(content)}") from error

    def _excerpt(self, content: bytes) -> str:
        text = " ".join(content[:_MAX_ERROR_BYTES].decode("utf-8", "replace").split())
        for secret in self._secrets:  # before cutting, which could leave half of one
            text = text.replace(secret, "***")
        return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def retry_after_s(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds to wait that a Retry-After header asks for, given in seconds or as an HTTP date; None when it says
    nothing usable.

    >>> retry_after_s("2"), retry_after_s("soon"), retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT")
    (2.0, None, 0.0)
    """
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - (now or datetime.now(UTC))).total_seconds(), 0.0)


# ---------------------------------------------------------------- connection pools


class _Pool:
    """A session that closes itself with its event loop.

    It lives in an asynchronous generator: a loop closes those it knows before it ends, on its own thread, which
    is where the connections must be closed.
    """

    session: aiohttp.ClientSession

    def __init__(self, pools: _Pools, timeout_s: float) -> None:
        self._pools = pools
        self._loop = asyncio.get_running_loop()
        self._life = self._live(timeout_s)

    async def open(self) -> None:
        self.session = await anext(self._life)

    async def aclose(self) -> None:
        await self._life.aclose()

    async def _live(self, timeout_s: float) -> AsyncGenerator[aiohttp.ClientSession, None]:
        aiohttp = _aiohttp()
        session = aiohttp.ClientSession(
            # How many calls run at a time is the driver's and Concurrency's business.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        try:
            yield session
        finally:
            self._pools.pop(self._loop, None)
            await session.close()


_Pools: TypeAlias = dict[asyncio.AbstractEventLoop, _Pool]


def _close_at_exit(endpoint: JsonEndpoint) -> None:
    """Close what nobody closed, while the loops can still do it: no "unclosed session" on the way out."""
    finalizer = weakref.finalize(endpoint, _close_all, endpoint._pools)
    finalizer.atexit = True


def _close_all(pools: _Pools) -> None:
    for loop, pool in list(pools.items()):
        # On the way out nothing may raise or hang; what cannot be closed here, the operating system closes.
        with contextlib.suppress(Exception):
            if loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(pool.aclose(), loop)
                if not _in_loop(loop):
                    closing.result(timeout=1.0)
            elif not loop.is_closed():
                loop.run_until_complete(pool.aclose())


def _in_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _aiohttp() -> Any:
    try:
        import aiohttp
        import aiohttp.http_exceptions
    except ImportError as error:
        raise MissingExtra("aiohttp", "http") from error
    return aiohttp


def key_from(api_key: str | None, api_key_env: str | None) -> str | None:
    """A key that is given, or in the environment variable *named* by `api_key_env`; None when neither is."""
    if api_key is not None and api_key_env is not None:
        raise InputError("give api_key or api_key_env, not both")
    if api_key_env is not None:
        api_key = os.environ.get(api_key_env)
        if not api_key or not api_key.strip():
            raise ConfigError(
                f"the environment variable {api_key_env} is not set; api_key_env names the one with the key"
            )
    return api_key.strip() if api_key else None


# ---------------------------------------------------------------- what may be shown


def _shown(url: str) -> str:
    """The URL without user, password, query and fragment. Raises `InputError` for what is no HTTP URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise InputError("the URL must begin with http:// or https:// and name a host")  # it may hold a secret
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"


def _checked(default: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    given = {name.lower() for name in headers}
    for name, value in headers.items():
        if not isinstance(value, str) or re.search(r"[\r\n\0]", f"{name}{value}"):
            raise InputError(f"the value of the header {name!r} is no single line of text")
    return {**{name: value for name, value in default.items() if name.lower() not in given}, **headers}


def _secrets_in(headers: Mapping[str, str], url: str) -> set[str]:
    """Header values and parts of the URL that no message may show."""
    parts = urlsplit(url)
    found = [parts.password or "", parts.query]
    found += [pair.partition("=")[2] for pair in parts.query.split("&")]
    for name, value in headers.items():
        if name.lower() not in _PUBLIC_HEADERS:
            found += [value, *value.split()]
    return {secret for secret in found if len(secret) >= 6}


def _cause(error: Exception) -> str:
    """A few words on a connection error: the operating system's, else the error's name."""
    cause = getattr(error, "os_error", error)
    words = getattr(cause, "strerror", None)
    return str(words)[:EXCERPT] if words else type(error).__name__


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, default=_plain).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the request's body is no JSON ({error}); give a `request` or `prompt` that makes it"
        ) from error


def _plain(value: Any) -> Any:
    """NumPy's arrays and numbers as lists and numbers: what most inputs are made of."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
