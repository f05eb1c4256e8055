"""A gateway's level as a model of the library's port: the replay of logged requests asks it as clients do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from bisupervised.config import Configured
from bisupervised.gateway.building import endpoint_of
from bisupervised.gateway.openai_wire import read_request
from bisupervised.gateway.spending import Spending
from bisupervised.gateway.sse import encode
from bisupervised.gateway.upstream import Pool
from bisupervised.models.openai_request import Route
from bisupervised.records import Failure, LevelName, ModelOutput


class Logged(Protocol):
    """A request as it was sent, `request_logs.LoggedRequest` for one."""

    @property
    def id(self) -> str: ...
    @property
    def route(self) -> Route: ...
    @property
    def body(self) -> Mapping[str, Any]: ...


class LevelModel:
    """An OpenAI-compatible level, given whole requests: the client's own settings are sent as the gateway sends them,
    and further calls (samples, self-verification) are made as it makes them.

    A reply that nobody could score, such as a tool call, is a failure of kind `unreadable`.
    """

    max_batch: int | None = 1

    def __init__(self, cascade: Configured, level: LevelName = LevelName.LOCAL) -> None:
        built = cascade.system.local if level is LevelName.LOCAL else cascade.system.remote
        self._pool = Pool()
        self._backend = endpoint_of(cascade, level, self._pool)
        self._running = 0
        self.name = self._backend.name
        self.provides = built.model.provides

    async def predict(self, inputs: Sequence[Logged]) -> ModelOutput:
        """The output for one request; a failed call is a failure of its row."""
        request = inputs[0]
        read = read_request(encode({"model": self.name, **request.body}), request.route)
        self._running += 1
        try:
            reply = await self._backend.whole(read, request.id, Spending(None, ()))
        finally:
            self._running -= 1
            if not self._running:  # connections live as long as somebody uses them: nobody says when the replay ends
                self._pool.close()
        if reply.kind in ("tool_call", "refusal") and not reply.output.failures:
            failure = Failure("unreadable", f"{self.name}: a {reply.kind.replace('_', ' ')}, which nobody can score")
            return replace(reply.output, predictions=np.array([None], dtype=object), failures={0: failure})
        return reply.output
