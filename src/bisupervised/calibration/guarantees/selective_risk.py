"""The most coverage of one supervisor at a certified selective risk: fixed-sequence testing with exact p-values.

Thresholds stand at fixed ranks of the scores, from little coverage to all. Each is tested by the exact binomial
p-value of the errors among the accepted, in that order, from several starts (`sequences.fallback`), and the largest
coverage certified is taken. It covers more than Geifman & El-Yaniv's SGR (NeurIPS 2017), whose binary search divides
delta by the number of its steps and looks at few thresholds (Bauer, Statistics in Medicine 1991; Angelopoulos et al.
2022).

Thresholds at ranks of the very rows are exact where risk does not fall as coverage grows through the target, which is
what a confidence is for; `thresholds` from elsewhere are exact without that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from bisupervised.calibration.guarantees.binomial import upper_bound
from bisupervised.calibration.guarantees.evidence import INDEPENDENT, Certified, Guarantee, Infeasible, check_share
from bisupervised.calibration.guarantees.p_values import exact, hoeffding_bentkus
from bisupervised.calibration.guarantees.sequences import doubling_starts, fallback
from bisupervised.calibration.guarantees.support import MOST_ROWS, growth_needed, smallest
from bisupervised.errors import InputError
from bisupervised.records import AnyArray, FloatArray

_METHOD = "fixed sequence"


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """What is accepted at rising coverage."""

    thresholds: FloatArray  #: (k,) falling
    sizes: AnyArray  #: (k,) the coverage grid in rows, fixed beforehand
    accepted: AnyArray  #: (k,) rows accepted: more than `sizes` where scores are tied
    loss: FloatArray  #: (k,) sum of their losses
    whole: bool  #: losses are 0 or 1

    def certified(self, target: float, delta: float) -> AnyArray:
        """(k,) which thresholds are certified."""
        certified: AnyArray = fallback(self._p_values(target, 1.0), doubling_starts(self.sizes, target, delta), delta)
        return certified

    def any_certified(self, target: float, delta: float, factor: float = 1.0) -> bool:
        """Whether any is, were there `factor` times the rows at the same rates: then one of the starts is."""
        weights = doubling_starts(self.sizes * factor, target, delta)
        starts = np.flatnonzero(weights)
        first = _Sequence(
            self.thresholds[starts], self.sizes[starts], self.accepted[starts], self.loss[starts], self.whole
        )
        return bool(fallback(first._p_values(target, factor), weights[starts], delta).any())

    def _p_values(self, target: float, factor: float) -> FloatArray:
        accepted, loss = np.floor(self.accepted * factor), self.loss * factor
        return (
            exact(np.ceil(loss - 1e-9), accepted, target) if self.whole else hoeffding_bentkus(loss, accepted, target)
        )


def selective_risk(
    confidence: FloatArray,
    correct: Any,
    target: float,
    *,
    delta: float = 0.1,
    level: str = "local",
    points: int = 200,
    thresholds: FloatArray | None = None,
) -> Guarantee:
    """The lowest threshold whose selective risk is at most `target` with probability 1 - delta over the n rows.

    `correct` is 0, 1 or a grade between. `points` coverages in even steps are tried, or the given thresholds.

    >>> rng = np.random.default_rng(0)
    >>> score = rng.random(2000)
    >>> found = selective_risk(score, rng.random(2000) < 0.6 + 0.4 * score, 0.1)
    >>> found.thresholds, found.counts
    ({'local': 0.586...}, {'accepted': 821, 'errors': 69})
    """
    target, delta = check_share(target, "a risk"), check_share(delta, "delta")
    sequence = _sequence_of(confidence, correct, points, thresholds)
    n = len(confidence)
    found = sequence.certified(target, delta) if len(sequence.sizes) else np.zeros(0, dtype=np.bool_)
    if not found.any():
        return _infeasible(sequence, target, delta, n)
    best = int(np.flatnonzero(found)[-1])
    accepted, loss = int(sequence.accepted[best]), float(sequence.loss[best])
    bound = float(upper_bound(loss, accepted, delta)) if sequence.whole else target
    return Certified(
        method=_METHOD,
        thresholds={level: float(sequence.thresholds[best])},
        target={"risk": target},
        delta=delta,
        n=n,
        counts={"accepted": accepted, "errors": int(loss) if sequence.whole else loss},
        bounds={"risk": bound},
        assumption=INDEPENDENT.format(n=n),
    )


def _sequence_of(confidence: FloatArray, correct: Any, points: int, thresholds: FloatArray | None) -> _Sequence:
    scores, loss = np.asarray(confidence, dtype=np.float64), 1.0 - np.asarray(correct, dtype=np.float64)
    if scores.shape != loss.shape or scores.ndim != 1 or not ((loss >= 0.0) & (loss <= 1.0)).all():
        raise InputError("confidence and correctness are (n,) arrays, correctness known for every row, in [0, 1]")
    known = ~np.isnan(scores)
    order = np.argsort(scores[known])[::-1]
    falling, losses = scores[known][order], np.concatenate([[0.0], np.cumsum(loss[known][order])])
    sizes: AnyArray
    if thresholds is None:
        sizes = np.unique(np.ceil(np.linspace(0.0, 1.0, points + 1)[1:] * len(scores)).astype(np.int64))
        sizes = sizes[sizes <= len(falling)]
        thresholds = falling[sizes - 1]
    else:
        thresholds = np.sort(np.asarray(thresholds, dtype=np.float64))[::-1]
        sizes = np.linspace(0.0, len(scores), len(thresholds) + 1)[1:]
    accepted = np.searchsorted(-falling, -thresholds, side="right")
    return _Sequence(thresholds, sizes, accepted, losses[accepted], bool(((loss == 0.0) | (loss == 1.0)).all()))


def _infeasible(sequence: _Sequence, target: float, delta: float, n: int) -> Infeasible:
    if not len(sequence.sizes):
        return Infeasible(_METHOD, {"risk": target}, delta, n, "none of them has a confidence")
    rates = sequence.loss / np.maximum(sequence.accepted, 1)
    grid = target + (1.0 - target) * np.linspace(0.0, 1.0, 257)[1:-1]
    place = smallest(lambda j: j > len(grid) or sequence.any_certified(float(grid[j - 1]), delta), 1)
    return Infeasible(
        _METHOD,
        {"risk": target},
        delta,
        n,
        f"the lowest risk seen at any coverage is {float(rates.min()):.3f}",
        {"risk": math.nan if place is None or place > len(grid) else float(grid[place - 1])},
        _more_rows(sequence, target, delta, n),
    )


def _more_rows(sequence: _Sequence, target: float, delta: float, n: int) -> int | None:
    """How many more rows would certify a threshold at the present rates, within some percent; None: none."""
    spread = np.sqrt(np.maximum(sequence.accepted, 1) * target * (1.0 - target))
    below = float(((target * sequence.accepted - sequence.loss) / spread).max())
    if below <= 0.0:
        return None
    guess = (NormalDist().inv_cdf(1.0 - delta / 2.0) / below) ** 2
    factor = growth_needed(lambda f: sequence.any_certified(target, delta, f), guess, most=MOST_ROWS / n)
    return None if factor is None else max(math.ceil(n * (factor - 1.0)), 1)
