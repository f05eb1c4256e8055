"""Every error the package raises on purpose.

    BiSupervisedError
    ├── PredictionRejected      no level could be trusted, and the fallback is to raise
    ├── InputError              what the caller handed in cannot be used   (also a ValueError)
    │   ├── TableError          rows or columns of the one table
    │   ├── TensorError         a tensor, or a message of the Open Inference Protocol
    │   ├── EvidenceError       a model output lacks, or breaks, what a quantifier needs
    │   └── ThresholdError      a threshold that is no number, or a thresholds file that does not fit
    ├── InfeasibleTarget        calibration: no threshold reaches the target
    ├── ConfigError             a configuration file that cannot be used   (also a ValueError)
    ├── BudgetExhausted         the day's budget does not allow another paid call
    ├── MissingExtra            an optional dependency is not installed    (also an ImportError)
    ├── ModelError              a model gave no usable output
    │   ├── ModelTimeout        it did not answer in time
    │   ├── ModelUnreachable    refused, reset, name not found: nothing came back
    │   │   └── CircuitOpen     it failed several times in a row and is left alone for a while
    │   ├── ModelBusy           as many calls run and wait already as may
    │   ├── ModelStatusError    it answered with an error status (`status`, `retry_after_s`)
    │   └── ReplyUnreadable     it answered, and the answer is not what was agreed
    └── LogError                the decision log could not store or read
        ├── LogFull             the disk under it is full
        ├── UnknownOutcome      it holds no outcome of this id
        └── LogSchemaError      written by a newer version, or not a decision log

Messages say what to do next. Foreign exceptions are mapped to these at the boundary where they appear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from bisupervised.records import Outcome


class BiSupervisedError(Exception):
    """Base of every error of this package."""


class PredictionRejected(BiSupervisedError):  # noqa: N818 - the paper's word, and what a user catches
    """No prediction could be trusted. `outcome` holds both verdicts and the reason."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(
            f"prediction rejected ({outcome.reason}): local confidence {outcome.local_confidence:.4g}, "
            f"remote confidence {outcome.remote_confidence:.4g}. Give the system a fallback to answer anyway."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.outcome,))


class InputError(BiSupervisedError, ValueError):
    """What the caller handed in cannot be used."""


class TableError(InputError):
    """Rows or columns of the one table are missing, repeated or of the wrong kind."""


class TensorError(InputError):
    """A tensor, or a request or response of the Open Inference Protocol, that cannot be read or written."""


class EvidenceError(InputError):
    """A model output lacks what a quantifier needs, or breaks its contract."""


class ThresholdError(InputError):
    """A threshold is not a number, or a thresholds file does not fit the system."""


class InfeasibleTarget(BiSupervisedError):  # noqa: N818 - the glossary's word
    """No threshold reaches the target on the given rows."""


class ConfigError(BiSupervisedError, ValueError):
    """A configuration file cannot be used."""


class BudgetExhausted(BiSupervisedError):  # noqa: N818 - reads as what it is
    """What is spent and set aside leaves too little of a day's budget for one more paid call."""

    def __init__(self, scope: str, cap: float, resets_in_s: float) -> None:
        self.scope = scope
        self.cap = cap  #: currency units for each UTC day
        self.resets_in_s = resets_in_s  #: seconds until the next UTC day
        hint = ""
        if resets_in_s > _DAY_S:
            hint = "; the log has seen a later day than the clock shows: was the clock wrong then, or is it now?"
        super().__init__(
            f"the budget {scope!r} of {cap:g} a day leaves too little for another call; it is renewed in "
            f"{resets_in_s / 3600:.1f} h{hint}. Raise daily_budget, or set a lower max_tokens: what a call may cost "
            f"at most is set aside before it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.scope, self.cap, self.resets_in_s))


_DAY_S = 86_400


class MissingExtra(BiSupervisedError, ImportError):  # noqa: N818 - reads as what it is
    """An optional dependency is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        self._made_of = (library, extra)
        super().__init__(f"this needs {library}, which is not installed: pip install 'bisupervised[{extra}]'")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._made_of)


class ModelError(BiSupervisedError):
    """A model gave no usable output. `kind` is the stable name stored in logs and tables."""

    kind: ClassVar[str] = "failed"


class ModelTimeout(ModelError):  # noqa: N818 - the standard term
    """The model did not answer in time."""

    kind = "timeout"


class ModelUnreachable(ModelError):  # noqa: N818 - the standard term
    """Nothing came back: refused, reset, or the name is unknown."""

    kind = "unreachable"


class CircuitOpen(ModelUnreachable):
    """It failed several times in a row, and is left alone for a while."""

    kind = "circuit_open"


class ModelBusy(ModelError):  # noqa: N818 - reads as what it is
    """As many calls run and wait already as may."""

    kind = "busy"


class ModelStatusError(ModelError):
    """The endpoint answered with an error status."""

    kind = "status"

    def __init__(self, message: str, *, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        #: Seconds the endpoint asked to wait before another try; None when it did not say.
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return (_status_error, (str(self), self.status, self.retry_after_s))


def _status_error(message: str, status: int, retry_after_s: float | None) -> ModelStatusError:
    return ModelStatusError(message, status=status, retry_after_s=retry_after_s)


class ReplyUnreadable(ModelError):  # noqa: N818 - the paper's word
    """The endpoint answered, and the answer is not what was agreed."""

    kind = "unreadable"


class LogError(BiSupervisedError):
    """The decision log could not store or read."""


class LogFull(LogError):  # noqa: N818 - reads as what it is
    """The disk under the decision log is full."""


class UnknownOutcome(LogError):  # noqa: N818 - reads as what it is
    """The log holds no outcome of this id."""


class LogSchemaError(LogError):
    """The file was written by a newer version, or is not a decision log."""
