"""Energy: the free energy of the logits, which softmax throws away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import logits_of
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import log_sum_exp
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class Energy:
    """confidence = T ln sum_k e^(z_k / T) of the logits z, any real number. Liu et al., NeurIPS 2020 (its negative).

    Two outputs with the same class probabilities differ in it: small logits in all classes are an unfamiliar input.
    `temperature` T is positive.

    >>> Energy()(ModelOutput(np.array([0, 0]), logits=np.array([[2.0, 2.0], [0.0, 0.0]]))).round(4)
    array([2.6931, 0.6931])
    """

    temperature: float = 1.0
    name: ClassVar[str] = "energy"
    needs: ClassVar[Evidence] = Evidence.LOGITS
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < np.inf:
            raise EvidenceError(f"the temperature must be a positive number, not {self.temperature}")

    def __call__(self, output: ModelOutput) -> FloatArray:
        energy = self.temperature * log_sum_exp(logits_of(output) / self.temperature)
        return np.where(energy == -np.inf, np.nan, energy)  # every class ruled out: nothing to judge by
