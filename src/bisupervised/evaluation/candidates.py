"""Which supervisors a recorded table allows: every quantifier whose evidence is there, and a user's own scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np

from bisupervised.errors import InputError
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.quantifiers import (
    CostClass,
    GivenConfidence,
    Quantifier,
    cost_class_of,
    fitted_kinds,
    quantifier_by_name,
    quantifier_names,
)
from bisupervised.records import AnyArray, BoolArray, Evidence, FloatArray, IntArray, LevelRows, ModelOutput
from bisupervised.table import Table, is_missing

#: The confidence that the table holds, where no quantifier gives the same.
RECORDED: Final = GivenConfidence.name
BASELINE: Final = "max_softmax"
#: Of the quantiles of token log-probabilities, those that are tried.
_QUANTILES: Final = ("token_likelihood_q0.1", "token_likelihood_q0.5")
#: A quantifier of cost class C2 compares with every row it was fitted on: with at most so many.
MAX_COMPARED_ROWS: Final = 5_000
#: Rows scored at a time: 1,000 classes of them stay near the processor, and no second copy of a table is made.
_BLOCK: Final = 1_024

#: Scores of the rows `score`, from a supervisor that may be fitted on the rows `fit` and no others.
Score: TypeAlias = Callable[[IntArray, IntArray], FloatArray]
#: The same of a whole table: `(table, rows_fit, rows_score) -> scores`.
TableScore: TypeAlias = Callable[[Table, IntArray, IntArray], FloatArray]


class Source(StrEnum):
    """Where a candidate's scores come from."""

    RECORDED = "recorded"  #: the table's own confidence
    QUANTIFIER = "quantifier"  #: made without fitting
    FITTED = "fitted"  #: a quantifier that is fitted, here on the other folds
    COLUMN = "column"  #: a score column of the user's
    LEARNED = "learned"  #: a learned supervisor, here fitted on the other folds


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A supervisor to compare, by its name in configuration files and options."""

    name: str
    source: Source
    cost_class: CostClass | None  #: None: not known, as a user's own score's
    score: Score

    @property
    def fitted(self) -> bool:
        """Whether its scores depend on the rows it is fitted on."""
        return self.source in (Source.FITTED, Source.LEARNED)


def candidates_of(rows: LevelRows, labels: AnyArray | None = None) -> list[Candidate]:
    """Every quantifier that the level's columns allow: the recorded confidence, those made without settings, those
    that are fitted.

    The registry says what each `needs`, the columns what there is; a new column of evidence brings its quantifiers
    along. One that asks for more than the table has, such as a last layer's weights, is not among them. `labels`
    are the table's, (n,); without them fitted quantifiers learn from the predictions.
    """
    readable = _readable(rows)
    found = [
        Candidate(one.name, Source.QUANTIFIER, cost_class_of(one), partial(_scores, one, rows, readable))
        for one in unfitted_quantifiers()
        if _provides(rows, one.needs)
    ]
    found.insert(0, Candidate(RECORDED, Source.RECORDED, CostClass.C0, lambda _, score: rows.confidences[score]))
    for name, kind in fitted_kinds().items():
        if _provides(rows, kind.needs) and not _asks_for_more(kind):
            score = partial(_fitted_scores, kind, rows, readable, labels)
            found.append(Candidate(name, Source.FITTED, kind.cost_class, score))
    return found


def score_columns(table: Table, level: str, scores: Mapping[str, Any] | None = None) -> list[Candidate]:
    """The user's own scores of a level: columns `<level>_score_<name>` of the table, and those of a mapping.

    Named `score_<name>`; of (n,) numbers each, higher for more trusted, NaN without evidence. Raises `InputError`.
    """
    prefix = f"{level}_score_"
    given = {name.removeprefix(prefix): column for name, column in table.extra.items() if name.startswith(prefix)}
    found = []
    for name, column in {**given, **(scores or {})}.items():
        numbers = _numbers(name, column, len(table))
        found.append(Candidate(f"score_{name}", Source.COLUMN, None, partial(_taken, numbers)))
    return found


def learned_candidates(table: Table, learned: Mapping[str, TableScore]) -> list[Candidate]:
    """Learned supervisors by name, each a function `(table, rows_fit, rows_score) -> scores`."""
    return [Candidate(name, Source.LEARNED, CostClass.C1, partial(one, table)) for name, one in learned.items()]


def _taken(numbers: FloatArray, _: IntArray, score: IntArray) -> FloatArray:
    return numbers[score]


def _numbers(name: str, column: Any, n: int) -> FloatArray:
    cells = list(column)
    if len(cells) != n:
        raise InputError(f"the score {name} has {len(cells)} values for {n} rows; give one for each row")
    numbers = np.full(n, np.nan)
    for row, cell in enumerate(cells):
        try:
            numbers[row] = np.nan if is_missing(cell) else float(cell)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the score {name}, row {row + 1}: {cell!r} is not a number; leave the cell empty where there is none"
            ) from error
    return numbers


# ---------------------------------------------------------------- what the table's columns provide

_COLUMN_OF: Final[Mapping[Evidence, str]] = {Evidence.CONFIDENCE: "confidences", Evidence.TEXT: "texts"}
_NO_EVIDENCE: Final = ("predictions", "latency_s", "cost", "failures")
_EVIDENCE_COLUMNS: Final = tuple(one.name for one in fields(ModelOutput) if one.name not in _NO_EVIDENCE)


def _provides(rows: LevelRows, needs: Evidence | None) -> bool:
    return needs is not None and getattr(rows, _COLUMN_OF.get(needs, needs.value), None) is not None


def unfitted_quantifiers() -> Sequence[Quantifier]:
    """Every quantifier that is tried without settings: those of the registry, and some quantiles of the tokens."""
    names = [name for name in quantifier_names() if "<" not in name and name not in (RECORDED, "reconstruction")]
    return [quantifier_by_name(name) for name in (*names, *_QUANTILES)]


def _asks_for_more(kind: type[Any]) -> bool:
    parameters = list(inspect.signature(kind.fit).parameters.values())[1:]
    return any(one.name != "labels" and one.default is inspect.Parameter.empty for one in parameters)


def _readable(rows: LevelRows) -> BoolArray:
    """(n,) where there is evidence to read: the model was asked and did not fail."""
    return rows.asked & np.fromiter((error is None for error in rows.errors), np.bool_, len(rows))


def _output_of(rows: LevelRows, picks: IntArray) -> ModelOutput:
    """Those rows as the model output that they were."""
    columns: dict[str, Any] = {}
    for name in _EVIDENCE_COLUMNS:
        column = getattr(rows, name, None)
        columns[name] = column if column is None or name == "classes" else column[picks]
    return ModelOutput(rows.predictions[picks], **columns)


# ---------------------------------------------------------------- scores


def _scores(
    quantifier: Quantifier,
    rows: LevelRows,
    readable: BoolArray,
    _: IntArray,
    score: IntArray,
) -> FloatArray:
    scores = np.full(len(score), np.nan)
    for start in range(0, len(score), _BLOCK):
        part = score[start : start + _BLOCK]
        use = readable[part]
        scores[start : start + _BLOCK][use] = quantifier(_output_of(rows, part[use]))
    return scores


def _fitted_scores(
    kind: type[Any], rows: LevelRows, readable: BoolArray, labels: AnyArray | None, fit: IntArray, score: IntArray
) -> FloatArray:
    fit = fit[readable[fit]]
    if kind.cost_class == CostClass.C2 and len(fit) > MAX_COMPARED_ROWS:
        fit = fit[:MAX_COMPARED_ROWS]  # a fold comes in random order
    output = _output_of(rows, fit)
    if labels is None and inspect.signature(kind.fit).parameters["labels"].default is inspect.Parameter.empty:
        raise InputError("it is fitted on labels, and the table has none")
    quantifier = kind.fit(output, labels if labels is None else labels[fit])
    return _scores(quantifier, rows, readable, fit, score)


def cross_fitted(
    candidate: Candidate, rows: IntArray, folds: int, seed: int, on_done: Callable[[int], None] | None = None
) -> FloatArray:
    """(n,) scores of the n given rows, each fold's from a fit on the others: none is scored by what has seen it.

    Seeded folds of (nearly) equal size. A fitted quantifier's confidences are taken as ranks within their fold, in
    (0, 1): what two fits give has no common scale (p-norms of two orders, distances in two metrics), and each fold is
    a random part of the rows. A learned supervisor's are probabilities, and stay as they are. Raises what the fit
    raises, and `InputError` for scores of another length or for fewer rows than folds.
    """
    n = len(rows)
    if n < folds or folds < 2:
        raise InputError(f"{n} labelled rows cannot be cut into {folds} folds to fit and score on")
    order = np.random.default_rng(seed).permutation(n)
    scores = np.full(n, np.nan)
    for fold in range(folds):
        held_out = np.sort(order[fold::folds])
        inside = order[np.arange(n) % folds != fold]
        found = checked(candidate.score(rows[inside], rows[held_out]), len(held_out))
        scores[held_out] = _ranks(found) if candidate.source is Source.FITTED else found
        if on_done is not None:
            on_done(len(held_out))
    return scores


def _ranks(scores: FloatArray) -> FloatArray:
    """(n,) mid-ranks in (0, 1), NaN where there is no score."""
    ranks = (DeferralOrder.of(scores).mid_ranks() - 0.5) / len(scores)
    return np.where(np.isnan(scores), np.nan, ranks)


def checked(scores: Any, n: int) -> FloatArray:
    """The scores as (n,) float64, or `InputError`."""
    try:
        numbers = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scores must be numbers: {error}") from error
    if numbers.shape != (n,):
        raise InputError(f"there must be one score for each of {n} rows, not an array of the shape {numbers.shape}")
    return numbers
