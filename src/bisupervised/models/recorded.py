"""A model that answers from a recording: the same numbers every time, and nothing is called or spent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bisupervised.errors import InputError, ModelError
from bisupervised.models.outputs import empty_output, evidence_in
from bisupervised.records import (
    Evidence,
    Failure,
    LevelName,
    LevelRows,
    ModelOutput,
    concatenate_outputs,
    take_outputs,
)

if TYPE_CHECKING:
    from bisupervised.table import Table


class RecordedModel:
    """Replays a recording; its inputs are the ids of the recorded inputs (compared as strings).

    `output` has one row for each of `ids`. Latency and cost come back as recorded, and so do failures, with
    their recorded kind. An id that is not in the recording is a failure of kind `failed`, of unknown cost and
    latency.

    >>> model = RecordedModel(["a", "b"], ModelOutput(np.array(["ham", "spam"]), confidences=np.array([0.9, 0.8])))
    >>> output = model.predict(["b", "c"])
    >>> output.predictions.tolist(), str(output.failures[1])
    (['spam', None], "failed: id 'c' is not in the recording of 2 inputs")
    """

    max_batch: int | None = None

    def __init__(self, ids: Iterable[Any], output: ModelOutput, *, name: str = "recorded") -> None:
        self.name = name
        self._row_of = {str(id_): row for row, id_ in enumerate(ids)}
        self._output = output
        if len(self._row_of) != len(output):
            raise InputError(f"a recording of {len(output)} rows needs as many distinct ids, not {len(self._row_of)}")
        self.provides: frozenset[Evidence] = evidence_in(output)

    @classmethod
    def from_table(cls, table: Table, level: LevelName | str, *, name: str | None = None) -> RecordedModel:
        """The recording of one level of the one table.

        A row in which the level was not asked holds no answer: it fails here, and says so.
        """
        level = LevelName(level)
        return cls(table.ids, recorded_output(table.level(level)), name=name or f"recorded {level}")

    def __repr__(self) -> str:
        return f"RecordedModel({self.name!r}, {len(self._output)} inputs)"

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The recorded rows of these ids, in their order."""
        if len(inputs) == 0:
            return take_outputs(self._output, np.empty(0, dtype=np.int64)) if self._row_of else empty_output(())
        rows = [self._row_of.get(str(id_)) for id_ in inputs]
        known = np.array([row for row in rows if row is not None], dtype=np.int64)
        if len(known) == len(rows):
            return take_outputs(self._output, known)
        absent = [str(id_) for id_, row in zip(inputs, rows, strict=True) if row is None]
        joined = concatenate_outputs([take_outputs(self._output, known), self._absent(absent)])
        # Known rows come first in `joined`, the others behind them: back to the order of the inputs.
        order = np.argsort(np.argsort([row is None for row in rows], kind="stable"), kind="stable")
        return take_outputs(joined, order)

    def _absent(self, ids: Sequence[str]) -> ModelOutput:
        size = len(self._output)
        return ModelOutput(
            predictions=np.full(len(ids), None, dtype=object),
            latency_s=np.full(len(ids), np.nan),
            cost=np.full(len(ids), np.nan),
            failures={
                row: Failure(ModelError.kind, f"id {id_!r} is not in the recording of {size} inputs")
                for row, id_ in enumerate(ids)
            },
        )


def recorded_output(rows: LevelRows) -> ModelOutput:
    """What one level of the one table said, as its model's output: a row that was not asked is a failure."""
    tokens = rows.token_logprobs
    return ModelOutput(
        predictions=rows.predictions,
        probabilities=rows.probabilities,
        classes=rows.classes,
        token_logprobs=None if tokens is None else [np.empty(0) if row is None else row for row in tokens],
        logits=rows.logits,
        features=rows.features,
        confidences=rows.confidences,
        latency_s=rows.latency_s,
        cost=rows.cost,
        failures=_failures_of(rows),
    )


def _failures_of(rows: LevelRows) -> dict[int, Failure]:
    failures = {}
    for row, error in enumerate(rows.errors):
        if error is not None:
            kind, colon, message = str(error).partition(": ")
            failures[row] = Failure(kind, message) if colon else Failure(ModelError.kind, str(error))
        elif not rows.asked[row]:
            failures[row] = Failure(ModelError.kind, "the model was not asked about this input when it was recorded")
    return failures
