"""The deferral head: how much more likely the local prediction is right than the remote one would be.

Jitkrittum et al., "When does confidence-based cascade deferral suffice?", NeurIPS 2023: deferring by the local
confidence alone errs where the remote model is no better on the inputs that the local one finds hard, or is a
specialist. Two heads, one for either model's correctness, see that before the remote model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from bisupervised.errors import InputError
from bisupervised.learned.design import AGREEMENT
from bisupervised.learned.fitting_rows import fitting_hashes
from bisupervised.learned.heads import CLASS_PENALTY, PENALTY, Heads, check_targets
from bisupervised.learned.reading import columns_of, view_of
from bisupervised.records import AnyArray, FloatArray, LevelName
from bisupervised.table import Table

COLUMNS: Final = ("local_confidence", "local_prediction")


@dataclass(frozen=True, slots=True, eq=False)
class DeferralHead:
    """P(local right) - P(remote right), in [-1, 1]: higher = keep the local answer, below 0 a request gains.

    Columns are those known before the remote model is asked. NaN where no number is known.
    """

    heads: Heads  #: local, remote
    fitted_on: AnyArray
    kind: ClassVar[str] = "deferral"

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        columns: Sequence[str] = COLUMNS,
        penalty: float = PENALTY,
        class_penalty: float = CLASS_PENALTY,
    ) -> DeferralHead:
        """From the rows about which both models were asked and correctness of both is known.

        Raises `InputError` for fewer than 20 rows, when all predictions of a level are right, or all wrong, and for
        columns of the remote level.
        """
        late = [name for name in columns if name == AGREEMENT or name.startswith("remote_")]
        if late:
            raise InputError(
                f"{', '.join(late)}: not known before the remote model is asked, and that is when a deferral head is"
                f" read"
            )
        rows = table.take(table.complete)
        for level in LevelName:
            check_targets(f"the {level} correctness", rows.correct(level))
        read = columns_of(view_of(rows), columns, rows.extra)
        targets = [rows.correct(level) for level in LevelName]
        heads = Heads.fit(read, targets, penalty=penalty, class_penalty=class_penalty)
        return cls(heads, fitting_hashes(rows))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return self.heads.design.names

    def __call__(self, columns: Mapping[str, Any]) -> FloatArray:
        """(n,) confidences."""
        local, remote = self.heads.probabilities(columns)
        difference: FloatArray = local - remote
        return difference

    def of_table(self, table: Table) -> FloatArray:
        """The same of recorded rows."""
        return self(columns_of(view_of(table), self.columns, table.extra))
