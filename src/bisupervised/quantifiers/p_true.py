"""P(True): the model is shown its own answer and asked whether it is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class PTrue:
    """confidence = the model's own probability that its answer is true, in [0, 1]. Kadavath et al., 2022.

    One more call for each answer: the question, the answer, "Is the proposed answer: (A) True (B) False", and the
    share that True has of the two in the reply's first token. Their finding, and others': it works for large
    models, hardly for small ones. A call that failed, or said neither, gives NaN.

    >>> PTrue()(ModelOutput(np.array(["Rome", "Oslo"]), p_true=np.array([0.9, np.nan])))
    array([0.9, nan])
    """

    name: ClassVar[str] = "p_true"
    needs: ClassVar[Evidence] = Evidence.P_TRUE
    cost_class: ClassVar[CostClass] = CostClass.C4
    extra_calls: ClassVar[int] = 1

    def __call__(self, output: ModelOutput) -> FloatArray:
        if output.p_true is None:
            raise EvidenceError(
                "the model output holds no P(True); ask the endpoint for it (self_verification = true) or use a "
                "quantifier that needs what the model gives"
            )
        try:
            p_true = np.array(output.p_true, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EvidenceError(f"p_true must be numbers, one for each prediction: {error}") from error
        if p_true.shape != (len(output),):
            raise EvidenceError(f"p_true has the shape {p_true.shape} for {len(output)} predictions")
        if (p_true < 0.0).any() or (p_true > 1.0).any():
            raise EvidenceError(
                f"p_true is a probability; there are values from {np.nanmin(p_true):.4g} to {np.nanmax(p_true):.4g}"
            )
        return p_true
