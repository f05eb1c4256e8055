"""Learned supervisors as candidates of a comparison: fitted on some rows, judging others, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.records import FloatArray, IntArray, LevelName, PairConfidences
from bisupervised.table import Table

#: (table, rows that fit, rows to judge) -> confidences of the latter
Scores: TypeAlias = Callable[[Table, IntArray, IntArray], FloatArray]


def _judged_by(kind: type[Any]) -> Scores:
    def scores(table: Table, fitting: IntArray, judged: IntArray) -> FloatArray:
        found = kind.fit(table.take(fitting)).of_table(table.take(judged))
        confidences: FloatArray = found.confidences if isinstance(found, PairConfidences) else found
        return confidences

    return scores


#: By level and name. An arbiter is none of them: it chooses an answer, and no other candidate does.
COMPARABLE: Final[Mapping[str, Mapping[str, Scores]]] = {
    LevelName.LOCAL.value: {"stacked": _judged_by(StackedSupervisor), "deferral": _judged_by(DeferralHead)},
    LevelName.REMOTE.value: {"pair": _judged_by(PairSupervisor)},
}
