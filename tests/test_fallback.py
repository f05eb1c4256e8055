"""What happens on REJECTED."""

from __future__ import annotations

import asyncio
import functools
import queue

import pytest

from bisupervised.errors import InputError, ModelTimeout, PredictionRejected
from bisupervised.fallback import Call, Default, Fallback, HandOver, Raise, as_fallback
from bisupervised.records import Outcome, Reason, Route
from fakes import FakeLog, FakeQueue, system

LOCAL = [0.9, 0.1, 0.1, 0.1]
REMOTE = [0.9, 0.8, 0.2, 0.9]
DOWN = {3: ModelTimeout("no answer in 1 s")}  # input 0: local, 1: remote, 2: not trusted, 3: failed


def run(fallback, log=None):
    return system(LOCAL, REMOTE, fallback, log=log, max_batch=1, raises=DOWN)


def ways(running, row, id_="a"):
    """The outcome, or the error, of one input asked in each of the three ways."""
    results = []
    for ask in (
        lambda: running.predict(row, id_=id_),
        lambda: asyncio.run(running.apredict(row, id_=id_)),
        lambda: running.predict_many([row], ids=[id_])[0],
    ):
        try:
            results.append(ask())
        except Exception as error:
            results.append(error)
    return results


def test_without_a_fallback_a_rejected_prediction_is_raised_with_its_settled_outcome():
    log = FakeLog()
    with run(None, log) as running:
        plain, later, marked = ways(running, 2)
    for error in (plain, later):
        assert isinstance(error, PredictionRejected)
        assert error.outcome.id == "a"
        assert error.outcome.fallback == "raise"
        assert error.outcome.reason is Reason.NOT_TRUSTED
        assert error.outcome.remote_prediction == 2
        assert "0.2" in str(error)
    assert isinstance(marked, Outcome), "a batch goes on, and marks the row"
    assert (marked.route, marked.fallback, marked.answer, marked.answered) == (Route.REJECTED, "raise", None, False)
    assert marked.fallback_error is None
    assert [outcome for outcome, _ in log.rows] == [plain.outcome, later.outcome, marked]


def test_trusted_predictions_take_no_fallback():
    asked = []
    with run(lambda x, outcome: asked.append(x)) as running:
        for row in (0, 1):
            for outcome in ways(running, row):
                assert outcome.fallback is None
                assert outcome.fallback_s == 0.0
                assert outcome.answer == row
    assert asked == []


@pytest.mark.parametrize("answer", ["ask a person", None, 0, [1, 2]])
def test_a_default_answer_is_given_to_every_rejected_input(answer):
    with run(Default(answer)) as running:
        for row in (2, 3):
            for outcome in ways(running, row):
                assert outcome.answer == answer
                assert outcome.route is Route.REJECTED, "it is no model's answer"
                assert outcome.fallback == "default"
                assert outcome.answered


def _answer(x, outcome):
    return f"{x} {outcome.reason} {outcome.id}"


async def _answer_later(x, outcome):
    await asyncio.sleep(0.02)
    return _answer(x, outcome)


class _Answering:
    """A fallback of one's own is one class."""

    name = "ask_a_friend"

    def __call__(self, x, outcome):
        return _answer(x, outcome)


@pytest.mark.parametrize(
    ("fallback", "name"),
    [
        (_answer, "call"),
        (_answer_later, "call"),
        (Call(_answer), "call"),
        (Call(_answer_later), "call"),
        (functools.partial(_answer), "call"),
        (_Answering(), "ask_a_friend"),
    ],
)
def test_a_function_answers_with_the_input_and_the_outcome_at_hand(fallback, name):
    with run(fallback) as running:
        for row, reason in ((2, "not_trusted"), (3, "failed")):
            for outcome in ways(running, row):
                assert outcome.answer == f"{row} {reason} a"
                assert outcome.fallback == name
                assert outcome.answered
                assert outcome.fallback_error is None
        running.predict_many([2, 3]).raise_for_rejected()


@pytest.mark.parametrize("fallback", [_answer_later, _answer])
def test_the_time_a_fallback_takes_is_part_of_the_latency(fallback):
    with run(fallback) as running:
        for outcome in ways(running, 2):
            parts = (outcome.local_latency_s, outcome.local_supervisor_s, outcome.remote_latency_s)
            rest = outcome.latency_s - sum(parts) - outcome.remote_supervisor_s
            assert rest == pytest.approx(outcome.fallback_s)
            assert outcome.fallback_s >= (0.019 if fallback is _answer_later else 0.0)


def _raising(x, outcome):
    raise KeyError("no such customer")


async def _raising_later(x, outcome):
    await asyncio.sleep(0)
    raise KeyError("no such customer")


@pytest.mark.parametrize("fallback", [_raising, _raising_later])
def test_what_a_fallback_raises_is_logged_then_raised_and_in_a_batch_stored(fallback):
    log = FakeLog()
    with run(fallback, log) as running:
        plain, later, marked = ways(running, 2)
        many = running.predict_many([0, 1, 2, 3])
        with pytest.raises(PredictionRejected):
            many.raise_for_rejected()
    assert isinstance(plain, KeyError)
    assert isinstance(later, KeyError)
    assert len(log.rows) == 3 + 4
    for outcome in (marked, *(outcome for outcome, _ in log.rows[:3])):
        assert outcome.fallback_error == "KeyError: 'no such customer'"
        assert not outcome.answered
        assert outcome.answer is None
    assert many.answers.tolist() == [0, 1, None, None]


def test_a_fallback_may_reject_after_all():
    def sometimes(x, outcome):
        raise PredictionRejected(outcome)

    with run(sometimes) as running:
        plain, later, _ = ways(running, 2)
    assert plain.outcome.fallback == later.outcome.fallback == "call"
    assert plain.outcome.fallback_error.startswith("PredictionRejected: ")


def test_an_input_is_handed_over_with_its_id_and_outcome():
    waiting: queue.Queue = queue.Queue()
    with run(HandOver(waiting)) as running:
        for outcome in ways(running, 3, "id of 3"):
            item = waiting.get_nowait()
            assert (item.id, item.x) == ("id of 3", 3)
            assert item.outcome.reason is Reason.FAILED
            assert item.outcome.id == outcome.id
            assert (outcome.fallback, outcome.answer, outcome.answered) == ("queue", None, False)
        running.predict_many([0, 1, 2, 3])
    assert sorted(waiting.get_nowait().x for _ in range(2)) == [2, 3]
    assert waiting.empty()


def test_an_asynchronous_queue_gets_the_input_too():
    async def ask():
        waiting: asyncio.Queue = asyncio.Queue()
        running = run(HandOver(waiting))
        outcome = await running.apredict(3)
        many = await running.apredict_many([2, 3])
        return outcome, many, [waiting.get_nowait().x for _ in range(3)]

    outcome, many, items = asyncio.run(ask())
    assert items == [3, 2, 3]
    assert outcome.fallback == "queue"
    assert outcome.answer is None
    assert list(many.fallbacks) == ["queue", "queue"]


@pytest.mark.parametrize(
    ("otherwise", "name", "answer"), [(Default("?"), "default", "?"), (_answer, "call", "2 not_trusted a")]
)
def test_only_failures_are_handed_over_when_so_asked(otherwise, name, answer):
    waiting = FakeQueue()
    with run(HandOver(waiting, only_failures=True, otherwise=otherwise)) as running:
        for outcome in ways(running, 2):
            assert (outcome.fallback, outcome.answer) == (name, answer)
        assert waiting.waiting() == []
        for outcome in ways(running, 3):
            assert (outcome.fallback, outcome.answer) == ("queue", None)
    assert [item.x for item in waiting.waiting()] == [3]


def test_otherwise_is_to_raise():
    with run(HandOver(FakeQueue(), only_failures=True)) as running, pytest.raises(PredictionRejected):
        running.predict(2)


def test_a_queue_that_is_full_is_an_error_of_the_fallback():
    class Full:
        def put(self, item):
            raise queue.Full

    log = FakeLog()
    with run(HandOver(Full()), log) as running:
        with pytest.raises(queue.Full):
            running.predict(3)
        outcome = running.predict_many([3])[0]
    assert outcome.fallback_error == log.rows[0][0].fallback_error == "Full: "


@pytest.mark.parametrize("wrong", ["raise", 1, None, object(), Raise, Default, Call, HandOver, [Raise()]])
def test_what_is_no_fallback_is_refused_when_the_system_is_made(wrong):
    with pytest.raises(InputError, match="a fallback is"):
        as_fallback(wrong)
    with pytest.raises(InputError, match="a fallback is"):
        HandOver(FakeQueue(), otherwise=wrong)
    if wrong is not None:
        with pytest.raises(InputError, match="a fallback is"):
            run(wrong)


@pytest.mark.parametrize("fallback", [Raise(), Default(1), Call(_answer), HandOver(FakeQueue()), _Answering()])
def test_a_fallback_is_taken_as_it_is(fallback):
    assert isinstance(fallback, Fallback)
    assert as_fallback(fallback) is fallback
