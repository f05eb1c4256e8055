"""What HTTP endpoints show: JSON values, pages, figures of a period."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from bisupervised.decision_log import (
    Audit,
    DecisionLog,
    Sequences,
    add_labels,
    log,
    outcome,
    outcomes,
    stats,
)
from bisupervised.errors import InputError, LogError, UnknownOutcome
from bisupervised.records import Reason, Route
from decision_log.making import details, local, locals_, queued

NAN = float("nan")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def at(monkeypatch):
    """Sets the time that rows are written at."""
    now = [0.0]
    monkeypatch.setattr(log, "time", lambda: now[0])

    def set_time(seconds: float) -> None:
        now[0] = seconds

    return set_time


def _as_json(value):
    """As a client gets it; raises for what JSON does not know."""
    return json.loads(json.dumps(value, allow_nan=False))


def _ids(page) -> list[str]:
    return [row["id"] for row in page["outcomes"]]


class TestOutcomes:
    def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(self, path, at):
        with DecisionLog(path) as writer:
            for row in range(25):
                at(1_000.0 + row // 4)  # several at one time
                writer.write([local(f"i{row}")], ["x"])
        seen, after = [], None
        for _ in range(3):
            page = outcomes(path, limit=10, after_seq=after)
            seen += _ids(page)
            after = page["after_seq"]
        assert seen == [f"i{row}" for row in range(24, -1, -1)]
        assert after is None
        assert outcomes(path, limit=25)["after_seq"] is not None, "there may be more"
        assert outcomes(path, limit=10, after_seq=1)["outcomes"] == []

    def test_the_newest_are_those_of_the_latest_time_even_if_the_clock_jumped(self, path, at):
        with DecisionLog(path) as writer:
            for row, time in enumerate((100.0, 300.0, 200.0)):
                at(time)
                writer.write([local(f"i{row}")], ["x"])
        first = outcomes(path, limit=2)
        assert _ids(first) == ["i1", "i2"]
        assert _ids(outcomes(path, limit=2, after_seq=first["after_seq"])) == ["i0"]

    def test_rows_are_chosen_by_time_cascade_route_and_key(self, path, at):
        rows = [
            (local("a"), details(1)),
            (queued("b"), details(2)),
            (local("c"), details(3, cascade="other")),
            (local("d"), details(4, key="team-b")),
        ]
        with DecisionLog(path) as writer:
            for time, (one, more) in enumerate(rows):
                at(float(time))
                writer.write([one], ["x"], [more])
        assert _ids(outcomes(path, cascade="support")) == ["d", "b", "a"]
        assert _ids(outcomes(path, route="rejected")) == ["b"]
        assert _ids(outcomes(path, key="team-a", route="local")) == ["c", "a"]
        assert _ids(outcomes(path, since=1.0, until=3.0)) == ["c", "b"]
        assert _ids(outcomes(path, cascade="support", until=3.0, limit=1, after_seq=2)) == ["a"]

    def test_a_row_is_json_with_the_logs_names(self, path):
        odd = queued("a", answer={"a": [NAN]}, local_confidence=math.inf, remote_cost=NAN, local_prediction=True)
        with DecisionLog(path, store_inputs=True) as writer:
            writer.write([odd], [{"text": "hello"}], [details(7, streamed=True)])
            writer.write([local("plain")], ["x"])
        plain, row = outcomes(path)["outcomes"]
        assert _as_json(row) == row
        assert (row["answer"], row["local_prediction"], row["local_confidence"]) == ({"a": [None]}, True, None)
        assert (row["route"], row["reason"], row["remote_asked"], row["remote_cost"]) == (
            "rejected",
            "failed",
            True,
            None,
        )
        assert (row["sequence"], row["cascade"], row["streamed"], row["key"]) == (7, "support", True, "team-a")
        assert "input" not in row
        assert (plain["sequence"], plain["streamed"], plain["label"], plain["attempts"]) == (None, None, None, 1)

    @pytest.mark.parametrize("limit", [0, 1_001])
    def test_a_page_has_a_size(self, path, limit):
        with pytest.raises(InputError, match="from 1 to 1000"):
            outcomes(path, limit=limit)

    def test_a_route_or_cursor_that_is_none_is_said_so(self, path):
        DecisionLog(path).close()
        with pytest.raises(InputError, match="route is local, remote, rejected; not 'lokal'"):
            outcomes(path, route="lokal")
        with pytest.raises(InputError, match="no row 5 to go on after"):
            outcomes(path, after_seq=5)
        with pytest.raises(LogError, match="there is no decision log"):
            outcomes(path.with_name("none.db"))


class TestOneOutcome:
    def test_it_comes_with_its_input_if_that_is_stored(self, path):
        with DecisionLog(path, store_inputs=True) as writer:
            writer.write(
                locals_(2), [{"text": "hello", "n": NAN}, "secret"], [details(1), details(2, store_input=False)]
            )
        add_labels(path, {"i0": [1, 2]})
        row = outcome(path, "i0")
        assert _as_json(row) == row
        assert (row["input"], row["label"], row["sequence"]) == ({"text": "hello", "n": None}, [1, 2], 1)
        assert outcome(path, "i1")["input"] is None

    def test_an_unknown_id_is_named(self, path):
        DecisionLog(path).close()
        with pytest.raises(UnknownOutcome, match="id 'nobody' is not in the decision log"):
            outcome(path, "nobody")


REMOTE = replace(
    local("r"),
    route=Route.REMOTE,
    deferred_because=Reason.NOT_TRUSTED,
    remote_requested=True,
    remote_prediction="spam",
    answer="spam",
    remote_latency_s=0.5,
    remote_cost=0.25,
)


class TestStats:
    def test_figures_of_a_period(self, path, at):
        rows = [
            (local("a", local_cost=0.001), details(1, total_s=0.02, local_prompt_tokens=10.0)),
            (replace(REMOTE, id="b"), details(2, served="remote", total_s=0.6, remote_completion_tokens=5.0)),
            (replace(REMOTE, id="c", remote_cost=NAN), details(3, served="remote", status=499, cost_bound=2.0)),
            (queued("d", fallback="default"), details(4, served="default", extra_remote_calls=1, extra_cost=0.125)),
            (local("e"), details(5, mode="observe", served="remote", unscorable="image", first_token_s=0.1)),
        ]
        at(1_000.0)
        with DecisionLog(path) as writer:
            for one, more in rows:
                writer.write([one], ["x"], [more])
            writer.write_audit(Audit("a", "support", "ham", True, cost=0.25))
            at(10.0)
            writer.write([local("old")], ["x"], [details(6)])
            writer.write_audit(Audit("old", "support", "ham", False))
            at(1_000.0)
            writer.write([local("other")], ["x"], [details(7, cascade="other")])
        add_labels(path, {"a": "ham", "b": "ham", "c": "spam", "d": "ham", "old": "spam"})
        figures = stats(path, since=500.0, cascade="support")
        assert _as_json(figures) == figures
        assert figures["requests"] == 5
        assert figures["routes"] == {"local": 2, "rejected": 1, "remote": 2}
        assert figures["served"] == {"default": 1, "local": 1, "remote": 3}
        assert figures["modes"] == {"enforce": 4, "observe": 1}
        assert figures["statuses"] == {"200": 4, "499": 1}
        assert figures["unscorable"] == {"image": 1}
        assert (figures["request_rate"], figures["remote_calls"], figures["extra_remote_calls"]) == (0.6, 3, 1)
        assert figures["coverage"] == 0.8
        assert figures["cost"] == {
            "local": pytest.approx(0.501),
            "remote": 0.5,
            "extra": 0.125,
            "earlier": 0.0,
            "known": pytest.approx(1.126),
            "not_known": 1,
            "bound": 2.0,
        }
        assert figures["tokens"]["local_prompt"] == 10.0
        assert figures["tokens"]["remote_completion"] == 5.0
        assert figures["latency_s"]["local"] == {"n": 5, **dict.fromkeys(("p50", "p95", "p99"), pytest.approx(0.01))}
        assert figures["latency_s"]["remote"]["n"] == 3
        assert figures["latency_s"]["total"]["p50"] == pytest.approx(0.31)
        assert figures["latency_s"]["first_token"]["n"] == 1
        assert figures["labels"] == {
            "labelled": 4,
            "accepted": 3,
            "compared": 3,
            "correct": 2,
            "supervised_accuracy": 2 / 3,
        }
        assert (figures["audits"]["audits"], figures["audits"]["agreeing"]) == (1, 1)
        assert figures["losses"] == {"lost": 0, "lost_at_most": 0, "missing": 0}
        assert stats(path)["requests"] == 7

    def test_nothing_is_known_of_an_empty_period(self, path):
        DecisionLog(path).close()
        figures = stats(path)
        assert _as_json(figures) == figures
        assert figures["requests"] == figures["remote_calls"] == figures["cost"]["known"] == 0
        assert figures["request_rate"] is figures["coverage"] is figures["labels"]["supervised_accuracy"] is None
        assert figures["latency_s"]["total"] == {"n": 0, "p50": None, "p95": None, "p99": None}

    def test_a_cost_that_nobody_can_bound_is_said_so(self, path):
        with DecisionLog(path) as writer:
            writer.write([replace(REMOTE, id="a", remote_cost=NAN)], ["x"])  # not a gateway's
            writer.write([local("b", remote_cost=NAN)], ["x"])  # not asked: costs nothing
        cost = stats(path)["cost"]
        assert (cost["not_known"], cost["bound"], cost["known"]) == (1, None, 0.0)

    def test_answers_that_cannot_be_compared_are_left_out_of_the_accuracy(self, path):
        pairs = [(True, True), (1, "1"), ("ham ", "ham"), (2.0, 2), ("x", "y"), ([1], [1]), (None, "ham"), ("a", {})]
        with DecisionLog(path) as writer:
            for row, (answer, _) in enumerate(pairs):
                writer.write([local(f"i{row}", answer=answer)], ["x"])
        add_labels(path, {f"i{row}": label for row, (_, label) in enumerate(pairs)})
        labels = stats(path)["labels"]
        assert (labels["labelled"], labels["accepted"], labels["compared"], labels["correct"]) == (8, 8, 5, 4)

    def test_requests_without_a_row_are_told(self, path):
        with Sequences(path, process="a") as numbers, DecisionLog(path) as writer:
            for number in [numbers.take() for _ in range(10)]:
                if number % 5 == 0:
                    writer.write([local(str(number))], ["x"], [details(number)])
            writer.flush()
            assert stats(path)["losses"] == {"lost": 0, "lost_at_most": 0, "missing": 8}
            numbers.close()
            with Sequences(path, process="b") as others:
                others.settle_dead()
        assert stats(path)["losses"] == {"lost": 8, "lost_at_most": 8, "missing": 0}
