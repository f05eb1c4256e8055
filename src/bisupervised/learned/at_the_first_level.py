"""A learned supervisor of the 1st level where the running system reads one model output."""

from __future__ import annotations

from dataclasses import dataclass

from bisupervised.errors import InputError
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.reading import LevelView, columns_of, known_names
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.records import FloatArray, ModelOutput


@dataclass(frozen=True, slots=True)
class LearnedConfidence:
    """What the learned supervisor makes of a local output and the confidences in it: `Supervisor(learned=…)`.

    The confidences are those of the level's quantifier, calibrated if it has a calibration: as they were recorded in
    the table that the supervisor was fitted on. Columns that no output holds (the user's own, and the remote level's)
    are refused with `InputError`.
    """

    supervisor: StackedSupervisor | DeferralHead

    def __post_init__(self) -> None:
        known = known_names({"local": LevelView.nothing()})
        unknown = [name for name in self.supervisor.columns if name not in known]
        if unknown:
            raise InputError(
                f"the supervisor reads {', '.join(unknown)}, which the local model's output does not hold; there are "
                f"{', '.join(known)}"
            )

    def __call__(self, output: ModelOutput, confidences: FloatArray) -> FloatArray:
        """(n,) learned confidences."""
        view = {"local": LevelView.of(output, confidences)}
        return self.supervisor(columns_of(view, self.supervisor.columns))
