"""Small cascades as classifiers of the v2 protocol, and a real server for them in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn

from bisupervised.cascade import BiSupervised, Level
from bisupervised.gateway.refusals import Refusal
from bisupervised.gateway.v2 import V2, Inference
from bisupervised.models import FunctionModel
from bisupervised.supervisor import Supervisor

WEIGHTS = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])


def words(inputs: Sequence[str], sure: str) -> list[list[float]]:
    """Class probabilities [negative, positive]: sure of texts that hold a word, and of no others."""
    return [([0.03125, 0.96875] if "good" in x else [0.96875, 0.03125]) if sure in x else [0.5, 0.5] for x in inputs]


def words_cascade(fallback: Any = None) -> BiSupervised:
    """Texts with `easy` are answered by the local model, those with `hard` by the remote one, others by nobody.

    The remote model names its classes in another order.
    """
    local = FunctionModel(lambda xs: words(xs, "easy"), ["negative", "positive"])
    remote = FunctionModel(lambda xs: [row[::-1] for row in words(xs, "hard")], ["positive", "negative"])
    return BiSupervised(
        Level(local, Supervisor(threshold=0.9), inline=True),
        Level(remote, Supervisor(threshold=0.75), cost=0.002, inline=True),
        fallback,
    )


def numbers_cascade() -> BiSupervised:
    """Points in the plane; the classes are 0, 1, 2, and everything is answered locally."""

    def probabilities(inputs: Any) -> Any:
        logits = np.exp(np.asarray(inputs, dtype=np.float64) @ WEIGHTS)
        return logits / logits.sum(axis=1, keepdims=True)

    level = Level(FunctionModel(probabilities), Supervisor(threshold=0.0), inline=True)
    return BiSupervised(level, level)


class Sent(Exception):  # noqa: N818 - as the service's own
    """What a service raises to send somebody away."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class FakeClassifier:
    """A cascade behind the protocol; what it is asked stands in `asked`, the calls that were cancelled in
    `cancelled`."""

    platform = "bisupervised"

    def __init__(
        self,
        name: str,
        system: BiSupervised,
        *,
        inputs: Sequence[Any] = (),
        prediction: str = "BYTES",
        classes: Sequence[Any] | None = None,
        versions: Sequence[str] = ("1",),
        ready: bool = True,
        seconds: float = 0.0,
        raises: Exception | None = None,
    ) -> None:
        self.name = name
        self.system = system
        self.inputs = inputs
        self.prediction = prediction
        self.classes = classes
        self.versions = versions
        self.ready = ready
        self.seconds = seconds
        self.raises = raises
        self.asked: list[Any] = []
        self.clients: list[Any] = []
        self.cancelled: list[float] = []

    async def infer(
        self,
        inputs: Sequence[Any],
        *,
        client: Any,
        headers: Mapping[bytes, bytes],
        waiting: Callable[[], Awaitable[None]],
    ) -> Inference:
        await waiting()
        self.asked.append(inputs)
        self.clients.append((client, headers))
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(time.monotonic())
            raise
        if self.raises is not None:
            raise self.raises
        ids = [f"{self.name}-{len(self.asked)}-{row}" for row in range(len(inputs))]
        return Inference(await self.system.apredict_many(inputs, ids=ids), "enforce", "t1")


class FakeService:
    """Several classifiers; `turns_away` is raised for every client."""

    version = "0.test"

    def __init__(self, *classifiers: Any, ready: bool = True) -> None:
        self.classifiers = {one.name: one for one in classifiers}
        self.ready = ready
        self.turns_away: Exception | None = None
        self.refusals: list[str] = []

    def client(self, headers: Mapping[bytes, bytes]) -> Any:
        if self.turns_away is not None:
            raise self.turns_away
        return headers.get(b"authorization")

    def refused(self, code: str) -> None:
        self.refusals.append(code)


@contextmanager
def serving(service: Any, **limits: int) -> Iterator[str]:
    """`host:port` of a real server in a thread."""
    from starlette.applications import Starlette

    app = Starlette(routes=V2(service, **limits).routes())
    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 10
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
