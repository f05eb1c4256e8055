"""What travels between the stations."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import PredictionRejected
from bisupervised.fallback import Default
from bisupervised.records import (
    Failure,
    LevelRows,
    ModelOutput,
    Outcome,
    Reason,
    Route,
    Verdicts,
    concatenate_outputs,
    take_outputs,
)
from fakes import system

NAN = float("nan")
TIMED_OUT = Failure("timeout", "no answer in 1 s")


def full_output(n: int = 4) -> ModelOutput:
    """Every column filled with numbers that tell their row."""
    rows = np.arange(n)
    return ModelOutput(
        predictions=np.array([f"p{row}" for row in rows]),
        probabilities=np.stack([rows / 10, 1 - rows / 10], axis=1),
        classes=np.array(["a", "b"]),
        logits=np.stack([rows, -rows], axis=1).astype(np.float32),
        features=(rows[:, None] * np.array([1.0, 2.0, 3.0])).astype(np.float32),
        sampled_probabilities=np.stack([np.stack([rows / 10, 1 - rows / 10], axis=1)] * 5, axis=1),
        token_logprobs=[np.full(row, -0.5) for row in rows],
        token_alternatives=[np.full((row, 2), -0.5 - row) for row in rows],
        top_logprobs=[{f"t{row}": -0.1} for row in rows],
        texts=[f"reply {row}" for row in rows],
        confidences=rows / 10,
        samples=[[f"s{row}", None] for row in rows],
        sample_logprobs=[np.array([-1.0 - row, NAN]) for row in rows],
        sample_lengths=[np.array([1.0 + row, NAN]) for row in rows],
        p_true=rows / 20,
        latency_s=rows / 100,
        cost=rows / 1000,
        prompt_tokens=rows + 10.0,
        completion_tokens=rows + 20.0,
        extra_calls=rows + 2.0,
        failures={1: TIMED_OUT},
    )


def assert_row(output: ModelOutput, row: int, original: ModelOutput, source: int) -> None:
    for column in fields(ModelOutput):
        values, wanted = getattr(output, column.name), getattr(original, column.name)
        if column.name == "classes":
            assert np.array_equal(values, wanted)
        elif column.name == "failures":
            assert values.get(row) == wanted.get(source)
        else:
            equal_nan = column.name in ("sample_logprobs", "sample_lengths")
            assert np.array_equal(values[row], wanted[source], equal_nan=equal_nan), column.name


@given(st.lists(st.integers(0, 3), max_size=8))
def test_taken_rows_keep_every_column_and_their_failures(rows):
    output = full_output()
    taken = take_outputs(output, np.array(rows, dtype=np.int64))
    assert len(taken) == len(rows)
    for new, old in enumerate(rows):
        assert_row(taken, new, output, old)
    assert set(taken.failures) == {new for new, old in enumerate(rows) if old == 1}


@given(st.lists(st.integers(0, 4), max_size=6))
def test_outputs_taken_apart_and_joined_are_as_before(cuts):
    output = full_output()
    edges = [0, *sorted(cuts), 4]
    parts = [take_outputs(output, np.arange(a, b)) for a, b in itertools.pairwise(edges)]
    joined = concatenate_outputs(parts)
    assert len(joined) == 4
    for row in range(4):
        assert_row(joined, row, output, row)


def test_what_a_failed_call_lacks_is_not_known_in_the_joined_output():
    output = full_output(2)
    failed = ModelOutput.failed(2, TIMED_OUT, latency_s=0.25)
    joined = concatenate_outputs([failed, output, failed])
    assert joined.predictions.tolist() == [None, None, "p0", "p1", None, None]
    assert joined.failures == dict.fromkeys([0, 1, 3, 4, 5], TIMED_OUT), "row 1 of the second part failed as well"
    assert np.isnan(joined.confidences).tolist() == [True, True, False, False, True, True]
    assert np.isnan(joined.cost).tolist() == [True, True, False, False, True, True]
    assert joined.probabilities.shape == (6, 2)
    assert np.isnan(joined.probabilities[[0, 1, 4, 5]]).all()
    assert joined.latency_s.tolist() == [0.25, 0.25, 0.0, 0.01, 0.25, 0.25]
    assert joined.logits.shape == (6, 2)
    assert joined.features.shape == (6, 3)
    assert joined.sampled_probabilities.shape == (6, 5, 2)
    for column in (joined.logits, joined.features, joined.sampled_probabilities):
        assert np.isnan(column).reshape(6, -1).all(axis=1).tolist() == [True, True, False, False, True, True]
    assert joined.features.dtype == np.float32, "what is missing does not double the memory of what is there"
    assert joined.texts == [None, None, "reply 0", "reply 1", None, None]
    assert [len(row) for row in joined.token_logprobs] == [0, 0, 0, 1, 0, 0]
    assert [row.shape for row in joined.token_alternatives] == [(0, 0), (0, 0), (0, 2), (1, 2), (0, 0), (0, 0)]
    assert [dict(row) for row in joined.top_logprobs] == [{}, {}, {"t0": -0.1}, {"t1": -0.1}, {}, {}]
    assert [list(row) for row in joined.samples] == [[], [], ["s0", None], ["s1", None], [], []]
    assert [len(row) for row in joined.sample_logprobs] == [0, 0, 2, 2, 0, 0]
    assert [len(row) for row in joined.sample_lengths] == [0, 0, 2, 2, 0, 0]
    assert np.isnan(joined.p_true).tolist() == [True, True, False, False, True, True]
    assert joined.extra_calls.tolist() == [0, 0, 2, 3, 0, 0], "a call that failed was not followed by others"


def test_columns_that_nobody_has_stay_absent():
    joined = concatenate_outputs([ModelOutput(np.array([1])), ModelOutput(np.array([2]))])
    assert joined.predictions.tolist() == [1, 2]
    for name in (column.name for column in fields(ModelOutput) if column.name not in ("predictions", "failures")):
        assert getattr(joined, name) is None, name


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (["a"], ["bbb"], ["a", "bbb"]),
        ([1], [2.5], [1, 2.5]),
        ([1], ["1"], [1, "1"]),
        ([True], [2], [True, 2]),
        ([None], ["a"], [None, "a"]),
        ([None], [1], [None, 1]),
    ],
)
def test_labels_of_mixed_kinds_stay_what_they_are(one, other, joined):
    result = concatenate_outputs([ModelOutput(np.array(one)), ModelOutput(np.array(other))]).predictions.tolist()
    assert result == joined
    assert list(map(type, result)) == list(map(type, joined))


def test_parts_with_other_classes_are_not_joined():
    def part(classes, p):
        return ModelOutput(np.array([0]), probabilities=np.array([p]), classes=np.array(classes))

    for wrong in (part(["b", "a"], [0.1, 0.9]), part(["a", "b", "c"], [0.1, 0.8, 0.1])):
        with pytest.raises(ValueError, match="different classes"):
            concatenate_outputs([part(["a", "b"], [0.5, 0.5]), wrong])


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("features", (1, 3), (2, 4)),
        ("logits", (1, 3), (2, 4)),
        ("sampled_probabilities", (1, 5, 3), (2, 5, 4)),
        ("sampled_probabilities", (1, 5, 3), (2, 6, 3)),
    ],
)
def test_parts_of_different_shapes_are_not_joined(name, one, other):
    parts = [ModelOutput(np.zeros(shape[0]), **{name: np.zeros(shape)}) for shape in (one, other)]
    with pytest.raises(ValueError, match="the parts of one model output have"):
        concatenate_outputs(parts)


@pytest.mark.parametrize("first", [True, False])
def test_a_part_without_rows_need_not_know_classes_and_widths(first):
    """What a model gives for no inputs, before it was ever asked, has columns of no width."""
    nothing = ModelOutput(
        np.empty(0, dtype=object),
        probabilities=np.empty((0, 0)),
        classes=np.arange(0),
        logits=np.empty((0, 0)),
        features=np.empty((0, 0)),
        sampled_probabilities=np.empty((0, 0, 0)),
    )
    output = full_output(2)
    joined = concatenate_outputs([nothing, output] if first else [output, nothing])
    for row in range(2):
        assert_row(joined, row, output, row)
    assert len(concatenate_outputs([nothing, nothing])) == 0


def test_one_part_is_itself_and_no_part_is_an_empty_output():
    output = full_output()
    assert concatenate_outputs([output]) is output
    assert len(concatenate_outputs([])) == 0


def test_the_reason_tells_a_failure_from_no_evidence_from_no_trust():
    verdicts = Verdicts(np.array([0.9, 0.1, NAN, NAN]), np.array([True, False, False, False]), 0.5, {3: TIMED_OUT})
    assert len(verdicts) == 4
    assert [verdicts.reason(row) for row in range(4)] == [
        Reason.TRUSTED,
        Reason.NOT_TRUSTED,
        Reason.NO_EVIDENCE,
        Reason.FAILED,
    ]


def test_a_failure_is_written_as_kind_and_message():
    assert str(TIMED_OUT) == "timeout: no answer in 1 s"


def test_reasons_are_the_words_that_logs_hold():
    assert {str(reason) for reason in Reason} == {
        "trusted", "not_trusted", "abstained", "no_evidence", "failed", "cancelled", "not_asked"
    }  # fmt: skip


def test_routes_have_names():
    assert [(int(route), route.label) for route in Route] == [(0, "local"), (1, "remote"), (2, "rejected")]


def same(a: object, b: object) -> bool:
    return a == b or (a != a and b != b)


def test_single_outcomes_and_columns_say_the_same():
    with system([0.9, 0.1, 0.1, NAN], [NAN, 0.8, 0.2, NAN], Default(-1)) as running:
        outcomes = running.predict_many([0, 1, 2, 3])
    assert len(outcomes) == len(list(outcomes)) == 4
    for row, outcome in enumerate(outcomes):
        assert isinstance(outcome, Outcome)
        assert outcome.id == outcomes.ids[row]
        assert outcome.route is Route(outcomes.routes[row])
        assert outcome.answer == outcomes.answers[row]
        assert outcome.reason is outcomes.reasons[row]
        assert outcome.deferred_because is outcomes.deferred_because[row]
        assert outcome.remote_requested == outcomes.remote.asked[row]
        assert outcome.latency_s == outcomes.latency_s[row]
        assert outcome.cost == outcomes.cost[row]
        for name, rows in (("local", outcomes.local), ("remote", outcomes.remote)):
            for theirs, ours in (
                ("predictions", "prediction"),
                ("confidences", "confidence"),
                ("latency_s", "latency_s"),
                ("supervisor_s", "supervisor_s"),
                ("cost", "cost"),
                ("errors", "error"),
            ):
                assert same(getattr(outcome, f"{name}_{ours}"), getattr(rows, theirs)[row])
    assert outcomes[-1].id == outcomes.ids[3]
    assert outcomes.request_rate == 0.75
    assert outcomes.coverage == 0.5
    assert outcomes.answers.tolist() == [0, 1, -1, -1]
    with pytest.raises(IndexError):
        outcomes[4]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_outcomes_and_outputs_can_be_sent_to_another_process(again):
    with system([0.1], [0.8]) as running:
        outcome = running.predict(0)
        many = running.predict_many([0])
    assert again(outcome) == outcome
    assert again(many)[0].answer == many[0].answer
    assert_row(again(full_output()), 1, full_output(), 1)


def test_an_outcome_without_the_remote_model_costs_and_takes_what_the_local_one_did():
    with system([0.9], [0.8]) as running:
        outcome = replace(running.predict(0), local_latency_s=1.0, local_supervisor_s=0.5, local_cost=0.25)
    assert outcome.latency_s == 1.5, "the remote latency, NaN, plays no part"
    assert outcome.cost == 0.25
    asked = replace(
        outcome,
        remote_requested=True,
        remote_latency_s=2.0,
        remote_supervisor_s=0.25,
        remote_cost=3.0,
        fallback_s=4.0,
    )
    assert asked.latency_s == 7.75
    assert asked.cost == 3.25
    assert np.isnan(replace(asked, remote_cost=NAN).cost), "not known is not 0"
    assert np.isnan(replace(asked, remote_latency_s=NAN).latency_s)


@pytest.mark.parametrize(
    ("route", "fallback", "error", "answered"),
    [
        (Route.LOCAL, None, None, True),
        (Route.REMOTE, None, None, True),
        (Route.REJECTED, None, None, False),
        (Route.REJECTED, "raise", None, False),
        (Route.REJECTED, "queue", None, False),
        (Route.REJECTED, "default", None, True),
        (Route.REJECTED, "call", None, True),
        (Route.REJECTED, "call", "ValueError: no", False),
        (Route.REJECTED, "ask_a_friend", None, True),
        (Route.REJECTED, "ask_a_friend", "ValueError: no", False),
    ],
)
def test_an_outcome_is_answered_by_a_model_or_by_a_fallback_that_answers(route, fallback, error, answered):
    with system([0.9], [0.9]) as running:
        outcome = running.predict(0)
    assert replace(outcome, route=route, fallback=fallback, fallback_error=error).answered is answered


def test_the_first_input_without_an_answer_is_raised():
    with system([0.9, 0.1, 0.1], [0.9, 0.9, 0.1]) as running:
        running.predict_many([0, 1]).raise_for_rejected()
        outcomes = running.predict_many([0, 1, 2, 2], ids=["a", "b", "c", "d"])
    with pytest.raises(PredictionRejected) as raised:
        outcomes.raise_for_rejected()
    assert raised.value.outcome.id == "c"
    with system([0.1], [0.1], Default("?")) as running:
        running.predict_many([0]).raise_for_rejected()


def test_rates_of_no_inputs_are_not_known():
    with system([], []) as running:
        outcomes = running.predict_many([])
    assert len(outcomes) == 0
    assert np.isnan(outcomes.request_rate)
    assert np.isnan(outcomes.coverage)
    assert list(outcomes) == []
    outcomes.raise_for_rejected()


@given(st.lists(st.integers(0, 3), max_size=6), st.booleans())
def test_level_rows_are_taken_in_every_column(rows, as_mask):
    level = LevelRows.empty(4)
    level.predictions[:] = ["a", "b", None, "d"]
    tokens = np.array([np.zeros(1), None, np.zeros(2), None], dtype=object)
    level = replace(level, probabilities=np.eye(4), classes=np.array(list("wxyz")), token_logprobs=tokens)
    if as_mask:
        rows = sorted(set(rows))
        taken = level.take(np.isin(np.arange(4), rows))
    else:
        taken = level.take(np.array(rows, dtype=np.int64))
    assert len(taken) == len(rows)
    assert taken.predictions.tolist() == [level.predictions[row] for row in rows]
    assert taken.classes.tolist() == list("wxyz")
    assert taken.probabilities.tolist() == [np.eye(4)[row].tolist() for row in rows]
    assert [t is None for t in taken.token_logprobs] == [tokens[row] is None for row in rows]
    assert not taken.asked.any()
    assert (taken.cost == 0).all()
