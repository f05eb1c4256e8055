"""Max softmax: the largest class probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bisupervised.quantifiers.port import CostClass, probabilities_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class MaxSoftmax:
    """confidence = max_k p_k, in [1/classes, 1]. Hendrycks & Gimpel, ICLR 2017 ("vanilla" in the paper).

    >>> import numpy as np
    >>> MaxSoftmax()(ModelOutput(np.array([0, 1]), probabilities=np.array([[0.7, 0.3], [0.1, 0.9]])))
    array([0.7, 0.9])
    """

    name: ClassVar[str] = "max_softmax"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        confidence: FloatArray = probabilities_of(output).max(axis=1, initial=0.0)
        return confidence
