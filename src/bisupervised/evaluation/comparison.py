"""Which supervisor to use at each level: every candidate on the same labelled rows, against one baseline.

A supervisor of the 1st level is judged by what deferring in its order gains over random deferral, since that is what
it is for; one of the 2nd level by its AUROC on the deferred inputs, since it never sees another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bisupervised.errors import BiSupervisedError, InputError
from bisupervised.evaluation.auc_rac import auc_rac, correctness_gain
from bisupervised.evaluation.auroc import auroc
from bisupervised.evaluation.candidates import (
    BASELINE,
    RECORDED,
    Candidate,
    Source,
    TableScore,
    candidates_of,
    checked,
    cross_fitted,
    learned_candidates,
    score_columns,
)
from bisupervised.evaluation.compared import CandidateFigures, Comparison, Criterion, LevelComparison
from bisupervised.evaluation.comparison_cautions import warnings_of
from bisupervised.evaluation.deferral import Deferral, deferral_of
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.evaluation import as_flags, graded_table
from bisupervised.evaluation.influence import (
    Difference,
    Influence,
    adjusted_p_values,
    auroc_influence,
    deferral_influences,
    difference,
)
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate
from bisupervised.evaluation.objectives import Objective, Scored
from bisupervised.evaluation.recommendation import recommend
from bisupervised.evaluation.risk_coverage import risk_coverage
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray, LevelName
from bisupervised.table import Table

#: `progress(total, what)` gives a context in which `on_done(k)` is told of k more rows scored.
Progress = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]


def compare_supervisors(
    table: Table,
    *,
    objective: Objective | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    learned: Mapping[str, Mapping[str, TableScore]] | None = None,
    only: Sequence[str] | None = None,
    request_rate: float | None = None,
    local_threshold: float | None = None,
    deferral: Deferral | None = None,
    alpha: float = 0.05,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Every supervisor that the table allows, at both levels, and which to use. See `candidates_of`.

    `scores` are the user's own by level and name, (n,) each, beside the table's columns `<level>_score_<name>`;
    `learned` are functions `(table, rows_fit, rows_score) -> scores` by level and name. `only` names those to compare
    with the baseline, where not all are wanted: fewer take less time, and fewer labels. What is fitted is fitted on
    `folds` - 1 of the seeded folds of the labelled rows and scores the other one. The inputs that the 2nd level sees
    are those that the table's local confidence defers at a `request_rate` (at most; default 0.5) or at a
    `local_threshold`, those of a given `deferral`, or, of a log, those that were deferred.

    The baseline is max softmax, or without class probabilities the recorded confidence. Another one is recommended
    only where its gain over the baseline, paired, is significant at `alpha` among all candidates of the level.
    Raises `InputError`, also when no row has a label.
    """
    if isinstance(objective, Scored):
        raise InputError(
            f"{objective.name} has no value for one input; supervisors are compared by a graded objective"
        )
    if folds < 2:
        raise InputError(f"cross-fitting takes at least 2 folds, not {folds}")
    if not 0.0 < alpha < 1.0:
        raise InputError(f"alpha is a share between 0 and 1, as in 0.05, not {alpha}")
    _check_levels({"scores": scores, "learned": learned})
    table = graded_table(table, objective)
    if deferral is None:
        deferral = deferral_of(table, request_rate, local_threshold)
    candidates = {level: _candidates(table, level, scores or {}, learned or {}) for level in LevelName}
    _check_names(only, candidates)
    notes = [*table.notes]
    plans = []
    for level in LevelName:
        rows = np.flatnonzero(table.level(level).asked & ~np.isnan(table.correct(level)))
        if len(rows) == 0:
            notes.append(f"no {level} prediction has a label: its supervisors cannot be compared")
            continue
        first, *others = candidates[level]
        plans.append(_Plan(table, level, rows, [first, *(one for one in others if only is None or one.name in only)]))
    if not plans:
        raise InputError("no row has a label, and supervisors are compared by what was right; add the column label")
    total = sum(len(plan.rows) * len(plan.candidates) for plan in plans)
    with nullcontext(_ignore) if progress is None else progress(total, "scores") as on_done:
        scored = [_score(plan, folds, seed, on_done) for plan in plans]
    if any(one.fitted for plan in plans for one in plan.candidates):
        notes.append(
            f"fitted supervisors were fitted on {folds - 1} of {folds} folds of these rows and scored the other one "
            f"(seed {seed})"
        )
    levels = {
        plan.level: _compare_level(plan, kept, left_out, deferral.rows, alpha, seed)
        for plan, (kept, left_out) in zip(plans, scored, strict=True)
    }
    unasked = int((deferral.rows & ~table.remote.asked).sum())
    if unasked and LevelName.REMOTE in levels:
        notes.append(
            f"the remote model was never asked about {unasked} of the {int(deferral.rows.sum())} deferred inputs: "
            f"the 2nd level is judged on the others, which may be unlike them"
        )
    notes += [note for one in levels.values() if (note := _criterion_note(one))]
    share = float(np.mean(deferral.rows))
    return Comparison(len(table), levels, share, deferral.how, alpha, folds, seed, notes)


def _ignore(_: int) -> None:
    pass


def _check_levels(given: Mapping[str, Mapping[str, Any] | None]) -> None:
    for what, by_level in given.items():
        unknown = [str(key) for key in by_level or {} if key not in tuple(LevelName)]
        if unknown:
            raise InputError(f"{what} are given by level, local or remote, not {', '.join(unknown)}")


def _check_names(only: Sequence[str] | None, candidates: Mapping[LevelName, list[Candidate]]) -> None:
    names = list(dict.fromkeys(one.name for level in candidates.values() for one in level))
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise InputError(f"the rows allow no supervisor {', '.join(unknown)}; they allow: {', '.join(names)}")


# ---------------------------------------------------------------- candidates and their scores


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    table: Table
    level: LevelName
    rows: IntArray  #: the labelled ones for which the model was asked
    candidates: list[Candidate]


def _candidates(
    table: Table,
    level: LevelName,
    scores: Mapping[str, Mapping[str, Any]],
    learned: Mapping[str, Mapping[str, TableScore]],
) -> list[Candidate]:
    found = candidates_of(table.level(level), table.labels)
    found += score_columns(table, level, scores.get(level))
    found += learned_candidates(table, learned.get(level, {}))
    names = [one.name for one in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"two {level} candidates are called {', '.join(repeated)}; give yours another name")
    baseline = BASELINE if BASELINE in names else RECORDED
    return sorted(found, key=lambda one: one.name != baseline)


def _score(
    plan: _Plan, folds: int, seed: int, on_done: Callable[[int], None]
) -> tuple[dict[Candidate, FloatArray], dict[str, str]]:
    """The scores of each candidate, and why the others have none."""
    kept: dict[Candidate, FloatArray] = {}
    left_out = {}
    for one in plan.candidates:
        try:
            if one.fitted:
                kept[one] = cross_fitted(one, plan.rows, folds, seed, on_done)
            else:
                kept[one] = checked(one.score(plan.rows, plan.rows), len(plan.rows))
                on_done(len(plan.rows))
        except (BiSupervisedError, np.linalg.LinAlgError) as error:
            left_out[one.name] = str(error)
    return _without_copies(kept), left_out


def _without_copies(scores: dict[Candidate, FloatArray]) -> dict[Candidate, FloatArray]:
    """Without the recorded confidence where a quantifier gives the very same: the table read it with that one."""
    recorded = next((one for one in scores if one.source is Source.RECORDED), None)
    if recorded is not None and any(
        one.source is Source.QUANTIFIER and np.array_equal(values, scores[recorded], equal_nan=True)
        for one, values in scores.items()
    ):
        copy = scores.pop(recorded)
        first = next(iter(scores))
        if first.name != BASELINE:  # the copied one stands for it, as the baseline
            same = next(one for one, values in scores.items() if np.array_equal(values, copy, equal_nan=True))
            return {same: scores[same], **scores}
    return scores


# ---------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What all candidates of a level are judged on."""

    criterion: Criterion
    right: AnyArray  #: (n,)
    gain: AnyArray | None  #: (n,) remote minus local correctness
    remote_right: AnyArray | None
    deferred: BoolArray | None  #: (n,) for the 2nd level
    failed: BoolArray


def _compare_level(
    plan: _Plan,
    scores: dict[Candidate, FloatArray],
    left_out: dict[str, str],
    deferred: BoolArray,
    alpha: float,
    seed: int,
) -> LevelComparison:
    judged = _judged_on(plan, deferred)
    orders = {one: DeferralOrder.of(values) for one, values in scores.items()}
    distinct, also = _distinct_orders(orders)
    influences = {one: _influences(orders[one], scores[one], judged) for one in distinct}
    baseline, challengers = distinct[0], distinct[1:]
    versus = {one: difference(influences[one].criterion, influences[baseline].criterion) for one in distinct}
    adjusted = adjusted_p_values(
        [influences[one].criterion for one in challengers],
        influences[baseline].criterion,
        [versus[one] for one in challengers],
        seed,
    )
    p_adjusted = {baseline: 1.0, **dict(zip(challengers, adjusted, strict=True))}
    figures = [
        _figures(one, also[one], orders[one], judged, influences, baseline, versus[one], p_adjusted[one])
        for one in distinct
    ]
    ranked = sorted(figures, key=_by_criterion, reverse=True)
    n_criterion, n_minor = _sizes(judged)
    level = LevelComparison(
        level=plan.level,
        n=len(plan.rows),
        accuracy=float(np.mean(judged.right)),
        criterion=judged.criterion,
        n_criterion=n_criterion,
        n_minor=n_minor,
        baseline=baseline.name,
        candidates=ranked,
        recommendation=recommend(
            ranked,
            baseline.name,
            {one.name: influences[one].criterion for one in distinct},
            chance=judged.criterion.chance,
            n_minor=n_minor,
            n=n_criterion,
            alpha=alpha,
        ),
        left_out=left_out,
        warnings=(),
    )
    return replace(level, warnings=warnings_of(level))


def _by_criterion(one: CandidateFigures) -> float:
    return -math.inf if math.isnan(one.criterion.value) else one.criterion.value


def _judged_on(plan: _Plan, deferred: BoolArray) -> _Judged:
    table, rows, level = plan.table, plan.rows, plan.level
    right = as_flags(table.correct(level)[rows])
    failed = np.fromiter((error is not None for error in table.level(level).errors[rows]), np.bool_, len(rows))
    if level is LevelName.REMOTE:
        seen = deferred[rows]
        criterion = Criterion.AUROC_DEFERRED if seen.any() else Criterion.AUROC
        return _Judged(criterion, right, None, None, seen if seen.any() else None, failed)
    if not table.complete[rows].all():
        return _Judged(Criterion.AUROC, right, None, None, None, failed)
    remote_right = as_flags(table.correct(LevelName.REMOTE)[rows])
    return _Judged(Criterion.GAIN, right, correctness_gain(right, remote_right), remote_right, None, failed)


def _distinct_orders(
    orders: Mapping[Candidate, DeferralOrder],
) -> tuple[list[Candidate], dict[Candidate, tuple[str, ...]]]:
    """The candidates of different orders, and the names of those that share each one's: a threshold for one does
    what a threshold for the other does, and there is nothing to compare."""
    first: dict[bytes, Candidate] = {}
    also: dict[Candidate, tuple[str, ...]] = {}
    for one, order in orders.items():
        key = order.group_of_row().tobytes() + bytes([order.never > 0])
        if key in first:
            also[first[key]] = (*also[first[key]], one.name)
        else:
            first[key] = one
            also[one] = ()
    return list(first.values()), also


@dataclass(frozen=True, slots=True, eq=False)
class _Influences:
    criterion: Influence
    auroc: Influence
    auc_rac: Influence | None = None
    auroc_deferred: Estimate = NOT_KNOWN


def _influences(order: DeferralOrder, scores: FloatArray, judged: _Judged) -> _Influences:
    right = np.asarray(judged.right) >= 0.5
    of_auroc = auroc_influence(order, right)
    if judged.criterion is Criterion.GAIN and judged.gain is not None:
        gain, ratio = deferral_influences(order, judged.gain)
        return _Influences(gain, of_auroc, ratio)
    if judged.deferred is not None:
        seen = judged.deferred
        of_seen = DeferralOrder.of(scores[seen])
        on_deferred = auroc_influence(of_seen, right[seen])
        return _Influences(on_deferred, of_auroc, None, auroc(scores[seen], right[seen], order=of_seen))
    return _Influences(of_auroc, of_auroc)


_NO_DIFFERENCE: Final = Difference(*[math.nan] * 5)


def _figures(
    one: Candidate,
    also: tuple[str, ...],
    order: DeferralOrder,
    judged: _Judged,
    influences: Mapping[Candidate, _Influences],
    baseline: Candidate,
    versus: Difference,
    p_adjusted: float,
) -> CandidateFigures:
    mine, base = influences[one], influences[baseline]
    n, sizes = len(order), order.group_sizes()
    areas = risk_coverage(np.empty(0), judged.right, order=order)
    rac = NOT_KNOWN
    if judged.gain is not None and judged.remote_right is not None:
        found = auc_rac(np.empty(0), judged.right, judged.remote_right, order=order)
        rac = Estimate(found.value, *found.interval)
    own = auroc(np.empty(0), judged.right, order=order)
    deferred = mine.auroc_deferred
    gain = mine.criterion.estimate if judged.criterion is Criterion.GAIN else NOT_KNOWN
    by_criterion = {Criterion.GAIN: gain, Criterion.AUROC_DEFERRED: deferred, Criterion.AUROC: own}
    known = sizes[1:] if order.never else sizes
    return CandidateFigures(
        name=one.name,
        source=one.source,
        cost_class=one.cost_class,
        also=also,
        n=n,
        missing=max(order.never - int(judged.failed.sum()), 0),
        distinct=len(known),
        share_highest=float(known[-1]) / n if len(known) else math.nan,
        share_lowest=float(known[0]) / n if len(known) else math.nan,
        auroc=own,
        auroc_deferred=deferred,
        auc_rac=rac,
        gain=gain,
        aurc=areas.aurc,
        e_aurc=areas.e_aurc,
        criterion=by_criterion[judged.criterion],
        versus=versus,
        p_adjusted=p_adjusted,
        auroc_versus=difference(mine.auroc, base.auroc),
        auc_rac_versus=_NO_DIFFERENCE
        if mine.auc_rac is None or base.auc_rac is None
        else difference(mine.auc_rac, base.auc_rac),
    )


def _sizes(judged: _Judged) -> tuple[int, int]:
    """How many inputs the criterion is of, and how many of those carry it."""
    if judged.criterion is Criterion.GAIN and judged.gain is not None:
        return len(judged.right), int(np.count_nonzero(judged.gain))
    right = np.asarray(judged.right if judged.deferred is None else judged.right[judged.deferred]) >= 0.5
    return len(right), min(int(right.sum()), int((~right).sum()))


def _criterion_note(one: LevelComparison) -> str:
    if one.level is LevelName.LOCAL and one.criterion is Criterion.AUROC:
        return (
            "the remote model's correctness is not known for every labelled row, so 1st-level supervisors are "
            "compared by AUROC, and what deferring gains is not known. `bisupervised record` asks both models about "
            "every input"
        )
    if one.level is LevelName.REMOTE and one.criterion is Criterion.AUROC:
        return (
            "no labelled remote prediction is among the deferred inputs, so 2nd-level supervisors are compared over "
            "all inputs; a higher request rate, or another local threshold, defers some"
        )
    return ""
