"""Calling a model: whatever happens, every input gets a row."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time

import numpy as np
import pytest

from bisupervised.calls import BoundedCalls, call_plainly
from bisupervised.errors import (
    InputError,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.models.function import FunctionModel
from bisupervised.portal import Portal
from bisupervised.records import ModelOutput
from fakes import FakeModel, Scripted, recorded


def plainly(model, inputs):
    portal = Portal()
    try:
        return call_plainly(model, inputs, portal)
    finally:
        portal.close()


def bounded(model, inputs, *, max_concurrency=4, inline=False, on_done=None):
    async def call():
        return await BoundedCalls(model, max_concurrency=max_concurrency, inline=inline)(inputs, on_done)

    return asyncio.run(call())


def inlined(model, inputs):
    return bounded(model, inputs, inline=True)


WAYS = pytest.mark.parametrize("call", [plainly, bounded, inlined])
LATER = pytest.mark.parametrize("later", [False, True], ids=["at_once", "later"])


@WAYS
@LATER
def test_an_output_comes_back_with_the_time_the_call_took_shared_among_its_inputs(call, later):
    model = FakeModel(recorded([0.1, 0.2, 0.3, 0.4]), later=later, seconds=0.1)
    start = time.perf_counter()
    output = call(model, [3, 0])
    elapsed = time.perf_counter() - start
    assert output.predictions.tolist() == [3, 0]
    assert output.confidences.tolist() == [0.4, 0.1]
    assert output.latency_s.shape == (2,)
    assert output.latency_s[0] == output.latency_s[1]
    assert 0.099 <= output.latency_s.sum() <= elapsed, "not the whole of it for each"


@WAYS
def test_a_latency_that_the_model_measured_itself_is_kept(call):
    assert call(FakeModel(recorded([0.1], latency_s=np.array([7.5]))), [0]).latency_s.tolist() == [7.5]


ERRORS = [
    (ModelError("odd"), "failed: odd"),
    (ModelTimeout("1 s"), "timeout: 1 s"),
    (ModelUnreachable("refused"), "unreachable: refused"),
    (ModelStatusError("busy", status=503), "status: busy"),
    (ReplyUnreadable("no JSON"), "unreadable: no JSON"),
    (ModelTimeout(), "timeout: ModelTimeout"),
    (ValueError("cannot"), "failed: ValueError: cannot"),
    (ZeroDivisionError(), "failed: ZeroDivisionError: "),
    (TimeoutError("socket"), "failed: TimeoutError: socket"),
    (ExceptionGroup("several", [ValueError("a")]), "failed: ExceptionGroup: several (1 sub-exception)"),
]


@WAYS
@LATER
@pytest.mark.parametrize(("error", "written"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_whatever_a_model_raises_is_a_failure_of_its_inputs(call, later, error, written, caplog):
    caplog.set_level(logging.WARNING, "bisupervised")
    output = call(FakeModel(recorded([0.1, 0.2]), later=later, raises={1: error}), [0, 1])
    assert [str(output.failures[row]) for row in (0, 1)] == [written, written]
    assert output.predictions.tolist() == [None, None]
    assert (output.latency_s >= 0).all()
    warned = [record for record in caplog.records if record.name == "bisupervised"]
    if isinstance(error, ModelError):
        assert warned == [], "the model's own way of saying that it failed"
    else:
        assert len(warned) == 1
        assert "the model fake raised" in warned[0].getMessage()
        assert type(warned[0].exc_info[1]) is type(error), "with its traceback: it is a mistake in a function"
        assert warned[0].exc_info[2] is not None


@LATER
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_programs_is_no_failure(later, kind):
    with pytest.raises(kind):
        plainly(FakeModel(recorded([0.1]), later=later, raises={0: kind()}), [0])


@WAYS
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (recorded([0.1]), "was given 2 inputs and answered 1"),
        (recorded([0.1, 0.2, 0.3]), "was given 2 inputs and answered 3"),
        (None, "returned NoneType, not a ModelOutput"),
        ([[0.9, 0.1], [0.5, 0.5]], "returned list, not a ModelOutput"),
        (ModelOutput([1, 2]), "gave predictions as list, not as an array"),
        (ModelOutput(np.array([1, 2]), confidences=np.array([0.9])), "gave 1 confidences for 2 inputs"),
        (ModelOutput(np.array([1, 2]), probabilities=np.eye(3)), "gave 3 probabilities for 2 inputs"),
        (ModelOutput(np.array([1, 2]), token_logprobs=[]), "gave 0 token_logprobs for 2 inputs"),
        (ModelOutput(np.array([1, 2]), latency_s=np.zeros(1)), "gave 1 latency_s for 2 inputs"),
        (ModelOutput(np.array([1, 2]), cost=np.zeros(3)), "gave 3 cost for 2 inputs"),
    ],
)
def test_a_reply_that_breaks_the_contract_is_unreadable(call, answer, said):
    output = call(Scripted(answer), ["a", "b"])
    assert [str(output.failures[row]) for row in (0, 1)] == [f"unreadable: scripted {said}"] * 2
    assert len(output) == 2


@pytest.mark.parametrize(("size", "calls"), [(1, 7), (2, 4), (3, 3), (7, 1), (10, 1), (None, 1)])
@LATER
def test_inputs_are_asked_in_calls_of_the_size_the_model_takes_and_come_back_in_order(size, calls, later):
    model = FakeModel(recorded(np.linspace(0, 1, 7)), max_batch=size, later=later)
    done = []
    output = bounded(model, [6, 5, 4, 3, 2, 1, 0], on_done=done.append)
    assert output.predictions.tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert len(model.calls) == calls
    assert max(map(len, model.calls)) <= (size or 7)
    assert sum(done) == 7


def test_a_failed_piece_leaves_the_others():
    model = FakeModel(recorded([0.1, 0.2, 0.3, 0.4, 0.5]), max_batch=2, raises={2: ModelTimeout("1 s")})
    output = bounded(model, [0, 1, 2, 3, 4])
    assert output.predictions.tolist() == [0, 1, None, None, 4]
    assert set(output.failures) == {2, 3}


@pytest.mark.parametrize("bound", [1, 3, 12])
@LATER
def test_the_bound_on_calls_at_a_time_is_kept_and_reached(bound, later):
    """With 2 cores the event loop's own thread pool has 6 threads: a bound of 12 must not end there."""
    n = 2 * bound + 2
    model = FakeModel(recorded(np.zeros(n)), max_batch=1, later=later, seconds=0.05)
    bounded(model, list(range(n)), max_concurrency=bound)
    assert model.most_at_once == bound
    assert model.asked == list(range(n))


def test_the_wait_for_a_slot_is_no_latency_of_the_model():
    model = FakeModel(recorded(np.zeros(6)), max_batch=1, later=True, seconds=0.03)
    output = bounded(model, list(range(6)), max_concurrency=1)
    assert (output.latency_s < 0.09).all()


def test_a_slow_in_process_model_does_not_hold_up_the_loop_unless_inline():
    async def longest_pause(inline):
        model = FakeModel(recorded([0.1]), seconds=0.1)
        calls = BoundedCalls(model, max_concurrency=1, inline=inline)
        asked = asyncio.create_task(calls([0]))
        longest, last = 0.0, time.perf_counter()
        while not asked.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        return longest, model.threads

    pause, threads = asyncio.run(longest_pause(False))
    assert pause < 0.08
    assert threads != {"MainThread"}
    pause, threads = asyncio.run(longest_pause(True))
    assert pause >= 0.09
    assert threads == {"MainThread"}


def test_threads_end_with_the_calls():
    bounded(FakeModel(recorded(np.zeros(8)), max_batch=1, seconds=0.01), list(range(8)), max_concurrency=8)
    deadline = time.perf_counter() + 5
    while time.perf_counter() < deadline and any("bisupervised-model" in t.name for t in threading.enumerate()):
        time.sleep(0.01)
    assert not any("bisupervised-model" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("bound", [1, 4])
def test_context_variables_reach_a_model_in_a_thread(bound):
    tenant = contextvars.ContextVar("tenant", default="nobody")

    def function(inputs):
        return [tenant.get() for _ in inputs], [1.0 for _ in inputs]

    tenant.set("somebody")
    assert bounded(FunctionModel(function), ["x"], max_concurrency=bound).predictions.tolist() == ["somebody"]


@pytest.mark.parametrize("call", [bounded, inlined])
def test_no_inputs_ask_nothing(call):
    model = FakeModel(recorded([]))
    assert len(call(model, [])) == 0
    assert model.calls == []


@pytest.mark.parametrize("bound", [0, -1])
def test_the_bound_is_at_least_one(bound):
    with pytest.raises(InputError, match="max_concurrency"):
        BoundedCalls(FakeModel(recorded([])), max_concurrency=bound)


def test_cancelling_stops_the_calls_that_wait():
    model = FakeModel(recorded(np.zeros(10)), max_batch=1, later=True, seconds=10)

    async def cancel():
        task = asyncio.create_task(BoundedCalls(model, max_concurrency=2)(list(range(10))))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert len(model.calls) == 2
