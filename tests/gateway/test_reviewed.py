"""What a review of the gateway found, each as it happened to a client, a budget or an operator."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bisupervised.decision_log.changes import Changes
from gateway.running import cascade, cli, endpoint, gateway, in_process, key_section, wait_until
from gateway.upstreams.handle import FaultyUpstream


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(small="ok?text=draft&logprob=-0.01", large="ok?text=answer&logprob=-0.01")
    return running_upstream


def priced(base_url: str, model: str, **more: Any) -> dict[str, Any]:
    prices = {"prompt_price": 1e6, "completion_price": 1e6, "max_tokens": 4}
    return endpoint(base_url, model, **prices, **more)


def test_a_draft_of_several_choices_of_which_one_was_judged_reaches_nobody(
    upstream: FaultyUpstream, tmp_path: Path
) -> None:
    upstream.models(small={"kind": "ok", "texts": "draft|draft too", "logprob": -0.01}, large="ok?text=answer")
    small, large = endpoint(upstream.base_url, "small", extra={"n": 2}), endpoint(upstream.base_url, "large")
    with gateway(tmp_path, cascade(small, large)) as running:
        for stream in (False, True):
            reply = running.chat("hello", stream=stream)
            assert reply.headers["x-bisupervised-route"] == "remote"
            assert b"draft" not in reply.body
        several = running.chat("hello", n=2.0)  # a whole number, as 2 is
        assert several.status == 200
        assert b"draft" not in several.body
        for n in (2.5, "2"):
            assert running.chat("hello", n=n).status == 400


def test_a_budget_counts_every_answer_of_every_prompt(upstream: FaultyUpstream, tmp_path: Path) -> None:
    large = priced(upstream.base_url, "large")
    with gateway(tmp_path, cascade(in_process(), large), daily_budget=300.0) as running:
        body = {"model": "assistant", "prompt": ["hard"] * 50, "best_of": 20}
        reply = running.request("POST", "/v1/completions", body)
        assert (reply.status, reply.code) == (429, "budget_exhausted")
        assert upstream.state().begun == 0


def test_an_endpoint_gets_one_bound_of_an_answers_length(upstream: FaultyUpstream, tmp_path: Path) -> None:
    with gateway(tmp_path, cascade(in_process(), priced(upstream.base_url, "large"))) as running:
        running.chat("hard", max_completion_tokens=1, max_tokens=100_000, n_predict=100_000)
    (body,) = upstream.state().bodies()
    assert {name: body.get(name) for name in ("max_completion_tokens", "max_tokens", "n_predict")} == {
        "max_completion_tokens": 4,
        "max_tokens": None,
        "n_predict": None,
    }


def test_an_in_process_model_that_costs_is_held_to_the_budget(tmp_path: Path) -> None:
    costly = in_process(cost_per_input=1.0)
    served = cascade(in_process(), costly, thresholds=(float("inf"), 0.0), interface="openai")
    with gateway(tmp_path, served, daily_budget=2.5) as running:
        statuses = [running.chat("hard").status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


def test_a_budget_without_a_price_is_refused_for_every_kind_of_remote_model(tmp_path: Path) -> None:
    from bisupervised.errors import ConfigError

    with (
        pytest.raises(ConfigError, match="needs cost_per_input"),
        gateway(tmp_path, cascade(in_process(), in_process()), daily_budget=1.0),
    ):
        pass


def test_a_key_with_a_budget_passes_nothing_through(upstream: FaultyUpstream, tmp_path: Path) -> None:
    keys = [key_section("capped", "k1", daily_budget=1.0), key_section("free", "k2")]
    rest = [{"name": "rest", "base_url": upstream.base_url}]
    served = cascade(in_process(), priced(upstream.base_url, "large"))
    with gateway(tmp_path, served, key=keys, passthrough=rest) as running:
        body = {"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}
        replies = [running.request("POST", "/v1/chat/completions", body, key=key) for key in ("k1", "k2")]
        assert [reply.status for reply in replies] == [403, 200]


def test_a_change_that_cannot_be_read_does_not_end_the_following_of_the_kill_switch(
    upstream: FaultyUpstream, tmp_path: Path
) -> None:
    with gateway(tmp_path, cascade(in_process(), endpoint(upstream.base_url, "large"))) as running:
        with Changes(running.log_path) as changes:
            changes.append("assistant", "mode", {"mode": "canary"}, by="a newer version")
            changes.append("*", "kill_switch", {"on": True}, by="somebody")
        wait_until(lambda: running.chat("easy").headers["x-bisupervised-mode"], lambda mode: mode == "remote_only")


def test_the_kill_switch_does_not_queue_behind_figures(
    upstream: FaultyUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisupervised.gateway.service.stored_stats", lambda *_, **__: time.sleep(1.0) or {})
    with gateway(tmp_path, cascade(in_process(), endpoint(upstream.base_url, "large"))) as running:
        asking = [threading.Thread(target=running.request, args=("GET", "/v1/stats")) for _ in range(12)]
        for one in asking:
            one.start()
        time.sleep(0.1)
        began = time.monotonic()
        assert running.request("PUT", "/v1/kill-switch", {"on": True}).status == 200
        assert time.monotonic() - began < 0.9
        for one in asking:
            one.join()


def test_a_queue_whose_disk_is_busy_holds_nobody_up(upstream: FaultyUpstream, tmp_path: Path) -> None:
    import sqlite3

    upstream.models(large="ok?logprob=-9")
    served = cascade(
        in_process(), endpoint(upstream.base_url, "large"), fallback={"kind": "queue", "path": "queue.db"}
    )
    with gateway(tmp_path, served) as running:
        holder = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=running.chat, args=("hard",))
        waiting.start()
        wait_until(lambda: upstream.state().completed, lambda n: n == 1)
        began = time.monotonic()
        assert running.request("GET", "/healthz").status == 200
        assert time.monotonic() - began < 1.0
        holder.execute("ROLLBACK")
        holder.close()
        waiting.join()


def test_an_audit_compares_the_whole_answer_of_a_stream(upstream: FaultyUpstream, tmp_path: Path) -> None:
    same = {"kind": "ok", "text": "the very same and quite long answer", "logprob": -0.01}
    upstream.models(small=same, large=same)
    small, large = endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large")
    served = cascade(small, large, streaming="prefix", prefix_tokens=2, audit_share=1.0)
    with gateway(tmp_path, served) as running:
        assert running.chat("hello", stream=True).headers["x-bisupervised-route"] == "local"
        wait_until(lambda: running.metric("audits_total"), lambda n: n == 1)
        assert running.metric("audits_total", result="agrees") == 1


def test_an_observed_answer_does_not_wait_for_further_calls(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(large={"kind": "ok", "latency_s": 0.3})
    large = endpoint(upstream.base_url, "large", samples=2) | {"quantifier": "self_consistency"}
    with gateway(tmp_path, cascade(in_process(), large, mode="observe")) as running:
        began = time.monotonic()
        reply = running.chat("hard")
        assert (reply.status, time.monotonic() - began < 0.55) == (200, True)
        assert running.row(reply)["remote_confidence"] is not None
        running.request("PUT", "/v1/kill-switch", {"on": True})
        before = upstream.state().begun
        running.row(running.chat("hard"))
        assert upstream.state().begun == before + 1


def test_a_cost_that_is_no_number_is_not_known(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(large={"kind": "ok", "prompt_tokens": 10**308})
    with gateway(tmp_path, cascade(in_process(), priced(upstream.base_url, "large"))) as running:
        reply = running.chat("hard", stream=True)
        assert (reply.status, running.row(reply)["remote_cost"]) == (200, None)


def test_a_call_waits_no_longer_for_its_turn_than_for_its_answer(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(large="stall_head")
    large = endpoint(upstream.base_url, "large", max_concurrency=1) | {"timeout_s": 0.5}
    with gateway(tmp_path, cascade(in_process(), large)) as running:
        took: list[float] = []

        def ask() -> None:
            began = time.monotonic()
            running.chat("hard")
            took.append(time.monotonic() - began)

        asking = [threading.Thread(target=ask) for _ in range(5)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert max(took) < 1.8


def test_a_mode_command_makes_no_log_of_its_own(tmp_path: Path) -> None:
    cli("init", str(tmp_path / "cascade.toml"))
    done = cli("mode", str(tmp_path / "cascade.toml"), "--kill-switch", "on")
    assert done.returncode == 2
    assert "there is no decision log" in done.stderr
    assert not (tmp_path / "decisions.db").exists()
