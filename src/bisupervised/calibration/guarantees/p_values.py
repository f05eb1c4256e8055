"""p-values of the hypothesis that a mean is above its target, from n independent losses.

Exact for losses of 0 or 1: P(Bin(n, target) <= errors).

For losses in [0, 1] Hoeffding & Bentkus (Bates et al., JACM 2021): min(exp(-n h(mean, target)), e P(Bin(n, target) <=
ceil(n mean))), from the sum alone, and as wide as if all losses were 0 or 1. Or a bet (Waudby-Smith & Ramdas, JRSS B
2024): a capital of 1 is put, row after row, on losses below the target; where the mean is not below it, the capital
ever reaches c with a probability of at most 1 / c. The stake follows the variance seen so far, so it needs fewer rows
where losses vary little: at the costs of the paper's studies, half to a third of what Hoeffding & Bentkus need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bisupervised.calibration.guarantees.binomial import binomial_cdf
from bisupervised.records import BoolArray, FloatArray


def exact(errors: Any, n: Any, target: float) -> FloatArray:
    """P(Bin(n, target) <= errors); 1 where n = 0, as nothing is known there.

    >>> exact([0, 3, 0], [45, 100, 0], 0.05).round(3).tolist()
    [0.099, 0.258, 1.0]
    """
    p = 0.0 if target >= 1.0 else binomial_cdf(errors, n, target)  # no share is above 1
    return np.where(np.asarray(n) > 0, p, 1.0)


def hoeffding_bentkus(total: Any, n: Any, target: float) -> FloatArray:
    """The p-value for a sum `total` of n losses in [0, 1]; 1 where n = 0.

    >>> bool(hoeffding_bentkus(2.5, 100, 0.05) > exact(2, 100, 0.05))
    True
    """
    total, n = np.asarray(total, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not 0.0 < target < 1.0:
        return np.ones(np.broadcast_shapes(total.shape, n.shape)) if target <= 0.0 else np.zeros(total.shape)
    mean = np.minimum(np.where(n > 0, total / np.maximum(n, 1.0), 1.0), target)
    safe = np.clip(mean, 1e-300, 1.0 - 1e-16)
    divergence = safe * np.log(safe / target) + (1.0 - mean) * np.log((1.0 - safe) / (1.0 - target))
    hoeffding = np.exp(-n * divergence)
    # A sum of whole losses must not become the next number by rounding.
    bentkus = np.e * binomial_cdf(np.ceil(total - 1e-9), n, target)
    return np.where(n > 0, np.minimum(np.minimum(hoeffding, bentkus), 1.0), 1.0)


def betting(losses: FloatArray, counted: BoolArray, target: float, delta: float) -> FloatArray:
    """(k,) p-values of k means: 1 / the largest capital on the way, with stakes sized to reach 1 / `delta`.

    `losses` are (k, n) in [0, 1], `counted` (k, n) the rows that each mean is over. Rows must be in random order: a
    file that begins with the easy ones is not. The largest capital is that of one and the same bet, not of batches
    put together: that is where MAPIE 1.6.0's bound goes wrong.

    >>> rng = np.random.default_rng(0)
    >>> losses = rng.choice([0.0, 0.1, 0.3], size=(1, 200))
    >>> every = np.ones((1, 200), dtype=bool)
    >>> bool(betting(losses, every, 0.2, 0.1)[0] < 0.1 < hoeffding_bentkus(losses.sum(), 200, 0.2))
    True
    """
    if not 0.0 < target < 1.0:
        return np.full(len(losses), 1.0 if target <= 0.0 else 0.0)
    n, seen = np.maximum(counted.sum(axis=1, keepdims=True), 1), np.cumsum(counted, axis=1)
    mean = (0.5 + np.cumsum(losses * counted, axis=1)) / (1.0 + seen)
    variance = (0.25 + np.cumsum(np.square(losses - mean) * counted, axis=1)) / (1.0 + seen)
    before = np.concatenate([np.full((len(losses), 1), 0.25), variance[:, :-1]], axis=1)
    stake = np.minimum(np.sqrt(-2.0 * np.log(delta) / (n * before)), 0.75 / (1.0 - target))
    capital = np.cumsum(np.log1p(stake * (target - losses) * counted), axis=1)
    p: FloatArray = np.exp(-capital.max(axis=1, initial=0.0))
    return p
