"""An OpenAI-compatible upstream that behaves as it is told, in a process of its own.

    python -m gateway.upstreams.faulty      (in tests/) prints {"port": …} and serves until its standard input ends

What happens to a request is decided by the first of these that says something (`behaviours.py` has the kinds):

1. the script, a queue for the POST requests that come: `POST /_control {"script": ["503", "ok?text=yes"]}`;
2. the path: `/b/<behaviour, quoted>/v1/chat/completions`;
3. what `POST /_control {"models": {"large-1": "reset_after_read"}}` says of the request's model;
4. the model's name, when it is that of a behaviour: `"model": "429?retry_after=1"`;
5. the default: `POST /_control {"default": "stall_head?stall_s=3"}`, or `ok`.

`GET /_state` counts; its times are `time.monotonic()`, the same clock in every process of the machine.
`GET /v1/models` lists two models. Every other path is an echo: what was received, as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import httptools

from gateway.upstreams.behaviours import FREE, KINDS, Behaviour, Exchange, head, is_behaviour
from gateway.upstreams.replies import Asked

KEPT = 20_000  #: records of requests that `GET /_state` shows, the latest


@dataclass(slots=True)
class Record:
    """What became of one request; times in seconds of the monotonic clock, None: it did not come to that."""

    number: int
    began: float
    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    model: str = ""
    behaviour: str = ""
    read: float | None = None
    completed: float | None = None
    disconnected: float | None = None  #: when it was noticed that the client went away before the end
    tokens: int = 0  #: billed for the answer


@dataclass(slots=True)
class State:
    """What `/_control` sets and `/_state` shows."""

    script: deque[Behaviour] = field(default_factory=deque)
    models: dict[str, Behaviour] = field(default_factory=dict)
    default: Behaviour = field(default_factory=lambda: Behaviour("ok"))
    counts: Counter[str] = field(default_factory=Counter)
    times: Counter[str] = field(
        default_factory=Counter
    )  #: requests for each behaviour that holds for the `first` few
    records: deque[Record] = field(default_factory=lambda: deque(maxlen=KEPT))
    open: int = 0

    def control(self, given: Mapping[str, Any]) -> None:
        """Raises ValueError, and changes nothing, for what it does not know."""
        script = [Behaviour.of(one) for one in given.get("script", ())]
        models = {name: Behaviour.of(one) for name, one in given.get("models", {}).items()}
        default = Behaviour.of(given["default"]) if "default" in given else self.default
        if given.get("reset"):
            self.script.clear()
            self.models.clear()
            self.records.clear()
            self.counts.clear()
            self.times.clear()
            default = Behaviour.of(given.get("default", "ok"))
        self.script.extend(script)
        self.models |= models
        self.default = default

    def shown(self) -> dict[str, Any]:
        names = ("connections", "begun", "read", "completed", "disconnects", "prompt_tokens", "completion_tokens")
        counted = {name: self.counts[name] for name in names}
        records = [asdict(record) for record in self.records]
        return counted | {"connections_open": self.open, "script_left": len(self.script), "requests": records}

    def for_model(self, model: str) -> Behaviour:
        if model in self.models:
            return self.models[model]
        return Behaviour.of(model) if is_behaviour(model) else self.default

    def now(self, behaviour: Behaviour) -> Behaviour:
        """The behaviour itself, or `ok` when it holds for the first few requests and they are over."""
        first = behaviour["first"]
        if first is None:
            return behaviour
        self.times[behaviour.key] += 1
        return behaviour if self.times[behaviour.key] <= int(first) else Behaviour("ok", behaviour.options)


class Connection(asyncio.Protocol):
    """One client's connection: reads requests, runs what is to happen to each, one after the other."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._writable = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._running: Record | None = None
        self._waiting: deque[tuple[Record, bytes, Behaviour | None]] = deque()
        self._ours = False  # whether it is us who end the connection
        self._last = False  # whether the client wants the connection to end with the reply
        self._counted = True  # not those that control and look

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()
        self._state.open += 1
        self._state.counts["connections"] += 1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._transport.is_closing():
                self._transport.write(head(400, {"Content-Length": 0}))
                self.close()

    def eof_received(self) -> None:
        self._gone()

    def connection_lost(self, error: Exception | None) -> None:
        self._gone()
        self._state.open -= self._counted
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _gone(self) -> None:
        if self._running is not None and self._running.disconnected is None and not self._ours:
            self._running.disconnected = time.monotonic()
            self._state.counts["disconnects"] += 1
        if self._task is not None and not self._ours:
            self._task.cancel()

    # What the parser calls

    def on_message_begin(self) -> None:
        self._url, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}
        self._record = Record(0, time.monotonic())
        self._chosen: Behaviour | None = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        path, record = self._url.decode("latin-1"), self._record
        record.method, record.headers = self._parser.get_method().decode(), self._headers
        record.path = path
        if path.startswith(("/_control", "/_state")):
            self._count_no_more()
            return
        self._state.counts["begun"] += 1
        record.number = self._state.counts["begun"]
        self._state.records.append(record)
        if record.method == "POST" and self._state.script:
            self._chosen = self._state.now(self._state.script.popleft())
        elif path.startswith("/b/"):
            _, _, named, *rest = path.split("/")
            record.path = "/" + "/".join(rest)
            self._chosen = self._state.now(Behaviour.of(unquote(named)))
        if self._chosen is not None and self._chosen.kind == "reset_before_read":
            record.behaviour = self._chosen.kind
            self.reset()

    def _count_no_more(self) -> None:
        self._state.open -= self._counted
        self._state.counts["connections"] -= self._counted
        self._counted = False

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        self._last = not self._parser.should_keep_alive()
        self._waiting.append((self._record, bytes(self._body), self._chosen))
        if self._task is None:
            self._next()

    # What is done about it

    def _next(self) -> None:
        self._task, self._running = None, None
        if self._last and not self._waiting:
            self.close()
        elif self._waiting and not self._transport.is_closing():
            record, body, chosen = self._waiting.popleft()
            self._running = record
            self._task = asyncio.ensure_future(self._run(record, body, chosen))

    async def _run(self, record: Record, body: bytes, chosen: Behaviour | None) -> None:
        try:
            await self._answer(record, body, chosen)
        except (asyncio.CancelledError, ConnectionError):
            return
        except Exception:  # a mistake of this upstream: no test shall wait for a reply
            traceback.print_exc()
            self._transport.abort()
            return
        if not self._ours:
            record.completed = time.monotonic()
            self._state.counts["completed"] += record.number > 0
        self._next()

    async def _answer(self, record: Record, body: bytes, chosen: Behaviour | None) -> None:
        if record.path.startswith(("/_control", "/_state")):
            return await self._control(record, body)
        record.body = body.decode("utf-8", "replace")
        route = record.path.partition("?")[0]
        if record.method != "POST" or not route.endswith("/completions"):
            return await self._other(record, body)
        try:
            asked = Asked.of(route.endswith("/chat/completions"), json.loads(body))
        except (ValueError, TypeError, AttributeError) as error:
            return await self._send_json({"error": {"message": f"no request: {error!r}"}}, 400)
        record.model = asked.model
        behaviour = chosen or self._state.now(self._state.for_model(asked.model))
        record.behaviour = behaviour.kind
        if behaviour.kind == "reset_before_read":
            return self.reset()
        self._mark_read(record)
        if behaviour.kind not in FREE:
            self._state.counts["prompt_tokens"] += int(behaviour["prompt_tokens"])

        def bill(tokens: int) -> None:
            record.tokens += tokens
            self._state.counts["completion_tokens"] += tokens

        exchange = Exchange(self, record.method, route, record.headers, body, asked, behaviour, bill)
        return await KINDS[behaviour.kind](exchange)

    def _mark_read(self, record: Record) -> None:
        record.read = time.monotonic()
        self._state.counts["read"] += 1

    async def _control(self, record: Record, body: bytes) -> None:
        if record.method == "POST":
            try:
                self._state.control(json.loads(body))
            except ValueError as error:
                return await self._send_json({"error": str(error)}, 400)
        return await self._send_json(self._state.shown() if record.method == "GET" else {}, 200)

    async def _other(self, record: Record, body: bytes) -> None:
        self._mark_read(record)
        if record.path.endswith("/models"):
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in ("small", "large")
            ]
            return await self._send_json({"object": "list", "data": listed}, 200)
        echo = {"method": record.method, "path": record.path, "headers": record.headers}
        return await self._send_json(echo | {"body": base64.b64encode(body).decode()}, 200)

    async def _send_json(self, value: Any, status: int) -> None:
        content = json.dumps(value).encode()
        await self.send(head(status, {"Content-Length": len(content)}) + content)

    # What a behaviour calls

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError when the connection is at its end."""
        await self._writable.wait()
        if self._transport.is_closing():
            raise ConnectionResetError("the client went away")
        self._transport.write(data)

    def reset(self) -> None:
        """The other side sees a reset connection, not an orderly end."""
        self._ours = True
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def close(self) -> None:
        self._ours = True
        self._transport.close()


async def serve() -> None:
    """Serve on a free port of the loopback interface, for ever."""
    state = State()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    async with server:
        await server.serve_forever()


def end_with_input() -> None:
    """End this process when its standard input ends: whoever started it has ended."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_input()
    asyncio.run(serve())
