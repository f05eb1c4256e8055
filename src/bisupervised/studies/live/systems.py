"""The systems that are compared: in which order inputs are deferred, and which answer is given after a request.

    max_softmax     the recorded confidence of the local model; the remote answer
    recommended     the supervisor that the comparison on the choosing rows recommends; the remote answer
    learned         a deferral head, and an arbiter that picks the better of both answers after a request
    reduced_domain  a local model that knows only the most frequent classes, where the study has one

Whatever is fitted is fitted on the choosing rows, whose own confidences are cross-fitted, cluster by cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.evaluation.compared import Comparison, LevelComparison
from bisupervised.evaluation.comparison import compare_supervisors
from bisupervised.learned import Arbiter, DeferralHead, StackedSupervisor, cross_fitted
from bisupervised.records import BoolArray, FloatArray, LevelName
from bisupervised.studies.live.splits import Split
from bisupervised.table import Table

MAX_SOFTMAX, RECOMMENDED, LEARNED, REDUCED = "max_softmax", "recommended", "learned", "reduced_domain"
CHOSEN: Final = "chosen"  #: in each fold the one that its choosing rows prefer
TITLES: Final[Mapping[str, str]] = {
    MAX_SOFTMAX: "recorded confidence",
    RECOMMENDED: "recommended supervisor",
    LEARNED: "learned, with arbitration",
    REDUCED: "reduced domain",
}
DOMAIN_CONFIDENCE: Final = "local_domain_confidence"
#: Score columns of a level that learned supervisors read beside the recorded confidence: with one of each level an
#: arbiter has four numbers, as many as interact.
_SCORES: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a system makes of n rows."""

    confidence: FloatArray  #: (n,) the least is deferred first
    prefers_local: BoolArray  #: (n,) where arbitration gives the local answer after a request

    def answer(self, table: Table) -> FloatArray:
        """(n,) correctness of what is answered after a request."""
        return np.where(self.prefers_local, table.correct("local"), table.correct("remote"))


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """One system on both sides of a split."""

    key: str
    reads: str  #: the supervisor, by name
    choosing: Seen
    reporting: Seen


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What one split chose and fitted."""

    comparison: Comparison
    recommended: Mapping[str, str]  #: level -> the supervisor's name; `confidence` is the recorded one
    systems: Mapping[str, System]
    #: level -> name -> (rows of the reporting side,) of the learned supervisors
    learned_scores: Mapping[str, Mapping[str, FloatArray]]
    notes: Sequence[str]


def fit_systems(split: Split) -> Fitted:
    """Compare the supervisors on the choosing rows, and make the systems ready."""
    choosing, reporting = split.choosing, split.reporting
    comparison = compare_supervisors(choosing)
    recommended = {level.value: one.recommended.name for level, one in comparison.levels.items()}
    notes: list[str] = []
    systems = {MAX_SOFTMAX: _plain(MAX_SOFTMAX, "confidence", choosing, reporting)}
    if recommended["local"] != "confidence":
        systems[RECOMMENDED] = _plain(RECOMMENDED, recommended["local"], choosing, reporting)
    if DOMAIN_CONFIDENCE in choosing.extra:
        systems[REDUCED] = _plain(REDUCED, DOMAIN_CONFIDENCE, choosing, reporting)
    early = ("local_confidence", "local_prediction", *best_columns(comparison.levels[LevelName.LOCAL], choosing))
    late = best_columns(comparison.levels[LevelName.REMOTE], choosing)
    scores: dict[str, dict[str, FloatArray]] = {"local": {}, "remote": {}}
    try:
        learned = _learned(split, early, late)
        systems[LEARNED] = learned
        scores["local"]["deferral_head"] = learned.reporting.confidence
        for level, columns in (("local", early), ("remote", ("remote_confidence", "remote_prediction", *late))):
            stacked = StackedSupervisor.fit(choosing, level=level, columns=columns)
            scores[level]["stacked"] = stacked.of_table(reporting)
    except InputError as error:
        notes.append(f"nothing was learned: {error}")
    return Fitted(comparison, recommended, systems, scores, notes)


def _learned(split: Split, early: Sequence[str], late: Sequence[str]) -> System:
    choosing, reporting, groups = split.choosing, split.reporting, split.choosing_clusters
    head = cross_fitted(partial(DeferralHead.fit, columns=early), choosing, groups=groups)
    extra = (*(name for name in early if "_score_" in name), *late)
    arbiter = cross_fitted(partial(Arbiter.fit, columns=extra), choosing, groups=groups)
    judged = arbiter.supervisor.of_table(reporting)
    return System(
        LEARNED,
        f"deferral head of {', '.join(early)}; arbiter of both confidences{''.join(', ' + one for one in extra)}",
        Seen(head.confidences, _preferred(arbiter.local_preferred, len(choosing))),
        Seen(head.supervisor.of_table(reporting), _preferred(judged.local_preferred, len(reporting))),
    )


def _preferred(preferred: BoolArray | None, n: int) -> BoolArray:
    return np.zeros(n, dtype=np.bool_) if preferred is None else preferred


def best_columns(level: LevelComparison, table: Table) -> tuple[str, ...]:
    """The score columns that rank highest among those of another order than the recorded confidence."""
    names = [one.name for one in level.candidates if one.name.startswith("score_") and one.missing == 0]
    return tuple(column_of(level.level.value, name) for name in names[:_SCORES])


def column_of(level: str, name: str) -> str:
    """The table's column of a candidate `score_<name>`."""
    return f"{level}_{name}"


def confidences_by(table: Table, level: str, name: str) -> FloatArray:
    """(n,) of a supervisor by its candidate's name; of `confidence`, the recorded ones."""
    if name == "confidence":
        return table.level(level).confidences
    column = name if name in table.extra else column_of(level, name)
    # What failed has no confidence, whatever a score column says.
    failed = np.isnan(table.level(level).confidences) & np.array(
        [one is not None for one in table.level(level).errors]
    )
    return np.where(failed, np.nan, np.asarray(table.extra[column], dtype=np.float64))


def _plain(key: str, name: str, choosing: Table, reporting: Table) -> System:
    def seen(table: Table) -> Seen:
        return Seen(confidences_by(table, "local", name), np.zeros(len(table), dtype=np.bool_))

    return System(key, name, seen(choosing), seen(reporting))
