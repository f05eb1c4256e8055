"""Scored objectives, which look at all predictions at once, in the places of accuracy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bisupervised.errors import InputError
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.intervals import Estimate, bootstrap_of_objective
from bisupervised.evaluation.objectives import Scored, class_codes, macro_f1, macro_f1_of_codes
from bisupervised.evaluation.request_accuracy import RequestAccuracyCurve
from bisupervised.evaluation.supervised import s_beta
from bisupervised.evaluation.system import Decided, SystemFigures
from bisupervised.records import AnyArray, Route
from bisupervised.table import Table


def coded(table: Table, objective: Scored) -> tuple[Table, Scored]:
    """For macro F1, the table with class numbers for labels and predictions: read once, scored a thousand times."""
    if objective.score is not macro_f1 or table.labels is None:
        return table, objective
    labels, local, remote = class_codes(table.labels, table.local.predictions, table.remote.predictions)
    numbered = replace(
        table,
        labels=labels,
        local=replace(table.local, predictions=local),
        remote=replace(table.remote, predictions=remote),
    )
    return numbered, Scored(objective.name, macro_f1_of_codes)


def scored_figures(
    table: Table, decided: Decided, figures: SystemFigures, objective: Scored, seed: int
) -> SystemFigures:
    """The figures with a scored objective in the two places of accuracy, over the labelled rows."""
    labels = _labels(table, objective)
    answers = _answers(table, decided)
    known = ~np.isnan(decided.correct)
    accepted = known & (decided.routes != Route.REJECTED)
    supervised = bootstrap_of_objective(labels[accepted], [answers[accepted]], objective.score, seed=seed)
    return replace(
        figures,
        system_accuracy=bootstrap_of_objective(labels[known], [answers[known]], objective.score, seed=seed),
        supervised_accuracy=supervised,
        s_beta={key: s_beta(supervised.value, figures.coverage.value, float(key)) for key in figures.s_beta},
    )


def scored_difference(table: Table, first: Decided, second: Decided, objective: Scored, seed: int) -> Estimate:
    """The objective of the first system minus that of the second, paired, over the rows labelled for both."""
    known = ~(np.isnan(first.correct) | np.isnan(second.correct))
    answers = [_answers(table, decided)[known] for decided in (first, second)]
    return bootstrap_of_objective(_labels(table, objective)[known], answers, objective.score, seed=seed)


def scored_curve(table: Table, objective: Scored, *, points: int = 101) -> RequestAccuracyCurve:
    """The curve of an objective over all predictions at once, on a grid of request rates."""
    labels = _labels(table, objective)
    order = DeferralOrder.of(table.local.confidences)
    ends = np.concatenate([[0], order.ends])
    picks = np.unique(np.searchsorted(ends, np.linspace(0, len(order), points)))
    answers = _of_one_kind(table.local.predictions, table.remote.predictions)[0].copy()
    remote = _of_one_kind(table.remote.predictions, table.local.predictions)[0]
    scores, done = [], 0
    for pick in picks:
        rows = order.order[done : ends[pick]]
        answers[rows] = remote[rows]
        done = int(ends[pick])
        scores.append(objective.score(labels, answers))
    return RequestAccuracyCurve(ends[picks] / len(order), np.array(scores), order.thresholds[picks])


def _labels(table: Table, objective: Scored) -> AnyArray:
    if table.labels is None:
        raise InputError(f"{objective.name} needs labels")
    return table.labels


def _answers(table: Table, decided: Decided) -> AnyArray:
    remote, local = _of_one_kind(table.remote.predictions, table.local.predictions)
    answers: AnyArray = np.where(decided.requested, remote, local)
    return answers


def _of_one_kind(first: AnyArray, second: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Objects where the kinds differ: NumPy would turn 1 into "1" or 1.0."""
    if first.dtype == second.dtype:
        return first, second
    return first.astype(object), second.astype(object)
