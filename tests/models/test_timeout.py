from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from bisupervised.errors import InputError, ModelTimeout
from bisupervised.models import Concurrency, FunctionModel, HttpJsonModel, Timeout
from models.asking import ask, ask_as_drivers_do, counted, failure_kinds


def test_a_call_that_takes_too_long_is_cancelled(server: Any) -> None:
    cancelled = []

    async def slow(inputs: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(inputs)
            raise

    start = time.perf_counter()
    with pytest.raises(ModelTimeout, match=r"slow did not answer within 0.05 s"):
        ask(Timeout(FunctionModel(slow, name="slow"), 0.05), ["a"])
    assert time.perf_counter() - start < 1.0
    assert cancelled == [["a"]]
    assert failure_kinds(ask_as_drivers_do(Timeout(HttpJsonModel(server.url("stall")), 0.05), ["a"])) == ["timeout"]


def test_a_call_in_time_passes_through() -> None:
    model, _ = counted(later=True)
    assert ask(Timeout(model, 5), ["a"]).predictions.tolist() == ["a"]


def test_a_timeout_of_the_models_own_stays_its_own() -> None:
    for error in (ModelTimeout("mine"), TimeoutError("mine")):
        model, _ = counted([error], later=True)
        with pytest.raises(type(error), match="mine"):
            ask(Timeout(model, 5), ["a"])


def test_waiting_for_a_slot_counts_around_concurrency_and_not_inside() -> None:
    async def function(inputs: Any) -> Any:
        await asyncio.sleep(0.3)
        return [[1.0]] * len(inputs)

    async def two(model: Any) -> list[Any]:
        return await asyncio.gather(model.predict(["a"]), model.predict(["b"]), return_exceptions=True)

    model = FunctionModel(function)
    inside = asyncio.run(two(Concurrency(Timeout(model, 0.5), 1)))
    around = asyncio.run(two(Timeout(Concurrency(model, 1), 0.5)))
    assert [type(result).__name__ for result in inside] == ["ModelOutput", "ModelOutput"]
    assert [type(result).__name__ for result in around] == ["ModelOutput", "ModelTimeout"]


def test_an_in_process_model_is_refused() -> None:
    model, _ = counted()
    with pytest.raises(InputError, match="Python cannot stop a running function"):
        Timeout(model, 1)
    with pytest.raises(InputError, match="above 0"):
        Timeout(counted(later=True)[0], 0)
