"""A client that goes away cancels what is done for it, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bisupervised.gateway import watching
from bisupervised.gateway.watching import Watch


class Client:
    """The receiving half of a request whose body is read; it leaves when it is told to."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": b"late"}
        await self.left.wait()
        return {"type": "http.disconnect"}


async def watched(watch: Watch, work: Callable[[], Awaitable[Any]]) -> str:
    """What an application does with a watch: the end of the work, and whether it was the client's leaving."""
    try:
        await watch.begin()
        await work()
    except asyncio.CancelledError:
        if not watch.cancelled():
            raise
        return "left"
    finally:
        watch.close()
    return "done"


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.03])
def test_a_client_that_leaves_cancels_the_work_before_and_after_somebody_looks(after_s: float) -> None:
    async def scenario() -> None:
        client = Client()
        watch = Watch(client.receive)
        task = asyncio.create_task(watched(watch, lambda: asyncio.sleep(60)))
        await asyncio.sleep(after_s)
        left = time.monotonic()
        client.left.set()
        assert await task == "left"
        assert time.monotonic() - left < 0.1
        assert watch.gone
        assert task.cancelling() == 0  # it was taken back: the task may go on
        await asyncio.sleep(0)
        assert others() == set()

    asyncio.run(scenario())


def test_a_client_that_stays_sees_its_work_done_and_no_one_is_left_watching() -> None:
    async def scenario() -> None:
        client = Client()
        watch = Watch(client.receive)
        assert await watched(watch, lambda: asyncio.sleep(0.03)) == "done"
        await asyncio.sleep(0)
        assert (watch.gone, others()) == (False, set())

    asyncio.run(scenario())


def test_nobody_looks_at_the_client_of_a_quick_answer() -> None:
    async def scenario() -> None:
        client = Client()
        assert await watched(Watch(client.receive), lambda: asyncio.sleep(0)) == "done"
        await asyncio.sleep(3 * watching._LOOK_AFTER_S)
        assert client.asked == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("gone", [False, True])
def test_a_cancellation_by_somebody_else_goes_through(gone: bool) -> None:
    """Both at once, too: the server that stops is not to be told that the work has ended well."""

    async def scenario() -> None:
        client = Client()
        task = asyncio.create_task(watched(Watch(client.receive), lambda: asyncio.sleep(60)))
        await asyncio.sleep(0.03)
        if gone:
            client.left.set()
            await asyncio.sleep(0)  # it is being cancelled, and has not noticed
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(0)
        assert others() == set()

    asyncio.run(scenario())


def test_begin_may_be_called_before_each_thing_that_takes_time() -> None:
    async def scenario() -> None:
        client = Client()
        watch = Watch(client.receive)

        async def work() -> None:
            for _ in range(3):
                await watch.begin()
                await asyncio.sleep(0.015)

        assert await watched(watch, work) == "done"
        assert client.asked == 2  # one watcher

    asyncio.run(scenario())


def test_close_may_be_called_at_any_time_and_often() -> None:
    async def scenario() -> None:
        client = Client()
        watch = Watch(client.receive)
        watch.close()
        await watch.begin()
        watch.close()
        watch.close()
        client.left.set()
        await asyncio.sleep(0.03)
        assert not watch.gone

    asyncio.run(scenario())


def test_work_that_began_as_a_plain_call_becomes_a_task_at_begin() -> None:
    """`begin` gives way once, so that its caller can make a task of the rest; that is the one to be cancelled."""

    async def scenario() -> None:
        client = Client()
        watch = Watch(client.receive)
        tasks: list[Any] = []

        async def work() -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(60)

        coroutine = watched(watch, work)
        # As the protocol does it: outside of any task.
        given: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: given.set_result(coroutine.send(None)))
        assert await given is None
        assert tasks == []
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0.03)
        assert tasks == [task]
        client.left.set()
        assert await task == "left"

    asyncio.run(scenario())


def test_a_time_limit_inside_the_work_is_not_taken_for_the_client() -> None:
    async def scenario() -> None:
        client = Client()

        async def work() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await asyncio.sleep(60)
            client.left.set()
            await asyncio.sleep(60)

        assert await watched(Watch(client.receive), work) == "left"

    asyncio.run(scenario())


def test_a_client_that_leaves_in_the_last_moment_harms_nobody() -> None:
    async def scenario() -> None:
        client = Client()
        watch = Watch(client.receive)

        async def work() -> None:
            await asyncio.sleep(0.03)
            client.left.set()

        assert await watched(watch, work) == "done"
        for _ in range(5):
            await asyncio.sleep(0)
        assert (watch.gone, others()) == (False, set())

    asyncio.run(scenario())
