"""What happens on REJECTED: raise, a default, the local answer marked as untrusted, a function, or a queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from bisupervised.errors import InputError, PredictionRejected
from bisupervised.records import Outcome, Reason


@runtime_checkable
class Fallback(Protocol):
    """Gives the answer to a rejected input, or raises. `name` is what the outcome and the log say was done."""

    @property
    def name(self) -> str: ...

    def __call__(self, x: Any, outcome: Outcome) -> Any: ...


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise `PredictionRejected`; in a batch, mark the row and go on (see `Outcomes.raise_for_rejected`)."""

    name: ClassVar[str] = "raise"

    def __call__(self, x: Any, outcome: Outcome) -> Any:
        raise PredictionRejected(outcome)


@dataclass(frozen=True, slots=True)
class Default:
    """Answer with a fixed value."""

    answer: Any
    name: ClassVar[str] = "default"

    def __call__(self, x: Any, outcome: Outcome) -> Any:
        return self.answer


@dataclass(frozen=True, slots=True)
class LocalUntrusted:
    """Answer with the local prediction that was not trusted: what is at hand when the remote model is not.

    The outcome stays REJECTED and names this fallback, so nobody takes the answer for a trusted one. An input on
    which the local model failed has no such answer: then `PredictionRejected` is raised.
    """

    name: ClassVar[str] = "local_untrusted"

    def __call__(self, x: Any, outcome: Outcome) -> Any:
        if outcome.local_error is not None or outcome.local_prediction is None:
            raise PredictionRejected(outcome)
        return outcome.local_prediction


@dataclass(frozen=True, slots=True)
class Call:
    """Answer with `function(x, outcome)`; it may be a coroutine function, or raise."""

    function: Callable[[Any, Outcome], Any]
    name: ClassVar[str] = "call"

    def __call__(self, x: Any, outcome: Outcome) -> Any:
        return self.function(x, outcome)


@dataclass(frozen=True, slots=True)
class Pending:
    """An input that waits for an answer under the id of its outcome."""

    id: str
    x: Any
    outcome: Outcome


class Queue(Protocol):
    """Where pending inputs wait: `queue.Queue`, `bisupervised.decision_log.PendingInputs`, or your own."""

    def put(self, item: Pending, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hand the input to a queue: to a person, or to be asked again when the remote model is back.

    With `only_failures=True` only inputs whose remote call failed are queued, and `otherwise` settles those
    that the remote model answered but the supervisor did not trust.
    """

    queue: Queue
    only_failures: bool = False
    otherwise: Fallback = Raise()
    name: ClassVar[str] = "queue"

    def __post_init__(self) -> None:
        object.__setattr__(self, "otherwise", as_fallback(self.otherwise))

    def settle_with(self, outcome: Outcome) -> Fallback:
        """The fallback that this outcome takes: this one, or `otherwise`."""
        return self.otherwise if self.only_failures and outcome.reason is not Reason.FAILED else self

    def __call__(self, x: Any, outcome: Outcome) -> Any:
        put = self.queue.put(Pending(outcome.id, x, outcome))
        return put if hasattr(put, "__await__") else None


AnyFallback: TypeAlias = Fallback | Callable[[Any, Outcome], Any]


def as_fallback(fallback: AnyFallback) -> Fallback:
    """A plain function becomes `Call(function)`."""
    if isinstance(fallback, type):
        raise InputError(
            f"a fallback is made by calling its class: {fallback.__name__}(...), not {fallback.__name__}"
        )
    if isinstance(fallback, Fallback):
        return fallback
    if callable(fallback):
        return Call(fallback)
    raise InputError(
        f"a fallback is Raise(), Default(answer), Call(function), HandOver(queue) or a function "
        f"(x, outcome) -> answer, not {fallback!r}"
    )
