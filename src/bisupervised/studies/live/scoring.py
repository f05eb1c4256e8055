"""From evidence to numbers: every quantifier's confidence in every prediction, and nothing else of the inputs.

The table that comes out holds no text, image, probability or feature: ids, labels, predictions (of classifiers), what
was right, seconds, tokens, and a column `<level>_score_<quantifier>` for each quantifier that the evidence allows. It
is what the analysis reads, and what is kept in the project for whoever wants to replay the curves without the models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import BiSupervisedError, MissingExtra
from bisupervised.evaluation.candidates import Candidate, Source, candidates_of, checked, cross_fitted
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName, LevelRows
from bisupervised.sources import read_table
from bisupervised.studies.live.parts import CALIBRATION, FOLDS, folds_of, parts_of
from bisupervised.studies.live.study import LiveStudy
from bisupervised.table import Table

#: The table's own confidence is one of the candidates already.
_OWN = "given_confidence"


def scored(table: Table, study: LiveStudy, *, on_done: Callable[[int], None] = lambda _: None) -> Table:
    """The numbers of a recorded study.

    Fitted quantifiers are fitted on the calibration part, whose own scores are cross-fitted; in cross-fitted sets on
    the other folds. `on_done(1)` is told of every quantifier.
    """
    key = table.extra.get(study.cluster) if study.cluster else None
    keys = table.ids.tolist() if key is None else [f"{study.cluster}-{value}" for value in key.tolist()]
    parts = folds_of(study.name, keys) if study.cross_fitted else parts_of(study.name, keys)
    extra = dict(table.extra)
    for level in LevelName:
        for name, scores in _level_scores(table, level, parts, on_done).items():
            extra.setdefault(f"{level}_score_{name}", scores)
    known = {name: column for name, column in extra.items() if "_score_" not in name or not _constant(column)}
    known["fold" if study.cross_fitted else "part"] = parts
    table = replace(table, extra=known, local=_bare(table.local), remote=_bare(table.remote))
    return _without_answers(table) if study.grade is not None else table


def _constant(column: AnyArray) -> bool:
    """Whether a score tells no input from another."""
    finite = column[~np.isnan(np.asarray(column, dtype=np.float64))]
    return len(finite) == 0 or bool((finite == finite[0]).all())


def _level_scores(
    table: Table, level: LevelName, parts: AnyArray, on_done: Callable[[int], None]
) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    for candidate in candidates_of(table.level(level), table.labels):
        if candidate.source is Source.RECORDED or candidate.name == _OWN:
            continue
        try:
            with np.errstate(all="ignore"):
                scores = _scores(candidate, parts)
        except (BiSupervisedError, np.linalg.LinAlgError, ValueError):
            continue  # it cannot be fitted on these rows: one of a class, say
        finally:
            on_done(1)
        found[candidate.name] = scores.astype(np.float32).astype(np.float64)
    return found


def _scores(candidate: Candidate, parts: AnyArray) -> FloatArray:
    n = len(parts)
    every = np.arange(n)
    if not candidate.fitted:
        return checked(candidate.score(every, every), n)
    scores = np.full(n, np.nan)
    if parts.dtype.kind == "i":
        for fold in range(FOLDS):
            held = np.flatnonzero(parts == fold)
            rest = np.random.default_rng(fold).permutation(np.flatnonzero(parts != fold))
            scores[held] = _ranked(checked(candidate.score(rest, held), len(held)))
        return scores
    choosing, reporting = np.flatnonzero(parts == CALIBRATION), np.flatnonzero(parts != CALIBRATION)
    scores[choosing] = cross_fitted(candidate, choosing, FOLDS, seed=0)
    shuffled = np.random.default_rng(0).permutation(choosing)
    # Ranks, as the cross-fitted ones are: thresholds chosen on those are to mean the same here.
    scores[reporting] = _ranked(checked(candidate.score(shuffled, reporting), len(reporting)))
    return scores


def _ranked(scores: FloatArray) -> FloatArray:
    """(n,) mid-ranks in (0, 1); NaN stays."""
    known = ~np.isnan(scores)
    ranks = np.full(len(scores), np.nan)
    values, place, counts = np.unique(scores[known], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[known] = ((ends - counts + ends) / 2.0)[place] / max(known.sum(), 1)
    del values
    return ranks


def _bare(rows: LevelRows) -> LevelRows:
    return replace(
        rows,
        confidences=rows.confidences.astype(np.float32).astype(np.float64),
        probabilities=None,
        classes=None,
        logits=None,
        features=None,
        token_logprobs=None,
    )


def _without_answers(table: Table) -> Table:
    """What was answered is text, and stays behind; whether both answered alike does not."""
    agree = _equal(table.local.predictions, table.remote.predictions).astype(np.float64)
    graded = {f"{level}_correct": table.correct(level) for level in LevelName}
    nothing = np.full(len(table), None, dtype=object)
    return replace(
        table,
        **graded,
        local=replace(table.local, predictions=nothing),
        remote=replace(table.remote, predictions=nothing),
        extra={**table.extra, "agree": agree},
    )


def _equal(one: AnyArray, other: AnyArray) -> BoolArray:
    return np.array([a is not None and a == b for a, b in zip(one, other, strict=True)], dtype=np.bool_)


# ---------------------------------------------------------------- files


def write_numbers(table: Table, path: Path) -> None:
    """As Parquet, columns in 32-bit floats, compressed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet") from error
    columns: dict[str, Any] = {}
    for name, column in table.to_columns().items():
        if column.dtype.kind == "f":
            columns[name] = pyarrow.array(column.astype(np.float32), from_pandas=True)
        elif column.dtype.kind == "O":
            columns[name] = pyarrow.array([None if cell is None else str(cell) for cell in column])
        else:
            columns[name] = pyarrow.array(column)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(
        pyarrow.table(columns),
        str(path),
        compression="zstd",
        compression_level=19,
        use_byte_stream_split=_floats(columns),
    )


def _floats(columns: dict[str, Any]) -> list[str]:
    return [name for name, column in columns.items() if str(column.type) == "float"]


def read_numbers(path: Path) -> Table:
    """What `write_numbers` wrote."""
    return read_table(path)
