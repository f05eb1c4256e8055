"""Has the traffic moved away from the calibration rows, and are the promises kept? One finding for each question.

Rows are read in the order of their `time` column where every row has one (a decision log has it), else as they come.
Each question has an e-value that may be looked at after any row. There are q questions, and each rings at q / alpha,
asked or not: so any of them ever rings by chance with a probability of at most alpha, also where labels and audits
come later, and with them further questions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bisupervised.calibration.calibrate import data_hash
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.errors import InputError, ThresholdError
from bisupervised.monitoring.asking import questions_of
from bisupervised.monitoring.auditing import Audits, joined
from bisupervised.monitoring.caveats import notes_of, unknown_of
from bisupervised.monitoring.choosing import FLATTERED, chose
from bisupervised.monitoring.findings import Drift
from bisupervised.monitoring.labels import checked_share, labelled_loss
from bisupervised.monitoring.promises import checked_limits, promises_not_watched, promises_of
from bisupervised.monitoring.questions import answer
from bisupervised.monitoring.reference import Reference, decided
from bisupervised.monitoring.times import Moment, Times, seconds_of, times_of, written_time
from bisupervised.records import BoolArray, FloatArray, IntArray
from bisupervised.table import Table


def drift(
    table: Table,
    thresholds: Thresholds,
    *,
    alpha: float = 0.01,
    limits: Mapping[str, float] | None = None,
    label_share: float | FloatArray | None = None,
    audits: Audits | None = None,
    since: Moment | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> Drift:
    """Compare rows with the thresholds' `[reference]`, and hold them to what was promised.

    `limits` are limits on the `risk`, the `request_rate` or the `abstention`, in place of what was certified.
    `label_share` is the probability with which each row was chosen to be labelled, a number or (n,) in the table's
    order (see `labels`). `audits` are joined to the rows by id. `since` leaves out earlier rows: Unix seconds, ISO
    8601 or a datetime (UTC without a time zone); by default, where rows have times and the evidence has its date,
    those from before the calibration. `shuffle` takes the rows in a random order (seeded): for a file whose order is
    not that of time, as one sorted by label, in which nothing is exchangeable. Raises `InputError` for the
    calibration rows themselves, and where no row is left; `ThresholdError` without a reference.
    """
    if not 0.0 < alpha < 1.0:
        raise InputError(f"alpha, the probability of a false alarm, lies between 0 and 1; got {alpha}")
    if not len(table):
        raise InputError("there are no rows to compare with the calibration rows")
    reference = _reference_of(thresholds)
    if thresholds.evidence.get("data_sha256") == data_hash(table):
        raise InputError("these are the rows that the thresholds were calibrated on; give rows that came later")
    label_share = checked_share(label_share, len(table))
    times = times_of(table)
    kept, left_out = _since(times, since, thresholds, len(table))
    order, sentence = _order(times, kept, seed if shuffle else None)
    table = table.take(order)
    if isinstance(label_share, np.ndarray):
        label_share = label_share[order]
    rows = decided(table, thresholds.local, thresholds.remote, reference.abstain_threshold)
    loss = labelled_loss(rows, label_share)
    limited = promises_of(thresholds) | checked_limits(limits or {})
    audited = None if audits is None else joined(audits, table, rows)
    seconds = None if times.seconds is None else times.seconds[order]
    questions = list(questions_of(table, rows, loss, reference, limited, audited, seconds))
    left = {question.name for question in questions if question.name in FLATTERED and chose(thresholds, reference)}
    questions = [question for question in questions if question.name not in left]
    if not questions:
        raise InputError("the local model was asked about none of these rows: there is nothing to compare")
    return Drift(
        findings=tuple(answer(question, alpha, seed) for question in questions),
        unknown=(
            *unknown_of({one.name for one in questions}, left, reference, loss, rows, limited, audited),
            *promises_not_watched(thresholds, limited),
        ),
        rows=len(table),
        alpha=alpha,
        order=sentence,
        notes=(*left_out, *notes_of(table, rows, loss, audited)),
        reference=reference,
        local=np.asarray(table.local.confidences, dtype=np.float64)[rows.asked],
        remote=np.asarray(table.remote.confidences, dtype=np.float64)[rows.remote_known],
    )


def _reference_of(thresholds: Thresholds) -> Reference:
    reference = Reference.from_mapping(thresholds.reference)
    own = (thresholds.local, thresholds.remote, thresholds.abstain)
    if own != (reference.local_threshold, reference.remote_threshold, reference.abstain_threshold):
        raise ThresholdError(
            "[reference] was made for other thresholds than the file holds: what its calibration rows did under "
            "these is not known. Calibrate anew"
        )
    return reference


def _since(times: Times, since: Moment | None, thresholds: Thresholds, n: int) -> tuple[BoolArray, tuple[str, ...]]:
    """(n,) the rows that are taken, and a note on the others."""
    every = np.ones(n, dtype=np.bool_)
    if since is not None:
        first = seconds_of(since)
        if times.seconds is None:
            why = times.problem or "there is no column time"
            raise InputError(f"to leave out rows before {written_time(first)} every row needs a time, and {why}")
        what = ""
    else:
        date = thresholds.evidence.get("date")
        if date is None or times.seconds is None:
            return every, ()
        try:
            first = seconds_of(date)
        except InputError:
            return every, (f"Rows from before the calibration are not left out: its date {date!r} cannot be read.",)
        what = "the calibration of "
    kept = times.seconds >= first
    if kept.all():
        return every, ()
    before = f"before {what}{written_time(first)}"
    if not kept.any():
        raise InputError(
            f"all {n:,} rows are from {before}: give rows that came later"
            + (", or say with since (--since) from when on they are to be taken" if what else "")
        )
    note = f"Left out: {int((~kept).sum()):,} rows from {before}"
    return kept, (note + (" (--since TIME takes rows from another time on)." if what else ", as asked."),)


def _order(times: Times, kept: BoolArray, seed: int | None) -> tuple[IntArray, str]:
    rows = np.flatnonzero(kept)
    if seed is not None:
        order = np.random.default_rng([seed, 2]).permutation(rows)
        return order, "Rows are read in a random order, as asked: when a change came cannot be told."
    if times.seconds is not None:
        return rows[np.argsort(times.seconds[rows], kind="stable")], "Rows are read in the order of their time."
    stand = "rows are read in the order in which they stand; it is taken for their time."
    problem = f"{times.problem}: all {stand}" if times.problem else stand
    return rows, problem[0].upper() + problem[1:]
