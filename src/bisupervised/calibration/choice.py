"""What a target gives: the thresholds of both levels, and what is promised of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bisupervised.calibration.rule import CalibrationRows, Rule
from bisupervised.errors import TableError
from bisupervised.records import BoolArray, PairConfidences
from bisupervised.table import Table


@dataclass(frozen=True, slots=True)
class Choice:
    """The thresholds that a target chose."""

    local: float
    remote: float
    abstain: float = -math.inf
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: what is promised, and from what; plain values

    @classmethod
    def of(cls, rule: Rule, **more: Any) -> Choice:
        """The choice of a rule."""
        return cls(rule.local, rule.remote, rule.abstain, **more)


class Target(Protocol):
    """Rows -> thresholds. Raises `InfeasibleTarget`, with the reason, when no threshold reaches it."""

    @property
    def name(self) -> str: ...

    def choose(self, rows: Table) -> Choice: ...


def labelled_rows(rows: Table) -> Table:
    """The rows whose labels are known, about which both models were asked. Raises `TableError` when that is none, or
    when the remote model was asked about some labelled rows only."""
    complete = rows.complete
    if not complete.any():
        raise TableError(NO_LABELS)
    refuse_unasked(rows, np.ones(len(rows), dtype=np.bool_))
    return rows if complete.all() else rows.take(complete)


def calibration_rows(table: Table, pair: PairConfidences | None = None) -> CalibrationRows:
    """The labelled rows as calibration counts them, `pair` being what a supervisor of both levels makes of the table.

    Raises `TableError` as `labelled_rows` does.
    """
    labelled_rows(table)
    rows = table.complete
    remote_confidence, remote_correct = table.remote.confidences, table.correct("remote")
    if pair is not None:
        remote_confidence = pair.confidences
        if pair.local_preferred is not None:
            remote_correct = np.where(pair.local_preferred, table.correct("local"), remote_correct)
    return CalibrationRows.of(
        table.local.confidences[rows], table.correct("local")[rows], remote_confidence[rows], remote_correct[rows]
    )


NO_LABELS = (
    "calibration needs labelled rows on which both models were asked, and there is none. Add a label column "
    "(or local_correct and remote_correct), or give only a request budget without a 2nd level"
)


def refuse_unasked(rows: Table, needed: BoolArray) -> None:
    """`TableError` when the remote model was not asked about all labelled rows that are needed."""
    labelled = ~np.isnan(rows.correct("local"))
    # A cell that is empty, and no failure, is one of a model that was not asked, whether a column says so or not.
    unasked = int((labelled & needed & (~rows.remote.asked | np.isnan(rows.correct("remote")))).sum())
    if unasked:
        raise TableError(
            f"the remote model was never asked about {unasked} of {int((labelled & needed).sum())} labelled inputs "
            f"that this target needs it for. The others are those that a running system did not trust: thresholds "
            f"chosen on them alone would be biased. Of a gateway's log, use the observed rows (--mode observe); else "
            f"record both models on all inputs (`bisupervised record`), or judge the thresholds that the system ran "
            f"with (--thresholds)"
        )
