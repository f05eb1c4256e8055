"""Calibration rows and traffic for the simulations: one source for both, or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bisupervised.monitoring import Bins, ExchangeabilityMartingale, Share

NAN = float("nan")

Draw = Callable[[np.random.Generator, int], np.ndarray]


def coarse(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.round(rng.beta(4, 1, n), 1)


def with_missing(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.2, NAN, rng.choice([-np.inf, 0.5, np.inf, 0.7], n))


def spiked(rng: np.random.Generator, n: int) -> np.ndarray:
    """An atom of 60 % at 1, as softmax confidences have it, and a continuous rest."""
    return np.where(rng.random(n) < 0.6, 1.0, rng.random(n))


SOURCES: dict[str, Draw] = {
    "continuous": lambda rng, n: rng.normal(size=n),
    "two values": lambda rng, n: rng.integers(0, 2, n).astype(float),
    "one value": lambda rng, n: np.ones(n),
    "eleven values": coarse,
    "missing and infinite": with_missing,
    "an atom": spiked,
}


def watch(draw: Draw, n: int, seed: int, alpha: float = 0.1) -> tuple[ExchangeabilityMartingale, np.random.Generator]:
    """A martingale on n calibration rows, and the generator that draws its traffic."""
    rng = np.random.default_rng([seed, 99])
    return ExchangeabilityMartingale(Bins.of(draw(rng, n)), alpha=alpha, seed=seed), rng


def watch_share(
    rate: float, n: int, seed: int, alpha: float = 0.1
) -> tuple[ExchangeabilityMartingale, np.random.Generator]:
    rng = np.random.default_rng([seed, 98])
    return ExchangeabilityMartingale(Share(int(rng.binomial(n, rate)), n), alpha=alpha, seed=seed), rng
