"""Reconstruction: how much of the features is lost by an autoencoder of your own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import features_of, where_known
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import square_norms
from bisupervised.records import Evidence, FloatArray, ModelOutput

logger = logging.getLogger("bisupervised")


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """confidence = -mean_j (f_j - g(f)_j)^2, at or below 0. Stocco et al., ICSE 2020.

    `reconstruct` is g: it takes features, (n, d), and gives as many of the same width. The features may be the
    model's input itself. Where g raises (told in the log) the confidences are NaN.

    >>> output = ModelOutput(np.array([0, 0]), features=np.array([[1.0, 0.0], [1.0, 2.0]]))
    >>> Reconstruction(lambda features: features * [1.0, 0.0])(output)
    array([ 0., -2.])
    """

    reconstruct: Callable[[FloatArray], Any]
    name: ClassVar[str] = "reconstruction"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C3
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output)
        if not len(features):
            return np.empty(0)
        try:
            told = np.asarray(self.reconstruct(features.copy()), dtype=np.float64)
        except Exception as error:  # somebody's function, or a service behind it
            logger.warning("%r raised %s: %s", self.reconstruct, type(error).__name__, error, exc_info=error)
            return np.full(len(features), np.nan)
        if told.shape != features.shape:
            raise EvidenceError(
                f"reconstruct was given features of the shape {features.shape} and gave {told.shape}: they "
                f"must be as many, of the same width"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return where_known(known, 0.0 - square_norms(features - told) / features.shape[1])
