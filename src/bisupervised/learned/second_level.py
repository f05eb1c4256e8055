"""The supervisor of both levels that thresholds were chosen with: fitted on rows of its own, kept beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from bisupervised.calibration.thresholds import Thresholds
from bisupervised.errors import InputError, ThresholdError
from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.fitting_rows import row_hashes
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.saving import learned_from_file, save_learned
from bisupervised.records import BoolArray
from bisupervised.table import Table

SecondLevel: TypeAlias = PairSupervisor | Arbiter
#: What can be learned of both levels, by the name of its kind.
KINDS: Final[Mapping[str, type[PairSupervisor] | type[Arbiter]]] = {
    one.kind: one for one in (PairSupervisor, Arbiter)
}


class Parted(NamedTuple):
    """Rows that fitted a supervisor, and those that may choose thresholds with it."""

    supervisor: SecondLevel
    rest: Table


def learn_on_a_part(table: Table, kind: str, *, share: float = 0.5, seed: int = 0, **settings: Any) -> Parted:
    """Fit a supervisor of both levels on a seeded share of the labelled rows; the others are left to calibrate on.

    Raises `InputError` for a kind that there is not, a share outside (0, 1), and what its `fit` raises.
    """
    if kind not in KINDS:
        raise InputError(f"what can be learned of both levels is {' or '.join(KINDS)}, not {kind!r}")
    if not 0.0 < share < 1.0:
        raise InputError(f"the share of rows that a supervisor is fitted on lies between 0 and 1, not {share}")
    labelled = np.flatnonzero(table.complete)
    shuffled = np.random.default_rng(seed).permutation(labelled)
    fitting = np.zeros(len(table), dtype=np.bool_)
    fitting[shuffled[: round(share * len(labelled))]] = True
    return Parted(KINDS[kind].fit(table.take(fitting), **settings), table.take(~fitting))


def save_second_level(supervisor: SecondLevel, path: str | Path) -> dict[str, Any]:
    """Write the supervisor to a file; what thresholds chosen with it say of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_learned(supervisor, path)
    return {"kind": supervisor.kind, "file": path.name, "sha256": _digest(path)}


def second_level_of(thresholds: Thresholds) -> SecondLevel | None:
    """The supervisor of both levels that these thresholds were chosen with; None when there was none.

    Raises `ThresholdError` when its file is not beside theirs, or is not the one that it was.
    """
    named = thresholds.second_level
    if not named:
        return None
    path = (thresholds.folder or Path()) / str(named.get("file"))
    try:
        same = _digest(path) == named.get("sha256")
    except OSError as error:
        raise ThresholdError(
            f"the thresholds were chosen with a supervisor of both levels in {path}, which cannot be read: {error}"
        ) from error
    if not same:
        raise ThresholdError(
            f"{path} is not the supervisor that the thresholds were chosen with, its SHA-256 differs: calibrate again"
        )
    supervisor = learned_from_file(path)
    if not isinstance(supervisor, PairSupervisor | Arbiter):
        raise ThresholdError(f"{path} holds a supervisor of one level; the 2nd level takes {' or '.join(KINDS)}")
    return supervisor


def unseen_rows(supervisor: SecondLevel, table: Table) -> BoolArray:
    """(n,) rows that the supervisor was not fitted on."""
    unseen: BoolArray = ~np.isin(row_hashes(table), supervisor.fitted_on)
    return unseen


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
