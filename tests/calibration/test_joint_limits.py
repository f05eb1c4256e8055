"""Prices and limits."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.calibration.limits import COVERAGE, REQUESTS, Limits, Prices, utility
from bisupervised.calibration.rule import Counts
from bisupervised.errors import InputError

COUNTS = Counts(n=100, accepted=80, loss=8.0, requests=30, early=5)


def test_a_price_adds_up_errors_abstentions_and_requests() -> None:
    assert Prices(error=1.0, abstention=0.5, request=0.1).total(COUNTS) == pytest.approx(8 + 10 + 3)
    assert 1.0 - utility(0.3).total(COUNTS) / 100 == pytest.approx(0.8 - 0.3 * 0.3)
    assert COVERAGE.total(COUNTS) == 20
    assert REQUESTS.total(COUNTS) == 30
    assert Prices(1.0, 0.5, 0.1).dearest == pytest.approx(1.1)


def test_limits_are_met_or_exceeded_by_so_many_inputs() -> None:
    limits = Limits(risk=0.1, request_rate=0.2, abstention=0.25, cost=0.2, prices=Prices(1.0, 0.5, 0.1))
    over = limits.excess(COUNTS)
    assert over == pytest.approx({"risk": 0.0, "request_rate": 10.0, "abstention": -5.0, "cost": 1.0})
    assert not limits.within(COUNTS)
    assert Limits(risk=0.1, abstention=0.2).within(COUNTS)
    assert Limits().within(COUNTS)


def test_a_rule_that_accepts_nothing_keeps_to_every_risk() -> None:
    assert Limits(risk=0.0).within(Counts(100, 0, 0.0, 0, 100))


def test_limits_of_many_rules_are_read_at_once() -> None:
    many = Counts(100, np.array([80, 90]), np.array([8.0, 18.0]), np.array([30, 30]), np.array([0, 0]))
    assert Limits(risk=0.1).within(many).tolist() == [True, False]


def test_at_least_is_at_most_the_other_way_round() -> None:
    limits = Limits.least(coverage=0.8, supervised_accuracy=0.9)
    assert limits.given == pytest.approx({"risk": 0.1, "abstention": 0.2})
    assert limits.within(COUNTS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(risk=30),
        lambda: Limits(request_rate=-0.1),
        lambda: Limits(abstention=float("nan")),
        lambda: Limits(cost=1.0),
        lambda: Limits(prices=COVERAGE),
        lambda: Limits(cost=float("inf"), prices=COVERAGE),
        lambda: Prices(error=-1.0),
        lambda: Prices(request=float("nan")),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()
