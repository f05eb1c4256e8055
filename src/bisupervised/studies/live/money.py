"""What n inputs cost: remote tokens at list prices, and local processor time. NaN where it is not known.

In this order, the first that is known for every row: tokens at the list prices given, the recorded cost of each
request, the processor time of the remote model at the price of the local one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate
from bisupervised.records import BoolArray, FloatArray, IntArray
from bisupervised.studies.live.claims import mean_estimate
from bisupervised.table import Table


class PriceTable(Protocol):
    """List prices, as `prices.Prices` has them. Amounts in its currency; arrays in, arrays out."""

    def cost_of(self, prompt_tokens: Any, completion_tokens: Any) -> Any:
        """The price of requests of so many tokens."""

    def local_cost(self, cpu_s: Any) -> Any:
        """The price of so many processor seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """(n,) each, in one currency; NaN where not known."""

    local: FloatArray  #: of asking the local model
    remote: FloatArray  #: of asking the remote model
    basis: str  #: what they were made of, in words


@dataclass(frozen=True, slots=True)
class Money:
    """What the system saves, per 1,000 inputs, local compute included. NaN: not known."""

    model: str  #: whose prices
    saved_per_1000: Estimate  #: remote-only minus system
    remote_only_per_1000: float
    system_per_1000: float
    local_per_1000: float  #: of that, the local model's processor time
    break_even_request: float  #: price of a request from which the system is the cheaper one
    basis: str


def costs_of(table: Table, prices: PriceTable | None) -> Costs:
    """The costs of each row."""
    n = len(table)
    local = np.full(n, np.nan) if prices is None else _priced(prices.local_cost, _column(table, "local_cpu_s"))
    recorded = table.remote.cost
    if prices is not None:
        tokens = [_column(table, f"remote_{kind}_tokens") for kind in ("prompt", "completion")]
        remote = _priced(prices.cost_of, *tokens)
        if not np.isnan(remote).any():
            return Costs(local, remote, "remote tokens at list prices, local processor time")
    if not np.isnan(recorded).any() and (recorded > 0.0).any():
        own = table.local.cost if np.isnan(local).any() else local
        return Costs(own, recorded, "recorded cost of each request")
    if prices is not None:
        remote = _priced(prices.local_cost, _column(table, "remote_cpu_s"))
        if not np.isnan(remote).any():
            return Costs(local, remote, "processor time of both models: the remote one has no list price")
    return Costs(local, np.full(n, np.nan), "not known: no prices, no recorded costs")


def _priced(price: Any, *columns: FloatArray) -> FloatArray:
    """(n,) prices; of arrays where the table takes them, else row by row."""
    if any(np.isnan(column).all() for column in columns):
        return np.full(len(columns[0]), np.nan)
    try:
        found = np.asarray(price(*columns), dtype=np.float64)
        if found.shape == columns[0].shape:
            return found
    except (TypeError, ValueError):
        pass
    return np.array(
        [math.nan if any(map(math.isnan, row)) else float(price(*row)) for row in zip(*columns, strict=True)]
    )


def _column(table: Table, name: str) -> FloatArray:
    if name not in table.extra:
        return np.full(len(table), np.nan)
    return np.asarray(table.extra[name], dtype=np.float64)


def money_of(costs: Costs, deferred: BoolArray, clusters: IntArray | None = None, model: str = "") -> Money:
    """What deferring these rows saves against asking the remote model about every one."""
    saved = saved_money(costs, deferred)
    found = mean_estimate(saved, clusters, bounded=False)
    local, remote = _mean(costs.local), _mean(costs.remote)
    share = 1.0 - float(np.mean(deferred))
    return Money(
        model,
        Estimate(*(1000.0 * one for one in found)) if not math.isnan(found.value) else NOT_KNOWN,
        1000.0 * remote,
        1000.0 * (remote - found.value),
        1000.0 * local,
        local / share if share > 0.0 else math.inf,
        costs.basis,
    )


def saved_money(costs: Costs, deferred: BoolArray) -> FloatArray:
    """(n,) what each input costs less than under remote-only."""
    return np.where(deferred, 0.0, costs.remote) - costs.local + 0.0 * costs.remote


def _mean(values: FloatArray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def all_money(
    table: Table,
    price_tables: Sequence[tuple[str, PriceTable | None]],
    deferred: BoolArray,
    clusters: IntArray | None,
) -> list[Money]:
    """The same at each of several price tables."""
    return [money_of(costs_of(table, prices), deferred, clusters, name) for name, prices in price_tables]
