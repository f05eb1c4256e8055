"""Cross-fitting: honest confidences of the very rows that a supervisor is fitted on.

The rows are dealt into folds; a supervisor fitted on the others judges each. Whatever a supervisor learns, ranks,
knots and effects of classes included, it learns inside `fit`, which is given the other folds' rows and nothing else:
there is no way for a row's own label to get into its confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bisupervised.errors import InputError
from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.fitting_rows import refuse_fitting_rows, row_hashes
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray, PairConfidences
from bisupervised.table import Table


class Learned(Protocol):
    """A supervisor fitted on rows of the table."""

    @property
    def fitted_on(self) -> AnyArray:
        """(m,) rising hashes of the rows it was fitted on."""

    def of_table(self, table: Table) -> FloatArray | PairConfidences:
        """(n,) confidences of recorded rows."""


S = TypeVar("S", bound=Learned)


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted(Generic[S]):
    """A supervisor fitted on all rows, and the confidences of these rows by supervisors that had not seen them."""

    supervisor: S  #: for other rows, and for the running system
    confidences: FloatArray  #: (n,) for these rows
    local_preferred: BoolArray | None  #: (n,) of what arbitrates: where the local prediction is the answer
    rows: AnyArray  #: (n,) hashes: which rows these are
    folds: int
    seed: int

    def of_rows(self, table: Table) -> PairConfidences:
        """The confidences of these rows, given again: all or some of them, in any order. Raises `InputError` for
        others."""
        order = np.argsort(self.rows)
        wanted = row_hashes(table)
        place = order[np.minimum(np.searchsorted(self.rows, wanted, sorter=order), len(order) - 1)]
        strangers = int((self.rows[place] != wanted).sum())
        if strangers:
            raise InputError(
                f"{strangers} of these {len(table)} rows were not cross-fitted: judge new rows by the supervisor"
            )
        preferred = None if self.local_preferred is None else self.local_preferred[place]
        return PairConfidences(self.confidences[place], preferred)


def cross_fitted(
    fit: Callable[[Table], S],
    table: Table,
    *,
    folds: int = 5,
    seed: int = 0,
    groups: Sequence[Any] | AnyArray | None = None,
) -> CrossFitted[S]:
    """Fit on all rows, and judge each row by a supervisor fitted on the other folds.

    `groups`, (n,) labels, keeps the rows of a group in one fold: questions about one text, inputs of one person.
    Raises `InputError` for fewer than 2 folds, and what `fit` raises, which may be that a fold leaves it too few
    rows.
    """
    fold = _folds(table, folds, seed, groups)
    found = np.full(len(table), np.nan)
    preferred: BoolArray | None = None  # until a supervisor, of the package or the caller's own, says so
    for number in range(folds):
        held = fold == number
        supervisor = fit(table.take(~held))
        judged = table.take(held)
        refuse_fitting_rows(supervisor, judged)
        confidences, local = _apart(supervisor.of_table(judged))
        found[held] = confidences
        if local is not None:
            preferred = np.zeros(len(table), dtype=np.bool_) if preferred is None else preferred
            preferred[held] = local
    return CrossFitted(fit(table), found, preferred, row_hashes(table), folds, seed)


def _apart(judged: FloatArray | PairConfidences) -> tuple[FloatArray, BoolArray | None]:
    if isinstance(judged, PairConfidences):
        return judged.confidences, judged.local_preferred
    return judged, None


def _folds(table: Table, folds: int, seed: int, groups: Any) -> IntArray:
    """(n,) the fold of each row, seeded; sizes differ by one row, or by one group, at most."""
    names = np.arange(len(table)) if groups is None else np.asarray(groups)
    if names.shape != (len(table),):
        raise InputError(f"groups are one label for each of the {len(table)} rows, not of the shape {names.shape}")
    distinct, place = np.unique(names, return_inverse=True)
    if not 2 <= folds <= len(distinct):
        raise InputError(
            f"cross-fitting takes at least 2 folds and a row (or group) for each: {folds} folds of {len(distinct)}"
        )
    dealt = np.random.default_rng(seed).permutation(len(distinct)) % folds
    fold: IntArray = dealt[place.reshape(-1)]
    return fold


def fit_stacked(
    table: Table, *, folds: int = 5, seed: int = 0, groups: Any = None, **settings: Any
) -> CrossFitted[StackedSupervisor]:
    """A stacked supervisor, cross-fitted; settings as in `StackedSupervisor.fit`."""
    return cross_fitted(
        lambda rows: StackedSupervisor.fit(rows, **settings), table, folds=folds, seed=seed, groups=groups
    )


def fit_deferral(
    table: Table, *, folds: int = 5, seed: int = 0, groups: Any = None, **settings: Any
) -> CrossFitted[DeferralHead]:
    """A deferral head, cross-fitted; settings as in `DeferralHead.fit`."""
    return cross_fitted(lambda rows: DeferralHead.fit(rows, **settings), table, folds=folds, seed=seed, groups=groups)


def fit_pair(
    table: Table, *, folds: int = 5, seed: int = 0, groups: Any = None, **settings: Any
) -> CrossFitted[PairSupervisor]:
    """A pair supervisor, cross-fitted; settings as in `PairSupervisor.fit`."""
    return cross_fitted(
        lambda rows: PairSupervisor.fit(rows, **settings), table, folds=folds, seed=seed, groups=groups
    )


def fit_arbiter(
    table: Table, *, folds: int = 5, seed: int = 0, groups: Any = None, **settings: Any
) -> CrossFitted[Arbiter]:
    """An arbiter, cross-fitted; settings as in `Arbiter.fit`."""
    return cross_fitted(lambda rows: Arbiter.fit(rows, **settings), table, folds=folds, seed=seed, groups=groups)
