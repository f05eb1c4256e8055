"""Constant: no supervision, for a model that is trusted as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class Constant:
    """confidence = 1 for every prediction that did not fail.

    It judges nothing: for a remote model that gives no evidence and whose answers are taken as they are. Any
    threshold up to 1 trusts all of them, one above 1 none.

    >>> Constant()(ModelOutput(np.array(["a", "b"])))
    array([1., 1.])
    """

    name: ClassVar[str] = "constant"
    needs: ClassVar[Evidence | None] = None
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        confidence = np.ones(len(output))
        confidence[list(output.failures)] = np.nan
        return confidence
