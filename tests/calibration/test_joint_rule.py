"""The rule with three actions, and its replay."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration import rule as replaying
from bisupervised.calibration.rule import CalibrationRows, Counts, Rule, figures_of, replay
from bisupervised.decision import decide, first_level
from bisupervised.errors import InputError, ThresholdError
from bisupervised.records import Route
from evaluation.made import THRESHOLDS, random_rows, rows

NAN, INF = float("nan"), float("inf")
threshold = st.sampled_from(THRESHOLDS)


def by_hand(made: tuple, rule: Rule) -> tuple[int, float, int, int]:
    """(accepted, loss, requests, early) with an `if` for every row."""
    accepted, loss, requests, early = 0, 0.0, 0, 0
    for local, left, remote, right in zip(*made, strict=True):
        if local >= rule.local:
            accepted, loss = accepted + 1, loss + 1.0 - float(left)
        elif local < rule.abstain:
            early += 1
        else:
            requests += 1
            if remote >= rule.remote:
                accepted, loss = accepted + 1, loss + 1.0 - float(right)
    return accepted, loss, requests, early


def numbers(counts: Counts) -> tuple[float, ...]:
    return counts.accepted, counts.loss, counts.requests, counts.early


@settings(deadline=None, max_examples=300)
@given(rows(graded=True), threshold, threshold, threshold)
def test_the_replay_is_the_rule_row_by_row(made: tuple, local: float, remote: float, abstain: float) -> None:
    rule = Rule(local, remote, abstain)
    found = figures_of(CalibrationRows.of(*made), rule)
    assert numbers(found) == pytest.approx(by_hand(made, rule))


@settings(deadline=None, max_examples=200)
@given(rows(), threshold, threshold)
def test_without_an_abstention_threshold_it_is_the_decision_of_two_levels(
    made: tuple, local: float, remote: float
) -> None:
    routes = decide(made[0], local, made[2], remote)
    found = figures_of(CalibrationRows.of(*made), Rule(local, remote))
    assert found.accepted == np.count_nonzero(routes != Route.REJECTED)
    assert found.requests == np.count_nonzero(routes != Route.LOCAL)
    assert found.early == 0


@settings(deadline=None, max_examples=50)
@given(rows(max_n=12), st.lists(st.tuples(threshold, threshold, threshold), min_size=1, max_size=6))
def test_many_rules_at_once_are_each_rule_alone(made: tuple, rules: list) -> None:
    data = CalibrationRows.of(*made)
    local, remote, abstain = np.array(rules).T
    many = replay(data, local, remote, abstain)
    for place, thresholds in enumerate(rules):
        one = figures_of(data, Rule(*thresholds))
        assert numbers(one) == tuple(getattr(many, n)[place] for n in ("accepted", "loss", "requests", "early"))


def test_rows_are_counted_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = CalibrationRows.of(*random_rows(1000))
    thresholds = np.linspace(0, 1, 7)
    whole = replay(data, thresholds, thresholds[::-1], thresholds / 2)
    monkeypatch.setattr(replaying, "_BLOCK", 50)
    blocks = replay(data, thresholds, thresholds[::-1], thresholds / 2)
    for name in ("accepted", "loss", "requests", "early"):
        assert getattr(whole, name).tolist() == getattr(blocks, name).tolist()


def actions(scores: list[float], local: float, abstain: float) -> str:
    """Of each score: a accept, d defer, x abstain early."""
    accepted, deferred = first_level(np.array(scores), local, abstain)
    return "".join("a" if one else "d" if other else "x" for one, other in zip(accepted, deferred, strict=True))


def test_missing_local_evidence_is_deferred_and_never_abstained_on_early() -> None:
    for local, abstain in ((0.5, 0.4), (-INF, -INF), (INF, INF)):
        assert actions([NAN], local, abstain) == "d"


def test_the_ends_of_the_abstention_threshold() -> None:
    scores = [-INF, 0.2, 0.9]
    assert actions(scores, 0.5, -INF) == "dda"
    assert actions(scores, 0.5, INF) == "xxa"
    assert actions(scores, 0.5, 0.2) == "xda"


def test_everything_can_be_deferred_the_most_confident_input_too() -> None:
    """The paper's code keeps the single most confident input local at request rate 1."""
    data = CalibrationRows.of([0.1, 0.9, 1.0], [1, 1, 1], [0.5] * 3, [1, 1, 1])
    assert figures_of(data, Rule(INF, -INF)).request_rate == 1.0


def test_figures_are_shares_of_all_inputs_and_risk_is_of_the_accepted() -> None:
    data = CalibrationRows.of([0.9, 0.8, 0.3, 0.1], [1, 0, 0, 1], [0.1, 0.1, 0.9, 0.9], [1, 1, 1, 0])
    found = figures_of(data, Rule(local=0.8, remote=0.5, abstain=0.2))
    assert (found.coverage, found.request_rate, found.abstention) == (0.75, 0.25, 0.25)
    assert found.risk == pytest.approx(1 / 3)
    assert found.supervised_accuracy == pytest.approx(2 / 3)
    assert math.isnan(figures_of(data, Rule(INF, INF)).risk)


@pytest.mark.parametrize(
    "columns",
    [
        ([], [], [], []),
        ([0.1], [1, 0], [0.1], [1]),
        ([[0.1]], [[1]], [[0.1]], [[1]]),
        ([0.1], [NAN], [0.1], [1]),
        ([0.1], [2], [0.1], [1]),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(columns: tuple) -> None:
    with pytest.raises(InputError):
        CalibrationRows.of(*columns)


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(ThresholdError, match="abstain threshold is NaN"):
        Rule(0.5, 0.5, NAN)


def test_whole_losses_are_told_from_grades() -> None:
    assert CalibrationRows.of([1], [True], [1], [0]).whole
    assert not CalibrationRows.of([1], [True], [1], [0.5]).whole
