from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration import (
    BestAccuracy,
    Choice,
    FalseAlarmRate,
    LowestCost,
    RemoteEven,
    RequestBudget,
    target_by_name,
)
from bisupervised.calibration.joint_grid import joint_grid
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.calibration.targets import TARGETS, describe
from bisupervised.decision import accept, decide
from bisupervised.errors import InfeasibleTarget, InputError, TableError
from bisupervised.records import Route
from bisupervised.table import Table
from evaluation.made import a_table, random_rows, rows

NAN, INF = float("nan"), float("inf")


def thresholds_of(confidences: np.ndarray) -> list[float]:
    return [-INF, *sorted(set(confidences[~np.isnan(confidences)].tolist())), INF]


def outcome(made: tuple, local_at: float, remote_at: float) -> tuple[float, float, float, float]:
    """(request rate, system accuracy, accepted and wrong, rejected) at two thresholds."""
    local, left, remote, right = made
    routes = decide(local, local_at, remote, remote_at)
    taken = np.where(routes == Route.LOCAL, left, right)
    accepted = routes != Route.REJECTED
    return (
        float(np.mean(routes != Route.LOCAL)),
        float(np.mean(taken)),
        float(np.mean(accepted & (taken == 0))),
        float(np.mean(~accepted)),
    )


@settings(deadline=None, max_examples=200)
@given(rows(), st.sampled_from([0.0, 0.1, 0.3, 1 / 3, 0.5, 2 / 3, 0.99, 1.0]))
def test_a_request_budget_is_spent_and_never_overspent_on_its_own_rows(made: tuple, budget: float) -> None:
    local = made[0]
    rates = {t: float(np.mean(~accept(local, t))) for t in thresholds_of(local)}
    within = [r for r in rates.values() if r <= budget + 1e-9]
    target = RequestBudget(budget, false_alarm_rate=None)
    if within:
        pair = target.choose(a_table(*made))
        achieved = float(np.mean(~accept(local, pair.local)))
        assert achieved <= budget + 1e-9
        assert achieved == pytest.approx(max(within))
        assert pair.remote == -INF
    else:
        missing = int(np.isnan(local).sum())
        with pytest.raises(InfeasibleTarget, match=f"{missing} of {len(local)} inputs have no local confidence"):
            target.choose(a_table(*made))


def test_a_tie_that_the_budget_cannot_divide_stays_local() -> None:
    table = a_table([0.1, 0.5, 0.5, 0.5, 0.9], [1] * 5, [1.0] * 5, [1] * 5)
    for budget, spent in ((0.2, 0.2), (0.6, 0.2), (0.79, 0.2), (0.8, 0.8), (1.0, 1.0)):
        pair = RequestBudget(budget).choose(table)
        assert np.mean(~accept(table.local.confidences, pair.local)) == spent


def test_a_budget_needs_no_labels_unless_there_is_a_2nd_level() -> None:
    table = Table.from_columns({"local_confidence": [0.1, 0.2, 0.3, 0.4], "remote_confidence": [0.1, 0.2, 0.3, 0.4]})
    assert RequestBudget(0.5, false_alarm_rate=None).choose(table) == Choice(0.3, -INF)
    for target in (RequestBudget(0.5), RemoteEven(), BestAccuracy(), LowestCost(1, 1, 1), FalseAlarmRate(0.1, 0.2)):
        with pytest.raises(TableError, match="needs labelled rows"):
            target.choose(table)


@settings(deadline=None, max_examples=150)
@given(rows())
def test_remote_even_is_the_fewest_requests_of_all_thresholds(made: tuple) -> None:
    local, _, _, right = made
    found = [outcome(made, t, -INF)[:2] for t in thresholds_of(local)]
    enough = [rate for rate, accuracy in found if accuracy >= right.mean() - 1e-9]
    if not enough:
        never = int(np.isposinf(local).sum())
        with pytest.raises(
            InfeasibleTarget, match=rf"{never} of {len(local)} inputs have the local confidence \+inf"
        ):
            RemoteEven(None).choose(a_table(*made))
        return
    rate, accuracy = outcome(made, *both(RemoteEven(None).choose(a_table(*made))))[:2]
    assert accuracy >= right.mean() - 1e-9
    assert rate == pytest.approx(min(enough))


@settings(deadline=None, max_examples=150)
@given(rows())
def test_best_accuracy_is_the_largest_of_all_thresholds_with_the_fewest_requests(made: tuple) -> None:
    found = [outcome(made, t, -INF)[:2] for t in thresholds_of(made[0])]
    best = max(accuracy for _, accuracy in found)
    rate, accuracy = outcome(made, *both(BestAccuracy(None).choose(a_table(*made))))[:2]
    assert accuracy == pytest.approx(best)
    assert rate == pytest.approx(min(rate for rate, accuracy in found if accuracy > best - 1e-9))


def both(choice: Choice) -> tuple[float, float]:
    return choice.local, choice.remote


@settings(deadline=None, max_examples=150)
@given(rows(max_n=20), st.tuples(*[st.sampled_from([0.0, 0.1, 1.0, 5.0])] * 3), st.sampled_from([3, 5, 400]))
def test_lowest_cost_is_the_cheapest_pair_of_its_grid(made: tuple, costs: tuple, points: int) -> None:
    error, abstention, request = costs

    def price(local_at: float, remote_at: float) -> float:
        rate, _, wrong, rejected = outcome(made, local_at, remote_at)
        return error * wrong + abstention * rejected + request * rate

    grid = joint_grid(CalibrationRows.of(*made), local_points=points, remote_points=points)
    cheapest = min(price(t1, t2) for t1 in grid.local_thresholds for t2 in grid.remote_thresholds)
    pair = both(LowestCost(error, abstention, request, points, early_abstention=False).choose(a_table(*made)))
    assert price(*pair) == pytest.approx(cheapest)
    if points == 400:  # every confidence is on the grid
        every = [price(a, b) for a in thresholds_of(made[0]) for b in thresholds_of(made[2])]
        assert price(*pair) == pytest.approx(min(every))


def test_free_requests_are_all_made_and_dear_ones_are_not() -> None:
    local, left, remote, _ = random_rows(300)
    table = a_table(local, left, remote, np.ones(300))
    everything = LowestCost(1.0, 1.0, 0.0).choose(table)
    nothing = LowestCost(1.0, 1.0, 100.0).choose(table)
    assert np.mean(~accept(local, everything.local)[~left]) == 1.0
    assert np.mean(accept(local, nothing.local)) == 1.0


@settings(deadline=None, max_examples=200)
@given(rows(), st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]), st.sampled_from([-INF, 0.1, 0.5, 1.0, INF]))
def test_the_2nd_level_keeps_the_false_alarm_rate_or_says_that_it_cannot(
    made: tuple, target: float, local_at: float
) -> None:
    local, left, remote, right = made
    deferred = ~accept(local, local_at)
    taken = np.where(deferred, right, left)
    hopeless = int((taken & deferred & np.isnan(remote)).sum())
    if hopeless > target * taken.sum() + 1e-9:
        words = f"{hopeless} of {int(taken.sum())} correct predictions have no remote confidence"
        with pytest.raises(InfeasibleTarget, match=words):
            FalseAlarmRate(target, local_at).choose(a_table(*made))
        return
    pair = FalseAlarmRate(target, local_at).choose(a_table(*made))
    assert pair.local == local_at
    alarms = int((taken & deferred & ~accept(remote, pair.remote)).sum())
    assert alarms <= target * taken.sum() + 1e-9
    for other in (RequestBudget(1.0, target), BestAccuracy(target)):
        try:
            chosen = other.choose(a_table(*made))
        except InfeasibleTarget:
            continue
        assert chosen == FalseAlarmRate(target, chosen.local).choose(a_table(*made))


def test_without_a_2nd_level_every_remote_prediction_with_a_confidence_is_accepted() -> None:
    table = a_table(*random_rows(50))
    for target in (RequestBudget(0.3, None), RemoteEven(None), BestAccuracy(None)):
        assert target.choose(table).remote == -INF


def a_log() -> Table:
    local, left, remote, right = random_rows(300)
    asked = local < 0.5
    return Table.from_columns(
        {
            "local_confidence": local,
            "local_correct": left.astype(float),
            "remote_confidence": np.where(asked, remote, NAN),
            "remote_correct": np.where(asked, right, NAN),
            "remote_asked": asked,
        }
    )


@pytest.mark.parametrize("target", [RemoteEven(), BestAccuracy(), LowestCost(1, 1, 1), RequestBudget(0.9)])
def test_a_log_of_deferred_requests_does_not_choose_what_needs_both_models(target: object) -> None:
    """Its complete rows are those that the system did not trust: a curve over them is of another population."""
    with pytest.raises(TableError, match=r"never asked about .* would be biased"):
        target.choose(a_log())


def test_a_log_chooses_the_2nd_level_under_the_thresholds_it_ran_with() -> None:
    local, left, remote, right = random_rows(300)
    full, log = a_table(local, left, remote, right), a_log()
    for local_at in (0.5, 0.3):
        assert FalseAlarmRate(0.05, local_at).choose(log) == FalseAlarmRate(0.05, local_at).choose(full)
    budget = float(np.mean(local < 0.4))
    assert RequestBudget(budget).choose(log) == RequestBudget(budget).choose(full)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RequestBudget(30),
        lambda: RequestBudget(-0.1),
        lambda: RequestBudget(NAN),
        lambda: RequestBudget(0.3, 5),
        lambda: RemoteEven(1.5),
        lambda: BestAccuracy(NAN),
        lambda: FalseAlarmRate(2.0, 0.5),
        lambda: LowestCost(-1, 0, 0),
        lambda: LowestCost(NAN, 1, 1),
        lambda: LowestCost(INF, 1, 1),
        lambda: LowestCost(1, 1, 1, points=2),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()


def test_a_percentage_is_answered_with_how_to_write_it() -> None:
    with pytest.raises(InputError, match=re.escape("write 30 % as 0.3")):
        RequestBudget(30)


def test_targets_by_name_are_those_of_a_configuration_file() -> None:
    assert target_by_name("request_budget", request_rate=0.3) == RequestBudget(0.3)
    assert set(TARGETS) == {
        "request_budget", "remote_even", "best_accuracy", "false_alarm_rate", "lowest_cost", "within_limits"
    }  # fmt: skip
    assert describe(RequestBudget(0.3)) == {
        "name": "request_budget", "request_rate": 0.3, "false_alarm_rate": 0.05, "delta": None
    }  # fmt: skip
    with pytest.raises(InputError, match="there are: request_budget, remote_even"):
        target_by_name("budget")
    with pytest.raises(InputError, match="target request_budget"):
        target_by_name("request_budget", rate=0.3)
    with pytest.raises(InputError, match="target request_budget"):
        target_by_name("request_budget")


def test_unlabelled_rows_choose_the_request_rate_and_not_the_accuracy() -> None:
    local, left, remote, right = random_rows(100)
    some = np.arange(100) < 60
    table = a_table(local, np.where(some, left, NAN), remote, np.where(some, right, NAN))
    assert RequestBudget(0.3, None).choose(table).local == np.sort(local)[30]
    assert BestAccuracy().choose(table) == BestAccuracy().choose(table.take(some))
    assert not math.isnan(RemoteEven().choose(table).local)
