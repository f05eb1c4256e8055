"""Inputs that wait for the remote model to be back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bisupervised.decision_log import DecisionLog, PendingInputs, read_log
from bisupervised.errors import InputError
from bisupervised.fallback import HandOver, Pending
from bisupervised.records import Outcome, Reason, Route
from decision_log.making import QUEUED, Remote, queued, system


def _item(id_: str, x: object = "x") -> Pending:
    return Pending(id_, x, queued(id_))


@pytest.mark.parametrize("x", ["text", "", b"\x00\xff", {"a": [1, 2.5, None, True]}, [], None, 3, "\ud800", '"'])
def test_an_input_comes_back_as_it_was(tmp_path, x):
    with PendingInputs(tmp_path / "queue.db") as queue:
        queue.put(_item("a", x))
    with PendingInputs(tmp_path / "queue.db") as queue:
        (item,) = queue.waiting()
    assert item.id == "a"
    assert item.x == x
    assert type(item.x) is type(x)


@pytest.mark.parametrize("x", [(1, 2), np.zeros(2), {1: 2}, [{"a": (1,)}], object(), np.float64(1), {"a"}])
def test_an_input_that_would_not_come_back_is_refused(tmp_path, x):
    with PendingInputs(tmp_path / "queue.db") as queue:
        with pytest.raises(InputError, match=f"the input 'a', a {type(x).__name__}, cannot wait in a file"):
            queue.put(_item("a", x))
        assert len(queue) == 0
        assert queue


def test_its_outcome_comes_back(tmp_path):
    outcome = replace(QUEUED, local_prediction=[1, 2], answer=object(), deferred_because=None)
    with PendingInputs(tmp_path / "queue.db") as queue:
        queue.put(Pending("a", "x", outcome))
        queue.put(Pending("b", "x", QUEUED))
        odd, back = (item.outcome for item in queue.waiting())
    assert odd.local_prediction == [1, 2]
    assert "object object" in odd.answer["repr"]
    assert isinstance(back, Outcome)
    assert back.route is Route.REJECTED
    assert back.reason is Reason.FAILED
    assert back.deferred_because is Reason.NOT_TRUSTED
    assert np.isnan(back.remote_confidence)
    assert replace(back, remote_confidence=0.0) == replace(QUEUED, remote_confidence=0.0)


def test_the_first_to_come_is_the_first_to_go_and_done_is_done(tmp_path):
    with PendingInputs(tmp_path / "queue.db") as queue:
        for id_ in "abc":
            queue.put(_item(id_))
        queue.put(_item("a", "again"))
        assert [(item.id, item.x) for item in queue.waiting()] == [("a", "again"), ("b", "x"), ("c", "x")]
        queue.done("b")
        queue.done("b")
        queue.done("nobody")
        assert [item.id for item in queue.waiting()] == ["a", "c"]


@pytest.mark.parametrize("own_file", [False, True])
def test_one_final_outcome_each_when_the_remote_model_is_back(tmp_path, own_file):
    remote = Remote()
    path = tmp_path / "log.db"
    with (
        DecisionLog(path) as log,
        PendingInputs(tmp_path / "queue.db" if own_file else log) as queue,
        system(remote, fallback=HandOver(queue), log=log) as running,
    ):
        remote.down = True
        outcomes = running.predict_many(["hard 1", "easy 2", "hard 3", "easy 4", "hard 5"])
        log.flush()
        waiting = [id_ for id_, fallback in zip(outcomes.ids, outcomes.fallbacks, strict=True) if fallback]
        assert [item.id for item in queue.waiting()] == waiting
        assert read_log(path).extra["fallback"].tolist() == ["queue", None, "queue", None, "queue"]

        running.replay_pending(queue)  # still down: they stay
        running.replay_pending(queue)
        assert len(queue) == 3

        remote.down = False
        final = running.replay_pending(queue)
        assert len(queue) == 0
        assert set(final.ids) == set(waiting)
        assert len(running.replay_pending(queue)) == 0, "nothing waits any more"
        log.flush()
        assert log.counts().duplicates == 0
    table = read_log(path)
    assert table.ids.tolist() == list(outcomes.ids), "every input keeps its one row, and its place"
    assert table.extra["route"].tolist() == ["remote", "local", "remote", "local", "remote"]
    assert table.extra["attempts"].tolist() == [4, 1, 4, 1, 4]
    np.testing.assert_allclose(table.extra["earlier_cost"], [0.006, 0, 0.006, 0, 0.006])
    assert table.remote.cost.tolist() == [0.002, 0, 0.002, 0, 0.002]


def test_an_input_leaves_the_queue_only_when_its_outcome_is_stored(tmp_path):
    with DecisionLog(tmp_path / "log.db") as log, PendingInputs(log) as queue:
        queue.put(_item("a"))
        log.write([queued("a")], ["x"])
        assert log.counts().pending == 1
        queue.done("a")
        assert log.counts().pending == 0
