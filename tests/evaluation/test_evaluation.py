from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import TableError, ThresholdError
from bisupervised.evaluation import Evaluation, evaluate_at
from bisupervised.evaluation.evaluation import threshold_for_coverage
from bisupervised.records import Route
from bisupervised.table import Table
from evaluation.made import a_table, random_rows, rows

NAN, INF = float("nan"), float("inf")


def warned(evaluation: Evaluation, words: str) -> bool:
    return any(words in sentence for sentence in evaluation.warnings)


def a_log(n: int = 400, **more: object) -> Table:
    """What a running system at thresholds 0.5 and 0.4 stores: the remote model was asked where it deferred."""
    local, left, remote, right = random_rows(n)
    asked = local < 0.5
    routes = np.where(~asked, "local", np.where(remote >= 0.4, "remote", "rejected"))
    return Table.from_columns(
        {
            "local_confidence": local,
            "local_correct": left.astype(float),
            "remote_confidence": np.where(asked, remote, NAN),
            "remote_correct": np.where(asked, right, NAN),
            "remote_asked": asked,
            "local_latency_s": np.full(n, 0.01),
            "remote_latency_s": np.where(asked, 1.0, NAN),
            "route": routes,
            **more,
        },
        costs={"local": 0.001, "remote": 0.5},
    )


@pytest.mark.parametrize("name", ["local", "remote"])
@pytest.mark.parametrize("threshold", [NAN, "high", None])
def test_a_threshold_that_is_no_number_is_refused_by_name(name: str, threshold: object) -> None:
    pair = {"local": 0.5, "remote": 0.5, name: threshold}
    with pytest.raises(ThresholdError, match=f"{name} threshold"):
        evaluate_at(a_table(*random_rows(30)), pair["local"], pair["remote"])


@pytest.mark.parametrize("pair", [(-INF, -INF), (INF, INF), (99.0, -99.0)])
def test_thresholds_outside_the_confidences_are_extremes_and_not_errors(pair: tuple) -> None:
    table = a_table(*random_rows(30))
    figures = evaluate_at(table, *pair).systems["bisupervised"]
    assert figures.request_rate.value == (0.0 if pair[0] == -INF else 1.0)
    assert figures.coverage.value == (0.0 if pair[1] == INF else 1.0)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("confidence", [0.5, NAN, INF, -INF])
def test_one_row_has_figures_without_a_warning_of_numpy(left: bool, right: bool, confidence: float) -> None:
    evaluation = evaluate_at(a_table([confidence], [left], [confidence], [right]), 0.5, 0.5)
    assert evaluation.n == 1
    assert evaluation.systems["local_only"].system_accuracy.value == left
    assert math.isnan(evaluation.supervisors["local"].auroc.value)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_correct_or_none_correct_leaves_auroc_unknown_and_nothing_broken(value: float) -> None:
    local, _, remote, right = random_rows(60)
    evaluation = evaluate_at(a_table(local, np.full(60, value), remote, right), 0.5, 0.5)
    assert math.isnan(evaluation.supervisors["local"].auroc.value)
    assert evaluation.systems["local_only"].system_accuracy.value == value
    assert evaluation.complementarity is not None
    assert evaluation.complementarity.complementarity == pytest.approx(np.mean(right != bool(value)))


def test_the_shares_of_who_is_correct_add_up() -> None:
    local, left, remote, right = random_rows(500)
    shares = evaluate_at(a_table(local, left, remote, right), 0.5, 0.5).complementarity
    assert shares is not None
    assert shares.both == np.mean(left & right)
    assert shares.only_local == np.mean(left & ~right)
    assert shares.only_remote == np.mean(~left & right)
    assert shares.both + shares.only_local + shares.only_remote + shares.neither == pytest.approx(1)


# ---------------------------------------------------------------- what a reader must be told


def test_a_constant_supervisor_is_told() -> None:
    _, left, remote, right = random_rows(300)
    evaluation = evaluate_at(a_table(np.full(300, 0.7), left, remote, right), 0.5, 0.5)
    assert warned(evaluation, "The local confidence is constant")
    assert not warned(evaluation, "The remote confidence is constant")
    assert evaluation.supervisors["local"].distinct == 1


def test_an_inverted_supervisor_is_told_with_its_interval() -> None:
    local, left, remote, right = random_rows(600)
    evaluation = evaluate_at(a_table(-local, left, remote, right), -0.5, 0.5)
    figures = evaluation.supervisors["local"].auroc
    assert warned(
        evaluation,
        f"The local supervisor is inverted: wrong predictions have the higher confidence (AUROC {figures.value:.3f} "
        f"[{figures.low:.3f}, {figures.high:.3f}])",
    )
    assert not warned(evaluate_at(a_table(local, left, remote, right), 0.5, 0.5), "inverted")


def test_a_supervisor_no_better_than_chance_is_told() -> None:
    _, left, remote, right = random_rows(600)
    noise = np.random.default_rng(9).random(600)
    assert warned(evaluate_at(a_table(noise, left, remote, right), 0.5, 0.5), "local supervisor is not shown")


def test_a_few_rows_neither_praise_nor_damn_a_supervisor() -> None:
    evaluation = evaluate_at(
        a_table([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], [0.1, 0.9, 0.2, 0.8], [0, 1, 0, 1]), 0.5, 0.5
    )
    assert not warned(evaluation, "inverted")
    assert warned(evaluation, "remote supervisor is not shown to be better than chance")


def test_a_remote_supervisor_that_works_only_where_it_is_never_asked_is_told() -> None:
    rng = np.random.default_rng(3)
    n = 2000
    local, right = rng.random(n), rng.random(n) < 0.6
    remote = np.where(local < 0.4, rng.random(n), right + 0.0)
    evaluation = evaluate_at(a_table(local, rng.random(n) < local, remote, right), 0.4, 0.5)
    assert evaluation.supervisors["remote"].auroc.low > 0.5
    assert warned(evaluation, "On the deferred inputs, all that it ever sees")


def test_no_confidence_at_all_is_told_as_such() -> None:
    _, left, remote, right = random_rows(50)
    evaluation = evaluate_at(a_table(np.full(50, NAN), left, remote, right), 0.5, 0.5)
    assert warned(evaluation, "No input has a local confidence")
    assert not warned(evaluation, "constant")
    assert evaluation.systems["bisupervised"].request_rate.value == 1.0
    assert evaluation.supervisors["local"].missing == 50


def test_a_cascade_worse_than_its_baselines_is_told() -> None:
    rng = np.random.default_rng(1)
    n = 3000
    local = rng.random(n)
    left, right = rng.random(n) < 0.1 + 0.9 * local, rng.random(n) < 0.3
    evaluation = evaluate_at(a_table(local, left, rng.random(n), right), 0.9, 0.1)
    assert warned(evaluation, "is worse than the local model alone under its supervisor at about the same coverage")
    assert evaluation.supervised_versus["local_only_supervised"].high < 0


def test_the_ratio_difference_has_the_interval_of_the_bootstrap() -> None:
    local, left, remote, right = random_rows(1500, seed=6)
    found = evaluate_at(a_table(local, left, remote, right), 0.5, 0.4).supervised_versus["remote_only_supervised"]
    rng = np.random.default_rng(0)
    accepted = (local >= 0.5) | (remote >= 0.4)
    taken = np.where(local >= 0.5, left, right)
    kept = remote >= threshold_for_coverage(remote, accepted.mean())
    values = []
    for _ in range(2000):
        i = rng.integers(0, 1500, 1500)
        values.append(taken[i][accepted[i]].mean() - right[i][kept[i]].mean())
    assert found.value == pytest.approx(taken[accepted].mean() - right[kept].mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=5e-3)


@settings(deadline=None, max_examples=150)
@given(rows(), st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.9, 1.0]))
def test_the_threshold_for_a_coverage_is_the_largest_that_gives_it(made: tuple, coverage: float) -> None:
    confidences = made[0]
    threshold = threshold_for_coverage(confidences, coverage)
    most = float((confidences >= -INF).mean())
    assert (confidences >= threshold).mean() >= min(coverage, most) - 1e-9
    for larger in [*confidences[confidences > threshold].tolist(), INF]:
        if larger > threshold and coverage <= most:
            assert (confidences >= larger).mean() < coverage - 1e-12 or np.isclose(
                (confidences >= larger).mean(), (confidences >= threshold).mean()
            )


# ---------------------------------------------------------------- labels that are missing, models not asked


def test_without_labels_the_rates_are_known_and_the_accuracies_are_not_0() -> None:
    local, _, remote, _ = random_rows(100)
    table = Table.from_columns({"local_confidence": local, "remote_confidence": remote})
    evaluation = evaluate_at(table, 0.5, 0.5)
    cascade = evaluation.systems["bisupervised"]
    assert cascade.request_rate.value == pytest.approx(np.mean(local < 0.5))
    assert cascade.coverage.value > 0
    assert math.isnan(cascade.system_accuracy.value)
    assert math.isnan(cascade.supervised_accuracy.value)
    assert math.isnan(evaluation.versus_remote_only.value)
    assert evaluation.n_labelled == 0
    assert evaluation.curves is None
    assert evaluation.supervisors == {}
    assert any("no row has a label" in note for note in evaluation.notes)


def test_a_log_of_deferred_requests_gives_the_cascades_figures_and_no_curve() -> None:
    table = a_log()
    evaluation = evaluate_at(table, 0.5, 0.4)
    local, left, remote, right = random_rows(400)
    cascade = evaluation.systems["bisupervised"]
    deferred = local < 0.5
    assert cascade.request_rate.value == pytest.approx(deferred.mean())
    assert cascade.system_accuracy.value == pytest.approx(np.where(deferred, right, left).mean())
    assert cascade.coverage.value == pytest.approx(np.mean(~deferred | (remote >= 0.4)))
    assert cascade.cost_per_input.value == pytest.approx(0.001 + 0.5 * deferred.mean())
    assert "remote_only" not in evaluation.systems
    assert evaluation.curves is None
    assert evaluation.complementarity is None
    assert any("the request-accuracy curve needs both models" in note for note in evaluation.notes)


def test_the_price_of_a_request_is_that_of_those_that_were_made() -> None:
    evaluation = evaluate_at(a_log(), 0.5, 0.4)
    assert evaluation.break_even_cost == pytest.approx(1 - 0.001 / 0.5)
    assert evaluation.break_even_latency == pytest.approx(1 - 0.01 / 1.0)
    never = a_log(remote_asked=np.zeros(400, bool), route=np.full(400, "local"))
    assert math.isnan(evaluate_at(never, -INF, 0.4).break_even_cost)


def test_a_replay_that_defers_what_was_never_asked_says_so() -> None:
    table = a_log()
    table = replace(table, extra={})  # no routes: the thresholds decide again
    deferred_more = evaluate_at(table, 0.7, 0.4)
    unasked = int(((table.local.confidences >= 0.5) & (table.local.confidences < 0.7)).sum())
    assert any(f"never asked about {unasked} of the" in note for note in deferred_more.notes)
    assert math.isnan(deferred_more.systems["bisupervised"].cost_per_input.value)
    assert not any("never asked" in note for note in evaluate_at(table, 0.4, 0.4).notes)


def test_a_route_that_is_none_is_refused() -> None:
    with pytest.raises(TableError, match="routes are local, remote, rejected"):
        evaluate_at(a_log(route=np.full(400, "cloud")), 0.5, 0.4)


def test_labels_given_for_some_rows_give_a_curve_over_these() -> None:
    local, left, remote, right = random_rows(200)
    some = np.arange(200) < 120
    table = a_table(local, np.where(some, left, NAN), remote, np.where(some, right, NAN))
    evaluation, only = evaluate_at(table, 0.5, 0.5), evaluate_at(table.take(some), 0.5, 0.5)
    assert evaluation.n_labelled == 120
    assert evaluation.curves is not None
    assert only.curves is not None
    assert evaluation.curves.auc_rac == only.curves.auc_rac
    assert evaluation.supervisors["local"].auroc == only.supervisors["local"].auroc
    assert evaluation.systems["bisupervised"].request_rate.value == pytest.approx(np.mean(local < 0.5))


def test_inputs_of_infinite_confidence_are_never_deferred_and_no_point_says_they_are() -> None:
    local, left, remote, right = random_rows(200)
    local[local > 0.9] = INF
    evaluation = evaluate_at(a_table(local, left & (local < INF), remote, right | (local == INF)), 0.5, 0.5)
    assert evaluation.curves is not None
    for point in (evaluation.curves.best, evaluation.curves.remote_even):
        if not math.isnan(point.local_threshold):
            assert point.request_rate == pytest.approx(np.mean(~(local >= point.local_threshold)))
            assert point.request_rate < 1
    for row in evaluation.supervised_rows:
        if row.point not in ("local only", "remote only"):
            assert row.request_rate == pytest.approx(np.mean(~(local >= row.local_threshold)))


def test_routes_of_an_evaluation_are_those_of_the_enumeration() -> None:
    assert [route.label for route in Route] == ["local", "remote", "rejected"]
    shares = evaluate_at(a_table(*random_rows(50)), 0.5, 0.5).systems["bisupervised"].route_shares
    assert list(shares) == ["local", "remote", "rejected"]
    assert sum(shares.values()) == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(rows(graded=True))
def test_an_evaluation_does_not_depend_on_the_order_of_rows_or_their_doubling(made: tuple) -> None:
    table = a_table(*made)
    first = evaluate_at(table, 0.5, 0.5)
    order = np.random.default_rng(0).permutation(len(table))
    again = evaluate_at(table.take(order), 0.5, 0.5)
    doubled = evaluate_at(table.take(np.tile(np.arange(len(table)), 2)), 0.5, 0.5)
    for other in (again, doubled):
        assert other.curves is not None
        assert first.curves is not None
        assert other.curves.auc_rac.value == pytest.approx(first.curves.auc_rac.value, nan_ok=True)
        assert other.curves.captured_gain == pytest.approx(first.curves.captured_gain, nan_ok=True, abs=1e-6)
        assert other.curves.best.local_threshold == pytest.approx(first.curves.best.local_threshold, nan_ok=True)
        for name, figures in first.systems.items():
            assert other.systems[name].supervised_accuracy.value == pytest.approx(
                figures.supervised_accuracy.value, nan_ok=True
            )
    assert first.curves is not None
    assert first.curves.captured_gain <= 1 + 1e-9 or math.isnan(first.curves.captured_gain)
