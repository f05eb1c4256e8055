"""The target with a promise: what it writes, what it refuses, and how the three actions come out of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bisupervised import calibrate, evaluate
from bisupervised.calibration import Choice, RequestBudget, Thresholds, WithinLimits, calibrate_table
from bisupervised.calibration.choice import calibration_rows
from bisupervised.calibration.limits import Prices
from bisupervised.decision import first_level
from bisupervised.errors import InfeasibleTarget, InputError, TableError, ThresholdError
from bisupervised.records import PairConfidences
from bisupervised.table import Table

INF = math.inf


def a_table(n: int = 2000, seed: int = 0) -> Table:
    """Both models are right with the probability that they say; hopeless inputs are so for both."""
    draw = np.random.default_rng(seed)
    easy = draw.random(n)
    local = np.clip(easy + draw.normal(0.0, 0.1, n), 0.01, 0.99)
    remote = np.clip(0.2 + 0.9 * easy + draw.normal(0.0, 0.1, n), 0.01, 0.99)
    return Table.from_columns(
        {
            "id": [str(row) for row in range(n)],
            "local_confidence": local,
            "local_correct": draw.random(n) < local,
            "remote_confidence": remote,
            "remote_correct": draw.random(n) < remote,
        }
    )


def test_the_thresholds_keep_to_the_limits_and_say_what_is_promised() -> None:
    thresholds = calibrate_table(a_table(), WithinLimits(risk=0.2, request_rate=0.3))
    guarantee = thresholds.evidence["guarantee"]
    assert guarantee["promise"] == "With confidence 0.9: risk at most 0.2 and request rate at most 0.3 (n = 2000)."
    assert "independent draws from one source" in guarantee["assumption"]
    assert thresholds.achieved["on"] == "the calibration rows themselves", "every row is needed for the promise"
    assert 1.0 - thresholds.achieved["supervised_accuracy"] <= 0.2
    assert thresholds.achieved["request_rate"] <= 0.3
    fresh = evaluate(a_table(20_000, seed=1), thresholds).evaluation.systems["bisupervised"]
    assert 1.0 - fresh.supervised_accuracy.value <= 0.2
    assert fresh.request_rate.value <= 0.3


def test_hopeless_inputs_are_abstained_on_early_unless_that_is_forbidden() -> None:
    target = WithinLimits(risk=0.15, error_cost=0.0, abstention_cost=1.0, request_cost=0.5)
    three = calibrate_table(a_table(), target)
    assert three.abstain > -INF
    fresh = evaluate(a_table(20_000, seed=1), three).evaluation.systems["bisupervised"]
    assert fresh.early_abstention.value > 0.05
    assert fresh.request_rate.value + fresh.route_shares["local"] + fresh.early_abstention.value == pytest.approx(1.0)
    two = WithinLimits(risk=0.15, abstention_cost=1.0, request_cost=0.5, early_abstention=False)
    assert calibrate_table(a_table(), two).abstain == -INF


def test_what_cannot_be_certified_is_infeasible_and_says_how_many_rows_would_do() -> None:
    with pytest.raises(InfeasibleTarget, match=r"infeasible: with n = 60 labelled rows the lowest risk.*more rows"):
        calibrate_table(a_table(60), WithinLimits(risk=0.05))
    with pytest.raises(InfeasibleTarget, match="12 labelled rows are too few to certify anything"):
        calibrate_table(a_table(12), WithinLimits(risk=0.05))


def test_without_a_guarantee_the_limits_hold_on_the_choosing_rows_and_nothing_is_promised() -> None:
    thresholds = calibrate_table(a_table(60), WithinLimits(risk=0.1, delta=None))
    assert "guarantee" not in thresholds.evidence
    assert thresholds.achieved["on"] == "held-out rows"
    with pytest.raises(InfeasibleTarget):
        calibrate_table(a_table(60), WithinLimits(risk=0.0, abstention=0.0, delta=None))


def test_prices_are_those_given_and_a_request_budget_makes_requests_free() -> None:
    assert WithinLimits(risk=0.1).prices == Prices(abstention=1.0, request=0.3)
    assert WithinLimits(risk=0.1, request_rate=0.3).prices == Prices(abstention=1.0)
    given = WithinLimits(risk=0.1, error_cost=2.0)
    assert given.prices == Prices(error=2.0, abstention=1.0, request=0.3), "one price given leaves the others alone"
    priced = WithinLimits(cost=0.4, error_cost=2.0, abstention_cost=1.0, request_cost=0.1)
    assert priced.limits.cost == 0.4
    thresholds = calibrate_table(a_table(), WithinLimits(risk=0.2))
    assert thresholds.evidence["guarantee"]["prices"] == {"error": 0.0, "abstention": 1.0, "request": 0.3}


@pytest.mark.parametrize(
    "make",
    [
        lambda: WithinLimits(),
        lambda: WithinLimits(risk=5.0),
        lambda: WithinLimits(cost=0.5),
        lambda: WithinLimits(cost=0.5, error_cost=1.0, abstention_cost=1.0),
        lambda: WithinLimits(risk=0.1, error_cost=-1.0).prices,
        lambda: calibrate(a_table(100), WithinLimits(risk=0.1, delta=0.0)),
    ],
)
def test_limits_that_are_none_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]


def test_a_certified_budget_needs_no_labels() -> None:
    confidences = np.random.default_rng(0).random(500)
    table = Table.from_columns(
        {
            "id": [str(row) for row in range(500)],
            "local_confidence": confidences,
            "remote_confidence": confidences,
            "label": [None] * 500,
            "local_prediction": ["a"] * 500,
            "remote_prediction": ["a"] * 500,
        }
    )
    thresholds = calibrate_table(table, RequestBudget(0.3, None, delta=0.1))
    assert thresholds.evidence["guarantee"]["promise"].startswith("With confidence 0.9: request rate at most 0.3")
    assert 0.2 < np.mean(confidences < thresholds.local) < 0.3
    with pytest.raises(TableError, match="labelled"):
        calibrate_table(table, RequestBudget(0.3, delta=0.1))


def test_a_certified_budget_promises_both_levels_each_from_rows_of_its_own() -> None:
    thresholds = calibrate_table(a_table(), RequestBudget(0.3, 0.1, delta=0.1))
    guarantee = thresholds.evidence["guarantee"]
    assert guarantee["request_budget"]["n"] == 1000
    assert "false alarm rate at most 0.1" in guarantee["false_alarms"]["promise"]
    fresh = evaluate(a_table(20_000, seed=1), thresholds).evaluation.systems["bisupervised"]
    assert fresh.request_rate.value <= 0.3
    assert fresh.false_alarm_rate <= 0.1


def test_the_file_holds_the_abstention_threshold_and_files_without_one_keep_their_id(tmp_path: Path) -> None:
    thresholds = calibrate_table(a_table(), WithinLimits(risk=0.15, abstention_cost=1.0, request_cost=0.5))
    thresholds.save(tmp_path / "thresholds.toml")
    again = Thresholds.load(tmp_path / "thresholds.toml")
    assert (again.abstain, again.id) == (thresholds.abstain, thresholds.id)
    assert again.evidence["guarantee"]["delta"] == 0.1
    assert "abstain" not in Thresholds(0.5, 0.5).to_toml()
    assert Thresholds(0.5, 0.5).id == Thresholds(0.5, 0.5, abstain=-INF).id != Thresholds(0.5, 0.5, abstain=0.1).id
    (tmp_path / "thresholds.toml").write_text("[thresholds]\nlocal = 0.5\nremote = 0.5\nabstain = 'low'\n")
    with pytest.raises(ThresholdError, match=r"thresholds\.abstain must be a number"):
        Thresholds.load(tmp_path / "thresholds.toml")


def test_a_supervisor_of_both_levels_takes_the_place_of_the_second() -> None:
    table = a_table()
    arbitrated = PairConfidences(
        np.maximum(table.local.confidences, table.remote.confidences),
        table.local.confidences > table.remote.confidences,
    )
    rows = calibration_rows(table, arbitrated)
    preferred = arbitrated.local_preferred
    assert preferred is not None
    np.testing.assert_array_equal(
        rows.remote_loss, 1.0 - np.where(preferred, table.correct("local"), table.correct("remote"))
    )
    thresholds = calibrate_table(table, WithinLimits(risk=0.2, request_rate=0.5), pair=arbitrated)
    assert 1.0 - thresholds.achieved["supervised_accuracy"] <= 0.2
    with pytest.raises(InputError, match="knows nothing of supervisors that read both levels"):
        calibrate_table(table, RequestBudget(0.3), pair=arbitrated)


def test_a_choice_has_no_early_abstention_by_default() -> None:
    choice = Choice(0.5, 0.2)
    accepted, deferred = first_level(np.array([0.1, 0.6]), choice.local, choice.abstain)
    assert (accepted.tolist(), deferred.tolist()) == ([False, True], [True, False])


# ---------------------------------------------------------------- what a reader would stumble over


def outcomes(local_right: float, remote_right: float, n: int = 2000) -> Table:
    draw = np.random.default_rng(0)
    columns: dict[str, object] = {"id": [str(row) for row in range(n)]}
    for name, share in (("local", local_right), ("remote", remote_right)):
        columns[f"{name}_confidence"] = draw.random(n)
        columns[f"{name}_correct"] = draw.random(n) < share
    return Table.from_columns(columns)


@pytest.mark.parametrize(("local_right", "n"), [(0.97, 2000), (0.97, 500), (1.0, 200)])
def test_no_request_is_made_where_the_local_model_alone_keeps_the_limit(local_right: float, n: int) -> None:
    achieved = calibrate_table(outcomes(local_right, 0.99, n), WithinLimits(risk=0.1)).achieved
    assert (achieved["request_rate"], achieved["coverage"]) == (0.0, 1.0), "the cheapest of all rules is tested too"


def test_a_limit_that_allows_everything_stands_in_nobodys_way() -> None:
    free = WithinLimits(risk=0.2, request_rate=1.0, abstention=1.0)
    assert calibrate_table(a_table(), free).evidence["guarantee"]["guarantee"]["request_rate"] == 1.0


def test_rows_without_a_label_are_said_to_be_left_out_and_may_not_hide_the_requests() -> None:
    table = a_table()
    for chosen in (np.arange(2000) % 2 == 0, table.local.confidences > 0.6):
        known = {name: np.where(chosen, table.correct(name), np.nan) for name in ("local", "remote")}
        some = replace(table, local_correct=known["local"], remote_correct=known["remote"])
        target = WithinLimits(risk=0.2, request_rate=0.3, abstention_cost=1.0, early_abstention=False)
        if chosen[::2].all():  # every other row: a fair sample
            remarks = calibrate_table(some, replace(target, request_rate=0.95)).evidence["guarantee"]["remarks"]
            assert any("1000 of 2000 rows have no label" in remark for remark in remarks)
        else:
            with pytest.raises(InfeasibleTarget, match="the labelled ones are no random sample"):
                calibrate_table(some, target)


def test_empty_cells_of_the_remote_model_are_those_of_one_that_was_not_asked() -> None:
    table = a_table()
    silent = table.local.confidences > 0.6
    confidences = np.where(silent, np.nan, table.remote.confidences)
    correct = np.where(silent, np.nan, table.correct("remote"))
    some = replace(table, remote=replace(table.remote, confidences=confidences), remote_correct=correct)
    with pytest.raises(TableError, match="never asked"):
        calibrate_table(some, WithinLimits(risk=0.2))


def test_a_local_model_without_any_confidence_is_always_deferred_and_nothing_is_abstained_on() -> None:
    table = a_table()
    silent = replace(table, local=replace(table.local, confidences=np.full(2000, np.nan)))
    thresholds = calibrate_table(silent, WithinLimits(risk=0.4))
    assert thresholds.abstain == -INF
    assert thresholds.achieved["request_rate"] == 1.0


def test_a_number_changed_by_hand_takes_the_promise_with_it(tmp_path: Path) -> None:
    thresholds = calibrate_table(a_table(), WithinLimits(risk=0.2))
    path = tmp_path / "thresholds.toml"
    thresholds.save(path)
    assert Thresholds.load(path).promises
    path.write_text(path.read_text().replace(f"local = {thresholds.local!r}", "local = 0.01"))
    edited = Thresholds.load(path)
    assert (edited.local, edited.promises, edited.evidence["changed_since"]) == (0.01, [], thresholds.id)
