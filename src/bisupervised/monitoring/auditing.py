"""Audits, joined to the rows that they are of.

The calibration rows' disagreement is that of rows which these thresholds accept at the 1st level, so only audits of
such rows are compared with it. And only rows that were accepted when they came could be audited: where these
thresholds accept others too, the audited ones are no random sample of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from bisupervised.monitoring.reference import Decided
from bisupervised.records import FloatArray, IntArray
from bisupervised.table import Table

_MOST_OTHERS: Final = 0.01


class Audits(NamedTuple):
    """Audited rows whose agreement is known."""

    ids: Sequence[str]  #: (n,) of the rows
    agrees: FloatArray  #: (n,) 1 or 0


class Audited(NamedTuple):
    """The audits of rows that these thresholds accept at the 1st level."""

    differs: FloatArray  #: (k,) 1 or 0
    at: IntArray  #: (k,) their rows, ascending
    left_out: int  #: audits of other rows
    whole: bool  #: whether the rows that could not be audited are few enough


def joined(audits: Audits, table: Table, rows: Decided) -> Audited:
    """Audits by the rows' ids."""
    place = {str(name): row for row, name in enumerate(table.ids)}
    found = np.array([place.get(str(name), -1) for name in audits.ids], dtype=np.int64)
    kept = found >= 0
    kept[kept] = rows.at_first[found[kept]]
    order = np.argsort(found[kept], kind="stable")
    differs = (1.0 - np.asarray(audits.agrees, dtype=np.float64))[kept]
    others = rows.at_first & table.remote.asked
    if "mode" in table.extra:  # an observed row has both replies whatever the thresholds say
        others &= np.array([str(mode) != "observe" for mode in table.extra["mode"]], dtype=np.bool_)
    whole = int(others.sum()) <= _MOST_OTHERS * int(rows.at_first.sum())
    return Audited(differs[order], found[kept][order], len(found) - int(kept.sum()), whole)
