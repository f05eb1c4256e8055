"""Several passes of the model over one input, by dropout or by an ensemble: how sure they are, and how they agree.

With p_s the class probabilities of pass s, p their mean and H the entropy in nats: the predictive entropy H(p) is
the sum of the expected entropy, mean_s H(p_s), which is doubt that every pass has, and of the mutual information,
which is disagreement between them (Houlsby et al., 2011; Gal, 2016; Lakshminarayanan et al., NeurIPS 2017).

The passes are the model adapter's, within its one call for an input. A row with NaN in any pass gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bisupervised.quantifiers.arrays import sampled_probabilities_of
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import AnyArray, Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class VariationRatio:
    """confidence = share of the passes that choose the class chosen most often, in [1/passes, 1]. Gal, 2016.

    (The variation ratio is 1 minus this.) A pass that has several classes as the likeliest chooses the first.

    >>> p = [[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.8, 0.2]]
    >>> VariationRatio()(ModelOutput(np.array([0]), sampled_probabilities=np.array([p])))
    array([0.75])
    """

    name: ClassVar[str] = "variation_ratio"
    needs: ClassVar[Evidence] = Evidence.SAMPLED_PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C3
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        p = sampled_probabilities_of(output)
        n, passes, classes = p.shape
        if not n:
            return np.empty(0)
        chosen = p.argmax(axis=2) + classes * np.arange(n)[:, np.newaxis]
        votes = np.bincount(chosen.ravel(), minlength=n * classes).reshape(n, classes)
        return np.where(np.isnan(p).any(axis=(1, 2)), np.nan, votes.max(axis=1) / passes)


@dataclass(frozen=True, slots=True)
class MeanSoftmax:
    """confidence = max_k of the passes' mean class probabilities, in [1/classes, 1]. Lakshminarayanan et al., 2017.

    >>> p = [[0.9, 0.1], [0.5, 0.5]]
    >>> MeanSoftmax()(ModelOutput(np.array([0]), sampled_probabilities=np.array([p])))
    array([0.7])
    """

    name: ClassVar[str] = "mean_softmax"
    needs: ClassVar[Evidence] = Evidence.SAMPLED_PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C3
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        confidence: FloatArray = _mean(sampled_probabilities_of(output)).max(axis=1, initial=0.0)
        return confidence


@dataclass(frozen=True, slots=True)
class PredictiveEntropy:
    """confidence = -H(p), the negated entropy of the passes' mean class probabilities, in [-ln(classes), 0].

    >>> p = [[1.0, 0.0], [0.0, 1.0]]
    >>> PredictiveEntropy()(ModelOutput(np.array([0]), sampled_probabilities=np.array([p])))
    array([-0.69314718])
    """

    name: ClassVar[str] = "predictive_entropy"
    needs: ClassVar[Evidence] = Evidence.SAMPLED_PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C3
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        return 0.0 - _entropy(_mean(sampled_probabilities_of(output)))


@dataclass(frozen=True, slots=True)
class ExpectedEntropy:
    """confidence = -mean_s H(p_s), the negated mean of the passes' entropies, in [-ln(classes), 0].

    >>> p = [[1.0, 0.0], [0.0, 1.0]]
    >>> ExpectedEntropy()(ModelOutput(np.array([0]), sampled_probabilities=np.array([p])))
    array([0.])
    """

    name: ClassVar[str] = "expected_entropy"
    needs: ClassVar[Evidence] = Evidence.SAMPLED_PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C3
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        return 0.0 - _mean(_entropy(sampled_probabilities_of(output))[..., np.newaxis])[:, 0]


@dataclass(frozen=True, slots=True)
class MutualInformation:
    """confidence = -(H(p) - mean_s H(p_s)), in [-ln(classes), 0]: 0 when all passes say the same. Houlsby, 2011.

    Known as BALD. It sees only what the passes disagree about: an input that all find hard alike gets 0 too.

    >>> p = [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]
    >>> MutualInformation()(ModelOutput(np.array([0, 0]), sampled_probabilities=np.array(p)))
    array([-0.69314718,  0.        ])
    """

    name: ClassVar[str] = "mutual_information"
    needs: ClassVar[Evidence] = Evidence.SAMPLED_PROBABILITIES
    cost_class: ClassVar[CostClass] = CostClass.C3
    extra_calls: ClassVar[int] = 0

    def __call__(self, output: ModelOutput) -> FloatArray:
        p = sampled_probabilities_of(output)
        expected = _mean(_entropy(p)[..., np.newaxis])[:, 0]
        # By Jensen's inequality it is not negative; its rounding may be.
        return 0.0 - np.maximum(_entropy(_mean(p)) - expected, 0.0)


def _mean(passes: AnyArray) -> FloatArray:
    """(n, classes) the mean of (n, passes, classes), added up in their order whatever the batch."""
    mean: FloatArray = np.einsum("nsk->nk", passes) / max(passes.shape[1], 1)
    return mean


def _entropy(p: AnyArray) -> FloatArray:
    """The entropy in nats over the last axis, 0 ln 0 = 0."""
    log_p = np.log(p, out=np.zeros_like(p), where=~(p <= 0.0))
    entropy: FloatArray = -np.einsum("...k,...k->...", p, log_p)
    return entropy
