"""The systems that a study compares: what each does with an input, chosen on some rows and judged on others.

Everything that is chosen or fitted sees the choosing rows alone: the supervisor, what is learned, and the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from bisupervised.decision import accept
from bisupervised.errors import BiSupervisedError
from bisupervised.evaluation.comparison import compare_supervisors
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.evaluation import graded_table
from bisupervised.learned import Arbiter, StackedSupervisor, cross_fitted
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName
from bisupervised.studies.live.claims import Z_ONE_SIDED, standard_error
from bisupervised.studies.live.domain_reduction import frequent_classes, is_outside
from bisupervised.studies.live.parts import CALIBRATION, FOLDS, MARGIN
from bisupervised.table import Table

BASELINE: Final = "recorded confidence"
CHOSEN: Final = "compared supervisor"
LEARNED: Final = "stacked and arbiter"
REDUCED: Final = "reduced domain"
#: A threshold is looked for among so many request rates.
_STEPS: Final = 200
#: The local model of the reduced domain knows so many classes.
DOMAIN: Final = 100


@dataclass(frozen=True, slots=True)
class Split:
    """Rows that choose, and rows that are judged."""

    choosing: AnyArray  #: indices
    judged: AnyArray


def splits_of(table: Table) -> list[Split]:
    """Two halves by the column `part`, or five times four fifths and a fifth by the column `fold`."""
    fold = table.extra.get("fold")
    if fold is not None:
        numbers = np.asarray(fold, dtype=np.int64)
        return [Split(np.flatnonzero(numbers != one), np.flatnonzero(numbers == one)) for one in range(FOLDS)]
    choosing = np.asarray(table.extra["part"], dtype=object) == CALIBRATION
    return [Split(np.flatnonzero(choosing), np.flatnonzero(~choosing))]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a system goes by on n rows."""

    order: FloatArray  #: (n,) local confidences: the lower, the sooner deferred; NaN: always
    after_request: FloatArray  #: (n,) whether the answer after a request is right
    late: FloatArray  #: (n,) confidence in that answer


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """A way to supervise, fitted: its scores on the choosing and on the judged rows."""

    name: str
    goes_by: str  #: the supervisor, in words
    choosing: Scores
    judged: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a system did with n rows at a threshold that other rows chose."""

    name: str
    rule: str  #: `fewest requests` or `most accurate`
    requested: BoolArray
    correct: FloatArray  #: of the prediction that is the answer, no 2nd level judging it
    late: FloatArray  #: confidence in the answer after a request; NaN where there was none
    goes_by: Sequence[str] = field(default_factory=tuple)  #: one for each fold


def systems_of(table: Table, split: Split) -> list[System]:
    """Every system of a study, fitted on the choosing rows."""
    choosing, judged = table.take(split.choosing), table.take(split.judged)
    found = [_plain(BASELINE, "recorded confidence", choosing, judged, "confidence")]
    column = _recommended(choosing)
    if column is not None:
        found.append(_plain(CHOSEN, column, choosing, judged, column))
    for make in (_learned, _reduced):
        try:
            system = make(choosing, judged)
        except BiSupervisedError:
            continue  # such as: all predictions of a level are right, so there is nothing to learn from
        if system is not None:
            found.append(system)
    return found


def _column(table: Table, name: str) -> FloatArray:
    if name == "confidence":
        return table.local.confidences
    return np.asarray(table.extra[f"local_{name}"], dtype=np.float64)


def _plain(name: str, goes_by: str, choosing: Table, judged: Table, column: str) -> System:
    def scores(rows: Table) -> Scores:
        return Scores(_column(rows, column), rows.correct("remote"), rows.remote.confidences)

    return System(name, goes_by, scores(choosing), scores(judged))


def _recommended(choosing: Table) -> str | None:
    """The score column that `compare_supervisors` recommends on these rows; None: it keeps the recorded one."""
    comparison = compare_supervisors(choosing)
    if LevelName.LOCAL not in comparison.levels:
        return None
    name = comparison.levels[LevelName.LOCAL].recommendation.name
    return name if name.startswith("score_") else None


def columns_read(table: Table) -> list[str]:
    """What the stacked supervisor reads: the recorded confidence, the prediction, and every score of the local level
    that has no gaps."""
    names = ["local_confidence", "local_prediction"]
    for name, column in table.extra.items():
        if name.startswith("local_score_") and not np.isnan(np.asarray(column, dtype=np.float64)).any():
            names.append(name)
    return names


def _learned(choosing: Table, judged: Table) -> System:
    """A stacked supervisor decides whom to ask, an arbiter whose answer counts after a request."""
    names = columns_read(choosing)
    penalty = 10.0

    def fit(rows: Table) -> StackedSupervisor:
        return StackedSupervisor.fit(rows, columns=names, penalty=penalty)

    first = cross_fitted(fit, choosing)
    second = cross_fitted(Arbiter.fit, choosing)
    of_judged = second.supervisor.of_table(judged)
    assert second.local_preferred is not None
    assert of_judged.local_preferred is not None
    return System(
        LEARNED,
        f"stacked of {len(names)} columns; arbiter after a request",
        Scores(first.confidences, _answered(choosing, second.local_preferred), second.confidences),
        Scores(
            first.supervisor.of_table(judged), _answered(judged, of_judged.local_preferred), of_judged.confidences
        ),
    )


def _answered(table: Table, local_preferred: BoolArray) -> FloatArray:
    return np.where(local_preferred, table.correct("local"), table.correct("remote"))


def _reduced(choosing: Table, judged: Table) -> System | None:
    """The local model that knows the most frequent classes of the choosing rows; only where there are many more."""
    if choosing.labels is None or len(set(choosing.labels.tolist())) <= DOMAIN:
        return None
    kept = frequent_classes(choosing.labels.astype(str), DOMAIN)

    def scores(rows: Table) -> Scores:
        outside = is_outside(rows.local.predictions.astype(str), kept)
        order = np.where(outside, np.nan, rows.local.confidences)
        return Scores(order, rows.correct("remote"), rows.remote.confidences)

    return System(REDUCED, f"{DOMAIN} classes and other", scores(choosing), scores(judged))


# ---------------------------------------------------------------- thresholds


def _kept_and_correct(scores: Scores, local: FloatArray, threshold: float) -> tuple[BoolArray, FloatArray]:
    kept = accept(scores.order, threshold)
    return kept, np.where(kept, local, scores.after_request)


def thresholds_of(order: FloatArray) -> FloatArray:
    """Thresholds at about evenly spread request rates, from the fewest requests to all."""
    thresholds = DeferralOrder.of(order).thresholds
    attained = thresholds[~np.isnan(thresholds)]
    if len(attained) > _STEPS:
        attained = attained[np.unique(np.linspace(0, len(attained) - 1, _STEPS).astype(np.int64))]
    return attained


Threshold = Callable[[System, Table, AnyArray | None], float]


def fewest_requests(system: System, choosing: Table, clusters: AnyArray | None) -> float:
    """The lowest request rate from which on every higher one is surely not inferior to remote-only by more than the
    margin: the lower end of the one-sided 95 % interval of the paired difference lies above it, on the choosing rows."""
    local, remote = choosing.correct("local"), choosing.correct("remote")
    found = math.inf
    for threshold in thresholds_of(system.choosing.order)[::-1]:
        _, correct = _kept_and_correct(system.choosing, local, threshold)
        difference = correct - remote
        error = standard_error(difference, clusters)
        if not float(difference.mean()) - Z_ONE_SIDED * (0.0 if math.isnan(error) else error) > -MARGIN:
            break
        found = float(threshold)
    return found


def most_accurate(system: System, choosing: Table, clusters: AnyArray | None) -> float:
    """The threshold of the largest system accuracy on the choosing rows; the fewest requests among equals."""
    del clusters
    local = choosing.correct("local")
    thresholds = thresholds_of(system.choosing.order)
    accuracy = [float(_kept_and_correct(system.choosing, local, one)[1].mean()) for one in thresholds]
    return float(thresholds[int(np.argmax(np.array(accuracy) > max(accuracy) - 1e-12))])


RULES: Final[dict[str, Threshold]] = {"fewest requests": fewest_requests, "most accurate": most_accurate}


def judged_systems(table: Table, cluster: str | None) -> tuple[Table, dict[str, list[Judged]]]:
    """(the judged rows, every system at every rule's threshold on them); the system `chosen` is the one that the
    choosing rows prefer: with the fewest requests, or the largest accuracy."""
    table = graded_table(table, None)
    splits = splits_of(table)
    parts: dict[tuple[str, str], list[Judged]] = {}
    for split in splits:
        choosing, judged = table.take(split.choosing), table.take(split.judged)
        clusters = None if cluster is None else np.asarray(choosing.extra[cluster])
        systems = systems_of(table, split)
        for rule, choose in RULES.items():
            best: tuple[float, Judged] | None = None
            for system in systems:
                threshold = choose(system, choosing, clusters)
                kept, correct = _kept_and_correct(system.choosing, choosing.correct("local"), threshold)
                worth = float(kept.mean()) if rule == "fewest requests" else float(correct.mean())
                at = _at(system, judged, threshold, rule)
                parts.setdefault((rule, system.name), []).append(at)
                if best is None or worth > best[0] + 1e-12:
                    best = (worth, at)
            assert best is not None
            parts.setdefault((rule, "chosen"), []).append(replace(best[1], name="chosen"))
    rows = table.take(np.concatenate([split.judged for split in splits]))
    found: dict[str, list[Judged]] = {rule: [] for rule in RULES}
    for (rule, _), judged_parts in parts.items():
        if len(judged_parts) == len(splits):  # a system that some folds could not fit is left out
            found[rule].append(_joined(judged_parts))
    return rows, found


def _at(system: System, judged: Table, threshold: float, rule: str) -> Judged:
    kept, correct = _kept_and_correct(system.judged, judged.correct("local"), threshold)
    late = np.where(kept, np.nan, system.judged.late)
    return Judged(system.name, rule, ~kept, correct, late, (f"{system.name}: {system.goes_by}",))


def _joined(parts: Sequence[Judged]) -> Judged:
    def join(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    goes_by = tuple(word for part in parts for word in part.goes_by)
    return Judged(parts[0].name, parts[0].rule, join("requested"), join("correct"), join("late"), goes_by)
