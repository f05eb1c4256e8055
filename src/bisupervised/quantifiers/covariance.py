"""Covariances that can always be inverted: of collinear or constant features, and of more features than rows."""

from __future__ import annotations

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.records import FloatArray


def shrunk_covariance(centred: FloatArray, degrees: int, shrinkage: float | None = None) -> FloatArray:
    """(1 - r) S + r (tr(S) / d) I, with S = X'X / degrees of the centred rows X, (n, d).

    r in [0, 1] is `shrinkage`; by default the one of Chen et al., "Shrinkage Algorithms for MMSE Covariance
    Estimation", IEEE TSP 2010, eq. 23 (OAS), which is never 0. Raises `EvidenceError` when no feature varies.
    """
    if shrinkage is not None and not 0.0 <= shrinkage <= 1.0:
        raise EvidenceError(f"shrinkage is in [0, 1], not {shrinkage}")
    d, degrees = centred.shape[1], max(degrees, 1)
    with np.errstate(over="ignore"):
        covariance: FloatArray = centred.T @ centred / degrees
    mean_variance = float(np.trace(covariance)) / d
    if not 0.0 < mean_variance < np.inf:
        raise EvidenceError("the features do not vary over the rows to fit on, or are too large to be squared")
    covariance /= mean_variance
    r = _oas(covariance, degrees) if shrinkage is None else shrinkage
    covariance *= 1.0 - r
    covariance.flat[:: d + 1] += r
    covariance *= mean_variance
    return covariance


def _oas(covariance: FloatArray, degrees: int) -> float:
    """The shrinkage of a covariance whose mean variance is 1."""
    d = len(covariance)
    squares = float(np.vdot(covariance, covariance))
    excess = squares - d  # tr(S^2) - tr(S)^2 / d: 0 when all directions vary alike
    if excess <= 0.0:
        return 1.0
    return min(1.0, ((1.0 - 2.0 / d) * squares + d * d) / ((degrees + 1.0 - 2.0 / d) * excess))


def whitening(covariance: FloatArray) -> tuple[FloatArray, float]:
    """W, (d, d), with |x W|^2 = x' covariance^-1 x, and half the logarithm of the covariance's determinant.

    Raises `EvidenceError` for a covariance that is singular.
    """
    try:
        lower = np.linalg.cholesky(covariance)
        inverse = np.linalg.solve(lower, np.eye(len(lower)))
    except np.linalg.LinAlgError as error:
        raise EvidenceError(
            f"the covariance of the features is singular ({error}): some are combinations of others; shrink it more"
        ) from error
    return np.ascontiguousarray(inverse.T), float(np.log(np.diag(lower)).sum())
