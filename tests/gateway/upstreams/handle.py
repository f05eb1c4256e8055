"""Starting an upstream as a process of its own, telling it what to do, and reading what it saw."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

TESTS = Path(__file__).resolve().parents[2]

Given = str | Mapping[str, Any]  #: a behaviour: `"503?first=2"` or `{"kind": "503", "first": 2}`


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """What an upstream saw. Times of `requests` are `time.monotonic()`; None: it did not come to that."""

    connections: int  #: ever, without those that control and look
    connections_open: int  #: now
    begun: int  #: requests whose head came
    read: int  #: requests that came whole and were read
    completed: int  #: replies sent to their end
    disconnects: int  #: clients that went away before the end of a reply
    prompt_tokens: int  #: billed
    completion_tokens: int  #: billed: those written until the client was seen to be gone
    script_left: int
    requests: list[dict[str, Any]]  #: `faulty.Record`, the latest last

    def bodies(self) -> list[Any]:
        """The JSON of every completion that was asked for and read, in order."""
        return [json.loads(request["body"]) for request in self.requests if request["read"] and request["behaviour"]]


class FaultyUpstream:
    """A running `faulty.py`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.root = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.root}/v1"

    def base_url_for(self, behaviour: str) -> str:
        """A base URL whose requests all meet one behaviour, whatever their model is called."""
        return f"{self.root}/b/{quote(behaviour, safe='')}/v1"

    def script(self, *behaviours: Given) -> None:
        """What happens to the next POST requests, in the order in which they come."""
        self._control(script=list(behaviours))

    def default(self, behaviour: Given) -> None:
        """What happens to requests that nothing else is said of."""
        self._control(default=behaviour)

    def models(self, **behaviours: Given) -> None:
        """What happens to requests for each model, by its name."""
        self._control(models=behaviours)

    def reset(self) -> None:
        """Back to `ok`, an empty script and counts of 0."""
        self._control(reset=True)

    def state(self) -> UpstreamState:
        with urllib.request.urlopen(f"{self.root}/_state", timeout=10) as reply:
            return UpstreamState(**json.load(reply))

    def wait_for(self, condition: Callable[[UpstreamState], bool], timeout_s: float = 5.0) -> UpstreamState:
        """The first state that meets a condition. Raises TimeoutError with the last one."""
        end = time.monotonic() + timeout_s
        while not condition(state := self.state()):
            if time.monotonic() > end:
                raise TimeoutError(f"after {timeout_s} s: {state}")
            time.sleep(0.005)
        return state

    def kill(self) -> None:
        """End the process at once; its port refuses from then on."""
        self.process.kill()
        self.process.wait()

    def _control(self, **given: Any) -> None:
        request = urllib.request.Request(f"{self.root}/_control", json.dumps(given).encode(), method="POST")
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None


@contextmanager
def faulty_upstream() -> Iterator[FaultyUpstream]:
    """A `faulty.py` that runs until the block ends."""
    with upstream_process("gateway.upstreams.faulty") as (process, port):
        yield FaultyUpstream(process, port)


@contextmanager
def upstream_process(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A module of this package as a process, with the port that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["port"]
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def refused() -> Iterator[str]:
    """A base URL that refuses connections: a port that is taken, so that no one else gets it, but not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
