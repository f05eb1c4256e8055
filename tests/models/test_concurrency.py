from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bisupervised.errors import InputError
from bisupervised.models import Concurrency, FunctionModel, HttpJsonModel
from models.asking import ask, counted


def test_no_more_calls_than_the_limit_run_at_a_time_in_a_loop(server: Any) -> None:
    url = server.url("slow")
    model = Concurrency(HttpJsonModel(url), 3)

    async def many() -> list[Any]:
        return await asyncio.gather(*(model.predict(["good"]) for _ in range(9)))

    start = time.perf_counter()
    outputs = asyncio.run(many())
    took_s = time.perf_counter() - start
    assert (server.count(url), server.most_at_once(url)) == (9, 3)
    # Waiting for a slot is not the model's time: all of it fits into three slots.
    assert 9 * 0.05 <= sum(output.latency_s[0] for output in outputs) <= 3 * took_s


def test_the_limit_holds_across_threads_for_an_in_process_model() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def function(inputs: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return [[1.0]] * len(inputs)

    model = Concurrency(FunctionModel(function), 2)
    start = time.perf_counter()
    with ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(model.predict, [["a"]] * 6))
    assert most == 2
    assert 6 * 0.02 <= sum(output.latency_s[0] for output in outputs) <= 2 * (time.perf_counter() - start)


@pytest.mark.parametrize("later", [False, True])
def test_a_failed_or_cancelled_call_frees_its_slot(later: bool) -> None:
    model, calls = counted([ValueError("once")], later=later)
    bounded = Concurrency(model, 1)
    with pytest.raises(ValueError, match="once"):
        ask(bounded, ["a"])
    assert ask(bounded, ["b"]).predictions.tolist() == ["b"]
    assert len(calls) == 2


def test_closed_loops_are_forgotten() -> None:
    model = Concurrency(counted(later=True)[0], 1)
    for _ in range(5):
        ask(model, ["a"])
    assert len(model._loops) == 1


def test_a_limit_below_1_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        Concurrency(counted()[0], 0)
