"""The target of those who must answer for a figure: limits that are kept, with a stated confidence, or a clear no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bisupervised.calibration.choice import Choice, calibration_rows
from bisupervised.calibration.guarantees import certified, certify
from bisupervised.calibration.joint import choose_jointly
from bisupervised.calibration.limits import Limits, Prices
from bisupervised.errors import InfeasibleTarget, InputError
from bisupervised.records import PairConfidences
from bisupervised.table import Table

MIN_ROWS = 20


@dataclass(frozen=True, slots=True)
class WithinLimits:
    """The cheapest thresholds, all of them together, that keep to every limit: on future inputs with probability
    1 - `delta` over the calibration rows (Pareto testing), or, with `delta=None`, on the calibration rows only.

    Limits are shares in [0, 1], None: any. `risk` is the share of wrong answers among the accepted (1 - supervised
    accuracy), `abstention` the share of inputs without a trusted answer, early or late. What is made as small as
    possible is the price per input: `error_cost` for a wrong answer that was accepted, `abstention_cost` for an
    input without one, `request_cost` for a remote request; `cost` limits it. By default an abstention costs 1 and a
    request 0.3 (0 where `request_rate` limits them): coverage - 0.3 * request rate is as large as it can be.
    """

    risk: float | None = None
    request_rate: float | None = None
    abstention: float | None = None
    cost: float | None = None
    delta: float | None = 0.1
    error_cost: float | None = None
    abstention_cost: float | None = None
    request_cost: float | None = None
    early_abstention: bool = True
    seed: int = 0
    name: ClassVar[str] = "within_limits"

    def __post_init__(self) -> None:
        if not self.limits.given:
            raise InputError("give at least one limit: risk, request_rate, abstention or cost")

    @property
    def prices(self) -> Prices:
        """The price per input that is made as small as possible."""
        if self.error_cost is self.abstention_cost is self.request_cost is None:
            return Prices(abstention=1.0, request=0.3 if self.request_rate is None else 0.0)
        return Prices(self.error_cost or 0.0, self.abstention_cost or 0.0, self.request_cost or 0.0)

    @property
    def limits(self) -> Limits:
        """What must be kept to."""
        prices = None if self.cost is None else self.prices
        return Limits(self.risk, self.request_rate, self.abstention, self.cost, prices)

    def choose(self, rows: Table, pair: PairConfidences | None = None) -> Choice:
        """The thresholds. Raises `InfeasibleTarget` with what these rows could support, and how many would do."""
        labelled = calibration_rows(rows, pair)
        if self.delta is None:
            found = choose_jointly(labelled, self.prices, self.limits, early_abstention=self.early_abstention)
            return Choice.of(found.rule)
        if len(labelled) < MIN_ROWS:
            raise InfeasibleTarget(
                f"infeasible: {len(labelled)} labelled rows are too few to certify anything; label at least "
                f"{MIN_ROWS}, or choose without a guarantee"
            )
        guarantee = certified(
            certify(
                labelled,
                self.limits,
                self.prices,
                delta=self.delta,
                early_abstention=self.early_abstention,
                seed=self.seed,
            )
        )
        return Choice.of(guarantee.rule, evidence=guarantee.evidence())
