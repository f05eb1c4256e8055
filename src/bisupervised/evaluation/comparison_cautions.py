"""What a reader must know of the supervisors compared, in plain sentences: one for each fault, naming who has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from bisupervised.evaluation.cautions import FEW
from bisupervised.evaluation.compared import CandidateFigures, Criterion, LevelComparison
from bisupervised.evaluation.intervals import Estimate
from bisupervised.evaluation.labels_needed import MIN_LABELS

#: From this share of inputs with one and the same extreme confidence on, it is called saturated.
SATURATED: Final = 0.1
#: An AUROC on the deferred inputs that is shown to be below this is as good as none.
HARDLY_BETTER: Final = 0.55
#: From this share of inputs without confidence on, a reader is told.
MANY_MISSING: Final = 0.05
#: Above so many times the rows at hand, a lead is not worth the labels that would decide it.
_TOO_MANY: Final = 100


class Caution(StrEnum):
    """A fault of one candidate."""

    NO_EVIDENCE = "no evidence"  #: no input has a confidence
    CONSTANT = "constant"
    INVERTED = "inverted"  #: wrong predictions have the higher confidence
    CHANCE = "no better than chance"  #: not shown to be
    USELESS_ON_DEFERRED = (
        "useless on the deferred"  #: (hardly) better than chance there, though over all inputs it is
    )
    NO_GAIN = "no gain"  #: tells right from wrong, but not where the remote model helps
    SATURATED = "saturated"
    MISSING = "many missing"


def cautions_of(one: CandidateFigures, *, gain_is_known: bool) -> list[Caution]:
    """The faults of one candidate."""
    if one.distinct == 0:
        return [Caution.NO_EVIDENCE]
    found = [Caution.MISSING] if one.missing > MANY_MISSING * one.n else []
    if one.distinct == 1:
        return [Caution.CONSTANT, *found]
    if max(one.share_highest, one.share_lowest) > SATURATED:
        found.insert(0, Caution.SATURATED)
    if math.isnan(one.auroc.value):  # one class: nothing tells
        return found
    if one.auroc.high < 0.5 or one.auroc_deferred.high < 0.5:
        return [Caution.INVERTED, *found]
    if not one.auroc.low > 0.5:
        return [Caution.CHANCE, *found]
    if one.auroc_deferred.low <= 0.5 or one.auroc_deferred.high < HARDLY_BETTER:
        return [Caution.USELESS_ON_DEFERRED, *found]
    return [Caution.NO_GAIN, *found] if gain_is_known and one.gain.low <= 0.0 else found


def warnings_of(level: LevelComparison) -> list[str]:
    """The faults of a level's candidates, those of one kind together, and whether there are labels enough."""
    found: list[str] = [*_few_labels(level), *_undecided(level)]
    known = level.criterion is Criterion.GAIN
    faults = {one.name: cautions_of(one, gain_is_known=known) for one in level.candidates}
    for caution, sentence in _SENTENCES.items():
        those = [one for one in level.candidates if caution in faults[one.name]]
        if those:
            found.append(
                f"{caution.value.capitalize()}: {', '.join(_named(one, caution) for one in those)}. {sentence}"
            )
    return found


_SENTENCES: Final[dict[Caution, str]] = {
    Caution.NO_EVIDENCE: "No input has a confidence, so nothing would be trusted whatever the threshold.",
    Caution.CONSTANT: "All inputs have the same confidence, and no threshold can tell them apart.",
    Caution.INVERTED: "Wrong predictions have the higher confidence. If the number is an uncertainty, give its "
    "negative as a score column of its own and compare again; if it is not, do not use it.",
    Caution.CHANCE: "Not shown to tell right predictions from wrong ones.",
    Caution.USELESS_ON_DEFERRED: "Over all inputs right and wrong are told apart, but hardly on the deferred ones, "
    "and a 2nd-level supervisor sees no others: it would reject right answers nearly as often as wrong ones. One "
    "that reads both levels may help.",
    Caution.NO_GAIN: "Right and wrong local predictions are told apart, but not where the remote model would do "
    "better: both may err on the same inputs.",
    Caution.SATURATED: "So many inputs share one extreme confidence, which no threshold divides: the request rates "
    "in between cannot be reached. More digits, or logits in place of probabilities, would help.",
    Caution.MISSING: "Inputs without a confidence are never trusted; they rank last here.",
}


def _named(one: CandidateFigures, caution: Caution) -> str:
    detail = _DETAILS.get(caution)
    return one.name if detail is None else f"{one.name} ({detail(one)})"


def _auroc_text(name: str, estimate: Estimate) -> str:
    return f"{name} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _extreme(one: CandidateFigures) -> str:
    top = one.share_highest >= one.share_lowest
    return f"{max(one.share_highest, one.share_lowest):.0%} have the {'highest' if top else 'lowest'}"


def _inverted(one: CandidateFigures) -> str:
    if one.auroc.high < 0.5:
        return _auroc_text("AUROC", one.auroc)
    return _auroc_text("AUROC on the deferred", one.auroc_deferred)


_DETAILS: Final[dict[Caution, Callable[[CandidateFigures], str]]] = {
    Caution.INVERTED: _inverted,
    Caution.CHANCE: lambda one: _auroc_text("AUROC", one.auroc),
    Caution.USELESS_ON_DEFERRED: lambda one: _auroc_text("AUROC there", one.auroc_deferred),
    Caution.NO_GAIN: lambda one: f"gain {one.gain.value:.4f} [{one.gain.low:.4f}, {one.gain.high:.4f}]",
    Caution.SATURATED: _extreme,
    Caution.MISSING: lambda one: f"{one.missing:,} of {one.n:,}",
}


def _few_labels(level: LevelComparison) -> list[str]:
    if level.n_criterion < FEW or level.n_minor < MIN_LABELS:
        return [
            f"Too few labels: {level.n_criterion} labelled inputs, of which {level.n_minor} carry the comparison. "
            f"Look at the intervals, and label at least {FEW} inputs before you act on them."
        ]
    return []


def _undecided(level: LevelComparison) -> list[str]:
    challenger, needed = level.recommendation.challenger, level.recommendation.rows_needed
    if challenger is None or needed is None or not level.n_criterion < needed <= _TOO_MANY * level.n_criterion:
        return []
    return [
        f"Too few labels to tell whether {challenger} is better than {level.baseline}: if its lead is as large as it "
        f"looks, about {needed:,} labelled inputs in place of {level.n_criterion:,} would show it (with a chance of "
        f"80 %)."
    ]
