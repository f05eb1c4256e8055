"""Likelihood-based surprise adequacy: how dense the training rows of the predicted class lie around the features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import (
    check_predicted,
    class_indices,
    features_of,
    fitting_rows,
    label_list,
    where_known,
)
from bisupervised.quantifiers.covariance import shrunk_covariance, whitening
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import log_sum_exp, read_only, row_product, square_distances, square_norms
from bisupervised.records import BoolArray, Evidence, FloatArray, IntArray, ModelOutput

#: Features whose variance is below this share of the largest one's are constant.
_CONSTANT: Final = 1e-10
#: Kernel distances held at a time.
_DISTANCES: Final = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class LSA:
    """confidence = ln p_c(f), any real number: the log-density of the features in the predicted class c.

    p_c is a kernel density estimate over the training rows of the class. Kim, Feldt & Yoo, ICSE 2019, whose surprise
    is the negative of this; computed as a logarithm throughout, so that far away it falls on where a density would be
    0. The kernel is Gaussian, with Scott's factor n_c^(-1 / (d + 4)) for each class and the shrunk covariance about
    the class means, one for all classes, so that small classes have one too. Of the features, the `max_features` of
    the largest variance are read, and none that is constant. A predicted class without training rows gives NaN.
    """

    columns: IntArray = field(repr=False)  #: (d,) the features that are read
    centre: FloatArray = field(repr=False)  #: (d,) their means
    whitener: FloatArray = field(repr=False)  #: (d, d) W with W W' the inverse of the covariance
    log_determinant: float  #: half the logarithm of the covariance's determinant
    points: FloatArray = field(repr=False)  #: (n, d) the training rows, less the centre, times W, class by class
    bounds: IntArray = field(repr=False)  #: (classes + 1,) where each class begins, and the last ends
    classes: tuple[Any, ...] = ()  #: the label of each class, as it is written
    name: ClassVar[str] = "lsa"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C2
    extra_calls: ClassVar[int] = 0
    width: int = 0  #: how many features an output has
    _norms: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("centre", "whitener", "points"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        for name in ("columns", "bounds"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.int64))
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "_norms", square_norms(self.points))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, self.width)
        index = class_indices(self.classes, label_list(output))
        white = row_product(features[:, self.columns] - self.centre, self.whitener)
        confidences = np.full(len(output), np.nan)
        for place in np.unique(index[known & (index >= 0)]).tolist():
            rows = np.flatnonzero(known & (index == place))
            step = max(8, _DISTANCES // int(self.bounds[place + 1] - self.bounds[place]))
            for first in range(0, len(rows), step):
                some = rows[first : first + step]
                confidences[some] = self._log_density(white[some], place)
        return where_known(known, confidences)

    def _log_density(self, white: FloatArray, place: int) -> FloatArray:
        of_class = slice(int(self.bounds[place]), int(self.bounds[place + 1]))
        n, d = of_class.stop - of_class.start, white.shape[1]
        log_factor = -np.log(n) / (d + 4)
        exponents = square_distances(white, self.points[of_class], self._norms[of_class])
        exponents *= -0.5 * np.exp(-2.0 * log_factor)
        constant = np.log(n) + d * (log_factor + 0.5 * np.log(2.0 * np.pi)) + self.log_determinant
        log_density: FloatArray = log_sum_exp(exponents) - constant
        return log_density

    @classmethod
    def fit(
        cls, output: ModelOutput, labels: Any = None, *, max_features: int = 300, shrinkage: float | None = None
    ) -> LSA:
        """From the features of training rows and their (n,) labels; by default the predictions, as Kim et al. do.

        `shrinkage` in [0, 1] of the covariance; None chooses it (`shrunk_covariance`). Raises `EvidenceError`, also
        when no prediction is among the labels.
        """
        if max_features < 1:
            raise EvidenceError(f"max_features is at least 1, not {max_features}")
        rows = fitting_rows(output, labels)
        check_predicted(rows.classes, output)
        _, deviations = rows.within_class()
        columns = _most_varying(rows.features.var(axis=0), max_features)
        order, bounds = rows.by_class()
        covariance = shrunk_covariance(deviations[:, columns], len(order) - len(rows.classes), shrinkage)
        whitener, log_determinant = whitening(covariance)
        selected = rows.features[:, columns]
        centre = selected.mean(axis=0)
        points = row_product(selected[order] - centre, whitener)
        width = rows.features.shape[1]
        return cls(columns, centre, whitener, log_determinant, points, bounds, rows.classes, width)


def _most_varying(variances: FloatArray, at_most: int) -> IntArray:
    """The places of the largest variances, rising; none that is next to nothing beside the largest."""
    largest = np.argsort(-variances, kind="stable")[:at_most]
    varying: BoolArray = variances[largest] > _CONSTANT * variances.max()
    return np.sort(largest[varying]) if varying.any() else np.arange(min(1, len(variances)))
