"""What rows cannot tell, and what to keep in mind of what they do."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from bisupervised.monitoring.asking import replies_are_whole, silent
from bisupervised.monitoring.findings import NAN, Unknown
from bisupervised.monitoring.labels import LabelledLoss
from bisupervised.monitoring.reference import Decided, Reference


def unknown_of(
    asked: set[str], reference: Reference, loss: LabelledLoss, rows: Decided, promised: Collection[str]
) -> Iterator[Unknown]:
    """The questions that were not asked, each with the reason, and what would answer it."""
    if "remote_confidences" not in asked:
        yield _remote("remote_confidences", reference.remote is not None, rows)
    if not loss.labelled:
        yield Unknown(
            "local_risk",
            "no accepted answer has a label, nor is the risk of all answers known",
            "Label about 300 accepted answers, drawn at random, and write the labels into the log or the file; "
            "audits tell only how often both models agree",
        )
        return
    if "risk" in promised and "risk_limit" not in asked:
        yield _remote("risk_limit", True, rows)
    graded = "losses that are graded, or weighted by --label-share, have no exchangeability test"
    for name, share in (("local_risk", reference.local_risk), ("remote_risk", reference.remote_risk)):
        if name in asked:
            continue
        if name == "remote_risk" and not replies_are_whole(rows):
            yield _remote(name, True, rows)
        elif share is None:
            yield Unknown(name, "no such calibration row has a label", "Calibrate on labelled rows")
        elif share.graded or not loss.testable:
            yield Unknown(name, graded, "A limit on the risk can be tested all the same: --max-risk")
        else:
            yield Unknown(name, "none of these answers has a label", "Label some, drawn at random")


def _remote(name: str, in_reference: bool, rows: Decided) -> Unknown:
    if not in_reference:
        return Unknown(name, "none among the calibration rows", "Calibrate on rows that the remote model answered")
    if not rows.deferred.any():
        return Unknown(name, "no row is deferred", "Wait for deferred rows")
    return Unknown(
        name,
        f"{silent(rows):,} of {int(rows.deferred.sum()):,} deferred rows have no remote reply, and the others are no "
        f"random sample of them (other thresholds, or another mode, decided)",
        "Give rows that these thresholds decided, or rows of observe mode",
    )


def notes_of(rows: Decided, loss: LabelledLoss) -> Iterator[str]:
    """What was left out, and how far labels can be trusted."""
    unasked = int((~rows.asked).sum())
    if unasked:
        yield f"Left out: {unasked:,} rows about which the local model was not asked."
    if silent(rows):
        yield (
            f"{silent(rows):,} of {int(rows.deferred.sum()):,} deferred rows have no remote reply: they count for "
            f"the request rate, and not for the 2nd level or the risk."
        )
    accepted, known = int(rows.accepted.sum()), ~np.isnan(rows.loss)
    if not loss.labelled:
        return
    yield f"{loss.labelled:,} of {accepted:,} accepted answers are labelled."
    if loss.share_known or loss.labelled == accepted:
        return
    parts = (rows.at_first, rows.accepted & ~rows.at_first)
    local, remote = (float(known[part].mean()) if part.any() else NAN for part in parts)
    said = (
        "The labelled answers are taken for a random sample. Labels that come by themselves are none (users report "
        "errors): draw rows at random, label them, and give --label-share."
    )
    if local == local and remote == remote and max(local, remote) > 1.5 * min(local, remote):
        said += (
            f" Labelled are {local:.1%} of the local and {remote:.1%} of the remote answers: the risk of all "
            f"answers, which a limit is held against, is biased towards the level that is labelled more often."
        )
    yield said
