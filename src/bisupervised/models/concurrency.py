"""A bound on how many calls of a model run at a time, shared by everyone who uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from bisupervised.errors import InputError
from bisupervised.models.port import Model
from bisupervised.models.wrapper import Wrapper, with_own_latency
from bisupervised.records import ModelOutput


class Concurrency(Wrapper):
    """At most `limit` calls at a time; further ones wait for a free slot.

    For an asynchronous model the bound holds within each event loop (a gateway has one), for an in-process model
    across all threads. The time spent waiting is not the model's latency.
    """

    def __init__(self, model: Model, limit: int) -> None:
        super().__init__(model)
        if limit < 1:
            raise InputError(f"limit must be at least 1, not {limit}")
        self.limit = limit
        self._threads = threading.BoundedSemaphore(limit)
        self._loops: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        with self._threads:
            start = perf_counter()
            return with_own_latency(self._ask_now(inputs), perf_counter() - start)

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        async with self._slots():
            start = perf_counter()
            return with_own_latency(await self._ask_later(inputs), perf_counter() - start)

    def _slots(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        slots = self._loops.get(loop)
        if slots is None:
            # A semaphore refers to its loop, so a weak dictionary would never let go of the closed ones.
            for other in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(other, None)
            slots = self._loops[loop] = asyncio.Semaphore(self.limit)
        return slots
