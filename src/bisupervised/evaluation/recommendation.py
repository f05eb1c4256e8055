"""Which supervisor to use: the baseline, unless another one is shown to be better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from bisupervised.evaluation.influence import Influence, difference
from bisupervised.evaluation.labels_needed import MIN_LABELS
from bisupervised.quantifiers import CostClass

if TYPE_CHECKING:
    from bisupervised.evaluation.compared import CandidateFigures

#: The chance with which a difference as large as the one seen is to be found.
POWER: Final = 0.8


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The supervisor to use, and why."""

    name: str
    reason: str  #: a sentence
    useful: bool  #: whether it is shown to be better than chance
    challenger: str | None = None  #: the best of those that are ahead of the baseline and not shown to be better
    rows_needed: int | None = None  #: labelled rows at which a lead as large as the challenger's would be significant


def recommend(
    candidates: Sequence[CandidateFigures],
    baseline: str,
    influences: Mapping[str, Influence],
    *,
    chance: float,
    n_minor: int,
    n: int,
    alpha: float,
) -> Recommendation:
    """The one to use of `candidates`, best first, by figures of n inputs of which `n_minor` carry the comparison.

    Those that are better than the baseline with an adjusted p-value of at most `alpha`, and better than chance, come
    into question; of them the best, or, where a cheaper one is not distinguishable from it, the best of the cheapest.
    With fewer than 20 inputs that carry the comparison a normal error says nothing, and the baseline stays.
    """
    base = next(one for one in candidates if one.name == baseline)
    others = [one for one in candidates if one.name != baseline]
    if math.isnan(base.criterion.value):
        return Recommendation(
            baseline, "All predictions are right, or all wrong: no supervisor can be judged.", False
        )
    useful = base.criterion.low > chance
    if n_minor < MIN_LABELS:
        return Recommendation(
            baseline, f"Only {n_minor} labelled inputs carry the comparison, and it takes {MIN_LABELS}.", useful
        )
    better = [
        one for one in others if one.versus.value > 0.0 and one.p_adjusted <= alpha and one.criterion.low > chance
    ]
    if better:
        return _of_the_better(better, influences, alpha)
    ahead = [one for one in others if one.versus.value > 0.0 and one.criterion.value > chance]
    if not ahead:
        return Recommendation(baseline, _alone(others, useful), useful)
    challenger = ahead[0]
    needed = rows_to_decide(challenger.versus.value, challenger.versus.standard_error, n, len(others), alpha)
    reason = (
        f"{challenger.name} is ahead by {_small(challenger.versus.value)}, which these rows do not show to be more "
        f"than chance (p = {challenger.p_adjusted:.2f} among {len(others)})."
    )
    return Recommendation(baseline, reason if useful else f"{_HELPLESS} {reason}", useful, challenger.name, needed)


def _small(lead: float) -> str:
    return "less than 0.0001" if lead < 0.0001 else f"{lead:.4f}"


_HELPLESS: Final = "It is not shown to be better than chance, and none of the others is shown to be better."


def _alone(others: Sequence[CandidateFigures], useful: bool) -> str:
    if not useful:
        return _HELPLESS if others else "It is not shown to be better than chance, and there is no other."
    return "No other supervisor is ahead of it." if others else "There is no other to compare it with."


def _of_the_better(
    better: Sequence[CandidateFigures], influences: Mapping[str, Influence], alpha: float
) -> Recommendation:
    best = better[0]

    def is_as_good(one: CandidateFigures) -> bool:
        return not difference(influences[best.name], influences[one.name]).p_value <= alpha

    as_good = [best, *(one for one in better[1:] if is_as_good(one))]
    chosen = min(as_good, key=lambda one: _price(one.cost_class))  # the first, so the best, of the cheapest
    reason = (
        f"Better than the baseline by {chosen.versus.value:.4f} [{chosen.versus.low:.4f}, {chosen.versus.high:.4f}] "
        f"(p {'< .001' if chosen.p_adjusted < 0.001 else f'= {chosen.p_adjusted:.3f}'} among all candidates)."
    )
    if chosen is not best:
        reason += f" {best.name} is not shown to be better than it, and costs more."
    return Recommendation(chosen.name, reason, True)


def _price(cost_class: CostClass | None) -> str:
    return "not known" if cost_class is None else cost_class.value  # which sorts behind C4


def rows_to_decide(lead: float, standard_error: float, n: int, tests: int, alpha: float) -> int | None:
    """Labelled rows at which a true lead of this size is significant with a chance of 80 %, with `tests` candidates.

    n ((z_{1 - alpha / 2 tests} + z_{.8}) se / lead)^2, the error shrinking with the root of the rows. The tests are
    counted one by one (Bonferroni), which asks for a little too many. None where it cannot be known.

    >>> rows_to_decide(0.01, 0.01, 1000, 1, 0.05)
    7849
    """
    if not lead > 0.0 or not standard_error > 0.0:
        return None
    normal = NormalDist()
    z = normal.inv_cdf(1.0 - alpha / (2.0 * max(tests, 1))) + normal.inv_cdf(POWER)
    return math.ceil(n * (z * standard_error / lead) ** 2)
