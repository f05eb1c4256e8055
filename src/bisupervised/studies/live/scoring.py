"""From evidence to numbers: every quantifier's confidence in every prediction, and nothing else of the inputs.

The table that comes out holds no text, image, probability or feature: ids, labels, predictions (of classifiers), what
was right, seconds, tokens, and a column `<level>_score_<quantifier>` for each quantifier that the evidence allows. It
is what the analysis reads, and what is kept in the project for whoever wants to replay the curves without the models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np

from bisupervised.errors import BiSupervisedError, InputError
from bisupervised.evaluation.candidates import Candidate, Source, candidates_of, checked
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray, LevelName, LevelRows
from bisupervised.studies.live.parts import CALIBRATION, FOLDS, folds_of, parts_of
from bisupervised.studies.live.study import LiveStudy
from bisupervised.table import Table

#: The table's own confidence is one of the candidates already.
_OWN = "given_confidence"
#: Infinite scores are placed as these are.
_LARGEST = 1e30


def scored(table: Table, study: LiveStudy, *, on_done: Callable[[int], None] = lambda _: None) -> Table:
    """The numbers of a recorded study.

    Fitted quantifiers are fitted on the calibration part alone, whose own scores are cross-fitted; in cross-fitted
    sets on the other folds. Confidences and scores are rounded to 32-bit floats, as a file keeps them. `on_done(1)`
    is told of every quantifier.
    """
    key = table.extra.get(study.cluster) if study.cluster else None
    keys = table.ids.tolist() if key is None else [f"{study.cluster}-{value}" for value in key.tolist()]
    folds = folds_of(study.name, keys)
    parts = folds if study.cross_fitted else parts_of(study.name, keys)
    extra = dict(table.extra)
    for level in LevelName:
        for name, scores in _level_scores(table, level, parts, folds, on_done).items():
            extra.setdefault(f"{level}_score_{name}", scores)
    for name, column in extra.items():
        if "_score_" in name:
            extra[name] = _as_kept(column)
    known = {name: column for name, column in extra.items() if "_score_" not in name or not _constant(column)}
    known["fold" if study.cross_fitted else "part"] = parts
    table = replace(table, extra=known, local=_bare(table.local), remote=_bare(table.remote))
    return _without_answers(table) if study.grade is not None else table


def _as_kept(column: AnyArray) -> FloatArray:
    """As 32-bit floats hold it: a table that was read shows the figures of the one that was written."""
    kept = np.asarray(column, dtype=np.float64).astype(np.float32)
    finite: FloatArray = kept.astype(np.float64)
    return finite


def _constant(column: AnyArray) -> bool:
    """Whether a score tells no input from another."""
    finite = column[~np.isnan(np.asarray(column, dtype=np.float64))]
    return len(finite) == 0 or bool((finite == finite[0]).all())


def quantifiers_in(table: Table) -> int:
    """How many quantifiers `scored` will read, over both levels."""
    return sum(len(_candidates(table, level)) for level in LevelName)


def _candidates(table: Table, level: LevelName) -> list[Candidate]:
    found = candidates_of(table.level(level), table.labels)
    return [one for one in found if one.source is not Source.RECORDED and one.name != _OWN]


def _level_scores(
    table: Table, level: LevelName, parts: AnyArray, folds: IntArray, on_done: Callable[[int], None]
) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    for candidate in _candidates(table, level):
        try:
            with np.errstate(all="ignore"):
                scores = _scores(candidate, parts, folds)
        except (BiSupervisedError, np.linalg.LinAlgError, ValueError):
            continue  # it cannot be fitted on these rows: one of a class, say
        finally:
            on_done(1)
        found[candidate.name] = scores
    return found


def _scores(candidate: Candidate, parts: AnyArray, folds: IntArray) -> FloatArray:
    """(n,) scores; of a fitted quantifier those of fits on other rows, as places among yet other rows, in (0, 1).

    What two fits give has no common scale (p-norms of two orders, distances in two metrics), and a threshold must
    mean the same for all rows. So a fit's scores are read as places among those that the same fit gives to rows that
    it has not seen, and that choose: a row is never placed among those it is judged with, as no running system could.
    With two halves, the five fits are each on four fifths of the choosing rows and placed by the fifth; a choosing
    row has its rank in its own fifth. With five folds, a row's four fits are each on three other folds and placed by
    the fourth.
    """
    n = len(parts)
    every = np.arange(n)
    if not candidate.fitted:
        return checked(candidate.score(every, every), n)
    choosing = np.ones(n, dtype=np.bool_) if parts.dtype.kind == "i" else parts == CALIBRATION
    if len(np.unique(folds[choosing])) < FOLDS:
        raise InputError(f"{int(choosing.sum())} rows are too few for {FOLDS} folds to fit and score on")
    scores, fits = np.zeros(n), np.zeros(n)

    def fitted_scores(inside: BoolArray, *of: IntArray) -> list[FloatArray]:
        # In random order: some quantifiers take the first so many rows to compare with.
        rows = np.random.default_rng(0).permutation(np.flatnonzero(inside))
        found = checked(candidate.score(rows, np.concatenate(of)), sum(map(len, of)))
        return np.split(found, np.cumsum([len(one) for one in of])[:-1])

    def add(rows: IntArray, places: FloatArray) -> None:
        known = ~np.isnan(places)  # where a fit has seen the predicted class, say
        scores[rows] += np.where(known, places, 0.0)
        fits[rows] += known

    if parts.dtype.kind == "i":
        for one, other in combinations(range(FOLDS), 2):
            rows, others = np.flatnonzero(folds == one), np.flatnonzero(folds == other)
            of_rows, of_others = fitted_scores((folds != one) & (folds != other), rows, others)
            add(rows, placed(of_rows, of_others))
            add(others, placed(of_others, of_rows))
    else:
        reporting = np.flatnonzero(~choosing)
        for fold in range(FOLDS):
            held = np.flatnonzero(choosing & (folds == fold))
            of_held, of_reporting = fitted_scores(choosing & (folds != fold), held, reporting)
            add(held, placed(of_held, of_held))
            add(reporting, placed(of_reporting, of_held))
    means: FloatArray = np.divide(scores, fits, out=np.full(n, np.nan), where=fits > 0.0)
    return means


def placed(scores: FloatArray, among: FloatArray) -> FloatArray:
    """(n,) places in (0, 1) of scores among m others: mid-ranks, between two of them in proportion; NaN stays.

    Beyond the lowest and the highest of them the places go on towards 0 and 1, so that no order is lost.

    >>> placed(np.array([1.0, 2.0, 3.0, 4.0, np.nan]), among=np.array([2.0, 2.0, 4.0, 4.0])).round(3)
    array([0.167, 0.25 , 0.5  , 0.75 , nan])
    """
    known = _finite(among[~np.isnan(among)])
    if len(known) == 0:
        return np.full(len(scores), np.nan)
    values, counts = np.unique(known, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2.0) / len(known)
    x = _finite(scores)
    width = float(values[-1] - values[0]) or 1.0
    places: FloatArray = np.interp(x, values, ranks)
    below, above = np.maximum(values[0] - x, 0.0) / width, np.maximum(x - values[-1], 0.0) / width
    places = np.where(below > 0.0, ranks[0] / (1.0 + below), places)
    places = np.where(above > 0.0, 1.0 - (1.0 - ranks[-1]) / (1.0 + above), places)
    return np.where(np.isnan(scores), np.nan, places)


def _finite(scores: FloatArray) -> FloatArray:
    return np.clip(scores, -_LARGEST, _LARGEST)


def _bare(rows: LevelRows) -> LevelRows:
    return replace(
        rows,
        confidences=_as_kept(rows.confidences),
        probabilities=None,
        classes=None,
        logits=None,
        features=None,
        token_logprobs=None,
    )


def _without_answers(table: Table) -> Table:
    """What was answered is text, and stays behind; whether both answered alike does not."""
    agree = _equal(table.local.predictions, table.remote.predictions).astype(np.float64)
    graded = {level: table.correct(level) for level in LevelName}
    nothing = np.full(len(table), None, dtype=object)
    return replace(
        table,
        local_correct=graded[LevelName.LOCAL],
        remote_correct=graded[LevelName.REMOTE],
        local=replace(table.local, predictions=nothing),
        remote=replace(table.remote, predictions=nothing),
        extra={**table.extra, "agree": agree},
    )


def _equal(one: AnyArray, other: AnyArray) -> BoolArray:
    return np.array([a is not None and a == b for a, b in zip(one, other, strict=True)], dtype=np.bool_)
