"""A circuit breaker: an endpoint that fails again and again is left alone for a while, and fails at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from bisupervised.errors import (
    CircuitOpen,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.models.port import Model
from bisupervised.models.wrapper import Wrapper
from bisupervised.records import ModelOutput


def is_outage(error: ModelError) -> bool:
    """Whether an error says that the upstream is down, rather than that it did not like a request.

    >>> is_outage(ModelStatusError("", status=503)), is_outage(ModelStatusError("", status=429))
    (True, False)
    """
    if isinstance(error, ModelStatusError):
        return error.status >= 500
    return isinstance(error, ModelTimeout | ModelUnreachable | ReplyUnreadable)


class Breaker:
    """Closed: calls go through. After `failures` outages in a row it opens, and for `reset_s` every call fails at
    once; then one call tries (half-open), and its end closes the breaker or opens it again.

    Times are monotonic seconds: a clock that is set back changes nothing.
    """

    def __init__(self, name: str, failures: int, reset_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._name = name
        self._failures = failures
        self._reset_s = reset_s
        self._clock = clock
        self._in_a_row = 0
        self._open_until: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once now."""
        return self._open_until is not None and (self._trying or self._clock() < self._open_until)

    def enter(self) -> None:
        """Before a call. Raises `CircuitOpen`."""
        if self._open_until is None:
            return
        wait_s = self._open_until - self._clock()
        if wait_s > 0 or self._trying:
            again = f"tried again in {wait_s:.1f} s" if wait_s > 0 else "being tried now"
            raise CircuitOpen(f"{self._name} failed {self._in_a_row} times in a row; it is {again}")
        self._trying = True

    def begun(self) -> None:
        """The reply to a call that was let in has begun well: others may go on. How it ends counts, by `leave`."""
        self._trying = False
        self._open_until = None

    def leave(self, error: BaseException | None) -> None:
        """After a call that was let in, with what it raised."""
        trying, self._trying = self._trying, False
        if error is None or (isinstance(error, ModelError) and not is_outage(error)):
            self._in_a_row = 0
            self._open_until = None
        elif isinstance(error, ModelError):
            self._in_a_row += 1
            if trying or self._in_a_row >= self._failures:
                self._open_until = self._clock() + self._reset_s
        # A call that was cancelled says nothing about the upstream.


class CircuitBreaker(Wrapper):
    """A model behind a breaker. Around `Retry`, one call of it is all its attempts; inside, each counts."""

    def __init__(self, model: Model, failures: int = 5, reset_s: float = 10.0) -> None:
        super().__init__(model)
        self.breaker = Breaker(model.name, failures, reset_s)

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        self.breaker.enter()
        error: BaseException | None = None
        try:
            return self._ask_now(inputs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.breaker.leave(error)

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        self.breaker.enter()
        error: BaseException | None = None
        try:
            return await self._ask_later(inputs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.breaker.leave(error)
