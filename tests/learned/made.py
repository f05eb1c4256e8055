"""Recorded rows as two made-up models would leave them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisupervised.records import BothLevels, ModelOutput
from bisupervised.table import Table

NAN = float("nan")


def made_table(
    n: int = 600,
    seed: int = 0,
    *,
    classes: int = 2,
    predictions: bool = True,
    gaps: float = 0.0,
    skills: tuple[float, float] = (0.4, 1.4),
) -> Table:
    """Two models that name one of the classes; more confident where right, and more so on easy inputs. `gaps` is the
    share of confidences that are missing at each level."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    easy = rng.normal(size=n)
    columns: dict[str, Any] = {"id": [f"row-{seed}-{i}" for i in range(n)], "label": label}
    for level, skill in zip(("local", "remote"), skills, strict=True):
        right = easy + rng.normal(size=n) + skill > 0.0
        other = (label + rng.integers(1, classes, n)) % classes
        confidence = 1.0 / (1.0 + np.exp(-(0.7 * easy + 0.5 * right + 1.0 * rng.normal(size=n))))
        confidence[rng.random(n) < gaps] = np.nan
        columns[f"{level}_confidence"] = confidence
        guess = np.where(right, label, other)
        if predictions:
            columns[f"{level}_prediction"] = guess
        else:
            columns[f"{level}_correct"] = right.astype(float)
    if not predictions:
        del columns["label"]
    return Table.from_columns(columns)


def both_of(table: Table) -> BothLevels:
    """What a running system would hand over about these rows."""
    return BothLevels(
        ModelOutput(table.local.predictions, probabilities=table.local.probabilities),
        table.local.confidences,
        ModelOutput(table.remote.predictions, probabilities=table.remote.probabilities),
        table.remote.confidences,
    )


def rows_of(table: Table) -> list[BothLevels]:
    """The same, one by one."""
    return [both_of(table.take(np.array([row]))) for row in range(len(table))]
