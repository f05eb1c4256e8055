"""The background event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import pytest

from bisupervised.errors import InputError
from bisupervised.portal import Portal


def portal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bisupervised-portal"]


@pytest.fixture
def portal():
    portal = Portal()
    yield portal
    portal.close()
    assert portal_threads() == [], "no thread is left"


async def answer(value=42, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


def in_thread(function, *args):
    """Run in a thread; returns the thread and a list that gets the result or what was raised."""
    results = []

    def call():
        try:
            results.append(function(*args))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, results


def test_no_thread_runs_before_it_is_needed(portal):
    assert portal_threads() == []
    assert portal.run(answer()) == 42
    assert len(portal_threads()) == 1
    assert portal_threads()[0].daemon


def test_every_run_takes_place_in_one_loop(portal):
    async def loop():
        return asyncio.get_running_loop()

    assert portal.run(loop()) is portal.run(loop())


def test_what_the_coroutine_raises_is_raised(portal):
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        portal.run(fail())
    assert portal.run(answer()) == 42


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_ends_programs_reaches_the_caller_and_leaves_the_loop_running(portal, kind):
    async def leave():
        await asyncio.sleep(0)
        raise kind

    thread, results = in_thread(lambda: portal.run(leave()))
    thread.join(5)
    assert not thread.is_alive(), "the caller must not wait for ever"
    assert isinstance(results[0], kind | CancelledError)
    assert portal.run(answer()) == 42


def test_a_portal_works_where_a_loop_is_running_and_can_be_closed_there(portal):
    async def main():
        result = portal.run(answer())
        portal.close()
        return result

    assert asyncio.run(main()) == 42
    assert portal_threads() == []


def test_closing_is_idempotent_and_the_portal_can_be_used_again(portal):
    portal.close()
    assert portal.run(answer()) == 42
    portal.close()
    portal.close()
    assert portal_threads() == []
    assert portal.run(answer(43)) == 43


def test_closing_ends_what_still_runs_instead_of_leaving_its_caller_waiting(portal):
    ended = threading.Event()

    async def long():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    thread, results = in_thread(lambda: portal.run(long()))
    while not portal_threads():
        time.sleep(0.001)
    time.sleep(0.02)
    portal.close()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(results[0], CancelledError)
    assert ended.is_set()


def test_many_threads_share_the_loop(portal):
    threads = [in_thread(lambda row=row: portal.run(answer(row, 0.02))) for row in range(20)]
    start = time.perf_counter()
    for thread, _ in threads:
        thread.join()
    assert [results[0] for _, results in threads] == list(range(20))
    assert time.perf_counter() - start < 0.3, "they waited at the same time"
    assert len(portal_threads()) == 1


def test_running_and_closing_at_the_same_time_never_hangs(portal):
    def use(row):
        try:
            return portal.run(answer(row))
        except CancelledError:
            return row

    threads = [in_thread(use, row) for row in range(30)] + [in_thread(portal.close) for _ in range(10)]
    for thread, _ in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread, _ in threads)
    assert [results[0] for _, results in threads[:30]] == list(range(30))


def test_a_blocking_call_from_within_the_loop_is_refused_instead_of_waiting_for_itself(portal):
    async def outer():
        return portal.run(answer())

    with pytest.raises(InputError, match="apredict"):
        portal.run(outer())


def test_an_interrupted_wait_cancels_the_coroutine(portal, monkeypatch):
    cancelled = threading.Event()

    async def long():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    schedule = asyncio.run_coroutine_threadsafe

    def interrupted(coroutine, loop):
        future = schedule(coroutine, loop)

        def result(timeout=None):
            time.sleep(0.05)
            raise KeyboardInterrupt

        monkeypatch.setattr(future, "result", result)
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portal.run(long())
    assert cancelled.wait(5)
