"""What stands in one cell of a table, and when two labels are one: everywhere by what is written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, pandas' NA, or an empty string."""
    if value is None or isinstance(value, str):
        return not value
    return bool(math.isnan(value)) if isinstance(value, float | np.floating) else type(value).__name__ == "NAType"


def is_missing_cell(value: Any) -> bool:
    """`is_missing`, for cells that may hold a list."""
    return not isinstance(value, list | tuple | np.ndarray) and is_missing(value)


def written(value: Any) -> Any:
    """A label as a file would hold it, as text; None for a missing one. Labels are compared by it.

    1, 1.0, True and "1" are one label: a model says "1", a CSV of it is read as 1.0, and Parquet holds 1.

    >>> [written(value) for value in (1, 1.0, True, " 1", 0.5, float("nan"))]
    ['1', '1', '1', '1', '0.5', None]
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return None if is_missing(value) else str(value)
