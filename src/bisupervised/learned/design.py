"""Named columns -> the features of a logistic regression.

Every number is a rank r (see `columns`), and enters as a piecewise linear function: r and its hinges
max(r - knot, 0). Two numbers interact by the products of coarser such functions, a bent surface. Agreement of the
predictions (+1/2, -1/2; unknown: 0) has a surface of its own; a few classes have a curve for each number each; many
classes have one effect each, which is fitted beside the features.

Features are (p, n), a row for each feature, and every row of inputs is computed by itself: alone it gets, to the last
bit, what it gets in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.learned.columns import SPREAD, LabelColumn, NumericColumn, all_missing, numbers_of
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray

AGREEMENT: Final = "agreement"
#: Shares of the fitting rows at which the curves may bend, and the products of two of them.
_FINE: Final = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98])
_COARSE: Final = np.array([0.25, 0.5, 0.75])
_FINE_AT: Final = SPREAD * (2.0 * _FINE - 1.0)[:, np.newaxis]
_COARSE_AT: Final = SPREAD * (2.0 * _COARSE - 1.0)[:, np.newaxis]
#: Up to so many classes each has curves of its own.
FEW: Final = 8
#: Numbers beyond so many do not interact by themselves.
_INTERACTING: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Which columns there are, and their ranks and labels in the fitting rows."""

    numbers: tuple[NumericColumn, ...]
    labels: tuple[LabelColumn, ...] = ()  #: of few classes
    classes: LabelColumn | None = None  #: of many
    agreement: bool = False

    @classmethod
    def fit(cls, columns: Mapping[str, AnyArray]) -> Design:
        """Read the kinds of the columns off the (n,) fitting rows.

        Texts and predictions are labels, all else numbers. Of label columns with many classes only the last is kept:
        name the most telling one last. One with nearly as many classes as rows is no class at all, and is left out.
        """
        numbers, few, many, known = [], [], None, False
        for name, values in columns.items():
            found = None if name.endswith("_prediction") else numbers_of(name, values)
            if name == AGREEMENT and found is not None:
                known = not bool(np.isnan(found).all())
            elif found is not None:
                numbers.append(NumericColumn.fit(name, found))
            else:
                column = LabelColumn.fit(name, np.asarray(values))
                if len(column.labels) <= FEW:
                    few += [column] if len(column.labels) > 1 else []
                elif 10 * len(column.labels) <= len(values):
                    many = column
        if not numbers:
            raise InputError("a learned supervisor needs at least one column of numbers, such as a confidence")
        return cls(tuple(numbers), tuple(few), many, known)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it reads."""
        last = () if self.classes is None else (self.classes.name,)
        told = (AGREEMENT,) if self.agreement else ()
        return (*(one.name for one in self.numbers), *(one.name for one in self.labels), *last, *told)

    @property
    def size(self) -> int:
        """How many features: p."""
        k, fine, coarse = len(self.numbers), len(_FINE), len(_COARSE) + 1
        curves = k * fine + len(self._pairs) * coarse**2
        few = sum(1 if len(one.labels) == 2 else len(one.labels) for one in self.labels)
        switches = (few + 1) * 2 - 1 if self.agreement else few
        missing = sum(one.missing for one in self.numbers)
        return 1 + k + missing + curves + switches * (1 + k * coarse) + (curves if self.agreement else 0)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(len(self.numbers)), 2)) if len(self.numbers) <= _INTERACTING else []

    def read(self, columns: Mapping[str, Any]) -> dict[str, AnyArray]:
        """The columns it needs, as arrays of one length. Raises `InputError` for missing and unfitting ones."""
        lacking = [name for name in self.names if name not in columns]
        if lacking:
            given = ", ".join(columns) or "none"
            raise InputError(f"the columns {', '.join(lacking)} are missing; given are: {given}")
        found: dict[str, AnyArray] = {}
        for name in self.names:
            values = np.asarray(columns[name])
            if any(name == one.name for one in self.numbers) or name == AGREEMENT:
                numbers = numbers_of(name, values)
                if numbers is None:
                    raise InputError(f"the column {name} held numbers when the supervisor was fitted, and now texts")
                values = numbers
            found[name] = values
        lengths = {name: len(values) for name, values in found.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"the columns differ in length ({', '.join(f'{k}: {v}' for k, v in lengths.items())})")
        return found

    def saw_nothing(self, columns: Mapping[str, AnyArray]) -> BoolArray:
        """(n,) rows in which no number is known."""
        return all_missing([columns[one.name] for one in self.numbers])

    def features(self, columns: Mapping[str, AnyArray]) -> FloatArray:
        """(p, n), of columns that `read` gave."""
        ranks = np.stack([one(columns[one.name]) for one in self.numbers])
        n = ranks.shape[1]
        fine = np.maximum(ranks[:, np.newaxis] - _FINE_AT, 0.0).reshape(-1, n)
        coarse = np.concatenate([ranks[:, np.newaxis], np.maximum(ranks[:, np.newaxis] - _COARSE_AT, 0.0)], axis=1)
        curves = [fine, *((coarse[i][:, np.newaxis] * coarse[j]).reshape(-1, n) for i, j in self._pairs)]
        ones = np.ones((1, n))
        unknown = [np.isnan(columns[one.name])[np.newaxis] for one in self.numbers if one.missing]
        parts = [ones, ranks, *unknown, *curves]
        switches = self._switches(columns)
        if switches is not None:
            curve = np.concatenate([ones, coarse.reshape(-1, n)])
            parts.append((switches[:, np.newaxis] * curve).reshape(-1, n))
        if self.agreement:
            parts += [switches[0] * part for part in curves]  # type: ignore[index]  # there is one
        return np.concatenate(parts)

    def codes(self, columns: Mapping[str, AnyArray]) -> IntArray | None:
        """(n,) numbers of the many classes."""
        return None if self.classes is None else self.classes(columns[self.classes.name])

    def _switches(self, columns: Mapping[str, AnyArray]) -> FloatArray | None:
        """(s, n): agreement, the labels, and each of them with the other; 0 where not known."""
        found: list[FloatArray] = []
        if self.agreement:
            agree = columns[AGREEMENT]
            found.append(np.where(np.isnan(agree), 0.0, agree - 0.5))
        for column in self.labels:
            codes = column(columns[column.name])
            if len(column.labels) == 2:
                found.append(np.where(codes < 0, 0.0, codes - 0.5))
            else:
                found += [(codes == number).astype(np.float64) for number in range(len(column.labels))]
        if self.agreement:
            found += [2.0 * found[0] * one for one in found[1:]]
        return np.stack(found) if found else None
