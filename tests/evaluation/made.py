"""Tables made of arrays, and the random inputs that the properties are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bisupervised.records import LevelRows
from bisupervised.table import Table

#: Ties are frequent, and everything a confidence may be turns up.
ODD = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 0.1, 0.5, 0.5000000000000001, 0.7, 1.0, 1e-300, 12.5)
THRESHOLDS = (float("inf"), float("-inf"), *(value for value in ODD if value == value), 0.3, 0.6999999999999999)


def a_level(confidences: Any, *, asked: Any = None, cost: Any = np.nan, latency_s: Any = np.nan) -> LevelRows:
    """One level's columns with these confidences."""
    confidences = np.asarray(confidences, dtype=np.float64)
    n = len(confidences)
    return LevelRows(
        predictions=np.full(n, None, dtype=object),
        confidences=confidences,
        asked=np.ones(n, dtype=np.bool_) if asked is None else np.asarray(asked),
        latency_s=np.broadcast_to(np.asarray(latency_s, dtype=np.float64), n).copy(),
        supervisor_s=np.full(n, np.nan),
        cost=np.broadcast_to(np.asarray(cost, dtype=np.float64), n).copy(),
        errors=np.full(n, None, dtype=object),
    )


def a_table(local: Any, local_correct: Any, remote: Any, remote_correct: Any) -> Table:
    """n recorded inputs: two confidences and two correctnesses each."""
    return Table(
        ids=np.arange(len(local)).astype(str),
        labels=None,
        local=a_level(local),
        remote=a_level(remote),
        local_correct=np.asarray(local_correct, dtype=np.float64),
        remote_correct=np.asarray(remote_correct, dtype=np.float64),
    )


@st.composite
def rows(draw: st.DrawFn, *, max_n: int = 30, graded: bool = False, known: bool = False) -> tuple[Any, ...]:
    """(local confidence, local correct, remote confidence, remote correct), each (n,)."""
    n = draw(st.integers(1, max_n))
    numbers = st.sampled_from(ODD[3:] if known else ODD)
    correct = st.sampled_from((0.0, 0.25, 0.5, 1.0)) if graded else st.booleans()
    dtype = np.float64 if graded else np.bool_

    def column(values: st.SearchStrategy[Any], dtype: Any) -> Any:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=dtype)

    return column(numbers, np.float64), column(correct, dtype), column(numbers, np.float64), column(correct, dtype)


def random_rows(n: int, seed: int = 0, levels: int | None = None) -> tuple[Any, ...]:
    """Seeded rows on which confidence means something; `levels` distinct confidences, or all distinct."""
    rng = np.random.default_rng(seed)
    local, remote = rng.random(n), rng.random(n)
    if levels:
        local, remote = np.floor(local * levels) / levels, np.floor(remote * levels) / levels
    return local, rng.random(n) < 0.3 + 0.6 * local, remote, rng.random(n) < 0.6 + 0.35 * remote


def tie_orders(confidences: Sequence[float]) -> list[tuple[int, ...]]:
    """Every order of the rows from the least to the most trusted that ties allow, NaN first."""
    keys = [(0, 0.0) if value != value else (1, value) for value in confidences]
    return [order for order in permutations(range(len(keys))) if all(keys[a] <= keys[b] for a, b in pairwise(order))]
