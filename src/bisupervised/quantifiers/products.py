"""Matrix products in which a row alone gives, to the last bit, what it gives in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisupervised.records import AnyArray, FloatArray

#: Rows in one call of BLAS. A single row costs as much as these; more of them would gain a batch little.
_ROWS = 8


def row_product(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    """(n, d) @ (d, m).

    BLAS adds up in another order for one row than for many, so that an input at its threshold would be decided
    otherwise alone than in the batch that chose the threshold. Here every call has the same shape.

    >>> row_product(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]])
    """
    n, d = rows.shape
    blocks = -(-n // _ROWS)
    if n % _ROWS:
        padded = np.zeros((blocks * _ROWS, d))
        padded[:n] = rows
        rows = padded
    product: FloatArray = np.matmul(rows.reshape(blocks, _ROWS, d), matrix).reshape(blocks * _ROWS, matrix.shape[1])
    return product[:n]


def square_norms(rows: FloatArray) -> FloatArray:
    """(n,) the sum of the squares of each row."""
    norms: FloatArray = np.einsum("ij,ij->i", rows, rows)
    return norms


def square_distances(rows: FloatArray, points: FloatArray, point_norms: FloatArray) -> FloatArray:
    """(n, m) the squared distance of each row to each of the m points, whose `square_norms` are given."""
    distances = row_product(rows, points.T)
    distances *= -2.0
    distances += square_norms(rows)[:, np.newaxis]
    distances += point_norms
    return np.maximum(distances, 0.0, out=distances)


def log_sum_exp(rows: FloatArray) -> FloatArray:
    """(n,) ln sum_j e^(rows_j), which neither overflows nor underflows; -inf for a row of -inf, NaN with NaN."""
    top = rows.max(axis=1, initial=-np.inf)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        logarithm: FloatArray = np.log(np.exp(rows - safe[:, np.newaxis]).sum(axis=1)) + safe
    return logarithm


def read_only(values: Any, dtype: Any = np.float64) -> AnyArray:
    """A copy of an array that nobody can change, its rows side by side in memory."""
    array = np.array(values, dtype=dtype, order="C")
    array.setflags(write=False)
    return array
