"""A client that goes away cancels what is done for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

#: Seconds until somebody looks whether the client is still there: quicker answers do not pay for it.
_LOOK_AFTER_S: Final = 0.01


class Watch:
    """One request's client. `begin` before anything that takes time; `close` at the end.

    The protocol runs a request as plain calls for as long as nothing takes time, since a task would cost as much as
    many an answer. `begin` is where it becomes one.
    """

    __slots__ = ("_receive", "_task", "_timer", "_watcher", "gone")

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False

    async def begin(self) -> None:
        """From now on, the running task is cancelled when the client goes away."""
        if self._timer is not None:
            return
        if asyncio.current_task() is None:
            await asyncio.sleep(0)
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, self._look)

    def _look(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait_for_end())

    async def _wait_for_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()

    def cancelled(self) -> bool:
        """Whether a cancellation that came was the client's leaving, and nothing else; it is taken back then."""
        return self.gone and self._task is not None and self._task.uncancel() == 0
