"""Record: ask both models about every input and keep what they said, supervisors' confidences included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from bisupervised.calls import BoundedCalls
from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import InputError
from bisupervised.outcomes import join_rows, level_rows
from bisupervised.portal import Portal
from bisupervised.records import AnyArray, LevelRows
from bisupervised.table import Table

#: What a table holds only where it was asked for: a column for each class, or feature.
RECORDED_EVIDENCE = ("logits", "features")


def record(
    system: BiSupervised,
    inputs: Sequence[Any],
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    batch_size: int = 256,
    max_concurrency: int = 16,
    on_done: Callable[[int], None] | None = None,
    evidence: Collection[str] = (),
) -> Table:
    """The table of both models on all n inputs; `on_done(k)` is told of every k more inputs. Blocks.

    Thresholds play no part: the remote model is asked about every input, and each call is paid for. `evidence` asks
    for what is too large to be kept by default, where the models give it: `logits`, `features`. A quantifier can be
    fitted on a table that has them.
    """
    parts = list(
        record_in_parts(
            system,
            inputs,
            ids=ids,
            labels=labels,
            batch_size=batch_size,
            max_concurrency=max_concurrency,
            on_done=on_done,
            evidence=evidence,
        )
    )
    return join_recorded(parts)


def record_in_parts(
    system: BiSupervised,
    inputs: Sequence[Any],
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    batch_size: int = 256,
    max_concurrency: int = 16,
    on_done: Callable[[int], None] | None = None,
    evidence: Collection[str] = (),
) -> Iterator[Table]:
    """`record`, one table for each batch as it is done: what is paid for can be kept at once."""
    _check_evidence(system, evidence)
    if len(inputs) == 0:
        raise InputError("there are no inputs to record")
    ids = [str(row) for row in range(len(inputs))] if ids is None else [str(id_) for id_ in ids]
    if len(ids) != len(inputs) or len(set(ids)) != len(ids):
        raise InputError(f"ids must be unique, one for each of the {len(inputs)} inputs")
    portal = Portal()
    try:
        for start in range(0, len(inputs), batch_size):
            rows = slice(start, start + batch_size)
            local, remote = portal.run(_both(system, inputs[rows], max_concurrency, evidence))
            part = None if labels is None else _objects(labels[rows])
            yield Table(np.array(ids[rows]), part, local, remote)
            _check_kept(evidence, local, remote)
            if on_done is not None:
                on_done(len(local))
    finally:
        portal.close()


def _check_evidence(system: BiSupervised, evidence: Collection[str]) -> None:
    """Before anything is paid for: each is one that a table holds, and that a model gives."""
    given = system.local.model.provides | system.remote.model.provides
    for name in evidence:
        if name not in RECORDED_EVIDENCE:
            raise InputError(f"a table holds {' and '.join(RECORDED_EVIDENCE)} on demand, not {name!r}")
        if name not in given:
            raise InputError(f"no model of the two gives {name}; they give {', '.join(sorted(given)) or 'nothing'}")


def _check_kept(evidence: Collection[str], *levels: LevelRows) -> None:
    """A function may promise any evidence: what its outputs really hold is seen with the first batch."""
    absent = [name for name in evidence if all(getattr(rows, name) is None for rows in levels)]
    if absent:
        raise InputError(
            f"the models' outputs hold no {' and no '.join(absent)}: a function gives a ModelOutput with them"
        )


async def _both(
    system: BiSupervised, inputs: Sequence[Any], max_concurrency: int, evidence: Collection[str]
) -> tuple[LevelRows, LevelRows]:
    local = _level(system.local, inputs, max_concurrency, system.costs[0], evidence)
    remote = _level(system.remote, inputs, max_concurrency, system.costs[1], evidence)
    both = await asyncio.gather(local, remote)
    return both[0], both[1]


async def _level(
    level: Level, inputs: Sequence[Any], max_concurrency: int, cost: float, evidence: Collection[str]
) -> LevelRows:
    bound = 1 if level.model.max_batch is None else max_concurrency
    output = await BoundedCalls(level.model, max_concurrency=bound, inline=level.inline)(inputs)
    start = perf_counter()
    confidences = level.supervisor.confidences(output)
    return level_rows(output, confidences, (perf_counter() - start) / len(inputs), cost, evidence=evidence)


def join_recorded(parts: Sequence[Table]) -> Table:
    """The recorded batches as one table."""
    labels = [part.labels for part in parts if part.labels is not None]
    return Table(
        ids=np.concatenate([part.ids for part in parts]),
        labels=np.concatenate(labels) if len(labels) == len(parts) else None,
        local=join_rows([part.local for part in parts]),
        remote=join_rows([part.remote for part in parts]),
    )


def _objects(values: Sequence[Any]) -> AnyArray:
    column = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        column[row] = value
    return column
