"""Fitted quantifiers in files: NumPy's npz, whose reading runs no code that the file holds."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.quantifiers.port import Quantifier
from bisupervised.records import AnyArray

#: Raised when a field gets another meaning.
FORMAT: Final = 1
#: The entry that says what the file holds.
_HEAD: Final = "quantifier"
#: The entry with the hashes of the rows that it was fitted on.
_ROWS: Final = "fitting_rows"


def save_quantifier(
    quantifier: Quantifier, path: str | os.PathLike[str], *, fitting_rows: AnyArray | None = None
) -> None:
    """Write a fitted quantifier to a file; `quantifier_from_file` reads it, and gives the same to the last bit.

    `fitting_rows` are the (m,) `row_hashes` of the rows that it was fitted on: `read_fitting_rows` gives them back,
    so that nobody takes the confidences of those rows for honest ones. The file appears whole or not at all. Raises
    `InputError` for one that cannot be stored: it was not fitted, or its classes are no texts, numbers or truth
    values.
    """
    kind: Any = type(quantifier)
    if not (dataclasses.is_dataclass(kind) and hasattr(kind, "fit")):
        raise InputError(f"{quantifier.name} has nothing fitted to store: name it in the configuration instead")
    values = {f.name: getattr(quantifier, f.name) for f in dataclasses.fields(kind) if f.init}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    head = {"format": FORMAT, "name": quantifier.name}
    head |= {"values": {name: _plain(value) for name, value in values.items() if name not in arrays}}
    entries: dict[str, Any] = {_HEAD: np.array(json.dumps(head)), **arrays}
    if fitting_rows is not None:
        entries[_ROWS] = np.unique(np.asarray(fitting_rows, dtype=np.uint64))
    unfinished = f"{os.fspath(path)}.{os.getpid()}.unfinished"
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, **entries)
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(f"cannot write {os.fspath(path)}: {error}") from error


def read_quantifier(path: str | os.PathLike[str], kinds: Mapping[str, type[Any]]) -> Quantifier:
    """The quantifier in a file, of one of the `kinds` by name. Raises `InputError` for anything else."""
    where = os.fspath(path)
    try:
        with open(where, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            head = json.loads(str(file[_HEAD]))
            arrays = {name: file[name] for name in file.files if name not in (_HEAD, _ROWS)}
        name, values = head["name"], {name: _filled(value) for name, value in head["values"].items()}
    except FileNotFoundError as error:
        raise InputError(f"there is no file {where}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{where} holds no fitted quantifier: {error}") from error
    if head.get("format") != FORMAT or name not in kinds:
        raise InputError(
            f"{where} holds a {name!r} of format {head.get('format')!r}; this version reads format {FORMAT} of: "
            f"{', '.join(sorted(kinds))}"
        )
    try:
        quantifier: Quantifier = kinds[name](**arrays, **values)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{where} holds no {name} that can be used: {error}") from error
    return quantifier


def read_fitting_rows(path: str | os.PathLike[str]) -> AnyArray:
    """(m,) uint64 hashes of the rows that the quantifier in a file was fitted on; none where the file does not say.

    Raises `InputError` for a file that holds no quantifier.
    """
    where = os.fspath(path)
    try:
        with open(where, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            if _HEAD not in file.files:
                raise KeyError(_HEAD)
            return np.asarray(file[_ROWS] if _ROWS in file.files else np.empty(0), dtype=np.uint64)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {where}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{where} holds no fitted quantifier: {error}") from error


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
