"""A model that is a Python function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisupervised.errors import ReplyUnreadable
from bisupervised.models.outputs import as_column, output_from_probabilities
from bisupervised.records import Evidence, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class FunctionModel:
    """Wraps `function(inputs)`, plain or a coroutine function.

    The function takes a list of n inputs and returns one of: class probabilities (n, classes); a pair
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
        result = self.function(inputs)
        return self._later(result, len(inputs)) if inspect.isawaitable(result) else self._read(result, len(inputs))

    async def _later(self, result: Awaitable[Any], n: int) -> ModelOutput:
        return self._read(await result, n)

    def _read(self, result: Any, n: int) -> ModelOutput:
        if isinstance(result, ModelOutput):
            output = result
        elif isinstance(result, tuple) and len(result) == 2:
            predictions, confidences = result
            output = ModelOutput(
                as_column(predictions), confidences=np.asarray(confidences, dtype=np.float64).reshape(-1)
            )
            if len(confidences) != len(predictions):
                raise ReplyUnreadable(
                    f"{self.name} gave {len(predictions)} predictions and {len(confidences)} confidences"
                )
        else:
            output = output_from_probabilities(result, self.classes, model=self.name)
        if len(output) != n:
            raise ReplyUnreadable(f"{self.name} was given {n} inputs and answered {len(output)}")
        return output
