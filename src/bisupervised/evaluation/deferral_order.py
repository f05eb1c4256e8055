"""The order in which inputs are deferred as the local threshold rises: the least trusted first.

Everything exact in this package stands on it: one sort, then cumulative sums. Inputs of equal confidence form
a group that no threshold can divide; where a curve needs a value within a group it is the expectation under
random tie-breaking. NaN is never trusted, so inputs with NaN are one group that comes before all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import AnyArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class DeferralOrder:
    """n inputs in g groups of equal confidence, least trusted first."""

    order: IntArray  #: (n,) row numbers
    ends: AnyArray  #: (g,) how many inputs are deferred once each group is; the last is n
    #: (g + 1,) `thresholds[j]` defers exactly the first j groups: it is the confidence of group j, +inf after the
    #: last. NaN where none does: the first where inputs have no confidence and are always deferred, the last
    #: where some have the confidence +inf and never are.
    thresholds: FloatArray
    never: int  #: how many inputs have NaN confidence and are deferred whatever the threshold

    def __len__(self) -> int:
        return len(self.order)

    @classmethod
    def of(cls, confidences: FloatArray) -> DeferralOrder:
        """Sort (n,) confidences, O(n log n)."""
        confidences = np.asarray(confidences, dtype=np.float64)
        if confidences.ndim != 1 or len(confidences) == 0:
            raise InputError(f"confidences must be one number per input, at least one; got {confidences.shape}")
        n = len(confidences)
        order = np.argsort(confidences)  # NaN last
        thresholds = np.empty(n + 1)
        # "clip" as the order is in range anyway, and the default would fill a copy of `out` first.
        ranked = np.take(confidences, order, out=thresholds[:n], mode="clip")
        never = n - int(np.searchsorted(ranked, np.nan))
        if never:
            order = np.roll(order, never)
            ranked[:] = np.roll(ranked, never)
        thresholds[n] = np.nan if ranked[-1] == np.inf else np.inf
        changes = np.not_equal(ranked[1:], ranked[:-1])
        changes[: max(never - 1, 0)] = False  # NaN differs from NaN, yet they are one group
        # Half the memory where the numbers allow it; 2 n must fit.
        counter = np.int32 if n < 2**30 else np.int64
        if changes.all():  # no ties: every input is a group
            ends = np.arange(1, n + 1, dtype=counter)
        else:
            ends = np.append(np.flatnonzero(changes) + 1, n).astype(counter)
            thresholds = np.concatenate([thresholds[:1], thresholds[ends]])
        return cls(order, ends, thresholds, never)

    def totals(self, values: AnyArray) -> AnyArray:
        """(g + 1,) cumulative sums of (n,) values over the deferred inputs, after each group; 0 first.

        Exact integers for booleans and integers in [-1, 1], float64 otherwise.
        """
        ordered = values[self.order]
        wide = self.ends.dtype if ordered.dtype.kind in "biu" else np.dtype(np.float64)
        sums = np.empty(len(self.ends) + 1, dtype=wide)
        sums[0] = 0
        if self.has_ties:
            sums[1:] = np.cumsum(ordered, dtype=wide)[self.ends - 1]
        else:
            np.cumsum(ordered, out=sums[1:])
        return sums

    @property
    def attainable(self) -> range:
        """The numbers of groups j that a threshold defers exactly; never empty."""
        first, last = (int(math.isnan(self.thresholds[end])) for end in (0, -1))
        return range(first, len(self.thresholds) - last)

    @property
    def has_ties(self) -> bool:
        """Whether some inputs share their confidence."""
        return len(self.ends) < len(self.order)

    def group_sizes(self) -> AnyArray:
        """(g,) how many inputs each group holds."""
        return np.diff(self.ends, prepend=self.ends.dtype.type(0))

    def group_of_row(self) -> IntArray:
        """(n,) the group of each input, by row number."""
        groups = np.empty(len(self), dtype=np.int64)
        groups[self.order] = np.repeat(np.arange(len(self.ends)), self.group_sizes())
        return groups

    def mid_ranks(self) -> FloatArray:
        """(n,) the rank of each input, by row number: 1 is deferred first, tied inputs share their mean rank."""
        starts = self.ends - self.group_sizes()
        return ((starts + 1 + self.ends) / 2.0)[self.group_of_row()]
