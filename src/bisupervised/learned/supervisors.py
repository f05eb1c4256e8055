"""The learned supervisors that thresholds were chosen with: fitted on rows of their own, kept beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from bisupervised.calibration.thresholds import Thresholds
from bisupervised.errors import InputError, ThresholdError
from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.cross_fitting import cross_fitted
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.fitting_rows import fitting_hashes, refuse_fitting_rows, row_hashes
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.saving import learned_from_file, save_learned
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.records import BoolArray, FloatArray, LevelName, PairConfidences
from bisupervised.supervisor import known_where, weighed
from bisupervised.table import Table

#: The fewest rows that anything is fitted on; cross-fitting takes some more.
MIN_ROWS: Final = 40
FirstLevel: TypeAlias = StackedSupervisor | DeferralHead
SecondLevel: TypeAlias = PairSupervisor | Arbiter
#: What can be learned for either level, by the name of its kind.
FIRST: Final[Mapping[str, type[StackedSupervisor] | type[DeferralHead]]] = {
    "stacked": StackedSupervisor,
    "deferral": DeferralHead,
}
SECOND: Final[Mapping[str, type[PairSupervisor] | type[Arbiter]]] = {"pair": PairSupervisor, "arbiter": Arbiter}


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSupervisors:
    """A learned supervisor of the 1st level, of the 2nd, or of both."""

    first: FirstLevel | None = None
    second: SecondLevel | None = None

    def __bool__(self) -> bool:
        return self.first is not None or self.second is not None

    def unseen(self, table: Table) -> BoolArray:
        """(n,) rows that none of them was fitted on."""
        hashes, unseen = row_hashes(table), np.ones(len(table), dtype=np.bool_)
        for one in (self.first, self.second):
            if one is not None:
                unseen &= ~np.isin(hashes, one.fitted_on)
        return unseen

    def refuse_fitting_rows(self, table: Table) -> None:
        """Raise `InputError` when one of them was fitted on some of the rows."""
        for one in (self.first, self.second):
            if one is not None:
                refuse_fitting_rows(one, table)

    def read(self, table: Table) -> Table:
        """The rows with their learned local confidences."""
        if self.first is None:
            return table
        return _with_local(table, known_where(table.local.confidences, self.first.of_table(table)))

    def weigh(self, read: Table) -> PairConfidences | None:
        """What the 2nd level makes of rows that were `read`; None: there is none."""
        if self.second is None:
            return None
        return weighed(self.second.of_table(read), read.local.confidences, read.remote.confidences)

    def applied(self, table: Table) -> tuple[Table, PairConfidences | None]:
        """Both."""
        read = self.read(table)
        return read, self.weigh(read)


class Parted(NamedTuple):
    """Supervisors, and the rows that did not fit them: those that may choose thresholds."""

    supervisors: LearnedSupervisors
    rest: Table


def learn_on_a_part(table: Table, kinds: Sequence[str], *, share: float = 0.5, seed: int = 0) -> Parted:
    """Fit supervisors on a seeded share of the labelled rows; the others are left to calibrate on.

    At most one kind of each level: `stacked` or `deferral`, and `pair` or `arbiter`. With both, the 2nd level is
    fitted on cross-fitted confidences of the 1st. Raises `InputError` for other kinds, for a share outside (0, 1),
    and what fitting raises.
    """
    unknown = [kind for kind in kinds if kind not in FIRST and kind not in SECOND]
    if unknown or not kinds:
        raise InputError(
            f"what can be learned is {', '.join(FIRST)} (1st level) and {', '.join(SECOND)} (2nd level), not "
            f"{', '.join(unknown) or 'nothing'}"
        )
    firsts, seconds = [kind for kind in kinds if kind in FIRST], [kind for kind in kinds if kind in SECOND]
    if len(firsts) > 1 or len(seconds) > 1:
        raise InputError(f"at most one supervisor is learned for each level, not {', '.join(kinds)}")
    if not 0.0 < share < 1.0:
        raise InputError(f"the share of rows that a supervisor is fitted on lies between 0 and 1, not {share}")
    labelled = np.flatnonzero(table.complete)
    if round(share * len(labelled)) < MIN_ROWS:
        raise InputError(
            f"{len(labelled)} rows have labels and both models' answers, and {share:g} of them are to be fitted on: "
            f"that takes at least {MIN_ROWS}. Label more rows, or leave out --learn"
        )
    shuffled = np.random.default_rng(seed).permutation(labelled)
    chosen = np.zeros(len(table), dtype=np.bool_)
    chosen[shuffled[: round(share * len(labelled))]] = True
    fitting = table.take(chosen)
    first, seen = _fit_first(FIRST[firsts[0]], fitting, seed) if firsts else (None, fitting)
    # The rows are remembered as they were recorded, whatever the 1st level made of their confidences.
    second = replace(SECOND[seconds[0]].fit(seen), fitted_on=fitting_hashes(fitting)) if seconds else None
    return Parted(LearnedSupervisors(first, second), table.take(~chosen))


def _fit_first(
    kind: type[StackedSupervisor] | type[DeferralHead], rows: Table, seed: int
) -> tuple[FirstLevel, Table]:
    """The supervisor, and its rows with the confidences that those which had not seen them give."""
    fit: Callable[[Table], FirstLevel] = kind.fit
    crossed = cross_fitted(fit, rows, seed=seed)
    return crossed.supervisor, _with_local(rows, crossed.confidences)


def _with_local(table: Table, confidences: FloatArray) -> Table:
    return replace(table, local=replace(table.local, confidences=confidences))


# ---------------------------------------------------------------- files


def save_beside(supervisors: LearnedSupervisors, thresholds: str | Path) -> dict[str, dict[str, Any]]:
    """Write them to files beside a thresholds file; its sections that name them, to be stored with the thresholds."""
    path, named = Path(thresholds), {}
    path.parent.mkdir(parents=True, exist_ok=True)
    for level in ("first", "second"):
        one = getattr(supervisors, level)
        if one is not None:
            file = path.with_name(f"{path.stem}-{level}-level.npz")
            save_learned(one, file)
            named[f"{level}_level"] = {"kind": one.kind, "file": file.name, "sha256": _digest(file)}
    return named


def supervisors_of(thresholds: Thresholds) -> LearnedSupervisors:
    """The learned supervisors that these thresholds were chosen with, if there were any.

    Raises `ThresholdError` when a file is not beside theirs, or is not the one that it was.
    """
    first = _named(thresholds.first_level, thresholds, tuple(FIRST.values()))
    if isinstance(first, StackedSupervisor) and first.level is not LevelName.LOCAL:
        raise ThresholdError("the supervisor of the 1st level was fitted to judge the remote model: calibrate again")
    return LearnedSupervisors(first, _named(thresholds.second_level, thresholds, tuple(SECOND.values())))


def _named(named: Mapping[str, Any], thresholds: Thresholds, kinds: tuple[type, ...]) -> Any:
    if not named:
        return None
    path = (thresholds.folder or Path()) / str(named.get("file"))
    try:
        same = _digest(path) == named.get("sha256")
    except OSError as error:
        raise ThresholdError(
            f"the thresholds were chosen with the learned supervisor {path}, which cannot be read: {error}"
        ) from error
    if not same:
        raise ThresholdError(
            f"{path} is not the supervisor that the thresholds were chosen with, its SHA-256 differs: calibrate again"
        )
    found = learned_from_file(path)
    if not isinstance(found, kinds):
        raise ThresholdError(f"{path} holds a {found.kind} supervisor, which is none of this level")
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
