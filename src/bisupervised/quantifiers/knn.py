"""k-th nearest neighbour: how far the features' direction is from those of the training rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import features_of, fitting_rows, where_known
from bisupervised.quantifiers.neighbours import TrainingRows
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import square_norms
from bisupervised.records import AnyArray, Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class KNN:
    """confidence = -||z - z_(k)||, in [-2, 0], with z = f / ||f|| the features' direction. Sun et al., ICML 2022.

    z_(k) is the k-th nearest of the training rows' directions. The length of the features does not matter; features
    that are all 0 have no direction and the distance 1 to every one. Confidences of the rows that were fitted on are
    too high, since each is its own first neighbour: calibrate on others.
    """

    directions: AnyArray = field(repr=False)  #: (n, d) float32, of the training rows
    k: int = 50
    name: ClassVar[str] = "knn"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C2
    extra_calls: ClassVar[int] = 0
    _rows: TrainingRows = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = TrainingRows(self.directions)
        if not 1 <= self.k <= len(rows):
            raise EvidenceError(f"k is from 1 to the number of training rows, {len(rows)}, not {self.k}")
        object.__setattr__(self, "directions", rows.features)
        object.__setattr__(self, "_rows", rows)

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, self.directions.shape[1])
        return where_known(known, 0.0 - self._rows.kth_nearest(_directions(features), self.k)[0])

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any = None, *, k: int = 50) -> KNN:
        """From the features of training rows; of their labels only whether there is one is looked at.

        `k` is a count of training rows: with more of them, take it larger. Raises `EvidenceError` for fewer than k.
        """
        return cls(_directions(fitting_rows(output, labels).features), k)


def _directions(features: FloatArray) -> FloatArray:
    largest = np.abs(features).max(axis=1, initial=0.0, keepdims=True)
    scaled = features / np.where(largest > 0.0, largest, 1.0)  # whose squares neither overflow nor vanish
    lengths = np.sqrt(square_norms(scaled))[:, np.newaxis]
    directions: FloatArray = scaled / np.where(lengths > 0.0, lengths, 1.0)
    return directions
