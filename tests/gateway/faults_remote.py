"""The remote model's endpoint fails in every way that there is; see `faults.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.callers import Answer, Ask, ask_all
from gateway.faults import (
    COMPLETION_PRICE,
    DEFAULT,
    LOCAL,
    PROMPT_PRICE,
    REMOTE,
    TRUSTED,
    Stage,
    Tally,
    checked,
    config,
    plain,
    said_by,
    settle,
    staged,
)
from gateway.serving import Row
from gateway.upstreams.behaviours import Behaviour
from gateway.upstreams.handle import refused


@dataclass(frozen=True, slots=True)
class RemoteFault:
    """What the remote model's endpoint does to every request of a scenario, and what must come of it.

    A code of `refusals.CODES`, or None where the remote model's answer is good all the same.
    """

    name: str
    behaviour: str
    whole: str | None  #: when a whole reply is asked of it
    stream: str | None  #: when a stream is
    attempts: int = 1
    stream_attempts: int = 1
    streams: bool = True  #: whether a stream ends at all
    charged: bool | None = None  #: whether a failed call may cost something; None: none fails
    each: int = 2  #: requests of each kind


def _twice(name: str, behaviour: str, code: str, *, charged: bool) -> RemoteFault:
    """A failure that may pass, before any of the reply has come: it is tried again."""
    return RemoteFault(name, behaviour, code, code, 2, 2, charged=charged)


def _once(name: str, behaviour: str, code: str, *, charged: bool = True) -> RemoteFault:
    return RemoteFault(name, behaviour, code, code, charged=charged)


def _cut(name: str, behaviour: str) -> RemoteFault:
    """Streams alone are cut."""
    return RemoteFault(name, behaviour, None, "remote_unreadable", charged=True)


REMOTE_FAULTS = (
    RemoteFault("none", "ok", None, None),
    _twice("reset before the request was read", "reset_before_read", "remote_unreachable", charged=True),
    _twice("reset after it was read", "reset_after_read", "remote_unreachable", charged=True),
    _twice("closed without a reply", "close", "remote_unreachable", charged=True),
    _once("reset within the reply", "reset_mid_body", "remote_unreadable"),
    _once("closed within the reply", "close_mid_body", "remote_unreadable"),
    _twice("429", "429", "remote_rate_limited", charged=False),
    _once("429 with Retry-After", "429?retry_after=30", "remote_rate_limited", charged=False),
    _twice("500", "500", "remote_status", charged=False),
    _twice("529 overloaded", "529", "remote_status", charged=False),
    _once("401", "401", "remote_status", charged=False),
    _once("redirect", "redirect", "remote_status", charged=False),
    _once("10 s without a reply", "stall_head?stall_s=10", "remote_timeout"),
    _once("10 s within the reply", "stall_mid_body?stall_s=10", "remote_timeout"),
    RemoteFault("byte by byte", "byte_by_byte", None, None, each=1),
    _once("truncated JSON", "cut_json", "remote_unreadable"),
    _once("truncated JSON at once", "cut_json?after=0", "remote_unreadable"),
    _cut("stream ends early", "sse_no_done"),
    _cut("stream ends at once", "sse_no_done?after=0"),
    _cut("stream ends early, connection lost", "sse_no_done?after=3&terminate=false"),
    _cut("stream ends within an event", "sse_cut_event"),
    _cut("stream ends within an event, connection lost", "sse_cut_event?after=1&terminate=false"),
    _cut("stream ends within a character", "sse_cut_utf8"),
    _once("wrong content type", "html", "remote_unreadable"),
    RemoteFault("no log-probabilities", "no_logprobs", "no_evidence", "no_evidence"),
    RemoteFault("log-probabilities in chat shape", "chat_logprobs", None, None),
    _once("an error with status 200", "error_in_200", "remote_unreadable"),
    _once("an error within the stream", "error_in_stream", "remote_unreadable"),
    RemoteFault("an endless reply", "drip", "remote_timeout", None, streams=False, charged=True),
)

CASCADES = ("raise", "default", "untrusted", "live", "prefix", "speculative", "observe")
#: Those that stream the remote model's answer as it comes.
LIVE = ("live", "prefix", "observe")
#: Those that ask for no evidence of the remote model's answer before it is sent.
UNJUDGED = ("live", "observe")


def remote_faults_config(local: str, remote: str, **settings: Any) -> str:
    """A cascade for each way to answer, all with a local model that is not trusted."""
    unjudged = {"remote_options": {"quantifier": "constant"}}
    return config(
        plain(local, remote, "raise"),
        plain(local, remote, "default", fallback={"kind": "default", "answer": DEFAULT}),
        plain(local, remote, "untrusted", fallback={"kind": "local_untrusted"}),
        plain(local, remote, "live", **unjudged),
        plain(local, remote, "prefix", streaming="prefix", prefix_tokens=2),
        plain(local, remote, "speculative", speculative=True),
        plain(local, remote, "observe", mode="observe"),
        **settings,
    )


def remote_asks(fault: RemoteFault) -> list[Ask]:
    """Requests of every way to answer."""
    return [
        Ask(name, route, stream)
        for name in CASCADES
        for route in ("chat", "completions")
        for stream in (False, True)
        if fault.streams or not stream or name not in LIVE
        for _ in range(fault.each)
    ]


def expected_code(fault: RemoteFault, answer: Answer) -> str | None:
    """The code that a fault has for a cascade that raises."""
    asked = answer.asked
    code = fault.stream if asked.stream and asked.cascade in LIVE else fault.whole
    return None if code == "no_evidence" and asked.cascade in UNJUDGED else code


_KINDS = {
    "remote_unreachable": "unreachable",
    "remote_unreadable": "unreadable",
    "remote_timeout": "timeout",
    "remote_rate_limited": "status",
    "remote_status": "status",
}


def check_remote_fault(fault: RemoteFault, answer: Answer, row: Row) -> None:
    """One request met this fault: its answer, and what its row says of the remote call."""
    shown = f"{answer.asked}: {answer.status} {answer.code} {answer.raw[-300:]!r}\n{row}"
    code = expected_code(fault, answer)
    fallback = {"default": "default", "untrusted": "local_untrusted"}.get(answer.asked.cascade)
    if code is None:
        assert answer.answered, shown
        assert answer.served == "remote", shown
    elif fallback is not None:
        assert answer.answered, shown
        assert answer.served == fallback, shown
    else:
        assert answer.code == code, shown
        if "retry_after=30" in fault.behaviour:
            assert answer.headers["retry-after"] == "30", shown
    if code in _KINDS:
        assert row["remote_error"].startswith(f"{_KINDS[code]}:"), shown
        assert row["remote_cost"] == (None if fault.charged else 0.0), shown
    else:
        assert row["remote_error"] is None, shown
    if code is None:
        assert (row["remote_cost"], row["cost_bound"]) == (_PRICE, 0.0), shown


#: Of one call that is answered: the upstream bills 10 tokens of prompt.
_PRICE = (10 * PROMPT_PRICE + len(REMOTE.split()) * COMPLETION_PRICE) / 1e6


def calls_of(fault: RemoteFault, answer: Answer) -> int:
    """How many calls a request makes of the remote model."""
    return fault.stream_attempts if answer.asked.stream and answer.asked.cascade in LIVE else fault.attempts


def remote_fault(stage: Stage, fault: RemoteFault) -> Tally:
    """Every way to answer, on both routes, streamed and not, while the remote model's endpoint fails."""
    asks = remote_asks(fault)
    after = stage.reset(remote=said_so(fault.behaviour, REMOTE, TRUSTED))
    if fault.behaviour == "reset_before_read":
        stage.remote.script(*[fault.behaviour] * (2 * len(asks)))  # known before the request's body comes
    answers = ask_all(stage.gateway.url, asks)
    rows = settle(stage.gateway, len(asks), after)
    state = stage.remote.state()
    tally = checked(fault.name, answers, rows, state)
    by_id = {row["id"]: row for row in rows}
    for answer in answers:
        check_remote_fault(fault, answer, by_id[str(answer.id)])
    assert state.begun == sum(calls_of(fault, answer) for answer in answers), (state.begun, fault)
    return tally


def said_so(behaviour: str, text: str, logprob: float, **options: Any) -> dict[str, Any]:
    """A behaviour given as text, with what the model says."""
    read = Behaviour.of(behaviour)
    return {"kind": read.kind, "text": text, "logprob": logprob} | options | dict(read.options)


@contextmanager
def remote_stage(folder: Path) -> Iterator[Stage]:
    """The stage of `remote_fault` and `bursts`."""
    with staged(folder, remote_faults_config) as stage:
        yield stage


def remote_refused(folder: Path) -> Tally:
    """Nobody listens at the remote model's address: it saw nothing, and nothing is charged."""
    fault = RemoteFault("connection refused", "ok", "remote_unreachable", "remote_unreachable", 0, 0, charged=False)
    with refused() as nobody, staged(folder, lambda local, _: remote_faults_config(local, nobody)) as stage:
        return remote_fault(stage, fault)


# ---------------------------------------------------------------- the local model fails

#: In a stream before the second token: two are trusted by the cascade `prefix`.
LOCAL_FAULTS = (
    *("503", "429?retry_after=30", "reset_after_read", "stall_head?stall_s=10", "html", "cut_json?after=1"),
    *("close_mid_body?after=1", "sse_cut_event?after=1", "sse_no_done?after=0", "error_in_stream?after=1"),
    *("no_logprobs", "tool_call"),
)


def local_fault(stage: Stage, behaviour: str) -> Tally:
    """The local model's endpoint fails: the remote model answers, and no token of the local one is seen."""
    asks = remote_asks(REMOTE_FAULTS[0])
    after = stage.reset(local=said_so(behaviour, LOCAL, TRUSTED))
    # Where a cut concerns streams alone, a whole answer of the local model would be trusted.
    if behaviour.startswith("sse"):
        asks = [asked for asked in asks if asked.stream and asked.cascade == "prefix"]
    answers = ask_all(stage.gateway.url, asks)
    rows = settle(stage.gateway, len(asks), after)
    tally = checked(f"local: {behaviour}", answers, rows, stage.remote.state())
    assert {answer.served for answer in answers} == {"remote"}, tally
    assert all(answer.answered for answer in answers), tally
    assert all(row["deferred_because"] in ("failed", "no_evidence") for row in rows), rows[0]
    return tally


def trusted_stream_cut(stage: Stage, n: int = 8) -> Tally:
    """A local stream that was trusted on its prefix breaks off: its beginning is with the client, and an error."""
    after = stage.reset(local=said_so("sse_cut_event?after=4", LOCAL, TRUSTED, delay_s=0.02))
    asks = [Ask("prefix", "chat" if k % 2 else "completions", stream=True) for k in range(n)]
    answers = ask_all(stage.gateway.url, asks)
    rows = settle(stage.gateway, n, after)
    assert {answer.code for answer in answers} == {"local_failed"}
    assert all(answer.text and LOCAL.startswith(answer.text) for answer in answers)
    assert all(row["status"] == 502 and row["local_error"].startswith("unreadable:") for row in rows), rows[0]
    return checked("a trusted local stream is cut", answers, rows, stage.remote.state())


# ---------------------------------------------------------------- failures that pass


def bursts(stage: Stage) -> Tally:
    """The first attempt of every request fails and the second is answered: so is the client."""
    passing = ("429", "429?retry_after=0.3", "500", "503", "529", "reset_after_read")
    kinds = (Ask("raise"), Ask("raise", stream=True), Ask("live", stream=True), Ask("prefix", stream=True))
    pairs = [(asked, first) for asked in kinds for first in passing]
    after = stage.reset()
    stage.remote.script(*(step for _, first in pairs for step in (first, said_by(REMOTE))))
    asks = [asked for asked, _ in pairs]
    answers = ask_all(stage.gateway.url, asks, at_once=1)  # so that each meets its own part of the script
    state = stage.remote.state()
    tally = checked("passing failures (429, 5xx, reset)", answers, settle(stage.gateway, len(asks), after), state)
    assert tally.answered == len(asks), tally
    assert {answer.served for answer in answers} == {"remote"}
    assert (state.begun, state.script_left) == (2 * len(asks), 0), state.begun
    waited = [answer.seconds for answer, (_, first) in zip(answers, pairs, strict=True) if "=" in first]
    assert min(waited) >= 0.3, "Retry-After was not heeded"
    return replace(tally, note=f"with Retry-After: 0.3 s waited for {min(waited):.2f} to {max(waited):.2f} s")


RESET_S = 0.6


def breaker_config(local: str, remote: str) -> str:
    options = {"attempts": 1, "breaker_failures": 3, "breaker_reset_s": RESET_S}
    return config(
        plain(local, remote, "whole", remote_options=options),
        plain(local, remote, "live", remote_options=options | {"quantifier": "constant"}),
    )


def breaker_opens_and_closes(folder: Path) -> Tally:
    """A burst of failures opens the breaker: nothing is sent for a while; one call tries, and then all go on."""
    answers: list[Answer] = []
    with staged(folder, breaker_config) as stage:

        def ask(n: int, begun: int, *codes: str | None) -> None:
            """n requests at once to each cascade, of which so many reach the endpoint, and what they come to."""
            before = stage.remote.state().begun
            for asked in (Ask("whole"), Ask("live", stream=True)):
                given = ask_all(stage.gateway.url, [asked] * n, at_once=1)
                answers.extend(given)
                assert [one.code for one in given] == list(codes), (asked, [one.raw for one in given])
            assert stage.remote.state().begun - before == 2 * begun

        stage.remote.default("503")
        ask(5, 3, *["remote_status"] * 3, "circuit_open", "circuit_open")
        time.sleep(RESET_S)
        ask(3, 1, "remote_status", "circuit_open", "circuit_open")  # half-open: one tries, and it fails
        stage.remote.default(said_by(REMOTE))
        ask(1, 0, "circuit_open")
        time.sleep(RESET_S)
        ask(3, 3, None, None, None)
        stage.remote.default({"kind": "sse_cut_event", "text": REMOTE})
        cut = ask_all(stage.gateway.url, [Ask("live", stream=True)] * 4, at_once=1)
        assert [one.code for one in cut] == [*["remote_unreadable"] * 3, "circuit_open"]
        answers += cut
        rows = settle(stage.gateway, len(answers), 0)
        assert {row["remote_cost"] for row in rows if row["status"] == 503} == {0.0}, (
            "what was not sent costs nothing"
        )
        return checked("a burst of 503 and the breaker", answers, rows, stage.remote.state(), attempts=1)
