"""Whatever computes with thresholds agrees with `decision.decide`, at every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration.joint_grid import joint_grid
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.decision import accept, decide, decide_and_answer
from bisupervised.evaluation import (
    DeferralOrder,
    evaluate_at,
    request_accuracy_curve,
    risk_coverage,
    supervised_table,
    system_figures,
)
from bisupervised.evaluation.request_accuracy import achieved_request_rate
from bisupervised.evaluation.system import bisupervised, local_only, remote_only
from bisupervised.records import Route
from evaluation.made import ODD, THRESHOLDS, a_table, random_rows, rows

pytestmark = pytest.mark.filterwarnings("error")
a_threshold = st.sampled_from(THRESHOLDS)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(ODD), a_threshold)
def test_a_scalar_is_accepted_iff_an_array_of_it_is(confidence: float, threshold: float) -> None:
    alone = confidence >= threshold
    assert accept(confidence, threshold) == alone
    assert accept(np.array([confidence, confidence]), threshold).tolist() == [alone, alone]
    assert not (math.isnan(confidence) and alone)


@settings(deadline=None, max_examples=150)
@given(rows(), a_threshold, a_threshold)
def test_the_systems_figures_count_the_routes_of_decide(made: tuple, local_at: float, remote_at: float) -> None:
    local, left, remote, right = made
    figures = system_figures(bisupervised(a_table(*made), local_at, remote_at))
    # In plain Python, one input at a time, from the paper's figure.
    routes = []
    for c1, c2 in zip(local.tolist(), remote.tolist(), strict=True):
        routes.append(Route.LOCAL if c1 >= local_at else Route.REMOTE if c2 >= remote_at else Route.REJECTED)
    assert decide(local, local_at, remote, remote_at).tolist() == routes
    n = len(routes)
    taken = [bool(left[i]) if r is Route.LOCAL else bool(right[i]) for i, r in enumerate(routes)]
    accepted = [i for i, r in enumerate(routes) if r is not Route.REJECTED]
    assert figures.request_rate.value == pytest.approx(sum(r is not Route.LOCAL for r in routes) / n)
    assert figures.system_accuracy.value == pytest.approx(sum(taken) / n)
    assert figures.coverage.value == pytest.approx(len(accepted) / n)
    assert figures.route_shares == pytest.approx({r.label: routes.count(r) / n for r in Route})
    if accepted:
        assert figures.supervised_accuracy.value == pytest.approx(sum(taken[i] for i in accepted) / len(accepted))
    else:
        assert math.isnan(figures.supervised_accuracy.value)
    if any(taken):
        alarms = sum(taken[i] for i in range(n) if i not in accepted)
        assert figures.false_alarm_rate == pytest.approx(alarms / sum(taken))
    else:
        assert math.isnan(figures.false_alarm_rate)


@settings(deadline=None, max_examples=150)
@given(rows(graded=True))
def test_every_point_of_the_curve_is_what_its_threshold_gives(made: tuple) -> None:
    local, left, _, right = made
    curve = request_accuracy_curve(local, left, right)
    table = a_table(*made)
    for rate, accuracy, threshold in zip(curve.request_rates, curve.system_accuracy, curve.thresholds, strict=True):
        if math.isnan(threshold):
            continue
        figures = system_figures(bisupervised(table, threshold, -np.inf))
        assert figures.request_rate.value == pytest.approx(rate, abs=1e-12)
        assert figures.system_accuracy.value == pytest.approx(accuracy, abs=1e-12)
        assert achieved_request_rate(local, threshold) == pytest.approx(rate, abs=1e-12)


@settings(deadline=None, max_examples=150)
@given(rows(), a_threshold)
def test_every_threshold_gives_a_point_of_the_curve(made: tuple, threshold: float) -> None:
    local, left, _, right = made
    curve = request_accuracy_curve(local, left, right)
    deferred = ~accept(local, threshold)
    (index,) = np.flatnonzero(np.isclose(curve.request_rates, deferred.mean()))
    assert not math.isnan(curve.thresholds[index])
    assert curve.system_accuracy[index] == pytest.approx(np.where(deferred, right, left).mean())


@settings(deadline=None, max_examples=100)
@given(rows())
def test_only_what_no_threshold_can_do_has_the_threshold_nan(made: tuple) -> None:
    local, left, _, right = made
    curve = request_accuracy_curve(local, left, right)
    unattained = np.isnan(curve.thresholds)
    assert unattained[0] == np.isnan(local).any()
    assert unattained[-1] == np.isposinf(local).any()
    assert not unattained[1:-1].any()
    order = DeferralOrder.of(local)
    assert list(order.attainable) == np.flatnonzero(~unattained).tolist()


@settings(deadline=None, max_examples=100)
@given(rows(), st.sampled_from([0.0, 0.05, 0.3, 0.5, 1.0]), a_threshold)
def test_the_supervised_table_is_the_system_at_its_thresholds(made: tuple, target: float, point: float) -> None:
    table = a_table(*made)
    for row in supervised_table(table, {"here": point}, [target]):
        if row.point == "local only":
            figures = system_figures(local_only(table, row.local_threshold))
        elif row.point == "remote only":
            figures = system_figures(remote_only(table, row.remote_threshold))
        else:
            assert row.local_threshold == point
            figures = system_figures(bisupervised(table, row.local_threshold, row.remote_threshold))
        assert row.request_rate == pytest.approx(figures.request_rate.value)
        assert row.coverage == pytest.approx(figures.coverage.value)
        assert row.supervised_accuracy == pytest.approx(figures.supervised_accuracy.value, nan_ok=True)
        assert row.false_alarm_rate == pytest.approx(figures.false_alarm_rate, nan_ok=True)
        assert row.s_beta == pytest.approx(figures.s_beta, nan_ok=True)


@settings(deadline=None, max_examples=100)
@given(rows(graded=True), st.sampled_from([3, 4, 7, 400]))
def test_the_grid_is_the_system_at_every_pair_of_thresholds(made: tuple, points: int) -> None:
    local, left, remote, right = made
    grid = joint_grid(CalibrationRows.of(local, left, remote, right), local_points=points, remote_points=points)
    assert grid.local_thresholds[[0, -1]].tolist() == [-np.inf, np.inf]
    assert (np.diff(grid.local_thresholds) > 0).all()
    counts = grid.counts(0)
    for i, local_at in enumerate(grid.local_thresholds):
        for j, remote_at in enumerate(grid.remote_thresholds):
            routes = decide(local, local_at, remote, remote_at)
            taken = np.where(routes == Route.LOCAL, left, right).astype(float)
            accepted = routes != Route.REJECTED
            assert counts.requests[i, 0] == (routes != Route.LOCAL).sum()
            assert counts.accepted[i, j] == accepted.sum()
            assert counts.loss[i, j] == pytest.approx(((1 - taken) * accepted).sum(), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(rows())
def test_the_risk_coverage_curve_is_one_supervisor_at_each_threshold(made: tuple) -> None:
    confidences, correct, _, _ = made
    curve = risk_coverage(confidences, correct)
    found = dict(zip(curve.coverages.round(9).tolist(), curve.risks.tolist(), strict=True))
    for threshold in confidences[~np.isnan(confidences)]:
        accepted = accept(confidences, threshold)
        assert found[round(float(accepted.mean()), 9)] == pytest.approx(1.0 - correct[accepted].mean())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_confidences_of_few_bits_are_compared_as_what_they_are(dtype: type) -> None:
    local, left, remote, right = random_rows(500)
    local, remote = local.astype(dtype), remote.astype(dtype)
    wide = local.astype(np.float64)
    curve = request_accuracy_curve(local, left, right)
    assert (curve.thresholds == request_accuracy_curve(wide, left, right).thresholds).all()
    # Thresholds between the numbers, such as 0.7, which no float32 is.
    for threshold in [*np.linspace(0, 1, 101), *curve.thresholds, np.nextafter(float(local[0]), 1.0)]:
        routes = decide(local, threshold, remote, 0.7)
        assert (routes == decide(wide, threshold, remote.astype(np.float64), 0.7)).all()
        deferred = (routes != Route.LOCAL).mean()
        assert (routes != Route.LOCAL).tolist() == [not c >= threshold for c in wide.tolist()]
        assert np.isclose(curve.request_rates, deferred).any()
        assert accept(local[0], threshold) == (float(local[0]) >= threshold)


def test_deciding_with_answers_takes_the_model_of_the_route() -> None:
    local, _, remote, _ = random_rows(300, levels=10)
    left, right = np.arange(300), -np.arange(300)
    routes, answers = decide_and_answer(local, 0.5, remote, 0.2, left, right)
    assert (routes == decide(local, 0.5, remote, 0.2)).all()
    assert (answers == np.where(routes == Route.LOCAL, left, right)).all()


@settings(deadline=None, max_examples=25)
@given(rows(), a_threshold, a_threshold)
def test_an_evaluation_of_any_rows_reports_its_systems_and_never_warns(
    made: tuple, local_at: float, remote_at: float
) -> None:
    table = a_table(*made)
    evaluation = evaluate_at(table, local_at, remote_at)
    whole = system_figures(bisupervised(table, local_at, remote_at))
    assert evaluation.systems["bisupervised"].request_rate == whole.request_rate
    assert evaluation.systems["bisupervised"].coverage == whole.coverage
    coverage = whole.coverage.value
    for name, confidences in (("local", made[0]), ("remote", made[2])):
        # A baseline rejects as much as the cascade, or less: ties, +inf and NaN are all that may stand between.
        known = float((~np.isnan(confidences)).mean())
        assert evaluation.systems[f"{name}_only_supervised"].coverage.value >= min(coverage, known) - 1e-9
