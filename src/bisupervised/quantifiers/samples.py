"""What the quantifiers that read sampled answers share: the samples, checked, and comparing without stumbling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.equivalence import Equivalence
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.similarity import Similarity, similarity_matrix
from bisupervised.records import Evidence, FloatArray, ModelOutput

logger = logging.getLogger("bisupervised")


@dataclass(frozen=True, slots=True)
class ReadsSamples:
    """What every quantifier of sampled answers has: how many it asks the model for, which are its extra calls."""

    samples: int = 5
    needs: ClassVar[Evidence] = Evidence.SAMPLES
    cost_class: ClassVar[CostClass] = CostClass.C4

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise EvidenceError(f"samples is how many further answers are drawn, at least 1, not {self.samples}")

    @property
    def extra_calls(self) -> int:
        """One for each sample."""
        return self.samples


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


def by_answers(
    output: ModelOutput, compare: Callable[..., Any], score: Callable[[Sequence[Any]], float]
) -> FloatArray:
    """(n,) the score of each row's answers, the prediction first; NaN for a row without prediction or samples.

    Where the score raises, since `compare` does, the log tells, and the row gives NaN.
    """
    confidences = np.full(len(output), np.nan)
    for row, (prediction, samples) in enumerate(zip(output.predictions, samples_of(output), strict=True)):
        if prediction is None or not known(samples):
            continue
        try:
            confidences[row] = score([prediction, *samples])
        except Exception as error:  # somebody's function, or a service behind it
            confidences[row] = log_broken(compare, error)
    return confidences


def by_similarity(output: ModelOutput, similarity: Similarity, score: Callable[[FloatArray], float]) -> FloatArray:
    """(n,) the score of each row's matrix of similarities, (answers, answers), the prediction first.

    A row with a similarity that is no number gives NaN; otherwise as `by_answers`.
    """

    def scored(answers: Sequence[Any]) -> float:
        matrix = similarity_matrix(answers, similarity)
        return float("nan") if np.isnan(matrix).any() else score(matrix)

    return by_answers(output, similarity, scored)


def log_broken(compare: Callable[..., Any], error: Exception) -> float:
    """NaN, with a warning in the log: somebody's comparison raised, so this answer cannot be judged."""
    logger.warning("comparing by %r raised %s: %s", compare, type(error).__name__, error, exc_info=error)
    return float("nan")
