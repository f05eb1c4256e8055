"""Entropies of another order than Shannon's: how much they mind the unlikely classes can be set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass, probabilities_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class RenyiEntropy:
    """confidence = ln(sum_k p_k^alpha) / (alpha - 1), in [-ln(classes), 0]: Rényi's entropy (1961), negated.

    alpha is positive and not 1 (there it is `SoftmaxEntropy`). Below 1 the unlikely classes count more, above 1
    less; alpha = 2 orders as `DeepGini` does.

    >>> RenyiEntropy()(ModelOutput(np.array([0, 0]), probabilities=np.array([[1.0, 0.0], [0.5, 0.5]])))
    array([ 0.        , -0.69314718])
    """

    alpha: float = 0.5
    name: ClassVar[str] = "renyi_entropy"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_order(self.alpha)

    def __call__(self, output: ModelOutput) -> FloatArray:
        powers = _power_sums(output, self.alpha)
        confidence: FloatArray = np.log(powers, out=np.zeros_like(powers), where=~(powers <= 0.0)) / (
            self.alpha - 1.0
        )
        return np.minimum(confidence, 0.0) + 0.0


@dataclass(frozen=True, slots=True)
class TsallisEntropy:
    """confidence = (sum_k p_k^alpha - 1) / (alpha - 1), at or below 0: the entropy of Tsallis (1988), negated.

    alpha is positive and not 1 (there it is `SoftmaxEntropy`); alpha = 2 is `DeepGini` less 1. It orders as
    `RenyiEntropy` of the same alpha does, in other steps.

    >>> TsallisEntropy(2.0)(ModelOutput(np.array([0, 0]), probabilities=np.array([[1.0, 0.0], [0.5, 0.5]])))
    array([ 0. , -0.5])
    """

    alpha: float = 0.5
    name: ClassVar[str] = "tsallis_entropy"
    needs: ClassVar[Evidence] = Evidence.PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_order(self.alpha)

    def __call__(self, output: ModelOutput) -> FloatArray:
        return np.minimum((_power_sums(output, self.alpha) - 1.0) / (self.alpha - 1.0), 0.0) + 0.0


def _check_order(alpha: float) -> None:
    if not 0.0 < alpha < np.inf or alpha == 1.0:
        raise EvidenceError(f"the order alpha is a positive number other than 1 (use softmax_entropy), not {alpha}")


def _power_sums(output: ModelOutput, alpha: float) -> FloatArray:
    sums: FloatArray = (np.clip(probabilities_of(output), 0.0, 1.0) ** alpha).sum(axis=1)
    return sums
