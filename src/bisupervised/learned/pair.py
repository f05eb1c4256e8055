"""The pair supervisor: how likely the remote prediction is right, from what both levels said.

The 2nd level sees the inputs on which the local model was unsure. There the local confidence, and whether both models
say the same, tell more about the remote prediction than its own confidence does alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from bisupervised.learned.design import AGREEMENT
from bisupervised.learned.fitting_rows import fitting_hashes
from bisupervised.learned.heads import CLASS_PENALTY, PENALTY, Heads, check_targets
from bisupervised.learned.reading import View, columns_of, view_of
from bisupervised.records import AnyArray, BothLevels, FloatArray, LevelName, PairConfidences
from bisupervised.table import Table

#: Of label columns with many classes the last one counts: the remote prediction is what is judged.
BOTH: Final = ("local_confidence", "remote_confidence", AGREEMENT, "local_prediction", "remote_prediction")


@dataclass(frozen=True, slots=True, eq=False)
class PairSupervisor:
    """P(remote prediction right | both levels), in [0, 1], higher for more trusted.

    A remote level that failed or has no confidence gives NaN: there is nothing to trust. Without a local confidence
    the remote one alone is read. Predictions that nobody recorded leave agreement unknown: as when the models were
    of one mind as often as not.
    """

    both: Heads  #: where both levels have a confidence
    remote: Heads  #: where the remote level alone has one
    columns: tuple[str, ...]
    fitted_on: AnyArray
    kind: ClassVar[str] = "pair"

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        columns: Sequence[str] = (),
        penalty: float = PENALTY,
        class_penalty: float = CLASS_PENALTY,
    ) -> PairSupervisor:
        """From the rows about which both models were asked and correctness of both is known.

        `columns` are further ones, see `reading`. Raises `InputError` for fewer than 20 rows with both confidences,
        or when all remote predictions are right, or all wrong.
        """
        names = (*BOTH, *columns)
        rows = table.take(table.complete)
        known = rows.take(~np.isnan(rows.remote.confidences))
        both = known.take(~np.isnan(known.local.confidences))
        check_targets("the remote correctness", both.correct(LevelName.REMOTE))
        penalties = {"penalty": penalty, "class_penalty": class_penalty}
        return cls(
            both=_fitted(both, names, (LevelName.REMOTE,), penalties),
            remote=_fitted(known, level_names("remote", columns), (LevelName.REMOTE,), penalties),
            columns=names,
            fitted_on=fitting_hashes(rows),
        )

    def __call__(self, both: BothLevels, own: Mapping[str, Any] | None = None) -> PairConfidences:
        """(k,) confidences; `own` are the user's columns, if the supervisor was fitted on any."""
        return self._judge(view_of(both), own)

    def of_table(self, table: Table) -> PairConfidences:
        """The same of recorded rows."""
        return self._judge(view_of(table), table.extra)

    def _judge(self, view: View, own: Mapping[str, Any] | None) -> PairConfidences:
        no_local, no_remote = (np.isnan(view[level].confidences) for level in ("local", "remote"))
        parts = [(self.both, ~(no_local | no_remote)), (self.remote, no_local & ~no_remote)]
        confidences = in_parts(parts, view, own)
        return PairConfidences(confidences[0])


def level_names(level: str, columns: Sequence[str]) -> tuple[str, ...]:
    """What is read where one level alone has a confidence: all that does not come of the other."""
    other = "remote" if level == "local" else "local"
    further = (name for name in columns if name != AGREEMENT and not name.startswith(f"{other}_"))
    return (f"{level}_confidence", f"{level}_prediction", *further)


def _fitted(rows: Table, names: Sequence[str], levels: Sequence[LevelName], penalties: Mapping[str, float]) -> Heads:
    columns = columns_of(view_of(rows), names, rows.extra)
    return Heads.fit(columns, [rows.correct(level) for level in levels], **penalties)


def in_parts(parts: Sequence[tuple[Heads, AnyArray]], view: View, own: Mapping[str, Any] | None) -> FloatArray:
    """(t, n): each head on its own rows, NaN on the others."""
    n = len(view["local"].confidences)
    found = np.full((len(parts[0][0].weights), n), np.nan)
    for heads, rows in parts:
        if rows.all() and n:  # the usual case, without a copy
            return heads.probabilities(columns_of(view, heads.design.names, own))
        if rows.any():
            columns = columns_of(view, heads.design.names, own)
            found[:, rows] = heads.probabilities({name: np.asarray(one)[rows] for name, one in columns.items()})
    return found
