"""The thresholds of both levels as one rule (see `bisupervised.decision`), replayed on recorded rows.

The one place that calibration counts by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisupervised.decision import accept, check_threshold, first_level
from bisupervised.errors import InputError
from bisupervised.records import AnyArray, BoolArray, FloatArray

_BLOCK = 2_000_000  #: cells of the boolean tables that are held at a time


@dataclass(frozen=True, slots=True)
class Rule:
    """The thresholds of both levels. `abstain = -inf` never abstains early; `remote = -inf` accepts every remote
    prediction that has a confidence."""

    local: float
    remote: float
    abstain: float = -math.inf

    def __post_init__(self) -> None:
        for name in ("local", "remote", "abstain"):
            object.__setattr__(self, name, check_threshold(getattr(self, name), f"{name} threshold"))


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationRows:
    """n labelled inputs about which both models were asked.

    The remote columns are of what is answered after a request: the remote prediction, or what arbitration makes of
    both. Confidences may be learned ones, cross-fitted: no row may have been fitted on.
    """

    local_confidence: FloatArray  #: (n,) NaN: no evidence
    local_loss: FloatArray  #: (n,) in [0, 1]: 0 correct, 1 wrong
    remote_confidence: FloatArray  #: (n,) NaN: no evidence, or failed
    remote_loss: FloatArray  #: (n,) in [0, 1]

    @classmethod
    def of(
        cls, local_confidence: Any, local_correct: Any, remote_confidence: Any, remote_correct: Any
    ) -> CalibrationRows:
        """Rows from confidences and correctness (booleans, or grades in [0, 1]). Raises `InputError` when lengths
        differ, when there are no rows, or when a grade is not known or out of range."""
        confidences = [np.asarray(one, dtype=np.float64) for one in (local_confidence, remote_confidence)]
        losses = [1.0 - np.asarray(one, dtype=np.float64) for one in (local_correct, remote_correct)]
        shapes = {one.shape for one in (*confidences, *losses)}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1 or not len(confidences[0]):
            raise InputError(f"the four columns are (n,) arrays of one length, at least one row; got {shapes}")
        if not all(bool(((one >= 0.0) & (one <= 1.0)).all()) for one in losses):
            raise InputError("correctness is 0, 1 or a grade between, and known for every row: leave the others out")
        return cls(confidences[0], losses[0], confidences[1], losses[1])

    def __len__(self) -> int:
        return len(self.local_confidence)

    def take(self, rows: AnyArray | slice) -> CalibrationRows:
        """The given rows (indices, a mask or a slice), in that order."""
        columns = (self.local_confidence, self.local_loss, self.remote_confidence, self.remote_loss)
        return CalibrationRows(*(column[rows] for column in columns))

    @property
    def whole(self) -> bool:
        """Whether every loss is 0 or 1, so that sums of losses are binomial counts."""
        return all(bool(((one == 0.0) | (one == 1.0)).all()) for one in (self.local_loss, self.remote_loss))


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What rules do on n inputs. Fields are numbers for one rule, arrays for many."""

    n: int
    accepted: Any  #: inputs answered by a trusted model
    loss: Any  #: sum of the losses of those answers: their errors, where losses are 0 or 1
    requests: Any  #: inputs the remote model was asked about
    early: Any  #: inputs rejected without a request

    @property
    def coverage(self) -> Any:
        return self.accepted / self.n

    @property
    def request_rate(self) -> Any:
        return self.requests / self.n

    @property
    def abstention(self) -> Any:
        """Share of inputs rejected, early or late."""
        return (self.n - self.accepted) / self.n

    @property
    def risk(self) -> Any:
        """Mean loss of the accepted answers; NaN where there is none."""
        accepted = np.asarray(self.accepted)
        risk = np.asarray(self.loss) / np.where(accepted > 0, accepted, np.nan)
        return float(risk) if risk.ndim == 0 else risk

    @property
    def supervised_accuracy(self) -> Any:
        return 1.0 - self.risk


def replay(rows: CalibrationRows, local: Any, remote: Any, abstain: Any = -math.inf) -> Counts:
    """Counts of k rules on n rows, O(k n): the thresholds are (k,) arrays, or numbers that all rules share."""
    local, remote, abstain = np.broadcast_arrays(*(np.atleast_1d(one) for one in (local, remote, abstain)))
    first, second, third = (one[:, None] for one in (local, remote, abstain))
    k, n = len(local), len(rows)
    sums = np.zeros((4, k))
    block = max(1, _BLOCK // k)
    for start in range(0, n, block):
        part = rows.take(slice(start, start + block))
        accepted, deferred = first_level(part.local_confidence[None, :], first, third)
        trusted = accept(part.remote_confidence[None, :], second) & deferred
        sums[0] += np.count_nonzero(accepted, axis=1) + np.count_nonzero(trusted, axis=1)
        sums[1] += accepted @ part.local_loss + trusted @ part.remote_loss
        sums[2] += np.count_nonzero(deferred, axis=1)
        sums[3] += np.count_nonzero(accepted | deferred, axis=1)
    accepted_n, requests, seen = (sums[row].astype(np.int64) for row in (0, 2, 3))
    return Counts(n, accepted_n, sums[1], requests, n - seen)


def losses_of(
    rows: CalibrationRows, local: Any, remote: Any, abstain: Any = -math.inf
) -> tuple[BoolArray, BoolArray, FloatArray]:
    """(accepted, deferred, loss), each (k, n), of k rules: what `replay` adds up. The loss is 0 where nothing is
    accepted."""
    first, second, third = (np.atleast_1d(one)[:, None] for one in (local, remote, abstain))
    at_first, deferred = first_level(rows.local_confidence[None, :], first, third)
    trusted = accept(rows.remote_confidence[None, :], second) & deferred
    return at_first | trusted, deferred, at_first * rows.local_loss + trusted * rows.remote_loss


def figures_of(rows: CalibrationRows, rule: Rule) -> Counts:
    """Counts of one rule, as plain numbers.

    >>> rows = CalibrationRows.of([0.9, 0.5, 0.1], [True, False, False], [0.2, 0.7, 0.9], [True, True, False])
    >>> counts = figures_of(rows, Rule(local=0.8, remote=0.6, abstain=0.3))
    >>> counts.coverage, counts.risk, counts.request_rate, counts.early
    (0.6666666666666666, 0.0, 0.3333333333333333, 1)
    """
    many = replay(rows, rule.local, rule.remote, rule.abstain)
    return Counts(many.n, int(many.accepted[0]), float(many.loss[0]), int(many.requests[0]), int(many.early[0]))
