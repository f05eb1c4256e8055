"""A guarantee for each group of inputs: per class, tenant, language (Mondrian calibration, Vovk et al. 2003).

A promise over all inputs may be kept by the many and broken for the few. Each group has its own thresholds, from its
own rows, and needs enough of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisupervised.calibration.guarantees.evidence import Certified, Guarantee, Infeasible, check_share
from bisupervised.errors import InputError
from bisupervised.records import AnyArray, IntArray

MIN_ROWS = 50


@dataclass(frozen=True, slots=True)
class ByGroup:
    """One guarantee for each group."""

    groups: Mapping[Any, Guarantee]
    jointly: bool  #: whether `delta` is for all groups together, rather than for each

    @property
    def certified(self) -> dict[Any, Certified]:
        """The groups that have thresholds."""
        return {group: one for group, one in self.groups.items() if isinstance(one, Certified)}

    @property
    def infeasible(self) -> dict[Any, Infeasible]:
        """The groups that have none, with the reason."""
        return {group: one for group, one in self.groups.items() if isinstance(one, Infeasible)}

    @property
    def sentence(self) -> str:
        n, done = len(self.groups), len(self.certified)
        each = "all groups together" if self.jointly else "each group by itself"
        said = f"{done} of {n} groups certified, the promise being for {each}"
        lacking = "; ".join(f"{group}: {one.sentence}" for group, one in self.infeasible.items())
        return f"{said}. {lacking}" if lacking else f"{said}."


def by_group(
    groups: AnyArray,
    calibrate: Callable[[IntArray, float], Guarantee],
    *,
    delta: float = 0.1,
    jointly: bool = False,
    min_rows: int = MIN_ROWS,
) -> ByGroup:
    """`calibrate(rows, delta)` for the rows of each of the (n,) groups, in their sorted order.

    A group with fewer than `min_rows` rows is infeasible: it is not merged into others. `jointly` divides delta among
    the groups, so that all promises hold together with probability 1 - delta.

    >>> from bisupervised.calibration.guarantees.order_statistics import request_budget
    >>> scores = np.arange(200) / 200
    >>> tenants = np.array(["a", "b"])[(np.arange(200) >= 180).astype(int)]
    >>> found = by_group(tenants, lambda rows, delta: request_budget(scores[rows], 0.3, delta=delta))
    >>> found.certified["a"].thresholds
    {'local': 0.225}
    >>> print(found.infeasible["b"].reason)
    the group has fewer than the 50 rows asked for
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if not len(names):
        raise InputError("there are no rows, and so no groups")
    share = check_share(delta, "delta") / len(names) if jointly else check_share(delta, "delta")
    found: dict[Any, Guarantee] = {}
    for number, name in enumerate(names.tolist()):
        rows = np.flatnonzero(group == number)
        found[name] = calibrate(rows, share) if len(rows) >= min_rows else _too_few(len(rows), min_rows, share)
    return ByGroup(found, jointly)


def _too_few(n: int, min_rows: int, delta: float) -> Infeasible:
    return Infeasible(
        "by group", {}, delta, n, f"the group has fewer than the {min_rows} rows asked for", {}, min_rows - n
    )
