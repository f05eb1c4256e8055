"""Has the traffic moved away from the calibration rows, and are the promises kept? One finding for each question.

Rows are read in the order of their `time` column where every row has one (a decision log has it), else as they come.
Each question has an e-value that may be looked at after any row. Of q questions each rings at q / alpha, so that any
of them rings by chance with a probability of at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bisupervised.calibration.calibrate import data_hash
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.decision import check_threshold
from bisupervised.errors import InputError, ThresholdError
from bisupervised.monitoring.findings import NAN, Drift, Unknown
from bisupervised.monitoring.labels import LabelledLoss, labelled_loss
from bisupervised.monitoring.questions import Limit, Question, answer
from bisupervised.monitoring.ranks import Bins, Share
from bisupervised.monitoring.reference import Decided, Reference, decided
from bisupervised.records import FloatArray, IntArray
from bisupervised.table import Table

#: Figures that may be promised and can be watched.
PROMISES = ("risk", "request_rate")


class Audits(NamedTuple):
    """Audited rows in the order of their time, whose agreement is known."""

    times: FloatArray  #: (n,) Unix seconds
    agrees: FloatArray  #: (n,) 1 or 0


def drift(
    table: Table,
    thresholds: Thresholds,
    *,
    alpha: float = 0.01,
    limits: Mapping[str, float] | None = None,
    label_share: float | FloatArray | None = None,
    audits: Audits | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> Drift:
    """Compare rows with the thresholds' `[reference]`, and hold them to what was promised.

    `limits` are limits on the `risk` or the `request_rate`, in place of those of the thresholds' evidence or target.
    `label_share` is the probability with which each row was chosen to be labelled, a number or (n,) in the table's
    order (see `labels`). `shuffle` takes the rows in a random order (seeded): for a file whose order is not that of
    time, as one sorted by label, in which nothing is exchangeable. Raises `InputError` for the calibration rows
    themselves, `ThresholdError` without a reference.
    """
    if not 0.0 < alpha < 1.0:
        raise InputError(f"alpha, the probability of a false alarm, lies between 0 and 1; got {alpha}")
    if not len(table):
        raise InputError("there are no rows to compare with the calibration rows")
    reference = _reference_of(thresholds)
    if thresholds.evidence.get("data_sha256") == data_hash(table):
        raise InputError("these are the rows that the thresholds were calibrated on; give rows that came later")
    order, sentence = _order(table, seed if shuffle else None)
    table = table.take(order)
    if isinstance(label_share, np.ndarray | list | tuple):
        label_share = np.asarray(label_share, dtype=np.float64)
        if label_share.shape != (len(table),):
            raise InputError(f"label_share is one probability for each of the {len(table)} rows, or one number")
        label_share = label_share[order]
    rows = decided(table, thresholds.local, thresholds.remote, reference.abstain_threshold)
    loss = labelled_loss(rows, label_share)
    promised = promises_of(thresholds) | {name: Limit(most) for name, most in _checked(limits or {}).items()}
    questions = list(_questions(table, rows, loss, reference, promised, audits))
    if not questions:
        raise InputError("the local model was asked about none of these rows: there is nothing to compare")
    return Drift(
        findings=tuple(answer(question, alpha, len(questions), seed) for question in questions),
        unknown=tuple(_unknown({question.name for question in questions}, reference, loss, rows)),
        rows=len(table),
        alpha=alpha,
        order=sentence,
        notes=tuple(_notes(rows, loss)),
        reference=reference,
        local=np.asarray(table.local.confidences, dtype=np.float64)[rows.asked],
        remote=np.asarray(table.remote.confidences, dtype=np.float64)[rows.remote_known],
    )


def promises_of(thresholds: Thresholds) -> dict[str, Limit]:
    """Limits on the risk and the request rate that thresholds were certified for, or else aimed at."""
    evidence = thresholds.evidence
    certified: Any = evidence.get("guarantee", {})
    delta: Any = evidence.get("delta", NAN)
    promises = {}
    for name in PROMISES:
        if isinstance(certified, Mapping) and _is_share(certified.get(name)):
            promises[name] = Limit(float(certified[name]), float(delta) if _is_share(delta) else NAN)
        elif _is_share(thresholds.target.get(name)):
            promises[name] = Limit(float(thresholds.target[name]))
    return promises


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def _checked(limits: Mapping[str, float]) -> dict[str, float]:
    for name, most in limits.items():
        if name not in PROMISES or not _is_share(most):
            raise InputError(f"a limit is a share in [0, 1] on {' or '.join(PROMISES)}, not {most!r} on {name}")
    return dict(limits)


def _reference_of(thresholds: Thresholds) -> Reference:
    reference = Reference.from_mapping(thresholds.reference)
    abstain = check_threshold(getattr(thresholds, "abstain", -math.inf), "abstain threshold")
    own = (thresholds.local, thresholds.remote, abstain)
    if own != (reference.local_threshold, reference.remote_threshold, reference.abstain_threshold):
        raise ThresholdError(
            "[reference] was made for other thresholds than the file holds: what its calibration rows did under "
            "these is not known. Calibrate anew"
        )
    return reference


def _order(table: Table, seed: int | None) -> tuple[IntArray, str]:
    if seed is not None:
        order = np.random.default_rng([seed, 2]).permutation(len(table))
        return order, "Rows are read in a random order, as asked: when a change came cannot be told."
    try:
        times = np.asarray(table.extra["time"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return np.arange(len(table)), "Rows are read in the order in which they stand; it is taken for their time."
    if np.isnan(times).any():
        return np.arange(len(table)), "Some rows have no time: all are read in the order in which they stand."
    return np.argsort(times, kind="stable"), "Rows are read in the order of their time."


def _questions(
    table: Table,
    rows: Decided,
    loss: LabelledLoss,
    reference: Reference,
    promised: Mapping[str, Limit],
    audits: Audits | None,
) -> Iterator[Question]:
    named: dict[str, Any] = {"ids": table.ids, "times": _times(table)}
    asked, remote = np.flatnonzero(rows.asked), np.flatnonzero(rows.remote_known)
    deferred, early = (one[asked].astype(np.float64) for one in (rows.deferred, rows.early))
    if len(asked):
        local_confidences = np.asarray(table.local.confidences, dtype=np.float64)[asked]
        yield Question("local_confidences", reference.local, local_confidences, asked, len(asked), **named)
        yield _missing("local_missing", reference.local, local_confidences, asked, named)
    if len(remote) and reference.remote is not None:
        remote_confidences = np.asarray(table.remote.confidences, dtype=np.float64)[remote]
        yield Question("remote_confidences", reference.remote, remote_confidences, remote, len(remote), **named)
        yield _missing("remote_missing", reference.remote, remote_confidences, remote, named)
    if len(asked) and reference.request_rate is not None:
        yield Question("request_rate", reference.request_rate, deferred, asked, len(asked), **named)
    abstains = not math.isinf(reference.abstain_threshold)
    if len(asked) and abstains and reference.early_abstention is not None:
        yield Question("early_abstention", reference.early_abstention, early, asked, len(asked), **named)
    if loss.labelled and loss.testable and reference.risk is not None and reference.risk_graded is None:
        yield Question("risk", reference.risk, loss.values, loss.at, loss.labelled, **named)
    if audits is not None and len(audits.agrees) and reference.disagreement is not None:
        values, at = 1.0 - np.asarray(audits.agrees, dtype=np.float64), np.arange(len(audits.agrees))
        yield Question("disagreement", reference.disagreement, values, at, len(at), times=audits.times)
    if loss.labelled and "risk" in promised:
        yield Question("risk_limit", promised["risk"], loss.values, loss.at, loss.labelled, loss.least_share, **named)
    if len(asked) and "request_rate" in promised:
        yield Question("request_rate_limit", promised["request_rate"], deferred, asked, len(asked), **named)


def _missing(name: str, bins: Bins, confidences: FloatArray, at: IntArray, named: dict[str, Any]) -> Question:
    # Bins see a few missing ones late, if at all, where none was missing: they share the lowest bin with others.
    values = np.isnan(confidences).astype(np.float64)
    return Question(name, Share(bins.missing, bins.rows), values, at, len(at), **named)


def _times(table: Table) -> FloatArray | None:
    try:
        return np.asarray(table.extra["time"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None


def _unknown(asked: set[str], reference: Reference, loss: LabelledLoss, rows: Decided) -> Iterator[Unknown]:
    if "remote_confidences" not in asked:
        why = "no deferred row with a reply" if reference.remote is not None else "none among the calibration rows"
        yield Unknown("remote_confidences", why, "It takes rows that were deferred and the remote model answered.")
    if not loss.labelled:
        yield Unknown(
            "risk",
            "no accepted answer has a label",
            "Label about 300 accepted answers, drawn at random, and write the labels into the log or the file; "
            "audits tell only how often both models agree.",
        )
    elif "risk" not in asked:
        why = (
            "losses that are graded or weighted have no exchangeability test"
            if reference.risk is not None
            else "no accepted calibration row has a label"
        )
        yield Unknown("risk", why, "A limit on the risk can be tested all the same: --max-risk.")


def _notes(rows: Decided, loss: LabelledLoss) -> Iterator[str]:
    unasked = int((~rows.asked).sum())
    if unasked:
        yield f"Left out: {unasked:,} rows about which the local model was not asked."
    silent = int((rows.deferred & ~rows.remote_known).sum())
    if silent:
        yield (
            f"{silent:,} of {int(rows.deferred.sum()):,} deferred rows have no remote reply (other thresholds, or "
            f"another mode, decided then): they count for the request rate, and not for the 2nd level or the risk."
        )
    accepted, first = rows.accepted, rows.asked & ~rows.deferred & ~rows.early
    known = ~np.isnan(rows.loss)
    if not loss.labelled:
        return
    yield f"{loss.labelled:,} of {int(accepted.sum()):,} accepted answers are labelled."
    if loss.share_known or loss.labelled == int(accepted.sum()):
        return
    local, remote = (float(known[part].mean()) if part.any() else NAN for part in (first, accepted & ~first))
    said = (
        "The labelled answers are taken for a random sample. Labels that come by themselves are none (users report "
        "errors): draw rows at random, label them, and give --label-share."
    )
    if local == local and remote == remote and max(local, remote) > 1.5 * min(local, remote):
        said += (
            f" Labelled are {local:.1%} of the local and {remote:.1%} of the remote answers, so the mixture is not "
            f"that of all answers, and the risk is biased towards the one labelled more often."
        )
    yield said
