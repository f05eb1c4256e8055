"""Fitted quantifiers in files: NumPy's npz, whose reading runs no code that the file holds."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.fitting_rows import refuse_other_level
from bisupervised.npz_files import read_npz, write_npz
from bisupervised.quantifiers.port import Quantifier
from bisupervised.records import AnyArray, LevelName

#: Raised when a field gets another meaning.
FORMAT: Final = 1
#: The entry that says what the file holds.
_HEAD: Final = "quantifier"
#: The entry with the hashes of the rows that it was fitted on.
_ROWS: Final = "fitting_rows"


def save_quantifier(
    quantifier: Quantifier,
    path: str | os.PathLike[str],
    *,
    fitting_rows: AnyArray | None = None,
    level: LevelName | str | None = None,
) -> None:
    """Write a fitted quantifier to a file; `quantifier_from_file` reads it, and gives the same to the last bit.

    `fitting_rows` are the (m,) `row_hashes` of the rows that it was fitted on: `read_fitting_rows` gives them back,
    so that nobody takes the confidences of those rows for honest ones. `level` is the one whose rows they were; a
    file that says it is refused for the other. Folders that are not there are made, and the file appears whole or
    not at all. Raises `InputError` for one that cannot be stored: it was not fitted, or its classes are no texts,
    numbers or truth values.
    """
    kind: Any = type(quantifier)
    if not (dataclasses.is_dataclass(kind) and hasattr(kind, "fit")):
        raise InputError(f"{quantifier.name} has nothing fitted to store: name it in the configuration instead")
    values = {f.name: getattr(quantifier, f.name) for f in dataclasses.fields(kind) if f.init}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    head: dict[str, Any] = {"format": FORMAT, "name": quantifier.name}
    if level is not None:
        head["level"] = LevelName(level).value
    head["values"] = {name: _plain(value) for name, value in values.items() if name not in arrays}
    if fitting_rows is not None:
        arrays[_ROWS] = np.unique(np.asarray(fitting_rows, dtype=np.uint64))
    write_npz(path, _HEAD, head, arrays)


def read_quantifier(
    path: str | os.PathLike[str], kinds: Mapping[str, type[Any]], level: LevelName | str | None = None
) -> Quantifier:
    """The quantifier in a file, of one of the `kinds` by name. Raises `InputError` for anything else.

    Also, where `level` is given, for one that was fitted on the other level's rows.
    """
    where = os.fspath(path)
    head, arrays = _read(path)
    try:
        name, values = head["name"], {name: _filled(value) for name, value in head["values"].items()}
        known = name in kinds
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} holds no fitted quantifier: {error}") from error
    if head.get("format") != FORMAT or not known:
        raise InputError(
            f"{where} holds a {name!r} of format {head.get('format')!r}; this version reads format {FORMAT} of: "
            f"{', '.join(sorted(kinds))}"
        )
    refuse_other_level(path, head.get("level"), level)
    arrays.pop(_ROWS, None)
    try:
        quantifier: Quantifier = kinds[name](**arrays, **values)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{where} holds no {name} that can be used: {error}") from error
    return quantifier


def read_fitting_rows(path: str | os.PathLike[str], level: LevelName | str | None = None) -> AnyArray:
    """(m,) uint64 hashes of the rows that the quantifier in a file was fitted on; none where the file does not say.

    Raises `InputError` for a file that holds no quantifier, and, where `level` is given, for one that was fitted on
    the other level's rows.
    """
    head, arrays = _read(path)
    refuse_other_level(path, head.get("level"), level)
    try:
        return np.asarray(arrays.get(_ROWS, np.empty(0)), dtype=np.uint64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{os.fspath(path)} holds no fitted quantifier: {error}") from error


def _read(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], dict[str, AnyArray]]:
    head, arrays = read_npz(path, _HEAD, "fitted quantifier")
    if not isinstance(head, Mapping):
        raise InputError(f"{os.fspath(path)} holds no fitted quantifier: its head is {head!r}")
    return head, arrays


def _plain(value: Any) -> Any:
    """A value as JSON: a text or number as it is, a tuple of labels as a list."""
    if isinstance(value, tuple):
        return [_plain_label(label) for label in value]
    return _plain_label(value)


def _plain_label(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str | int | float | bool):
        raise InputError(f"only texts, numbers and truth values can be stored as classes, not {value!r}")
    return value


def _filled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
