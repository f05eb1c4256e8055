"""A bound on the calls of one upstream that run or wait."""

from __future__ import annotations

import asyncio

from bisupervised.errors import ModelBusy


class Slots:
    """At most `running` calls at a time and `waiting` more in line; a further one raises `ModelBusy`."""

    def __init__(self, name: str, running: int, waiting: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(running)
        self._waiting = 0
        self._most_waiting = waiting

    async def acquire(self, timeout_s: float) -> None:
        """Take a slot, waiting in line if need be. Raises `ModelBusy` when the line is full, or too slow."""
        if self._free.locked():
            if self._waiting >= self._most_waiting:
                raise ModelBusy(f"{self._name}: as many calls run and wait as may (max_concurrency, max_waiting)")
            self._waiting += 1
            try:
                async with asyncio.timeout(timeout_s):
                    await self._free.acquire()
            except TimeoutError:
                raise ModelBusy(f"{self._name}: no call ended within {timeout_s:g} s (max_concurrency)") from None
            finally:
                self._waiting -= 1
        else:
            await self._free.acquire()

    def release(self) -> None:
        self._free.release()
