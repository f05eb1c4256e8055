"""A fitted confidence calibration in a file: plain JSON, with the rows that it was fitted on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.fitting_rows import RowHashes, as_text, from_text, refuse_other_level
from bisupervised.probability_calibration import (
    AnyCalibration,
    BetaCalibration,
    IsotonicCalibration,
    TemperatureScaling,
    VennAbers,
    calibration_from_dict,
)
from bisupervised.records import LevelName

#: Raised when a key gets another meaning.
FORMAT: Final = 1


def save_confidence_calibration(
    calibration: IsotonicCalibration | BetaCalibration | VennAbers,
    path: str | os.PathLike[str],
    *,
    fitting_rows: RowHashes | None = None,
    level: LevelName | str | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write it as JSON; `confidence_calibration_from_file` reads it, and gives the same to the last bit.

    `fitting_rows` are the (m,) `row_hashes` of the rows that it was fitted on, and `level` is the one whose rows they
    were: a file that says it is refused for the other. `about` are further plain values for people who read the
    file. Folders that are not there are made, and the file appears whole or not at all. Raises `InputError` when it
    cannot be written.
    """
    values = {
        "format": FORMAT,
        **({} if level is None else {"level": LevelName(level).value}),
        "confidence_calibration": calibration.to_dict(),
        "about": dict(about or {}),
        "fitting_rows": as_text(np.empty(0, np.uint64) if fitting_rows is None else fitting_rows),
    }
    unfinished = Path(f"{os.fspath(path)}.{os.getpid()}.unfinished")
    try:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        # Infinity is no JSON, but Python's reader understands it, and a confidence may be infinite.
        unfinished.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {os.fspath(path)}: {error}") from error


def confidence_calibration_from_file(
    path: str | os.PathLike[str], level: LevelName | str | None = None
) -> IsotonicCalibration | BetaCalibration | VennAbers:
    """The confidence calibration in a file. Raises `InputError` for a file that holds none.

    `level` is the one whose confidences it is for: a file that was fitted on the other's, and says so, is refused.
    """
    where, values = os.fspath(path), _read(path, level)
    try:
        calibration: AnyCalibration = calibration_from_dict(values["confidence_calibration"])
    except (InputError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{where} holds no confidence calibration that can be used: {error}") from error
    if isinstance(calibration, TemperatureScaling):
        raise InputError(
            f"{where} holds temperature scaling, which works before the quantifier: set temperature = "
            f"{calibration.temperature:.6g} instead"
        )
    return calibration


def calibration_fitting_rows(path: str | os.PathLike[str], level: LevelName | str | None = None) -> RowHashes:
    """(m,) hashes of the rows that the calibration in a file was fitted on; none where the file does not say.

    Where `level` is given, a file that was fitted on the other level's rows is refused.
    """
    return from_text(_read(path, level).get("fitting_rows", ""))


def _read(path: str | os.PathLike[str], level: LevelName | str | None) -> Mapping[str, Any]:
    where = os.fspath(path)
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {where}; `bisupervised calibrate-confidence` writes one") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{where} holds no confidence calibration: {error}") from error
    if not isinstance(values, Mapping) or "confidence_calibration" not in values:
        raise InputError(f"{where} holds no confidence calibration: `bisupervised calibrate-confidence` writes one")
    if values.get("format") != FORMAT:
        raise InputError(f"{where} is of format {values.get('format')!r}; this version reads format {FORMAT}")
    refuse_other_level(path, values.get("level"), level)
    return values
