"""A bound on how long a model may take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bisupervised.errors import InputError, ModelTimeout
from bisupervised.models.port import Model
from bisupervised.models.wrapper import Wrapper
from bisupervised.records import ModelOutput


class Timeout(Wrapper):
    """Cancels a call after `seconds` and raises `ModelTimeout`.

    `Timeout(Retry(model), 5)` bounds all attempts together, `Retry(Timeout(model, 5))` each of them; around
    `Concurrency`, waiting for a free slot counts. Only for asynchronous models: a running function cannot be
    stopped, and giving up on it would leave it at work, so an in-process model is refused with `InputError`.
    """

    def __init__(self, model: Model, seconds: float) -> None:
        super().__init__(model)
        if not seconds > 0:
            raise InputError(f"seconds must be above 0, not {seconds}")
        if not self._later:
            raise InputError(
                f"{model.name} answers in-process, and Python cannot stop a running function: a timeout would only "
                f"pretend. Bound its work instead, or serve it behind HTTP; if it is asynchronous, declare its "
                f"predict `async def`"
            )
        self.seconds = seconds

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        try:
            async with asyncio.timeout(self.seconds) as limit:
                return await self._ask_later(inputs)
        except TimeoutError as error:
            if not limit.expired():  # the model's own
                raise
            raise ModelTimeout(f"{self.name} did not answer within {self.seconds:g} s") from error

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        raise AssertionError("refused when it was made")
