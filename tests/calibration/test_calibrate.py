from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration import (
    BestAccuracy,
    RemoteEven,
    RequestBudget,
    Thresholds,
    calibrate_table,
    data_hash,
    rows_to_judge,
    split_rows,
)
from bisupervised.calibration.choice import Choice
from bisupervised.errors import InputError, ThresholdError
from bisupervised.evaluation.system import bisupervised, system_figures
from bisupervised.table import Table
from evaluation.made import a_table, random_rows

NAN = float("nan")


class Spy:
    """A target that remembers the rows that it chose on."""

    name = "spy"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def choose(self, rows: Table) -> Choice:
        self.seen += rows.ids.tolist()
        return Choice(0.5, 0.25)


def made(n: int = 200, seed: int = 0) -> Table:
    return a_table(*random_rows(n, seed))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 500), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32))
def test_a_split_is_disjoint_complete_in_order_and_repeats_by_seed(n: int, held_out: float, seed: int) -> None:
    split = split_rows(n, held_out, seed)
    assert sorted([*split.calibration, *split.held_out]) == list(range(n))
    assert (np.diff(split.calibration) > 0).all()
    assert (np.diff(split.held_out) > 0).all()
    assert len(split.held_out) <= n * held_out
    again = split_rows(n, held_out, seed)
    assert np.array_equal(again.held_out, split.held_out)


def test_another_seed_is_another_split_and_the_split_is_random() -> None:
    splits = [split_rows(1000, 0.5, seed).held_out for seed in range(20)]
    assert len({tuple(held_out.tolist()) for held_out in splits}) == 20
    assert abs(np.mean(np.concatenate(splits)) - 499.5) < 20


@pytest.mark.parametrize("held_out", [1.0, -0.1, NAN, 2])
def test_a_share_that_leaves_nothing_to_choose_on_is_refused(held_out: float) -> None:
    with pytest.raises(InputError, match="held-out share"):
        split_rows(100, held_out, 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.floats(0, 0.99), st.integers(0, 99))
def test_the_rows_to_judge_are_never_those_that_chose_unless_it_says_so(n: int, held_out: float, seed: int) -> None:
    table, spy = made(n), Spy()
    thresholds = calibrate_table(table, spy, held_out=held_out, seed=seed)
    judged, sentence = rows_to_judge(table, thresholds)
    chose, judge = set(spy.seen), set(judged.ids.tolist())
    if chose & judge:
        assert chose == judge == set(table.ids.tolist())
        assert "optimistic" in sentence
        assert thresholds.achieved["on"] == "the calibration rows themselves"
        assert thresholds.evidence["n_held_out"] == 0
    else:
        assert chose | judge == set(table.ids.tolist())
        assert f"Judged on the {len(judge)} rows held out of the {n}; the other {len(chose)} chose" in sentence
        assert thresholds.achieved["on"] == "held-out rows"
    assert thresholds.evidence["n"] == len(chose)


def test_few_rows_are_not_split_and_it_says_so() -> None:
    for n, split in ((19, False), (20, True)):
        judged, sentence = rows_to_judge(made(n), calibrate_table(made(n), BestAccuracy()))
        assert (len(judged) < n) == split
        assert ("optimistic" in sentence) != split


def test_what_was_achieved_is_what_the_held_out_rows_say() -> None:
    table = made(500)
    thresholds = calibrate_table(table, RequestBudget(0.3), seed=3)
    held_out = table.take(split_rows(500, 0.5, 3).held_out)
    figures = system_figures(bisupervised(held_out, thresholds.local, thresholds.remote))
    for name in ("request_rate", "coverage", "system_accuracy", "supervised_accuracy"):
        estimate = getattr(figures, name)
        assert thresholds.achieved[name] == estimate.value
        assert thresholds.achieved[f"{name}_interval"] == [estimate.low, estimate.high]
    assert thresholds.achieved["false_alarm_rate"] == figures.false_alarm_rate
    assert thresholds.target == {
        "name": "request_budget", "request_rate": 0.3, "false_alarm_rate": 0.05, "delta": None
    }  # fmt: skip
    assert thresholds.evidence["seed"] == 3


def test_thresholds_of_a_file_are_judged_as_those_in_memory(tmp_path: Path) -> None:
    table = made(100)
    thresholds = calibrate_table(table, RemoteEven(), held_out=0.3, seed=5)
    thresholds.save(tmp_path / "t.toml")
    first, sentence = rows_to_judge(table, thresholds)
    again, same = rows_to_judge(table, Thresholds.load(tmp_path / "t.toml"))
    assert first.ids.tolist() == again.ids.tolist()
    assert len(first) == 30
    assert sentence == same


def test_another_file_is_judged_whole() -> None:
    thresholds = calibrate_table(made(100), RemoteEven())
    judged, sentence = rows_to_judge(made(100, seed=1), thresholds)
    assert (len(judged), sentence) == (100, "")
    assert len(rows_to_judge(made(100), Thresholds(0.5, 0.5))[0]) == 100


def test_the_same_rows_are_known_whatever_their_labels_and_objective() -> None:
    """Else thresholds chosen for accuracy would be judged, for another objective, on the rows that chose them."""
    table = made(100)
    thresholds = calibrate_table(table, RemoteEven())
    other = replace(table, local_correct=1 - table.local_correct)
    assert len(rows_to_judge(other, thresholds)[0]) == 50


def test_the_same_rows_are_known_whatever_computed_their_nan_and_zero() -> None:
    confidences = np.array([NAN, 0.0, 0.5, 1.0])
    with np.errstate(invalid="ignore"):
        computed = np.array([np.float64(np.inf) - np.float64(np.inf), -0.0, 0.5, 1.0])
    assert confidences.tobytes() != computed.tobytes()
    correct = np.ones(4)
    assert data_hash(a_table(confidences, correct, confidences, correct)) == data_hash(
        a_table(computed, correct, confidences, correct)
    )


@pytest.mark.parametrize("change", ["local", "remote", "ids", "order"])
def test_other_rows_have_another_hash(change: str) -> None:
    table = made(50)
    if change == "order":
        other = table.take(np.arange(50)[::-1])
    elif change == "ids":
        other = replace(table, ids=np.array([f"x{id_}" for id_ in table.ids]))
    else:
        rows = table.level(change)
        other = replace(table, **{change: replace(rows, confidences=np.nextafter(rows.confidences, 2.0))})
    assert data_hash(other) != data_hash(table)


@pytest.mark.parametrize("evidence", [{"held_out": "half"}, {"held_out": 1.5}, {"seed": "x"}, {"seed": -1}])
def test_evidence_that_was_tampered_with_is_refused(evidence: dict[str, Any]) -> None:
    table = made(50)
    thresholds = calibrate_table(table, RemoteEven())
    with pytest.raises(ThresholdError, match="held_out and seed"):
        rows_to_judge(table, replace(thresholds, evidence={**thresholds.evidence, **evidence}))


def test_a_log_of_deferred_requests_promises_no_coverage_it_cannot_know() -> None:
    local, _, remote, _ = random_rows(200)
    asked = local < 0.3
    log = Table.from_columns(
        {"local_confidence": local, "remote_confidence": np.where(asked, remote, NAN), "remote_asked": asked}
    )
    thresholds = calibrate_table(log, RequestBudget(0.6, None))
    assert thresholds.achieved["request_rate"] == pytest.approx(0.6, abs=0.15)
    assert "coverage" not in thresholds.achieved
    assert "coverage" in calibrate_table(log, RequestBudget(0.1, None)).achieved


@pytest.mark.slow
def test_a_budget_calibrated_on_rows_is_met_on_others_as_often_as_order_statistics_say() -> None:
    """Expected request rate k / (n + 1), and over budget in about half of the splits: it is an estimate."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        local = rng.random(400)
        table = a_table(local, np.ones(400), local, np.ones(400))
        rates.append(calibrate_table(table, RequestBudget(0.3), seed=int(rng.integers(1e9))).achieved["request_rate"])
    assert np.mean(rates) == pytest.approx(61 / 201, abs=3 * np.std(rates) / 20)
    assert 0.4 < np.mean(np.array(rates) > 0.3) < 0.6
