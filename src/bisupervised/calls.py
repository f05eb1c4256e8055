"""Calling a model: plainly or in the event loop, in calls of the size it takes, a failure being a reply.

Whatever a model raises becomes a `Failure` in its output, so that one bad call neither loses the others nor
hides: it is counted, logged and stored with its row.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from operator import attrgetter
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from bisupervised.errors import InputError, ModelError
from bisupervised.models.port import Model
from bisupervised.portal import Portal
from bisupervised.records import Failure, ModelOutput, concatenate_outputs

logger = logging.getLogger("bisupervised")
T = TypeVar("T")


async def as_coroutine(awaitable: Awaitable[T]) -> T:
    """An awaitable of any kind as a coroutine."""
    return await awaitable


def call_plainly(model: Model, inputs: Sequence[Any], portal: Portal) -> ModelOutput:
    """The model's output for these inputs, blocking; latency is measured where the model does not say."""
    start = perf_counter()
    try:
        output = model.predict(inputs)
        if inspect.isawaitable(output):
            output = portal.run(as_coroutine(output))
    except Exception as error:
        return failed_output(model, len(inputs), error, perf_counter() - start)
    return with_latency(model, output, len(inputs), perf_counter() - start)


class BoundedCalls:
    """Calls one model from the event loop: at most `max_concurrency` calls at a time.

    A model that answers at once runs in a worker thread, so that it does not hold up the loop, unless `inline`.
    """

    def __init__(self, model: Model, *, max_concurrency: int, inline: bool = False) -> None:
        if max_concurrency < 1:
            raise InputError(f"max_concurrency must be at least 1, not {max_concurrency}")
        self._model = model
        self._inline = inline
        self._slots = asyncio.Semaphore(max_concurrency)
        self._most = max_concurrency

    async def __call__(self, inputs: Sequence[Any], on_done: Callable[[int], None] | None = None) -> ModelOutput:
        """The output for all inputs; `on_done(k)` is told of every k more that are answered."""
        size = self._model.max_batch or max(len(inputs), 1)
        pieces = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        # Of its own: the loop's pool has hardly more threads than the machine has cores, whatever the bound is.
        threads = ThreadPoolExecutor(self._most, "bisupervised-model") if self._most > 1 else None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(piece, on_done, threads)) for piece in pieces]
        finally:
            if threads is not None:
                threads.shutdown(wait=False)
        return concatenate_outputs([task.result() for task in tasks])

    async def _one(
        self, inputs: Sequence[Any], on_done: Callable[[int], None] | None, threads: ThreadPoolExecutor | None
    ) -> ModelOutput:
        async with self._slots:
            start = perf_counter()
            try:
                if self._inline or inspect.iscoroutinefunction(self._model.predict):
                    output = self._model.predict(inputs)
                else:
                    output = await self._in_thread(inputs, threads)
                if inspect.isawaitable(output):
                    output = await output
            except Exception as error:
                output = failed_output(self._model, len(inputs), error, perf_counter() - start)
            else:
                output = with_latency(self._model, output, len(inputs), perf_counter() - start)
        if on_done is not None:
            on_done(len(inputs))
        return output

    async def _in_thread(self, inputs: Sequence[Any], threads: ThreadPoolExecutor | None) -> Any:
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(threads, run, self._model.predict, inputs)


def failed_output(model: Model, n: int, error: Exception, seconds: float) -> ModelOutput:
    """The reply that stands for a call that raised."""
    if isinstance(error, ModelError):
        failure = Failure(error.kind, str(error) or type(error).__name__)
    else:
        # Not the model's way of saying that it failed: most likely a mistake in somebody's function.
        failure = Failure(ModelError.kind, f"{type(error).__name__}: {error}")
        logger.warning("the model %s raised %s", model.name, failure.message, exc_info=error)
    return ModelOutput.failed(n, failure, latency_s=seconds / max(n, 1))


def with_latency(model: Model, output: ModelOutput, n: int, seconds: float) -> ModelOutput:
    """The output with a latency per input: the call's time shared evenly, where the model does not say."""
    wrong = _broken_contract(output, n)
    if wrong is not None:
        return ModelOutput.failed(n, Failure("unreadable", f"{model.name} {wrong}"), latency_s=seconds / max(n, 1))
    if output.latency_s is not None:
        return output
    return replace(output, latency_s=np.full(n, seconds / max(n, 1)))


_PER_INPUT = tuple(column.name for column in fields(ModelOutput) if column.name not in ("classes", "failures"))
_per_input = attrgetter(*_PER_INPUT)


def _broken_contract(output: Any, n: int) -> str | None:
    """What is wrong with a model's reply to n inputs; None for a model output with one row for each."""
    if not isinstance(output, ModelOutput):
        return f"returned {type(output).__name__}, not a ModelOutput"
    if len(output) != n:
        return f"was given {n} inputs and answered {len(output)}"
    predictions: Any = output.predictions
    if not isinstance(predictions, np.ndarray):
        return f"gave predictions as {type(predictions).__name__}, not as an array"
    for name, values in zip(_PER_INPUT, _per_input(output), strict=True):
        if values is not None and len(values) != n:
            return f"gave {len(values)} {name} for {n} inputs"
    return None
