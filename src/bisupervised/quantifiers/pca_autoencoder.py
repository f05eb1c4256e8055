"""PCA autoencoder: how much of the features is lost when the training rows' main directions alone tell them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import features_of, fitting_rows, where_known
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import read_only, row_product, square_norms
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class PCAAutoencoder:
    """confidence = -||f - g(f)||^2, at or below 0, with g(f) = m + V V'(f - m) the features told by V.

    m is the mean of the training rows and V their first principal directions: the linear autoencoder of the smallest
    reconstruction error (Baldi & Hornik, 1989), used as Stocco et al. (ICSE 2020) use deep ones. The features may be
    the model's input itself.
    """

    mean: FloatArray = field(repr=False)  #: (d,) m
    directions: FloatArray = field(repr=False)  #: (d, components) V, orthonormal columns
    name: ClassVar[str] = "pca_autoencoder"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("mean", "directions"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, len(self.mean))
        centred = features - self.mean
        told = row_product(row_product(centred, self.directions), self.directions.T)
        return where_known(known, 0.0 - square_norms(centred - told))

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any = None, *, components: float = 0.9) -> PCAAutoencoder:
        """From the features of training rows; of their labels only whether there is one is looked at.

        `components` is how many directions there are, a whole number from 1 on and below d, or, in (0, 1), the share
        of the variance that they explain at least. Raises `EvidenceError`.
        """
        features = fitting_rows(output, labels).features
        mean = features.mean(axis=0)
        variances, directions = np.linalg.eigh((features - mean).T @ (features - mean) / len(features))
        variances, directions = np.maximum(variances[::-1], 0.0), directions[:, ::-1]
        if not variances.sum() > 0.0:
            raise EvidenceError("the features do not vary over the rows to fit on")
        if 0.0 < components < 1.0:
            explained = np.cumsum(variances) / variances.sum()
            components = min(int(np.searchsorted(explained, components)) + 1, max(len(mean) - 1, 1))
        if components != int(components) or not 1 <= components < len(mean):
            raise EvidenceError(
                f"components is a share of the variance in (0, 1) or a number of directions from 1 to "
                f"{len(mean) - 1}, not {components}: told by all {len(mean)}, nothing is lost"
            )
        return cls(mean, directions[:, : int(components)])
