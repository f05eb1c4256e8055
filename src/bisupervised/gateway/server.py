"""The process: uvicorn on uvloop and httptools, bounded headers, and an end that finishes what is under way."""

from __future__ import annotations

import gc
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.applications import Starlette

from bisupervised.errors import ConfigError
from bisupervised.gateway.app import Gateway, create_app
from bisupervised.gateway.building import Plan, build_service
from bisupervised.gateway.protocol import HttpProtocol
from bisupervised.gateway.service import Service
from bisupervised.gateway.settings import Mode


def serve(plan: Plan, *, as_json: bool = False, say: Callable[[str], None] = print) -> int:
    """Serve a plan until SIGINT or SIGTERM. Prints where, once it listens. Returns the exit status."""
    listening = _listen(plan)
    port = listening.getsockname()[1]
    host = plan.gateway.host
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        await service.open()
        _settle_memory()
        say(json.dumps({"url": url}) if as_json else _welcome(plan, url, service))
        sys.stdout.flush()
        yield
        if not as_json:
            say(f"stopping; what is under way is finished first ({service.in_flight} requests, and their rows)")
            sys.stdout.flush()
        await service.close()

    _allow_connections()
    service = build_service(plan)
    app = create_app(service, life)
    server = uvicorn.Server(_config(plan, app))
    for stopping in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it has finished; a stop that was asked for is no failure.
        signal.signal(stopping, lambda *_: None)
    server.run(sockets=[listening])
    return 0 if server.started else 1  # why it could not start stands in its log


def _listen(plan: Plan) -> socket.socket:
    family = socket.AF_INET6 if ":" in plan.gateway.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((plan.gateway.host, plan.gateway.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {plan.gateway.host}, port {plan.gateway.port}: {error.strerror}. Choose another port "
            f"in [gateway] or with --port (0: any free one)"
        ) from None
    listening.listen(4096)
    return listening


def _allow_connections() -> None:
    """As many open files as the system allows: a request may need two, and many shells allow a process 1,024."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # some systems say "unlimited", and take no such number
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _config(plan: Plan, app: Gateway) -> uvicorn.Config:
    settings = plan.gateway

    class Protocol(HttpProtocol):
        max_header_bytes = settings.max_header_bytes
        header_timeout_s = settings.header_timeout_s

    return uvicorn.Config(
        app,
        loop="auto",
        http=Protocol,
        ws="none",
        interface="asgi3",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        backlog=4096,
    )


def _settle_memory() -> None:
    """What is there now stays for good: the collector need not look at it again, and need not look often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _welcome(plan: Plan, url: str, service: Service) -> str:
    """Where it listens, and how requests are treated now: that may be another mode than the file's."""
    lines = [f"listening on {url}; the decision log is {plan.log_path}"]
    for name, cascade in service.cascades.items():
        state, file = cascade.state, plan.settings[name]
        said = _mode(state.mode, state.share)
        if state.kill_switch:
            said = "everything to the remote model: the kill switch is on"
        elif said != (declared := _mode(file.mode, file.share)):
            said += f" (changed since the file said {declared}; `bisupervised mode {plan.path}` shows by whom)"
        lines.append(f"  {name}: {said}; {file.interface} interface")
    if not plan.gateway.keys:
        lines.append(
            "  no keys are configured: whoever reaches this address may call, label and change modes "
            "(`bisupervised key NAME` makes one)"
        )
    return "\n".join(lines)


def _mode(mode: str, share: float) -> str:
    return f"{mode} for {share:.0%} of requests" if mode == Mode.ENFORCE and share < 1.0 else str(mode)
