"""Replay a team's own log of requests: the local model answers a sample beside what the remote one answered.

Nothing of the remote model is called or paid for: its answers, costs and latencies stand in the log. What comes out
is the one table, which `evaluation.replayed` judges without labels and `evaluate` with them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bisupervised.assessment import Assessment, evaluate
from bisupervised.calibration import RemoteEven
from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import InputError, ModelError, TableError
from bisupervised.evaluation.agreement import agreement
from bisupervised.evaluation.replayed import LoggedTraffic, Question
from bisupervised.models.openai_reply import Prices
from bisupervised.models.port import Model
from bisupervised.models.wrapper import Wrapper
from bisupervised.quantifiers import GivenConfidence
from bisupervised.recording import join_recorded, record_in_parts
from bisupervised.records import AnyArray, Evidence, FloatArray, LevelName, LevelRows, ModelOutput
from bisupervised.request_logs import LoggedRequest, RequestLog
from bisupervised.request_logs.rows import valid_text
from bisupervised.sources import read_table, write_table
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table, is_missing

#: Failures that another try may not see; their rows are not kept in a recording.
PASSING: Final = frozenset({"timeout", "unreachable", "status", "busy", "circuit_open"})
#: Extra columns of a recording, by which a later run knows that an answer is to the same input and of the same model.
INPUT_HASH: Final = "input_hash"
LOCAL_SETTINGS: Final = "local_settings"
#: Labelled rows from which system accuracy is worked out.
_LABELLED: Final = 20


# ---------------------------------------------------------------- which requests


@dataclass(frozen=True, slots=True)
class RemotePrices:
    """What a logged request cost where the log does not say: by its tokens, else a constant, else not known."""

    prices: Prices | None = None
    constant: float | None = None

    def costs(self, requests: Sequence[LoggedRequest]) -> FloatArray:
        """(n,) currency units; NaN: not known."""
        return np.array([self._cost(request) for request in requests], dtype=np.float64)

    def _cost(self, request: LoggedRequest) -> float:
        cost = request.cost
        if math.isnan(cost) and self.prices is not None:
            cost = self.prices.cost(request.usage)
        return self.constant if math.isnan(cost) and self.constant is not None else cost


@dataclass(frozen=True, slots=True, eq=False)
class Sorted:
    """The log's requests: those that a supervisor could score, and the others, which go to the remote model.

    `reasons` say why: a key of `REASONS` -> how many requests; one with several reasons counts for its first.
    """

    scorable: Sequence[LoggedRequest]
    others: Sequence[LoggedRequest]
    reasons: Mapping[str, int]

    def traffic(self, prices: RemotePrices, days: float) -> LoggedTraffic:
        """What a judgement of the sample needs to know of the whole log."""
        return LoggedTraffic(
            costs=prices.costs(self.scorable),
            other_costs=prices.costs(self.others),
            unscorable=self.reasons,
            days=days,
        )


def sort_requests(log: RequestLog, is_scored: Callable[[str], bool] = lambda kind: False) -> Sorted:
    """Sort a log's requests. `is_scored` says of a kind (`json_mode`, say) whether the gateway would score it
    nevertheless; a request without an answer is never scorable here."""
    scorable: list[LoggedRequest] = []
    others: list[LoggedRequest] = []
    reasons: Counter[str] = Counter()
    for request in log.requests:
        kinds = [kind for kind in request.unscorable if not is_scored(kind)]
        if request.answer is None and not kinds:
            kinds = ["no_answer"]
        if kinds:
            reasons[kinds[0]] += 1
            others.append(request)
        else:
            scorable.append(request)
    return Sorted(scorable, others, dict(reasons.most_common()))


def sample_of(requests: Sequence[LoggedRequest], size: int | None, seed: int = 0) -> list[LoggedRequest]:
    """A random sample in the log's order; None: all. A larger sample of the same seed holds the smaller ones."""
    if size is not None and size < 1:
        raise InputError(f"the sample holds at least one request, not {size}")
    if size is None or size >= len(requests):
        return list(requests)
    rows = np.random.default_rng(seed).permutation(len(requests))[:size]
    return [requests[row] for row in np.sort(rows)]


# ---------------------------------------------------------------- asking the local model


class _OfRequests(Wrapper):
    """The local model, given logged requests."""

    def __init__(self, model: Model, input_of: Callable[[LoggedRequest], Any]) -> None:
        super().__init__(model)
        self._input_of = input_of

    def _predict_now(self, inputs: Sequence[LoggedRequest]) -> ModelOutput:
        return self._ask_now([self._input_of(request) for request in inputs])

    async def _predict_later(self, inputs: Sequence[LoggedRequest]) -> ModelOutput:
        return await self._ask_later([self._input_of(request) for request in inputs])


class _Logged:
    """The remote model as the log has it. Its answers were all accepted, so each has the confidence +inf."""

    name = "the log"
    provides = frozenset({Evidence.CONFIDENCE})
    max_batch: int | None = None

    def __init__(self, prices: RemotePrices) -> None:
        self._prices = prices

    def predict(self, inputs: Sequence[LoggedRequest]) -> ModelOutput:
        return ModelOutput(
            _objects([request.answer for request in inputs]),
            confidences=np.full(len(inputs), np.inf),
            latency_s=np.array([request.latency_s for request in inputs]),
            cost=self._prices.costs(inputs),
        )


def record_sample(
    local: Level,
    requests: Sequence[LoggedRequest],
    input_of: Callable[[LoggedRequest], Any],
    *,
    prices: RemotePrices | None = None,
    settings: str = "",
    batch_size: int = 32,
    max_concurrency: int = 16,
    on_done: Callable[[int], None] | None = None,
) -> Iterator[Table]:
    """The one table of the local model's and the log's answers, one part for each batch as it is done. Blocks.

    `settings` is kept with each row and names what answered. Raises `ModelError` when the whole first batch fails.
    """
    model = _OfRequests(local.model, input_of)
    system = BiSupervised(
        replace(local, model=model),
        Level(_Logged(prices or RemotePrices()), Supervisor(GivenConfidence(), -math.inf)),
    )
    labels = [request.label for request in requests]
    parts = record_in_parts(
        system,
        requests,
        ids=[request.id for request in requests],
        labels=labels if any(label is not None for label in labels) else None,
        batch_size=batch_size,
        max_concurrency=max_concurrency,
        on_done=on_done,
    )
    hashes = {request.id: request.input_hash for request in requests}
    for number, part in enumerate(parts):
        errors = [error for error in part.local.errors if error is not None]
        if number == 0 and len(errors) == len(part):
            raise ModelError(
                f"the local model {model.name} answered none of the first {len(part)} requests: {errors[0]}. "
                f"`bisupervised doctor` says what is wrong with it"
            )
        predictions = [valid_text(one) if isinstance(one, str) else one for one in part.local.predictions]
        extra = {
            INPUT_HASH: _objects([hashes[str(id_)] for id_ in part.ids]),
            LOCAL_SETTINGS: _objects([settings] * len(part)),
        }
        yield replace(part, local=replace(part.local, predictions=_objects(predictions)), extra=extra)


def join_parts(parts: Sequence[Table]) -> Table:
    """The parts of a recording as one table, with the columns by which a later run knows them."""
    extra = {
        name: np.concatenate([part.extra[name].astype(object) for part in parts])
        for name in (INPUT_HASH, LOCAL_SETTINGS)
    }
    return replace(join_recorded(parts), extra=extra)


def rows_to_keep(table: Table) -> Table:
    """The rows of a recording that need not be asked again: all but those with a failure that may pass."""
    kinds = [str(error).partition(":")[0] if error is not None else "" for error in table.local.errors]
    return table.take(np.array([kind not in PASSING for kind in kinds], dtype=np.bool_))


def answered_before(recorded: Table, requests: Sequence[LoggedRequest], settings: str | None = None) -> list[int]:
    """For each request its row in a recording, or -1: not asked yet, or about another input.

    Raises `InputError` when `settings` say that another model, or the same one set up differently, answered there.
    """
    others = recorded.extra.get(LOCAL_SETTINGS)
    if settings is not None and others is not None and any(str(one) != settings for one in others):
        raise InputError(
            "it holds the answers of another local model, or of this one with other settings; give another --out, or "
            "--recorded to use those answers as they are"
        )
    hashes = recorded.extra.get(INPUT_HASH)
    row_of = {str(id_): row for row, id_ in enumerate(recorded.ids)}
    rows = []
    for request in requests:
        row = row_of.get(request.id, -1)
        same = row < 0 or hashes is None or str(hashes[row]) == request.input_hash
        rows.append(row if same else -1)
    return rows


class Recording:
    """Local answers that are kept in a file of the one table, so that nobody asks for them twice.

    `settings` name what answers (see `answered_before`). Raises `TableError` when the file is another kind of table.
    """

    def __init__(self, path: Path, settings: str, question: Question) -> None:
        self._path = path
        self._settings = settings
        self._question = question
        self._parts: list[Table] = []
        if path.exists():
            before = read_table(path)
            if not {INPUT_HASH, LOCAL_SETTINGS} <= before.extra.keys():
                raise TableError(
                    f"{path} is no recording of `replay`: name another file, or use it as it is with --recorded"
                )
            self._parts = [before]

    @property
    def table(self) -> Table:
        """All answers; at least one must be there."""
        return join_parts(self._parts)

    def missing(self, requests: Sequence[LoggedRequest]) -> list[LoggedRequest]:
        """Those that are not answered yet. An answer to another input of the same id is forgotten."""
        if not self._parts:
            return list(requests)
        before = self.table
        try:
            rows = answered_before(before, requests, self._settings)
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from error
        missing = [request for row, request in zip(rows, requests, strict=True) if row < 0]
        ids = {request.id for request in missing}
        kept = before.take(np.array([str(id_) not in ids for id_ in before.ids], dtype=np.bool_))
        self._parts = [kept] if len(kept) else []
        return missing

    def add(self, part: Table) -> None:
        """One more part of `record_sample`."""
        self._parts.append(part)

    def save(self) -> None:
        """Write what is worth keeping; a call that timed out, say, is asked again the next time."""
        kept = rows_to_keep(self.table) if self._parts else None
        if kept is not None and len(kept):
            write_table(with_correctness(kept, self._question), self._path)


def with_correctness(table: Table, question: Question) -> Table:
    """The table with how far each prediction agrees with the label, where there is one: answers in words are rarely
    written like their labels."""
    if table.labels is None:
        return table
    grade, read = question.grade, question.read_label
    local, remote = (agreement(table.level(name).predictions, table.labels, grade, read) for name in LevelName)
    known = np.array([not is_missing(label) for label in table.labels])
    return replace(
        table,
        local_correct=np.where(known, np.nan_to_num(local), np.nan),
        remote_correct=np.where(known, np.nan_to_num(remote), np.nan),
    )


def with_log(recorded: Table, rows: Sequence[int], requests: Sequence[LoggedRequest], prices: RemotePrices) -> Table:
    """The recorded local rows of these requests beside what the log says now: answers, costs, latencies, labels."""
    local = recorded.take(np.array(rows, dtype=np.int64)).local
    answers, n = _objects([request.answer for request in requests]), len(requests)
    remote = LevelRows(
        predictions=answers,
        confidences=np.full(n, np.inf),
        asked=np.ones(n, dtype=np.bool_),
        latency_s=np.array([request.latency_s for request in requests]),
        supervisor_s=np.zeros(n),
        cost=prices.costs(requests),
        errors=np.full(n, None, dtype=object),
    )
    labels = _objects([request.label for request in requests])
    known = any(label is not None for label in labels)
    return Table(np.array([request.id for request in requests]), labels if known else None, local, remote)


def _objects(values: Sequence[Any]) -> AnyArray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


# ---------------------------------------------------------------- the log's own labels


def assess_by_labels(table: Table, question: Question) -> Assessment | None:
    """The evaluation of both models where the log itself labels enough of the replayed rows; else None.

    A prediction is correct as far as it agrees with the label, in the way in which it would with the other model's.
    The 2nd level accepts everything, as it did when the log was written.
    """
    if table.labels is None or sum(not is_missing(label) for label in table.labels) < _LABELLED:
        return None
    return evaluate(with_correctness(table, question), target=RemoteEven(None), seed=question.seed)
