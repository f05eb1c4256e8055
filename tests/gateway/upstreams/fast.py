"""The 0 ms upstream of the benchmarks: every reply is made before the first request comes.

    python -m gateway.upstreams.fast [core]      (in tests/) prints {"port": …} and serves until its input ends

A model's name says how its answer comes: `fast` at once; `fast+gap2ms` streams a token every 2 ms (whole replies come
after all of them); `fast+first50ms+gap2ms` waits 50 ms more before the first. Every reply holds the same `TOKENS`
with their log-probabilities, asked for or not, and its usage.
`GET /_state` counts: requests, streams begun, streams completed, streams left by their client.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from typing import Any, cast

from gateway.upstreams.behaviours import LAST_CHUNK, STREAM_HEAD, chunked, head
from gateway.upstreams.faulty import end_with_input
from gateway.upstreams.replies import Asked, Said, completion, stream_of, tokens_of

WORDS = tokens_of("The film is slow, but it is a real joy to watch.", -0.01)
TOKENS = ((WORDS[0][0], -0.2), *WORDS[1:])
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
MODEL = re.compile(rb'"model": *"fast\+(?:first(\d+)ms)?\+?(?:gap(\d+)ms)?"')
STREAM = re.compile(rb'"stream": *true')
USAGE = re.compile(rb'"include_usage": *true')

counts: Counter[str] = Counter()


def said() -> Said:
    return Said(TOKENS, prompt_tokens=20)


def asked(chat: bool, include_usage: bool = False) -> Asked:
    return Asked(chat, "fast", True, include_usage, True, 1, 1, "", ())


def whole(value: Any) -> bytes:
    content = json.dumps(value, separators=(",", ":")).encode()
    return head(200, {"Content-Length": len(content)}) + content


#: (chat) -> the whole reply
REPLIES = {chat: whole(completion([said()], asked(chat))) for chat in (True, False)}
#: (chat, usage) -> the events of the stream, those of tokens one by one, as chunks
EVENTS = {(chat, usage): stream_of(said(), asked(chat, usage)) for chat in (True, False) for usage in (True, False)}
#: (chat, usage) -> the stream in one piece
STREAMS = {
    key: STREAM_HEAD + b"".join(chunked(one.data) for one in events) + LAST_CHUNK for key, events in EVENTS.items()
}
MODELS = whole({"object": "list", "data": [{"id": "fast", "object": "model", "created": 0, "owned_by": "tests"}]})
LENGTH_REQUIRED = head(411, {"Content-Length": 0})


class Connection(asyncio.Protocol):
    """Reads requests that have a Content-Length or no body, and answers in order."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._read = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            counts["left"] += 1

    def data_received(self, data: bytes) -> None:
        if self._read:
            data = self._read + data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            length = LENGTH.search(data, 0, end)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(data) < stop:
                break
            self._answer(data[:end], data[end + 4 : stop])
            data = data[stop:]
        self._read = data

    def _answer(self, head: bytes, body: bytes) -> None:
        if not body:
            self.transport.write(self._without_body(head))
            return
        counts["requests"] += 1
        chat = b"/chat/completions" in head[:64]
        paced = MODEL.search(body)
        if not STREAM.search(body):
            if paced is None:
                self.transport.write(REPLIES[chat])
            else:
                first_s, gap_s = pace_of(paced)
                self._later(first_s + gap_s * len(TOKENS), REPLIES[chat])
            return
        counts["streams"] += 1
        key = (chat, USAGE.search(body) is not None)
        if paced is None:
            self.transport.write(STREAMS[key])
            counts["completed"] += 1
        else:
            self._stream(key, *pace_of(paced))

    def _without_body(self, head: bytes) -> bytes:
        if head.startswith(b"GET /_state"):
            return whole(dict(counts))
        return MODELS if head.startswith(b"GET") else LENGTH_REQUIRED

    def _later(self, seconds: float, data: bytes) -> None:
        def send() -> None:
            self._timer = None
            self.transport.write(data)

        self._timer = asyncio.get_running_loop().call_later(seconds, send)

    def _stream(self, key: tuple[bool, bool], first_s: float, gap_s: float) -> None:
        """Head and role at once, a token at its time, the end with the last one."""
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        places = [place for place, event in enumerate(EVENTS[key]) if event.tokens]
        pieces = [chunked(event.data) for event in EVENTS[key]]
        self.transport.write(STREAM_HEAD + b"".join(pieces[: places[0]]))
        ending = b"".join(pieces[places[-1] + 1 :]) + LAST_CHUNK

        def send(token: int) -> None:
            self._timer = None
            if token + 1 < len(places):
                self.transport.write(pieces[places[token]])
                self._timer = loop.call_at(began + first_s + gap_s * (token + 2), send, token + 1)
            else:
                self.transport.write(pieces[places[token]] + ending)
                counts["completed"] += 1

        self._timer = loop.call_at(began + first_s + gap_s, send, 0)


def pace_of(named: re.Match[bytes]) -> tuple[float, float]:
    """Seconds before the first token and between tokens."""
    return int(named[1] or 0) / 1000, int(named[2] or 0) / 1000


async def serve() -> None:
    """Serve on a free port of the loopback interface, for ever."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    end_with_input()
    uvloop.run(serve())
