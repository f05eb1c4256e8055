"""Losses of accepted answers, as far as labels tell them, weighted by how likely each was to be labelled.

A label that nobody asked for says little of the answers without one: users report errors, and of locally accepted
inputs often nothing is heard. Three cases can be told apart:

* every accepted answer is labelled, or each with the same known probability: the labelled ones are a random sample;
* with known probabilities that differ (`label_share` of each row): each loss counts 1 / probability, and 0 where
  there is no label; that has the mean of all accepted answers (Horvitz & Thompson 1952), and a wider interval;
* with unknown ones: the labelled answers are taken for a random sample, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.monitoring.reference import Decided
from bisupervised.records import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class LabelledLoss:
    """What is known of the risk, in the order of the rows."""

    values: FloatArray  #: (k,) >= 0, whose mean estimates the risk
    at: IntArray  #: (k,) their rows
    labelled: int  #: accepted answers with a label
    least_share: float  #: the values times this lie in [0, 1]
    weighted: bool  #: by probabilities that differ
    share_known: bool

    @property
    def testable(self) -> bool:
        """Whether the values are losses of 0 or 1, as an exchangeability test needs them."""
        return not self.weighted and bool(np.isin(self.values, (0.0, 1.0)).all())


def checked_share(label_share: Any, n: int) -> float | FloatArray | None:
    """One number, (n,) numbers, or None. Raises `InputError` for another length."""
    if not isinstance(label_share, np.ndarray | list | tuple):
        return None if label_share is None else float(label_share)
    shares = np.asarray(label_share, dtype=np.float64)
    if shares.shape != (n,):
        raise InputError(f"label_share is one probability for each of the {n} rows, or one number")
    return shares


def labelled_loss(rows: Decided, label_share: float | FloatArray | None) -> LabelledLoss:
    """The losses of the labelled accepted answers; `label_share` is a number, (n,) or None.

    Raises `InputError` for a share that is not a probability above 0 where there is a label.
    """
    labelled = np.flatnonzero(~np.isnan(rows.loss))
    accepted = np.flatnonzero(rows.accepted)
    plain = LabelledLoss(rows.loss[labelled], labelled, len(labelled), 1.0, False, label_share is not None)
    if label_share is None:
        return plain
    shares = np.broadcast_to(np.asarray(label_share, dtype=np.float64), rows.loss.shape)
    bad = ~((shares[accepted] > 0.0) & (shares[accepted] <= 1.0))
    if bad.any():
        raise InputError(
            f"the probability of being labelled lies above 0 and at most at 1; it does not in {int(bad.sum())} "
            f"accepted rows. Rows that could never be labelled have no known risk: leave them out"
        )
    if not len(accepted) or np.ptp(shares[accepted]) == 0.0:
        return plain
    values = np.where(np.isnan(rows.loss), 0.0, rows.loss / shares)[accepted]
    return LabelledLoss(values, accepted, len(labelled), float(shares[accepted].min()), True, True)
