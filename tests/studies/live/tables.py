"""Numbers-only tables for the tests: simulated, and of the paper's recorded rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.studies.paper import load_paper_study
from bisupervised.table import Table

PAPER = Path(__file__).parents[4] / "shared" / "data" / "paper"


def number_of(study: str, key: object) -> int:
    """The number that says to which part a row belongs."""
    return int(hashlib.sha256(f"{study}/{key}".encode()).hexdigest()[:8], 16)


def with_parts(columns: dict[str, Any], study: str, keys: list[Any], *, folds: bool = False) -> dict[str, Any]:
    """The columns with `part`, or `fold`."""
    numbers = np.array([number_of(study, key) for key in keys])
    if folds:
        return {**columns, "fold": numbers % 5}
    return {**columns, "part": np.where(numbers % 1000 < 500, "calibration", "report")}


def simulated(
    n: int = 2000,
    seed: int = 0,
    *,
    folds: bool = False,
    clusters: int = 0,
    local: float = 0.7,
    remote: float = 0.8,
    graded: bool = False,
    **more: Any,
) -> Table:
    """Inputs of a hidden difficulty: both confidences tell of it, `noise` does not, `sharp` does better."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(size=n)
    cluster = np.arange(n) % clusters if clusters else np.arange(n)
    if clusters:
        ease = 0.6 * ease + 0.8 * rng.normal(size=clusters)[cluster]

    def right(level: float, slope: float) -> np.ndarray:
        p = 1 / (1 + np.exp(-(np.log(level / (1 - level)) * 1.3 + slope * ease)))
        return (rng.random(n) < p).astype(float)

    local_right, remote_right = right(local, 1.6), right(remote, 0.8)
    labels = rng.integers(0, 4, n)
    columns: dict[str, Any] = {
        "id": [f"r{i}" for i in range(n)],
        "local_confidence": 1 / (1 + np.exp(-(ease + 0.7 * rng.normal(size=n)))),
        "remote_confidence": 1 / (1 + np.exp(-(0.8 * ease + 0.7 * rng.normal(size=n)))),
        "local_latency_s": rng.gamma(4.0, 0.005, n),
        "remote_latency_s": rng.gamma(4.0, 0.08, n),
        "local_score_noise": rng.normal(size=n).astype(np.float32),
        "local_score_sharp": (ease + 0.2 * rng.normal(size=n)).astype(np.float32),
        "remote_score_noise": rng.normal(size=n).astype(np.float32),
        "local_cpu_s": rng.gamma(4.0, 0.005, n),
        "remote_prompt_tokens": rng.integers(50, 400, n).astype(float),
        "remote_completion_tokens": rng.integers(1, 20, n).astype(float),
        "local_truncated": (rng.random(n) < 0.01).astype(int),
        "remote_truncated": np.zeros(n),
    }
    if graded:
        columns |= {"local_correct": local_right, "remote_correct": remote_right}
        columns["agree"] = ((local_right == 1) & (remote_right == 1)).astype(float)
    else:
        columns["label"] = labels
        columns["local_prediction"] = np.where(local_right == 1, labels, (labels + 1) % 4)
        columns["remote_prediction"] = np.where(remote_right == 1, labels, (labels + 2) % 4)
    if clusters:
        columns["passage"] = [f"p{c}" for c in cluster]
    columns |= more
    keys = columns["passage"] if clusters else columns["id"]
    return Table.from_columns(with_parts(columns, "simulated", keys, folds=folds))


def of_the_paper(name: str) -> Table:
    """A recorded study of the paper as a numbers-only table."""
    study = next(one for one in load_paper_study(PAPER) if one.name == name)
    table = study.table
    parts = with_parts({}, name, table.ids.tolist())
    return replace(table, extra={**parts})


class PerToken:
    """Prices of a made-up model."""

    model = "made-up"

    def cost_of(self, prompt_tokens: Any, completion_tokens: Any) -> Any:
        return 2e-6 * prompt_tokens + 8e-6 * completion_tokens

    def local_cost(self, cpu_s: Any) -> Any:
        return 1.4e-5 * cpu_s
