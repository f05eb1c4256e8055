"""A model that is a Python function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bisupervised.models.outputs import empty_output, output_from_result
from bisupervised.records import Evidence, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class FunctionModel:
    """Wraps `function(inputs)`, plain or a coroutine function.

    The function takes a list of n > 0 inputs and returns one of: class probabilities (n, classes); a pair
    (predictions, confidences) of length n each; or a `ModelOutput`. With probabilities, the prediction is the
    entry of `classes` (default: 0, 1, …) with the largest one, the first at ties.

    >>> model = FunctionModel(lambda texts: [[0.9, 0.1] for _ in texts], classes=["ham", "spam"])
    >>> model.predict(["hello"]).predictions
    array(['ham'], dtype='<U4')
    """

    function: Callable[[Sequence[Any]], Any]
    classes: Sequence[Any] | None = None
    name: str = "function"
    max_batch: int | None = None
    provides: frozenset[Evidence] = frozenset(Evidence)

    def predict(self, inputs: Sequence[Any]) -> ModelOutput | Awaitable[ModelOutput]:
        if len(inputs) == 0:  # few functions expect that
            return empty_output(self.provides, self.classes)
        result = self.function(inputs)
        return self._later(result, len(inputs)) if inspect.isawaitable(result) else self._read(result, len(inputs))

    async def _later(self, result: Awaitable[Any], n: int) -> ModelOutput:
        return self._read(await result, n)

    def _read(self, result: Any, n: int) -> ModelOutput:
        return output_from_result(result, n, self.classes, model=self.name)
