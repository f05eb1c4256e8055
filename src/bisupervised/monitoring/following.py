"""A proposal from recorded rows: the local threshold as it would have followed a long-run target through them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from bisupervised.calibration.thresholds import Thresholds
from bisupervised.errors import InputError
from bisupervised.monitoring.adaptive import AdaptiveThreshold, Aim, Feedback, Proposal
from bisupervised.table import Table

#: Of the range of confidences; the reach of one row.
STEP: Final = 0.005


@dataclass(frozen=True, slots=True)
class Followed:
    """Where the threshold went, for somebody to look at; nothing has been changed."""

    proposal: Proposal  #: the last one
    started_at: float
    rows: int  #: in their order, those without feedback included
    thresholds: Thresholds  #: with the proposed local threshold, and without a promise: none is left


def follow(
    table: Table, thresholds: Thresholds, *, target: float, aim: Aim = "error_share", step: float | None = None
) -> Followed:
    """Replay the rows in the order in which they stand, each decided by the threshold proposed before it.

    `target` is the long-run share of all inputs that are wrongly accepted (`error_share`, which needs the labels of
    all rows that may be accepted) or sent to the remote model (`request_rate`). `step` is in units of confidence; by
    default half a percent of their range. Raises `InputError` for rows without confidences, or without any label
    where errors are counted.
    """
    confidences = np.asarray(table.local.confidences, dtype=np.float64)
    finite = confidences[np.isfinite(confidences)]
    if not len(finite):
        raise InputError("no row has a local confidence: there is no threshold to follow")
    losses = 1.0 - np.asarray(table.correct("local"), dtype=np.float64)
    if aim == "error_share" and np.isnan(losses).all():
        raise InputError("no row has a label, and errors are what is counted; follow the request rate, or label rows")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        raise InputError(f"every local confidence is {low:g}: no threshold can tell the inputs apart")
    start = min(max(thresholds.local, low), high)
    watch = AdaptiveThreshold(start, target, STEP * (high - low) if step is None else step, low, high, aim)
    proposal = None
    for confidence, loss in zip(confidences.tolist(), losses.tolist(), strict=True):
        watch, proposal = watch.after(Feedback(watch.accepts(confidence), loss))
    assert proposal is not None
    evidence: dict[str, Any] = {
        name: value for name, value in thresholds.evidence.items() if name not in ("guarantee", "data_sha256")
    }
    settings = {"name": "adaptive", "aim": aim, "share": target, "step": watch.step}
    figures = {name: value for name, value in asdict(proposal).items() if name not in ("because", "before", "target")}
    evidence["adaptive"] = {"started_at": thresholds.local, **_known(figures)}
    return Followed(
        proposal,
        thresholds.local,
        len(table),
        replace(thresholds, local=proposal.threshold, target=settings, evidence=evidence, achieved={}, reference={}),
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not (isinstance(value, float) and math.isnan(value))}
