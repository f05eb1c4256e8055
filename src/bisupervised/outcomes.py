"""From the heart's decisions to the outcomes that users, logs and tables read."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from bisupervised.errors import TableError
from bisupervised.fallback import Fallback, HandOver
from bisupervised.records import (
    AnyArray,
    Decisions,
    FloatArray,
    IntArray,
    LevelRows,
    ModelOutput,
    Outcome,
    Outcomes,
    Reason,
    Route,
    Verdicts,
)

NAN = float("nan")
#: A level's columns with a row of numbers for each input.
_MATRICES = ("probabilities", "logits", "features")


def outcome_of(decisions: Decisions, id_: str, costs: tuple[float, float]) -> Outcome:
    """The outcome of a batch of one, before any fallback. `costs` are those of outputs that bring none."""
    local, remote = decisions.local_output, decisions.remote_output
    route = Route(int(decisions.routes[0]))
    local_reason = decisions.local_verdicts.reason(0)
    common: dict[str, Any] = {
        "id": id_,
        "route": route,
        "local_prediction": _prediction(local),
        "local_confidence": float(decisions.local_verdicts.confidences[0]),
        "local_latency_s": _first(local.latency_s),
        "local_supervisor_s": decisions.local_supervisor_s,
        "local_cost": _first_cost(local, costs[0]),
        "local_error": str(local.failures[0]) if local.failures else None,
        "learned_confidence": _first_or_none(decisions.local_verdicts.learned),
    }
    if remote is None or decisions.remote_verdicts is None:
        return Outcome(
            **common,
            answer=common["local_prediction"] if route is Route.LOCAL else None,
            reason=local_reason,
            deferred_because=None,
            remote_requested=False,
            remote_prediction=None,
            remote_confidence=NAN,
            remote_latency_s=NAN,
            remote_supervisor_s=NAN,
            remote_cost=0.0,
            remote_error=None,
        )
    prediction = _prediction(remote)
    return Outcome(
        **common,
        answer={Route.LOCAL: common["local_prediction"], Route.REMOTE: prediction}.get(route),
        reason=decisions.remote_verdicts.reason(0),
        deferred_because=local_reason,
        remote_requested=True,
        remote_prediction=prediction,
        remote_confidence=float(decisions.remote_verdicts.confidences[0]),
        remote_latency_s=_first(remote.latency_s),
        remote_supervisor_s=decisions.remote_supervisor_s,
        remote_cost=_first_cost(remote, costs[1]),
        remote_error=str(remote.failures[0]) if remote.failures else None,
        pair_confidence=_first_or_none(decisions.remote_verdicts.learned),
    )


def _prediction(output: ModelOutput) -> Any:
    """The one prediction as a plain Python value, as it is in a batch; None for a failed call."""
    return None if output.failures else output.predictions[:1].astype(object)[0]


def _cost(output: ModelOutput, constant: float) -> FloatArray:
    """(n,) costs: the output's own; the level's constant where it brings none, so for a call that failed."""
    if output.cost is None:
        return np.full(len(output), constant)
    failed = np.zeros(len(output), dtype=np.bool_)
    failed[list(output.failures)] = True
    # A failed call is joined to others that have a cost as NaN: alone, it would have been the constant.
    return np.where(failed & np.isnan(output.cost), constant, output.cost)


def _first_cost(output: ModelOutput, constant: float) -> float:
    if output.cost is None:
        return constant
    cost = float(output.cost[0])
    return constant if cost != cost and output.failures else cost


def _first_or_none(column: FloatArray | None) -> float | None:
    return None if column is None else float(column[0])


def _first(column: FloatArray | None) -> float:
    return NAN if column is None else float(column[0])


def level_rows(
    output: ModelOutput,
    confidences: FloatArray,
    supervisor_s: float,
    cost: float,
    *,
    evidence: Collection[str] = (),
) -> LevelRows:
    """One level's columns for n inputs that were all asked. `cost` is that of an output that brings none.

    `evidence` names what is kept beside probabilities and token log-probabilities: `logits`, `features`.
    """
    n = len(output)
    predictions = output.predictions.astype(object)
    errors: AnyArray = np.full(n, None, dtype=object)
    for row, failure in output.failures.items():
        predictions[row] = None
        errors[row] = str(failure)
    tokens = output.token_logprobs
    token_logprobs: Any = None
    if tokens is not None:
        token_logprobs = np.empty(n, dtype=object)
        for row, logprobs in enumerate(tokens):
            token_logprobs[row] = np.asarray(logprobs)
    return LevelRows(
        predictions=predictions,
        confidences=confidences,
        asked=np.ones(n, dtype=np.bool_),
        latency_s=np.full(n, NAN) if output.latency_s is None else output.latency_s,
        supervisor_s=np.full(n, supervisor_s),
        cost=_cost(output, cost),
        errors=errors,
        probabilities=output.probabilities,
        classes=output.classes,
        token_logprobs=token_logprobs,
        logits=output.logits if "logits" in evidence else None,
        features=output.features if "features" in evidence else None,
    )


def outcomes_of(decisions: Decisions, ids: Sequence[str], costs: tuple[float, float]) -> Outcomes:
    """The outcomes of a batch, before any fallback."""
    n = len(decisions.routes)
    local = level_rows(
        decisions.local_output, decisions.local_verdicts.confidences, decisions.local_supervisor_s, costs[0]
    )
    answers = local.predictions.copy()
    abstained = decisions.local_verdicts.abstained
    reasons: list[Reason] = [Reason.TRUSTED] * n
    deferred_because: list[Reason | None] = [None] * n
    remote = LevelRows.empty(n)
    pair = None
    if decisions.remote_output is not None and decisions.remote_verdicts is not None:
        asked = level_rows(
            decisions.remote_output,
            decisions.remote_verdicts.confidences,
            decisions.remote_supervisor_s,
            costs[1],
        )
        remote = _scatter(asked, decisions.deferred, n)
        if decisions.remote_verdicts.learned is not None:
            pair = np.full(n, NAN)
            pair[decisions.deferred] = decisions.remote_verdicts.learned
        from_remote = decisions.routes == Route.REMOTE
        answers[from_remote] = remote.predictions[from_remote]
        answers[decisions.routes == Route.REJECTED] = None
        _explain(decisions.deferred, decisions.local_verdicts, decisions.remote_verdicts, reasons, deferred_because)
    if abstained is not None:
        for row in np.flatnonzero(abstained).tolist():
            answers[row], reasons[row] = None, Reason.ABSTAINED
    return Outcomes(
        ids=ids,
        routes=decisions.routes,
        answers=answers,
        reasons=reasons,
        deferred_because=deferred_because,
        local=local,
        remote=remote,
        fallbacks=[None] * n,
        fallback_s=np.zeros(n),
        fallback_errors=[None] * n,
        pair_confidences=pair,
        learned_confidences=decisions.local_verdicts.learned,
    )


def _explain(
    deferred: IntArray,
    local: Verdicts,
    remote: Verdicts,
    reasons: list[Reason],
    deferred_because: list[Reason | None],
) -> None:
    for asked_row, row in enumerate(deferred.tolist()):
        reasons[row] = remote.reason(asked_row)
        deferred_because[row] = local.reason(row)


def _scatter(asked: LevelRows, rows: IntArray, n: int) -> LevelRows:
    """The k asked rows at their places among n inputs; the others were not asked."""
    full = LevelRows.empty(n)
    for name in ("predictions", "confidences", "asked", "latency_s", "supervisor_s", "cost", "errors"):
        getattr(full, name)[rows] = getattr(asked, name)
    for name in _MATRICES:
        matrix = getattr(asked, name)
        if matrix is not None:
            filled = np.full((n, matrix.shape[1]), NAN, np.result_type(np.float16, matrix))
            filled[rows] = matrix
            full = replace(full, **{name: filled}, classes=asked.classes)
    if asked.token_logprobs is not None:
        token_logprobs: AnyArray = np.full(n, None, dtype=object)
        token_logprobs[rows] = asked.token_logprobs
        full = replace(full, token_logprobs=token_logprobs)
    return full


def join_outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several batches as one, in their order."""
    return Outcomes(
        ids=[id_ for part in parts for id_ in part.ids],
        routes=np.concatenate([part.routes for part in parts]),
        answers=np.concatenate([part.answers for part in parts]),
        reasons=[reason for part in parts for reason in part.reasons],
        deferred_because=[reason for part in parts for reason in part.deferred_because],
        local=join_rows([part.local for part in parts]),
        remote=join_rows([part.remote for part in parts]),
        fallbacks=[name for part in parts for name in part.fallbacks],
        fallback_s=np.concatenate([part.fallback_s for part in parts]),
        fallback_errors=[error for part in parts for error in part.fallback_errors],
        pair_confidences=_join_known([part.pair_confidences for part in parts], [len(part) for part in parts]),
        learned_confidences=_join_known([part.learned_confidences for part in parts], [len(part) for part in parts]),
    )


def _join_known(columns: Sequence[FloatArray | None], lengths: Sequence[int]) -> FloatArray | None:
    """The columns as one, NaN where one is missing; None where all are."""
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [np.full(n, NAN) if column is None else column for column, n in zip(columns, lengths, strict=True)]
    )


def join_rows(parts: Sequence[LevelRows]) -> LevelRows:
    """One level's columns over several batches; evidence that a batch lacks is NaN (or None) there."""
    plain = ("predictions", "confidences", "asked", "latency_s", "supervisor_s", "cost", "errors")
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in plain}
    for name in _MATRICES:
        columns[name] = _join_matrices([getattr(part, name) for part in parts], [len(part) for part in parts], name)
    columns["classes"] = next((part.classes for part in parts if part.classes is not None), None)
    if any(part.token_logprobs is not None for part in parts):
        columns["token_logprobs"] = np.concatenate(
            [np.full(len(p), None, dtype=object) if p.token_logprobs is None else p.token_logprobs for p in parts]
        )
    return LevelRows(**columns)


def _join_matrices(matrices: Sequence[AnyArray | None], lengths: Sequence[int], name: str) -> AnyArray | None:
    given = [matrix for matrix in matrices if matrix is not None]
    if not given:
        return None
    widths = sorted({matrix.shape[1] for matrix in given if len(matrix)} or {given[0].shape[1]})
    if len(widths) > 1:
        raise TableError(
            f"some rows have {widths[0]} {name} and some {widths[1]}: they are of different models, or layers"
        )
    dtype = np.result_type(np.float16, *given)
    return np.concatenate(
        [
            np.full((n, widths[0]), NAN, dtype) if matrix is None or not n else matrix
            for matrix, n in zip(matrices, lengths, strict=True)
        ]
    )


def settling(fallback: Fallback, x: Any, outcome: Outcome) -> Generator[Any, Any, tuple[Outcome, Exception | None]]:
    """Take the fallback for one rejected input; yields an awaitable when the fallback's answer is one.

    Returns the outcome with the answer and what the fallback raised, if anything: the caller first stores the
    outcome, then raises.
    """
    if isinstance(fallback, HandOver):
        fallback = fallback.settle_with(outcome)
    answer: Any = None
    error: Exception | None = None
    start = perf_counter()
    try:
        answer = fallback(x, outcome)
        if hasattr(answer, "__await__"):
            answer = yield answer
    except Exception as raised:
        answer, error = None, raised  # the awaitable that raised is no answer
    settled = replace(
        outcome,
        answer=answer,
        fallback=fallback.name,
        fallback_s=perf_counter() - start,
        fallback_error=None if error is None or fallback.name == "raise" else f"{type(error).__name__}: {error}",
    )
    return settled, error
