"""Given confidence: the number that the back end, or a recording, brought along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class GivenConfidence:
    """confidence = the output's own `confidences`, unchanged. Any real number; higher for more trusted.

    >>> GivenConfidence()(ModelOutput(np.array([0, 1]), confidences=np.array([0.4, np.nan])))
    array([0.4, nan])
    """

    name: ClassVar[str] = "confidence"
    needs: ClassVar[Evidence] = Evidence.CONFIDENCE
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        if output.confidences is None:
            raise EvidenceError("the model output brings no confidences of its own; choose a quantifier")
        try:
            confidences = np.asarray(output.confidences, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EvidenceError(f"confidences must be numbers, one for each prediction: {error}") from error
        if confidences.shape != (len(output),):
            raise EvidenceError(
                f"confidences must be one number for each of the {len(output)} predictions, not of the shape "
                f"{confidences.shape}"
            )
        return confidences
