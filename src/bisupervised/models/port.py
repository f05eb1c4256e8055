"""The port: a model turns a batch of inputs into one model output.

In-process models answer at once, network models return an awaitable; the drivers of the cascade adapt. A model
raises a `ModelError` when it has no usable output, or marks single rows in `ModelOutput.failures`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, runtime_checkable

from bisupervised.records import Evidence, ModelOutput


@runtime_checkable
class Model(Protocol):
    """A local or a remote model."""

    @property
    def name(self) -> str:
        """How reports and logs call it."""

    @property
    def provides(self) -> frozenset[Evidence]:
        """The evidence that its outputs really hold; a supervisor that needs other evidence is refused."""

    @property
    def max_batch(self) -> int | None:
        """The most inputs that one call may hold; None: any number. Network models usually say 1."""

    def predict(self, inputs: Sequence[Any]) -> ModelOutput | Awaitable[ModelOutput]:
        """The output for n inputs, one row each, in their order."""
