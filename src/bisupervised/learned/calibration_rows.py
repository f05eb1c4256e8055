"""The columns that thresholds are chosen on, from learned supervisors: never of rows that these were fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from bisupervised.calibration.choice import calibration_rows as rows_of
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.cross_fitting import CrossFitted
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.fitting_rows import refuse_fitting_rows
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.records import PairConfidences
from bisupervised.table import Table

AnyPair: TypeAlias = PairSupervisor | Arbiter | CrossFitted[PairSupervisor] | CrossFitted[Arbiter]
AnyLocal: TypeAlias = StackedSupervisor | DeferralHead | CrossFitted[StackedSupervisor] | CrossFitted[DeferralHead]


def calibration_rows(table: Table, answer: AnyPair | None = None, local: AnyLocal | None = None) -> CalibrationRows:
    """The rows about which both models were asked and correctness of both is known, as calibration takes them.

    The local confidence is the recorded one, or that of `local`. The remote confidence and loss are the recorded
    ones, those of the remote prediction by a pair supervisor, or those of an arbiter's answer. What was cross-fitted
    on these rows gives its cross-fitted confidences; a supervisor is asked, and refused with `InputError` where it
    was fitted on any of them.
    """
    rows = table.take(table.complete)
    if local is not None and len(rows):
        learned = _confidences(local, rows).confidences
        rows = replace(rows, local=replace(rows.local, confidences=learned))
    return rows_of(rows, None if answer is None else _confidences(answer, table.take(table.complete)))


def _confidences(supervisor: Any, rows: Table) -> PairConfidences:
    if isinstance(supervisor, CrossFitted):
        return supervisor.of_rows(rows)
    refuse_fitting_rows(supervisor, rows)
    judged = supervisor.of_table(rows)
    return judged if isinstance(judged, PairConfidences) else PairConfidences(judged)
