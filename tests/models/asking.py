"""Ways to ask a model in a test: as the drivers do, and plainly."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from bisupervised.calls import BoundedCalls
from bisupervised.models import FunctionModel, Model
from bisupervised.records import Evidence, ModelOutput


def ask(model: Model, inputs: Sequence[Any]) -> ModelOutput:
    """One call of `predict`; what it raises is raised."""

    async def call() -> ModelOutput:
        output = model.predict(inputs)
        return await output if inspect.isawaitable(output) else output

    return asyncio.run(call())


def ask_as_drivers_do(model: Model, inputs: Sequence[Any]) -> ModelOutput:
    """In calls of the size that the model takes; what it raises becomes failures."""

    async def call() -> ModelOutput:
        return await BoundedCalls(model, max_concurrency=4)(inputs)

    return asyncio.run(call())


def failure_kinds(output: ModelOutput) -> list[str]:
    return [failure.kind for _, failure in sorted(output.failures.items())]


def counted(answers: Sequence[Any] = (), *, later: bool = False, **output: Any) -> tuple[FunctionModel, list[Any]]:
    """A model that lists every call; it raises or returns `answers` in turn, then labels inputs with themselves."""
    calls: list[Any] = []
    queue = list(answers)

    def function(inputs: Sequence[Any]) -> ModelOutput:
        calls.append(list(inputs))
        if queue:
            answer = queue.pop(0)
            if isinstance(answer, Exception):
                raise answer
        n = len(inputs)
        columns = {name: np.full(n, value) for name, value in output.items()}
        return ModelOutput(np.array(inputs), confidences=np.full(n, 0.5), **columns)

    async def slowly(inputs: Sequence[Any]) -> ModelOutput:
        await asyncio.sleep(0)
        return function(inputs)

    provides = frozenset({Evidence.CONFIDENCE})
    return FunctionModel(slowly if later else function, name="counted", provides=provides), calls
