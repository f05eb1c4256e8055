"""What comparing supervisors finds: frozen records, for each candidate, each level, and both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bisupervised.errors import InputError
from bisupervised.evaluation.candidates import Source
from bisupervised.evaluation.influence import Difference
from bisupervised.evaluation.intervals import Estimate
from bisupervised.evaluation.recommendation import Recommendation
from bisupervised.quantifiers import CostClass
from bisupervised.records import LevelName


class Criterion(StrEnum):
    """What the supervisors of a level are judged by: higher is better."""

    GAIN = "gain over random"  #: mean system accuracy over all request rates, above random deferral's; chance is 0
    AUROC_DEFERRED = "AUROC on the deferred"  #: chance is .5
    AUROC = "AUROC"  #: where the other two cannot be known; chance is .5

    @property
    def chance(self) -> float:
        """What a supervisor that knows nothing has."""
        return 0.0 if self is Criterion.GAIN else 0.5


@dataclass(frozen=True, slots=True, eq=False)
class CandidateFigures:
    """How good one supervisor's confidences are, over the labelled inputs of its level. NaN: not known."""

    name: str
    source: Source
    cost_class: CostClass | None  #: None: not known
    also: tuple[str, ...]  #: candidates that put the inputs in the same order: as good at the same rates
    n: int  #: labelled inputs for which the model was asked
    missing: int  #: of those, without confidence though the model gave a prediction: never trusted
    distinct: int  #: how many different confidences there are
    share_highest: float  #: share of the n inputs that have the highest confidence, in (0, 1]
    share_lowest: float  #: share of the n inputs that have the lowest
    auroc: Estimate
    auroc_deferred: Estimate  #: 2nd level
    auc_rac: Estimate  #: 1st level
    gain: Estimate  #: 1st level: mean system accuracy over all request rates above random deferral's
    aurc: float  #: a risk: lower is better
    e_aurc: float
    criterion: Estimate  #: the one of these that is its level's criterion
    versus: Difference  #: its criterion minus the baseline's, paired; the baseline's own is 0
    p_adjusted: float  #: of `versus`, with all candidates of the level in view
    auroc_versus: Difference  #: AUROC over all n inputs minus the baseline's
    auc_rac_versus: Difference  #: 1st level: AUC-RAC minus the baseline's


@dataclass(frozen=True, slots=True, eq=False)
class LevelComparison:
    """The candidates of one level, and which to use."""

    level: LevelName
    n: int  #: labelled inputs for which the model was asked
    accuracy: float  #: of the model, over them
    criterion: Criterion
    n_criterion: int  #: inputs that the criterion is of
    n_minor: (
        int  #: of those, the fewer of right and wrong predictions; of models that differ in being right, for gain
    )
    baseline: str
    candidates: Sequence[CandidateFigures]  #: best first by the criterion; not known last
    recommendation: Recommendation
    left_out: Mapping[str, str]  #: candidates that could not be scored, and why
    warnings: Sequence[str]

    def candidate(self, name: str) -> CandidateFigures:
        """The candidate of that name, or the one that puts the inputs in the same order. Raises `InputError`."""
        for one in self.candidates:
            if name == one.name or name in one.also:
                return one
        names = ", ".join(one.name for one in self.candidates)
        raise InputError(f"no {self.level} supervisor {name!r} was compared; there are: {names}")

    @property
    def recommended(self) -> CandidateFigures:
        """The supervisor to use."""
        return self.candidate(self.recommendation.name)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The supervisors of both levels."""

    n: int  #: rows of the table
    levels: Mapping[LevelName, LevelComparison]  #: those with labelled rows
    request_rate: float  #: share of all rows that count as deferred for the 2nd level
    deferred_by: str  #: how they were told, in words
    alpha: float
    folds: int
    seed: int
    notes: Sequence[str]
