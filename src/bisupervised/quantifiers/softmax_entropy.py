"""Softmax entropy: how far the class probabilities are from one certain class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.quantifiers.port import CostClass, probabilities_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class SoftmaxEntropy:
    """confidence = sum_k p_k ln p_k (the negated entropy in nats, 0 ln 0 = 0), in [-ln(classes), 0].

    >>> SoftmaxEntropy()(ModelOutput(np.array([0, 0]), probabilities=np.array([[1.0, 0.0], [0.5, 0.5]])))
    array([ 0.        , -0.69314718])
    """

    name: ClassVar[str] = "softmax_entropy"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        p = probabilities_of(output)
        log_p = np.log(p, out=np.zeros_like(p), where=~(p <= 0.0))
        negative_entropy: FloatArray = np.einsum("ij,ij->i", p, log_p) + 0.0
        return negative_entropy
