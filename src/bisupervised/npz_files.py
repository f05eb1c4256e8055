"""Named arrays and a head in NumPy's npz: written whole or not at all, and read without running what a file holds."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bisupervised.errors import InputError

#: What reading a file that is none, or a damaged one, raises.
_UNREADABLE: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
)
_ZIP: Final = b"PK\x03\x04"


def write_npz(path: str | os.PathLike[str], entry: str, head: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write `arrays` by name, and `head`, plain values, as JSON in the entry of that name.

    Folders that are not there are made. The file appears whole or not at all. Raises `InputError` when it cannot be
    written.
    """
    where = os.fspath(path)
    unfinished = f"{where}.{os.getpid()}.unfinished"
    entries: dict[str, Any] = {entry: np.array(json.dumps(head)), **arrays}
    try:
        os.makedirs(os.path.dirname(where) or ".", exist_ok=True)
        with open(unfinished, "wb") as file:
            np.savez(file, **entries)
        os.replace(unfinished, where)
    except OSError as error:
        raise InputError(f"cannot write {where}: {error}") from error


def read_npz(path: str | os.PathLike[str], entry: str, holds: str) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The head in the entry of that name, as JSON gives it, and all other arrays by name.

    Raises `InputError` for a file that is not there, or holds no `holds`, such as "fitted quantifier".
    """
    where = os.fspath(path)
    try:
        with open(where, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return json.loads(str(file[entry])), {name: file[name] for name in file.files if name != entry}
    except FileNotFoundError as error:
        raise InputError(f"there is no file {where}") from error
    except _UNREADABLE as error:
        raise InputError(f"{where} holds no {holds}: {error}") from error


def is_npz(path: str | os.PathLike[str]) -> bool:
    """Whether a file is of this kind by how it begins, whatever it is called; False for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_ZIP)) == _ZIP
    except OSError:
        return False
