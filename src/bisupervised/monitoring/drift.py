"""Has the traffic moved away from the calibration rows, and are the promises kept? One finding for each question.

Rows are read in the order of their `time` column where every row has one (a decision log has it), else as they come.
Each question has an e-value that may be looked at after any row. Of q questions each rings at q / alpha, so that any
of them rings by chance with a probability of at most alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bisupervised.calibration.calibrate import data_hash
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.errors import InputError, ThresholdError
from bisupervised.monitoring.asking import Audits, questions_of
from bisupervised.monitoring.caveats import notes_of, unknown_of
from bisupervised.monitoring.findings import NAN, Drift
from bisupervised.monitoring.labels import labelled_loss
from bisupervised.monitoring.questions import Limit, answer
from bisupervised.monitoring.reference import Reference, decided
from bisupervised.records import FloatArray, IntArray
from bisupervised.table import Table

#: Figures that may be promised and can be watched.
PROMISES = ("risk", "request_rate")


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
    questions = list(questions_of(table, rows, loss, reference, promised, audits))
    if not questions:
        raise InputError("the local model was asked about none of these rows: there is nothing to compare")
    return Drift(
        findings=tuple(answer(question, alpha, len(questions), seed) for question in questions),
        unknown=tuple(unknown_of({question.name for question in questions}, reference, loss, rows, promised)),
        rows=len(table),
        alpha=alpha,
        order=sentence,
        notes=tuple(notes_of(rows, loss)),
        reference=reference,
        local=np.asarray(table.local.confidences, dtype=np.float64)[rows.asked],
        remote=np.asarray(table.remote.confidences, dtype=np.float64)[rows.remote_known],
    )


def promises_of(thresholds: Thresholds) -> dict[str, Limit]:
    """Limits on the risk and the request rate that thresholds were certified for, or else aimed at."""
    promises = {}
    for name in PROMISES:
        if _is_share(thresholds.target.get(name)):
            promises[name] = Limit(float(thresholds.target[name]))
    for part in thresholds.promises:
        certified, delta = part.get("guarantee"), part.get("delta")
        for name in PROMISES:
            if isinstance(certified, Mapping) and _is_share(certified.get(name)):
                chance = float(delta) if isinstance(delta, int | float) and _is_share(delta) else NAN
                promises[name] = Limit(float(certified[name]), chance)
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
    own = (thresholds.local, thresholds.remote, thresholds.abstain)
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
