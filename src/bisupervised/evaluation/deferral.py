"""Which inputs of a recorded table the 2nd level sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from bisupervised.decision import accept, check_threshold, first_level
from bisupervised.errors import InputError
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.evaluation import recorded_routes
from bisupervised.evaluation.system import as_routed
from bisupervised.records import BoolArray
from bisupervised.table import Table

#: The share of inputs that is deferred, for the 2nd level, where nobody says otherwise.
REQUEST_RATE: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Deferral:
    """Which of the n inputs of a table count as deferred."""

    rows: BoolArray  #: (n,)
    how: str  #: how they were told, in words


def deferral_of(table: Table, request_rate: float | None, local_threshold: float | None) -> Deferral:
    """Those that the table's local confidence defers at a request rate (at most) or at a threshold; without either,
    of a table whose remote model was not always asked, those that were deferred. Raises `InputError`."""
    if request_rate is not None and local_threshold is not None:
        raise InputError("give a request rate or a local threshold, not both: either says which inputs are deferred")
    if local_threshold is not None:
        limit = check_threshold(local_threshold, "local threshold")
        return Deferral(first_level(table.local.confidences, limit)[1], f"by the local threshold {limit:g}")
    routes = recorded_routes(table)
    if request_rate is None and not table.remote.asked.all():
        if routes is None:
            return Deferral(table.remote.asked, "those for which the remote model was asked when they were recorded")
        return Deferral(as_routed(table, routes).requested, "those that were deferred when they were recorded")
    rate = REQUEST_RATE if request_rate is None else request_rate
    if not 0.0 < rate <= 1.0:
        raise InputError(f"a request rate is a share between 0 and 1, as in 0.5, not {rate}")
    order = DeferralOrder.of(table.local.confidences)
    shares = np.concatenate([[0.0], order.ends / len(order)])
    # At most the rate, but some: a confidence that cannot be divided there defers its first group.
    index = max(int(np.searchsorted(shares, rate + 1e-12, side="right")) - 1, 1)
    index = min(max(index, order.attainable.start), order.attainable.stop - 1)
    deferred = ~accept(table.local.confidences, float(order.thresholds[index]))
    how = f"by the table's local confidence, at request rate {rate:g}"
    if abs(float(np.mean(deferred)) - rate) > 0.01:
        how += f" as nearly as its ties allow ({float(np.mean(deferred)):.3f})"
    return Deferral(deferred, how)
