"""A yardstick for the machine: the least that a gateway of common parts does.

`python -m benchmarks.gateway.yardstick PORT`, of the upstream.
Starlette on uvicorn, aiohttp as its client; the request's JSON is parsed and its model rewritten, the reply's parsed
and written again. No keys, no supervisor, no log, no metrics. What it does on one machine says what another's figures
are worth there. Prints {"url": …} once it listens.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
from typing import Any

import aiohttp
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def app(upstream: int) -> Starlette:
    """The application; its client is made in the server's own loop."""
    sessions: list[aiohttp.ClientSession] = []

    async def answer(request: Request) -> Response:
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        body: dict[str, Any] = msgspec.json.decode(await request.body())
        body["model"] = "fast"
        url, headers = f"http://127.0.0.1:{upstream}/v1/chat/completions", {"Content-Type": "application/json"}
        async with sessions[0].post(url, data=msgspec.json.encode(body), headers=headers) as reply:
            given = msgspec.json.decode(await reply.read())
        return Response(msgspec.json.encode(given), media_type="application/json")

    async def models(request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    return Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"]), Route("/v1/models", models)])


def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    config = uvicorn.Config(app(int(sys.argv[1])), access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
