"""Clients that send many requests at once, notice everything that comes back, and may go away in the middle."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp

Route = Literal["chat", "completions"]
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    cascade: str
    route: Route = "chat"
    stream: bool = False

    def body(self) -> dict[str, Any]:
        said = "Which of them is it?"
        asked = {"prompt": said} if self.route == "completions" else {"messages": [{"role": "user", "content": said}]}
        return {"model": self.cascade, **asked, "max_tokens": 32} | ({"stream": True} if self.stream else {})


@dataclass(slots=True)
class Answer:
    """What came back to one request."""

    asked: Ask
    #: `whole`: an answer to its end; `refused`: no connection; `reset`: no answer at all; `cut`: half of one
    came: str = "reset"
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    text: str = ""  #: of the answer, or as much of it as there is
    code: str | None = None  #: of the typed error, whether in place of the answer or within its stream
    seconds: float = 0.0

    @property
    def id(self) -> str | None:
        """Of its outcome; None: it was not accepted, or nothing came."""
        return self.headers.get("x-bisupervised-id")

    @property
    def served(self) -> str | None:
        return self.headers.get("x-bisupervised-served")

    @property
    def answered(self) -> bool:
        """Whether it is an answer, and not an error."""
        return self.came == "whole" and self.status == 200 and self.code is None

    def read(self) -> None:
        """Take `text` and `code` from `raw`. Raises ValueError for what no client could read."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            self._read_stream()
            return
        body = json.loads(self.raw)
        if "error" in body:
            self.code = str(body["error"]["code"])
        else:
            (choice,) = body["choices"]
            self.text = choice["message"]["content"] if self.asked.route == "chat" else choice["text"]

    def _read_stream(self) -> None:
        *events, rest = self.raw.decode().split("\n\n")
        if rest or not all(one.startswith("data: ") for one in events):
            raise ValueError(f"not a stream of whole events: {self.raw[-200:]!r}")
        data = [one.removeprefix("data: ") for one in events]
        for one in data:
            if one == "[DONE]":
                continue
            chunk = json.loads(one)
            if "error" in chunk:
                self.code = str(chunk["error"]["code"])
            for choice in chunk.get("choices", ()):
                self.text += choice["delta"].get("content", "") if self.asked.route == "chat" else choice["text"]
        if self.code is None and data[-1] != "[DONE]":
            raise ValueError(f"a stream without an end: {self.raw[-200:]!r}")


async def ask(session: aiohttp.ClientSession, url: str, asked: Ask, **headers: str) -> Answer:
    """One request's answer, whatever becomes of it."""
    answer, began = Answer(asked), time.monotonic()
    raw = bytearray()
    try:
        async with session.post(url + PATHS[asked.route], json=asked.body(), headers=headers) as reply:
            answer.came, answer.status = "cut", reply.status
            answer.headers = {name.lower(): value for name, value in reply.headers.items()}
            async for piece in reply.content.iter_any():
                raw += piece
            answer.came = "whole"
    except aiohttp.ClientConnectorError:
        answer.came = "refused"
    except (aiohttp.ClientError, ConnectionError):
        pass
    answer.raw, answer.seconds = bytes(raw), time.monotonic() - began
    if answer.came == "whole":
        answer.read()
    return answer


def new_session(timeout_s: float = 60.0) -> aiohttp.ClientSession:
    """Every request has a connection of its own: what a connection meets then says what its request met."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(timeout_s))


async def ask_these(url: str, asks: Iterable[Ask], at_once: int = 64) -> list[Answer]:
    """Every request's answer, in the order of the requests; so many are under way at a time."""
    places = asyncio.Semaphore(at_once)

    async with new_session() as session:

        async def one(asked: Ask) -> Answer:
            async with places:
                return await ask(session, url, asked)

        return await asyncio.gather(*map(one, asks))


def ask_all(url: str, asks: Iterable[Ask], at_once: int = 64) -> list[Answer]:
    """`ask_these` from a test."""
    return asyncio.run(ask_these(url, asks, at_once))


async def keep_asking(
    url: str, asks: Iterable[Ask], workers: int, end: Callable[[], Awaitable[None]]
) -> list[Answer]:
    """Ask round and round until `end` has returned and each worker has met the gateway's end, at most 20 s on."""
    rounds = itertools.cycle(asks)
    answers: list[Answer] = []
    ended = False

    async def work(session: aiohttp.ClientSession) -> None:
        while not ended:
            answers.append(await ask(session, url, next(rounds)))
            if answers[-1].came != "whole":
                return

    async with new_session() as session:
        running = [asyncio.ensure_future(work(session)) for _ in range(workers)]
        await end()
        _, late = await asyncio.wait(running, timeout=20.0)
        ended = True
        if late:
            await asyncio.wait(late)
        for one in running:
            one.result()
    return answers


# ---------------------------------------------------------------- clients that go away


class Leaver(asyncio.Protocol):
    """A client that sends one request and closes its connection when it is told to."""

    def __init__(self, address: str, asked: Ask) -> None:
        content = json.dumps(asked.body()).encode()
        head = f"POST {PATHS[asked.route]} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        self._asked = asked
        self._request = head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        self._transport: asyncio.Transport | None = None
        self._more = asyncio.Event()
        self.received = bytearray()
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._more.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._more.set()

    async def until(self, part: bytes, timeout_s: float = 20.0) -> None:
        """Wait until this has come. Raises TimeoutError, and ConnectionError when it will not come."""
        async with asyncio.timeout(timeout_s):
            while part not in self.received:
                if self.lost:
                    raise ConnectionError(f"it ended with {bytes(self.received[-500:])!r}")
                self._more.clear()
                await self._more.wait()

    def answer(self) -> Answer:
        """What has come: a whole answer, or none, or a part of one."""
        head, _, content = bytes(self.received).partition(b"\r\n\r\n")
        if not content:
            return Answer(self._asked)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        answer = Answer(self._asked, "cut", int(status.split()[1]), headers, _unchunked(content, headers))
        if content.endswith(b"0\r\n\r\n") or len(content) == int(headers.get("content-length", -1)):
            answer.came = "whole"
            answer.read()
        return answer

    def leave(self) -> float:
        """Close the connection; the monotonic time of that."""
        assert self._transport is not None
        self._transport.abort()
        return time.monotonic()


def _unchunked(content: bytes, headers: Mapping[str, str]) -> bytes:
    """A body, or as much of it as has come, without its chunked coding."""
    if headers.get("transfer-encoding") != "chunked":
        return content
    body = bytearray()
    while content:
        size, _, rest = content.partition(b"\r\n")
        length = int(size or b"0", 16)
        body += rest[:length]
        content = rest[length + 2 :]
    return bytes(body)


async def leaver(url: str, asked: Ask) -> Leaver:
    """A client whose request is on its way."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Leaver(parts.netloc, asked), parts.hostname, parts.port)
    return client
