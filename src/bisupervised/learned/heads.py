"""Heads: estimated probabilities of one or more events, from the same named columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.learned.design import Design
from bisupervised.learned.logistic import fit_logistic, sigmoid
from bisupervised.records import AnyArray, FloatArray

#: Chosen on splits that no reported figure is of; see docs/how-to/learned-supervisors.md.
PENALTY: Final = 1.0
CLASS_PENALTY: Final = 3.0
MIN_ROWS: Final = 20
_ROWS: Final = 4096  #: of inputs whose features are held at a time


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """t logistic regressions on one design. Each row by itself: alone it gets what it gets in a batch."""

    design: Design
    weights: FloatArray  #: (t, p)
    effects: FloatArray  #: (t, k) of the many classes; (t, 0) without

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Any],
        targets: Sequence[FloatArray],
        *,
        penalty: float = PENALTY,
        class_penalty: float = CLASS_PENALTY,
    ) -> Heads:
        """From (n,) named columns and t targets (n,) in [0, 1]."""
        for value in (penalty, class_penalty):
            if not 0.0 < value < np.inf:
                raise InputError(f"a penalty is a number above 0, not {value}")
        design = Design.fit(columns)
        read = design.read(columns)
        features, codes = design.features(read), design.codes(read)
        classes = 0 if design.classes is None else len(design.classes.labels)
        found = [fit_logistic(features, target, penalty, codes, classes, class_penalty) for target in targets]
        return cls(design, np.stack([one.weights for one in found]), np.stack([one.effects for one in found]))

    def probabilities(self, columns: Mapping[str, Any]) -> FloatArray:
        """(t, n) in [0, 1]; NaN for rows in which no number is known."""
        read = self.design.read(columns)
        n = len(next(iter(read.values())))
        if n <= _ROWS:
            return self._of_few(read)
        parts = (slice(start, start + _ROWS) for start in range(0, n, _ROWS))
        return np.concatenate([self._of_few({k: v[part] for k, v in read.items()}) for part in parts], axis=1)

    def _of_few(self, columns: Mapping[str, AnyArray]) -> FloatArray:
        features = self.design.features(columns)
        # Added up one after the other; a product of matrices adds in an order that depends on the number of rows.
        log_odds = np.add.accumulate(self.weights[..., np.newaxis] * features, axis=1)[:, -1]
        codes = self.design.codes(columns)
        if codes is not None:
            log_odds = log_odds + np.where(codes < 0, 0.0, self.effects[:, codes])
        return np.where(self.design.saw_nothing(columns), np.nan, sigmoid(log_odds))


def check_targets(name: str, target: FloatArray) -> None:
    """Raise `InputError` where there is nothing to learn from."""
    if len(target) < MIN_ROWS:
        raise InputError(
            f"a learned supervisor needs at least {MIN_ROWS} rows with known correctness, and there are {len(target)}"
        )
    if (target == target[0]).all():
        raise InputError(
            f"{name} is {target[0]:g} in all {len(target)} rows: there is nothing to learn from. Use rows with both"
        )
