"""`calibrate`, `evaluate` and `compare` for one's own predictions: arrays, a data frame, or a table, and no model.

The honest default: one half of the rows chooses the thresholds, the other half judges them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bisupervised.calibration.calibrate import calibrate_table, rows_to_judge, split_rows
from bisupervised.calibration.choice import Target
from bisupervised.calibration.guarantees.groups import MIN_ROWS as MIN_GROUP
from bisupervised.calibration.targets import RemoteEven
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.decision import first_level
from bisupervised.errors import InfeasibleTarget, InputError, TableError
from bisupervised.evaluation.candidates import TableScore
from bisupervised.evaluation.compared import Comparison
from bisupervised.evaluation.comparison import Progress, compare_supervisors
from bisupervised.evaluation.deferral import Deferral
from bisupervised.evaluation.evaluation import Evaluation, evaluate_at, graded_table
from bisupervised.evaluation.objectives import Objective, Scored, objective_by_name
from bisupervised.learned import LearnedSupervisors, supervisors_of
from bisupervised.monitoring import reference_of
from bisupervised.records import Outcomes
from bisupervised.table import Table, is_missing, table_from_outcomes

Results: TypeAlias = Table | Outcomes | Mapping[str, Any] | Any


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """An evaluation, the thresholds it is of, and what they were judged on."""

    evaluation: Evaluation
    thresholds: Thresholds
    judged_on: str  #: a sentence; empty when the rows are new to the thresholds
    table: Table  #: the rows judged


def as_table(results: Results, **options: Any) -> Table:
    """A table from a table, from `Outcomes`, from named columns, or from a data frame of any library."""
    if isinstance(results, Table | Outcomes):
        if options:
            raise InputError(
                f"{', '.join(options)}: for named columns only; a {type(results).__name__} is read already"
            )
        return results if isinstance(results, Table) else table_from_outcomes(results)
    if isinstance(results, Mapping) or hasattr(results, "columns"):
        return Table.from_columns(results, **options)
    raise InputError(
        f"results are a table, named columns or a data frame (see bisupervised.table), not {type(results).__name__}; "
        f"read files with bisupervised.read_table(path)"
    )


def calibrate(
    results: Results,
    target: Target | None = None,
    *,
    objective: str | Objective | None = None,
    supervisors: LearnedSupervisors | None = None,
    held_out: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Thresholds:
    """Thresholds for a target (default: remote-even, false alarm rate 0.05), with their evidence.

    `supervisors` are learned ones, fitted on other rows (`InputError` where one was fitted on some of these).
    `options` are those of `Table.from_columns`: rename, costs, quantifiers.
    """
    table = graded_table(as_table(results, **options), _objective(objective))
    supervisors = supervisors or LearnedSupervisors()
    supervisors.refuse_fitting_rows(table)
    read, pair = supervisors.applied(table)
    thresholds = calibrate_table(read, target or RemoteEven(), pair=pair, held_out=held_out, seed=seed)
    return _with_reference(thresholds, answered(table, supervisors))


def answered(table: Table, supervisors: LearnedSupervisors) -> Table:
    """The rows as learned supervisors read them: the remote columns are of the prediction that is answered after a
    request, be it the local one, and of the confidence in it."""
    if not supervisors:
        return table
    read, pair = supervisors.applied(graded_table(table, None))
    if pair is None:
        return read
    correct = read.correct("remote")
    if pair.local_preferred is not None:
        correct = np.where(pair.local_preferred, read.correct("local"), correct)
    remote = replace(read.remote, confidences=pair.confidences)
    return replace(read, remote=remote, remote_correct=np.where(read.remote.asked, correct, np.nan))


def _with_reference(thresholds: Thresholds, rows: Table) -> Thresholds:
    """The thresholds with what the rows looked like under them, for `drift`: those held out, if there are any."""
    evidence = thresholds.evidence
    held_out = split_rows(len(rows), float(evidence["held_out"]), int(evidence["seed"])).held_out
    if len(held_out):
        rows = rows.take(held_out)
    reference = reference_of(
        rows, thresholds.local, thresholds.remote, thresholds.abstain, chose_thresholds=not len(held_out)
    )
    return replace(thresholds, reference=reference)


@dataclass(frozen=True, slots=True)
class GroupThresholds:
    """One group's thresholds, or the reason why it has none."""

    thresholds: Thresholds | None
    infeasible: str = ""  #: a sentence; empty where there are thresholds


def calibrate_by_group(
    results: Results,
    column: str,
    target: Target | None = None,
    *,
    objective: str | Objective | None = None,
    held_out: float | None = None,
    seed: int = 0,
    min_rows: int = MIN_GROUP,
    **options: Any,
) -> dict[str, GroupThresholds]:
    """Thresholds for each group of inputs by itself, from its own rows (Mondrian): by class, tenant or language.

    A promise over all inputs may be kept by the many and broken for the few. `column` is one that the table has
    beside its own. A group with fewer than `min_rows` rows, or for which the target is infeasible, is told; it is not
    merged with others. Raises `TableError` when there is no such column.
    """
    table = graded_table(as_table(results, **options), _objective(objective))
    if column not in table.extra:
        others = ", ".join(sorted(table.extra)) or "none"
        raise TableError(f"there is no column {column} to group by; besides the table's own there are: {others}")
    if min_rows < 1:
        raise InputError(f"a group has at least 1 row, not {min_rows}")
    names = np.array(["(none)" if is_missing(value) else str(value) for value in table.extra[column]])
    found = {}
    for name in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == name)
        if len(rows) < min_rows:
            found[name] = GroupThresholds(None, f"{len(rows)} rows, fewer than the {min_rows} asked for of a group")
            continue
        try:
            one = calibrate(table.take(rows), target, held_out=held_out, seed=seed)
            evidence = {**one.evidence, "group": {column: name}}
            found[name] = GroupThresholds(replace(one, evidence=evidence))
        except (InfeasibleTarget, TableError) as error:
            found[name] = GroupThresholds(None, str(error))
    return found


def evaluate(
    results: Results,
    thresholds: Thresholds | tuple[float, float] | None = None,
    *,
    target: Target | None = None,
    objective: str | Objective | None = None,
    held_out: float | None = None,
    seed: int = 0,
    abstention_cost: float = 0.0,
    fallback_cost: float = 0.0,
    **options: Any,
) -> Assessment:
    """Judge two models and their supervisors on recorded predictions.

    Without `thresholds` one part of the rows chooses them for `target`, and the other part is judged. Given
    thresholds are judged on all rows, except those that chose them, when they can be told. A rejected input costs
    `abstention_cost` (what having no trusted answer costs) and `fallback_cost` (what the fallback takes) besides.
    """
    if not (abstention_cost >= 0.0 and fallback_cost >= 0.0):
        raise InputError("the costs of an abstention and of a fallback are numbers from 0 on")
    table = as_table(results, **options)
    aim = _objective(objective)
    if thresholds is None:
        thresholds = calibrate(table, target, objective=aim, held_out=held_out, seed=seed)
    elif not isinstance(thresholds, Thresholds):
        if not isinstance(thresholds, tuple | list) or len(thresholds) != 2:
            raise InputError(f"thresholds are a pair (local, remote) or Thresholds, not {thresholds!r}")
        thresholds = Thresholds(*thresholds)
    supervisors = supervisors_of(thresholds)
    graded = graded_table(table, aim)
    if supervisors:
        graded = supervisors.read(_without_fitting_rows(graded, supervisors))
    judged, sentence = rows_to_judge(graded, thresholds)
    evaluation = evaluate_at(
        judged,
        thresholds.local,
        thresholds.remote,
        abstain_threshold=thresholds.abstain,
        pair=supervisors.weigh(judged),
        objective=aim,
        abstention_cost=abstention_cost + fallback_cost,
        seed=seed,
    )
    if isinstance(aim, Scored):
        chosen = f"Thresholds are chosen by accuracy, and judged by {aim.name}."
        evaluation = replace(evaluation, notes=[chosen, *evaluation.notes])
    if "optimistic" in sentence:
        evaluation = replace(evaluation, warnings=[sentence, *evaluation.warnings])
    elif sentence:
        evaluation = replace(evaluation, notes=[sentence, *evaluation.notes])
    return Assessment(evaluation, thresholds, sentence, judged)


def _without_fitting_rows(table: Table, supervisors: LearnedSupervisors) -> Table:
    """The rows that no supervisor was fitted on, with a note of how many were."""
    unseen = supervisors.unseen(table)
    if unseen.all():
        return table
    if not unseen.any():
        raise TableError("the learned supervisors were fitted on all of these rows: judge them on others")
    left_out = int((~unseen).sum())
    note = f"{left_out} of {len(table)} rows fitted the learned supervisors and are left out."
    kept = table.take(unseen)
    return replace(kept, notes=[*kept.notes, note])


def compare(
    results: Results,
    *,
    objective: str | Objective | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    learned: Mapping[str, Mapping[str, TableScore]] | None = None,
    only: Sequence[str] | None = None,
    request_rate: float | None = None,
    local_threshold: float | None = None,
    thresholds: Thresholds | None = None,
    alpha: float = 0.05,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Which supervisor to use at each level, of all that the results allow: see `compare_supervisors`.

    With `thresholds` the 2nd level is judged on the inputs that these defer, whatever they were chosen with.
    `options` are those of `Table.from_columns`: rename, costs, quantifiers.
    """
    if thresholds is not None and (request_rate, local_threshold) != (None, None):
        raise InputError("give thresholds, a request rate or a local threshold: each says which inputs are deferred")
    table, deferral = as_table(results, **options), None
    if thresholds is not None:
        read = supervisors_of(thresholds).read(table)
        _, deferred = first_level(read.local.confidences, thresholds.local, thresholds.abstain)
        deferral = Deferral(deferred, f"by the thresholds {thresholds.id}")
    return compare_supervisors(
        table,
        objective=_objective(objective),
        deferral=deferral,
        scores=scores,
        learned=learned,
        only=only,
        request_rate=request_rate,
        local_threshold=local_threshold,
        alpha=alpha,
        folds=folds,
        seed=seed,
        progress=progress,
    )


def _objective(objective: str | Objective | None) -> Objective | None:
    return objective_by_name(objective) if isinstance(objective, str) else objective
