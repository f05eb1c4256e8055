"""Recorded rows with a stated risk, and thresholds that remember some of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bisupervised.calibration import Thresholds
from bisupervised.monitoring import reference_of
from bisupervised.table import Table

NAN = float("nan")


def rows(n: int, seed: int, *, shift: float = 0.0, worse: float = 0.0, **more: Any) -> Table:
    """n rows: confidences uniform to the power of 1 + shift; a prediction is right with its confidence, less
    `worse`.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"id": [f"{seed}-{row}" for row in range(n)]}
    for level, least in (("local", 0.5), ("remote", 0.8)):
        confidence = least + (1.0 - least) * rng.random(n) ** (1.0 + shift)
        columns[f"{level}_confidence"] = confidence
        columns[f"{level}_correct"] = (rng.random(n) < confidence - worse).astype(float)
    return Table.from_columns({**columns, **more})


def alike(n: int, seed: int) -> Table:
    """Both levels' confidences go together: what one doubts the other does."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    columns = {}
    for level, least, slope in (("local", 0.4, 0.5), ("remote", 0.5, 0.45)):
        confidence = 1.0 / (1.0 + np.exp(-0.8 * z - 0.6 * rng.normal(size=n)))
        columns[f"{level}_confidence"] = confidence
        columns[f"{level}_correct"] = (rng.random(n) < least + slope * confidence).astype(float)
    return Table.from_columns(columns)


def thresholds_of(calibration: Table, local: float = 0.7, remote: float = 0.85, **more: Any) -> Thresholds:
    """Thresholds that remember the rows."""
    return replace(Thresholds(local, remote, **more), reference=reference_of(calibration, local, remote))
