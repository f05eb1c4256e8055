"""Exact nearest neighbours among many training rows, found by single-precision matrix products in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.products import read_only, square_norms
from bisupervised.records import AnyArray, FloatArray, IntArray

#: Approximate distances held at a time (three arrays of them, the largest of 4 bytes each).
_DISTANCES: Final = 4_000_000
#: Numbers gathered at a time for exact distances.
_GATHERED: Final = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """Rows of features, in single precision, that others are compared with.

    A matrix product in single precision gives each distance with a known bound on its error. Whatever may be among
    the k nearest by that bound is compared once more, in double precision and term by term: the distance that comes
    out is the exact one of the rows as they are stored, to the last bit the same alone and in any batch.
    """

    features: AnyArray = field(repr=False)  #: (n, d) float32
    _centre: FloatArray = field(init=False, repr=False)  #: (d,)
    _centred: AnyArray = field(init=False, repr=False)  #: (n, d) float32
    _squares: AnyArray = field(init=False, repr=False)  #: (n,) float32: squared norms of the centred rows

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            features = read_only(self.features, np.float32)
        if not np.isfinite(features).all():
            raise EvidenceError("a training row is too large for single precision, in which features are compared")
        centre = features.mean(axis=0, dtype=np.float64)
        centred = _single(features - centre)
        for name, value in (("features", features), ("_centre", centre), ("_centred", centred)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_squares", _squares(centred))

    def __len__(self) -> int:
        return len(self.features)

    def kth_nearest(
        self, queries: AnyArray, k: int = 1, *, among: slice = slice(None), without: slice = slice(0, 0)
    ) -> tuple[FloatArray, IntArray]:
        """The (m,) Euclidean distances of the (m, d) finite queries to their k-th nearest row, and (m,) its place.

        Only the rows `among` count, except those `without` (both in places of all rows); there must be k of them.
        Of rows that are equally near, the earlier counts as nearer.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        start, stop, _ = among.indices(len(self))
        distances, places = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
        step = max(16, _DISTANCES // max(stop - start, 1))
        for first in range(0, len(queries), step):
            block = slice(first, first + step)
            close = self._candidates(queries[block], k, start, stop, without)
            query, place = np.nonzero(close)
            place += start
            squares = self._exact_squares(queries[block], query, place)
            order = np.lexsort((squares, query))  # stable: the earlier place first
            ends = np.cumsum(np.bincount(query, minlength=len(close)))
            chosen = order[np.concatenate([[0], ends[:-1]]) + k - 1]
            distances[block], places[block] = np.sqrt(squares[chosen]), place[chosen]
        return distances, places

    def _candidates(self, queries: AnyArray, k: int, start: int, stop: int, without: slice) -> AnyArray:
        """(m, stop - start) whether a row may be among the k nearest.

        With c the relative error of a product of d terms, |q - t|^2 is within c (|q|^2 + |t|^2) of
        |q|^2 + |t|^2 - 2 q't (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1).
        """
        slack = np.float32((queries.shape[1] + 32) * 2.0**-24)
        squares = self._squares[start:stop]
        left_out = slice(max(without.start - start, 0), max(without.stop - start, 0))
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # what overflows is compared exactly
            centred = _single(queries - self._centre)
            low = centred @ self._centred[start:stop].T
            low *= np.float32(-2.0)
            low += (1 - slack) * squares
            high = low + 2 * slack * squares
            high[:, left_out] = np.inf
            kth = high.min(axis=1) if k == 1 else np.partition(high, k - 1, axis=1)[:, k - 1]
            limit = kth + 2 * slack * _squares(centred)
            close = ~(low > limit[:, np.newaxis])  # NaN is close
        close[:, left_out] = False
        return close

    def _exact_squares(self, queries: AnyArray, query: IntArray, place: IntArray) -> FloatArray:
        """The squared distance of each pair of a query and a row."""
        squares = np.empty(len(query))
        step = max(1, _GATHERED // max(queries.shape[1], 1))
        for first in range(0, len(query), step):
            pairs = slice(first, first + step)
            difference = queries[query[pairs]].astype(np.float64) - self.features[place[pairs]]
            squares[pairs] = square_norms(difference)
        return squares


def _single(values: Any) -> AnyArray:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _squares(rows: AnyArray) -> AnyArray:
    """(n,) float32 squared norms: summed up in double precision, which a row's length does not trouble."""
    squares = np.empty(len(rows))
    step = max(1, _GATHERED // max(rows.shape[1], 1))
    for first in range(0, len(rows), step):
        squares[first : first + step] = square_norms(rows[first : first + step].astype(np.float64))
    return _single(squares)
