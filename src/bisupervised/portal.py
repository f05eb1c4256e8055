"""A background event loop, so that a plain call can drive network models.

One loop per system, started on first use: a connection pool lives as long as the loop it was opened in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from bisupervised.errors import InputError

T = TypeVar("T")


class Portal:
    """Runs coroutines from plain code on a daemon thread's event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing: asyncio.Future[None] | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; blocks the calling thread. Interrupting the wait cancels the coroutine.

        Raises `InputError` when called from the portal's own loop, which would wait for itself for ever.
        """
        with self._lock:
            if self._thread is threading.current_thread():
                coroutine.close()
                raise InputError(
                    "a blocking call of a system inside a model or a fallback of the same system would never end: "
                    "make that a coroutine function and await apredict or apredict_many"
                )
            # Within the lock, so that a `close` in another thread comes before or after, and finds the task.
            future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._closing = self._loop.create_future()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop, self._closing), name="bisupervised-portal", daemon=True
            )
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Stop the loop, cancelling what runs there; a later `run` starts a new one."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            if loop is not None and self._closing is not None:
                loop.call_soon_threadsafe(self._closing.set_result, None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _serve(loop: asyncio.AbstractEventLoop, closing: asyncio.Future[None]) -> None:
    """Run the loop until `closing` is done, then end its tasks. In the loop's thread: the thread that closes
    it may have a running loop of its own."""
    while not closing.done():
        try:
            loop.run_until_complete(closing)
        except (SystemExit, KeyboardInterrupt):
            continue  # of a task, and it leaves the loop as well: whoever waits for that task gets it
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
