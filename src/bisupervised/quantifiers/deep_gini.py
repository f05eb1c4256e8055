"""DeepGini: the probability that two draws from the class probabilities agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.quantifiers.port import CostClass, probabilities_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class DeepGini:
    """confidence = sum_k p_k^2, in [1/classes, 1]. Feng et al., ISSTA 2020 (there: 1 minus this, an uncertainty).

    >>> DeepGini()(ModelOutput(np.array([0, 0]), probabilities=np.array([[1.0, 0.0], [0.5, 0.5]])))
    array([1. , 0.5])
    """

    name: ClassVar[str] = "deep_gini"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        p = probabilities_of(output)
        confidence: FloatArray = np.einsum("ij,ij->i", p, p)
        return confidence
