"""Seeded assessments to report on, one for each thing that may be known or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisupervised.assessment import Assessment, evaluate


def columns(n: int = 2000, *, local: float = 0.75, remote: float = 0.9, seed: int = 0) -> dict[str, Any]:
    """Named columns of two models with these accuracies, whose confidence means something."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"label": np.full(n, "yes")}
    for name, accuracy in (("local", local), ("remote", remote)):
        right = rng.random(n) < accuracy
        found[f"{name}_prediction"] = np.where(right, "yes", "no")
        found[f"{name}_confidence"] = np.clip(np.where(right, 0.75, 0.45) + rng.normal(0, 0.15, n), 0.0, 1.0)
    return found


def priced(n: int = 2000, **options: Any) -> dict[str, Any]:
    """The same with latency and cost."""
    rng = np.random.default_rng(1)
    return {
        **columns(n, **options),
        "local_latency_s": rng.uniform(0.01, 0.02, n),
        "remote_latency_s": rng.uniform(0.3, 0.5, n),
        "local_cost": np.zeros(n),
        "remote_cost": np.full(n, 0.002),
    }


def full() -> Assessment:
    """Everything is known."""
    return evaluate(priced())


def unlabelled(**options: Any) -> Assessment:
    """No label is known."""
    rows = columns()
    del rows["label"]
    return evaluate(rows, (0.5, 0.3), **options)


def logged(*, labels: bool = True) -> Assessment:
    """A decision log: the remote model was asked about the deferred inputs only."""
    rows = priced()
    trusted = rows["local_confidence"] >= 0.6
    asked = ~trusted
    rows["remote_asked"] = asked
    rows["route"] = np.where(trusted, "local", np.where(rows["remote_confidence"] >= 0.4, "remote", "rejected"))
    rows["remote_prediction"] = np.where(asked, rows["remote_prediction"], "")
    for name in ("confidence", "latency_s"):
        rows[f"remote_{name}"] = np.where(asked, rows[f"remote_{name}"], np.nan)
    rows["remote_cost"] = np.where(asked, rows["remote_cost"], 0.0)
    if not labels:
        del rows["label"]
    return evaluate(rows, (0.6, 0.4))
