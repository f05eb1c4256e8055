"""Which rows a supervisor was fitted on: it is not to be judged, nor are thresholds to be chosen, on any of them."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import AnyArray, FloatArray
from bisupervised.table import Table


class Remembering(Protocol):
    """What knows the rows that it was fitted on."""

    @property
    def fitted_on(self) -> AnyArray:
        """(m,) rising row hashes."""


def row_hashes(table: Table) -> AnyArray:
    """(n,) 64 bits of each row's id and confidences. Neither the order of the rows nor their number is in it.

    As in the evidence of thresholds, every NaN is one NaN and -0.0 is 0.0, and correctness is left out: a row whose
    label came later is the same row.
    """
    local, remote = _plain(table.local.confidences), _plain(table.remote.confidences)
    numbers = np.ascontiguousarray(np.column_stack([local, remote]))
    hashes = (
        hashlib.blake2b(str(key).encode(errors="surrogatepass") + row.tobytes(), digest_size=8).digest()
        for key, row in zip(table.ids, numbers, strict=True)
    )
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def _plain(confidences: FloatArray) -> FloatArray:
    column = np.asarray(confidences, dtype="<f8")
    return np.where(np.isnan(column), np.nan, column + 0.0)


def fitting_hashes(table: Table) -> AnyArray:
    """(m,) what a supervisor that was fitted on these rows remembers."""
    hashes = np.unique(row_hashes(table))
    hashes.setflags(write=False)
    return hashes


def overlap(supervisor: Remembering, table: Table) -> int:
    """How many of the rows the supervisor was fitted on."""
    return int(np.isin(row_hashes(table), supervisor.fitted_on).sum())


def refuse_fitting_rows(supervisor: Remembering, table: Table) -> None:
    """Raise `InputError` when the supervisor was fitted on some of the rows, in whatever order they come."""
    same = overlap(supervisor, table)
    if same:
        raise InputError(
            f"{same} of these {len(table)} rows are among the {len(supervisor.fitted_on)} that the supervisor was "
            f"fitted on, where its confidences are too good to be true: use other rows, or the cross-fitted "
            f"confidences of these"
        )
