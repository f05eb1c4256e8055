"""Learned supervisors in files: NumPy's npz, whose reading runs no code that the file holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from bisupervised.errors import InputError
from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.columns import LabelColumn, NumericColumn
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.design import AGREEMENT, FEW, Design
from bisupervised.learned.heads import Heads
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.npz_files import read_npz, write_npz
from bisupervised.records import AnyArray, LevelName

#: Raised when the features, or a field, get another meaning: a file of another format is not read.
FORMAT: Final = 1
_HEAD: Final = "learned"
LearnedSupervisor: TypeAlias = StackedSupervisor | DeferralHead | PairSupervisor | Arbiter
_KINDS: Final[dict[str, type[Any]]] = {
    kind.kind: kind for kind in (StackedSupervisor, DeferralHead, PairSupervisor, Arbiter)
}
#: kind -> its heads, and how many targets each has
_HEADS: Final[dict[str, dict[str, int]]] = {
    "stacked": {"heads": 1},
    "deferral": {"heads": 2},
    "pair": {"both": 1, "remote": 1},
    "arbiter": {"both": 2, "local": 1, "remote": 1},
}


def save_learned(supervisor: LearnedSupervisor, path: str | os.PathLike[str]) -> None:
    """Write a learned supervisor to a file; `learned_from_file` reads it, and gives the same to the last bit.

    The file appears whole or not at all. Raises `InputError` for one with somebody's estimator in it.
    """
    if type(supervisor) not in _KINDS.values():
        raise InputError(
            f"only learned supervisors are saved here, not a {type(supervisor).__name__}; of a cross-fitted one, "
            f"save its .supervisor"
        )
    head: dict[str, Any] = {"format": FORMAT, "kind": supervisor.kind, "heads": {}}
    entries: dict[str, Any] = {"fitted_on": supervisor.fitted_on}
    for name in _HEADS[supervisor.kind]:
        heads = getattr(supervisor, name)
        if not isinstance(heads, Heads):
            raise InputError("no file holds an estimator of yours: keep it by the means of its own library")
        head["heads"][name] = _described(heads.design)
        entries |= {f"{name}/{key}": value for key, value in _arrays(heads).items()}
    if isinstance(supervisor, StackedSupervisor):
        head["level"] = supervisor.level.value
    if isinstance(supervisor, PairSupervisor | Arbiter):
        head["columns"] = list(supervisor.columns)
    write_npz(path, _HEAD, head, entries)


def learned_from_file(path: str | os.PathLike[str]) -> LearnedSupervisor:
    """The learned supervisor in a file. `InputError` for a file that holds none, or one that was tampered with so
    that its parts do not fit."""
    where = os.fspath(path)
    head, arrays = read_npz(path, _HEAD, "learned supervisor")
    if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("kind") not in tuple(_KINDS):
        found = head if not isinstance(head, dict) else f"{head.get('kind')!r} of format {head.get('format')!r}"
        raise InputError(f"{where} holds {found}; this version reads format {FORMAT} of: {', '.join(sorted(_KINDS))}")
    try:
        return _supervisor(head, arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where} holds no {head['kind']} supervisor that can be used: {error}") from error


def _supervisor(head: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> LearnedSupervisor:
    kind = head["kind"]
    parts = {name: _heads(head["heads"][name], name, arrays, targets) for name, targets in _HEADS[kind].items()}
    fitted_on = arrays["fitted_on"]
    _check(fitted_on.dtype == np.uint64 and fitted_on.ndim == 1, "the hashes of its fitting rows are none")
    _check(bool((fitted_on[1:] > fitted_on[:-1]).all()), "the hashes of its fitting rows do not rise")
    rest: dict[str, Any] = {"fitted_on": fitted_on}
    if kind == "stacked":
        rest["level"] = LevelName(head["level"])
    if kind in ("pair", "arbiter"):
        rest["columns"] = tuple(_texts(head["columns"]))
    supervisor: LearnedSupervisor = _KINDS[kind](**parts, **rest)
    return supervisor


def _described(design: Design) -> dict[str, Any]:
    return {
        "numbers": [[one.name, one.missing] for one in design.numbers],
        "labels": [[one.name, list(one.labels)] for one in design.labels],
        "classes": None if design.classes is None else [design.classes.name, list(design.classes.labels)],
        "agreement": design.agreement,
    }


def _arrays(heads: Heads) -> dict[str, AnyArray]:
    found: dict[str, AnyArray] = {"weights": heads.weights, "effects": heads.effects}
    for number, column in enumerate(heads.design.numbers):
        found |= {f"{number}/knots": column.knots, f"{number}/ranks": column.ranks}
    return found


def _heads(described: Mapping[str, Any], name: str, arrays: Mapping[str, AnyArray], targets: int) -> Heads:
    numbers = []
    for number, (column, missing) in enumerate(described["numbers"]):
        knots, ranks = (arrays[f"{name}/{number}/{key}"] for key in ("knots", "ranks"))
        _check(knots.ndim == 1 and len(knots) > 0 and knots.shape == ranks.shape, f"{column} has no ranks")
        for values in (knots, ranks):
            _check(values.dtype == np.float64 and bool(np.isfinite(values).all()), f"{column} has ranks of no number")
            _check(bool((values[1:] > values[:-1]).all()), f"the ranks of {column} do not rise")
        _check(isinstance(missing, bool), f"whether {column} may be missing is {missing!r}")
        numbers.append(NumericColumn(_texts([column])[0], knots, ranks, missing))
    _check(len(numbers) > 0, "it reads no numbers")
    labels = tuple(LabelColumn(_texts([column])[0], tuple(_texts(names))) for column, names in described["labels"])
    _check(all(1 < len(one.labels) <= FEW for one in labels), "a label column has too many classes, or one")
    many = described["classes"]
    classes = None if many is None else LabelColumn(_texts([many[0]])[0], tuple(_texts(many[1])))
    _check(isinstance(described["agreement"], bool), "whether it reads agreement is not said")
    design = Design(tuple(numbers), labels, classes, described["agreement"])
    columns = [one for one in design.names if one != AGREEMENT]
    _check(len(set(columns)) == len(columns), "it reads a column twice")
    weights, effects = arrays[f"{name}/weights"], arrays[f"{name}/effects"]
    k = 0 if classes is None else len(classes.labels)
    for values, shape in ((weights, (targets, design.size)), (effects, (targets, k))):
        _check(values.shape == shape, f"weights of the shape {values.shape} in place of {shape}")
        _check(values.dtype == np.float64 and bool(np.isfinite(values).all()), "weights that are no numbers")
    return Heads(design, weights, effects)


def _texts(values: Any) -> list[str]:
    _check(isinstance(values, list) and all(isinstance(value, str) for value in values), f"{values!r} are no names")
    return list(values)


def _check(fine: bool, what: str) -> None:
    if not fine:
        raise ValueError(what)
