"""Which rows something was fitted on: a hash of each, kept beside it, so that it is not judged on those rows."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bisupervised.cells import written
from bisupervised.errors import InputError

RowHashes: TypeAlias = NDArray[np.uint64]


def row_hashes(ids: Sequence[Any], *columns: Any) -> RowHashes:
    """(n,) hashes of rows by their (n,) ids and further columns, (n,) or (n, d).

    Cells count as they are written: 1, 1.0, True and "1" are one, and so is a number in single and in double
    precision; a missing cell is "". The same in every process and version. Two different rows have the same hash
    with a probability of 5e-20.

    >>> row_hashes(["a", "b"], ["cat", "dog"]).tolist() == row_hashes(np.array(["a", "b"]), ("cat", "dog")).tolist()
    True
    """
    n = len(ids)
    odd = [len(column) for column in columns if len(column) != n]
    if odd:
        raise InputError(f"there are {n} ids, and a column of {odd[0]} cells: one for each row is needed")
    cells = [_cells(column) for column in (ids, *columns)]
    digests = b"".join(_digest(row) for row in zip(*cells, strict=True))
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def overlap(rows: RowHashes, fitted: RowHashes) -> NDArray[np.bool_]:
    """(n,) which of the n rows are among those that something was fitted on."""
    return np.isin(np.asarray(rows, dtype=np.uint64), np.asarray(fitted, dtype=np.uint64))


def refuse_other_level(path: str | os.PathLike[str], fitted_on: str | None, level: str | None) -> None:
    """Raise `InputError` when what is in a file was fitted on one level's rows and is to judge the other's.

    None where it is not known which: nothing is refused then.
    """
    if fitted_on is not None and level is not None and fitted_on != level:
        raise InputError(
            f"{os.fspath(path)} was fitted on rows of the {fitted_on} model, and is given for the {level} one: fit "
            f"one with --level {level}"
        )


def as_text(hashes: RowHashes) -> str:
    """The hashes for a JSON or TOML file: base64 of 8 bytes each, sorted. `from_text` reads them."""
    return base64.b64encode(np.unique(hashes).astype("<u8").tobytes()).decode("ascii")


def from_text(text: str) -> RowHashes:
    """The hashes that `as_text` wrote, sorted. Raises `InputError` for other text."""
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<u8").astype(np.uint64)
    except (ValueError, TypeError) as error:
        raise InputError(f"these are no hashes of fitting rows: {error}") from error


def _cells(column: Any) -> list[bytes]:
    array = column if isinstance(column, np.ndarray) else None
    if array is not None and array.ndim > 1:
        if array.dtype.kind not in "iufb":
            raise InputError(f"a column of more than one dimension holds numbers, not {array.dtype}")
        numbers = np.ascontiguousarray(array.reshape(len(array), -1), dtype="<f8") + 0.0  # one zero
        numbers[np.isnan(numbers)] = np.nan  # and one NaN
        return [row.tobytes() for row in numbers]
    return [_written(cell).encode(errors="surrogatepass") for cell in (column if array is None else array.tolist())]


def _digest(cells: tuple[bytes, ...]) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for cell in cells:
        digest.update(len(cell).to_bytes(8, "little"))  # ("a", "bc") is not ("ab", "c")
        digest.update(cell)
    return digest.digest()


def _written(cell: Any) -> str:
    if isinstance(cell, np.generic):
        cell = cell.item()
    text = written(cell)
    return "" if text is None else str(text)
