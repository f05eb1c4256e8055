"""From decisions to the outcomes that users, logs and tables read."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bisupervised.cascade import replay
from bisupervised.errors import TableError
from bisupervised.fallback import Call, Default
from bisupervised.outcomes import join_outcomes, join_rows, level_rows, outcome_of, outcomes_of, settling
from bisupervised.quantifiers import GivenConfidence, TokenLikelihood
from bisupervised.records import Failure, LevelRows, ModelOutput, Route, take_outputs
from bisupervised.supervisor import Supervisor
from fakes import recorded

NAN = float("nan")
SUPERVISORS = (Supervisor(GivenConfidence(), 0.5), Supervisor(GivenConfidence(), 0.5))
COSTS = (0.25, 2.0)


def with_evidence(output: ModelOutput) -> ModelOutput:
    """The same with evidence in every column, and numbers that tell their row."""
    n = len(output)
    rows = np.arange(n) / 10
    return ModelOutput(
        output.predictions,
        probabilities=np.stack([rows, 1 - rows], axis=1),
        classes=np.array(["a", "b"]),
        logits=np.stack([rows, -rows], axis=1).astype(np.float32),
        features=np.stack([rows, rows + 1, rows + 2], axis=1),
        token_logprobs=[np.full(row, -0.5) for row in range(n)],
        confidences=output.confidences,
        latency_s=rows,
        failures=output.failures,
    )


LOCAL = with_evidence(recorded([0.9, 0.1, NAN, 0.1, 0.9], list("abcde"), failed=[4]))
REMOTE = with_evidence(recorded([0.1, 0.8, 0.2, NAN, 0.9], list("vwxyz")))


def test_a_single_outcome_says_what_its_row_of_a_batch_says():
    decisions = replay(LOCAL, REMOTE, SUPERVISORS)
    batch = outcomes_of(decisions, list("01234"), COSTS)
    for row in range(5):
        alone = replay(take_outputs(LOCAL, np.array([row])), take_outputs(REMOTE, np.array([row])), SUPERVISORS)
        single, of_batch = outcome_of(alone, str(row), COSTS), batch[row]
        for name in single.__dataclass_fields__:
            if not name.endswith("supervisor_s"):
                np.testing.assert_equal(getattr(single, name), getattr(of_batch, name), err_msg=name)


def test_the_evidence_of_the_remote_model_stands_at_the_rows_that_were_asked():
    outcomes = outcomes_of(replay(LOCAL, REMOTE, SUPERVISORS), list("01234"), COSTS)
    assert outcomes.remote.asked.tolist() == [False, True, True, True, True]
    assert outcomes.remote.predictions.tolist() == [None, "w", "x", "y", "z"]
    np.testing.assert_array_equal(outcomes.remote.probabilities[0], [NAN, NAN])
    np.testing.assert_array_equal(outcomes.remote.probabilities[1:], REMOTE.probabilities[1:])
    assert outcomes.remote.classes.tolist() == ["a", "b"]
    assert [None if row is None else len(row) for row in outcomes.remote.token_logprobs] == [None, 1, 2, 3, 4]
    np.testing.assert_array_equal(outcomes.remote.latency_s, [NAN, 0.1, 0.2, 0.3, 0.4])
    assert outcomes.remote.cost.tolist() == [0.0, 2.0, 2.0, 2.0, 2.0]
    assert outcomes.local.errors.tolist() == [None, None, None, None, "timeout: no answer in 1 s"]
    assert outcomes.local.predictions[4] is None
    assert outcomes.answers.tolist() == ["a", "w", None, None, "z"]


def test_where_nobody_was_deferred_the_remote_columns_say_not_asked():
    outcomes = outcomes_of(replay(recorded([0.9, 0.9]), recorded([0.1, 0.1]), SUPERVISORS), ["a", "b"], COSTS)
    assert not outcomes.remote.asked.any()
    assert outcomes.remote.cost.tolist() == [0.0, 0.0]
    assert outcomes.cost.tolist() == [0.25, 0.25]
    assert outcomes.remote.errors.tolist() == [None, None]


@pytest.mark.parametrize("cuts", [[0, 5], [0, 1, 5], [0, 0, 2, 2, 5], [0, 1, 2, 3, 4, 5]])
def test_batches_joined_are_one_batch(cuts):
    whole = outcomes_of(replay(LOCAL, REMOTE, SUPERVISORS), list("01234"), COSTS)
    parts = []
    for start, stop in itertools.pairwise(cuts):
        rows = np.arange(start, stop)
        decisions = replay(take_outputs(LOCAL, rows), take_outputs(REMOTE, rows), SUPERVISORS)
        parts.append(outcomes_of(decisions, [str(row) for row in rows], COSTS))
    joined = join_outcomes(parts)
    for row in range(5):
        for name in whole[row].__dataclass_fields__:
            if not name.endswith("supervisor_s"):
                np.testing.assert_equal(getattr(joined[row], name), getattr(whole[row], name), err_msg=name)
    for name in ("local", "remote"):
        ours, theirs = getattr(joined, name), getattr(whole, name)
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
        assert list(ours.classes) == list(theirs.classes)
        for one, other in zip(ours.token_logprobs, theirs.token_logprobs, strict=True):
            np.testing.assert_equal(one, other)


def test_rows_without_evidence_join_rows_with_it():
    plain = level_rows(recorded([0.1]), np.array([0.1]), 0.0, 0.0)
    rich = level_rows(with_evidence(recorded([0.2, 0.3])), np.array([0.2, 0.3]), 0.0, 0.0)
    joined = join_rows([plain, rich, LevelRows.empty(1)])
    assert np.isnan(joined.probabilities).all(axis=1).tolist() == [True, False, False, True]
    assert [row is None for row in joined.token_logprobs] == [True, False, False, True]
    assert joined.asked.tolist() == [True, True, True, False]
    assert join_rows([plain, plain]).probabilities is None


def test_level_rows_leave_the_output_as_it_was():
    output = recorded([0.1, 0.2], ["a", "b"], failed=[0])
    rows = level_rows(output, output.confidences, 0.5, 1.0)
    assert rows.predictions.tolist() == [None, "b"]
    assert output.predictions.tolist() == ["a", "b"]
    assert rows.supervisor_s.tolist() == [0.5, 0.5]
    assert np.isnan(rows.latency_s).all(), "nobody measured it"


def test_token_log_probabilities_of_equal_length_stay_one_array_for_each_input():
    output = ModelOutput(np.array([0, 1]), token_logprobs=[[-0.1, -0.2], [-0.3, -0.4]])
    rows = level_rows(output, TokenLikelihood()(output), 0.0, 0.0)
    assert rows.token_logprobs.shape == (2,)
    assert rows.token_logprobs[1].tolist() == [-0.3, -0.4]


@pytest.mark.parametrize("cost", [1.0, NAN])
def test_a_cost_that_is_known_of_a_failed_call_is_kept(cost):
    output = ModelOutput(np.array([None, 1]), cost=np.array([cost, 3.0]), failures={0: Failure("status", "500")})
    expected = 2.0 if np.isnan(cost) else cost
    assert level_rows(output, np.full(2, NAN), 0.0, 2.0).cost.tolist() == [expected, 3.0]


def test_settling_yields_what_is_awaited_and_returns_the_outcome_with_the_answer():
    decisions = replay(recorded([0.1]), recorded([0.1]), SUPERVISORS)
    outcome = outcome_of(decisions, "a", COSTS)
    assert outcome.route is Route.REJECTED

    async def ask(x, rejected):
        return None

    steps = settling(Call(ask), "x", outcome)
    next(steps).close()
    with pytest.raises(StopIteration) as stop:
        steps.send("answered")
    settled, error = stop.value.value
    assert (settled.answer, settled.fallback, error) == ("answered", "call", None)
    with pytest.raises(StopIteration) as stop:
        next(settling(Default(7), "x", outcome))
    assert stop.value.value[0].answer == 7


def test_logits_and_features_are_kept_only_where_they_are_asked_for():
    plain = level_rows(LOCAL, LOCAL.confidences, 0.0, 0.0)
    assert (plain.logits, plain.features) == (None, None)
    kept = level_rows(LOCAL, LOCAL.confidences, 0.0, 0.0, evidence=["logits", "features"])
    assert kept.logits is LOCAL.logits
    assert kept.features is LOCAL.features


def test_features_of_different_widths_do_not_join():
    narrow = level_rows(LOCAL, LOCAL.confidences, 0.0, 0.0, evidence=["features"])
    wide = replace(narrow, features=np.zeros((5, 4)))
    none = level_rows(LOCAL, LOCAL.confidences, 0.0, 0.0)
    joined = join_rows([narrow, none, narrow])
    np.testing.assert_array_equal(
        joined.features, np.concatenate([LOCAL.features, np.full((5, 3), NAN), LOCAL.features])
    )
    with pytest.raises(TableError, match="some rows have 3 features and some 4"):
        join_rows([narrow, wide])
