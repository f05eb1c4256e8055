"""What is measured of a running gateway or peer, one function for each part of the table."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from benchmarks.gateway import payloads
from benchmarks.gateway.latency import Target, check, in_turn
from benchmarks.gateway.machine import memory_mb
from benchmarks.gateway.servers import Server
from benchmarks.gateway.setting import LARGE, LOCAL, NUMBERS, REMOTE, SMALL, STREAMING, STREAMS, Cascade
from benchmarks.gateway.streams import held
from benchmarks.gateway.table import Table
from benchmarks.gateway.throughput import load

CLIENTS = 32
CROWD = 1000  #: streams at once
RAMP_S = 2.0
BUSY = 0.85  #: share of its core that a server uses under load, when it has it for itself
GOALS_PER_SECOND = {LOCAL.name: 5000.0, REMOTE.name: 3000.0}


@dataclass(slots=True)
class Run:
    """What all parts need: the upstream, how thoroughly to measure, the table."""

    upstream: Server
    table: Table
    rounds: int = 3
    seconds: float = 3.0  #: of each run of the load tool
    replies: dict[str, int] = field(default_factory=dict)  #: read from each server

    def count(self, server: Server, replies: int) -> None:
        self.replies[server.name] = self.replies.get(server.name, 0) + replies

    def direct(self, model: str = "fast", *, stream: bool = False) -> Target:
        return Target("direct", self.upstream.port, payloads.chat(model, stream=stream))

    def times(self, targets: Sequence[Target], n: int, server: Server) -> list[dict[str, np.ndarray]]:
        """For each round, name -> (n, 2) milliseconds: first piece, total."""
        warm_up = min(20, n)
        for target in targets:
            check(target)
        found = [in_turn(targets, n, warm_up=warm_up) for _ in range(self.rounds)]
        of_server = sum(target.port == server.port for target in targets)
        self.count(server, of_server * (1 + self.rounds * (n + warm_up)))
        return [{name: seconds * 1e3 for name, seconds in one.items()} for one in found]


def through(server: Server, cascade: Cascade, *, stream: bool = False) -> Target:
    """A request to one of the gateway's virtual models."""
    return Target(cascade.name, server.port, payloads.chat(cascade.name, stream=stream), cascade.route)


def plain(server: Server, *, stream: bool = False) -> Target:
    """A request to a peer, which hands it to the upstream."""
    return Target(server.name, server.port, payloads.chat("fast", stream=stream))


def one_client(run: Run, server: Server, targets: Sequence[Target], n: int, *, goals: bool = False) -> None:
    """Latency added over calling the upstream directly, in the same turns."""
    rounds = run.times([run.direct(), *targets], n, server)
    for target in targets:
        for quantile, goal in ((0.5, 0.5), (0.99, 2.0)):
            there = [np.quantile(one[target.name][:, 1], quantile) for one in rounds]
            direct = [np.quantile(one["direct"][:, 1], quantile) for one in rounds]
            added = [a - b for a, b in zip(there, direct, strict=True)]
            name = f"{target.name}: p{quantile * 100:.0f}"
            run.table.add(f"{name}, one client", there, "ms")
            run.table.add(f"{name}, added to that of calling the upstream", added, "ms", goal if goals else None)
    for quantile in (0.5, 0.99):
        direct = [np.quantile(one["direct"][:, 1], quantile) for one in rounds]
        run.table.add(f"upstream alone: p{quantile * 100:.0f}, one client", direct, "ms")


def many_clients(run: Run, server: Server, targets: Sequence[Target]) -> None:
    """Requests per second of 32 clients, and how often the upstream was asked for each."""
    for target in targets:
        body = target.request.partition(b"\r\n\r\n")[2]
        url = f"http://127.0.0.1:{target.port}{payloads.CHAT}"
        run.count(server, load(url, body, server.pid, clients=CLIENTS, seconds=1.0).replies)
        before = _asked(run.upstream)
        found = [load(url, body, server.pid, clients=CLIENTS, seconds=run.seconds) for _ in range(run.rounds)]
        asked, replies = _asked(run.upstream) - before, sum(one.replies for one in found)
        run.count(server, replies)
        name = f"{target.name}: {CLIENTS} clients"
        goal = GOALS_PER_SECOND.get(target.name)
        run.table.add(f"{name}, per second", [one.per_second for one in found], "/s", goal, more_is_better=True)
        run.table.add(f"{name}, p50", [one.p50_ms for one in found], "ms")
        run.table.add(f"{name}, p99", [one.p99_ms for one in found], "ms")
        run.table.add(f"{name}, share of its core in use", [one.busy for one in found], "")
        if (busy := statistics.median(one.busy for one in found)) < BUSY and server is not run.upstream:
            run.table.note(f"{target.name} had its core for {busy:.0%} of the time: something else ran there")
        if failed := sum(one.failed for one in found):
            run.table.problem(f"{target.name}: {failed} of {replies} requests of {CLIENTS} clients failed")
        if target.route is not None and abs(asked / max(replies, 1) - (target.route == "remote")) > 0.05:
            run.table.problem(f"{target.name}: {replies} replies took {asked} calls of the upstream")


def _asked(upstream: Server) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{upstream.port}/_state") as reply:
        return int(json.load(reply).get("requests", 0))


def streaming(run: Run, server: Server, targets: Sequence[Target], n: int) -> None:
    """What a stream through a server takes more than one from the upstream, which sends all of it at once."""
    rounds = run.times([run.direct(stream=True), *targets], n, server)
    for target in targets:
        for column, name in ((0, "time to first token"), (1, "total")):
            added = [np.median(one[target.name][:, column]) - np.median(one["direct"][:, column]) for one in rounds]
            run.table.add(f"{target.name}: stream, {name}, added at p50", added, "ms")


def streaming_modes(run: Run, server: Server, n: int) -> None:
    """Local tokens 2 ms apart, the remote model's too, and its first 40 ms later; 12 tokens each."""
    small = Target("the local model alone", run.upstream.port, payloads.chat(SMALL, stream=True))
    large = Target("the remote model alone", run.upstream.port, payloads.chat(LARGE, stream=True))
    targets = [through(server, cascade, stream=True) for cascade in STREAMING.values()]
    rounds = run.times([small, large, *targets], n, server)
    for target in (small, large, *targets):
        for column, name in ((0, "time to first token"), (1, "total")):
            medians = [np.median(one[target.name][:, column]) for one in rounds]
            run.table.add(f"{target.name}: {name}, p50", medians, "ms")


def numbers(run: Run, server: Server, n: int) -> None:
    """A row of numbers over the v2 protocol."""
    targets = [
        Target("v2, JSON", server.port, payloads.infer_json(), NUMBERS.route),
        Target("v2, binary", server.port, payloads.infer_binary(), NUMBERS.route),
    ]
    rounds = run.times(targets, n, server)
    for target, goal in zip(targets, (0.25, 0.15), strict=True):
        for quantile, limit in ((0.5, goal), (0.99, None)):
            found = [np.quantile(one[target.name][:, 1], quantile) for one in rounds]
            run.table.add(f"{target.name}: p{quantile * 100:.0f}, one client", found, "ms", limit)


def crowd(run: Run, server: Server, n: int) -> None:
    """Local answers while 1,000 streams from a remote that takes 10 s are open: one request a millisecond or so."""
    local, pause_s = through(server, LOCAL), 0.001
    request = payloads.chat(STREAMS.name, stream=True)
    check(through(server, LOCAL))
    idle, busy, ended, memory, highest = [], [], [], [], []
    for _ in range(run.rounds):
        idle.append(np.quantile(in_turn([local], n, pause_s=pause_s)[local.name][:, 1], 0.99) * 1e3)
        with held(server.port, CROWD, RAMP_S, request) as holder:
            assert holder.stdout is not None
            opened = json.loads(holder.stdout.readline())["open"]
            before = time.monotonic()
            busy.append(np.quantile(in_turn([local], n, pause_s=pause_s)[local.name][:, 1], 0.99) * 1e3)
            took = time.monotonic() - before
            memory.append(memory_mb(server.pid))
            result = json.loads(holder.stdout.readline())
        run.count(server, 2 * (n + 20) + result["ended"])
        ended.append(result["ended"])
        highest.append(memory_mb(server.pid, "VmHWM"))
        if opened < CROWD or result["failed"] or result["total_s"] < RAMP_S + took:
            run.table.problem(f"{opened} of {CROWD} streams were open, {result['failed']} failed: {result}")
    ratio = [b / a for a, b in zip(idle, busy, strict=True)]
    run.table.add("local p99, nothing else going on", idle, "ms")
    run.table.add(f"local p99, {CROWD:,} streams open", busy, "ms")
    run.table.add("the one over the other", ratio, "times", 3.0)
    run.table.add("streams that came to their end", ended, "", CROWD, more_is_better=True)
    run.table.add("resident memory with them open", memory, "MB", 400.0)
    run.table.add("resident memory at its highest", highest, "MB", 400.0)
