"""Mahalanobis distances: how far the features are from those of the training rows, in units of their spread.

All are squared distances with a shrunk covariance (`covariance.py`), so that constant and collinear features, and
more features than rows, do no harm. For out-of-distribution inputs; on misclassified ordinary ones the class
probabilities are usually better. Confidences of the very rows that were fitted on are too high: calibrate on others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bisupervised.quantifiers.arrays import features_of, fitting_rows, where_known
from bisupervised.quantifiers.covariance import shrunk_covariance, whitening
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import read_only, row_product, square_distances, square_norms
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """confidence = -min_c (f - m_c)' S^-1 (f - m_c), at or below 0. Lee et al., NeurIPS 2018.

    f are the features, m_c the mean of class c, S the covariance about the class means, one for all classes.
    """

    centre: FloatArray = field(repr=False)  #: (d,) the mean of all rows
    whitener: FloatArray = field(repr=False)  #: (d, d) W with W W' = S^-1
    means: FloatArray = field(repr=False)  #: (classes, d) the class means, less the centre, times W
    name: ClassVar[str] = "mahalanobis"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("centre", "whitener", "means"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, len(self.centre))
        return where_known(known, 0.0 - _to_nearest(features - self.centre, self.whitener, self.means))

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any = None, *, shrinkage: float | None = None) -> Mahalanobis:
        """From the features of training rows and their (n,) labels; by default the predictions stand for them.

        `shrinkage` in [0, 1] of the covariance; None chooses it (`shrunk_covariance`). Raises `EvidenceError`.
        """
        rows = fitting_rows(output, labels)
        centre = rows.features.mean(axis=0)
        whitener, means = _tied(rows.within_class(), centre, shrinkage)
        return cls(centre, whitener, means)


@dataclass(frozen=True, slots=True, eq=False)
class MDSA:
    """confidence = -(f - m)' S^-1 (f - m), at or below 0: Mahalanobis distance-based surprise. Kim et al., FSE 2020.

    One mean m and covariance S of all training rows, whatever their class.
    """

    centre: FloatArray = field(repr=False)  #: (d,) the mean m
    whitener: FloatArray = field(repr=False)  #: (d, d) W with W W' = S^-1
    name: ClassVar[str] = "mdsa"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("centre", "whitener"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, len(self.centre))
        return where_known(known, 0.0 - square_norms(row_product(features - self.centre, self.whitener)))

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any = None, *, shrinkage: float | None = None) -> MDSA:
        """From the features of training rows; of their labels only whether there is one is looked at.

        `shrinkage` in [0, 1] of the covariance; None chooses it (`shrunk_covariance`). Raises `EvidenceError`.
        """
        features = fitting_rows(output, labels).features
        centre = features.mean(axis=0)
        return cls(centre, whitening(shrunk_covariance(features - centre, len(features) - 1, shrinkage))[0])


@dataclass(frozen=True, slots=True, eq=False)
class RelativeMahalanobis:
    """confidence = (f - m)' S_0^-1 (f - m) - min_c (f - m_c)' S^-1 (f - m_c), any real number. Ren et al., 2021.

    `Mahalanobis` less what `MDSA` finds: features that vary in all classes alike say nothing about the class.
    """

    centre: FloatArray = field(repr=False)  #: (d,) the mean m of all rows
    whitener: FloatArray = field(repr=False)  #: (d, d) W with W W' = S^-1, about the class means
    means: FloatArray = field(repr=False)  #: (classes, d) the class means, less the centre, times W
    overall_whitener: FloatArray = field(repr=False)  #: (d, d) the same of S_0, about the mean of all rows
    name: ClassVar[str] = "relative_mahalanobis"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("centre", "whitener", "means", "overall_whitener"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, len(self.centre))
        centred = features - self.centre
        with np.errstate(invalid="ignore"):  # inf - inf
            overall = square_norms(row_product(centred, self.overall_whitener))
            return where_known(known, overall - _to_nearest(centred, self.whitener, self.means))

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any = None, *, shrinkage: float | None = None) -> RelativeMahalanobis:
        """From the features of training rows and their (n,) labels; by default the predictions stand for them.

        `shrinkage` in [0, 1] of both covariances; None chooses them (`shrunk_covariance`). Raises `EvidenceError`.
        """
        rows = fitting_rows(output, labels)
        centre = rows.features.mean(axis=0)
        whitener, means = _tied(rows.within_class(), centre, shrinkage)
        overall = shrunk_covariance(rows.features - centre, len(rows.features) - 1, shrinkage)
        return cls(centre, whitener, means, whitening(overall)[0])


def _tied(
    within: tuple[FloatArray, FloatArray], centre: FloatArray, shrinkage: float | None
) -> tuple[FloatArray, FloatArray]:
    """The whitener of the covariance that all classes share, and the class means in its space."""
    means, deviations = within
    whitener, _ = whitening(shrunk_covariance(deviations, len(deviations) - len(means), shrinkage))
    return whitener, row_product(means - centre, whitener)


def _to_nearest(centred: FloatArray, whitener: FloatArray, means: FloatArray) -> FloatArray:
    """(n,) the squared distance to the nearest class mean."""
    white = row_product(centred, whitener)
    nearest: FloatArray = square_distances(white, means, square_norms(means)).min(axis=1)
    return nearest
