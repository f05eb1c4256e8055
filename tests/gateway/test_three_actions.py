"""Early abstention over HTTP: a hopeless input costs no remote call, is told so, and is logged as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bisupervised.decision_log import stats
from bisupervised.evaluation.evaluation import evaluate_at
from bisupervised.sources import read_table
from gateway.running import InThread, cascade, endpoint, gateway, in_process
from gateway.upstreams.handle import FaultyUpstream

SURE = -0.01
#: `classify` gives 0.9375 to `easy` texts and 0.625 to others.
THRESHOLDS = (0.9, 0.5, 0.7)

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(large={"kind": "ok", "text": "a remote answer", "logprob": SURE})
    return running_upstream


@pytest.fixture(scope="module")
def running(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    large = endpoint(running_upstream.base_url, "large", cost_per_input=0.002)
    words: dict[str, Any] = {"thresholds": THRESHOLDS}
    cascades = [
        cascade(in_process(), large, "words", **words),
        cascade(in_process(), large, "fast", speculative=True, **words),
        cascade(in_process(), large, "kept", fallback={"kind": "local_untrusted"}, **words),
        cascade(in_process(), large, "watched", mode="observe", **words),
        cascade(in_process(), large, "switched"),
    ]
    with gateway(tmp_path_factory.mktemp("gateway"), *cascades) as one:
        yield one


@streamed
def test_a_hopeless_input_is_rejected_and_nobody_else_is_asked(
    running: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    reply = running.chat("hard", "words", stream=stream)
    assert (reply.status, reply.code) == (422, "abstained")
    assert "the remote model was not asked" in reply.json["error"]["message"]
    assert reply.headers["x-bisupervised-reason"] == "abstained"
    assert "x-bisupervised-deferred-because" not in reply.headers
    row = running.row(reply)
    assert (row["route"], row["reason"], row["deferred_because"]) == ("rejected", "abstained", None)
    assert (row["remote_asked"], row["remote_cost"], row["extra_remote_calls"]) == (False, 0.0, 0)
    assert upstream.state().begun == 0


def test_what_is_easy_is_still_answered_locally(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("easy", "words")
    assert (reply.status, reply.headers["x-bisupervised-route"]) == (200, "local")


def test_the_fallback_is_that_of_any_rejection(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "kept")
    assert (reply.status, reply.headers["x-bisupervised-served"]) == (200, "local_untrusted")
    assert running.row(reply)["reason"] == "abstained"


def test_a_speculative_call_that_was_not_needed_is_let_go(running: InThread, upstream: FaultyUpstream) -> None:
    reply = running.chat("hard", "fast")
    assert (reply.status, reply.code) == (422, "abstained")
    assert running.row(reply)["remote_asked"] is False


def test_an_observed_abstention_keeps_what_the_remote_model_said_and_is_no_request(
    running: InThread, upstream: FaultyUpstream
) -> None:
    replies = [running.chat(text, "watched") for text in ("hard", "easy")]
    assert [reply.headers["x-bisupervised-served"] for reply in replies] == ["remote", "remote"]
    hard, easy = (running.row(reply) for reply in replies)
    assert (hard["route"], hard["reason"], easy["route"]) == ("rejected", "abstained", "local")
    assert (hard["remote_asked"], hard["extra_remote_calls"]) == (True, 1)
    assert hard["remote_confidence"] > 0.9
    assert stats(running.log_path, cascade="watched")["remote_calls"] == 0


def test_thresholds_that_abstain_come_and_go_without_a_restart(running: InThread, upstream: FaultyUpstream) -> None:
    assert running.chat("hard", "switched").headers["x-bisupervised-route"] == "remote"
    value = {"local": 0.9, "remote": 0.5, "abstain": 0.7}
    change = running.request("PUT", "/v1/cascades/switched/thresholds", value)
    assert change.status == 200, change.body
    assert running.chat("hard", "switched").code == "abstained"
    running.request("PUT", "/v1/cascades/switched/thresholds", {"local": 0.9, "remote": 0.5, "abstain": "-inf"})
    assert running.chat("hard", "switched").headers["x-bisupervised-route"] == "remote"


def test_the_log_is_evaluated_as_it_was_decided(running: InThread, upstream: FaultyUpstream) -> None:
    for text in ("hard", "easy", "hard"):
        running.row(running.chat(text, "words"))
    table = read_table(str(running.log_path))
    ours = evaluate_at(table, 0.9, 0.5, abstain_threshold=0.7).systems["bisupervised"]
    routes = [row["route"] for row in running.rows()]
    assert ours.route_shares["rejected"] == pytest.approx(routes.count("rejected") / len(routes))
    reasons = [(row["reason"], row["remote_asked"]) for row in running.rows()]
    early = sum(reason == "abstained" for reason, _ in reasons)
    assert ours.early_abstention.value == pytest.approx(early / len(reasons))
