"""Many streams at once, held by a process of its own: `python -m benchmarks.gateway.streams PORT N RAMP_S`.

Reads the request from its standard input. Prints {"open": N} when every stream has begun, then what became of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from benchmarks.gateway.latency import LAST_CHUNK, TOKEN
from benchmarks.gateway.machine import LOAD_CORE, pin


@dataclass(slots=True)
class Seen:
    """What became of the streams; seconds from each request."""

    begun: int = 0
    ended: int = 0
    failed: list[str] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)


class Stream(asyncio.Protocol):
    """One request and its stream."""

    def __init__(self, request: bytes, seen: Seen, changed: asyncio.Event) -> None:
        self._request, self._seen, self._changed = request, seen, changed
        self._data, self._first_s, self._ended = b"", 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._first_s and TOKEN.search(self._data):
            self._first_s = time.perf_counter() - self._began
            self._seen.begun += 1
            self._seen.first_s.append(self._first_s)
        if self._data.endswith(LAST_CHUNK):
            self._ended = True
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._ended and self._first_s and b"[DONE]" in self._data:
            self._seen.ended += 1
            self._seen.total_s.append(time.perf_counter() - self._began)
        else:
            self._seen.failed.append(repr(self._data[-300:]))
        self._changed.set()


async def hold(port: int, n: int, ramp_s: float, request: bytes) -> None:
    """Open n streams over `ramp_s` seconds and read them to their ends."""
    seen, changed, told = Seen(), asyncio.Event(), False
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for place in range(n):
        await asyncio.sleep(max(0.0, began + ramp_s * place / n - time.perf_counter()))
        await loop.create_connection(lambda: Stream(request, seen, changed), "127.0.0.1", port)
    while seen.ended + len(seen.failed) < n:
        if not told and seen.begun + len(seen.failed) >= n:
            told = True
            print(json.dumps({"open": seen.begun - seen.ended}), flush=True)
        changed.clear()
        try:
            await asyncio.wait_for(changed.wait(), 0.02)
        except TimeoutError:
            continue
    result: dict[str, Any] = {"ended": seen.ended, "failed": len(seen.failed), "why": seen.failed[:3]}
    for name, values in (("first_s", seen.first_s), ("total_s", seen.total_s)):
        result[name] = statistics.median(values) if values else None
    print(json.dumps(result), flush=True)


@contextmanager
def held(port: int, n: int, ramp_s: float, request: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds n streams; its two lines come on `stdout`."""
    command = [sys.executable, "-m", "benchmarks.gateway.streams", str(port), str(n), str(ramp_s)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdin is not None
        running.stdin.write(request)
        running.stdin.close()
        yield running
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()


if __name__ == "__main__":
    import uvloop

    pin(LOAD_CORE)
    os.nice(5)  # whoever measures goes first
    uvloop.run(hold(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()))
