"""Self-consistency: how many of the model's further answers agree with the one it gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bisupervised.quantifiers.equivalence import Equivalence, normalised
from bisupervised.quantifiers.samples import ReadsSamples, by_answers, same
from bisupervised.records import FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class SelfConsistency(ReadsSamples):
    """confidence = share of the sampled answers that agree with the prediction, in [0, 1]. Wang et al., ICLR 2023.

    The prediction itself is not counted. `equivalent(prediction, sample)` says whether two answers agree. A sample
    that failed or could not be read agrees with nothing, so that an overloaded model is not trusted more; a row
    without any sample, and one for which `equivalent` raises (told in the log), gives NaN. `samples` is how many
    the model is asked for: what it states as its extra calls. Each row is scored by those it holds.

    >>> import numpy as np
    >>> output = ModelOutput(np.array(["Rome"]), samples=[["rome", "Rome.", "Milan", None]])
    >>> SelfConsistency(samples=4)(output)
    array([0.5])
    """

    equivalent: Equivalence = normalised
    name: ClassVar[str] = "self_consistency"

    def __call__(self, output: ModelOutput) -> FloatArray:
        return by_answers(output, self.equivalent, self._share)

    def _share(self, answers: Sequence[Any]) -> float:
        prediction, *samples = answers
        return sum(same(self.equivalent, prediction, sample) for sample in samples) / len(samples)
