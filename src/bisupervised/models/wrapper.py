"""What every wrapper shares: it stands in for the model inside it and leaves what it does not change."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.models.function import FunctionModel
from bisupervised.models.port import Model
from bisupervised.records import Evidence, ModelOutput


def answers_later(model: Model) -> bool:
    """Whether a model is asynchronous: its `predict`, or the function of a `FunctionModel`, is `async def`."""
    function: Any = model.predict
    if isinstance(model, FunctionModel):
        function = model.function
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


class Wrapper(ABC):
    """A model around a model, synchronous or asynchronous as that one is. Wrappers go around wrappers."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._later = answers_later(model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    @property
    def name(self) -> str:
        """The name of the model inside."""
        return self.model.name

    @property
    def provides(self) -> frozenset[Evidence]:
        """The evidence of the model inside."""
        return self.model.provides

    @property
    def max_batch(self) -> int | None:
        """The most inputs that one call of the model inside may hold."""
        return self.model.max_batch

    @property
    def predict(self) -> Callable[[Sequence[Any]], ModelOutput | Awaitable[ModelOutput]]:
        """The output for n inputs: `async def` exactly when the model inside is, which the drivers look at."""
        return self._predict_later if self._later else self._predict_now

    @abstractmethod
    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput: ...

    @abstractmethod
    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput: ...

    def _ask_now(self, inputs: Sequence[Any]) -> ModelOutput:
        output = self.model.predict(inputs)
        if isinstance(output, ModelOutput):
            return output
        if inspect.iscoroutine(output):
            output.close()
        raise InputError(
            f"{self.name} returns an awaitable and is not declared so: make its predict (or the function of a "
            f"FunctionModel) `async def`, so that {type(self).__name__} can tell"
        )

    async def _ask_later(self, inputs: Sequence[Any]) -> ModelOutput:
        output = self.model.predict(inputs)
        return output if isinstance(output, ModelOutput) else await output

    async def aclose(self) -> None:
        """Close the connections of the model inside, if it has any."""
        close = getattr(self.model, "aclose", None)
        if close is not None:
            await close()


def with_own_latency(output: ModelOutput, seconds: float) -> ModelOutput:
    """The output with the call's seconds shared evenly, where the model does not say."""
    n = len(output)
    return output if output.latency_s is not None else replace(output, latency_s=np.full(n, seconds / max(n, 1)))
