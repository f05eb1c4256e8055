"""The port: a quantifier turns a model output into confidences."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.records import Evidence, FloatArray, ModelOutput

#: How far a row of class probabilities may be from summing to 1 (float32 softmax over 1,000 classes: 1e-6).
SUM_TOLERANCE = 1e-3
#: Classes up to which a single row is checked without NumPy.
_FEW = 32


class CostClass(StrEnum):
    """What a quantifier's confidences cost beyond the model's first call: a higher class costs more."""

    C0 = "C0"  #: arithmetic on what the output holds already
    C1 = "C1"  #: one small fitted transform, whose cost does not grow with the rows it was fitted on
    C2 = "C2"  #: a comparison with every row it was fitted on
    C3 = "C3"  #: further passes of the model itself, or of another one beside it
    C4 = "C4"  #: further calls of the model, each with its latency and its price


@runtime_checkable
class Quantifier(Protocol):
    """Model output of n inputs -> (n,) float64 confidences, higher for more trusted, NaN without evidence.

    Each row is scored on its own: permuting the inputs permutes the confidences, and a row alone gets
    what it gets in a batch.

    Those of this package state their `cost_class` too; see `cost_class_of`.
    """

    @property
    def name(self) -> str:
        """The name in configuration files, tables and reports."""

    @property
    def needs(self) -> Evidence | None:
        """What the model output must hold; None: nothing."""

    @property
    def extra_calls(self) -> int:
        """How many model calls beyond the first its evidence takes for each input, at or above 0.

        What was really called is the output's `extra_calls`; cost, tokens and latency of these calls are in the
        output's own.
        """

    def __call__(self, output: ModelOutput) -> FloatArray:
        """Confidences, (n,). Raises `EvidenceError` where the evidence is missing or breaks its contract."""


def cost_class_of(quantifier: Quantifier) -> CostClass:
    """What the quantifier states; for one that states nothing, C4 if it takes extra calls, and C0 otherwise."""
    stated = getattr(quantifier, "cost_class", None)
    if stated is not None:
        return CostClass(stated)
    return CostClass.C4 if quantifier.extra_calls else CostClass.C0


def probabilities_of(output: ModelOutput, *, tolerance: float = SUM_TOLERANCE) -> FloatArray:
    """The (n, classes) class probabilities of an output, checked.

    A row that holds NaN stays: its confidence will be NaN. Raises `EvidenceError` when there are none, when a
    value lies outside [0, 1] or a row does not sum to 1 within `tolerance`: logits passed as probabilities
    would otherwise give plausible, wrong confidences.
    """
    p = output.probabilities
    if p is None:
        raise EvidenceError(
            "the model output holds no class probabilities; use a quantifier that needs what the model gives, "
            "or a model that returns `probabilities`"
        )
    try:
        # Rows side by side in memory: a sum over a row is the same to the last bit alone and in any batch.
        p = np.ascontiguousarray(p, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"class probabilities must be numbers, (inputs, classes): {error}") from error
    if p.ndim != 2 or p.shape[0] != len(output):
        raise EvidenceError(
            f"probabilities must have the shape (inputs, classes) = ({len(output)}, k), not {p.shape}"
        )
    check_sums(p, tolerance)
    return p


def check_sums(p: FloatArray, tolerance: float = SUM_TOLERANCE) -> None:
    """`EvidenceError` unless each row of (n, classes) is one of probabilities; a row that holds NaN passes."""
    if p.size == 0:
        if p.shape[0]:
            raise EvidenceError("probabilities over no classes: each row needs at least one class")
        return
    if p.shape[0] == 1 and p.shape[1] <= _FEW:
        row = p[0].tolist()  # a handful of numbers is checked sooner one by one
        if not abs(sum(row) - 1.0) > tolerance and not min(row) < -tolerance:
            return
    # Sums of NaN rows are NaN and compare false: they pass, as "no evidence", here and below.
    with np.errstate(invalid="ignore"):  # inf - inf
        sums = p.sum(axis=1)
    wrong = np.abs(sums - 1.0) > tolerance
    if wrong.any() or np.fmin.reduce(p, axis=None, initial=0.0) < -tolerance:
        wrong |= (p < -tolerance).any(axis=1)
        row = int(np.argmax(wrong))
        raise EvidenceError(
            f"{int(wrong.sum())} of {len(wrong)} rows are no probabilities (row {row} sums to "
            f"{sums[row]:.6g}, smallest value {p[row].min():.6g}). If these are logits, apply softmax first; "
            f"if they are rounded or quantised, renormalise them."
        )
