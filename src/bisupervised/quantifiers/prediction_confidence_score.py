"""Prediction confidence score: the distance between the two largest class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.quantifiers.port import CostClass, probabilities_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class PredictionConfidenceScore:
    """confidence = p_(1) - p_(2), in [0, 1]; 1 when there is a single class. Zhang et al., ICSE 2020 (PCS).

    >>> PredictionConfidenceScore()(ModelOutput(np.array([0]), probabilities=np.array([[0.6, 0.3, 0.1]])))
    array([0.3])
    """

    name: ClassVar[str] = "prediction_confidence_score"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        p = probabilities_of(output)
        if p.shape[1] < 2:
            return np.asarray(p.sum(axis=1))
        # Partition puts NaN last, so a row with NaN gives NaN: no evidence.
        top_two = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
        margin: FloatArray = top_two[:, 1] - top_two[:, 0]
        return margin
