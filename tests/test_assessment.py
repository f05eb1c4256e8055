from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.assessment import as_table, calibrate, compare, evaluate
from bisupervised.calibration import BestAccuracy, RemoteEven, RequestBudget, Thresholds
from bisupervised.calibration.choice import Choice
from bisupervised.errors import InputError, TableError, ThresholdError
from bisupervised.evaluation import Graded
from bisupervised.table import Table
from evaluation.made import random_rows

NAN = float("nan")


def columns(n: int = 200, seed: int = 0) -> dict[str, Any]:
    local, left, remote, right = random_rows(n, seed)
    labels = np.where(np.random.default_rng(seed).random(n) < 0.5, "yes", "no").astype(object)
    wrong = np.where(labels == "yes", "no", "yes").astype(object)
    return {
        "label": labels,
        "local_prediction": np.where(left, labels, wrong),
        "remote_prediction": np.where(right, labels, wrong),
        "local_confidence": local,
        "remote_confidence": remote,
    }


class Spy:
    name = "spy"

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def choose(self, rows: Table) -> Choice:
        self.seen |= set(rows.ids.tolist())
        return RequestBudget(0.3, None).choose(rows)


@settings(deadline=None, max_examples=30)
@given(st.integers(20, 80), st.integers(0, 99), st.sampled_from([None, "accuracy", "exact_match"]))
def test_by_default_rows_that_chose_do_not_judge(n: int, seed: int, objective: str | None) -> None:
    spy = Spy()
    assessment = evaluate(columns(n), target=spy, seed=seed, objective=objective)
    judged = set(assessment.table.ids.tolist())
    assert spy.seen
    assert not judged & spy.seen
    assert judged | spy.seen == {str(row) for row in range(n)}
    assert assessment.evaluation.n == len(judged)
    assert assessment.judged_on.startswith(f"Judged on the {len(judged)} rows held out")
    assert assessment.evaluation.notes[0] == assessment.judged_on


def test_thresholds_chosen_for_one_objective_are_not_judged_for_another_on_their_own_rows() -> None:
    thresholds = calibrate(columns())
    for objective in ("accuracy", "exact_match", "macro_f1", Graded("half", lambda label, guess: 0.5)):
        assessment = evaluate(columns(), thresholds, objective=objective)
        assert len(assessment.table) == 100
        assert "chose the thresholds" in assessment.judged_on


def test_thresholds_given_as_numbers_are_judged_on_all_rows() -> None:
    for pair in ((0.5, 0.4), [0.5, 0.4], Thresholds(0.5, 0.4), (np.float64(0.5), np.float32(0.4))):
        assessment = evaluate(columns(), pair)
        assert assessment.evaluation.n == 200
        assert assessment.judged_on == ""
        assert assessment.evaluation.local_threshold == 0.5
        local = columns()["local_confidence"]
        assert assessment.evaluation.systems["bisupervised"].request_rate.value == pytest.approx(np.mean(local < 0.5))


@pytest.mark.parametrize("pair", [(0.5,), (0.5, 0.4, 0.3), 0.5, "0.5", {"local": 0.5, "remote": 0.4}])
def test_thresholds_that_are_no_pair_are_refused(pair: Any) -> None:
    with pytest.raises(InputError, match="pair"):
        evaluate(columns(), pair)


@pytest.mark.parametrize("pair", [(NAN, 0.5), (0.5, "x")])
def test_thresholds_that_are_no_numbers_are_refused(pair: Any) -> None:
    with pytest.raises(ThresholdError):
        evaluate(columns(), pair)


def test_all_rows_may_choose_and_then_the_figures_are_said_to_be_optimistic() -> None:
    assessment = evaluate(columns(), held_out=0.0)
    assert len(assessment.table) == 200
    assert "optimistic" in assessment.judged_on


def test_the_file_of_thresholds_keeps_its_promise_on_the_same_data(tmp_path: Path) -> None:
    thresholds = calibrate(columns(), RequestBudget(0.4), seed=9)
    thresholds.save(tmp_path / "t.toml")
    assessment = evaluate(columns(), Thresholds.load(tmp_path / "t.toml"))
    cascade = assessment.evaluation.systems["bisupervised"]
    for name in ("request_rate", "coverage", "system_accuracy", "supervised_accuracy"):
        assert getattr(cascade, name).value == pytest.approx(thresholds.achieved[name])


def test_calibrating_is_deterministic_and_the_seed_matters() -> None:
    first, again, other = calibrate(columns()), calibrate(columns()), calibrate(columns(), seed=1)
    assert (first.local, first.remote) == (again.local, again.remote)
    assert first.achieved == again.achieved
    assert first.achieved != other.achieved
    assert first.target["name"] == "remote_even"
    whole = calibrate(columns(), BestAccuracy(None), held_out=0.0)
    assert Choice(whole.local, whole.remote) == BestAccuracy(None).choose(as_table(columns()))


def test_a_mapping_a_data_frame_and_a_table_are_the_same_results() -> None:
    first = evaluate(columns(), (0.5, 0.4)).evaluation
    for results in (pd.DataFrame(columns()), Table.from_columns(columns())):
        other = evaluate(results, (0.5, 0.4)).evaluation
        assert other.systems["bisupervised"] == pytest.approx(first.systems["bisupervised"]) or (
            other.systems["bisupervised"].system_accuracy == first.systems["bisupervised"].system_accuracy
        )
        assert other.curves is not None
        assert first.curves is not None
        assert other.curves.auc_rac == first.curves.auc_rac


def test_options_read_columns_and_are_refused_where_they_would_do_nothing() -> None:
    data = columns()
    data["score"] = data.pop("local_confidence")
    assessment = evaluate(data, (0.5, 0.4), rename={"local_confidence": "score"}, costs={"local": 0, "remote": 2.0})
    share = np.mean(data["score"] < 0.5)
    assert assessment.evaluation.systems["bisupervised"].cost_per_input.value == pytest.approx(2 * share)
    with pytest.raises(InputError, match="costs: for named columns only"):
        evaluate(Table.from_columns(columns()), (0.5, 0.4), costs={"remote": 2.0})


@pytest.mark.parametrize("results", [None, 3, [0.1, 0.2], np.zeros((3, 2)), "predictions.csv"])
def test_what_is_no_result_is_refused_with_what_is(results: Any) -> None:
    with pytest.raises(InputError, match="data frame"):
        evaluate(results)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: {name: column[:0] for name, column in data.items()},
        lambda data: {**data, "local_confidence": data["local_confidence"][:-1]},
        lambda data: {name: column for name, column in data.items() if name != "remote_confidence"},
        lambda data: {},
    ],
)
def test_columns_that_do_not_fit_are_refused(spoil: Any) -> None:
    with pytest.raises(TableError):
        evaluate(spoil(columns()))


def test_without_labels_given_thresholds_can_be_judged_and_none_can_be_chosen() -> None:
    data = {name: column for name, column in columns().items() if name.endswith("confidence")}
    assessment = evaluate(data, (0.5, 0.4))
    cascade = assessment.evaluation.systems["bisupervised"]
    assert cascade.request_rate.value == pytest.approx(np.mean(data["local_confidence"] < 0.5))
    assert math.isnan(cascade.system_accuracy.value)
    with pytest.raises(TableError, match="needs labelled rows"):
        evaluate(data)
    thresholds = calibrate(data, RequestBudget(0.3, None), held_out=0.0)
    assert thresholds.achieved["request_rate"] == pytest.approx(0.3)
    assert "system_accuracy" not in thresholds.achieved


def test_every_sort_of_confidence_gets_through() -> None:
    for spoil in (lambda c: np.full_like(c, 0.5), lambda c: -c, lambda c: np.where(c < 0.2, NAN, c)):
        for level in ("local", "remote"):
            data = columns()
            data[f"{level}_confidence"] = spoil(data[f"{level}_confidence"])
            assert evaluate(data, target=RemoteEven(0.5)).evaluation.n == 100


def test_single_precision_columns_are_judged_as_double_ones() -> None:
    data = columns()
    single = {**data, "local_confidence": data["local_confidence"].astype(np.float32)}
    double = {**data, "local_confidence": data["local_confidence"].astype(np.float32).astype(float)}
    first, second = evaluate(single), evaluate(double)
    assert first.thresholds.local == second.thresholds.local
    assert first.evaluation.systems["bisupervised"].coverage == second.evaluation.systems["bisupervised"].coverage


def test_answers_in_words_need_not_be_written_like_their_labels() -> None:
    rng = np.random.default_rng(0)
    words = [f"Answer {n}" for n in range(60)]
    rows = {"label": words, "local_prediction": [word.upper() for word in words], "local_confidence": rng.random(60)}
    rows |= {"remote_prediction": [f" {word.lower()} " for word in words], "remote_confidence": rng.random(60)}
    found = evaluate(rows, (0.5, -math.inf), objective="exact_match").evaluation
    assert found.systems["bisupervised"].system_accuracy.value == 1.0


def test_a_scored_objective_says_that_it_did_not_choose_the_thresholds() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    rows = {"label": labels, "local_prediction": labels, "remote_prediction": labels}
    rows |= {"local_confidence": rng.random(200), "remote_confidence": rng.random(200)}
    assert any("chosen by accuracy" in note for note in evaluate(rows, objective="macro_f1").evaluation.notes)


def test_compare_judges_the_2nd_level_on_what_the_thresholds_defer() -> None:
    table = as_table(columns())
    local = table.local.confidences
    low, high = np.quantile(local, [0.3, 0.8])
    found = compare(table, thresholds=Thresholds(float(high), 0.5, abstain=float(low)))
    assert found.request_rate == pytest.approx(np.mean((local < high) & (local >= low)))
    with pytest.raises(InputError, match="each says which inputs are deferred"):
        compare(table, thresholds=Thresholds(0.5, 0.5), request_rate=0.5)
