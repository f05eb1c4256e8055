"""Another try after a failure that may pass: with backoff and jitter, by the stamina library."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from bisupervised.errors import InputError, MissingExtra, ModelStatusError, ModelTimeout, ModelUnreachable
from bisupervised.models.port import Model
from bisupervised.models.wrapper import Wrapper
from bisupervised.records import ModelOutput

#: Request timeout, conflict, too early, too many requests: the 4xx that may pass by themselves.
_PASSING = {408, 409, 425, 429}


def may_pass(error: Exception) -> bool:
    """Whether another try may help: timeouts, unreachable endpoints, and the statuses 408, 409, 425, 429, 5xx.

    >>> may_pass(ModelStatusError("overloaded", status=529)), may_pass(ModelStatusError("no key", status=401))
    (True, False)
    """
    if isinstance(error, ModelStatusError):
        return error.status in _PASSING or error.status >= 500
    return isinstance(error, ModelTimeout | ModelUnreachable)


class Retry(Wrapper):
    """Asks again, up to `attempts` times in all, when the failure `may_pass`; the last one is raised.

    The wait doubles from `wait_initial_s` to at most `wait_max_s`, plus up to `wait_jitter_s` at random. An
    endpoint's Retry-After is honoured instead, however long, unless the next attempt would then begin later than
    `timeout_s` after the first: then the failure is raised at once. No attempt begins after `timeout_s`; a
    running one is not cut short (`Timeout` does that).

    Latency holds all attempts and the waits between them. The cost is the last attempt's; after an attempt that
    timed out it is NaN, since that one may have been charged.
    """

    def __init__(
        self,
        model: Model,
        attempts: int = 3,
        *,
        timeout_s: float = 45.0,
        wait_initial_s: float = 0.1,
        wait_max_s: float = 5.0,
        wait_jitter_s: float = 1.0,
    ) -> None:
        super().__init__(model)
        if attempts < 1:
            raise InputError(f"attempts must be at least 1, not {attempts}")
        if not timeout_s > 0:
            raise InputError(f"timeout_s must be above 0, not {timeout_s}")
        if min(wait_initial_s, wait_max_s, wait_jitter_s) < 0:
            raise InputError("waits must be 0 or above")
        try:
            import stamina
        except ImportError as error:
            raise MissingExtra("stamina", "http") from error
        self._context = stamina.retry_context
        self.attempts = attempts
        self.timeout_s = timeout_s
        self._jitter_s = wait_jitter_s
        self._settings: dict[str, Any] = {
            "attempts": attempts,
            "timeout": timeout_s,
            "wait_initial": wait_initial_s,
            "wait_max": wait_max_s,
            "wait_jitter": wait_jitter_s,
        }

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        tries = _Tries(self)
        for attempt in self._context(on=tries.wait_before_next, **self._settings):
            with attempt:
                tries.begin()
                return tries.accounted(self._ask_now(inputs))
        raise AssertionError("stamina raises the last error")

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        tries = _Tries(self)
        async for attempt in self._context(on=tries.wait_before_next, **self._settings):
            with attempt:
                tries.begin()
                return tries.accounted(await self._ask_later(inputs))
        raise AssertionError("stamina raises the last error")


class _Tries:
    """The attempts of one call: whether and when to go on, and what they took."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._begun: list[float] = []
        self._timed_out = False

    def begin(self) -> None:
        self._begun.append(perf_counter())

    def wait_before_next(self, error: Exception) -> bool | float:
        """stamina's backoff hook: False to give up, True for its own backoff, or seconds to wait."""
        if not may_pass(error):
            return False
        self._timed_out |= isinstance(error, ModelTimeout)
        asked = error.retry_after_s if isinstance(error, ModelStatusError) else None
        if asked is None:
            return True
        if perf_counter() - self._begun[0] + asked > self._retry.timeout_s:
            return False
        # Everyone was told the same moment: spread out.
        return asked + random.uniform(0.0, self._retry._jitter_s)

    def accounted(self, output: ModelOutput) -> ModelOutput:
        """The output with the latency of the failed attempts and the waits, and what is known of the cost."""
        if len(self._begun) > 1 and output.latency_s is not None:
            before_s = self._begun[-1] - self._begun[0]
            output = replace(output, latency_s=output.latency_s + before_s / max(len(output), 1))
        if self._timed_out and output.cost is not None:
            output = replace(output, cost=np.full(len(output), np.nan))
        return output
