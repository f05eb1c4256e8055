"""Targets, the grid, and thresholds.toml."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.assessment import calibrate
from bisupervised.calibration import (
    BestAccuracy,
    FalseAlarmRate,
    LowestCost,
    RemoteEven,
    RequestBudget,
    Thresholds,
    judged_on,
    split_rows,
    target_by_name,
)
from bisupervised.calibration.choice import calibration_rows
from bisupervised.calibration.joint_grid import joint_grid
from bisupervised.decision import decide
from bisupervised.errors import InfeasibleTarget, InputError, TableError, ThresholdError
from bisupervised.records import Route
from bisupervised.table import Table

CONFIDENCE = st.sampled_from([0.1, 0.2, 0.4, 0.7, 0.9, math.nan])
ROWS = st.lists(st.tuples(CONFIDENCE, st.booleans(), CONFIDENCE, st.booleans()), min_size=3, max_size=40)


def table_of(rows: list) -> Table:
    names = ("local_confidence", "local_correct", "remote_confidence", "remote_correct")
    return Table.from_columns(
        {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )


def made(n: int = 800, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    local, remote = np.round(rng.random(n), 2), np.round(rng.random(n), 2)
    return table_of(
        list(zip(local, rng.random(n) < 0.3 + 0.5 * local, remote, rng.random(n) < 0.5 + 0.5 * remote, strict=True))
    )


@given(ROWS, st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_a_request_budget_is_spent_and_never_exceeded_on_its_own_rows(rows: list, budget: float) -> None:
    table = table_of(rows)
    confidence = table.local.confidences
    try:
        local = RequestBudget(budget, None).choose(table).local
    except InfeasibleTarget:
        assert np.isnan(confidence).mean() > budget - 1e-9
        return
    assert (~(confidence >= local)).mean() <= budget + 1e-9
    for higher in [*np.unique(confidence[confidence > local]), math.inf]:
        assert (~(confidence >= higher)).mean() > budget - 1e-9


def test_an_impossible_budget_says_what_is_possible() -> None:
    table = table_of([(math.nan, True, 0.5, True)] * 3 + [(0.5, True, 0.5, True)])
    with pytest.raises(InfeasibleTarget, match="3 of 4 inputs have no local confidence"):
        RequestBudget(0.5).choose(table)


def accuracies(table: Table) -> dict[float, tuple[float, float]]:
    """Every local threshold with its request rate and system accuracy, the slow way."""
    confidence, local, remote = table.local.confidences, table.correct("local"), table.correct("remote")
    found = {}
    for threshold in [*np.unique(confidence), math.inf]:
        deferred = ~(confidence >= threshold)
        found[threshold] = (deferred.mean(), np.where(deferred, remote, local).mean())
    return found


@pytest.mark.parametrize("seed", range(5))
def test_remote_even_and_best_accuracy_are_what_a_search_finds(seed: int) -> None:
    table = made(seed=seed)
    points = accuracies(table)
    alone = table.correct("remote").mean()
    even = min((rate, threshold) for threshold, (rate, accuracy) in points.items() if accuracy >= alone)
    assert RemoteEven().choose(table).local == even[1]
    near = min((rate, threshold) for threshold, (rate, accuracy) in points.items() if accuracy >= alone - 0.02)
    assert RemoteEven(margin=0.02).choose(table).local == near[1]
    best = max(accuracy for _, accuracy in points.values())
    fewest = min((rate, threshold) for threshold, (rate, accuracy) in points.items() if accuracy >= best)
    assert BestAccuracy().choose(table).local == fewest[1]


def test_the_second_level_keeps_the_false_alarm_rate_of_the_whole_system() -> None:
    table = made()
    for target in (RemoteEven(0.1), FalseAlarmRate(0.02, local_threshold=0.6)):
        chosen = target.choose(table)
        local, remote = chosen.local, chosen.remote
        routes = decide(table.local.confidences, local, table.remote.confidences, remote)
        right = np.where(routes == Route.LOCAL, table.correct("local"), table.correct("remote")) == 1
        lost = (right & (routes == Route.REJECTED)).sum() / right.sum()
        assert lost <= (target.false_alarm_rate or 0)


def test_the_lowest_cost_is_the_lowest_of_its_grid() -> None:
    table = made()
    error, abstention, request = 1.0, 0.4, 0.1
    chosen = LowestCost(error, abstention, request, points=30, early_abstention=False).choose(table)
    local, remote = chosen.local, chosen.remote

    def cost(first: float, second: float) -> float:
        routes = decide(table.local.confidences, first, table.remote.confidences, second)
        right = np.where(routes == Route.LOCAL, table.correct("local"), table.correct("remote"))
        wrong = ((routes != Route.REJECTED) & (right == 0)).mean()
        return (
            error * wrong + abstention * (routes == Route.REJECTED).mean() + request * (routes != Route.LOCAL).mean()
        )

    grid = joint_grid(calibration_rows(table), local_points=30, remote_points=30)
    costs = [cost(a, b) for a in grid.local_thresholds for b in grid.remote_thresholds]
    assert cost(local, remote) == pytest.approx(min(costs))


@pytest.mark.parametrize("make", [lambda: RequestBudget(30), lambda: RemoteEven(-0.1), lambda: LowestCost(-1, 0, 0)])
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]


def test_targets_are_found_by_name() -> None:
    assert target_by_name("request_budget", request_rate=0.3) == RequestBudget(0.3)
    with pytest.raises(InputError, match="no target is called 'world peace'"):
        target_by_name("world peace")
    with pytest.raises(InputError, match="request_budget"):
        target_by_name("request_budget", colour="red")


def test_calibration_without_labels_says_what_is_missing() -> None:
    unlabelled = {"local_confidence": np.random.default_rng(0).random(50), "remote_confidence": np.ones(50)}
    with pytest.raises(TableError, match="labelled rows"):
        calibrate(unlabelled)
    budget = calibrate(unlabelled, RequestBudget(0.4, None))
    assert budget.remote == -math.inf
    assert budget.achieved["request_rate"] <= 0.9


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 5))
@settings(deadline=None)
def test_a_split_is_disjoint_complete_and_repeats_with_its_seed(n: int, share: float, seed: int) -> None:
    split = split_rows(n, share, seed)
    assert sorted([*split.calibration, *split.held_out]) == list(range(n))
    again = split_rows(n, share, seed)
    np.testing.assert_array_equal(split.held_out, again.held_out)


# ---------------------------------------------------------------- the file

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.dictionaries(
        TEXT.filter(bool),
        st.one_of(TEXT, st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.booleans()),
        max_size=4,
    ),
)
@settings(max_examples=150, deadline=None)
def test_a_thresholds_file_reads_back_as_it_was_written(local: float, remote: float, evidence: dict) -> None:
    import tempfile

    written = Thresholds(
        local, remote, {"name": "remote_even", "margin": 0.0}, evidence, {"coverage_interval": [0.1, 0.2]}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thresholds.toml"
        written.save(path)
        again = Thresholds.load(path)
    assert again == written
    assert again.id == written.id


def test_the_id_changes_with_what_is_in_the_file() -> None:
    ids = {Thresholds(0.5, 0.5).id, Thresholds(0.5, 0.6).id, Thresholds(0.5, 0.5, evidence={"n": 3}).id}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a \\[thresholds\\] table"),
        ("[thresholds]\nlocal = 0.5\n", "needs a \\[thresholds\\] table"),
        ("[thresholds]\nlocal = 0.5\nremote = 'high'\n", "must be a number"),
        ("[thresholds]\nlocal = nan\nremote = 0.5\n", "NaN"),
        ("[thresholds\n", "cannot be read"),
    ],
)
def test_a_broken_thresholds_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "thresholds.toml"
    path.write_text(text)
    with pytest.raises(ThresholdError, match=words):
        Thresholds.load(path)


def test_the_file_holds_its_evidence_and_what_it_achieved_on_other_rows(tmp_path: Path) -> None:
    thresholds = calibrate(made(), RequestBudget(0.3), seed=4)
    assert thresholds.evidence["n"] == 400
    assert thresholds.evidence["seed"] == 4
    assert thresholds.achieved["on"] == "held-out rows"
    low, high = thresholds.achieved["request_rate_interval"]
    assert low <= thresholds.achieved["request_rate"] <= high
    assert "exchangeability" in thresholds.to_toml()


def test_the_lowest_cost_says_what_it_costs_beside_each_model_alone() -> None:
    table = made()
    thresholds = calibrate(table, LowestCost(1.0, 0.3, 0.1), held_out=0.0)
    confidences = table.local.confidences, table.remote.confidences
    routes = decide(confidences[0], thresholds.local, confidences[1], thresholds.remote, thresholds.abstain)
    deferred = (confidences[0] < thresholds.local) & (confidences[0] >= thresholds.abstain)
    right = np.where(routes == Route.LOCAL, table.correct("local"), table.correct("remote"))
    wrong = ((routes != Route.REJECTED) & (right == 0)).mean()
    expected = wrong + 0.3 * (routes == Route.REJECTED).mean() + 0.1 * deferred.mean()
    assert thresholds.achieved["expected_cost"] == pytest.approx(expected)
    alone = (table.correct("remote") == 0).mean() + 0.1
    assert thresholds.achieved["expected_cost_remote_only"] == pytest.approx(alone)
    assert thresholds.achieved["expected_cost"] <= alone


def test_thresholds_judged_on_other_rows_say_what_they_achieve_there() -> None:
    target = RequestBudget(0.3)
    chosen = calibrate(made(seed=1), target, held_out=0.0)
    assert chosen.achieved["on"] == "the calibration rows themselves"
    other = made(seed=2)
    judged = judged_on(chosen, other, target)
    assert (judged.local, judged.remote, judged.evidence["n_held_out"]) == (chosen.local, chosen.remote, len(other))
    assert judged.achieved["on"] == "held-out rows"
    deferred = ~(other.local.confidences >= chosen.local)
    assert judged.achieved["request_rate"] == pytest.approx(deferred.mean())
