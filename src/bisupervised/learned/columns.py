"""What a learned supervisor makes of one named column: numbers become ranks, labels become numbers of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray
from bisupervised.table import written

_QUANTILES: Final = 100
_NEAR: Final = 1e-300
#: Ranks are spread evenly over [-SPREAD, SPREAD]: mean 0 and variance 1, whatever unit a column came in.
SPREAD: Final = 3.0**0.5


@dataclass(frozen=True, slots=True, eq=False)
class NumericColumn:
    """Number -> its rank among the fitting rows, in [-SPREAD, SPREAD], linear between their quantiles.

    A number beyond them (an infinite one too) has the rank of the nearest; NaN that of the median, and is told apart
    by `missing` if there was one among the fitting rows.
    """

    name: str
    knots: FloatArray  #: (q,) rising
    ranks: FloatArray  #: (q,) rising
    missing: bool  #: whether some fitting rows had none

    @classmethod
    def fit(cls, name: str, values: FloatArray) -> NumericColumn:
        known = np.sort(values[~np.isnan(values)])
        finite = known[np.isfinite(known)]
        if not len(finite):
            raise InputError(
                f"the column {name} holds no number in any of the {len(values)} fitting rows: leave it out"
            )
        at = np.linspace(0, len(finite) - 1, _QUANTILES + 1).round().astype(int)
        knots = np.unique(finite[at])
        with np.errstate(
            over="ignore"
        ):  # between numbers that are too near, the slope of the ranks would be infinite
            knots = knots[np.append(True, np.diff(knots) > _NEAR)]
        middle = np.searchsorted(known, knots, side="left") + np.searchsorted(known, knots, side="right")
        ranks = SPREAD * (middle / len(known) - 1.0)
        return cls(name, knots, ranks, len(known) < len(values))

    def __call__(self, values: FloatArray) -> FloatArray:
        """(n,) ranks."""
        ranks = np.interp(values, self.knots, self.ranks)
        return np.where(np.isnan(values), 0.0, ranks)


@dataclass(frozen=True, slots=True, eq=False)
class LabelColumn:
    """Label -> its number among those of the fitting rows; -1 for any other, and for none."""

    name: str
    labels: tuple[str, ...]  #: as written: 1, 1.0 and "1" are one label
    _numbers: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {label: number for number, label in enumerate(self.labels)})

    @classmethod
    def fit(cls, name: str, values: AnyArray) -> LabelColumn:
        return cls(name, tuple(sorted({label for label in _written(values) if label is not None})))

    def __call__(self, values: AnyArray) -> IntArray:
        """(n,) numbers of the labels."""
        numbers = self._numbers
        if len(values) == 1:
            return np.array([numbers.get(written(values[0]), -1)])
        if values.dtype.kind in "iub":
            distinct, place = np.unique(values, return_inverse=True)
            return np.array([numbers.get(written(label), -1) for label in distinct], dtype=np.int64)[place]
        return np.array([numbers.get(label, -1) for label in _written(values)], dtype=np.int64)


def _written(values: AnyArray) -> list[Any]:
    return [written(value) for value in values]


def agreement(first: AnyArray, second: AnyArray) -> FloatArray:
    """(n,) 1.0 where both predictions are written alike, 0.0 where not, NaN where one is missing.

    >>> agreement(np.array([1, 2, 3]), np.array(["1", "x", None], dtype=object))
    array([ 1.,  0., nan])
    """
    if first.dtype.kind in "iub" and second.dtype.kind in "iub":
        return np.asarray(first == second, dtype=np.float64)
    pairs = ((written(a), written(b)) for a, b in zip(first, second, strict=True))
    return np.array([np.nan if a is None or b is None else float(a == b) for a, b in pairs], dtype=np.float64)


def numbers_of(name: str, values: Any) -> FloatArray | None:
    """(n,) floats where every cell is a number or empty; None where some are texts."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"the column {name} has the shape {array.shape}: one value for each row is expected")
    if array.dtype.kind in "iufb":
        return array.astype(np.float64)
    try:
        return np.array([np.nan if written(cell) is None else float(cell) for cell in array], dtype=np.float64)
    except (TypeError, ValueError):
        return None


def all_missing(columns: list[FloatArray]) -> BoolArray:
    """(n,) rows in which every column is NaN."""
    missing = np.isnan(columns[0])
    for column in columns[1:]:
        missing = missing & np.isnan(column)
    return missing
