"""BiSupervised and its drivers: who is asked, how often, how many at once, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bisupervised.cascade import BiSupervised, Level, adrive, drive, replay
from bisupervised.errors import (
    EvidenceError,
    InputError,
    LogFull,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    PredictionRejected,
    ReplyUnreadable,
)
from bisupervised.fallback import Call, Default, HandOver
from bisupervised.models.function import FunctionModel
from bisupervised.quantifiers import GivenConfidence, MaxSoftmax, TokenLikelihood
from bisupervised.records import Evidence, ModelOutput, Reason, Route
from bisupervised.supervisor import Supervisor
from fakes import FakeLog, FakeModel, FakeQueue, Scripted, level, recorded, system

NAN = float("nan")


def plain(running: BiSupervised, x: Any, **options: Any) -> Any:
    return running.predict(x, **options)


def later(running: BiSupervised, x: Any, **options: Any) -> Any:
    return asyncio.run(running.apredict(x, **options))


def many(running: BiSupervised, x: Any, id_: str | None = None) -> Any:
    return running.predict_many([x], ids=None if id_ is None else [id_])[0]


DRIVERS = pytest.mark.parametrize("ask", [plain, later, many])


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    before = set(threading.enumerate())
    yield
    gc.collect()
    deadline = time.perf_counter() + 5
    while (left := set(threading.enumerate()) - before) and time.perf_counter() < deadline:
        time.sleep(0.005)
    assert not left, f"threads left behind: {left}"


# ---------------------------------------------------------------- who is asked


@DRIVERS
def test_a_trusted_local_prediction_never_asks_the_remote_model(ask):
    with system([0.9], [0.9]) as running:
        outcome = ask(running, 0)
        assert running.remote.model.calls == []
    assert (outcome.route, outcome.reason, outcome.remote_requested) == (Route.LOCAL, Reason.TRUSTED, False)
    assert outcome.deferred_because is None
    assert np.isnan(outcome.remote_confidence)
    assert outcome.remote_prediction is None


@DRIVERS
def test_a_deferred_input_asks_the_remote_model_exactly_once(ask):
    with system([0.1], [0.9]) as running:
        outcome = ask(running, 0)
        assert running.local.model.calls == [[0]]
        assert running.remote.model.calls == [[0]]
    assert (outcome.route, outcome.deferred_because) == (Route.REMOTE, Reason.NOT_TRUSTED)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20, 21, 1000])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_a_batch_of_any_size_answers_in_the_order_of_its_inputs(batch_size, is_async, size):
    rng = np.random.default_rng(0)
    local, remote = rng.random(20), rng.random(20)
    order = rng.permutation(20).tolist()
    ids = [f"id {row}" for row in order]
    with system(local, remote, Default("?"), later=is_async, max_batch=size) as running:
        outcomes = running.predict_many(order, ids=ids, batch_size=batch_size, max_concurrency=4)
        assert running.remote.model.asked == [row for row in range(20) if local[row] < 0.5]
        assert running.local.model.asked == list(range(20))
        assert max(map(len, running.local.model.calls)) <= batch_size
    assert list(outcomes.ids) == ids
    expected = [row if local[row] >= 0.5 or remote[row] >= 0.5 else "?" for row in order]
    assert outcomes.answers.tolist() == expected
    np.testing.assert_array_equal(outcomes.local.confidences, local[order])
    np.testing.assert_array_equal(outcomes.remote.confidences, np.where(local[order] < 0.5, remote[order], NAN))


def test_results_come_in_order_even_when_the_last_is_answered_first():
    async def slower_first(inputs):
        await asyncio.sleep(0.03 - 0.003 * inputs[0])
        return [x * 10 for x in inputs], [0.9 for _ in inputs]

    with BiSupervised(
        level(FakeModel(recorded(np.zeros(10)))), level(FunctionModel(slower_first, max_batch=1))
    ) as running:
        outcomes = running.predict_many(range(10), batch_size=3)
    assert outcomes.answers.tolist() == [row * 10 for row in range(10)]


# ---------------------------------------------------------------- at the same time


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("bound", [1, 2, 7, 16])
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_the_bound_on_remote_calls_is_kept_and_reached_across_batches(is_async, bound, batch_size):
    n = 2 * bound + 8
    seconds = 0.01 + 0.005 * bound  # longer than it takes to ask the local model about as many
    with system(np.zeros(n), np.ones(n), later=is_async, max_batch=1, seconds=seconds) as running:
        running.predict_many(range(n), batch_size=batch_size, max_concurrency=bound)
        assert running.remote.model.most_at_once == bound


def test_the_bound_is_reached_where_few_inputs_of_each_batch_are_deferred():
    local = np.where(np.arange(64) % 4 == 0, 0.1, 0.9)
    with system(local, np.ones(64), later=True, max_batch=1, seconds=0.05) as running:
        running.predict_many(range(64), batch_size=4, max_concurrency=12)
        assert running.remote.model.most_at_once == 12


def test_a_slow_remote_function_that_is_no_coroutine_runs_concurrently_too():
    with system(np.zeros(16), np.ones(16), max_batch=1, seconds=0.1) as running:
        start = time.perf_counter()
        running.predict_many(range(16), max_concurrency=16)
        assert time.perf_counter() - start < 0.8, "16 calls of 0.1 s each"


def test_an_in_process_local_model_is_asked_one_batch_at_a_time():
    local = FakeModel(recorded(np.ones(12)), seconds=0.005)
    with BiSupervised(level(local), level(FakeModel(recorded(np.ones(12))))) as running:
        running.predict_many(range(12), batch_size=2)
    assert local.most_at_once == 1


def test_an_asynchronous_remote_model_answers_a_plain_call():
    with system([0.1], [0.9], later=True) as running:
        outcomes = [running.predict(0) for _ in range(3)]
        assert running.remote.model.threads == {"bisupervised-portal"}, "one loop: its connections can be kept"
    assert [outcome.route for outcome in outcomes] == [Route.REMOTE] * 3


@pytest.mark.parametrize("is_async", [False, True])
def test_plain_calls_work_inside_a_running_event_loop(is_async):
    async def main():
        with system([0.1, 0.9], [0.9, 0.9], later=is_async) as running:
            return running.predict(0).answer, running.predict_many([1, 0]).answers.tolist()

    assert asyncio.run(main()) == (0, [1, 0])


def test_many_threads_may_use_one_system():
    with system(np.tile([0.1, 0.9], 20), np.ones(40), later=True, seconds=0.005) as running:
        results: dict[int, list[Any]] = {}

        def work(thread: int) -> None:
            order = np.random.default_rng(thread).permutation(40).tolist()
            batch = running.predict_many(order, batch_size=7).answers.tolist()
            single = [running.predict(row).answer for row in order[:3]]
            results[thread] = [batch == order, single == order[:3]]

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {thread: [True, True] for thread in range(8)}


def test_one_system_serves_several_event_loops_one_after_another():
    with system([0.1], [0.9], later=True) as running:
        assert [asyncio.run(running.apredict(0)).answer for _ in range(2)] == [0, 0]
        assert asyncio.run(running.apredict_many([0, 0])).answers.tolist() == [0, 0]
        assert running.predict(0).answer == 0


# ---------------------------------------------------------------- failures

ERRORS = [
    (ModelError("odd"), "failed: odd"),
    (ModelTimeout("1 s"), "timeout: 1 s"),
    (ModelUnreachable("refused"), "unreachable: refused"),
    (ModelStatusError("busy", status=503), "status: busy"),
    (ReplyUnreadable("no JSON"), "unreadable: no JSON"),
    (ZeroDivisionError("by zero"), "failed: ZeroDivisionError: by zero"),
]


@DRIVERS
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("error", "written"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_a_remote_failure_rejects_and_says_what_happened(ask, is_async, error, written, caplog):
    caplog.set_level(logging.WARNING, "bisupervised")
    with system([0.1], [0.9], Default("?"), later=is_async, raises={0: error}) as running:
        outcome = ask(running, 0)
    assert (outcome.route, outcome.reason, outcome.deferred_because) == (
        Route.REJECTED,
        Reason.FAILED,
        Reason.NOT_TRUSTED,
    )
    assert outcome.remote_error == written
    assert outcome.remote_requested
    assert outcome.remote_prediction is None
    assert np.isnan(outcome.remote_confidence)
    assert outcome.answer == "?"
    assert bool(caplog.records) == (type(error) is ZeroDivisionError)


@DRIVERS
def test_a_local_failure_defers_and_is_told_apart_from_no_trust(ask):
    def running(local_raises):
        local = FakeModel(recorded([0.9]), raises=local_raises)
        return BiSupervised(level(local), level(FakeModel(recorded([0.9], ["remote"]))))

    with running({0: ModelTimeout("1 s")}) as down, running({}) as up:
        outcome, trusted = ask(down, 0), ask(up, 0)
    assert (outcome.route, outcome.deferred_because, outcome.answer) == (Route.REMOTE, Reason.FAILED, "remote")
    assert outcome.local_error == "timeout: 1 s"
    assert outcome.local_prediction is None
    assert trusted.route is Route.LOCAL


@DRIVERS
def test_down_not_trusted_and_no_evidence_are_three_different_rejections(ask):
    raises = {0: ModelUnreachable("refused")}
    with system([0.1, 0.1, 0.1], [0.9, 0.2, NAN], Default("?"), max_batch=1, raises=raises) as running:
        outcomes = [ask(running, row) for row in range(3)]
    assert [outcome.reason for outcome in outcomes] == [Reason.FAILED, Reason.NOT_TRUSTED, Reason.NO_EVIDENCE]
    assert {outcome.route for outcome in outcomes} == {Route.REJECTED}
    assert [outcome.remote_error for outcome in outcomes] == ["unreachable: refused", None, None]
    assert [outcome.remote_prediction for outcome in outcomes] == [None, 1, 2]


@DRIVERS
def test_both_levels_may_fail(ask):
    local = FakeModel(recorded([0.9]), raises={0: ModelTimeout("local")})
    remote = FakeModel(recorded([0.9]), raises={0: ModelUnreachable("remote")})
    with BiSupervised(level(local), level(remote), Default("?")) as running:
        outcome = ask(running, 0)
    assert (outcome.local_error, outcome.remote_error) == ("timeout: local", "unreachable: remote")
    assert (outcome.reason, outcome.deferred_because, outcome.answer) == (Reason.FAILED, Reason.FAILED, "?")


@DRIVERS
@pytest.mark.parametrize(
    "reply",
    [
        recorded([]),
        recorded([0.9, 0.9]),
        None,
        "text",
        ModelOutput(["a"]),
        ModelOutput(np.array([1]), cost=np.zeros(2)),
    ],
)
@pytest.mark.parametrize("broken", ["local", "remote"])
def test_a_model_that_breaks_its_contract_is_unreadable_not_fatal(ask, reply, broken):
    levels = {"local": level(FakeModel(recorded([0.1]))), "remote": level(FakeModel(recorded([0.9])))}
    levels[broken] = level(Scripted(reply))
    with BiSupervised(levels["local"], levels["remote"], Default("?")) as running:
        outcome = ask(running, 0)
    assert getattr(outcome, f"{broken}_error").startswith("unreadable: scripted ")
    assert outcome.route is (Route.REMOTE if broken == "local" else Route.REJECTED)


def test_failures_in_one_part_of_a_batch_leave_the_rest():
    raises = {row: ModelTimeout(f"about {row}") for row in (3, 7)}
    with system(np.zeros(10), np.ones(10), Default("?"), max_batch=1, raises=raises) as running:
        outcomes = running.predict_many(range(10), batch_size=4)
    assert [row for row in range(10) if outcomes.reasons[row] is Reason.FAILED] == [3, 7]
    assert outcomes.remote.errors[3] == "timeout: about 3"
    assert outcomes.answers.tolist() == [0, 1, 2, "?", 4, 5, 6, "?", 8, 9]
    assert outcomes.coverage == 0.8


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_ends_programs_comes_through_and_leaves_the_system_usable(kind, is_async):
    with system([0.1, 0.9], [0.9, 0.9], later=is_async, raises={0: kind()}) as running:
        for ask in (plain, many):
            with pytest.raises(kind):
                ask(running, 0)
        assert running.predict(1).answer == 1
        assert running.predict_many([1]).answers.tolist() == [1]


def test_cancelling_a_batch_stops_what_waits():
    with system(np.zeros(50), np.ones(50), later=True, max_batch=1, seconds=30) as running:

        async def cancel() -> None:
            task = asyncio.create_task(running.apredict_many(range(50), batch_size=5, max_concurrency=3))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        assert len(running.remote.model.calls) == 3


# ---------------------------------------------------------------- errors of the caller


@DRIVERS
def test_evidence_that_breaks_its_contract_is_the_same_error_in_every_driver(ask):
    logits = FunctionModel(lambda xs: ModelOutput(np.zeros(len(xs)), probabilities=np.array([[4.0, -1.0]] * len(xs))))
    running = BiSupervised(Level(logits, Supervisor(MaxSoftmax(), 0.5)), level(FakeModel(recorded([0.9]))))
    with running, pytest.raises(EvidenceError, match="apply softmax first"):
        ask(running, 0)


class _FullLog:
    def write(self, outcomes, inputs):
        raise LogFull("the disk is full")


@DRIVERS
def test_an_error_of_the_log_is_the_same_error_in_every_driver(ask):
    with system([0.9], [0.9], log=_FullLog()) as running, pytest.raises(LogFull, match="the disk is full"):
        ask(running, 0)


def test_a_model_without_the_evidence_that_its_supervisor_reads_is_refused_when_the_level_is_made():
    words_only = FakeModel(recorded([0.9]), provides=frozenset({Evidence.TOKEN_LOGPROBS}), name="words")
    with pytest.raises(EvidenceError, match=r"max_softmax needs probabilities, and the model words gives token_log"):
        Level(words_only, Supervisor(MaxSoftmax()))
    Level(words_only, Supervisor(TokenLikelihood()))
    with pytest.raises(EvidenceError, match="no evidence at all"):
        Level(FakeModel(recorded([0.9]), provides=frozenset()), Supervisor(GivenConfidence()))


@pytest.mark.parametrize("model", [lambda xs: xs, object(), None, "model"])
def test_what_is_no_model_is_refused_when_the_level_is_made(model):
    with pytest.raises(InputError, match="FunctionModel"):
        Level(model, Supervisor())


@pytest.mark.parametrize("text", ["hello", b"hello"])
def test_one_text_is_not_a_list_of_letters(text):
    with system([0.9], [0.9]) as running:
        with pytest.raises(InputError, match="use predict for a single one"):
            running.predict_many(text)
        assert running.local.model.calls == []


@pytest.mark.parametrize("ids", [["a", "a"], ["a"], ["a", "b", "c"], []])
def test_ids_are_unique_and_one_for_each_input(ids):
    with system([0.9, 0.9], [0.9, 0.9]) as running:
        with pytest.raises(InputError, match="one for each of the 2 inputs"):
            running.predict_many([0, 1], ids=ids)
        assert running.local.model.calls == []


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"max_concurrency": 0}, {"batch_size": -1}])
def test_sizes_are_at_least_one(options):
    with system([0.9], [0.9]) as running, pytest.raises(InputError, match="at least 1"):
        running.predict_many([0], **options)


def test_inputs_may_be_an_array_a_range_or_any_iterable():
    with system([0.9, 0.1, 0.9], [0.9, 0.9, 0.9]) as running:
        for inputs in (np.array([2, 1, 0]), range(2, -1, -1), (2, 1, 0), iter([2, 1, 0]), {2: "", 1: "", 0: ""}):
            assert running.predict_many(inputs, batch_size=2).answers.tolist() == [2, 1, 0]


def test_rows_of_a_pandas_series_are_found_by_their_place_not_by_their_index():
    """After a shuffle, `series[0]` is another input: the remote model would be asked about the wrong one."""
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([0, 1, 2, 3], index=[2, 0, 3, 1])
    with system([0.1, 0.9, 0.1, 0.1], [0.9] * 4) as running:
        outcomes = running.predict_many(series, batch_size=3)
        assert running.remote.model.asked == [0, 2, 3]
    assert outcomes.answers.tolist() == [0, 1, 2, 3]
    with system([0.9], [0.9]) as running, pytest.raises(InputError, match="data frame"):
        running.predict_many(pandas.DataFrame({"text": [0]}))


def test_no_inputs_give_no_outcomes_and_ask_nothing():
    log = FakeLog()
    done: list[int] = []
    local, remote = FakeModel(recorded([])), FakeModel(recorded([]))
    for quantifier in (GivenConfidence(), MaxSoftmax(), TokenLikelihood()):
        levels = [Level(model, Supervisor(quantifier, 0.5)) for model in (local, remote)]
        with BiSupervised(*levels, log=log) as running:
            outcomes = running.predict_many([], on_done=done.append)
            assert len(asyncio.run(running.apredict_many([]))) == 0
        assert len(outcomes) == 0
        assert list(outcomes.ids) == []
    assert local.calls == remote.calls == []
    assert log.rows == []
    assert sum(done) == 0


# ---------------------------------------------------------------- accounting


def test_ids_are_kept_or_made_and_made_ones_differ():
    with system(np.tile([0.9, 0.1], 10), np.ones(20)) as running:
        assert running.predict(0, id_="mine").id == "mine"
        assert list(running.predict_many([0, 1], ids=np.array(["x", "y"])).ids) == ["x", "y"]
        made = [*running.predict_many(range(20)).ids, running.predict(0).id, running.predict(0).id]
    assert len(set(made)) == 22
    assert all(isinstance(id_, str) and id_ for id_ in made)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 100])
@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("deferred", [0, 4, 10])
def test_on_done_counts_every_input_once(batch_size, size, deferred):
    local = np.where(np.arange(10) < deferred, 0.1, 0.9)
    done: list[int] = []
    with system(local, np.full(10, 0.3), max_batch=size, raises={2: ModelTimeout("x")}) as running:
        running.predict_many(range(10), batch_size=batch_size, on_done=done.append)
    assert sum(done) == 10
    assert min(done) > 0


def test_on_done_is_told_while_the_batch_runs():
    seen: list[tuple[int, int]] = []
    with system(np.zeros(6), np.ones(6), later=True, max_batch=1, seconds=0.005) as running:
        running.predict_many(
            range(6), max_concurrency=1, on_done=lambda k: seen.append((k, len(running.remote.model.calls)))
        )
    assert [k for k, _ in seen] == [1] * 6
    assert seen[0][1] < 6


@pytest.mark.parametrize("ask", [plain, later, many])
def test_the_log_is_written_once_for_each_outcome_and_before_anything_is_raised(ask):
    log = FakeLog()
    raises = {2: ModelTimeout("x")}
    with system([0.9, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.2], None, log=log, max_batch=1, raises=raises) as running:
        for row in range(4):
            try:
                outcome = ask(running, row, id_=f"id {row}")
            except PredictionRejected as error:
                outcome = error.outcome
            assert repr(log.rows[-1]) == repr((outcome, row)), "what is returned or raised is what was logged"
    assert log.ids == ["id 0", "id 1", "id 2", "id 3"]


def test_a_batch_is_logged_whole_each_outcome_with_its_input():
    log = FakeLog()
    with system(np.tile([0.9, 0.1], 10), np.tile([0.9, 0.2], 10), log=log) as running:
        outcomes = running.predict_many(range(20), ids=[f"id {row}" for row in range(20)], batch_size=3)
    assert sorted(log.ids) == sorted(outcomes.ids)
    assert all(outcome.id == f"id {x}" for outcome, x in log.rows)
    assert sum(outcome.fallback == "raise" for outcome, _ in log.rows) == 10


@DRIVERS
def test_a_deferred_input_pays_the_time_of_both_models(ask):
    local = FakeModel(recorded([0.1, 0.9]), seconds=0.02)
    remote = FakeModel(recorded([0.9, 0.9]), seconds=0.04, later=True)
    with BiSupervised(level(local), level(remote)) as running:
        deferred, kept = ask(running, 0), ask(running, 1)
    assert deferred.local_latency_s >= 0.019
    assert deferred.remote_latency_s >= 0.039
    both = deferred.local_latency_s + deferred.remote_latency_s
    assert deferred.latency_s == pytest.approx(both + deferred.local_supervisor_s + deferred.remote_supervisor_s)
    assert kept.latency_s == pytest.approx(kept.local_latency_s + kept.local_supervisor_s)
    assert kept.latency_s < 0.06


class _SlowlyGiven(GivenConfidence):
    """Takes a while to judge."""

    def __call__(self, output):
        time.sleep(0.02)
        return output.confidences


@DRIVERS
@pytest.mark.parametrize("slow", ["local", "remote"])
def test_each_supervisors_time_is_its_own_levels(ask, slow):
    levels = {
        name: Level(
            FakeModel(recorded([confidence])), Supervisor(_SlowlyGiven() if name == slow else GivenConfidence(), 0.5)
        )
        for name, confidence in (("local", 0.1), ("remote", 0.9))
    }
    with BiSupervised(levels["local"], levels["remote"]) as running:
        outcome = ask(running, 0)
    assert (outcome.local_supervisor_s >= 0.019) == (slow == "local")
    assert (outcome.remote_supervisor_s >= 0.019) == (slow == "remote")
    assert outcome.latency_s >= 0.019


def _costs(local_cost: Any, remote_cost: Any, **of_remote: Any) -> Callable[..., BiSupervised]:
    def column(cost: Any) -> Any:
        return None if cost is None else np.array([cost, cost, cost])

    local = FakeModel(recorded([0.9, 0.1, 0.1], cost=column(local_cost)))
    remote = FakeModel(recorded([0.9, 0.9, 0.9], cost=column(remote_cost)), max_batch=1, **of_remote)
    return BiSupervised(level(local, cost=0.25), level(remote, cost=2.0), Default("?"))


@DRIVERS
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((None, None), (0.25, 2.25)),
        ((0.5, None), (0.5, 2.5)),
        ((None, 4.0), (0.25, 4.25)),
        ((0.0, 0.0), (0.0, 0.0)),
        ((None, NAN), (0.25, NAN)),
        ((NAN, 4.0), (NAN, NAN)),
    ],
)
def test_costs_are_the_models_own_else_the_levels_and_not_known_stays_not_known(ask, own, expected):
    with _costs(*own) as running:
        np.testing.assert_array_equal([ask(running, 0).cost, ask(running, 1).cost], expected)


@DRIVERS
def test_without_a_cost_a_model_at_hand_costs_nothing_and_one_behind_a_network_is_not_known(ask):
    levels = [level(FakeModel(recorded(confidences)), cost=None) for confidences in ([0.9, 0.1], [0.9, 0.9])]
    with BiSupervised(*levels) as running:
        kept, deferred = ask(running, 0), ask(running, 1)
    assert (kept.cost, deferred.local_cost) == (0.0, 0.0)
    assert np.isnan(deferred.remote_cost)
    assert np.isnan(deferred.cost)
    assert kept.remote_cost == 0.0, "not asked"


@pytest.mark.parametrize("own", [None, 4.0, NAN])
def test_the_cost_of_a_failed_call_does_not_depend_on_the_calls_it_was_made_with(own):
    with _costs(None, own, raises={2: ModelTimeout("1 s")}) as running:
        alone = running.predict(2).cost
        batch = running.predict_many([0, 1, 2])
        assert batch.cost[2] == batch[2].cost == running.predict_many([2]).cost[0] == alone == 2.25
        np.testing.assert_array_equal(batch.cost[:2], [0.25, 0.25 + (2.0 if own is None else own)])


@DRIVERS
def test_an_outcome_holds_plain_values_that_json_takes(ask):
    probable = FunctionModel(lambda xs: [[0.6, 0.4] for _ in xs])
    levels = [Level(probable, Supervisor(MaxSoftmax(), threshold)) for threshold in (0.7, 0.5)]
    with BiSupervised(*levels) as running:
        outcome = ask(running, "x")
    assert json.dumps([outcome.answer, outcome.local_prediction, outcome.remote_prediction]) == "[0, 0, 0]"


def test_models_may_have_different_label_spaces_and_other_is_never_trusted():
    """The paper's input domain reduction: the local model knows the frequent classes and `other`."""
    local = FunctionModel(lambda xs: [[0.2, 0.1, 0.7]] * len(xs), classes=["cat", "dog", "other"])
    sure = FunctionModel(lambda xs: [[0.9, 0.1, 0.0]] * len(xs), classes=["cat", "dog", "other"])
    remote = FunctionModel(lambda xs: [[0.01] * 10 + [0.9]] * len(xs), classes=[f"breed {k}" for k in range(11)])
    for first, route, answer in ((local, Route.REMOTE, "breed 10"), (sure, Route.LOCAL, "cat")):
        running = BiSupervised(
            Level(first, Supervisor(MaxSoftmax(), 0.6, never_trust=["other"])),
            Level(remote, Supervisor(threshold=0.6)),
        )
        with running:
            for outcome in (running.predict("x"), running.predict_many(["x", "y"])[1]):
                assert (outcome.route, outcome.answer) == (route, answer)
                because = None if route is Route.LOCAL else Reason.NO_EVIDENCE
                assert outcome.deferred_because is because


# ---------------------------------------------------------------- opening and closing


def test_closing_is_idempotent_and_the_system_can_be_used_again():
    running = system([0.1], [0.9], later=True)
    running.close()
    for _ in range(2):
        assert running.predict(0).answer == 0
        running.close()
        running.close()


def test_closing_inside_a_running_event_loop():
    async def main():
        running = system([0.1], [0.9], later=True)
        running.predict(0)
        running.close()

    asyncio.run(main())


def test_closing_ends_a_batch_that_another_thread_waits_for():
    running = system(np.zeros(5), np.ones(5), later=True, seconds=60)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            running.predict_many(range(5))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not running.remote.model.calls:
        time.sleep(0.005)
    running.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(raised) == 1


def test_a_fallback_that_calls_its_own_system_in_a_batch_is_told_instead_of_hanging():
    def again(x, outcome):
        return running.predict_many([1]).answers[0]

    with system([0.1, 0.9], [0.1, 0.9], Call(again)) as running:
        outcome = running.predict_many([0])[0]
        assert running.predict(0).answer == 1, "outside the loop it may"
    assert outcome.fallback_error.startswith("InputError: a blocking call")


# ---------------------------------------------------------------- inputs that wait


def test_inputs_that_wait_get_one_final_outcome_each():
    log, queue = FakeLog(), FakeQueue()
    down = {row: ModelUnreachable("refused") for row in (1, 2, 3, 4)}
    fallback = HandOver(queue, only_failures=True, otherwise=Default("?"))
    with system(np.zeros(5), [0.9, 0.9, 0.2, NAN, 0.9], fallback, log=log, max_batch=1, raises=down) as running:
        outcomes = running.predict_many(range(5), ids=list("abcde"))
        assert [item.id for item in queue.waiting()] == ["b", "c", "d", "e"]
        assert list(outcomes.fallbacks) == [None, "queue", "queue", "queue", "queue"]

        still = running.replay_pending(queue)
        assert [item.id for item in queue.waiting()] == ["b", "c", "d", "e"], "still down: they stay"
        assert set(still.reasons) == {Reason.FAILED}

        running.remote.model.raises = {4: ModelTimeout("1 s")}
        final = running.replay_pending(queue, max_concurrency=2)
        assert [item.id for item in queue.waiting()] == ["e"]
        assert list(final.ids) == ["b", "c", "d", "e"]
        assert [Route(route) for route in final.routes] == [Route.REMOTE, *[Route.REJECTED] * 3]
        assert list(final.reasons) == [Reason.TRUSTED, Reason.NOT_TRUSTED, Reason.NO_EVIDENCE, Reason.FAILED]

        running.remote.model.raises = {}
        assert list(running.replay_pending(queue).ids) == ["e"]
        assert queue.waiting() == []
        assert len(running.replay_pending(queue)) == 0, "an empty queue is nothing to do"
        assert running.fallback is fallback
    assert sorted(log.ids) == sorted("abcde" + "bcde" + "bcde" + "e")
    assert all(outcome.id == "abcde"[x] for outcome, x in log.rows)


def test_an_input_leaves_the_queue_only_when_its_outcome_is_stored_for_good():
    class Watchful(FakeQueue):
        def done(self, id_: str) -> None:
            assert id_ in log.ids[: log.stored]
            super().done(id_)

    log, queue = FakeLog(), Watchful()
    with system([0.1, 0.1], [0.2, 0.2], HandOver(queue), log=log) as running:
        running.predict_many([0, 1])
        log.rows.clear()
        running.replay_pending(queue)
    assert queue.waiting() == []


def test_an_input_that_fails_again_is_logged_as_still_waiting():
    log, queue = FakeLog(), FakeQueue()
    with system([0.1], [0.9], HandOver(queue), log=log, raises={0: ModelTimeout("1 s")}) as running:
        running.predict(0)
        again = running.replay_pending(queue)[0]
    assert (again.fallback, again.answered) == ("queue", False)
    assert [outcome.fallback for outcome, _ in log.rows] == ["queue", "queue"]
    assert queue.waiting()[0].outcome.fallback is None, "as it was when it was handed over"


def test_inputs_that_wait_are_asked_in_the_systems_own_loop():
    """A network model's connections live in the loop that opened them."""
    loops = set()

    async def remember(inputs):
        loops.add(asyncio.get_running_loop())
        return [0 for _ in inputs], [0.2 for _ in inputs]

    queue = FakeQueue()
    with BiSupervised(level(FakeModel(recorded([0.1]))), level(FunctionModel(remember)), HandOver(queue)) as running:
        running.predict(0)
        running.replay_pending(queue)
    assert len(loops) == 1
    assert queue.waiting() == []


# ---------------------------------------------------------------- generators


def test_recordings_of_different_length_are_not_replayed():
    supervisors = (Supervisor(GivenConfidence()), Supervisor(GivenConfidence()))
    with pytest.raises(InputError, match="2 local, 3 remote rows"):
        replay(recorded([0.1, 0.2]), recorded([0.1, 0.2, 0.3]), supervisors)


def _steps():
    """Asks for twice, doubles what it gets, and survives one error."""
    try:
        first = yield 1
    except KeyError:
        first = 100
    second = yield 2
    return first + second


def _answer(question: int) -> int:
    if question == 1:
        raise KeyError
    return question * 10


async def _answer_later(question: int) -> int:
    await asyncio.sleep(0)
    return _answer(question)


def test_a_generator_is_driven_to_its_end_and_gets_what_answering_raises():
    assert drive(_steps(), lambda question: question * 10) == 30
    assert drive(_steps(), _answer) == asyncio.run(adrive(_steps(), _answer_later)) == 120

    def fail(question):
        raise ValueError("answering failed")

    with pytest.raises(ValueError, match="answering failed"):
        drive(_steps(), fail)
