"""Outcomes, with what a gateway adds to them, as rows of the `decisions` table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from itertools import repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from bisupervised.decision_log.details import Details
from bisupervised.decision_log.values import (
    NULL,
    Cell,
    encode_input,
    encode_number,
    encode_text,
    encode_value,
    hash_input,
)
from bisupervised.records import FloatArray, LevelRows, Outcome, Outcomes, Route

Row: TypeAlias = tuple[Cell, ...]


class Entry(NamedTuple):
    """What one call of `write` hands over."""

    time: float  #: Unix seconds
    outcomes: Outcomes | list[Outcome]
    inputs: list[Any]  #: as many
    details: Sequence[Details] | None = None  #: as many


_FIELDS: Final = tuple(field.name for field in fields(Outcome))
_OTHER: Final = ("time", "input_hash", "input", "thresholds_id")
#: The columns that a gateway's rows have in addition.
DETAILS: Final = tuple(f.name for f in fields(Details) if f.name not in ("thresholds_id", "store_input"))
#: The columns of a row, in its order. An outcome's `remote_requested` is the table's `remote_asked`.
COLUMNS: Final = (
    *(name.replace("remote_requested", "remote_asked") for name in _FIELDS),
    *_OTHER,
    *DETAILS,
)
ID: Final = COLUMNS.index("id")
FALLBACK: Final = COLUMNS.index("fallback")
LOCAL_COST: Final = COLUMNS.index("local_cost")
REMOTE_COST: Final = COLUMNS.index("remote_cost")

_ROUTE_NAMES: Final = tuple(route.label for route in Route)

_Encoder: TypeAlias = Callable[[Sequence[Any]], Iterable[Cell]]


def _values(cells: Sequence[Any]) -> Iterable[Cell]:
    return map(encode_value, cells)


def _texts(cells: Sequence[Any]) -> Iterable[Cell]:
    return map(encode_text, cells)


def _names(cells: Sequence[Any]) -> Iterable[Cell]:
    """Text of a few different values: each is encoded once."""
    encoded = {cell: encode_text(cell) for cell in set(cells)}
    return map(encoded.__getitem__, cells)


def _routes(cells: Sequence[Any]) -> Iterable[Cell]:
    return map(_ROUTE_NAMES.__getitem__, cells)


def _numbers(cells: Sequence[Any]) -> Iterable[Cell]:
    return cells if set(map(type, cells)) == {float} else map(encode_number, cells)


def _integers(cells: Sequence[Any]) -> Iterable[Cell]:
    return cells if set(map(type, cells)) == {int} else [NULL if cell is None else int(cell) for cell in cells]


_ENCODER_OF: Final[dict[str, _Encoder]] = {
    "id": _texts,
    "route": _routes,
    **dict.fromkeys(("answer", "local_prediction", "remote_prediction"), _values),
    **dict.fromkeys(("reason", "deferred_because", "fallback"), _names),
    **dict.fromkeys(("local_error", "remote_error", "fallback_error"), _texts),
    **dict.fromkeys(("cascade", "mode", "served", "key", "unscorable"), _names),
    **dict.fromkeys(("remote_requested", "sequence", "status", "streamed", "extra_remote_calls"), _integers),
}
_ENCODERS: Final = tuple(_ENCODER_OF.get(name, _numbers) for name in _FIELDS)
_DETAIL_ENCODERS: Final = tuple(_ENCODER_OF.get(name, _numbers) for name in DETAILS)
_outcome_fields: Final = attrgetter(*_FIELDS)
_detail_fields: Final = attrgetter(*DETAILS)
_NO_DETAILS: Final = (None,) * len(DETAILS)


def rows_of(entries: Sequence[Entry], *, store_inputs: bool, thresholds_id: str | None) -> list[Row]:
    """One row for each outcome, in their order. Works by column: that is what makes it quick."""
    outcomes: list[tuple[Any, ...]] = []
    times: list[float] = []
    inputs: list[Any] = []
    for time, some, their_inputs, _ in entries:
        outcomes.extend(_fields_of(some))
        inputs.extend(their_inputs)
        times.extend([time] * len(their_inputs))
    encoded = [encode(column) for encode, column in zip(_ENCODERS, zip(*outcomes, strict=True), strict=True)]
    details = _details_of(entries)
    stored = _stored(inputs, details) if store_inputs else repeat(NULL, len(inputs))
    more = _detail_columns(details, len(inputs), thresholds_id)
    return list(zip(*encoded, times, map(hash_input, inputs), stored, *more, strict=True))


def _details_of(entries: Sequence[Entry]) -> list[Details | None] | None:
    """Each row's details; None when no row has any."""
    if not any(entry.details for entry in entries):
        return None
    details: list[Details | None] = []
    for entry in entries:
        details.extend(entry.details or [None] * len(entry.inputs))
    return details


def _stored(inputs: list[Any], details: list[Details | None] | None) -> Iterable[Cell]:
    if details is None:
        return map(encode_input, inputs)
    wanted = [one is None or one.store_input for one in details]
    return [encode_input(x) if store else NULL for x, store in zip(inputs, wanted, strict=True)]


def _detail_columns(
    details: list[Details | None] | None, n: int, thresholds_id: str | None
) -> Iterable[Iterable[Cell]]:
    """The column `thresholds_id` and those of `DETAILS`."""
    if details is None:
        return [[encode_text(thresholds_id)] * n, *repeat([NULL] * n, len(DETAILS))]
    of_log = encode_text(thresholds_id)
    thresholds = [of_log if one is None else one.thresholds_id or of_log for one in details]
    cells = zip(*(_NO_DETAILS if one is None else _detail_fields(one) for one in details), strict=True)
    return [thresholds, *(encode(column) for encode, column in zip(_DETAIL_ENCODERS, cells, strict=True))]


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
        "pair_confidence": _or_null(outcomes.pair_confidences, len(outcomes)),
        "learned_confidence": _or_null(outcomes.learned_confidences, len(outcomes)),
        **_level_columns("local", outcomes.local),
        **_level_columns("remote", outcomes.remote),
    }
    return zip(*(columns[name] for name in _FIELDS), strict=True)


def _or_null(column: FloatArray | None, n: int) -> list[Any]:
    return [NULL] * n if column is None else column.tolist()


def _level_columns(name: str, rows: LevelRows) -> dict[str, Iterable[Any]]:
    return {
        f"{name}_prediction": rows.predictions.tolist(),
        f"{name}_confidence": rows.confidences.tolist(),
        f"{name}_latency_s": rows.latency_s.tolist(),
        f"{name}_supervisor_s": rows.supervisor_s.tolist(),
        f"{name}_cost": rows.cost.tolist(),
        f"{name}_error": rows.errors.tolist(),
    }
