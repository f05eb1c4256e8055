"""The servers of a run as processes: the upstream, the gateway, nginx, LiteLLM's proxy. None outlives its block."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.gateway.machine import GATEWAY_CORE, LOAD_CORE
from benchmarks.gateway.setting import KEY, write_gateway, write_litellm, write_nginx

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `pid` is that of its first process."""

    name: str
    port: int
    pid: int


@contextmanager
def process(
    command: Sequence[str],
    core: int,
    log: IO[bytes],
    *,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own on one core, ended with the block: asked first, and then made to."""
    pinned = ["taskset", "-c", str(core % (os.cpu_count() or 1)), *command]
    if shutil.which("setpriv"):  # then it does not outlive this program even when that is killed
        pinned = ["setpriv", "--pdeathsig", "TERM", *pinned]
    running = subprocess.Popen(
        pinned,
        stderr=log,
        start_new_session=True,
        env=os.environ | dict(env or {}),
        **options,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            running.terminate()
            running.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def upstream_server(folder: Path, core: int = LOAD_CORE) -> Iterator[Server]:
    """The 0 ms upstream."""
    tests = ROOT / "tests"
    command = [sys.executable, "-m", "gateway.upstreams.fast"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tests}
    path = folder / "upstream.log"
    with path.open("wb") as log, process(command, core, log, env={"PYTHONPATH": str(tests)}, **pipes) as running:
        yield Server("upstream", _announced(running, path)["port"], running.pid)


@contextmanager
def gateway_server(folder: Path, upstream: Server, serve: Sequence[str]) -> Iterator[Server]:
    """The gateway: `serve` is the command, to which the file and `--json` are added."""
    config = write_gateway(folder, upstream.port)
    command = [*serve, str(config), "--json"]
    path = folder / "gateway.log"
    with path.open("wb") as log, process(command, GATEWAY_CORE, log, stdout=subprocess.PIPE) as running:
        url = str(_announced(running, path)["url"])
        server = Server("gateway", int(url.rpartition(":")[2].rstrip("/")), running.pid)
        _wait_until_up(server.port, "/v1/models", running, path, 10)
        yield server


@contextmanager
def yardstick_server(folder: Path, upstream: Server) -> Iterator[Server]:
    """Starlette and aiohttp, doing the least that a gateway does."""
    command = [sys.executable, "-m", "benchmarks.gateway.yardstick", str(upstream.port)]
    path = folder / "yardstick.log"
    with path.open("wb") as log, process(command, GATEWAY_CORE, log, stdout=subprocess.PIPE) as running:
        url = str(_announced(running, path)["url"])
        server = Server("yardstick", int(url.rpartition(":")[2]), running.pid)
        _wait_until_up(server.port, "/v1/models", running, path, 10)
        yield server


@contextmanager
def nginx_server(folder: Path, upstream: Server, binary: str) -> Iterator[Server]:
    """A private nginx: configuration, pid and temporary files in `folder`."""
    port = _free_port()
    config = write_nginx(folder, upstream.port, port)
    command = [binary, "-p", str(folder), "-c", str(config), "-e", "stderr"]
    with (folder / "nginx.log").open("wb") as log, process(command, GATEWAY_CORE, log, stdout=log) as running:
        _wait_until_up(port, "/v1/models", running, folder / "nginx.log", 10)
        yield Server("nginx", port, running.pid)


@contextmanager
def litellm_server(folder: Path, upstream: Server, binary: str) -> Iterator[Server]:
    """LiteLLM's proxy, one worker, told to be quiet and to look nothing up."""
    port = _free_port()
    config = write_litellm(folder, upstream.port)
    command = [binary, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    env |= {"LITELLM_TELEMETRY": "False", "NO_DOCS": "True"}
    path = folder / "litellm.log"
    with path.open("wb") as log, process(command, GATEWAY_CORE, log, env=env, stdout=log, cwd=folder) as running:
        _wait_until_up(port, "/health/liveliness", running, path, 90)
        yield Server("LiteLLM", port, running.pid)


def _announced(running: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """The first line of JSON that a server prints."""
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith(b"{"):
            announced: dict[str, Any] = json.loads(line)
            return announced
    raise RuntimeError(f"the server ended before it listened:\n{log.read_text()[-4000:]}")


def _wait_until_up(port: int, path: str, running: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {KEY}"})
    while time.monotonic() < end and running.poll() is None:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not come up in {seconds:.0f} s:\n{log.read_text()[-4000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
