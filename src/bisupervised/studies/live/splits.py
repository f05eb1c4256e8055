"""The rows of a numbers-only table as the analysis takes them: which of them choose, and which report.

A large set has a calibration and a report part. A small one is cross-fitted: what is chosen on four folds is judged
on the fifth, in turn, so that every row reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisupervised.errors import TableError
from bisupervised.learned.design import AGREEMENT
from bisupervised.records import AnyArray, IntArray
from bisupervised.studies.live.parts import CALIBRATION, REPORT
from bisupervised.table import Table

MIN_PART = 40  #: rows, below which nothing is chosen or reported


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows that choose, and rows that judge what was chosen."""

    choosing: Table
    reporting: Table
    choosing_clusters: IntArray | None  #: numbers from 0
    reporting_clusters: IntArray | None
    places: IntArray  #: where the reporting rows stand among all reporting rows


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The complete rows of a table, split."""

    table: Table  #: the complete rows: both models were asked, and both answers graded
    splits: Sequence[Split]
    report: Table  #: all reporting rows, in the order of the splits' `places`
    clusters: IntArray | None  #: of `report`
    left_out: int  #: rows that were not complete
    counts: dict[str, int]  #: rows by part or fold
    cross_fitted: bool

    def __iter__(self) -> Iterator[Split]:
        return iter(self.splits)

    @property
    def n_clusters(self) -> int | None:
        """Clusters among the reporting rows."""
        return None if self.clusters is None else len(np.unique(self.clusters))

    @property
    def halves(self) -> Split:
        """One split: calibration and report, or of a cross-fitted set the even folds and the odd ones."""
        if not self.cross_fitted:
            return self.splits[0]
        odd = np.asarray(self.table.extra["fold"]).astype(int) % 2 == 1
        return _split(self.table, self.clusters, np.flatnonzero(~odd), np.flatnonzero(odd), np.arange(int(odd.sum())))


def parts_of(table: Table, *, cross_fitted: bool, cluster: str | None = None) -> Parts:
    """The parts of a table with the column `part`, or `fold` where it is cross-fitted.

    Raises `TableError` when the column is missing or holds something else, when a cluster lies in two parts, or when
    a part has fewer than 40 complete rows (a fold: 10).
    """
    column = "fold" if cross_fitted else "part"
    if column not in table.extra:
        raise TableError(f"the numbers-only table has no column {column}: make it with `scoring.scored`")
    if cluster is not None and cluster not in table.extra:
        raise TableError(f"the numbers-only table has no column {cluster}, which tells its clusters apart")
    complete = table.complete
    rows = with_agreement(table.take(complete))
    clusters = None if cluster is None else np.unique(rows.extra[cluster].astype(str), return_inverse=True)[1]
    named = _fold_names(rows) if cross_fitted else np.asarray(rows.extra[column]).astype(str)
    names, sizes = np.unique(named, return_counts=True)
    _check(column, names.tolist(), sizes.tolist(), cross_fitted)
    _check_clusters(column, clusters, named)
    counts = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    if cross_fitted:
        splits = [
            _split(rows, clusters, np.flatnonzero(named != one), held := np.flatnonzero(named == one), held)
            for one in names
        ]
        return Parts(rows, splits, rows, clusters, int((~complete).sum()), counts, True)
    choosing, reporting = np.flatnonzero(named == CALIBRATION), np.flatnonzero(named == REPORT)
    split = _split(rows, clusters, choosing, reporting, np.arange(len(reporting)))
    return Parts(
        rows, [split], split.reporting, split.reporting_clusters, int((~complete).sum()), counts, cross_fitted
    )


def with_agreement(table: Table) -> Table:
    """The table with `agree` under the name by which learned supervisors read whether both predictions are the same:
    where the predictions themselves are not in it."""
    if "agree" not in table.extra:
        return table
    return replace(table, extra={**table.extra, AGREEMENT: np.asarray(table.extra["agree"], dtype=np.float64)})


def _fold_names(rows: Table) -> AnyArray:
    try:
        return np.asarray(rows.extra["fold"]).astype(np.int64).astype(str)
    except (TypeError, ValueError) as error:
        raise TableError(f"the column fold holds the numbers of the folds, from 0: {error}") from error


def _check(column: str, names: list[str], sizes: list[int], cross_fitted: bool) -> None:
    if cross_fitted and len(names) < 2:
        raise TableError("cross-fitting takes at least 2 folds")
    if not cross_fitted and set(names) != {CALIBRATION, REPORT}:
        raise TableError(f"the column part says {CALIBRATION} or {REPORT}, both of them; it holds {', '.join(names)}")
    least = MIN_PART // 4 if cross_fitted else MIN_PART
    for name, size in zip(names, sizes, strict=True):
        if size < least:
            raise TableError(f"{column} {name} has {size} complete rows, and {least} are needed: record more")


def _check_clusters(column: str, clusters: IntArray | None, named: AnyArray) -> None:
    if clusters is None:
        return
    pairs = len(set(zip(clusters.tolist(), named.tolist(), strict=True)))
    torn = pairs - len(np.unique(clusters))
    if torn:
        raise TableError(
            f"{torn} clusters lie in more than one {column}: what is chosen would know what it is judged on"
        )


def _split(
    table: Table, clusters: IntArray | None, choosing: IntArray, reporting: IntArray, places: IntArray
) -> Split:
    def of(rows: IntArray) -> IntArray | None:
        return None if clusters is None else np.unique(clusters[rows], return_inverse=True)[1]

    return Split(table.take(choosing), table.take(reporting), of(choosing), of(reporting), places)
