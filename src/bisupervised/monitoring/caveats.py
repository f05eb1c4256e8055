"""What rows cannot tell, and what to keep in mind of what they do."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import numpy as np

from bisupervised.monitoring.asking import replies_are_whole, silent
from bisupervised.monitoring.auditing import Audited
from bisupervised.monitoring.findings import NAMES, NAN, Unknown
from bisupervised.monitoring.labels import LabelledLoss
from bisupervised.monitoring.reference import Decided, Reference
from bisupervised.table import Table, is_missing_cell

_CHOSE: Final = (
    "the thresholds were chosen on the rows of [reference], so as to look good on these very rows; on others the "
    "risk is higher though nothing moved"
)
_HOLD_OUT: Final = (
    "Calibrate with --held-out 0.5, say: what is held out chooses nothing, and can be compared with. A limit on the "
    "risk (what was certified, or --max-risk) is tested all the same"
)


def unknown_of(
    asked: Collection[str],
    flattered: Collection[str],
    reference: Reference,
    loss: LabelledLoss,
    rows: Decided,
    limited: Collection[str],
    audited: Audited | None,
) -> Iterator[Unknown]:
    """The questions that were not asked, each with the reason, and what would answer it.

    `flattered` are those that were left out because the choice of the thresholds bears on their reference.
    """
    for name in NAMES:
        if name in flattered:
            yield Unknown(name, _CHOSE, _HOLD_OUT)
    if audited is not None and len(audited.at) and not audited.whole and reference.disagreement is not None:
        yield Unknown(
            "disagreement",
            "these thresholds accept rows that others deferred when they came and that could not be audited; the "
            "audited ones are no random sample of those accepted",
            "Give rows that these thresholds decided",
        )
    if "abstention" in limited and "abstention_limit" not in asked:
        yield _remote("abstention_limit", True, rows)
    if "remote_confidences" not in asked:
        yield _remote("remote_confidences", reference.remote is not None, rows)
    if not loss.labelled:
        yield Unknown(
            "local_risk",
            "no accepted answer has a label, nor is the risk of all answers known",
            "Label about 300 accepted answers, drawn at random, and write the labels into the log or the file; "
            "audits tell only how often both models agree",
        )
        if "risk" in limited:
            yield Unknown("risk_limit", "no accepted answer has a label", "Label some, drawn at random")
        return
    if "risk" in limited and "risk_limit" not in asked:
        yield _remote("risk_limit", True, rows)
    graded = "losses that are graded, or weighted by --label-share, have no exchangeability test"
    for name, share in (("local_risk", reference.local_risk), ("remote_risk", reference.remote_risk)):
        if name in asked or name in flattered:
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


def notes_of(table: Table, rows: Decided, loss: LabelledLoss, audited: Audited | None) -> Iterator[str]:
    """What was left out, what was mixed, and how far labels can be trusted."""
    named = {str(one): one for one in table.extra.get("cascade", ())}
    cascades = sorted(name for name, one in named.items() if not is_missing_cell(one))
    if len(cascades) > 1:
        yield (
            f"The rows are of {len(cascades)} cascades ({', '.join(cascades)}), and the thresholds and their "
            f"calibration rows of one: choose it with --cascade NAME."
        )
    if audited is not None and audited.left_out:
        yield (
            f"Left out: {audited.left_out:,} audits of rows that are not among these, or that these thresholds do "
            f"not accept at the 1st level."
        )
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
