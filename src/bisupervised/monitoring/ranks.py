"""Smoothed conformal p-values of new rows among the calibration rows and the earlier traffic.

If calibration rows and traffic are exchangeable, the p-values are independent and uniform on [0, 1], whatever the
distribution, with ties and with one calibration row (Vovk, Gammerman & Shafer, Algorithmic Learning in a Random
World, 2nd ed. 2022, section 2). That holds exactly, although only ~100 numbers of the calibration rows are kept:

The edges of the bins are order statistics at ranks k_1 < ... < k_m that depend on n alone. Given the bins of all
earlier rows, the next row falls into bin j with probability (k_j - k_(j-1) + earlier rows in it) / (n + 1 + all
earlier rows), where k_0 = 0 and k_(m+1) = n + 1: the shares between order statistics of uniform numbers are
Dirichlet. Ties are broken at random: each value carries a hidden uniform number, which is drawn for new rows, and
for an edge from its distribution among the calibration rows that are tied with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import FloatArray, IntArray

BINS: Final = 100
#: Rows whose counts are summed at a time: their matrix stays in the processor's cache.
_CHUNK: Final = 1_024
_LOWEST: Final = float(np.finfo(np.float64).min)


class Ranks(Protocol):
    """Where p-values come from: what was seen so far, and what it says about the next rows."""

    def p_values(self, values: FloatArray, uniforms: FloatArray) -> FloatArray:
        """(n,) p-values of (n,) values, in their order; `uniforms` (n, 2) in [0, 1). Low value, low p-value."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any], rows: int) -> None:
        """Go on from a `state` after as many rows. Raises `ValueError` or `KeyError` for one that does not fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """At most 100 bins of the calibration rows' confidences, with exact counts and what ties there are."""

    rows: int  #: n >= 1
    missing: int  #: of those, without a confidence (NaN), which counts as below all others
    edges: FloatArray  #: (m,) ascending, NaN first: the order statistics at `ranks`
    ranks: IntArray  #: (m,) strictly ascending, in 1..n
    tied_ranks: IntArray  #: (m,) the edge's rank among the calibration rows of the same value, from 1
    tied: IntArray  #: (m,) how many calibration rows have the edge's value

    @classmethod
    def of(cls, confidences: FloatArray, bins: int = BINS) -> Bins:
        """Bins of (n,) confidences; NaN is a confidence that is missing. Raises `InputError` for none.

        >>> some = Bins.of(np.array([0.2, 0.4, 0.4, 0.4, 0.9]), bins=3)
        >>> some.edges.tolist(), some.ranks.tolist(), some.tied_ranks.tolist(), some.tied.tolist()
        ([0.4, 0.4], [2, 4], [1, 3], [3, 3])
        """
        values = np.asarray(confidences, dtype=np.float64)
        if values.ndim != 1 or not len(values):
            raise InputError("a reference needs at least one calibration row with or without a confidence")
        n = len(values)
        keys = np.sort(_keys(values))
        parts = min(bins, n + 1)
        ranks = np.rint(np.arange(1, parts) * (n + 1) / parts).astype(np.int64)
        chosen = keys[ranks - 1]
        below = np.searchsorted(keys, chosen, side="left")
        tied = np.searchsorted(keys, chosen, side="right") - below
        return cls(n, int(np.isnan(values).sum()), _values(chosen), ranks, ranks - below, tied)

    @property
    def counts(self) -> IntArray:
        """(m + 1,) calibration rows in each bin, up to and including its upper edge; those tied with it in part."""
        return np.diff(np.concatenate([[0], self.ranks, [self.rows]]))


def _keys(values: FloatArray) -> FloatArray:
    """The values with NaN as the lowest: -inf, which makes room for it at the lowest finite number."""
    keys: FloatArray = np.where(np.isnan(values), -np.inf, np.maximum(values, _LOWEST))
    return keys


def _values(keys: FloatArray) -> FloatArray:
    values: FloatArray = np.where(np.isneginf(keys), np.nan, np.where(keys == _LOWEST, -np.inf, keys))
    return values


class BinnedRanks:
    """p-values of confidences. One binary search for a row, and a sum over the bins."""

    def __init__(self, bins: Bins, seed: int = 0) -> None:
        keys = _keys(bins.edges)
        self._distinct, block = np.unique(keys, return_inverse=True)
        # An edge as one number: its value's place among the edges, and the hidden number of its rank there.
        self._edges = block + _hidden(bins, block, seed)
        self._weights = np.diff(np.concatenate([[0], bins.ranks, [bins.rows + 1]]))
        self._seen = np.zeros(len(self._weights), dtype=np.int64)

    def p_values(self, values: FloatArray, uniforms: FloatArray) -> FloatArray:
        bins = self._bin(values, uniforms[:, 0])
        p = np.empty(len(bins))
        for start in range(0, len(bins), _CHUNK):
            part = slice(start, start + _CHUNK)
            p[part] = self._among(bins[part], uniforms[part, 1])
        return p

    def _bin(self, values: FloatArray, hidden: FloatArray) -> IntArray:
        keys = _keys(values)
        place = np.searchsorted(self._distinct, keys, side="left")
        equal = self._distinct[np.minimum(place, len(self._distinct) - 1)] == keys
        return np.searchsorted(self._edges, place + np.where(equal, hidden, 0.0))

    def _among(self, bins: IntArray, uniform: FloatArray) -> FloatArray:
        n, rows = len(bins), np.arange(len(bins))
        weights = self._weights + self._seen
        own, below = weights[bins].astype(np.float64), (np.cumsum(weights) - weights)[bins].astype(np.float64)
        if n > 1:
            seen = np.zeros((n, len(weights)), dtype=np.int32)
            seen[rows[1:], bins[:-1]] = 1
            np.cumsum(seen, axis=0, out=seen)
            own += seen[rows, bins]
            np.cumsum(seen, axis=1, out=seen)
            below += np.where(bins > 0, seen[rows, bins - 1], 0)
        total = weights.sum() + rows
        self._seen += np.bincount(bins, minlength=len(weights))
        p: FloatArray = (below + uniform * own) / total
        return p

    def state(self) -> dict[str, Any]:
        return {"seen": self._seen.tolist()}

    def restore(self, state: Mapping[str, Any], rows: int) -> None:
        seen = np.asarray(state["seen"], dtype=np.int64)
        if seen.shape != self._seen.shape:
            raise ValueError(f"its counts are of {seen.size} bins, the reference's are of {len(self._seen)}")
        if (seen < 0).any() or seen.sum() != rows:
            raise ValueError(f"its counts are not those of {rows} rows")
        self._seen = seen


def _hidden(bins: Bins, block: IntArray, seed: int) -> FloatArray:
    """(m,) the edges' hidden numbers: order statistics of as many uniform numbers as there are tied rows."""
    rng = np.random.default_rng([seed, 1])
    hidden = np.empty(len(block))
    for number in np.unique(block):
        edges = np.flatnonzero(block == number)
        ranks, tied = bins.tied_ranks[edges], int(bins.tied[edges[0]])
        steps = rng.standard_gamma(np.diff(np.concatenate([[0], ranks, [tied + 1]])).astype(np.float64))
        hidden[edges] = np.cumsum(steps)[:-1] / steps.sum()
    return hidden


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the calibration rows something happened to: deferred, wrong among the accepted, …"""

    count: float  #: a whole number, an int; or the sum of graded losses, a float
    rows: int

    @property
    def graded(self) -> bool:
        """Whether it is a sum of graded losses, which has no exchangeability test."""
        return isinstance(self.count, float)

    @property
    def rate(self) -> float:
        """In [0, 1]; NaN without rows."""
        return self.count / self.rows if self.rows else float("nan")


class ShareRanks:
    """p-values of what happens (1) or does not (0)."""

    def __init__(self, share: Share) -> None:
        self._reference = share
        self._ones, self._rows = int(share.count), share.rows

    def rates(self, values: FloatArray) -> FloatArray:
        """(n,) how often it happened before each of these rows, in (0, 1); changes nothing."""
        happened = np.asarray(values, dtype=np.float64) == 1.0
        ones = self._ones + np.cumsum(happened) - happened
        rates: FloatArray = (ones + 0.5) / (self._rows + np.arange(len(happened)) + 1.0)
        return rates

    def p_values(self, values: FloatArray, uniforms: FloatArray) -> FloatArray:
        happened = np.asarray(values, dtype=np.float64) == 1.0
        before = self._rows + np.arange(len(happened))
        ones = self._ones + np.cumsum(happened) - happened
        own = np.where(happened, ones, before - ones) + 1
        below = np.where(happened, before - ones, 0)
        self._ones += int(happened.sum())
        self._rows += len(happened)
        p: FloatArray = (below + uniforms[:, 1] * own) / (before + 1)
        return p

    def state(self) -> dict[str, Any]:
        return {"ones": self._ones, "rows": self._rows}

    def restore(self, state: Mapping[str, Any], rows: int) -> None:
        ones, total = int(state["ones"]), int(state["rows"])
        if total - self._reference.rows != rows or not 0 <= ones - self._reference.count <= rows:
            raise ValueError(f"{ones} of {total} rows cannot be, {rows} after the reference's")
        self._ones, self._rows = ones, total


def reference_hash(reference: Bins | Share) -> str:
    """Twelve hexadecimal digits that name a reference: a saved state goes on with this one alone."""
    digest = hashlib.sha256()
    if isinstance(reference, Share):
        digest.update(f"share {float(reference.count)} {reference.rows}".encode())
    else:
        digest.update(f"bins {reference.rows} {reference.missing}".encode())
        edges = np.where(np.isnan(reference.edges), np.nan, reference.edges + 0.0)  # one NaN and one zero
        for column in (edges, reference.ranks, reference.tied_ranks, reference.tied):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:12]
