"""Which replayed rows are worth a label, and what the labels that came back say.

Only rows on which the two models differ can say which of them is right more often, so nearly all that is to be
labelled are such rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.evaluation.agreement import agreement
from bisupervised.evaluation.labels_needed import MIN_LABELS
from bisupervised.evaluation.replayed import Judgement, Question, Replay, ReplayPoint, kept_locally
from bisupervised.records import AnyArray, BoolArray
from bisupervised.table import Table, is_missing, written


@dataclass(frozen=True, slots=True)
class RowToLabel:
    """A sampled row that is worth a label, and why."""

    row: int  #: of the replay's table
    why: str


#: Rows on which both models agree, to see whether they are right together.
_AGREEING_ROWS: Final = 20
#: Beyond those that the margin takes, this share of them from just below the threshold.
_BELOW_SHARE: Final = 0.25


def rows_to_label(replay: Replay, seed: int = 0) -> list[RowToLabel]:
    """The rows whose labels say most, in random order: of those that differ, random ones of each range of confidences
    between two thresholds of the replay above the shown one, some of the range below it, and a few that agree. Rows
    that have a label are left out."""
    shown, needed = replay.shown, replay.labels
    if shown is None or needed is None:
        return []
    rng = np.random.default_rng(seed)
    open_ = np.array([one is None for one in replay.judged], dtype=np.bool_)
    bands, below = _bands(replay, shown, open_)
    differing = sum(map(len, bands))
    wanted = min(needed.labels, differing)
    chosen = []
    for band in bands:
        size = min(len(band), max(math.ceil(wanted * len(band) / max(differing, 1)), 5))
        chosen += [RowToLabel(int(row), "differs, answered locally") for row in rng.permutation(band)[:size]]
    size = math.ceil(_BELOW_SHARE * max(wanted, MIN_LABELS))
    chosen += [RowToLabel(int(row), "differs, just below the threshold") for row in rng.permutation(below)[:size]]
    agreeing = np.flatnonzero(
        kept_locally(replay.table, replay.grades, shown.local_threshold) & (replay.grades >= 1.0) & open_
    )
    chosen += [RowToLabel(int(row), "agrees") for row in rng.permutation(agreeing)[:_AGREEING_ROWS]]
    return [chosen[place] for place in rng.permutation(len(chosen))]


def _bands(replay: Replay, shown: ReplayPoint, open_: BoolArray) -> tuple[list[AnyArray], AnyArray]:
    """The differing rows without a label of each band that is answered locally at the shown point, and those of the
    band below."""
    inner = np.zeros(len(replay.table), dtype=np.bool_)
    bands: list[AnyArray] = []
    for point in replay.points:  # thresholds falling: each accepts what the one before did, and a band more
        kept = kept_locally(replay.table, replay.grades, point.local_threshold)
        band = np.flatnonzero(kept & ~inner & (replay.grades < 1.0) & open_)
        if point.local_threshold < shown.local_threshold:
            return bands, band
        bands.append(band)
        inner = kept
    return bands, np.empty(0, dtype=np.int64)


_RIGHT: Final[Mapping[str, Judgement]] = {
    "local": Judgement(1.0, 0.0),
    "remote": Judgement(0.0, 1.0),
    "both": Judgement(1.0, 1.0),
    "neither": Judgement(0.0, 0.0),
}


def judgements_of(
    replayed: Table, ids: Sequence[Any], labels: Sequence[Any], right: Sequence[Any], question: Question
) -> dict[str, Judgement]:
    """What labels say, by id; ids that were not replayed are left out.

    A row is judged by its `right` cell (`local`, `remote`, `both` or `neither`) where it has one, else by its label,
    with which a prediction agrees as it would with the other model's. Raises `InputError` for another word.
    """
    row_of = {str(id_): row for row, id_ in enumerate(replayed.ids)}
    found: dict[str, Judgement] = {}
    for number, (id_, label, who) in enumerate(zip(ids, labels, right, strict=True), start=2):
        row = row_of.get(str(written(id_)))
        word = "" if is_missing(who) else str(who).strip().casefold()
        if row is None:
            continue
        if word and word not in _RIGHT:
            raise InputError(f"row {number}: right is {', '.join(_RIGHT)}, or empty; not {who!r}")
        if word:
            found[str(replayed.ids[row])] = _RIGHT[word]
        elif not is_missing(label):
            said = np.array([replayed.local.predictions[row], replayed.remote.predictions[row]], dtype=object)
            grades = agreement(said, np.array([label, label], dtype=object), question.grade, question.read_label)
            found[str(replayed.ids[row])] = Judgement(*np.nan_to_num(grades).tolist())
    return found
