from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.decision import accept
from bisupervised.errors import InputError
from bisupervised.evaluation import false_alarm_threshold, s_beta, supervised_table
from bisupervised.evaluation.supervised import false_alarm_rate, system_false_alarm_threshold
from evaluation.made import THRESHOLDS, a_table, rows

NAN, INF = float("nan"), float("inf")
TARGETS = st.sampled_from([0.0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.99, 1.0])


@settings(deadline=None, max_examples=300)
@given(rows(), TARGETS)
def test_the_false_alarm_threshold_is_the_largest_that_keeps_the_target(made: tuple, target: float) -> None:
    confidences, correct, _, _ = made
    threshold = false_alarm_threshold(confidences, correct, target)
    total = int(correct.sum())
    alarms = int((correct & ~accept(confidences, threshold)).sum())
    without = int((correct & np.isnan(confidences)).sum())
    if without > target * total + 1e-9:
        assert threshold == -INF
        assert alarms == without
        return
    assert alarms <= target * total + 1e-9
    for larger in [*confidences[confidences > threshold].tolist(), np.nextafter(threshold, INF), INF]:
        if larger > threshold:
            assert (correct & ~accept(confidences, larger)).sum() > target * total + 1e-9


@settings(deadline=None, max_examples=200)
@given(rows(), TARGETS, st.sampled_from(THRESHOLDS))
def test_the_systems_false_alarms_are_counted_over_both_levels(made: tuple, target: float, local_at: float) -> None:
    local, left, remote, right = made
    threshold = system_false_alarm_threshold(a_table(*made), local_at, target)
    deferred = ~accept(local, local_at)
    taken = np.where(deferred, right, left)

    def alarms(remote_at: float) -> int:
        return int((taken & deferred & ~accept(remote, remote_at)).sum())

    allowed = target * taken.sum() + 1e-9
    if alarms(-INF) > allowed:
        assert threshold == -INF
        return
    assert alarms(threshold) <= allowed
    for larger in [*remote[remote > threshold].tolist(), INF]:
        if larger > threshold:
            assert alarms(larger) > allowed


@pytest.mark.parametrize(
    ("confidences", "correct", "target", "threshold"),
    [
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], 0.0, 0.1),
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], 0.5, 0.3),
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], 0.49, 0.2),
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], 1.0, INF),
        ([0.2, 0.2, 0.2, 0.4], [1, 1, 1, 1], 0.5, 0.2),  # a tie cannot be divided: rejecting it would be 3 of 4
        ([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], 0.0, 0.2),
        ([NAN, 0.2, 0.3, 0.4], [1, 1, 1, 1], 0.25, 0.2),  # NaN has used the one false alarm
        ([NAN, 0.2, 0.3, 0.4], [1, 1, 1, 1], 0.0, -INF),  # and none is allowed
        ([NAN, 0.2, 0.3, 0.4], [0, 1, 1, 1], 0.0, 0.2),  # a wrong prediction's NaN is no false alarm
        ([0.1, 0.2], [0, 0], 0.1, INF),  # nothing correct: no threshold is a false alarm
    ],
)
def test_false_alarm_thresholds_by_hand(confidences: list, correct: list, target: float, threshold: float) -> None:
    assert false_alarm_threshold(np.array(confidences), np.array(correct, bool), target) == threshold
    assert false_alarm_threshold(np.array(confidences), np.array(correct, float), target) == threshold


def test_three_tenths_of_ten_are_three() -> None:
    # 0.3 * 10 = 3, but 0.1 * 3 * 10 and 0.29999999999999999 * 10 must not lose one to rounding.
    confidences = np.arange(10) / 10
    for target in (0.3, 0.1 * 3, 1 - 0.7):
        assert false_alarm_threshold(confidences, np.ones(10, bool), target) == 0.3
    assert false_alarm_threshold(np.arange(100.0), np.ones(100, bool), 0.29) == 29.0


@pytest.mark.parametrize("target", [-0.1, 1.1, NAN, 5])
def test_a_rate_outside_0_and_1_is_refused(target: float) -> None:
    with pytest.raises(InputError, match="false alarm rate"):
        false_alarm_threshold(np.array([0.1]), np.array([True]), target)


def test_grades_are_read_as_correct_from_a_half_on_by_threshold_and_rate_alike() -> None:
    confidences = np.arange(10) / 10
    grades = np.array([0.6, 0.4, 1.0, 0.5, 0.2, 0.9, 0.1, 1.0, 0.7, 0.8])
    threshold = false_alarm_threshold(confidences, grades, 0.3)
    accepted = accept(confidences, threshold)
    assert false_alarm_rate(grades, accepted) == false_alarm_rate(grades >= 0.5, accepted) == 2 / 7
    for row in supervised_table(a_table(confidences, grades, confidences[::-1], grades), {"half": 0.45}, [0.1, 0.3]):
        assert row.false_alarm_rate <= row.false_alarm_target + 1e-9


def test_the_false_alarm_rate_of_nothing_correct_is_not_known() -> None:
    assert math.isnan(false_alarm_rate(np.zeros(3, bool), np.ones(3, bool)))


def test_s_beta_is_the_weighted_harmonic_mean() -> None:
    assert s_beta(0.8, 0.5, 1.0) == pytest.approx(2 / (1 / 0.8 + 1 / 0.5))
    assert s_beta(0.7, 0.7, 2.0) == pytest.approx(0.7)
    # beta > 1 favours coverage: S_2 is nearer to it, S_0.5 to the objective.
    assert s_beta(0.9, 0.5, 2.0) < s_beta(0.9, 0.5, 1.0) < s_beta(0.9, 0.5, 0.5)
    assert math.isnan(s_beta(0.0, 0.0, 1.0))
    assert math.isnan(s_beta(NAN, 0.5, 1.0))


def test_the_table_has_a_row_for_each_point_and_target_and_both_baselines() -> None:
    local, remote = np.linspace(0, 1, 50), np.linspace(1, 0, 50)
    table = a_table(local, local > 0.3, remote, remote > 0.1)
    found = supervised_table(table, {"a": 0.5, "b": 0.2}, [0.05, 0.1])
    assert [(row.point, row.false_alarm_target) for row in found] == [
        (point, target) for target in (0.05, 0.1) for point in ("local only", "a", "b", "remote only")
    ]
    assert math.isnan(found[0].remote_acceptance_rate)
    assert found[0].request_rate == 0.0
    assert found[3].request_rate == 1.0
