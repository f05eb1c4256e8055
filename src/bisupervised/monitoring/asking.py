"""Which questions some rows can answer.

The risk is asked of each level's answers by itself: how many of the local and how many of the remote answers get a
label differs between calibration and traffic, and a mixture of both would then move though neither did.

Questions on the 2nd level need replies to the rows that these thresholds defer. Where other thresholds decided,
those that have one are no random sample of them: with more than 1 % lacking, these questions and the limits on
risk and abstention are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from bisupervised.monitoring.auditing import Audited
from bisupervised.monitoring.labels import LabelledLoss
from bisupervised.monitoring.questions import Limit, Question
from bisupervised.monitoring.ranks import Bins, Share
from bisupervised.monitoring.reference import Decided, Reference
from bisupervised.records import BoolArray, FloatArray, IntArray
from bisupervised.table import Table

_MOST_SILENT: Final = 0.01


def silent(rows: Decided) -> int:
    """Deferred rows about which the remote model was not asked."""
    return int((rows.deferred & ~rows.remote_known).sum())


def replies_are_whole(rows: Decided) -> bool:
    """Whether so few lack a remote reply that the others stand for all."""
    return silent(rows) <= _MOST_SILENT * int(rows.deferred.sum())


def questions_of(
    table: Table,
    rows: Decided,
    loss: LabelledLoss,
    reference: Reference,
    promised: Mapping[str, Limit],
    audited: Audited | None,
    times: FloatArray | None,
) -> Iterator[Question]:
    """The questions, in the order of the report."""
    named: dict[str, Any] = {"ids": table.ids, "times": times}
    asked, whole = np.flatnonzero(rows.asked), replies_are_whole(rows)
    if not len(asked):
        return
    local = np.asarray(table.local.confidences, dtype=np.float64)[asked]
    yield from _confidences("local", reference.local, local, asked, named)
    at = np.flatnonzero(rows.remote_known)
    if whole and len(at) and reference.remote is not None:
        remote = np.asarray(table.remote.confidences, dtype=np.float64)[at]
        yield from _confidences("remote", reference.remote, remote, at, named)
    deferred, early = (one[asked].astype(np.float64) for one in (rows.deferred, rows.early))
    if reference.request_rate is not None:
        yield Question("request_rate", reference.request_rate, deferred, asked, len(asked), **named)
    if not math.isinf(reference.abstain_threshold) and reference.early_abstention is not None:
        yield Question("early_abstention", reference.early_abstention, early, asked, len(asked), **named)
    yield from _risk("local_risk", reference.local_risk, rows.at_first, loss, named)
    if whole:
        yield from _risk("remote_risk", reference.remote_risk, rows.accepted & ~rows.at_first, loss, named)
    if audited is not None and audited.whole and len(audited.at) and reference.disagreement is not None:
        yield Question("disagreement", reference.disagreement, audited.differs, audited.at, len(audited.at), **named)
    if loss.labelled and whole and "risk" in promised:
        yield Question("risk_limit", promised["risk"], loss.values, loss.at, loss.labelled, loss.least_share, **named)
    if "request_rate" in promised:
        yield Question("request_rate_limit", promised["request_rate"], deferred, asked, len(asked), **named)
    if whole and "abstention" in promised:
        answered = np.flatnonzero(rows.asked & ~(rows.deferred & ~rows.remote_known))
        if len(answered):
            without = (~rows.accepted[answered]).astype(np.float64)
            yield Question("abstention_limit", promised["abstention"], without, answered, len(answered), **named)


def _confidences(
    level: str, bins: Bins, confidences: FloatArray, at: IntArray, named: dict[str, Any]
) -> Iterator[Question]:
    yield Question(f"{level}_confidences", bins, confidences, at, len(at), **named)
    # Bins see a few missing ones late, if at all, where none was missing: they share the lowest bin with others.
    missing = np.isnan(confidences).astype(np.float64)
    yield Question(f"{level}_missing", Share(bins.missing, bins.rows), missing, at, len(at), **named)


def _risk(
    name: str, share: Share | None, answered: BoolArray, loss: LabelledLoss, named: dict[str, Any]
) -> Iterator[Question]:
    if share is None or share.graded or not loss.testable:
        return
    own = answered[loss.at]
    if own.any():
        yield Question(name, share, loss.values[own], loss.at[own], int(own.sum()), **named)
