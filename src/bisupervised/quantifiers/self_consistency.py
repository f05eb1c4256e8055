"""Self-consistency: how many of the model's further answers agree with the one it gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.equivalence import Equivalence, normalised
from bisupervised.quantifiers.samples import known, log_broken, same, samples_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """confidence = share of the sampled answers that agree with the prediction, in [0, 1]. Wang et al., ICLR 2023.

    The prediction itself is not counted. `equivalent(prediction, sample)` says whether two answers agree. A sample
    that failed or could not be read agrees with nothing, so that an overloaded model is not trusted more; a row
    without any sample, and one for which `equivalent` raises (told in the log), gives NaN. `samples` is how many
    the model is asked for: what it states as its extra calls. Each row is scored by those it holds.

    >>> output = ModelOutput(np.array(["Rome"]), samples=[["rome", "Rome.", "Milan", None]])
    >>> SelfConsistency(samples=4)(output)
    array([0.5])
    """

    samples: int = 5
    equivalent: Equivalence = normalised
    name: ClassVar[str] = "self_consistency"
    needs: ClassVar[Evidence] = Evidence.SAMPLES

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise EvidenceError(f"samples is how many further answers are drawn, at least 1, not {self.samples}")

    @property
    def extra_calls(self) -> int:
        """One for each sample."""
        return self.samples

    def __call__(self, output: ModelOutput) -> FloatArray:
        rows = zip(output.predictions, samples_of(output), strict=True)
        return np.array([self._score(prediction, samples) for prediction, samples in rows], dtype=np.float64)

    def _score(self, prediction: Any, samples: Sequence[Any]) -> float:
        if prediction is None or not known(samples):
            return float("nan")
        try:
            return sum(same(self.equivalent, prediction, sample) for sample in samples) / len(samples)
        except Exception as error:  # somebody's function, or a service behind it
            return log_broken(self.equivalent, error)
