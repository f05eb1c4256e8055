"""Arbitration: after a remote request, the answer that is more likely right, whichever model gave it.

The local prediction is at hand when the remote one comes back, and often the better of the two. Both are judged from
what both levels said, and the larger probability decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.learned.fitting_rows import fitting_hashes
from bisupervised.learned.heads import CLASS_PENALTY, PENALTY, Heads, check_targets
from bisupervised.learned.pair import BOTH, _fitted, in_parts, level_names
from bisupervised.learned.reading import View, view_of
from bisupervised.records import AnyArray, BothLevels, LevelName, PairConfidences
from bisupervised.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class Arbiter:
    """P(local right | both) and P(remote right | both); the larger is the confidence, and its prediction the answer.

    Equal ones: the remote prediction, which was paid for. Where one level failed or has no confidence, the other's
    prediction is the answer, with what its own confidence says of it. Where neither has one: NaN, never trusted.
    """

    both: Heads  #: local, remote
    local: Heads  #: where the local level alone has a confidence
    remote: Heads  #: where the remote level alone has one
    columns: tuple[str, ...]
    fitted_on: AnyArray
    kind: ClassVar[str] = "arbiter"

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        columns: Sequence[str] = (),
        penalty: float = PENALTY,
        class_penalty: float = CLASS_PENALTY,
    ) -> Arbiter:
        """From the rows about which both models were asked and correctness of both is known.

        `columns` are further ones, see `reading`. Raises `InputError` for fewer than 20 rows with both confidences,
        or when all predictions of a level are right, or all wrong.
        """
        names = (*BOTH, *columns)
        rows = table.take(table.complete)
        local = rows.take(~np.isnan(rows.local.confidences))
        remote = rows.take(~np.isnan(rows.remote.confidences))
        both = local.take(~np.isnan(local.remote.confidences))
        for level in LevelName:
            check_targets(f"the {level} correctness", both.correct(level))
        penalties = {"penalty": penalty, "class_penalty": class_penalty}
        return cls(
            both=_fitted(both, names, tuple(LevelName), penalties),
            local=_fitted(local, level_names("local", columns), (LevelName.LOCAL,), penalties),
            remote=_fitted(remote, level_names("remote", columns), (LevelName.REMOTE,), penalties),
            columns=names,
            fitted_on=fitting_hashes(rows),
        )

    def __call__(self, both: BothLevels, own: Mapping[str, Any] | None = None) -> PairConfidences:
        """(k,) confidences of the better answers; `own` are the user's columns, if it was fitted on any."""
        return self._judge(view_of(both), own)

    def of_table(self, table: Table) -> PairConfidences:
        """The same of recorded rows."""
        return self._judge(view_of(table), table.extra)

    def _judge(self, view: View, own: Mapping[str, Any] | None) -> PairConfidences:
        no_local, no_remote = (np.isnan(view[level].confidences) for level in ("local", "remote"))
        local, remote = in_parts([(self.both, ~(no_local | no_remote))], view, own)
        alone = no_local ^ no_remote
        if alone.any():
            local = np.where(no_remote, in_parts([(self.local, alone & no_remote)], view, own)[0], local)
            remote = np.where(no_local, in_parts([(self.remote, alone & no_local)], view, own)[0], remote)
        # NaN is smaller than nothing here: it is the other one's turn.
        return PairConfidences(np.fmax(local, remote), np.fmax(local, -1.0) > np.fmax(remote, -1.0))
