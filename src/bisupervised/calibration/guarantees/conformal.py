"""Conformal risk control: the expected loss of the next input is at most the target (Angelopoulos et al., ICLR 2024).

For a loss in [0, bound] that only falls as the threshold rises, or only rises with it, and a next input exchangeable
with n calibration rows, any threshold with (n mean loss + bound) / (n + 1) <= target has expected loss <= target, as
long as it is the one nearest to the other end. It is a promise on average over calibration sets, not for most of
them.

Losses that qualify: accepted and wrong; correct and rejected; a cost of both, where for every row one of the two
actions costs no less. Thresholds that do not move must come from other rows. Risk among the accepted (a ratio) does
not qualify: use `selective_risk`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from bisupervised.calibration.guarantees.evidence import (
    EXCHANGEABLE,
    FIXED_FIRST_LEVEL,
    Certified,
    Guarantee,
    Infeasible,
)
from bisupervised.calibration.guarantees.support import rows_on_average
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.decision import first_level
from bisupervised.errors import InputError
from bisupervised.records import FloatArray

_METHOD = "conformal risk control"


def expected_loss(
    confidence: FloatArray,
    loss_if_accepted: Any,
    loss_if_rejected: Any,
    target: float,
    *,
    bound: float = 1.0,
    level: str = "local",
    figure: str = "expected_loss",
) -> Guarantee:
    """The threshold with expected loss at most `target` that accepts the most, where accepting costs, or rejects the
    most, where rejecting costs.

    Losses are (n,) or numbers, in [0, bound]. Raises `InputError` where accepting costs more in some rows and less in
    others: such a loss is not monotone, and nothing is promised for it.

    >>> score = np.arange(1.0, 100.0)
    >>> wrong = score < 40
    >>> expected_loss(score, wrong, 0.0, 0.1).thresholds  # (9 + 1) / 100 of all inputs accepted and wrong
    {'local': 31.0}
    >>> expected_loss(score, 0.0, ~wrong, 0.1).thresholds  # (9 + 1) / 100 correct and rejected
    {'local': 49.0}
    """
    scores = np.asarray(confidence, dtype=np.float64)
    accepted, rejected = (
        np.broadcast_to(np.asarray(one, dtype=np.float64), scores.shape)
        for one in (loss_if_accepted, loss_if_rejected)
    )
    _check(scores, accepted, rejected, bound)
    extra = accepted - rejected
    accepting_costs = bool((extra >= 0.0).all())
    if not accepting_costs and (extra > 0.0).any():
        raise InputError(
            "accepting loses more for some rows, rejecting for others: this loss is not monotone in the threshold"
        )
    thresholds, losses = _losses(scores, rejected, extra)
    n = len(scores)
    enough = (losses + bound) / (n + 1) <= target + 1e-12
    if not enough.any():
        return _infeasible(losses, target, bound, n, figure)
    # `thresholds` fall: the last that is good accepts the most; the first good one rejects the most.
    best = int(np.flatnonzero(enough)[-1] if accepting_costs else np.flatnonzero(enough)[0])
    return Certified(
        method=_METHOD,
        thresholds={level: float(thresholds[best])},
        target={figure: target},
        delta=None,
        n=n,
        counts={"loss": float(losses[best])},
        bounds={figure: float((losses[best] + bound) / (n + 1))},
        assumption=EXCHANGEABLE.format(n=n),
    )


def expected_error_rate(
    rows: CalibrationRows, local: float, target: float, *, abstain: float = -math.inf
) -> Guarantee:
    """The remote threshold at which at most `target` of all inputs are accepted and wrong, on average, the 1st
    level's thresholds given and not chosen on these rows."""
    accepted, deferred = first_level(rows.local_confidence, local, abstain)
    scores = np.where(deferred, rows.remote_confidence, np.nan)
    fixed = np.where(accepted, rows.local_loss, 0.0)
    found = expected_loss(
        scores, np.where(deferred, rows.remote_loss, fixed), fixed, target, level="remote", figure="error_rate"
    )
    if isinstance(found, Infeasible):
        return found
    whole = {"local": float(local), "abstain": float(abstain), **found.thresholds}
    return replace(found, thresholds=whole, remarks=(FIXED_FIRST_LEVEL,))


def _check(scores: FloatArray, accepted: FloatArray, rejected: FloatArray, bound: float) -> None:
    if scores.ndim != 1 or not len(scores):
        raise InputError(f"confidences are one number per input, at least one; got the shape {scores.shape}")
    for loss in (accepted, rejected):
        if not bool(((loss >= 0.0) & (loss <= bound)).all()):
            raise InputError(f"losses are known for every row, and between 0 and the bound, which is {bound}")


def _losses(scores: FloatArray, rejected: FloatArray, extra: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(falling thresholds from +inf to -inf, sum of losses at each)."""
    known = ~np.isnan(scores)
    values, group = np.unique(-scores[known], return_inverse=True)
    gained = np.bincount(group, weights=extra[known], minlength=len(values))
    thresholds = np.concatenate([[np.inf], -values, [-np.inf]])
    sums = rejected.sum() + np.concatenate([[0.0], np.cumsum(gained), [gained.sum()]])
    if len(values) and values[0] == -np.inf:  # a confidence of +inf is accepted at +inf too
        thresholds, sums = thresholds[1:], sums[1:]
    return thresholds, sums


def _infeasible(losses: FloatArray, target: float, bound: float, n: int, figure: str) -> Infeasible:
    lowest = float(losses.min())
    needed = rows_on_average(lowest / n, target, bound)
    return Infeasible(
        _METHOD,
        {figure: target},
        None,
        n,
        f"the least mean loss of any threshold is {lowest / n:.3f}",
        {figure: (lowest + bound) / (n + 1)},
        None if needed is None else max(needed - n, 1),
    )
