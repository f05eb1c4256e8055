"""How many labels tell what local answers cost in accuracy, and what the labels that there are say.

Where both models say the same, the one is as right as the other. So the difference in accuracy between a system and
its remote model comes from those inputs alone that are answered locally *and* differently. Of n random inputs, a
share d being such ones, the mean of the paired differences (-1, 0 or 1, and 0 where they agree) has a variance of at
most d / n (Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics
1987). So an interval of +- margin takes n = z^2 d / margin^2 inputs, and labels for only the n d that differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.evaluation.intervals import NOT_KNOWN, Z95, Estimate, normal_interval
from bisupervised.records import FloatArray

MIN_LABELS: Final = 20


@dataclass(frozen=True, slots=True)
class LabelsNeeded:
    """What it takes to know the loss in system accuracy within +- margin, at 95 %."""

    margin: float
    discordant: Estimate  #: share of inputs that are answered locally and differently
    inputs: int  #: to replay
    labels: int  #: of those, rows to label: the ones that differ

    @property
    def bounded_without(self) -> bool:
        """Whether no label is needed: even if every difference were the local model's error, the loss is within."""
        return self.discordant.high <= self.margin


def labels_needed(discordant: Estimate, margin: float) -> LabelsNeeded:
    """The numbers for a share of discordant inputs and a margin, both in (0, 1].

    At least 20 labels, below which a normal interval says nothing.

    >>> needed = labels_needed(Estimate(0.08, 0.06, 0.11), 0.02)
    >>> needed.inputs, needed.labels
    (769, 62)
    """
    if not 0.0 < margin <= 1.0:
        raise InputError(f"the margin is a share between 0 and 1, as in 0.01, not {margin}")
    share = 0.0 if math.isnan(discordant.value) else discordant.value
    inputs = Z95**2 * share / margin**2
    labels = max(inputs * share, MIN_LABELS) if share > 0.0 else 0.0
    return LabelsNeeded(margin, discordant, math.ceil(inputs), math.ceil(labels))


@dataclass(frozen=True, slots=True)
class Stratum:
    """Inputs that are answered locally and differently, those of one range of confidences."""

    size: int  #: how many there are in the sample
    differences: FloatArray  #: (k,) local correct minus remote correct, in [-1, 1], of the k random ones with a label


def versus_remote_only(strata: Sequence[Stratum], n: int) -> Estimate:
    """System accuracy minus that of remote-only, from n sampled inputs of which the discordant ones were labelled in
    part; not known while a stratum with inputs has no label.

    The interval is that of sampling in two phases: n inputs of all that may come, and of those the labelled ones
    (Cochran, Sampling Techniques, 1977, ch. 12). The variance within strata is that of all labelled rows with one
    more of either sign, so that a few labels that agree are not taken for certainty (after Agresti & Min, Statistics
    in Medicine 2005).
    """
    filled = [one for one in strata if one.size]
    if n == 0 or any(len(one.differences) == 0 for one in filled):
        return NOT_KNOWN
    if not filled:
        return Estimate(0.0, math.nan, math.nan)
    labelled = np.concatenate([one.differences for one in filled])
    k, total = len(labelled) + 2, float(labelled.sum())
    variance = (float(np.square(labelled).sum()) + 2.0) / k - (total / k) ** 2
    weights = np.array([one.size / n for one in filled])
    means = np.array([float(one.differences.mean()) for one in filled])
    value = float(weights @ means)
    within = sum(
        weight**2 * variance / len(one.differences) * (1.0 - len(one.differences) / one.size)
        for weight, one in zip(weights, filled, strict=True)
    )
    squares = np.array([float(np.square(one.differences).mean()) for one in filled])
    of_sample = (float(weights @ squares) - value**2) / n
    return Estimate(value, *normal_interval(value, math.sqrt(max(within + of_sample, 0.0))))
