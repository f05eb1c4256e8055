"""The columns that thresholds are chosen on, from learned supervisors: never of rows that these were fitted on."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from bisupervised.calibration.rule import CalibrationRows
from bisupervised.errors import InputError
from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.cross_fitting import CrossFitted
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.fitting_rows import refuse_fitting_rows
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.records import LevelName, PairConfidences
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
    if not len(rows):
        raise InputError("there are no rows about which both models were asked and correctness of both is known")
    right = {name: rows.correct(name) for name in LevelName}
    local_confidence = rows.local.confidences if local is None else _confidences(local, rows).confidences
    judged = PairConfidences(rows.remote.confidences) if answer is None else _confidences(answer, rows)
    correct = right[LevelName.REMOTE]
    if judged.local_preferred is not None:
        correct = np.where(judged.local_preferred, right[LevelName.LOCAL], correct)
    return CalibrationRows.of(local_confidence, right[LevelName.LOCAL], judged.confidences, correct)


def _confidences(supervisor: Any, rows: Table) -> PairConfidences:
    if isinstance(supervisor, CrossFitted):
        return supervisor.of_rows(rows)
    refuse_fitting_rows(supervisor, rows)
    judged = supervisor.of_table(rows)
    return judged if isinstance(judged, PairConfidences) else PairConfidences(judged)
