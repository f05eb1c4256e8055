"""The stacked supervisor: how likely one level's prediction is right, from any named columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import InputError
from bisupervised.learned.estimator import Estimator, EstimatorHeads
from bisupervised.learned.fitting_rows import fitting_hashes
from bisupervised.learned.heads import CLASS_PENALTY, PENALTY, Heads, check_targets
from bisupervised.learned.reading import columns_of, view_of
from bisupervised.records import AnyArray, FloatArray, LevelName
from bisupervised.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class StackedSupervisor:
    """P(prediction of one level right | columns), in [0, 1], higher for more trusted; NaN where no number is known.

    Called with named columns, (n,) each; `of_table` reads them off recorded rows.
    """

    heads: Heads | EstimatorHeads
    level: LevelName
    fitted_on: AnyArray
    kind: ClassVar[str] = "stacked"

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        level: LevelName | str = LevelName.LOCAL,
        columns: Sequence[str] | None = None,
        penalty: float = PENALTY,
        class_penalty: float = CLASS_PENALTY,
        estimator: Estimator | None = None,
    ) -> StackedSupervisor:
        """From the rows about which the level was asked and its correctness is known.

        `columns` are names of `reading`, or of the table's own further columns; by default the level's confidence
        and prediction. `estimator`, anything with `fit` and `predict_proba`, takes the place of the logistic
        regression; a copy of it is fitted, on ranks. Raises `InputError` for fewer than 20 rows, or when all
        predictions are right, or all wrong.
        """
        level = level_of(level)
        names = (f"{level}_confidence", f"{level}_prediction") if columns is None else tuple(columns)
        rows = table.take(table.level(level).asked & ~np.isnan(table.correct(level)))
        target = rows.correct(level)
        check_targets(f"the {level} correctness", target)
        read = columns_of(view_of(rows), names, rows.extra)
        heads: Heads | EstimatorHeads
        if estimator is None:
            heads = Heads.fit(read, [target], penalty=penalty, class_penalty=class_penalty)
        else:
            heads = EstimatorHeads.fit(read, [target], estimator)
        return cls(heads, level, fitting_hashes(rows))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return self.heads.design.names

    def __call__(self, columns: Mapping[str, Any]) -> FloatArray:
        """(n,) confidences."""
        confidences: FloatArray = self.heads.probabilities(columns)[0]
        return confidences

    def of_table(self, table: Table) -> FloatArray:
        """The same of recorded rows."""
        return self(columns_of(view_of(table), self.columns, table.extra))


def level_of(level: LevelName | str) -> LevelName:
    try:
        return LevelName(level)
    except ValueError as error:
        raise InputError(f"a level is local or remote, not {level!r}") from error
