"""Observe, enforce for a share, remote only, the kill switch: switched while requests come, and what audits say."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bisupervised.calibration import Thresholds
from bisupervised.gateway.modes import place_of
from gateway.local_models import SLOW_S
from gateway.running import (
    InThread,
    Reply,
    cascade,
    cli,
    config_text,
    endpoint,
    gateway,
    gateway_process,
    in_process,
    key_section,
    served,
    wait_until,
)
from gateway.upstreams.handle import FaultyUpstream

SURE, UNSURE = -0.01, -2.0
#: Within this time every gateway on a log follows a change.
FOLLOWS_S = 2.0

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(
        small={"kind": "ok", "text": "a local answer", "logprob": SURE},
        large={"kind": "ok", "text": "a remote answer", "logprob": SURE},
    )
    return running_upstream


def served_by(reply: Reply) -> str:
    return reply.headers["x-bisupervised-served"]


def mode_of(reply: Reply) -> str:
    return reply.headers["x-bisupervised-mode"]


def thresholds_of(reply: Reply) -> str:
    return reply.headers["x-bisupervised-thresholds"]


def ask_directly(upstream: FaultyUpstream, **more: Any) -> bytes:
    """The endpoint's own answer to what `Running.chat` asks."""
    body = {"model": "large", "messages": [{"role": "user", "content": "easy"}]} | more
    request = urllib.request.Request(
        f"{upstream.base_url}/chat/completions", json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return bytes(reply.read())


def events(content: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in content.splitlines() if line.startswith(b"data: {")]


# ---------------------------------------------------------------- observe


@pytest.fixture(scope="module")
def observing(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    url = running_upstream.base_url
    large, small = endpoint(url, "large", cost_per_input=0.002), endpoint(url, "small")
    cascades = [
        cascade(in_process(), large, "words", mode="observe"),
        cascade(small, large, "assistant", mode="observe"),
        cascade(in_process("slowly", inline=False), large, "slow", mode="observe"),
        cascade(small, large, "audited", mode="observe", audit_share=1.0),
        cascade(small, large, "remote-only", mode="remote_only"),
    ]
    with gateway(tmp_path_factory.mktemp("gateway"), *cascades) as one:
        yield one


@streamed
@pytest.mark.parametrize(
    "behaviour", ["ok?text=a remote answer", "tool_call", "refusal", "no_logprobs", "usage_split"]
)
def test_observed_clients_get_the_remote_models_answer_as_before(
    observing: InThread, upstream: FaultyUpstream, behaviour: str, stream: bool
) -> None:
    upstream.models(large=behaviour)
    asked: dict[str, Any] = {"stream": stream, "seed": 3}
    before, now = ask_directly(upstream, **asked), observing.chat("easy", "assistant", **asked)
    assert (now.status, mode_of(now), served_by(now)) == (200, "observe", "remote")
    if not stream:
        assert now.json == json.loads(before)
        return
    assert now.body.endswith(b"data: [DONE]\n\n")
    mine, theirs = events(now.body), events(before)
    if behaviour == "usage_split":  # it sends a usage that nobody asked for
        theirs = [{key: value for key, value in event.items() if key != "usage"} for event in theirs]
    for event in (*mine, *theirs):
        for choice in event["choices"]:
            assert choice.pop("logprobs", None) is None
    assert mine == theirs


def test_the_decision_is_made_beside_it_and_logged(observing: InThread, upstream: FaultyUpstream) -> None:
    row = observing.row(observing.chat("easy", "words"))
    assert (row["mode"], row["served"], row["route"]) == ("observe", "remote", "local")
    assert (row["local_prediction"], row["local_confidence"]) == ("positive", 0.9375)
    assert (row["remote_prediction"], row["remote_asked"], row["extra_remote_calls"]) == ("a remote answer", True, 1)
    assert row["remote_confidence"] == pytest.approx(0.99, abs=0.001)
    assert row["remote_cost"] == 0.002
    row = observing.row(observing.chat("hard", "words"))
    assert (row["route"], row["deferred_because"], row["extra_remote_calls"]) == ("remote", "not_trusted", 0)
    upstream.models(large={"kind": "ok", "logprob": UNSURE})
    reply = observing.chat("hard", "words")
    assert reply.status == 200, "observed: nothing is refused"
    row = observing.row(reply)
    assert (row["route"], row["reason"], row["status"], row["fallback"]) == ("rejected", "not_trusted", 200, None)


def test_the_calls_of_observing_are_extra_ones_and_not_in_the_request_rate(
    running_upstream: FaultyUpstream, tmp_path: Path
) -> None:
    running_upstream.reset()
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large", cost_per_input=0.5), mode="observe")
    with gateway(tmp_path, one) as running:
        for text in ("easy", "easy", "easy", "hard"):
            running.chat(text)
        running.rows(4)
        stats = running.request("GET", "/v1/stats").json
        assert (stats["requests"], stats["request_rate"], stats["remote_calls"]) == (4, 0.25, 1)
        assert (stats["extra_remote_calls"], stats["cost"]["known"]) == (3, 2.0)
        assert stats["routes"] == {"local": 3, "remote": 1}
        assert stats["served"] == {"remote": 4}
        assert running.metric("extra_remote_calls_total") == 3.0


@streamed
def test_a_slow_local_model_delays_nobody_who_is_observed(
    observing: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    start = time.monotonic()
    reply = observing.chat("easy", "slow", stream=stream)
    assert (reply.status, time.monotonic() - start < SLOW_S / 2) == (200, True)
    row = observing.row(reply)
    assert row["local_latency_s"] >= SLOW_S
    assert (row["route"], row["total_s"] < SLOW_S / 2) == ("local", True), "the client's time, not the log's"


def test_a_slow_local_endpoint_delays_nobody_either(observing: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(small={"kind": "ok", "latency_s": 0.8, "logprob": SURE})
    start = time.monotonic()
    reply = observing.chat("easy", "assistant")
    assert (reply.status, time.monotonic() - start < 0.4) == (200, True)
    assert observing.row(reply)["local_latency_s"] >= 0.8


def test_many_slow_local_models_do_not_hold_up_the_rest(observing: InThread, upstream: FaultyUpstream) -> None:
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(observing.chat("easy", "slow"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start = time.monotonic()
    assert observing.request("GET", f"/v1/outcomes/{'0' * 32}").status == 404
    assert observing.request("GET", "/v1/stats").status == 200
    assert time.monotonic() - start < SLOW_S / 2, "reading the log waits for no model"
    assert [reply.status for reply in replies] == [200] * 12
    assert {observing.row(reply)["route"] for reply in replies} == {"local"}


@pytest.mark.parametrize("behaviour", ["503", "reset_after_read", "cut_json"])
def test_a_local_model_that_fails_is_noticed_by_nobody_who_is_observed(
    observing: InThread, upstream: FaultyUpstream, behaviour: str
) -> None:
    upstream.models(small=behaviour)
    reply = observing.chat("easy", "assistant")
    assert (reply.status, served_by(reply)) == (200, "remote")
    row = observing.row(reply)
    assert (row["route"], row["deferred_because"]) == ("remote", "failed")
    assert row["local_error"]


def test_a_remote_model_that_fails_is_an_error_as_before(observing: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large="503")
    reply = observing.chat("easy", "assistant")
    assert (reply.status, reply.code) == (502, "remote_status")
    row = observing.row(reply)
    assert (row["served"], row["status"], row["route"]) == ("error", 502, "local"), "the cascade would have answered"


def test_remote_only_asks_no_local_model(observing: InThread, upstream: FaultyUpstream) -> None:
    reply = observing.chat("easy", "remote-only")
    assert (reply.status, mode_of(reply), served_by(reply)) == (200, "remote_only", "remote")
    assert [body["model"] for body in upstream.state().bodies()] == ["large"]
    row = observing.row(reply)
    assert (row["route"], row["local_prediction"], row["local_error"], row["deferred_because"]) == (
        "remote",
        None,
        None,
        "not_asked",
    )


def test_a_client_may_force_the_local_model_where_it_does_not_answer_and_changes_nothing_where_the_remote_one_does(
    observing: InThread, upstream: FaultyUpstream
) -> None:
    upstream.models(large="no_logprobs")  # which a supervisor would reject
    for model, mode in (("assistant", "observe"), ("remote-only", "remote_only")):
        reply = observing.chat("easy", model, headers={"x-bisupervised-force": "local"})
        assert (reply.status, served_by(reply), mode_of(reply)) == (200, "local", "forced_local")
        reply = observing.chat("easy", model, headers={"x-bisupervised-force": "remote"})
        assert (reply.status, served_by(reply), mode_of(reply)) == (200, "remote", mode)


# ---------------------------------------------------------------- enforced for a share


def test_a_share_at_random_is_enforced(running_upstream: FaultyUpstream, tmp_path: Path) -> None:
    running_upstream.reset()
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"), share=0.25)
    with gateway(tmp_path, one) as running:
        modes = [mode_of(running.chat("easy")) for _ in range(400)]
    # Binomial(400, 1/4): 100 ± 8.7; six standard deviations either way.
    assert 48 < modes.count("enforce") < 152
    assert modes.count("enforce") + modes.count("observe") == 400


def test_a_share_by_key_is_the_same_clients_each_time_and_grows_by_adding_some(
    running_upstream: FaultyUpstream, tmp_path: Path
) -> None:
    running_upstream.reset()
    names = [f"team-{number}" for number in range(40)]
    keys = [key_section(name, f"key-{name}") for name in names] + [key_section("root", "key-root", "admin")]
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"), share=0.3, share_by="key")
    with gateway(tmp_path, one, key=keys) as running:

        def enforced() -> set[str]:
            headers = {name: {"Authorization": f"Bearer key-{name}"} for name in names}
            return {name for name in names if mode_of(running.chat("easy", headers=headers[name])) == "enforce"}

        some = enforced()
        assert some == enforced() == {name for name in names if place_of("assistant", name) < 0.3}
        assert 0 < len(some) < 40
        running.request("PUT", "/v1/cascades/assistant/mode", {"share": 0.6}, key="key-root")
        more = enforced()
        assert some < more
        assert more == {name for name in names if place_of("assistant", name) < 0.6}
        running.request("PUT", "/v1/cascades/assistant/mode", {"share": 0.0}, key="key-root")
        assert enforced() == set()


def test_places_are_spread_evenly() -> None:
    places = [place_of("assistant", f"team-{number}") for number in range(2_000)]
    assert all(abs(sum(place < share for place in places) / 2_000 - share) < 0.05 for share in (0.1, 0.5, 0.9))
    assert place_of("assistant", "team-1") != place_of("another", "team-1"), "not always the same clients"


# ---------------------------------------------------------------- changed while it runs


@pytest.fixture
def running(upstream: FaultyUpstream, tmp_path: Path) -> Iterator[InThread]:
    one = cascade(in_process(), endpoint(upstream.base_url, "large"))
    two = cascade(in_process(), endpoint(upstream.base_url, "large"), "another")
    with gateway(tmp_path, one, two) as gateway_:
        yield gateway_


def put(running: InThread, path: str, body: Any) -> Reply:
    return running.request("PUT", path, body)


def test_a_mode_changes_with_one_call_from_the_next_request_on(running: InThread) -> None:
    assert mode_of(running.chat("easy")) == "enforce"
    change = put(running, "/v1/cascades/assistant/mode", {"mode": "observe", "note": "something looks odd"}).json
    assert (change["cascade"], change["kind"], change["note"]) == ("assistant", "mode", "something looks odd")
    assert change["value"] == {"mode": "observe", "share": 1.0, "share_by": "random"}
    assert mode_of(running.chat("easy")) == "observe"
    assert mode_of(running.chat("easy", "another")) == "enforce"
    put(running, "/v1/cascades/assistant/mode", {"mode": "remote_only"})
    assert mode_of(running.chat("easy")) == "remote_only"
    put(running, "/v1/cascades/assistant/mode", {"mode": "enforce"})
    assert served_by(running.chat("easy")) == "local"


def test_the_kill_switch_sends_everything_to_the_remote_models(running: InThread, upstream: FaultyUpstream) -> None:
    assert put(running, "/v1/kill-switch", {"on": True}).status == 200
    for model in ("assistant", "another"):
        reply = running.chat("easy", model)
        assert (mode_of(reply), served_by(reply)) == ("remote_only", "remote")
    shown = running.request("GET", "/v1/cascades").json["cascades"]
    assert [(one["mode"], one["kill_switch"]) for one in shown] == [("enforce", True)] * 2
    put(running, "/v1/cascades/assistant/mode", {"mode": "observe"})
    assert mode_of(running.chat("easy")) == "remote_only", "it is above every mode"
    put(running, "/v1/kill-switch", {"on": False})
    assert [mode_of(running.chat("easy", model)) for model in ("assistant", "another")] == ["observe", "enforce"]


@pytest.mark.parametrize("level", ["local", "remote"])
def test_the_kill_switch_is_stronger_than_a_clients_wish(running: InThread, level: str) -> None:
    wish = {"x-bisupervised-force": level}
    assert mode_of(running.chat("easy", headers=wish)) == f"forced_{level}"
    put(running, "/v1/kill-switch", {"on": True})
    reply = running.chat("easy", headers=wish)
    assert (mode_of(reply), served_by(reply)) == ("remote_only", "remote")
    put(running, "/v1/kill-switch", {"on": False})


def test_thresholds_change_what_is_trusted_and_every_answer_names_them(running: InThread) -> None:
    first = running.chat("hard")
    assert first.headers["x-bisupervised-route"] == "remote"
    given = {"local": 0.6, "remote": "-inf", "evidence": {"rows": 1200}, "target": {"name": "request_budget"}}
    change = put(running, "/v1/cascades/assistant/thresholds", given).json
    second = running.chat("hard")
    assert second.headers["x-bisupervised-route"] == "local"
    ids = [reply.headers["x-bisupervised-thresholds"] for reply in (first, second)]
    assert ids[0] != ids[1]
    assert [running.row(reply)["thresholds_id"] for reply in (first, second)] == ids
    assert (change["kind"], change["value"]["id"], change["value"]["evidence"]) == (
        "thresholds",
        ids[1],
        {"rows": 1200},
    )
    shown = running.request("GET", "/v1/cascades").json["cascades"][0]["thresholds"]
    assert (shown["id"], shown["local"], shown["remote"], shown["target"]) == (
        ids[1],
        0.6,
        "-inf",
        {"name": "request_budget"},
    )


def test_every_change_is_a_row_and_can_be_rolled_back(running: InThread) -> None:
    before = running.chat("hard").headers["x-bisupervised-thresholds"]
    ids = [
        put(running, "/v1/cascades/assistant/mode", {"mode": "observe"}).json["id"],
        put(running, "/v1/cascades/assistant/thresholds", {"local": 0.1, "remote": 0.1}).json["id"],
        put(running, "/v1/kill-switch", {"on": True}).json["id"],
        put(running, "/v1/kill-switch", {"on": False}).json["id"],
    ]
    assert ids == sorted(set(ids))
    undone = running.request("POST", f"/v1/changes/{ids[3]}/rollback").json
    assert (undone["value"], undone["note"]) == ({"on": True}, f"rolls back change {ids[3]}")
    assert mode_of(running.chat("easy")) == "remote_only"
    put(running, "/v1/kill-switch", {"on": False})
    running.request("POST", f"/v1/changes/{ids[1]}/rollback")
    running.request("POST", f"/v1/changes/{ids[0]}/rollback")
    reply = running.chat("easy")
    assert (mode_of(reply), reply.headers["x-bisupervised-thresholds"]) == ("enforce", before)
    history = running.request("GET", "/v1/changes").json["changes"]
    assert [change["id"] for change in history] == sorted((change["id"] for change in history), reverse=True)
    assert set(ids) < {change["id"] for change in history}
    declared = [change for change in history if change["by"] == "the configuration file"]
    assert {(change["cascade"], change["kind"]) for change in declared} == {
        (name, kind) for name in ("assistant", "another") for kind in ("mode", "thresholds")
    }
    only = running.request("GET", "/v1/changes?cascade=assistant&limit=2").json["changes"]
    assert [change["cascade"] for change in only] == ["assistant"] * 2


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/cascades/assistant/mode", {"mode": "on"}, 400, "observe, enforce, remote_only"),
        ("/v1/cascades/assistant/mode", {"share": 1.5}, 400, "from 0 to 1"),
        ("/v1/cascades/assistant/mode", {"share": True}, 400, "from 0 to 1"),
        ("/v1/cascades/assistant/mode", {"share_by": "user"}, 400, "random or key"),
        ("/v1/cascades/assistant/mode", {"modus": "observe"}, 400, "modus"),
        ("/v1/cascades/assistant/mode", [], 400, "object"),
        ("/v1/cascades/assistant/mode", {"mode": "observe", "note": 3}, 400, "note"),
        ("/v1/cascades/nobody/mode", {"mode": "observe"}, 404, "nobody"),
        ("/v1/cascades/assistant/thresholds", {"local": 0.5}, 400, "remote"),
        ("/v1/cascades/assistant/thresholds", {"local": "high", "remote": 0.5}, 400, "number"),
        ("/v1/cascades/assistant/thresholds", {"local": 0.5, "remote": 0.5, "evidence": 3}, 400, "evidence"),
        ("/v1/kill-switch", {"on": "yes"}, 400, "on"),
        ("/v1/kill-switch", {}, 400, "on"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(
    running: InThread, path: str, body: Any, status: int, words: str
) -> None:
    before = running.request("GET", "/v1/changes").json
    reply = put(running, path, body)
    assert reply.status == status
    assert words in reply.json["error"]["message"]
    assert running.request("GET", "/v1/changes").json == before
    assert mode_of(running.chat("easy")) == "enforce"


def test_what_cannot_be_rolled_back_says_so(running: InThread) -> None:
    declared = running.request("GET", "/v1/changes").json["changes"][-1]
    for change, words in ((declared["id"], "first"), (999, "no change 999"), ("x", "number"), (0, "number")):
        reply = running.request("POST", f"/v1/changes/{change}/rollback")
        assert (reply.status, words in reply.json["error"]["message"]) == (400, True)


def test_a_request_under_way_ends_as_it_began(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large={"kind": "ok", "latency_s": 0.3, "logprob": SURE})
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(running.chat("hard")))
    thread.start()
    upstream.wait_for(lambda state: state.read == 1)
    put(running, "/v1/cascades/assistant/thresholds", {"local": 0.0, "remote": 2.0})
    put(running, "/v1/kill-switch", {"on": True})
    thread.join()
    [reply] = replies
    assert (reply.status, mode_of(reply)) == (200, "enforce")
    assert running.row(reply)["thresholds_id"] == reply.headers["x-bisupervised-thresholds"]


def test_changes_outlive_a_restart_until_the_file_changes_too(upstream: FaultyUpstream, tmp_path: Path) -> None:
    one = cascade(in_process(), endpoint(upstream.base_url, "large"), mode="observe")
    with gateway(tmp_path, one) as running:
        put(running, "/v1/cascades/assistant/mode", {"mode": "enforce", "share": 0.5})
        put(running, "/v1/kill-switch", {"on": True})
    with served(tmp_path / "cascade.toml") as running:
        [shown] = running.request("GET", "/v1/cascades").json["cascades"]
        assert (shown["mode"], shown["share"], shown["kill_switch"]) == ("enforce", 0.5, True)
        put(running, "/v1/kill-switch", {"on": False})
    one["gateway"]["mode"] = "remote_only"
    with gateway(tmp_path, one) as running:
        assert mode_of(running.chat("easy")) == "remote_only"
        history = running.request("GET", "/v1/changes?cascade=assistant").json["changes"]
        assert [change["value"]["mode"] for change in history if change["kind"] == "mode"] == [
            "remote_only",
            "enforce",
            "observe",
        ]


# ---------------------------------------------------------------- the command, and other processes


@pytest.mark.slow
def test_the_command_changes_a_running_gateway(running: InThread, tmp_path: Path) -> None:
    file = str(running.config_path)
    done = cli("mode", file, "assistant", "observe", "--note", "by hand", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cascades"]["assistant"]["mode"] == "observe"
    wait_until(lambda: mode_of(running.chat("easy")), lambda mode: mode == "observe", FOLLOWS_S)
    path = tmp_path / "new.toml"
    Thresholds(0.1, 0.2).save(path)
    assert cli("mode", file, "assistant", "--thresholds", str(path)).returncode == 0
    expected = Thresholds.load(path).id
    wait_until(
        lambda: running.chat("easy").headers["x-bisupervised-thresholds"], lambda id_: id_ == expected, FOLLOWS_S
    )
    change = running.request("GET", "/v1/changes").json["changes"][0]
    assert "bisupervised mode" in change["by"]
    assert cli("mode", file, "--roll-back", str(change["id"])).returncode == 0
    assert cli("mode", file, "--kill-switch", "on").returncode == 0
    wait_until(lambda: mode_of(running.chat("easy")), lambda mode: mode == "remote_only", FOLLOWS_S)
    shown = cli("mode", file)
    assert "kill switch is ON" in shown.stdout
    assert "by hand" in shown.stdout


def test_the_command_asks_which_cascade_is_meant(running: InThread) -> None:
    done = cli("mode", str(running.config_path), "nobody", "observe")
    assert (done.returncode, "assistant, another" in done.stderr) == (2, True)


@pytest.mark.slow
def test_two_gateways_on_one_log_follow_each_others_changes(upstream: FaultyUpstream, tmp_path: Path) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text(config_text(cascade(in_process(), endpoint(upstream.base_url, "large"))), encoding="utf-8")
    with ExitStack() as stack:
        one, two = (stack.enter_context(gateway_process(path, name=name)) for name in ("one", "two"))
        assert [mode_of(both.chat("easy")) for both in (one, two)] == ["enforce", "enforce"]
        one.request("PUT", "/v1/cascades/assistant/mode", {"mode": "observe"})
        assert mode_of(one.chat("easy")) == "observe"
        wait_until(lambda: mode_of(two.chat("easy")), lambda mode: mode == "observe", FOLLOWS_S)
        two.request("PUT", "/v1/kill-switch", {"on": True})
        wait_until(lambda: mode_of(one.chat("easy")), lambda mode: mode == "remote_only", FOLLOWS_S)
        change = one.request("PUT", "/v1/cascades/assistant/thresholds", {"local": 2.0, "remote": 0.0}).json
        expected = change["value"]["id"]
        wait_until(lambda: thresholds_of(two.chat("easy")), lambda id_: id_ == expected, FOLLOWS_S)
        assert two.request("GET", "/v1/changes").json == one.request("GET", "/v1/changes").json
        sequences = [row["sequence"] for row in one.rows()]
        assert len(set(sequences)) == len(sequences)


# ---------------------------------------------------------------- audits


def audited(upstream: FaultyUpstream, folder: Path, **gateway_settings: Any) -> Any:
    local = endpoint(upstream.base_url, "small")
    remote = endpoint(upstream.base_url, "large", prompt_price=2.0, completion_price=8.0, max_tokens=50)
    return gateway(folder, cascade(local, remote, **{"audit_share": 1.0} | gateway_settings))


def audits(running: InThread, n: int) -> Any:
    return wait_until(lambda: running.request("GET", "/v1/stats").json["audits"], lambda found: found["audits"] >= n)


def test_audits_say_how_often_both_models_agree(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(small={"kind": "ok", "text": "Rome", "logprob": SURE})
    with audited(upstream, tmp_path) as running:
        upstream.script("ok?text=Rome&logprob=-0.01", "ok?text=rome.")
        assert served_by(running.chat("hello")) == "local"
        assert audits(running, 1)["agreeing"] == 1
        upstream.models(large="ok?text=Milan")
        running.chat("hello")
        audits(running, 2)
        upstream.models(large="503")
        running.chat("hello", stream=True)
        found = audits(running, 3)
        assert (found["audits"], found["compared"], found["agreeing"], found["failed"]) == (3, 2, 1, 1)
        assert found["cost"] == pytest.approx(2 * (10 * 2.0 + 1 * 8.0) / 1e6)
        assert running.metric("audits_total", result="agrees") == 1
        assert running.metric("audits_total", result="disagrees") == 1
        assert running.metric("audits_total", result="failed") == 1
        stats = running.request("GET", "/v1/stats").json
        assert (stats["request_rate"], stats["routes"]) == (0.0, {"local": 3})
        assert [row["remote_asked"] for row in running.rows()] == [False] * 3


def test_an_audit_delays_nobody(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(large={"kind": "ok", "latency_s": 0.5})
    with audited(upstream, tmp_path) as running:
        start = time.monotonic()
        assert running.chat("hello").status == 200
        assert time.monotonic() - start < 0.25
        assert audits(running, 1)["audits"] == 1


def test_only_what_the_decision_trusted_is_audited(upstream: FaultyUpstream, tmp_path: Path) -> None:
    with audited(upstream, tmp_path) as running:
        running.chat("hello", headers={"x-bisupervised-force": "local"})
        upstream.models(small={"kind": "ok", "logprob": UNSURE})
        running.chat("hello")
        running.rows(2)
        put(running, "/v1/cascades/assistant/mode", {"mode": "observe"})
        running.chat("hello")
        running.rows(3)
    with served(tmp_path / "cascade.toml") as running:
        assert audits(running, 0)["audits"] == 0


def test_a_share_of_them_is_audited(upstream: FaultyUpstream, tmp_path: Path) -> None:
    with audited(upstream, tmp_path, audit_share=0.3) as running:
        for _ in range(100):
            running.chat("hello")
    with served(tmp_path / "cascade.toml") as running:
        assert 8 <= audits(running, 0)["audits"] <= 56, "Binomial(100, 0.3), six standard deviations either way"


def test_audits_keep_within_their_budget(upstream: FaultyUpstream, tmp_path: Path) -> None:
    budget = 700e-6  # one costs 44e-6 and may cost 600e-6: 150 tokens asked, which its bytes bound, and 50 written
    with audited(upstream, tmp_path, audit_daily_budget=budget) as running:
        for _ in range(20):
            assert running.chat("hello").status == 200, "a spent audit budget stops audits, nothing else"
        found = audits(running, 20)
        asked = [body for body in upstream.state().bodies() if body["model"] == "large"]
        assert 1 <= len(asked) < 20
        assert found["cost"] <= budget
        assert found["failed"] == 20 - len(asked)
        upstream.models(small={"kind": "ok", "logprob": UNSURE})
        assert served_by(running.chat("hello")) == "remote", "it is a budget of audits alone"
