"""Thresholds with guarantees: each result carries its evidence, or says what the rows at hand could support.

Which one: `request_budget` (no labels), `false_alarm_rate` and `system_false_alarm_rate` (order statistics),
`selective_risk` (one supervisor), `certify` (all thresholds together, any set of limits), `expected_loss` (on
average), `by_group` (any of them for each group), `supports` (what n rows can say, before there are any).
"""

from bisupervised.calibration.guarantees.conformal import expected_error_rate, expected_loss
from bisupervised.calibration.guarantees.evidence import Certified, Guarantee, Infeasible, certified
from bisupervised.calibration.guarantees.groups import ByGroup, by_group
from bisupervised.calibration.guarantees.order_statistics import (
    false_alarm_rate,
    request_budget,
    system_false_alarm_rate,
)
from bisupervised.calibration.guarantees.pareto import certify
from bisupervised.calibration.guarantees.selective_risk import selective_risk
from bisupervised.calibration.guarantees.support import Support, rows_needed, supports

__all__ = [
    "ByGroup",
    "Certified",
    "Guarantee",
    "Infeasible",
    "Support",
    "by_group",
    "certified",
    "certify",
    "expected_error_rate",
    "expected_loss",
    "false_alarm_rate",
    "request_budget",
    "rows_needed",
    "selective_risk",
    "supports",
    "system_false_alarm_rate",
]
