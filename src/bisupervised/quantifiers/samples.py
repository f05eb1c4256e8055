"""What the quantifiers that read sampled answers share: the samples, checked, and comparing without stumbling."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.equivalence import Equivalence
from bisupervised.records import FloatArray, ModelOutput

logger = logging.getLogger("bisupervised")


def samples_of(output: ModelOutput) -> Sequence[Sequence[Any]]:
    """The n sequences of sampled answers. Raises `EvidenceError` when there are none, or not n."""
    if output.samples is None:
        raise EvidenceError(
            "the model output holds no sampled answers; ask the endpoint for them (samples = 5) or use a quantifier "
            "that needs what the model gives"
        )
    if len(output.samples) != len(output):
        raise EvidenceError(f"samples has {len(output.samples)} rows for {len(output)} predictions")
    for row in output.samples:
        if isinstance(row, str):
            raise EvidenceError(f"each row of samples is a list of answers, not the text {row[:40]!r}")
    return output.samples


def known(samples: Sequence[Any] | None) -> bool:
    """Whether at least one sample of a row could be had and read."""
    return samples is not None and any(sample is not None for sample in samples)


def same(equivalent: Equivalence, a: Any, b: Any) -> bool:
    """Whether two answers are equivalent; one that could not be had or read (None) is equivalent to none."""
    return a is not None and b is not None and bool(equivalent(a, b))


def row_of_numbers(column: Sequence[FloatArray] | None, row: int, name: str, n: int) -> FloatArray:
    """(n,) numbers of one row, NaN where there are none. Raises `EvidenceError` for another number of them."""
    if column is None or column[row] is None or len(column[row]) == 0:
        return np.full(n, np.nan)
    try:
        numbers = np.asarray(column[row], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"{name} must be numbers, one for each sample: {error}") from error
    if numbers.shape != (n,):
        raise EvidenceError(f"{name} has the shape {numbers.shape} for {n} samples")
    return numbers


def log_broken(equivalent: Equivalence, error: Exception) -> float:
    """NaN, with a warning in the log: somebody's equivalence raised, so this answer cannot be judged."""
    logger.warning("the equivalence %r raised %s: %s", equivalent, type(error).__name__, error, exc_info=error)
    return float("nan")
