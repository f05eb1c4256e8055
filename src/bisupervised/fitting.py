"""Fit what a level's supervisor is made of on recorded rows: a quantifier, or a calibration of its confidences.

One part of the rows, chosen by a seed, is fitted on; the other part says what came of it. The rows that were fitted
on are remembered in the file: their confidences are too good, and thresholds must be chosen on others.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bisupervised.calibration.calibrate import split_rows
from bisupervised.cells import is_missing, written
from bisupervised.errors import ConfigError, EvidenceError, InputError, TableError
from bisupervised.evaluation.auroc import auroc
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate
from bisupervised.fitting_rows import RowHashes, overlap, row_hashes
from bisupervised.learned.heads import MIN_ROWS
from bisupervised.models.recorded import recorded_output
from bisupervised.npz_files import is_npz
from bisupervised.probability_calibration import (
    BetaCalibration,
    ConfidenceCalibration,
    IsotonicCalibration,
    VennAbers,
)
from bisupervised.probability_calibration_file import calibration_fitting_rows, save_confidence_calibration
from bisupervised.quantifiers import Quantifier, fitted_kinds, read_fitting_rows, save_quantifier
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName, LevelRows, take_outputs
from bisupervised.table import Table

#: How confidences can be calibrated, by the name in commands and files.
CONFIDENCE_CALIBRATIONS: Final[Mapping[str, Any]] = {
    "isotonic": IsotonicCalibration,
    "beta": BetaCalibration,
    "venn_abers": VennAbers,
}


#: Settings that are arrays of the model's own, which a command reads from a file.
_LAST_LAYER: Final = ("weights", "bias")
#: A calibration of confidences is fitted on no fewer labelled rows: as many as a learned supervisor needs.
MIN_CALIBRATION_ROWS: Final = MIN_ROWS


@dataclass(frozen=True, slots=True, eq=False)
class FittedQuantifier:
    """A fitted quantifier, on what it was fitted, and how good it is on rows that it was not fitted on."""

    quantifier: Quantifier
    level: LevelName
    rows: int  #: fitted on
    labels: Mapping[str, int]  #: label -> how many of these rows have it; the predictions where there are no labels
    fitting_rows: RowHashes
    held_out: int  #: rows not fitted on whose correctness is known
    auroc: Estimate  #: of its confidences on those
    auroc_before: Estimate  #: of the confidences that stand in the table, on the same rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to an `.npz` file: `quantifier = "that.npz"` in `cascade.toml`."""
        if not os.fspath(path).endswith(".npz"):
            raise InputError(f"a fitted quantifier is written to an .npz file, not to {os.fspath(path)}")
        save_quantifier(self.quantifier, path, fitting_rows=self.fitting_rows, level=self.level)


@dataclass(frozen=True, slots=True, eq=False)
class FittedCalibration:
    """A fitted calibration of confidences, and what it changes on rows that it was not fitted on."""

    calibration: IsotonicCalibration | BetaCalibration | VennAbers
    method: str
    level: LevelName
    rows: int  #: fitted on
    fitting_rows: RowHashes
    held_out: int  #: rows not fitted on whose correctness and confidence are known
    accuracy: float  #: share of correct predictions among those; NaN without any
    mean_confidence: float  #: calibrated, of the same rows: near `accuracy`
    brier: float  #: mean squared difference of calibrated confidence and correctness, in [0, 1]; lower is better
    brier_before: float  #: the same of the confidences as they were; NaN when they are no probabilities

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON: `confidence_calibration = "that.json"` in `cascade.toml`."""
        about = {"rows": self.rows, "held_out_rows": self.held_out}
        save_confidence_calibration(
            self.calibration, path, fitting_rows=self.fitting_rows, level=self.level, about=about
        )


def fit_quantifier(
    table: Table,
    kind: str,
    *,
    level: LevelName | str = LevelName.LOCAL,
    held_out: float = 0.3,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> FittedQuantifier:
    """Fit the quantifier of that name (`fitted_kinds`) on a part of the rows that one level answered.

    `settings` are those of the kind's `fit`, such as `{"k": 20}` for `knn`. Labels are the table's; where it has
    none, the predictions. `held_out` in [0, 1) is the share of rows left to judge by. Raises `EvidenceError` when the
    rows lack what it reads (`record --with features` writes it), `ConfigError` for an unknown name or setting.
    """
    kinds = fitted_kinds()
    if kind not in kinds:
        raise ConfigError(f"no quantifier called {kind!r} is fitted; there are: {', '.join(sorted(kinds))}")
    level = LevelName(level)
    answered, chosen = _split(table, level, held_out, seed)
    needs = kinds[kind].needs
    rows = table.level(level)
    if getattr(rows, needs.value) is None:
        raise TableError(
            f"{kind} reads {needs.value}, and the table has no {level}_{needs.value.rstrip('s')}_… columns: record "
            f"it with --with {needs.value}"
        )
    output = take_outputs(recorded_output(rows), chosen)
    labels = _labels(table, rows)[chosen]
    settings = settings or {}
    _check_settings(kind, kinds[kind], settings)
    try:
        quantifier: Quantifier = kinds[kind].fit(output, labels, **settings)
    except TypeError as error:
        raise ConfigError(f"{kind} cannot be fitted with {_shown(settings)}: {error}") from error
    judged = np.setdiff1d(answered, chosen)
    correct = table.correct(level)[judged]
    judged, correct = judged[~np.isnan(correct)], correct[~np.isnan(correct)]
    confidences = quantifier(take_outputs(recorded_output(rows), judged))
    return FittedQuantifier(
        quantifier=quantifier,
        level=level,
        rows=len(chosen),
        labels=_counted(labels),
        fitting_rows=hashes_of(table, level)[chosen],
        held_out=len(judged),
        auroc=auroc(confidences, correct) if len(judged) else NOT_KNOWN,
        auroc_before=auroc(rows.confidences[judged], correct) if len(judged) else NOT_KNOWN,
    )


def fit_confidence_calibration(
    table: Table,
    method: str = "isotonic",
    *,
    level: LevelName | str = LevelName.LOCAL,
    held_out: float = 0.3,
    seed: int = 0,
) -> FittedCalibration:
    """Fit a calibration of the confidences that stand in the table, on a part of the labelled rows.

    `method` is `isotonic`, `beta` or `venn_abers`; the second needs confidences in [0, 1]. Raises `EvidenceError`
    when fewer than `MIN_CALIBRATION_ROWS` of these rows have a confidence and known correctness, or when all of
    their predictions are right, or all wrong.
    """
    if method not in CONFIDENCE_CALIBRATIONS:
        raise ConfigError(f"confidences are calibrated by {', '.join(CONFIDENCE_CALIBRATIONS)}, not {method!r}")
    level = LevelName(level)
    answered, chosen = _split(table, level, held_out, seed)
    confidences, correct = table.level(level).confidences, table.correct(level)
    known = ~(np.isnan(confidences) | np.isnan(correct))
    chosen = chosen[known[chosen]]
    _check_calibration_rows(correct[chosen], level)
    calibration = CONFIDENCE_CALIBRATIONS[method].fit(confidences[chosen], correct[chosen])
    judged = np.setdiff1d(answered[known[answered]], chosen)
    calibrated, right, before = calibration(confidences[judged]), correct[judged], confidences[judged]
    probable = bool(((before >= 0.0) & (before <= 1.0)).all())
    return FittedCalibration(
        calibration=calibration,
        method=method,
        level=level,
        rows=len(chosen),
        fitting_rows=hashes_of(table, level)[chosen],
        held_out=len(judged),
        accuracy=_mean(right),
        mean_confidence=_mean(calibrated),
        brier=_mean((calibrated - right) ** 2),
        brier_before=_mean((before - right) ** 2) if probable else float("nan"),
    )


def with_confidence_calibration(table: Table, level: LevelName | str, calibration: ConfidenceCalibration) -> Table:
    """The table with one level's confidences calibrated; what has none stays without."""
    level = LevelName(level)
    rows = table.level(level)
    calibrated = replace(rows, confidences=calibration(rows.confidences))
    return replace(table, local=calibrated) if level is LevelName.LOCAL else replace(table, remote=calibrated)


# ---------------------------------------------------------------- rows that something was fitted on


def hashes_of(table: Table, level: LevelName | str) -> RowHashes:
    """(n,) what a row is found again by: its id and the level's prediction, which no other quantifier changes."""
    return row_hashes(table.ids.tolist(), table.level(level).predictions)


def fitting_rows_in(path: str | os.PathLike[str], level: LevelName | str | None = None) -> RowHashes:
    """The hashes of the rows that a fitted quantifier (npz) or confidence calibration (JSON) was fitted on.

    Which of the two it is, the file itself says, whatever it is called. Raises `InputError` for a file that is
    neither, and, where `level` is given, for one that was fitted on the other level's rows.
    """
    return read_fitting_rows(path, level) if is_npz(path) else calibration_fitting_rows(path, level)


def refuse_fitting_rows(table: Table, level: LevelName | str, path: str | os.PathLike[str]) -> None:
    """Raise `InputError` when some of the rows are those that what is in the file was fitted on.

    Also when it was fitted on the other level's rows.
    """
    found = overlap(hashes_of(table, level), fitting_rows_in(path, level))
    if found.any():
        raise InputError(
            f"{int(found.sum())} of {len(table)} rows are those that {os.fspath(path)} was fitted on: its "
            f"confidences of them are too good to choose or judge thresholds by. Take others (bisupervised.fitting."
            f"without_fitting_rows leaves them out)"
        )


def without_fitting_rows(table: Table, level: LevelName | str, path: str | os.PathLike[str]) -> Table:
    """The rows that what is in the file was not fitted on, with a note on how many were left out.

    Raises `InputError` when none is left, and when it was fitted on the other level's rows.
    """
    found = overlap(hashes_of(table, level), fitting_rows_in(path, level))
    if not found.any():
        return table
    if found.all():
        refuse_fitting_rows(table, level, path)
    note = f"{int(found.sum())} of {len(table)} rows are left out: {os.fspath(path)} was fitted on them"
    if table.ids.tolist() == [str(row) for row in range(len(table))]:
        note += " (or on others of the same number and prediction: give the rows an id column)"
    left = table.take(np.flatnonzero(~found))
    return replace(left, notes=[*table.notes, note])


# ---------------------------------------------------------------- parts


def _split(table: Table, level: LevelName, held_out: float, seed: int) -> tuple[AnyArray, AnyArray]:
    """The rows that the level answered, and those of them that are fitted on."""
    answered = np.flatnonzero(_answered(table.level(level)))
    if not len(answered):
        raise TableError(f"the {level} model answered none of the {len(table)} rows: there is nothing to fit on")
    return answered, answered[split_rows(len(answered), held_out, seed).calibration]


def _answered(rows: LevelRows) -> BoolArray:
    return rows.asked & np.array([error is None for error in rows.errors], dtype=np.bool_)


def _check_settings(name: str, kind: Any, settings: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a setting that the kind's `fit` does not take, or one that it cannot do without."""
    takes = {one.name: one for one in inspect.signature(kind.fit).parameters.values() if one.kind is one.KEYWORD_ONLY}
    named = ", ".join(f"{one} (--last-layer FILE)" if one in _LAST_LAYER else one for one in takes) or "none"
    unknown = sorted(set(settings) - set(takes))
    if unknown:
        raise ConfigError(f"{name} has no setting {', '.join(unknown)}; its settings: {named}")
    missing = [one for one in takes if takes[one].default is inspect.Parameter.empty and one not in settings]
    if missing:
        raise ConfigError(f"{name} cannot be fitted without {', '.join(missing)}; its settings: {named}")
    for one, value in settings.items():
        if takes[one].annotation in ("int", "int | None") and isinstance(value, float):
            raise ConfigError(f"{one} of {name} is a whole number, not {value}")


def _shown(settings: Mapping[str, Any]) -> str:
    plain = (f"{name} = {value}" for name, value in settings.items() if name not in _LAST_LAYER)
    return ", ".join(plain) or "these settings"


def _labels(table: Table, rows: LevelRows) -> AnyArray:
    """(n,) objects: the labels as they are written, None where not known; the predictions when none is."""
    given = rows.predictions if table.labels is None else table.labels
    if table.labels is not None and all(map(is_missing, table.labels)):
        given = rows.predictions
    labels = np.empty(len(table), dtype=object)
    labels[:] = [None if is_missing(label) else written(label) for label in given.tolist()]
    return labels


def _counted(labels: AnyArray) -> dict[str, int]:
    names, counts = np.unique([label for label in labels if label is not None], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _check_calibration_rows(correct: FloatArray, level: LevelName) -> None:
    """Raise `EvidenceError` where nothing can be learned of how often confidences are right."""
    if len(correct) < MIN_CALIBRATION_ROWS:
        raise EvidenceError(
            f"a calibration of confidences needs at least {MIN_CALIBRATION_ROWS} rows to fit on, each with a "
            f"{level} confidence and a label, and there are {len(correct)}: label more, or hold out a smaller share"
        )
    if (correct == correct[0]).all():
        raise EvidenceError(
            f"all {len(correct)} {level} predictions to fit on have the correctness {correct[0]:g}: there is nothing "
            f"to learn from. Use rows with right and wrong predictions"
        )


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
