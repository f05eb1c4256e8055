"""The target of those who must answer for a figure: limits that are kept, with a stated confidence, or a clear no."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from bisupervised.calibration.choice import Choice, calibration_rows
from bisupervised.calibration.guarantees import certified, certify
from bisupervised.calibration.joint import choose_jointly
from bisupervised.calibration.limits import Limits, Prices
from bisupervised.calibration.rule import CalibrationRows, Rule
from bisupervised.decision import first_level
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
    possible is the price per input: `error_cost` (0 unless given) for a wrong answer that was accepted,
    `abstention_cost` (1) for an input without one, `request_cost` (0.3, or 0 where `request_rate` limits them) for a
    remote request: by default coverage - 0.3 * request rate is as large as it can be. `cost` limits that price, and
    needs all three.
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
        if self.cost is not None and None in (self.error_cost, self.abstention_cost, self.request_cost):
            raise InputError(
                "a limit on the cost per input needs the costs of an error, of an abstention and of a request"
            )

    @property
    def prices(self) -> Prices:
        """The price per input that is made as small as possible."""
        request = 0.3 if self.request_rate is None else 0.0
        return Prices(
            0.0 if self.error_cost is None else self.error_cost,
            1.0 if self.abstention_cost is None else self.abstention_cost,
            request if self.request_cost is None else self.request_cost,
        )

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
            return Choice.of(_plain(found.rule, labelled))
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
        rule = _plain(guarantee.rule, labelled)
        remarks = self._check_unlabelled(rows, len(labelled), rule)
        evidence = {**guarantee.evidence(), "prices": asdict(self.prices)}
        if remarks:
            evidence["remarks"] = [*evidence.get("remarks", []), *remarks]
        return Choice.of(rule, evidence=evidence)

    def _check_unlabelled(self, rows: Table, labelled: int, rule: Rule) -> list[str]:
        """What to say of rows without a label. Raises `InfeasibleTarget` where these are so unlike the labelled ones
        that the request rate, which needs no label, is above its limit among all rows."""
        left_out = len(rows) - labelled
        if not left_out:
            return []
        _, deferred = first_level(rows.local.confidences, rule.local, rule.abstain)
        rate = float(deferred.mean())
        if self.request_rate is not None and rate > self.request_rate:
            raise InfeasibleTarget(
                f"infeasible: the {labelled} labelled rows would keep the request rate, but among all {len(rows)} "
                f"rows it is {rate:.3f}: the labelled ones are no random sample. Label rows that are drawn at random"
            )
        return [
            f"{left_out} of {len(rows)} rows have no label, or not both models' answers, and are left out: the "
            f"promise is one for inputs like the other {labelled}. Among all rows the request rate is {rate:.3f}."
        ]


def _plain(rule: Rule, rows: CalibrationRows) -> Rule:
    """The rule without early abstention where no row has a local confidence: nothing is known of such inputs.

    Elsewhere the rule stays what was certified, also where no row lies below its abstention threshold.
    """
    return Rule(rule.local, rule.remote) if np.isnan(rows.local_confidence).all() else rule
