"""What travels between the stations: frozen and columnar. A batch of one is a request.

Arrays have one entry per input. Latency is in seconds, cost in currency units; NaN means *not known*,
and None for a whole column means that nobody measured it. Confidence is higher for more trusted; a NaN
confidence is the absence of evidence and is never accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bisupervised.errors import PredictionRejected

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
RouteArray: TypeAlias = NDArray[np.uint8]
AnyArray: TypeAlias = NDArray[Any]


class LevelName(StrEnum):
    """The two levels, in the order in which an input meets them."""

    LOCAL = "local"
    REMOTE = "remote"


class Route(IntEnum):
    """Where the answer came from. LOCAL with a remote request is what arbitration chose."""

    LOCAL = 0
    REMOTE = 1
    REJECTED = 2

    @property
    def label(self) -> str:
        """The route's name in tables, JSON and headers: `local`, `remote` or `rejected`."""
        return self.name.lower()


class Reason(StrEnum):
    """Why a level's prediction was trusted or not."""

    TRUSTED = "trusted"
    NOT_TRUSTED = "not_trusted"  #: confidence below the threshold
    ABSTAINED = "abstained"  #: local confidence below the abstention threshold: the remote model was not asked
    NO_EVIDENCE = "no_evidence"  #: confidence is NaN: nothing to judge by
    FAILED = "failed"  #: the model gave no usable output
    CANCELLED = "cancelled"  #: the caller went away before there was an answer
    NOT_ASKED = "not_asked"  #: the other level answered, or a rule or the client kept this one from being asked


class Evidence(StrEnum):
    """What a model output may hold for a quantifier to read."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    FEATURES = "features"
    SAMPLED_PROBABILITIES = "sampled_probabilities"
    TOKEN_LOGPROBS = "token_logprobs"
    TOKEN_ALTERNATIVES = "token_alternatives"
    TOP_LOGPROBS = "top_logprobs"
    TEXT = "text"
    CONFIDENCE = "confidence"
    SAMPLES = "samples"
    P_TRUE = "p_true"


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is none: `kind` is one of `ModelError`'s kinds, `message` says what happened."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """What a model said about n inputs: predictions, and the evidence a quantifier may need.

    A row that failed stands in `failures`; its prediction is None (or anything: nobody reads it).
    """

    predictions: AnyArray  #: (n,) any dtype
    probabilities: FloatArray | None = None  #: (n, classes), each row sums to 1
    classes: AnyArray | None = None  #: (classes,) the label of each column of `probabilities` and of `logits`
    logits: AnyArray | None = None  #: (n, classes) before softmax, any floating type
    features: AnyArray | None = None  #: (n, d) any floating type: an inner layer's activations, or the input itself
    #: (n, samples, classes), each row of classes sums to 1: what several passes of the model say, by dropout or by
    #: the members of an ensemble
    sampled_probabilities: AnyArray | None = None
    token_logprobs: Sequence[FloatArray] | None = None  #: n arrays (tokens,), natural logarithms
    #: n arrays (tokens, k): the natural log-probabilities of the likeliest alternatives at each token of the answer,
    #: the written one among them, in any order; NaN where there are fewer than k
    token_alternatives: Sequence[FloatArray] | None = None
    #: n mappings token -> natural log-probability: the alternatives at the answer's first token
    top_logprobs: Sequence[Mapping[str, float]] | None = None
    texts: Sequence[str | None] | None = None  #: n replies as they were written, before anything was read from them
    confidences: FloatArray | None = None  #: (n,) as the back end itself, or a recording, gives it
    #: n sequences of further answers to the same input, drawn at random, each read as the prediction was; None
    #: among them is one that failed or could not be read. An empty sequence: none were drawn
    samples: Sequence[Sequence[Any]] | None = None
    sample_logprobs: Sequence[FloatArray] | None = None  #: n arrays (samples,): sums over each sample's tokens
    sample_lengths: Sequence[FloatArray] | None = None  #: n arrays (samples,): tokens of each sample
    p_true: FloatArray | None = None  #: (n,) in [0, 1]: how likely the model itself holds its answer for true
    latency_s: FloatArray | None = None  #: (n,) None: the driver measures it
    cost: FloatArray | None = None  #: (n,) None: not known
    prompt_tokens: FloatArray | None = None  #: (n,)
    completion_tokens: FloatArray | None = None  #: (n,)
    extra_calls: FloatArray | None = None  #: (n,) model calls beyond the first, for evidence; None: 0
    failures: Mapping[int, Failure] = field(default_factory=dict)  #: row -> why it has no output

    def __len__(self) -> int:
        return len(self.predictions)

    @classmethod
    def failed(cls, n: int, failure: Failure, *, latency_s: float | None = None) -> ModelOutput:
        """The output of a call that failed for all its n inputs."""
        return cls(
            predictions=np.full(n, None, dtype=object),
            latency_s=None if latency_s is None else np.full(n, latency_s),
            failures=dict.fromkeys(range(n), failure),
        )


#: The columns with an array of one shape for each row. Those by class come first.
_ARRAYS = ("probabilities", "logits", "sampled_probabilities", "features")
_FLOATS = ("confidences", "p_true", "latency_s", "cost", "prompt_tokens", "completion_tokens")
#: The columns with a sequence or a mapping for each row, and what stands for an empty one.
_RAGGED: Mapping[str, Callable[[], Any]] = {
    "token_logprobs": lambda: np.empty(0),
    "token_alternatives": lambda: np.empty((0, 0)),
    "top_logprobs": dict,
    "texts": lambda: None,
    "samples": tuple,
    "sample_logprobs": lambda: np.empty(0),
    "sample_lengths": lambda: np.empty(0),
}


def take_outputs(output: ModelOutput, rows: IntArray) -> ModelOutput:
    """The given rows of a model output, in that order."""

    def pick(column: Any) -> Any:
        if column is None:
            return None
        return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]

    columns = {f.name: pick(getattr(output, f.name)) for f in fields(output) if f.name not in ("classes", "failures")}
    failures = {}
    if output.failures:
        failures = {new: output.failures[old] for new, old in enumerate(rows.tolist()) if old in output.failures}
    return ModelOutput(**columns, classes=output.classes, failures=failures)


def concatenate_outputs(parts: Sequence[ModelOutput]) -> ModelOutput:
    """Join the outputs of several calls into one, in their order.

    A column that only some parts have is NaN (or an empty mapping, an empty array; for `extra_calls` 0) for the
    others: a call that failed has no evidence. Every part that has class probabilities, logits, features or sampled
    probabilities needs the same classes and the same number of columns; `ValueError` otherwise.
    """
    if len(parts) < 2:
        return parts[0] if parts else ModelOutput(np.empty(0, dtype=object))
    failures: dict[int, Failure] = {}
    start = 0
    for part in parts:
        failures.update({start + row: failure for row, failure in part.failures.items()})
        start += len(part)
    columns: dict[str, Any] = {
        name: _join_ragged([(getattr(p, name), len(p)) for p in parts], empty) for name, empty in _RAGGED.items()
    }
    columns |= {name: _join_floats([(getattr(p, name), len(p)) for p in parts]) for name in _FLOATS}
    columns |= {name: _join_arrays([(getattr(p, name), len(p)) for p in parts], name) for name in _ARRAYS}
    return ModelOutput(
        predictions=_join_predictions([part.predictions for part in parts]),
        classes=_same_classes(parts),
        extra_calls=_join_floats([(p.extra_calls, len(p)) for p in parts], missing=0.0),
        failures=failures,
        **columns,
    )


def _join_predictions(columns: Sequence[AnyArray]) -> AnyArray:
    if len({column.dtype.kind for column in columns}) == 1:
        return np.concatenate(columns)
    # Mixed kinds (a failed call's None among labels) must not be turned into strings.
    return np.concatenate([column.astype(object) for column in columns])


def _join_floats(columns: Sequence[tuple[FloatArray | None, int]], missing: float = np.nan) -> FloatArray | None:
    if all(column is None for column, _ in columns):
        return None
    return np.concatenate([np.full(n, missing) if column is None else column for column, n in columns])


def _same_classes(parts: Sequence[ModelOutput]) -> AnyArray | None:
    labelled = [(classes, len(part)) for part in parts if (classes := part.classes) is not None]
    # A part without rows may not know its classes.
    given = [classes for classes, n in labelled if n] or [classes for classes, _ in labelled]
    if any(not np.array_equal(classes, given[0]) for classes in given[1:]):
        raise ValueError("the parts of one model output have different classes")
    return given[0] if given else None


def _join_arrays(columns: Sequence[tuple[AnyArray | None, int]], name: str) -> AnyArray | None:
    given = [column for column, n in columns if column is not None]
    if not given:
        return None
    shapes = {column.shape[1:] for column in given if len(column)} or {given[0].shape[1:]}
    if len(shapes) > 1:
        what = "features of different widths" if name == "features" else f"different classes, or samples ({name})"
        raise ValueError(f"the parts of one model output have {what}")
    shape, dtype = shapes.pop(), np.result_type(np.float16, *given)
    # A part without rows says nothing about the shape.
    return np.concatenate(
        [np.full((n, *shape), np.nan, dtype) if column is None or not n else column for column, n in columns]
    )


def _join_ragged(columns: Sequence[tuple[Sequence[Any] | None, int]], empty: Any) -> list[Any] | None:
    if all(column is None for column, _ in columns):
        return None
    joined: list[Any] = []
    for column, n in columns:
        joined.extend([empty() for _ in range(n)] if column is None else column)
    return joined


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """A supervisor's result on n predictions."""

    confidences: FloatArray  #: (n,) NaN: no evidence
    accepted: BoolArray  #: (n,) confidence >= threshold
    threshold: float
    failures: Mapping[int, Failure] = field(default_factory=dict)
    #: (n,) of the 1st level: rejected without asking the remote model; None: nowhere
    abstained: BoolArray | None = None
    #: (n,) of the 2nd level: the answer, if it is accepted, is the local prediction (arbitration); None: nowhere
    local_preferred: BoolArray | None = None
    #: (n,) of a learned supervisor, compared with the threshold in the place of `confidences`; None: there is none
    learned: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.confidences)

    @property
    def compared(self) -> FloatArray:
        """(n,) what was compared with the threshold."""
        return self.confidences if self.learned is None else self.learned

    @property
    def deferred(self) -> BoolArray:
        """(n,) of the 1st level: neither accepted nor abstained on."""
        return ~self.accepted if self.abstained is None else ~(self.accepted | self.abstained)

    def reason(self, row: int) -> Reason:
        """Why this prediction was trusted or not."""
        if self.accepted[row]:
            return Reason.TRUSTED
        if row in self.failures:
            return Reason.FAILED
        if self.abstained is not None and self.abstained[row]:
            return Reason.ABSTAINED
        return Reason.NO_EVIDENCE if np.isnan(self.compared[row]) else Reason.NOT_TRUSTED


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """What the 1st level made of the k inputs that the 2nd is asked about, for supervisors that read both levels."""

    output: ModelOutput  #: n rows, the deferred among them
    confidences: FloatArray  #: (n,)
    rows: IntArray  #: (k,) which of them are deferred, rising

    def taken(self) -> tuple[ModelOutput, FloatArray]:
        """The k deferred rows of both."""
        if len(self.rows) == len(self.output):
            return self.output, self.confidences
        return take_outputs(self.output, self.rows), self.confidences[self.rows]


@dataclass(frozen=True, slots=True, eq=False)
class BothLevels:
    """What both levels said about the same k inputs: all that a supervisor of the 2nd level may read."""

    local_output: ModelOutput  #: k rows
    local_confidences: FloatArray  #: (k,) NaN: no evidence, or failed
    remote_output: ModelOutput  #: k rows
    remote_confidences: FloatArray  #: (k,) NaN: no evidence, or failed


@dataclass(frozen=True, slots=True, eq=False)
class PairConfidences:
    """What a supervisor that has read both levels makes of k inputs."""

    confidences: FloatArray  #: (k,) of the prediction that would be the answer; NaN: never trusted
    #: (k,) where the local prediction is the better answer after all (arbitration); None: nowhere
    local_preferred: BoolArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What the heart decided on n inputs, k of which were deferred."""

    routes: RouteArray  #: (n,) values of `Route`
    local_output: ModelOutput  #: n rows
    local_verdicts: Verdicts  #: n rows
    local_supervisor_s: float  #: seconds per input
    deferred: IntArray  #: (k,) the inputs about which the remote model was asked, rising
    remote_output: ModelOutput | None = None  #: k rows; None when k = 0
    remote_verdicts: Verdicts | None = None  #: k rows
    remote_supervisor_s: float = 0.0  #: seconds per deferred input


@dataclass(frozen=True, slots=True, eq=False)
class LevelRows:
    """What one level did on n inputs; the `local_*` or `remote_*` columns of the one table."""

    predictions: AnyArray  #: (n,) None (or NaN) where there is none
    confidences: FloatArray  #: (n,) NaN: no evidence, failed, or not asked
    asked: BoolArray  #: (n,) whether the model was called for this input
    latency_s: FloatArray  #: (n,) NaN: not known
    supervisor_s: FloatArray  #: (n,) quantifier time; NaN: not known
    cost: FloatArray  #: (n,) NaN: not known; 0 where not asked
    errors: AnyArray  #: (n,) objects: None, or `kind: message` of a failure
    probabilities: FloatArray | None = None  #: (n, classes)
    classes: AnyArray | None = None  #: (classes,)
    token_logprobs: AnyArray | None = None  #: (n,) objects: None or an array (tokens,)
    logits: AnyArray | None = None  #: (n, classes) NaN: none. Large, and kept only where somebody asked for them
    features: AnyArray | None = None  #: (n, d) the same

    def __len__(self) -> int:
        return len(self.confidences)

    def take(self, rows: AnyArray) -> LevelRows:
        """The given rows (indices or a mask), in that order."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return LevelRows(**{k: v if v is None or k == "classes" else v[rows] for k, v in columns.items()})

    @classmethod
    def empty(cls, n: int) -> LevelRows:
        """n inputs for which the level was not asked."""
        return cls(
            predictions=np.full(n, None, dtype=object),
            confidences=np.full(n, np.nan),
            asked=np.zeros(n, dtype=np.bool_),
            latency_s=np.full(n, np.nan),
            supervisor_s=np.full(n, np.nan),
            cost=np.zeros(n),
            errors=np.full(n, None, dtype=object),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The system's result on one input: the answer, its route, and how it came about."""

    id: str
    answer: Any  #: a model's prediction, or the fallback's answer; None when there is none (see `answered`)
    route: Route
    reason: Reason  #: of the level that decided: trusted, or why it was not
    deferred_because: Reason | None  #: why the remote model was asked; None when it was not
    local_prediction: Any
    local_confidence: float
    local_latency_s: float
    local_supervisor_s: float
    local_cost: float
    local_error: str | None
    remote_requested: bool
    remote_prediction: Any  #: None when the remote model was not asked, or failed
    remote_confidence: float  #: NaN when the remote model was not asked, failed, or gave no evidence
    remote_latency_s: float
    remote_supervisor_s: float
    remote_cost: float
    remote_error: str | None
    fallback: str | None = None  #: `raise`, `default`, `call` or `queue` on REJECTED; None otherwise
    fallback_s: float = 0.0  #: seconds spent in the fallback
    fallback_error: str | None = None  #: what the fallback itself raised
    #: of what is answered after a request, by a supervisor that has read both levels; NaN: no request, or nothing to
    #: weigh; None: there is no such supervisor
    pair_confidence: float | None = None
    #: of the local prediction, by a learned supervisor of the 1st level; None: there is no such supervisor
    learned_confidence: float | None = None

    @property
    def answer_confidence(self) -> float:
        """The confidence that the last threshold was compared with."""
        if not self.remote_requested:
            return self.local_confidence if self.learned_confidence is None else self.learned_confidence
        return self.remote_confidence if self.pair_confidence is None else self.pair_confidence

    @property
    def answered(self) -> bool:
        """Whether the user of the system got an answer (a fallback's answer counts)."""
        return self.route is not Route.REJECTED or (
            self.fallback not in (None, "raise", "queue") and self.fallback_error is None
        )

    @property
    def latency_s(self) -> float:
        """Seconds from asking the local model to the answer: a deferred input pays both models."""
        total = self.local_latency_s + self.local_supervisor_s + self.fallback_s
        return total + self.remote_latency_s + self.remote_supervisor_s if self.remote_requested else total

    @property
    def cost(self) -> float:
        """Currency units spent on both levels; NaN when a part is not known."""
        return self.local_cost + (self.remote_cost if self.remote_requested else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The system's results on n inputs. Iterate or index for single `Outcome` records."""

    ids: Sequence[str]
    routes: RouteArray  #: (n,) values of `Route`
    answers: AnyArray  #: (n,) objects; None where there is no answer
    reasons: Sequence[Reason]  #: (n,)
    deferred_because: Sequence[Reason | None]  #: (n,)
    local: LevelRows
    remote: LevelRows
    fallbacks: Sequence[str | None]
    fallback_s: FloatArray  #: (n,)
    fallback_errors: Sequence[str | None]
    pair_confidences: FloatArray | None = None  #: (n,) as `Outcome.pair_confidence`; None: no such supervisor
    learned_confidences: FloatArray | None = None  #: (n,) as `Outcome.learned_confidence`

    def __len__(self) -> int:
        return len(self.routes)

    def __iter__(self) -> Iterator[Outcome]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Outcome:
        local, remote = self.local, self.remote
        return Outcome(
            id=self.ids[row],
            answer=self.answers[row],
            route=Route(self.routes[row]),
            reason=self.reasons[row],
            deferred_because=self.deferred_because[row],
            local_prediction=local.predictions[row],
            local_confidence=float(local.confidences[row]),
            local_latency_s=float(local.latency_s[row]),
            local_supervisor_s=float(local.supervisor_s[row]),
            local_cost=float(local.cost[row]),
            local_error=local.errors[row],
            remote_requested=bool(remote.asked[row]),
            remote_prediction=remote.predictions[row],
            remote_confidence=float(remote.confidences[row]),
            remote_latency_s=float(remote.latency_s[row]),
            remote_supervisor_s=float(remote.supervisor_s[row]),
            remote_cost=float(remote.cost[row]),
            remote_error=remote.errors[row],
            fallback=self.fallbacks[row],
            fallback_s=float(self.fallback_s[row]),
            fallback_error=self.fallback_errors[row],
            pair_confidence=None if self.pair_confidences is None else float(self.pair_confidences[row]),
            learned_confidence=None if self.learned_confidences is None else float(self.learned_confidences[row]),
        )

    def raise_for_rejected(self) -> None:
        """Raise `PredictionRejected` for the first input that got no answer, if there is one."""
        for row in np.flatnonzero(self.routes == Route.REJECTED):
            outcome = self[int(row)]
            if not outcome.answered:
                raise PredictionRejected(outcome)

    @property
    def request_rate(self) -> float:
        """Share of inputs for which the remote model was asked, in [0, 1]; NaN when there are none."""
        return float(self.remote.asked.mean()) if len(self) else float("nan")

    @property
    def coverage(self) -> float:
        """Share of all inputs answered by a trusted model, in [0, 1]; NaN when there are none."""
        return float((self.routes != Route.REJECTED).mean()) if len(self) else float("nan")

    @property
    def latency_s(self) -> FloatArray:
        """(n,) seconds to the answer: a deferred input pays both models; NaN where a part is not known."""
        total = self.local.latency_s + self.local.supervisor_s + self.fallback_s
        return np.where(self.remote.asked, total + self.remote.latency_s + self.remote.supervisor_s, total)

    @property
    def cost(self) -> FloatArray:
        """(n,) currency units; NaN where a part is not known."""
        return np.where(self.remote.asked, self.local.cost + self.remote.cost, self.local.cost)
