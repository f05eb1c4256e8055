"""Request budgets and false alarm rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration.guarantees import (
    Certified,
    Infeasible,
    false_alarm_rate,
    request_budget,
    system_false_alarm_rate,
)
from bisupervised.calibration.guarantees.binomial import beta_cdf
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.decision import accept
from bisupervised.errors import InputError
from evaluation.made import ODD, random_rows

NAN, INF = float("nan"), float("inf")


def test_the_rank_is_the_largest_whose_beta_distribution_keeps_the_budget() -> None:
    scores = np.random.default_rng(0).permutation(500).astype(float)
    found = request_budget(scores, 0.3)
    rank = found.counts["rank"]
    assert beta_cdf(0.3, rank, 501 - rank) >= 0.9 > beta_cdf(0.3, rank + 1, 500 - rank)
    assert found.thresholds == {"local": rank - 1.0}
    assert found.counts["below"] == rank - 1
    assert 0.29 < found.bounds["request_rate"] <= 0.3


def test_on_average_the_rank_is_the_budget_of_one_row_more() -> None:
    scores = np.arange(99.0)
    assert request_budget(scores, 0.3, delta=None).counts["rank"] == 30
    assert request_budget(scores[:98], 0.3, delta=None).counts["rank"] == 29
    assert request_budget(scores, 0.3, delta=None).sentence.startswith("On average over calibration rows and inputs")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(ODD), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.3, 0.5, 0.9]),
    st.sampled_from([None, 0.1, 0.4]),
)
def test_the_budget_holds_on_the_calibration_rows_whatever_is_tied_or_missing(
    scores: list[float], budget: float, delta: float | None
) -> None:
    found = request_budget(np.array(scores), budget, delta=delta)
    missing = sum(map(math.isnan, scores))
    if isinstance(found, Infeasible):
        # With few rows nothing excludes that inputs have no confidence, which count whatever the threshold.
        assert missing > 0 or np.isinf(found.lowest["request_rate"]) or found.lowest["request_rate"] > budget
        return
    deferred = np.count_nonzero(~accept(np.array(scores), found.thresholds["local"]))
    assert deferred <= max(found.counts["rank"] - 1, missing)
    if delta is None:
        assert deferred <= budget * (len(scores) + 1)


def test_too_few_rows_certify_nothing_and_say_how_many_it_takes() -> None:
    found = request_budget(np.arange(6.0), 0.3)
    assert isinstance(found, Infeasible)
    assert found.more_rows is not None
    assert "cannot exclude that as many inputs have no confidence" in found.reason
    assert request_budget(np.arange(6.0 + found.more_rows), 0.3)
    broken = 0
    draw = np.random.default_rng(0)
    for _ in range(500):  # a few inputs have no confidence, and 100 rows often show none of them
        scores = np.where(draw.random(100) < 0.011, np.nan, draw.random(100))
        broken += bool(request_budget(scores, 0.01))
    assert broken == 0


def test_missing_confidences_use_up_the_budget_first() -> None:
    scores = np.arange(100.0)
    full = request_budget(scores, 0.3).counts["rank"]
    scores[:10] = NAN
    assert request_budget(scores, 0.3).thresholds == {"local": float(full - 1)}
    scores[:50] = NAN
    found = request_budget(scores, 0.3)
    assert isinstance(found, Infeasible)
    assert not found
    assert found.lowest["request_rate"] > 0.5
    assert found.more_rows is None
    assert "50 of them have no confidence" in found.sentence


def test_a_share_of_missing_confidences_below_the_budget_is_a_matter_of_rows() -> None:
    scores = np.where(np.arange(100) < 25, NAN, np.arange(100.0))
    found = request_budget(scores, 0.3)
    assert isinstance(found, Infeasible)
    more = 100 + found.more_rows
    larger = np.where(np.arange(more) < math.ceil(0.25 * more), NAN, np.arange(float(more)))
    assert isinstance(request_budget(larger, 0.3), Certified)
    assert f"{found.more_rows} more rows would certify 0.3 at the present rates" in found.sentence


def test_a_tied_threshold_defers_fewer_and_never_more() -> None:
    """The paper's code takes the confidence at a quantile index, and defers fewer where it is tied: so here, and it
    is stated."""
    scores = np.repeat([0.1, 0.5, 0.9], [10, 80, 10])
    found = request_budget(scores, 0.3)
    assert found.thresholds == {"local": 0.5}
    assert found.counts["below"] == 10
    assert found.counts["tied"] == 80


def test_false_alarms_are_counted_over_the_correct_predictions_alone() -> None:
    scores, correct = np.arange(200.0), np.arange(200) % 2 == 0
    found = false_alarm_rate(scores, correct, 0.1)
    alone = request_budget(scores[correct], 0.1)
    assert found.thresholds == alone.thresholds
    assert found.n == 100
    assert false_alarm_rate(scores, correct, 0.1, delta=None).counts["rank"] == 10
    assert false_alarm_rate(scores, correct, 0.1, level="remote").thresholds.keys() == {"remote"}


def test_the_row_on_the_threshold_is_accepted_and_the_target_is_not_gone_past() -> None:
    """The paper's search stops at the first threshold that reaches the target or goes past it, rejects by `<`,
    reports by `>`, and tries every score for O(n^2)."""
    scores = np.repeat(np.arange(30.0), 10)
    for delta in (None, 0.1):
        for target in (0.05, 0.1, 0.3):
            found = false_alarm_rate(scores, np.ones(300), target, delta=delta)
            accepted = accept(scores, found.thresholds["local"])
            assert accepted[scores == found.thresholds["local"]].all()
            assert np.mean(~accepted) <= target
            assert found.counts["below"] == np.count_nonzero(~accepted)


def test_no_correct_prediction_leaves_nothing_to_be_alarmed_about() -> None:
    found = false_alarm_rate(np.arange(5.0), np.zeros(5), 0.1)
    assert "no correct prediction" in found.sentence


def test_the_systems_false_alarms_count_local_answers_that_are_never_rejected() -> None:
    rows = CalibrationRows.of(*random_rows(2000))
    found = system_false_alarm_rate(rows, 0.5, 0.05)
    deferred = rows.local_confidence < 0.5
    right = np.where(deferred, rows.remote_loss, rows.local_loss) == 0.0
    assert found.n == right.sum()
    rejected = right & deferred & ~accept(rows.remote_confidence, found.thresholds["remote"])
    assert rejected.sum() == found.counts["rank"] - 1
    assert found.rule.local == 0.5
    looser = system_false_alarm_rate(rows, 0.9, 0.05)
    assert looser.thresholds["remote"] < found.thresholds["remote"]


def test_correct_predictions_abstained_on_early_are_false_alarms_already() -> None:
    rows = CalibrationRows.of(*random_rows(2000))
    without = system_false_alarm_rate(rows, 0.5, 0.1)
    some = system_false_alarm_rate(rows, 0.5, 0.1, abstain=0.1)
    assert some.thresholds["remote"] < without.thresholds["remote"]
    assert isinstance(system_false_alarm_rate(rows, 0.5, 0.1, abstain=0.5), Infeasible)


@pytest.mark.parametrize("budget", [0.0, 1.0, 30, -0.1, NAN])
def test_a_target_that_is_no_share_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="a request budget is a share"):
        request_budget(np.arange(5.0), budget)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(InputError, match="delta is a share"):
        request_budget(np.arange(5.0), 0.3, delta=delta)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError):
        request_budget(np.array([]), 0.3)
