"""What no supervisor can score: a stated rule for each kind, at both levels, counted by reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.gateway.judging import RuledSupervisor
from bisupervised.gateway.settings import REPLY_KINDS, REQUEST_KINDS
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import ModelOutput
from bisupervised.supervisor import Supervisor
from gateway.running import InThread, Reply, cascade, endpoint, gateway, in_process
from gateway.upstreams.handle import FaultyUpstream

SURE, UNSURE = -0.01, -2.0
#: Nobody listens there, and nobody must try.
PICTURE = "http://127.0.0.1:9/never-fetched.png"

ASKED: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]},
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "easy"},
                    {"type": "image_url", "image_url": {"url": PICTURE}},
                ],
            }
        ]
    },
    "audio": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "easy"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                ],
            }
        ]
    },
    "many": {"n": 2},
    "json_mode": {"response_format": {"type": "json_object"}},
}
RULES = {"remote", "local", "reject", "score"}

request_kinds = pytest.mark.parametrize("kind", REQUEST_KINDS)
reply_kinds = pytest.mark.parametrize("kind", REPLY_KINDS)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(
        small={"kind": "ok", "text": "a local answer", "logprob": SURE},
        large={"kind": "ok", "text": "a remote answer", "logprob": SURE},
    )
    return running_upstream


def all_of(rule: str) -> dict[str, str]:
    """A rule for every kind that it is for: of several answers one would be scored, and all sent."""
    return {kind: rule for kind in (*REQUEST_KINDS, *REPLY_KINDS) if (kind, rule) != ("many", "score")}


@pytest.fixture(scope="module")
def running(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """Cascades `words` and `assistant` with the defaults, and one for each rule, for every kind at once."""
    url = running_upstream.base_url
    words, small, large = in_process(), endpoint(url, "small"), endpoint(url, "large")
    every = (*REQUEST_KINDS, *REPLY_KINDS)
    cascades = [cascade(words, large, "words"), cascade(small, large, "assistant")]
    for name, local in (("words", words), ("assistant", small)):
        cascades += [cascade(local, large, f"{name}-{rule}", unscorable=all_of(rule)) for rule in RULES]
    for rule in ("trust", "reject"):
        rules = {"unscorable": dict.fromkeys(every, "remote"), "unscorable_remote": dict.fromkeys(every, rule)}
        cascades.append(cascade(words, large, f"remote-{rule}", **rules))
    observed = [cascade(small, large, f"observe-{rule}", mode="observe", unscorable=all_of(rule)) for rule in RULES]
    with gateway(tmp_path_factory.mktemp("gateway"), *cascades, *observed) as one:
        yield one


def ask(running: InThread, model: str, kind: str | None = None, **more: Any) -> Reply:
    """`easy` is what the in-process model is sure of."""
    return running.chat("easy", model, **(ASKED[kind] if kind else {}), **more)


def route(reply: Reply) -> str:
    return reply.headers["x-bisupervised-route"]


# ---------------------------------------------------------------- requests


@streamed
@request_kinds
@pytest.mark.parametrize("model", ["words", "assistant"])
def test_by_default_what_cannot_be_scored_goes_to_the_remote_model_unless_a_language_model_can_do_it(
    running: InThread, upstream: FaultyUpstream, model: str, kind: str, stream: bool
) -> None:
    scored = (model, kind) == ("assistant", "json_mode")
    counted = running.metric("unscorable_total", cascade=model, level="local", kind=kind)
    reply = ask(running, model, kind, stream=stream)
    assert (reply.status, route(reply)) == (200, "local" if scored else "remote")
    assert reply.headers.get("x-bisupervised-unscorable") == (None if scored else kind)
    row = running.row(reply)
    assert row["unscorable"] == (None if scored else kind)
    if scored:
        return
    assert {body["model"] for body in upstream.state().bodies()} == {"large"}
    assert running.metric("unscorable_total", cascade=model, level="local", kind=kind) == counted + 1
    assert reply.headers["x-bisupervised-deferred-because"] == row["deferred_because"] == "not_asked"
    assert (row["local_error"], row["local_latency_s"], row["local_confidence"]) == (None, None, None)
    assert running.metric("failures_total", cascade=model, level="local") == 0.0


@request_kinds
@pytest.mark.parametrize("model", ["words", "assistant"])
def test_a_rule_sends_a_kind_to_the_remote_model(
    running: InThread, upstream: FaultyUpstream, model: str, kind: str
) -> None:
    reply = ask(running, f"{model}-remote", kind)
    assert (route(reply), reply.headers["x-bisupervised-unscorable"]) == ("remote", kind)
    assert [body["model"] for body in upstream.state().bodies()] == ["large"]


@streamed
@request_kinds
@pytest.mark.parametrize("model", ["words", "assistant"])
def test_a_rule_lets_the_local_model_answer_without_evidence(
    running: InThread, upstream: FaultyUpstream, model: str, kind: str, stream: bool
) -> None:
    upstream.models(small="no_logprobs?text=a local answer")
    reply = ask(running, f"{model}-local", kind, stream=stream)
    assert (reply.status, route(reply)) == (200, "local")
    row = running.row(reply)
    assert (row["unscorable"], row["remote_asked"]) == (kind, False)
    assert (row["local_confidence"] is None) is (model == "assistant")


@streamed
@request_kinds
@pytest.mark.parametrize("model", ["words", "assistant"])
def test_a_rule_rejects_a_kind_and_nobody_is_asked(
    running: InThread, upstream: FaultyUpstream, model: str, kind: str, stream: bool
) -> None:
    reply = ask(running, f"{model}-reject", kind, stream=stream)
    assert (reply.status, reply.code) == (422, "unscorable")
    assert kind in reply.json["error"]["message"]
    assert upstream.state().begun == 0
    row = running.row(reply)
    assert (row["route"], row["reason"], row["unscorable"]) == ("rejected", "not_asked", kind)
    assert (row["remote_asked"], row["remote_cost"], row["remote_error"], row["local_error"]) == (
        False,
        0.0,
        None,
        None,
    )


@pytest.mark.parametrize("kind", [kind for kind in REQUEST_KINDS if kind != "many"])
@pytest.mark.parametrize("model", ["words", "assistant"])
def test_a_rule_has_the_local_model_asked_and_its_evidence_decides(
    running: InThread, upstream: FaultyUpstream, model: str, kind: str
) -> None:
    reply = ask(running, f"{model}-score", kind)
    assert (route(reply), "x-bisupervised-unscorable" in reply.headers) == ("local", False)
    upstream.models(small={"kind": "ok", "logprob": UNSURE})
    asked = ASKED[kind] if kind not in ("image", "audio") else {}
    reply = running.chat("hard", f"{model}-score", **asked)
    assert route(reply) == "remote"
    assert reply.headers["x-bisupervised-deferred-because"] == "not_trusted"


def test_of_several_kinds_the_strictest_rule_holds(running_upstream: FaultyUpstream, tmp_path: Path) -> None:
    rules = {"tools": "score", "image": "local", "many": "reject"}
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"), unscorable=rules)
    with gateway(tmp_path, one) as running:
        for kinds, expected in (
            (("tools", "image"), "image"),
            (("tools", "image", "audio"), "audio"),
            (("tools", "image", "many"), "many"),
        ):
            content = [part for k in kinds if "messages" in ASKED[k] for part in ASKED[k]["messages"][0]["content"]]
            asked = {key: value for k in kinds for key, value in ASKED[k].items() if key != "messages"}
            messages = [{"role": "user", "content": content}]
            reply = running.request(
                "POST", "/v1/chat/completions", {"model": "assistant", "messages": messages} | asked
            )
            assert running.row(reply)["unscorable"] == expected


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"functions": [{"name": "weather"}]}, "tools"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "json_mode"),
        ({"response_format": {"type": "text"}}, None),
        ({"n": 1, "tools": []}, None),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "easy"}]}]}, None),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "image"),
    ],
)
def test_a_kind_is_what_the_request_says(
    running: InThread, upstream: FaultyUpstream, asked: dict[str, Any], kind: str | None
) -> None:
    reply = running.chat("easy", "words", **asked)
    assert reply.headers.get("x-bisupervised-unscorable") == kind
    assert route(reply) == ("remote" if kind else "local")


def test_several_prompts_or_answers_to_the_best_of_are_many(running: InThread, upstream: FaultyUpstream) -> None:
    for asked, kind in (
        ({"prompt": ["easy", "easy"]}, "many"),
        ({"prompt": "easy", "best_of": 3}, "many"),
        ({"prompt": ["easy"]}, None),
    ):
        reply = running.request("POST", "/v1/completions", {"model": "words"} | asked)
        assert reply.headers.get("x-bisupervised-unscorable") == kind


# ---------------------------------------------------------------- replies


@streamed
@reply_kinds
def test_a_local_reply_that_cannot_be_scored_goes_to_the_remote_model(
    running: InThread, upstream: FaultyUpstream, kind: str, stream: bool
) -> None:
    for model in ("assistant", "assistant-remote"):
        upstream.models(small=kind)
        reply = ask(running, model, stream=stream)
        assert (route(reply), reply.headers["x-bisupervised-unscorable"]) == ("remote", kind)
        assert running.row(reply)["unscorable"] == kind
        assert running.metric("unscorable_total", cascade=model, level="local", kind=kind) >= 1


@streamed
@reply_kinds
def test_a_rule_trusts_a_local_reply_that_cannot_be_scored(
    running: InThread, upstream: FaultyUpstream, kind: str, stream: bool
) -> None:
    upstream.models(small=kind)
    reply = ask(running, "assistant-local", stream=stream)
    assert (reply.status, route(reply)) == (200, "local")
    assert (b"tool_calls" in reply.body) is (kind == "tool_call")
    assert (b'"refusal":"positive"' in reply.body) is (kind == "refusal")


@reply_kinds
def test_a_rule_rejects_a_local_reply_that_cannot_be_scored(
    running: InThread, upstream: FaultyUpstream, kind: str
) -> None:
    upstream.models(small=kind)
    reply = ask(running, "assistant-reject")
    assert (reply.status, reply.code) == (422, "unscorable")
    assert [body["model"] for body in upstream.state().bodies()] == ["small"], "the remote model is not asked"
    assert running.row(reply)["remote_asked"] is False


def test_a_refusal_with_likely_words_is_no_answer_to_be_trusted(running: InThread, upstream: FaultyUpstream) -> None:
    """Content filters cut an answer: its tokens were likely, and it is none."""
    judge = RuledSupervisor(Supervisor(GivenConfidence(), 0.5))
    output = ModelOutput(np.array(["refusal"]), confidences=np.array([0.99]))
    assert judge.judge(output).accepted.tolist() == [True]
    judge.trust_none = True
    assert judge.judge(output).accepted.tolist() == [False]
    judge.trust_all = True
    assert judge.judge(output).accepted.tolist() == [True], "the client forced it"


# ---------------------------------------------------------------- the second level


@streamed
@pytest.mark.parametrize(("kind", "status"), [("tool_call", 200), ("refusal", 200), ("no_logprobs", 422)])
def test_the_remote_models_calls_and_refusals_are_trusted_and_missing_evidence_is_not(
    running: InThread, upstream: FaultyUpstream, kind: str, status: int, stream: bool
) -> None:
    upstream.models(large=kind, small={"kind": "ok", "logprob": UNSURE})
    reply = ask(running, "assistant", stream=stream)
    assert reply.status == status
    if status == 422:
        assert reply.code == "no_evidence"
    row = running.row(reply)
    assert (row["unscorable"], row["remote_asked"]) == (kind, True)
    assert running.metric("unscorable_total", cascade="assistant", level="remote", kind=kind) >= 1


@reply_kinds
@pytest.mark.parametrize(("rule", "status"), [("trust", 200), ("reject", 422)])
def test_a_rule_says_what_becomes_of_a_remote_reply_that_cannot_be_scored(
    running: InThread, upstream: FaultyUpstream, kind: str, rule: str, status: int
) -> None:
    upstream.models(large=kind)
    reply = running.chat("hard", f"remote-{rule}")
    assert reply.status == status


@request_kinds
@pytest.mark.parametrize(("rule", "status"), [("trust", 200), ("reject", 422)])
def test_a_rule_says_what_becomes_of_a_remote_reply_without_evidence_to_such_a_request(
    running: InThread, upstream: FaultyUpstream, kind: str, rule: str, status: int
) -> None:
    upstream.models(large="no_logprobs")
    assert ask(running, f"remote-{rule}", kind).status == status
    upstream.models(large={"kind": "ok", "logprob": UNSURE})
    assert ask(running, f"remote-{rule}", kind).status == 422, "what can be scored is scored"


# ---------------------------------------------------------------- observed


@request_kinds
def test_observing_applies_the_same_rules(running: InThread, upstream: FaultyUpstream, kind: str) -> None:
    upstream.models(small="no_logprobs", large={"kind": "tool_call"} if kind == "tools" else {"kind": "ok"})
    expected = {"remote": "remote", "local": "local", "reject": "rejected", "score": "remote"}
    for rule, decided in expected.items():
        reply = ask(running, f"observe-{rule}", kind)
        assert (reply.status, reply.headers["x-bisupervised-served"]) == (200, "remote")
        row = running.row(reply)
        assert (row["route"], row["mode"], row["status"]) == (decided, "observe", 200), rule
        assert row["unscorable"] == (kind if rule != "score" or kind == "many" else "no_logprobs")


@reply_kinds
def test_observing_applies_the_same_rules_to_replies(running: InThread, upstream: FaultyUpstream, kind: str) -> None:
    upstream.models(small=kind)
    for rule, decided in (("remote", "remote"), ("local", "local"), ("reject", "rejected"), ("score", "remote")):
        row = running.row(ask(running, f"observe-{rule}"))
        assert (row["route"], row["unscorable"]) == (decided, kind), rule


# ---------------------------------------------------------------- conversations


def talk(running: InThread, *turns: str, **headers: str) -> Reply:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    body = {"model": "sticky", "messages": messages}
    return running.request("POST", "/v1/chat/completions", body, headers)


@pytest.fixture(scope="module")
def sticky(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    one = cascade(in_process(), endpoint(running_upstream.base_url, "large"), "sticky", stick_to_remote=True)
    with ExitStack() as stack:
        yield stack.enter_context(gateway(tmp_path_factory.mktemp("sticky"), one))


def test_a_conversation_stays_with_the_remote_model_once_it_has_answered(
    sticky: InThread, upstream: FaultyUpstream
) -> None:
    assert route(talk(sticky, "easy")) == "local"
    assert route(talk(sticky, "easy", "positive", "easy too")) == "local"
    assert route(talk(sticky, "hard")) == "remote"
    again = talk(sticky, "hard", "a remote answer", "easy")
    assert (route(again), again.headers["x-bisupervised-unscorable"]) == ("remote", "conversation")
    assert sticky.row(again)["unscorable"] == "conversation"
    assert sticky.metric("unscorable_total", kind="conversation") == 1
    further = talk(sticky, "hard", "a remote answer", "easy", "a remote answer", "easy as well")
    assert route(further) == "remote"
    assert route(talk(sticky, "hard", "another answer", "easy")) == "local", "the remote model did not say this"
    assert route(talk(sticky, "easy")) == "local", "another conversation"


def test_a_conversation_may_be_named(sticky: InThread, upstream: FaultyUpstream) -> None:
    named = {"x-bisupervised-conversation": "c-1"}
    assert route(talk(sticky, "easy", **named)) == "local"
    assert route(talk(sticky, "hard", **named)) == "remote"
    assert route(talk(sticky, "easy", **named)) == "remote"
    assert route(talk(sticky, "easy", **{"x-bisupervised-conversation": "c-2"})) == "local"


def test_a_streamed_answer_is_remembered_too(sticky: InThread, upstream: FaultyUpstream) -> None:
    body = {"model": "sticky", "stream": True, "messages": [{"role": "user", "content": "hard and streamed"}]}
    assert route(sticky.request("POST", "/v1/chat/completions", body)) == "remote"
    assert route(talk(sticky, "hard and streamed", "a remote answer", "easy")) == "remote"


def test_other_cascades_do_not_stick(running: InThread, upstream: FaultyUpstream) -> None:
    messages = [{"role": "user", "content": "hard"}]
    assert (
        route(running.request("POST", "/v1/chat/completions", {"model": "words", "messages": messages})) == "remote"
    )
    messages += [{"role": "assistant", "content": "a remote answer"}, {"role": "user", "content": "easy"}]
    assert route(running.request("POST", "/v1/chat/completions", {"model": "words", "messages": messages})) == "local"
