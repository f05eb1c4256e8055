"""Calls that nobody needs any more: speculative ones, and those of clients that went away; see `faults.py`."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gateway.callers import Answer, Ask, leaver
from gateway.faults import (
    LOCAL,
    NOT_TRUSTED,
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
from gateway.upstreams.handle import FaultyUpstream

#: Seconds within which a call that nobody needs must be closed.
CLOSED_WITHIN_S = 0.1


def check_closing(delays: Mapping[str, Sequence[float]]) -> str:
    """Of each kind, half at least were closed in time, on however busy a machine, and all soon. Says how soon."""
    for kind, seconds in delays.items():
        assert statistics.median(seconds) < CLOSED_WITHIN_S, (kind, seconds)
        assert max(seconds) < 10 * CLOSED_WITHIN_S, (kind, seconds)
    every = [one for seconds in delays.values() for one in seconds]
    return f"closed after {statistics.median(every) * 1e3:.1f} ms (median), {max(every) * 1e3:.1f} ms (longest)"


def disconnect_times(upstream: FaultyUpstream, n: int, timeout_s: float = 5.0) -> list[float]:
    """When the endpoint saw each of n clients go away, on the monotonic clock."""
    state = upstream.wait_for(lambda state: state.disconnects >= n, timeout_s)
    return [request["disconnected"] for request in state.requests if request["disconnected"] is not None]


# ---------------------------------------------------------------- speculative calls


def speculation_config(local: str, remote: str) -> str:
    patient, unjudged = {"timeout_s": 20.0}, {"timeout_s": 20.0, "quantifier": "constant"}
    return config(
        plain(local, remote, "buffer", remote_options=patient, speculative=True),
        plain(local, remote, "prefix", remote_options=patient, speculative=True, streaming="prefix", prefix_tokens=2),
        plain(local, remote, "begun", remote_options=unjudged, speculative=True, streaming="prefix", prefix_tokens=2),
    )


def check_speculative_row(row: Row) -> None:
    """The local answer was trusted; the remote call is none that a verdict caused, and nobody knows what it cost."""
    assert (row["route"], row["served"], row["remote_asked"], row["remote_cost"]) == ("local", "local", 0, 0.0), row
    assert (row["extra_remote_calls"], row["extra_cost"]) == (1, None), row
    assert row["cost_bound"] > 0.0, row


def speculation_cancelled(folder: Path, each: int = 4) -> Tally:
    """Speculative remote calls end as soon as the local answer is trusted, though its stream goes on for long."""
    delays: dict[str, list[float]] = defaultdict(list)
    answers: list[Answer] = []
    with staged(folder, speculation_config) as stage:
        # The local model takes a while, so that the remote one is asked before it is trusted.
        stage.reset(local=said_by(LOCAL, TRUSTED, latency_s=0.1, delay_s=0.1))
        for asked in (Ask("buffer", "completions"), Ask("prefix", stream=True), Ask("begun", stream=True)):
            late = {"delay_s": 5.0} if asked.cascade == "begun" else {"latency_s": 5.0}  # its stream begins at once
            stage.remote.default(said_by(REMOTE, **late))
            for _ in range(each):
                answer, trusted_at = asyncio.run(_first_token(stage, asked))
                answers.append(answer)
                delays[asked.cascade].append(disconnect_times(stage.remote, len(answers))[-1] - trusted_at)
        rows = settle(stage.gateway, len(answers), 0)
        for row in rows:
            check_speculative_row(row)
        tally = checked("speculative calls not needed", answers, rows, stage.remote.state())
        assert tally.answered == len(answers)
        return replace(tally, note=check_closing(delays))


async def _first_token(stage: Stage, asked: Ask) -> tuple[Answer, float]:
    """A whole answer, and when its first token came: no later than that the local answer is trusted."""
    client = await leaver(stage.gateway.url, asked)
    await client.until(b"draft-one")
    trusted_at = time.monotonic()
    await client.until(b"[DONE]" if asked.stream else b"draft-six")
    await client.until(b"0\r\n\r\n" if asked.stream else b"}")
    client.leave()
    return client.answer(), trusted_at


# ---------------------------------------------------------------- clients that go away


@dataclass(frozen=True, slots=True)
class Leaving:
    """When a client goes away, and what the models were doing then."""

    name: str
    asked: Ask
    local: dict[str, Any]
    remote: dict[str, Any]
    when: bytes | float  #: as soon as this has come, or after so many seconds
    closes: tuple[Literal["local", "remote"], ...]  #: which models' calls are under way then


_SLOW = {"kind": "stall_head", "stall_s": 20.0}
_DRIP = {"kind": "drip", "text": REMOTE, "delay_s": 0.02}
_DRAFT = said_by(LOCAL, NOT_TRUSTED)
_SLOW_DRAFT = said_by(LOCAL, TRUSTED, delay_s=0.1)
_SLOW_STREAM = said_by(REMOTE, delay_s=0.1)

_MID_STREAM = Leaving(
    "within a remote stream", Ask("live", stream=True), _DRAFT, _SLOW_STREAM, b"final-two", ("remote",)
)

LEAVINGS = (
    Leaving("whole, remote awaited", Ask("buffer"), _DRAFT, _SLOW, 0.2, ("remote",)),
    Leaving("buffered stream, remote awaited", Ask("buffer", stream=True), _DRAFT, _SLOW, 0.2, ("remote",)),
    Leaving("local awaited", Ask("buffer", "completions"), _SLOW, _SLOW, 0.2, ("local",)),
    Leaving("stream awaited", Ask("live", stream=True), _DRAFT, _SLOW, 0.2, ("remote",)),
    _MID_STREAM,
    Leaving("within an endless remote stream", Ask("live", stream=True), _DRAFT, _DRIP, b"final-one", ("remote",)),
    Leaving(
        "within a remote stream of completions",
        Ask("live", "completions", stream=True),
        *(_DRAFT, _SLOW_STREAM, b"final-two", ("remote",)),
    ),
    Leaving(
        "within a trusted local stream", Ask("prefix", stream=True), _SLOW_DRAFT, _SLOW, b"draft-three", ("local",)
    ),
    Leaving("speculative, both awaited", Ask("speculative"), _SLOW, _SLOW, 0.2, ("local", "remote")),
    Leaving("observed, both awaited", Ask("observe"), _SLOW, _SLOW, 0.2, ("local", "remote")),
    Leaving(
        "within an observed stream",
        Ask("observe", stream=True),
        *(_SLOW, _SLOW_STREAM, b"final-two", ("local", "remote")),
    ),
)


def leaving_config(local: str, remote: str) -> str:
    patient, unjudged = {"timeout_s": 30.0}, {"timeout_s": 30.0, "quantifier": "constant"}
    cascades = [
        plain(local, remote, "buffer", remote_options=patient),
        plain(local, remote, "live", remote_options=unjudged),
        plain(local, remote, "prefix", remote_options=patient, streaming="prefix", prefix_tokens=2),
        plain(local, remote, "speculative", remote_options=patient, speculative=True),
        plain(local, remote, "observe", remote_options=patient, mode="observe"),
    ]
    for cascade in cascades:
        cascade["local"] |= {"timeout_s": 30.0}
    return config(*cascades)


def clients_leave(folder: Path, each: int = 3) -> Tally:
    """Clients go away at every stage of a request: whatever call was under way ends at once, and costs its bound."""
    delays: dict[str, list[float]] = defaultdict(list)
    answers: list[Answer] = []
    calls = 0
    with staged(folder, leaving_config) as stage:
        rows: list[Row] = []
        for leaving in LEAVINGS:
            after = stage.reset(leaving.local, leaving.remote)
            for seen in range(1, each + 1):
                answer, left_at = asyncio.run(_leave(stage, leaving))
                answers.append(answer)
                closed = [disconnect_times(getattr(stage, name), seen)[-1] for name in leaving.closes]
                delays[leaving.name] += [at - left_at for at in closed]
            found = settle(stage.gateway, each, after)
            for row in found:
                _check_left_row(leaving, row)
            state = stage.remote.state()
            checked(leaving.name, answers[-each:], found, state, complete=False, attempts=1)
            calls += state.begun
            rows += found
        assert len(rows) == len(answers)
        tally = checked("clients that leave", answers, rows, replace(state, begun=calls), complete=False, attempts=1)
        return replace(tally, note=check_closing(delays))


def _check_left_row(leaving: Leaving, row: Row) -> None:
    assert (row["status"], row["served"]) == (499, "none"), (leaving, row)
    if "remote" in leaving.closes:
        assert row["remote_cost"] is None, (leaving, row)
        assert row["cost_bound"] > 0.0, (leaving, row)
        assert row["remote_asked"] + row["extra_remote_calls"] == 1, (leaving, row)
    else:
        assert (row["remote_asked"], row["cost_bound"]) == (0, 0.0), (leaving, row)


async def _leave(stage: Stage, leaving: Leaving) -> tuple[Answer, float]:
    client = await leaver(stage.gateway.url, leaving.asked)
    if isinstance(leaving.when, bytes):
        await client.until(leaving.when)
    else:
        await asyncio.sleep(leaving.when)
        assert not client.received
    left_at = client.leave()
    return client.answer(), left_at


# ---------------------------------------------------------------- thousands of clients that go away


def many_leave(folder: Path, clients: int = 5_000, wave: int = 500) -> Tally:
    """Thousands of clients disconnect within their streams, hundreds at a time: memory stays, and nothing is left."""
    memory: list[float] = []
    answers: list[Answer] = []
    with staged(folder, leaving_config) as stage:
        before, seen = stage.gateway.open_files, Counter[str]()
        while len(answers) < clients:
            stage.reset(remote=said_by(REMOTE, delay_s=0.6))
            answers += asyncio.run(_wave_leaves(stage, wave))
            disconnect_times(stage.remote, wave, timeout_s=30.0)
            state = stage.remote.wait_for(lambda state: state.connections_open == 0)
            seen.update({name: getattr(state, name) for name in ("begun", "prompt_tokens", "completion_tokens")})
            memory.append(stage.gateway.memory_mb)
            assert stage.gateway.open_files < before + wave + 20, "more is open than what is kept for the local model"
        rows = settle(stage.gateway, clients, 0)
        state = replace(state, **seen)
        for row in rows:
            _check_left_row(_MID_STREAM, row)
        tally = checked(f"{clients:,} clients leave mid-stream", answers, rows, state, complete=False, attempts=1)
        assert tally.logged == clients
        # The first wave makes room for as many requests at a time; later ones need no more.
        assert memory[-1] < max(memory[0] * 1.5, memory[0] + 50.0), memory
        return replace(
            tally, note=f"{wave} at a time; memory {memory[0]:.0f} MB after the first, {memory[-1]:.0f} MB"
        )


async def _wave_leaves(stage: Stage, n: int) -> list[Answer]:
    clients = await asyncio.gather(
        *(leaver(stage.gateway.url, Ask("live", "chat" if k % 2 else "completions", stream=True)) for k in range(n))
    )
    await asyncio.gather(*(client.until(b"final-one") for client in clients))
    for client in clients:
        client.leave()
    return [client.answer() for client in clients]
