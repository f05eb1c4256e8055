"""Virtual-logit matching: the energy of the logits, less what the features hold that no training row does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import features_of, fitting_rows, where_known
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import log_sum_exp, read_only, row_product, square_norms
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class ViM:
    """confidence = ln sum_k e^(z_k) - alpha ||R'(f - u)||, any real number. Wang et al., CVPR 2022.

    z = W f + b are the logits that the model's last layer makes of the features f, so that no others are needed;
    u = -W^+ b is where they are all 0. R spans what the training rows' features hardly reach: all but their first
    principal directions about u. alpha gives the residual the scale of the largest logit.
    """

    weights: FloatArray = field(repr=False)  #: (classes, d) W
    bias: FloatArray = field(repr=False)  #: (classes,) b
    origin: FloatArray = field(repr=False)  #: (d,) u
    residual: FloatArray = field(repr=False)  #: (d, d - dimensions) R, orthonormal columns
    alpha: float
    name: ClassVar[str] = "vim"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("weights", "bias", "origin", "residual"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, len(self.origin))
        energy = log_sum_exp(row_product(features, self.weights.T) + self.bias)
        residual = np.sqrt(square_norms(row_product(features - self.origin, self.residual)))
        return where_known(known, energy - self.alpha * residual)

    @classmethod
    def fit(
        cls, output: ModelOutput, labels: Any = None, *, weights: Any, bias: Any, dimensions: int | None = None
    ) -> ViM:
        """From the features of training rows and the model's last layer: W, (classes, d), and b, (classes,).

        Of the labels only whether there is one is looked at. `dimensions` are the principal directions that count as
        reached; by default the paper's: 1000 of 2048 and more, 512 of 768 and more, else half, and fewer than the
        features vary in. Raises `EvidenceError`, also where the training rows leave no residual to measure by.
        """
        features = fitting_rows(output, labels).features
        weights, bias = _last_layer(weights, bias, features.shape[1])
        origin = -np.linalg.pinv(weights) @ bias
        centred = features - origin
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # rising
        reached = int((variances > 1e-10 * variances[-1]).sum())
        if not reached:
            raise EvidenceError("the features of all rows to fit on are where the logits are 0: there is no residual")
        if dimensions is None:
            dimensions = max(min(_usual_dimensions(len(origin)), reached - 1), 0)
        if not 0 <= dimensions < reached:
            raise EvidenceError(
                f"dimensions is from 0 to {reached - 1}, one less than the directions in which the features of the "
                f"training rows vary, not {dimensions}"
            )
        residual = directions[:, : len(origin) - dimensions]
        mean_residual = float(np.sqrt(square_norms(centred @ residual)).mean())
        mean_logit = float((features @ weights.T + bias).max(axis=1).mean())
        if not mean_logit > 0.0:
            raise EvidenceError(
                f"the largest logit is {mean_logit:.4g} on average, and ViM takes it for a positive scale: are "
                f"weights and bias those of the last layer, before softmax?"
            )
        return cls(weights, bias, origin, residual, mean_logit / mean_residual)


def _usual_dimensions(d: int) -> int:
    return 1000 if d >= 2048 else 512 if d >= 768 else d // 2


def _last_layer(weights: Any, bias: Any, d: int) -> tuple[FloatArray, FloatArray]:
    matrix, shift = np.asarray(weights, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != d or shift.shape != (len(matrix),):
        raise EvidenceError(
            f"weights must be (classes, {d}) and bias (classes,), as in logits = weights @ features + bias; they are "
            f"{matrix.shape} and {shift.shape}"
        )
    return matrix, shift
