"""Outcomes as rows of the `decisions` table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeAlias

from bisupervised.decision_log.values import (
    Cell,
    encode_input,
    encode_number,
    encode_text,
    encode_value,
    hash_input,
)
from bisupervised.records import LevelRows, Outcome, Outcomes, Route

Row: TypeAlias = tuple[Cell, ...]
#: What one call of `write` hands over: Unix seconds, the outcomes and as many inputs.
Entry: TypeAlias = tuple[float, Outcomes | list[Outcome], list[Any]]

_FIELDS: Final = tuple(field.name for field in fields(Outcome))
_VALUES: Final = ("answer", "local_prediction", "remote_prediction")
_TEXTS: Final = (
    "id",
    "reason",
    "deferred_because",
    "local_error",
    "remote_error",
    "fallback",
    "fallback_error",
)
#: The columns of a row, in its order. An outcome's `remote_requested` is the table's `remote_asked`.
COLUMNS: Final = (
    *(name.replace("remote_requested", "remote_asked") for name in _FIELDS),
    *("time", "input_hash", "input", "thresholds_id"),
)
ID: Final = COLUMNS.index("id")
FALLBACK: Final = COLUMNS.index("fallback")
LOCAL_COST: Final = COLUMNS.index("local_cost")
REMOTE_COST: Final = COLUMNS.index("remote_cost")

_ROUTE_NAMES: Final = tuple(route.label for route in Route)
_outcome_fields: Final = attrgetter(*_FIELDS)


def _encoder(name: str) -> Callable[[Any], Cell]:
    if name in _VALUES:
        return encode_value
    if name in _TEXTS:
        return encode_text
    if name == "route":
        return _ROUTE_NAMES.__getitem__
    return int if name == "remote_requested" else encode_number


_ENCODERS: Final = tuple(_encoder(name) for name in _FIELDS)


def rows_of(entries: Sequence[Entry], *, store_inputs: bool, thresholds_id: str | None) -> list[Row]:
    """One row for each outcome, in their order. Works by column: that is what makes it quick."""
    outcomes: list[tuple[Any, ...]] = []
    times: list[float] = []
    inputs: list[Any] = []
    for time, some, their_inputs in entries:
        outcomes.extend(_fields_of(some))
        inputs.extend(their_inputs)
        times.extend([time] * len(their_inputs))
    encoded = [map(encode, column) for encode, column in zip(_ENCODERS, zip(*outcomes, strict=True), strict=True)]
    n = len(outcomes)
    stored = map(encode_input, inputs) if store_inputs else [None] * n
    return list(zip(*encoded, times, map(hash_input, inputs), stored, [thresholds_id] * n, strict=True))


def _fields_of(outcomes: Outcomes | list[Outcome]) -> Iterable[tuple[Any, ...]]:
    """Each outcome's fields, without making an `Outcome` of every row of a batch."""
    if not isinstance(outcomes, Outcomes):
        return map(_outcome_fields, outcomes)
    columns: dict[str, Iterable[Any]] = {
        "id": outcomes.ids,
        "answer": outcomes.answers.tolist(),
        "route": outcomes.routes.tolist(),
        "reason": outcomes.reasons,
        "deferred_because": outcomes.deferred_because,
        "remote_requested": outcomes.remote.asked.tolist(),
        "fallback": outcomes.fallbacks,
        "fallback_s": outcomes.fallback_s.tolist(),
        "fallback_error": outcomes.fallback_errors,
        **_level_columns("local", outcomes.local),
        **_level_columns("remote", outcomes.remote),
    }
    return zip(*(columns[name] for name in _FIELDS), strict=True)


def _level_columns(name: str, rows: LevelRows) -> dict[str, Iterable[Any]]:
    return {
        f"{name}_prediction": rows.predictions.tolist(),
        f"{name}_confidence": rows.confidences.tolist(),
        f"{name}_latency_s": rows.latency_s.tolist(),
        f"{name}_supervisor_s": rows.supervisor_s.tolist(),
        f"{name}_cost": rows.cost.tolist(),
        f"{name}_error": rows.errors.tolist(),
    }
