from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bisupervised.evaluation import system_figures
from bisupervised.evaluation.system import (
    as_routed,
    bisupervised,
    break_even_rate,
    latency_figures,
    local_only,
    paired_difference,
    remote_only,
    with_bootstrap,
)
from bisupervised.records import Route
from bisupervised.table import Table
from evaluation.made import a_level, a_table, random_rows

NAN, INF = float("nan"), float("inf")


def priced() -> Table:
    """Six inputs; at thresholds 0.5 and 0.5 two of them are answered by each route."""
    table = a_table(
        [0.9, 0.8, 0.1, 0.2, 0.1, 0.2], [1, 0, 1, 0, 0, 0], [0, 0, 0.9, 0.9, 0.1, 0.2], [1, 1, 1, 0, 1, 1]
    )
    return replace(
        table,
        local=replace(table.local, latency_s=np.full(6, 0.01), cost=np.full(6, 0.001)),
        remote=replace(table.remote, latency_s=np.arange(6.0), cost=np.full(6, 0.5)),
    )


def test_the_cascade_pays_both_models_for_a_deferred_input_and_the_price_of_each_abstention() -> None:
    figures = system_figures(bisupervised(priced(), 0.5, 0.5, abstention_cost=3.0))
    assert figures.cost_per_input.value == pytest.approx((6 * 0.001 + 4 * 0.5 + 2 * 3.0) / 6)
    assert figures.latency.mean.value == pytest.approx((6 * 0.01 + 2 + 3 + 4 + 5) / 6)
    assert figures.latency_by_route["local"].mean.value == pytest.approx(0.01)
    assert figures.latency_by_route["remote"].p50.value == pytest.approx(2.51)
    assert figures.latency_by_route["rejected"].mean.value == pytest.approx(4.51)
    assert figures.cost_per_correct_answer == pytest.approx((6 * 0.001 + 4 * 0.5 + 2 * 3.0) / 2)
    assert figures.system_accuracy.value == pytest.approx(4 / 6)  # the 2nd level ignored
    assert figures.supervised_accuracy.value == pytest.approx(2 / 4)
    assert figures.false_alarm_rate == pytest.approx(2 / 4)


def test_local_only_never_asks_the_remote_model_and_remote_only_never_the_local_one() -> None:
    local, remote = system_figures(local_only(priced())), system_figures(remote_only(priced()))
    assert (local.request_rate.value, remote.request_rate.value) == (0.0, 1.0)
    assert (local.coverage.value, remote.coverage.value) == (1.0, 1.0)
    assert local.cost_per_input.value == pytest.approx(0.001)
    assert remote.cost_per_input.value == pytest.approx(0.5)
    assert remote.latency.mean.value == pytest.approx(2.5)
    assert system_figures(local_only(priced(), INF)).coverage.value == 0.0
    assert system_figures(remote_only(priced(), 0.5)).route_shares == {"local": 0, "remote": 2 / 6, "rejected": 4 / 6}


def test_without_a_supervisor_even_a_prediction_without_confidence_is_the_answer() -> None:
    table = a_table([NAN, NAN], [1, 0], [NAN, NAN], [1, 1])
    assert system_figures(local_only(table)).coverage.value == 1.0
    assert system_figures(local_only(table, -INF)).coverage.value == 0.0


def test_the_price_of_a_row_that_was_never_asked_is_not_0() -> None:
    table = priced()
    asked = np.array([False, False, True, True, True, False])
    unasked = replace(table, remote=replace(table.remote, asked=asked, cost=np.where(asked, 0.5, 0.0)))
    assert math.isnan(system_figures(bisupervised(unasked, 0.5, 0.5)).cost_per_input.value)
    known = unasked.take(np.arange(5))
    assert system_figures(bisupervised(known, 0.5, 0.5)).cost_per_input.value == pytest.approx(0.001 + 0.3)
    assert system_figures(local_only(unasked)).cost_per_input.value == pytest.approx(0.001)


def test_unlabelled_rows_count_for_rates_and_not_for_accuracy() -> None:
    table = priced()
    correct = table.correct("local").copy()
    correct[1] = NAN
    other = table.correct("remote").copy()
    other[1] = NAN
    figures = system_figures(bisupervised(replace(table, local_correct=correct, remote_correct=other), 0.5, 0.5))
    assert (figures.n, figures.n_labelled) == (6, 5)
    assert figures.request_rate.value == pytest.approx(4 / 6)
    assert figures.system_accuracy.value == pytest.approx(4 / 5)
    nothing = np.full(6, NAN)
    figures = system_figures(bisupervised(replace(table, local_correct=nothing, remote_correct=nothing), 0.5, 0.5))
    for unknown in (figures.system_accuracy.value, figures.supervised_accuracy.value, figures.false_alarm_rate):
        assert math.isnan(unknown)
    assert math.isnan(figures.cost_per_correct_answer)
    assert math.isnan(figures.s_beta["1"])
    assert figures.coverage.value == pytest.approx(4 / 6)
    assert figures.cost_per_input.value > 0


def test_logged_routes_are_taken_as_they_were_with_the_time_of_the_fallback() -> None:
    routes = np.array([Route.LOCAL, Route.REMOTE, Route.REJECTED, 0, 0, 0], dtype=np.uint8)
    table = replace(priced(), extra={"fallback_s": np.array([None, 0.0, 2.0, 0, 0, 0], dtype=object)})
    figures = system_figures(as_routed(table, routes))
    assert figures.route_shares == {"local": 4 / 6, "remote": 1 / 6, "rejected": 1 / 6}
    assert figures.latency_by_route["rejected"].mean.value == pytest.approx(0.01 + 2.0 + 2.0)


def test_the_quantifiers_time_counts_where_it_was_recorded() -> None:
    table = priced()
    local = replace(table.local, supervisor_s=np.full(6, 0.5))
    timed = system_figures(local_only(replace(table, local=local)))
    assert timed.latency.mean.value == pytest.approx(0.51)
    assert system_figures(local_only(table)).latency.mean.value == pytest.approx(0.01)


def test_a_latency_that_is_not_known_makes_the_figures_not_known() -> None:
    assert all(math.isnan(part.value) for part in vars_of(latency_figures(np.array([1.0, NAN]))))
    assert all(math.isnan(part.value) for part in vars_of(latency_figures(np.array([]))))
    assert latency_figures(np.array([2.0])).p95.value == 2.0


def vars_of(latency: object) -> list:
    return [getattr(latency, name) for name in ("mean", "p50", "p95")]


def test_break_even_is_where_the_cascade_costs_as_much_as_remote_only() -> None:
    local, remote = np.array([1.0, 3.0]), np.array([8.0, 8.0])
    rate = break_even_rate(local, remote)
    assert local.mean() + rate * remote.mean() == pytest.approx(remote.mean())
    assert break_even_rate(remote, local) < 0
    for unknown in (np.array([NAN]), np.array([]), np.array([0.0])):
        assert math.isnan(break_even_rate(local, unknown))


def test_differences_are_paired() -> None:
    first, second = np.array([1.0, 1.0, 0.0, NAN]), np.array([0.0, 1.0, 0.0, 1.0])
    found = paired_difference(first, second)
    assert found.value == pytest.approx(1 / 3)
    same = paired_difference(np.arange(9.0), np.arange(9.0))
    assert same == (0.0, 0.0, 0.0)  # unpaired they would have the spread of both


def test_a_level_of_no_rows_is_refused_nowhere_but_counted_as_nothing() -> None:
    empty = a_table([], [], [], [])
    assert len(a_level([])) == 0
    assert len(bisupervised(empty, 0.5, 0.5).routes) == 0


def test_ratios_have_the_intervals_of_the_bootstrap_over_rows() -> None:
    local, left, remote, right = random_rows(800, seed=5)
    table = a_table(local, left, remote, right)
    table = replace(table, local=replace(table.local, cost=np.ones(800)), remote=replace(table.remote, cost=local))
    decided = bisupervised(table, 0.5, 0.4)
    found = with_bootstrap(system_figures(decided), decided).bootstrap
    rng = np.random.default_rng(11)
    values: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(1500):
        drawn = system_figures(bisupervised(table.take(rng.integers(0, 800, 800)), 0.5, 0.4))
        for name, series in values.items():
            beta = name.removeprefix("s_beta_")
            series.append(drawn.s_beta[beta] if beta in drawn.s_beta else getattr(drawn, name))
    assert set(found) == {"false_alarm_rate", "s_beta_0.5", "s_beta_1", "s_beta_2", "cost_per_correct_answer"}
    for name, series in values.items():
        low, high = np.quantile(series, [0.025, 0.975])
        assert found[name].low == pytest.approx(low, abs=(high - low) / 10), name
        assert found[name].high == pytest.approx(high, abs=(high - low) / 10), name
