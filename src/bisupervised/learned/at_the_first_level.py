"""A learned supervisor where the running system reads one model output: as the quantifier of the 1st level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bisupervised.errors import InputError
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.reading import LevelView, columns_of, known_names
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.quantifiers import CostClass, MaxSoftmax, Quantifier
from bisupervised.quantifiers.port import cost_class_of
from bisupervised.records import Evidence, FloatArray, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class LearnedConfidence:
    """confidence = what the learned supervisor makes of the local output; the `quantifier` gives `local_confidence`.

    The quantifier must be the one whose confidences were recorded in the table that the supervisor was fitted on.
    Columns that no output holds (the user's own, and the remote level's) are refused with `InputError`.
    """

    supervisor: StackedSupervisor | DeferralHead
    quantifier: Quantifier = field(default_factory=MaxSoftmax)
    name: ClassVar[str] = "learned"

    def __post_init__(self) -> None:
        known = known_names({"local": LevelView.nothing()})
        unknown = [name for name in self.supervisor.columns if name not in known]
        if unknown:
            raise InputError(
                f"the supervisor reads {', '.join(unknown)}, which the local model's output does not hold; there are "
                f"{', '.join(known)}"
            )

    @property
    def needs(self) -> Evidence | None:
        """What the quantifier needs."""
        return self.quantifier.needs

    @property
    def extra_calls(self) -> int:
        """What the quantifier takes."""
        return self.quantifier.extra_calls

    @property
    def cost_class(self) -> CostClass:
        """C1, or that of a dearer quantifier."""
        return max(CostClass.C1, cost_class_of(self.quantifier))

    def __call__(self, output: ModelOutput) -> FloatArray:
        """(n,) confidences; NaN where the quantifier gives NaN and nothing else is known."""
        view = {"local": LevelView.of(output, self.quantifier(output))}
        return self.supervisor(columns_of(view, self.supervisor.columns))
