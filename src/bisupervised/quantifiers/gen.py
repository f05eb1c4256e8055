"""GEN: an entropy of the largest class probabilities that weighs small doubts heavily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass, probabilities_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class Gen:
    """confidence = -sum of p^gamma (1 - p)^gamma over the `largest` class probabilities, at or below 0.

    Liu, Lochman & Zach, CVPR 2023, with their gamma = 0.1 and the 100 largest of many classes. 0 for a certain row.

    >>> Gen()(ModelOutput(np.array([0, 0]), probabilities=np.array([[1.0, 0.0], [0.5, 0.5]]))).round(4)
    array([ 0.    , -1.7411])
    """

    gamma: float = 0.1
    largest: int = 100
    name: ClassVar[str] = "gen"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma < 1.0 or self.largest < 1:
            raise EvidenceError(f"gamma is in (0, 1) and largest at least 1, not {self.gamma} and {self.largest}")

    def __call__(self, output: ModelOutput) -> FloatArray:
        p = np.clip(probabilities_of(output), 0.0, 1.0)
        # In order, so that equal classes in another order give the same to the last bit. NaN goes last and is kept.
        p = np.sort(p, axis=1)[:, -self.largest :]
        confidence: FloatArray = 0.0 - ((p * (1.0 - p)) ** self.gamma).sum(axis=1)
        return confidence
