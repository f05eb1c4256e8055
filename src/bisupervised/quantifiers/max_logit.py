"""Max logit, plain and normalised: the largest logit, and how far it stands out by a norm fitted on labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from bisupervised.cells import written
from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import check_predicted, is_label, label_list, logits_of
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import BoolArray, Evidence, FloatArray, ModelOutput

#: The orders of the norm that `MaxLogitPNorm.fit` tries.
ORDERS: Final = tuple(float(p) for p in range(1, 11))


@dataclass(frozen=True, slots=True)
class MaxLogit:
    """confidence = max_k z_k of the logits z, any real number. Hendrycks et al., ICML 2022.

    >>> MaxLogit()(ModelOutput(np.array([0, 0]), logits=np.array([[2.0, -1.0], [0.5, 0.4]])))
    array([2. , 0.5])
    """

    name: ClassVar[str] = "max_logit"
    needs: ClassVar[Evidence] = Evidence.LOGITS
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        return _largest(logits_of(output))


@dataclass(frozen=True, slots=True)
class MaxLogitPNorm:
    """confidence = max_k c_k / ||c||_p of the logits less their mean, c, in [0, 1]. Cattelan & Silva, UAI 2024.

    `p` is the order of the norm, or `"max_softmax"` or `"max_logit"`: the confidence that `fit` falls back to where
    no norm orders the labelled rows better. Logits that are all alike give 0; an infinite one NaN.

    >>> MaxLogitPNorm(2.0)(ModelOutput(np.array([0, 0]), logits=np.array([[3.0, -3.0, 0.0], [1.0, 1.0, 1.0]])))
    array([0.70710678, 0.        ])
    """

    p: float | str
    name: ClassVar[str] = "max_logit_pnorm"
    needs: ClassVar[Evidence] = Evidence.LOGITS
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if isinstance(self.p, str):
            if self.p not in ("max_softmax", "max_logit"):
                raise EvidenceError(f"p is a number, 'max_softmax' or 'max_logit', not {self.p!r}")
        elif not 0.0 < self.p < np.inf:
            raise EvidenceError(f"the order p of the norm is a positive number, not {self.p}")

    def __call__(self, output: ModelOutput) -> FloatArray:
        return self._score(logits_of(output))

    def _score(self, logits: FloatArray) -> FloatArray:
        if logits.size == 0:
            return np.empty(len(logits))
        if self.p == "max_logit":
            return _largest(logits)
        with np.errstate(invalid="ignore"):  # inf - inf
            below = logits - logits.max(axis=1, keepdims=True)  # first, so that equal logits are told exactly
            if isinstance(self.p, str):
                softmax: FloatArray = 1.0 / np.exp(below).sum(axis=1)
                return softmax
            return _largest_in_norm(below - below.mean(axis=1, keepdims=True), self.p)

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any) -> MaxLogitPNorm:
        """The order in 1..10 whose confidences have the smallest AURC on rows with logits and a label, (n,).

        When it is no smaller than that of the largest softmax, or of the largest logit, the better of the two is
        taken (the first at ties). A prediction is right when it is written as the label is. Raises `EvidenceError`
        when there is no such row, or no prediction that is any of the labels.
        """
        logits = logits_of(output)
        values = label_list(output, labels)
        known = ~np.isnan(logits).any(axis=1)
        known &= np.fromiter((is_label(value) for value in values), np.bool_, len(values))
        known[list(output.failures)] = False
        if not known.any():
            raise EvidenceError("there is no row to fit on: each needs logits and a label")
        predictions, rows = output.predictions.tolist(), np.flatnonzero(known).tolist()
        check_predicted([values[row] for row in rows], output)
        wrong = np.array([written(predictions[row]) != written(values[row]) for row in rows])
        candidates = [cls("max_softmax"), cls("max_logit"), *map(cls, ORDERS)]
        risks = [aurc(candidate._score(logits[known]), wrong) for candidate in candidates]
        return candidates[int(np.argmin(np.round(risks, 12)))]


def _largest(logits: FloatArray) -> FloatArray:
    largest = logits.max(axis=1, initial=-np.inf)
    return np.where(largest == -np.inf, np.nan, largest)  # every class ruled out: nothing to judge by


def _largest_in_norm(centred: FloatArray, p: float) -> FloatArray:
    """(n,) max_k c_k / ||c||_p. Divided by the largest of |c| first: its power would overflow."""
    scale = np.abs(centred).max(axis=1)
    relative = centred / np.where(scale > 0.0, scale, 1.0)[:, np.newaxis]
    norm = (np.abs(relative) ** p).sum(axis=1) ** (1.0 / p)
    confidence: FloatArray = relative.max(axis=1) / np.where(norm > 0.0, norm, 1.0)
    return confidence


def aurc(confidences: FloatArray, wrong: BoolArray) -> float:
    """The mean over k of the risk of the k most trusted rows, ties averaged over their order; NaN is trusted least.

    `evaluation.risk_coverage` gives the same, and more; a quantifier cannot reach up to it.

    >>> aurc(np.array([0.9, 0.5, 0.5]), np.array([False, True, False])).__round__(4)
    0.1944
    """
    levels, group = np.unique(-np.where(np.isnan(confidences), -np.inf, confidences), return_inverse=True)
    sizes = np.bincount(group, minlength=len(levels))
    rates = np.bincount(group, weights=wrong, minlength=len(levels)) / sizes
    return float(np.mean(np.cumsum(np.repeat(rates, sizes)) / np.arange(1, len(group) + 1)))
