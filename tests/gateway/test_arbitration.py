"""Arbitration over HTTP: after a remote call the local answer may be the better one, and everything says so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.calibration import Thresholds
from bisupervised.decision_log import stats
from bisupervised.evaluation.evaluation import evaluate_at
from bisupervised.learned import learn_on_a_part, save_beside
from bisupervised.sources import read_table
from bisupervised.table import Table
from gateway.running import InThread, cascade, endpoint, gateway, in_process
from gateway.upstreams.handle import FaultyUpstream

SURE = -0.01


def rows(local_right: float, remote_right: float, n: int = 400) -> Table:
    """Two models of which one is far better, whatever the confidences."""
    draw = np.random.default_rng(0)
    columns: dict[str, Any] = {"id": [str(row) for row in range(n)]}
    for name, share in (("local", local_right), ("remote", remote_right)):
        columns[f"{name}_confidence"] = draw.random(n)
        columns[f"{name}_correct"] = draw.random(n) < share
    return Table.from_columns(columns)


def write_thresholds(path: Path, local_right: float, remote_right: float) -> Path:
    """Thresholds with an arbiter that prefers the better of the two models."""
    supervisors, _ = learn_on_a_part(rows(local_right, remote_right), ["arbiter"])
    named: dict[str, Any] = save_beside(supervisors, path)
    replace(Thresholds(0.9, 0.5), **named).save(path)
    return path


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(
        small={"kind": "ok", "text": "a local answer", "logprob": -2.0},
        large={"kind": "ok", "text": "a remote answer", "logprob": SURE},
    )
    return running_upstream


@pytest.fixture(scope="module")
def running(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    folder = tmp_path_factory.mktemp("gateway")
    for name, right in (("local", (0.95, 0.1)), ("remote", (0.1, 0.95)), ("neither", (0.1, 0.1))):
        write_thresholds(folder / f"{name}.toml", *right)
    url = running_upstream.base_url
    large, small = endpoint(url, "large", cost_per_input=0.002), endpoint(url, "small")

    def named(name: str, file: str, local: Any, **gateway_options: Any) -> dict[str, Any]:
        return cascade(local, large, name, **gateway_options) | {"thresholds": f"{file}.toml"}

    cascades = [
        named("prefers-local", "local", in_process()),
        named("prefers-remote", "remote", in_process()),
        named("trusts-neither", "neither", in_process()),
        named("texts", "local", small, streaming="prefix"),
        named("watched", "local", in_process(), mode="observe"),
        cascade(in_process(), large, "plain"),
    ]
    with gateway(folder, *cascades) as one:
        yield one


def test_the_local_answer_is_given_after_a_remote_call(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "prefers-local")
    assert (reply.status, reply.headers["x-bisupervised-route"]) == (200, "local")
    assert reply.headers["x-bisupervised-deferred-because"] == "not_trusted"
    assert float(reply.headers["x-bisupervised-pair-confidence"]) > 0.8
    assert reply.json["choices"][0]["message"]["content"] == "positive"
    row = running.row(reply)
    assert (row["route"], row["reason"], row["remote_asked"], row["served"]) == ("local", "trusted", True, "local")
    assert (row["extra_remote_calls"], row["remote_cost"]) == (0, 0.002), "the request was made, and is one"
    assert row["pair_confidence"] > 0.8
    assert row["remote_confidence"] == pytest.approx(math.exp(SURE)), "the remote model's own stays in the log"
    assert stats(running.log_path, cascade="prefers-local")["remote_calls"] >= 1


def test_the_remote_answer_is_given_where_it_is_the_better_one(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "prefers-remote")
    assert (reply.status, reply.headers["x-bisupervised-route"]) == (200, "remote")
    assert running.row(reply)["pair_confidence"] > 0.8


def test_where_neither_is_likely_right_the_answer_is_rejected(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "trusts-neither")
    assert (reply.status, reply.code) == (422, "not_trusted")
    assert running.row(reply)["pair_confidence"] < 0.5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_streamed_answer_waits_until_it_is_chosen(
    running: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    reply = running.chat("hard", "texts", stream=stream)
    assert reply.status == 200
    text = reply.body.decode()
    assert "remote" not in text.replace("x-bisupervised", ""), "no token of the draft that was not chosen"
    assert "local" in text
    assert running.row(reply)["route"] == "local"


def test_a_remote_model_that_fails_leaves_the_local_answer_to_be_weighed_alone(
    running: InThread, upstream: FaultyUpstream
) -> None:
    upstream.models(large="500")
    reply = running.chat("hard", "prefers-local")
    assert (reply.status, reply.headers["x-bisupervised-route"]) == (200, "local")
    row = running.row(reply)
    assert row["remote_error"] is not None
    assert row["remote_asked"] is True


def test_observed_rows_say_what_arbitration_would_have_done(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "watched")
    assert reply.headers["x-bisupervised-served"] == "remote"
    row = running.row(reply)
    assert (row["route"], row["deferred_because"], row["extra_remote_calls"]) == ("local", "not_trusted", 0)


def test_thresholds_of_another_supervisor_are_refused(running: InThread, upstream: FaultyUpstream) -> None:
    for name in ("prefers-local", "plain"):
        value = {"local": 0.9, "remote": 0.5}
        if name == "plain":
            value |= {"second_level": {"kind": "arbiter", "file": "x.npz", "sha256": "0" * 64}}
        change = running.request("PUT", f"/v1/cascades/{name}/thresholds", value)
        assert change.status == 400, change.body
        assert "start again" in change.json["error"]["message"]


def test_the_log_is_evaluated_as_it_was_decided(running: InThread, upstream: FaultyUpstream) -> None:
    for text in ("hard", "easy", "easy"):
        running.row(running.chat(text, "prefers-local"))
    table = read_table(str(running.log_path))
    table = table.take(np.array([str(one) == "prefers-local" for one in table.extra["cascade"]]))
    assert not table.remote.asked.all()
    ours = evaluate_at(table, 0.9, 0.5).systems["bisupervised"]
    assert ours.request_rate.value == pytest.approx(table.remote.asked.mean())
    assert ours.route_shares["local"] == 1.0, "the route says where the answer came from, not whether it was deferred"


def test_a_learned_first_level_stands_in_the_way_of_no_mode(tmp_path: Path, upstream: FaultyUpstream) -> None:
    supervisors, _ = learn_on_a_part(rows(0.7, 0.9), ["deferral", "arbiter"])
    named: dict[str, Any] = save_beside(supervisors, tmp_path / "learned.toml")
    replace(Thresholds(2.0, 0.5), **named).save(tmp_path / "learned.toml")
    other, _ = learn_on_a_part(rows(0.6, 0.9), ["stacked"])
    named = save_beside(other, tmp_path / "other.toml")
    replace(Thresholds(0.9, 0.5), **named).save(tmp_path / "other.toml")
    large = endpoint(upstream.base_url, "large")
    section = cascade(in_process(), large, "learned") | {"thresholds": "learned.toml"}
    with gateway(tmp_path, section) as running:
        reply = running.chat("easy", "learned")
        assert reply.headers["x-bisupervised-route"] == "remote"
        assert float(reply.headers["x-bisupervised-local-confidence"]) == 0.9375
        assert -1.0 <= float(reply.headers["x-bisupervised-learned-confidence"]) < 1.0
        row = running.row(reply)
        assert row["local_confidence"] == 0.9375
        assert row["learned_confidence"] == pytest.approx(float(reply.headers["x-bisupervised-learned-confidence"]))
        change = running.request("PUT", "/v1/cascades/learned/mode", {"mode": "observe"})
        assert change.status == 200, change.body
        assert running.chat("easy", "learned").headers["x-bisupervised-mode"] == "observe"
    section |= {"thresholds": "other.toml"}  # another supervisor: the older thresholds are none of its own
    with gateway(tmp_path, section) as running:
        changes = running.request("GET", "/v1/changes?cascade=learned").json["changes"]
        newest = max(one["id"] for one in changes if one["kind"] == "thresholds")
        back = running.request("POST", f"/v1/changes/{newest}/rollback", {})
        assert back.status == 400, back.body
        running.request("PUT", "/v1/cascades/learned/mode", {"mode": "enforce"})
        assert running.chat("easy", "learned").headers["x-bisupervised-mode"] == "enforce"
