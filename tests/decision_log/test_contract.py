"""What every decision log does, whatever it stores its rows in. A PostgreSQL log joins by one line in STORES."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from bisupervised.decision_log import DecisionLog, Details, add_labels, label, read_log
from bisupervised.errors import InputError, LogError, UnknownOutcome
from bisupervised.records import Reason, Route
from bisupervised.table import Table, table_from_outcomes
from decision_log.making import Remote, details, local, locals_, queued, system


def _sqlite(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/log.db"


#: name -> where a fresh log of that kind is, given a folder of its own
STORES: dict[str, Callable[[Any], str]] = {"sqlite": _sqlite}


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    return STORES[request.param](tmp_path)


def _row(table: Table, id_: str) -> dict[str, Any]:
    row = table.ids.tolist().index(id_)
    return {name: column[row] for name, column in table.to_columns().items()}


class TestWriting:
    def test_what_is_flushed_can_be_read(self, url):
        with DecisionLog(url, thresholds_id="t1") as log:
            log.write([local("a"), queued("b")], ["easy", "hard"])
            log.flush()
            assert len(log) == 2
            table = read_log(url)
        assert table.ids.tolist() == ["a", "b"]
        assert table.local.predictions.tolist() == ["ham", "ham"]
        assert table.local.asked.all()
        assert table.remote.asked.tolist() == [False, True]
        assert table.remote.cost.tolist() == [0.0, 0.25]
        assert table.remote.errors.tolist() == [None, "unreachable: refused"]
        assert table.extra["route"].tolist() == ["local", "rejected"]
        assert table.extra["deferred_because"].tolist() == [None, "not_trusted"]
        assert table.extra["thresholds_id"].tolist() == ["t1", "t1"]
        assert table.extra["fallback"].tolist() == [None, "queue"]
        assert table.labels.tolist() == [None, None]

    def test_closing_commits_what_is_left(self, url):
        with DecisionLog(url) as log:
            log.write(locals_(10), range(10))
        assert len(read_log(url)) == 10
        assert log.counts().written == 10

    def test_a_closed_log_takes_nothing_and_closes_twice(self, url):
        log = DecisionLog(url)
        log.close()
        log.close()
        with pytest.raises(LogError, match="closed"):
            log.write([local("a")], ["x"])

    def test_each_outcome_comes_with_its_input(self, url):
        with DecisionLog(url) as log, pytest.raises(InputError, match="2 outcomes and 1 inputs"):
            log.write([local("a"), local("b")], ["x"])

    def test_rows_of_many_threads_are_all_there(self, url):
        def write(worker: int) -> None:
            for row in range(200):
                log.write([local(f"{worker}-{row}")], [row])

        with DecisionLog(url, capacity=50) as log:
            threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            log.flush()
            assert log.counts().written == 800
        assert set(read_log(url).ids) == {f"{worker}-{row}" for worker in range(4) for row in range(200)}

    def test_a_log_that_was_reopened_goes_on(self, url):
        for start in (0, 5):
            with DecisionLog(url) as log:
                log.write(locals_(5, start), range(5))
        seq = read_log(url).extra["seq"]
        assert len(seq) == 10
        assert (np.diff(seq) > 0).all()

    def test_the_hash_tells_repeated_inputs_and_hides_them(self, url):
        with DecisionLog(url) as log:
            log.write(locals_(3), ["hello", "hello", "other"])
        extra = read_log(url).extra
        assert extra["input_hash"][0] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        assert extra["input_hash"][0] == extra["input_hash"][1] != extra["input_hash"][2]
        assert extra["input"].tolist() == [None, None, None]

    def test_inputs_are_stored_when_asked_for(self, url):
        inputs = ["hello", {"text": ["a", 1, None]}, np.array([1.5, 2.0]), b"bytes are no JSON"]
        with DecisionLog(url, store_inputs=True) as log:
            log.write(locals_(4), inputs)
        assert read_log(url).extra["input"].tolist() == ["hello", {"text": ["a", 1, None]}, [1.5, 2.0], None]


class TestLabels:
    def test_a_label_comes_later(self, url):
        with DecisionLog(url) as log:
            log.write(locals_(3), range(3))
            log.label("i1", "spam")  # still in the buffer
            log.label("i0", "ham")
            table = read_log(url)
        assert table.labels.tolist() == ["ham", "spam", None]
        assert table.correct("local")[:2].tolist() == [1.0, 0.0]
        assert np.isnan(table.correct("local")[2])
        assert np.isnan(table.correct("remote")).all()

    def test_many_labels_and_how_many_ids_were_unknown(self, url):
        with DecisionLog(url) as log:
            log.write(locals_(3), range(3))
            assert log.label_many({"i0": 1, "i2": True, "nobody": 0}) == 1
            assert log.label_many([("x", 1), ("y", 2)]) == 2
            assert log.label_many({}) == 0
        assert add_labels(url, {"i1": 0.5, "nobody": 1}) == 1
        labels = read_log(url).labels.tolist()
        assert labels == [1, 0.5, True]
        assert [type(label) for label in labels] == [int, float, bool]

    def test_an_unknown_id_is_named(self, url):
        with DecisionLog(url) as log, pytest.raises(UnknownOutcome, match="'nobody' is not in the decision log"):
            log.label("nobody", 1)

    def test_a_label_can_be_taken_back(self, url):
        with DecisionLog(url) as log:
            log.write([local("a")], ["x"])
            log.label("a", "ham")
            log.label("a", None)
            assert read_log(url).labels.tolist() == [None]

    def test_the_final_outcome_keeps_the_label(self, url):
        with DecisionLog(url) as log:
            log.write([queued("a")], ["x"])
            log.label("a", "ham")
            log.write([local("a")], ["x"])
        assert read_log(url).labels.tolist() == ["ham"]

    def test_one_label_without_a_log_that_is_open(self, url):
        with DecisionLog(url) as log:
            log.write([local("a")], ["x"])
        label(url, "a", "ham")
        assert read_log(url).labels.tolist() == ["ham"]
        with pytest.raises(UnknownOutcome, match="'nobody' is not in the decision log"):
            label(url, "nobody", 1)


ALL_KNOWN = Details(
    sequence=7,
    cascade="support",
    mode="observe",
    served="remote",
    status=200,
    thresholds_id="t2",
    key="team-a",
    streamed=True,
    total_s=1.5,
    first_token_s=0.25,
    local_prompt_tokens=1.0,
    local_completion_tokens=2.0,
    remote_prompt_tokens=3.0,
    remote_completion_tokens=4.0,
    extra_remote_calls=1,
    extra_cost=0.5,
    cost_bound=0.75,
    unscorable="image",
)


class TestDetails:
    def test_what_a_gateway_knows_comes_back(self, url):
        with DecisionLog(url, thresholds_id="t1") as log:
            log.write([local("a"), local("b")], "xy", [ALL_KNOWN, details(8, extra_cost=float("nan"))])
        extra = read_log(url).extra
        for name in Details.__slots__:
            if name != "store_input":
                assert extra[name][0] == getattr(ALL_KNOWN, name), name
        assert extra["thresholds_id"].tolist() == ["t2", "t1"], "those of the request stand before those of the log"
        assert extra["sequence"].tolist() == [7, 8]
        assert extra["streamed"].tolist() == [True, False]
        assert extra["unscorable"].tolist() == ["image", None]
        assert np.isnan(extra["total_s"][1])
        assert np.isnan(extra["extra_cost"][1])

    def test_rows_of_a_gateway_and_others_share_a_log(self, url):
        with DecisionLog(url) as log:
            log.write([local("a")], ["x"])
            log.write([local("b")], ["y"], [details(1)])
            log.write(locals_(2), range(2))
        extra = read_log(url).extra
        np.testing.assert_array_equal(extra["sequence"], [np.nan, 1, np.nan, np.nan])
        assert extra["cascade"].tolist() == [None, "support", None, None]
        assert extra["streamed"].tolist() == [None, False, None, None]
        assert extra["thresholds_id"].tolist() == [None] * 4

    def test_a_log_without_a_gateway_reads_as_before(self, url):
        with DecisionLog(url) as log:
            log.write([local("a")], ["x"])
        assert not set(Details.__slots__) - {"thresholds_id"} & set(read_log(url).extra)

    def test_a_batch_has_details_too(self, url):
        with system(Remote()) as running:
            batch = running.predict_many(["easy", "hard", "hard"])
        with DecisionLog(url) as log:
            log.write(batch, "xyz", [details(row) for row in (3, 4, 5)])
        table = read_log(url)
        assert table.ids.tolist() == list(batch.ids)
        assert table.extra["sequence"].tolist() == [3, 4, 5]

    def test_an_input_that_must_not_be_stored_is_not(self, url):
        with DecisionLog(url, store_inputs=True) as log:
            log.write([local("a"), local("b")], ["open", "secret"], [details(1), details(2, store_input=False)])
            log.write([local("c")], ["plain"])
        extra = read_log(url).extra
        assert extra["input"].tolist() == ["open", None, "plain"]
        assert None not in extra["input_hash"].tolist()

    def test_each_outcome_comes_with_its_own(self, url):
        with DecisionLog(url) as log, pytest.raises(InputError, match="2 outcomes and 1 details"):
            log.write(locals_(2), range(2), [details(1)])

    def test_an_outcome_that_comes_later_keeps_the_number_of_its_request(self, url):
        with DecisionLog(url) as log:
            log.write([queued("a")], ["x"], [details(5, served="queue")])
            log.write([local("a")], ["x"])
        row = _row(read_log(url), "a")
        assert (row["route"], row["attempts"], row["sequence"], row["cascade"]) == ("local", 2, 5, "support")

    def test_a_local_model_that_was_not_asked_is_not_taken_for_one_that_failed(self, url):
        nan = float("nan")
        silent = {"local_prediction": None, "local_confidence": nan, "local_latency_s": nan, "local_cost": nan}
        failed = {**silent, "local_error": "timeout: 3 s"}
        with DecisionLog(url) as log:
            log.write([queued("a", **silent), queued("b", **failed)], "xy", [details(1), details(2)])
            log.write([queued("c", **silent)], "z")
            log.label_many(dict.fromkeys("abc", "ham"))
        table = read_log(url)
        assert table.local.asked.tolist() == [False, True, True]
        np.testing.assert_array_equal(table.correct("local"), [nan, 0.0, 0.0])


class TestOneRowForEachInput:
    def test_an_id_that_is_there_already_is_refused_and_named(self, url):
        with DecisionLog(url) as log:
            log.write([local("a", answer="first")], ["x"])
            log.flush()
            log.write([local("a", answer="second"), local("b")], ["x", "y"])
            with pytest.raises(LogError, match="id 'a': the decision log has its final outcome"):
                log.flush()
            log.flush()  # told once
            counts = log.counts()
        assert (counts.written, counts.duplicates, counts.pending, counts.dropped) == (2, 1, 0, 0)
        table = read_log(url)
        assert table.ids.tolist() == ["a", "b"]
        assert table.extra["answer"].tolist() == ["first", "ham"]

    def test_closing_tells_of_refused_ids(self, url):
        log = DecisionLog(url)
        log.write([local("a"), local("a"), local("b"), local("b")], range(4))
        with pytest.raises(LogError, match="id 'a', and 1 more"):
            log.close()
        assert len(read_log(url)) == 2

    def test_the_final_outcome_takes_the_place_of_the_one_that_waited(self, url):
        with DecisionLog(url) as log:
            log.write([queued("a"), local("b")], ["x", "y"])
            log.write([local("a", remote_requested=True, remote_cost=0.25, local_cost=0.5)], ["x"])
        table = read_log(url)
        assert table.ids.tolist() == ["a", "b"]
        row = _row(table, "a")
        assert (row["route"], row["fallback"], row["attempts"]) == ("local", None, 2)
        assert row["earlier_cost"] == 0.75, "what the attempt that failed has cost is not forgotten"
        assert row["local_cost"] + row["remote_cost"] == 0.75

    def test_a_cost_that_is_not_known_stays_not_known(self, url):
        with DecisionLog(url) as log:
            log.write([queued("a", remote_cost=float("nan"))], ["x"])
            log.write([queued("a")], ["x"])
            log.write([local("a")], ["x"])
        row = _row(read_log(url), "a")
        assert row["attempts"] == 3
        assert np.isnan(row["earlier_cost"])

    def test_a_replay_may_come_again_after_a_crash(self, url):
        """The process died after the final outcome was stored and before the queue was told."""
        with DecisionLog(url) as log:
            log.write([queued("a")], ["x"])
            log.write([local("a", answer="once")], ["x"])
            log.write([local("a", answer="again")], ["x"])
        row = _row(read_log(url), "a")
        assert (row["answer"], row["attempts"], row["earlier_cost"]) == ("again", 3, 0.75)

    def test_a_row_that_waits_and_comes_late_does_not_undo_the_final_one(self, url):
        with DecisionLog(url) as log:
            log.write([local("a")], ["x"])
            log.write([queued("a")], ["x"])
        row = _row(read_log(url), "a")
        assert (row["route"], row["attempts"], row["earlier_cost"]) == ("local", 2, 0.75)


class TestReading:
    def test_an_empty_log_is_an_empty_table(self, url):
        with DecisionLog(url) as log:
            assert len(log) == 0
            assert log
            table = read_log(url)
        assert len(table) == len(table.local) == len(table.remote) == 0
        assert table.remote.asked.dtype == np.bool_

    def test_by_time_and_by_number(self, url):
        with DecisionLog(url) as log:
            log.write(locals_(5), range(5))
        times = read_log(url).extra["time"]
        assert len(read_log(url, since=times[0], until=times[0] + 1)) == 5
        assert len(read_log(url, until=times[0])) == 0
        assert len(read_log(url, since=times[0] + 1)) == 0
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        assert read_log(url, since=hour_ago, limit=2).ids.tolist() == ["i3", "i4"]
        assert len(read_log(url, limit=0)) == 0
        with pytest.raises(InputError, match="no time zone"):
            read_log(url, since=datetime(2024, 1, 1))
        with pytest.raises(InputError, match="number of rows"):
            read_log(url, limit=-1)

    def test_a_running_system_writes_what_its_outcomes_say(self, url):
        inputs = [f"{'easy' if row % 3 else 'hard'} {row}" for row in range(50)]
        with DecisionLog(url) as log, system(Remote(), log=log) as running:
            outcomes = running.predict_many(inputs, batch_size=7)
            single = running.predict("hard, alone")
            log.flush()
            table = read_log(url)
        order = [table.ids.tolist().index(id_) for id_ in [*outcomes.ids, single.id]]
        assert sorted(order) == list(range(51))
        _assert_same(table.take(np.array(order[:50])), table_from_outcomes(outcomes))
        assert table.remote.cost.sum() == pytest.approx(0.002 * (17 + 1))
        assert table.extra["answer"][order[50]] == 1

    def test_a_remote_model_that_was_not_asked_cost_nothing(self, url):
        with DecisionLog(url) as log:
            log.write([local("a", remote_cost=float("nan")), queued("b", remote_cost=float("nan"))], "xy")
        np.testing.assert_array_equal(read_log(url).remote.cost, [0.0, np.nan])

    @pytest.mark.parametrize(
        "last", [{}, {"answer": "spam", "remote_prediction": "spam", "remote_confidence": 0.8, "remote_error": None}]
    )
    def test_the_table_goes_through_columns_and_back(self, url, last):
        with DecisionLog(url) as log:
            log.write([local("a"), queued("b"), queued("c", **last)], "xyz")
            log.label_many({"a": "ham", "b": "spam"})
        table = read_log(url)
        _assert_same(Table.from_columns(table.to_columns()), table)


def _assert_same(ours: Table, theirs: Table) -> None:
    assert ours.ids.tolist() == theirs.ids.tolist()
    for a, b in ((ours.local, theirs.local), (ours.remote, theirs.remote)):
        assert a.predictions.tolist() == b.predictions.tolist()
        assert a.errors.tolist() == b.errors.tolist()
        assert a.asked.tolist() == b.asked.tolist()
        for name in ("confidences", "latency_s", "supervisor_s", "cost"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert ours.extra["route"].tolist() == theirs.extra["route"].tolist()
    assert ours.extra["answer"].tolist() == theirs.extra["answer"].tolist()


def test_every_route_and_reason_comes_back(url):
    outcomes = [local(f"{route}-{reason}", route=route, reason=reason) for route in Route for reason in Reason]
    with DecisionLog(url) as log:
        log.write(outcomes, range(len(outcomes)))
    extra = read_log(url).extra
    assert extra["route"].tolist() == [outcome.route.label for outcome in outcomes]
    assert [Reason(reason) for reason in extra["reason"]] == [outcome.reason for outcome in outcomes]
