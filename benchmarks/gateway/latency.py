"""One client, one request at a time, over a plain socket: less of its own than any library would add.

The targets are asked in turn, so that all of them meet the same noise.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
#: A piece of an answer: text that is not empty.
TOKEN = re.compile(rb'"content": ?"[^"]')
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A request and where it goes."""

    name: str
    port: int
    request: bytes
    route: str | None = None  #: what `x-bisupervised-route` says in the reply, None: it is not a gateway's


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one exchange."""

    first_s: float  #: until the first piece of the answer was there; of a whole reply, until its end
    total_s: float


class Client:
    """A connection to a target, kept open."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket = socket.create_connection(("127.0.0.1", target.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self) -> tuple[Times, bytes]:
        """Send the request and read the reply to its end. Raises RuntimeError unless its status is 200."""
        link, first_s = self._socket, 0.0
        began = time.perf_counter()
        link.sendall(self._target.request)
        data, ends = b"", None
        while True:
            piece = link.recv(262144)
            if not piece:
                raise RuntimeError(f"{self._target.name}: the connection ended within a reply: {data[:2000]!r}")
            data += piece
            if ends is None and (head := data.find(b"\r\n\r\n")) >= 0:
                length = LENGTH.search(data, 0, head)
                ends = head + 4 + int(length[1]) if length else -1
            if not first_s and TOKEN.search(data):
                first_s = time.perf_counter() - began
            if ends is not None and (data.endswith(LAST_CHUNK) if ends < 0 else len(data) >= ends):
                break
        total_s = time.perf_counter() - began
        if not data.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{self._target.name}: {data[:2000]!r}")
        return Times(first_s or total_s, total_s), data


def check(target: Target) -> None:
    """Ask once, and see that the reply came by the route that is to be measured."""
    client = Client(target)
    try:
        _, reply = client.ask()
    finally:
        client.close()
    if target.route is not None:
        found = re.search(rb"x-bisupervised-route: *(\w+)", reply.partition(b"\r\n\r\n")[0], re.IGNORECASE)
        if found is None or found[1].decode().lower() != target.route:
            raise RuntimeError(f"{target.name} was to be answered by the {target.route} model: {reply[:2000]!r}")


def in_turn(targets: Sequence[Target], n: int, *, pause_s: float = 0.0, warm_up: int = 20) -> dict[str, np.ndarray]:
    """name -> (n, 2) seconds: until the first piece, and in total."""
    clients = [Client(target) for target in targets]
    try:
        times = np.empty((len(targets), n, 2))
        for place in range(-warm_up, n):
            for which, client in enumerate(clients):
                taken, _ = client.ask()
                if place >= 0:
                    times[which, place] = taken.first_s, taken.total_s
                if pause_s:
                    time.sleep(pause_s)
    finally:
        for client in clients:
            client.close()
    return {target.name: times[which] for which, target in enumerate(targets)}
