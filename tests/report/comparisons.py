"""Seeded comparisons to report on."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisupervised.assessment import compare
from bisupervised.evaluation import Comparison


def columns(n: int = 800, seed: int = 0, classes: int = 4) -> dict[str, Any]:
    """Two models' class probabilities and labels, and scores of a user's own: better, random, inverted, rounded."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    found: dict[str, Any] = {"id": [f"r{row}" for row in range(n)], "label": labels.astype(str)}
    for level, strength in (("local", 1.2), ("remote", 2.5)):
        z = 1.3 * rng.normal(size=(n, classes))
        z[np.arange(n), labels] += strength * rng.gamma(2, 1, n)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        largest = p.max(axis=1)
        found |= {f"{level}_proba_{one}": p[:, one] for one in range(classes)}
        found[f"{level}_score_dice"] = rng.random(n)
        found[f"{level}_score_uncertainty"] = 1.0 - largest
        found[f"{level}_score_rounded"] = np.round(largest, 1)
    right = np.argmax([found[f"local_proba_{one}"] for one in range(classes)], axis=0) == labels
    found["local_score_better"] = found["local_score_rounded"] + 0.3 * right + 0.01 * rng.random(n)
    return found


def full() -> Comparison:
    """Something of everything: a better one, faults of several kinds, copies, one that failed."""
    return compare(columns(), scores={"remote": {"holes": np.where(np.arange(800) % 5, np.arange(800), np.nan)}})


def one_level() -> Comparison:
    """Nothing but the local model's labels and its confidence: AUROC decides, and the remote level is not there."""
    rng = np.random.default_rng(0)
    confidence = rng.random(300)
    right = np.where(rng.random(300) < confidence, "yes", "no")
    return compare(
        {
            "local_confidence": confidence,
            "local_correct": right == "yes",
            "remote_confidence": confidence,
            "remote_correct": np.full(300, np.nan),
        }
    )
