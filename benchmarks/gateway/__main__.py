"""The gateway beside its goals and its peers, in one run: `python -m benchmarks.gateway` from the repository's root.

The gateway has core 0 and does everything that it does in use: keys, both supervisors, the log, metrics. The upstream
(0 ms), the load tool and the client have core 1. nginx and LiteLLM's proxy take the gateway's place afterwards, for
information; a peer that is not installed is left out. Each figure is the median of its rounds, [least, most] beside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.gateway import measuring
from benchmarks.gateway.machine import GATEWAY_CORE, LOAD_CORE, described, memory_mb, pin
from benchmarks.gateway.measuring import Run, plain, through
from benchmarks.gateway.servers import (
    ROOT,
    Server,
    gateway_server,
    litellm_server,
    nginx_server,
    upstream_server,
    yardstick_server,
)
from benchmarks.gateway.setting import LOCAL, REMOTE
from benchmarks.gateway.table import Table

PARTS = ("one", "many", "streaming", "modes", "v2", "crowd")


def main() -> int:
    """0 when everything was measured, whether or not the goals are met."""
    options = parsed()
    pin(LOAD_CORE)
    began, machine, table = time.monotonic(), described(), Table()
    print(machine, flush=True)
    with tempfile.TemporaryDirectory(prefix="bisupervised-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        upstream = stack.enter_context(upstream_server(folder))
        run = Run(upstream, table, rounds=1 if options.quick else 3, seconds=1.0 if options.quick else 3.0)
        measure_upstream(run, folder)
        if "yardstick" in options.servers:
            guarded(table, lambda: measure_yardstick(run, folder))
        if "gateway" in options.servers:
            guarded(table, lambda: measure_gateway(run, folder, options))
        if "nginx" in options.servers:
            guarded(table, lambda: measure_nginx(run, folder, options.nginx))
        if "litellm" in options.servers:
            guarded(table, lambda: measure_litellm(run, folder, options.litellm))
    goals = [row for row in table.rows if row.met is not None]
    met = sum(bool(row.met) for row in goals)
    print(f"\n{met} of {len(goals)} goals met, {len(table.problems)} problems, {time.monotonic() - began:.0f} s")
    if options.json is not None:
        rows = [row.as_json() for row in table.rows]
        written = {"machine": machine, "rows": rows, "problems": table.problems, "notes": table.notes}
        options.json.write_text(json.dumps(written, indent=1))
    return 1 if table.problems else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, dest="parts", help="parts for the gateway")
    known = ("yardstick", "gateway", "nginx", "litellm")
    parser.add_argument("--servers", nargs="*", choices=known, default=known, help="which to measure")
    parser.add_argument("--json", type=Path, help="write every figure and round to this file")
    parser.add_argument("--nginx", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--litellm", default=str(ROOT / ".venv-peers" / "bin" / "litellm"))
    serve = [sys.executable, "-m", "bisupervised", "serve"]
    parser.add_argument("--serve", nargs="+", default=serve, help="command that serves a cascade.toml")
    return parser.parse_args()


def guarded(table: Table, measure: Callable[[], None]) -> None:
    """What goes wrong with one part is said, and the others are measured all the same."""
    try:
        measure()
    except (RuntimeError, OSError, ValueError, AssertionError, StopIteration) as error:
        table.problem(f"{type(error).__name__}: {error}")


def measure_upstream(run: Run, folder: Path) -> None:
    """What the machine allows: the upstream where it is below, with the load tool, and where the gateway will be."""
    run.table.section("the 0 ms upstream itself, on the load tool's core")
    measuring.many_clients(run, run.upstream, [plain(run.upstream)])
    with upstream_server(folder, GATEWAY_CORE) as across:
        run.table.section("and on the gateway's core: the least that a server there can take")
        across = replace(across, name="upstream over there")
        measuring.one_client(run, across, [plain(across)], 1000)
        measuring.many_clients(run, across, [plain(across)])


def measure_yardstick(run: Run, folder: Path) -> None:
    run.table.section("Starlette + aiohttp that only rewrites JSON: a yardstick for the machine")
    with yardstick_server(folder, run.upstream) as server:
        measuring.one_client(run, server, [plain(server)], 1000)
        measuring.many_clients(run, server, [plain(server)])


def measure_gateway(run: Run, folder: Path, options: argparse.Namespace) -> None:
    n = 200 if options.quick else 1000
    with gateway_server(folder, run.upstream, options.serve) as server:
        both = [through(server, LOCAL), through(server, REMOTE)]
        streams = [through(server, LOCAL, stream=True), through(server, REMOTE, stream=True)]
        parts: dict[str, tuple[str, Callable[[], None]]] = {
            "one": ("gateway, one client", lambda: one_client(run, server, n)),
            "many": ("gateway, 32 clients", lambda: measuring.many_clients(run, server, both)),
            "streaming": (
                "gateway, streams of no duration",
                lambda: measuring.streaming(run, server, streams, n // 4),
            ),
            "modes": (
                "gateway, streaming modes: tokens 2 ms apart, the remote model's first 40 ms later",
                lambda: measuring.streaming_modes(run, server, 5 if options.quick else 10),
            ),
            "v2": ("gateway, v2 protocol", lambda: measuring.numbers(run, server, n)),
            "crowd": (
                "gateway, 1,000 streams from a remote that takes 10 s",
                lambda: measuring.crowd(run, server, 500 if options.quick else 2000),
            ),
        }
        for part in options.parts:
            title, measure = parts[part]
            run.table.section(title)
            guarded(run.table, measure)
        run.table.section("gateway, afterwards")
        run.table.add("resident memory", [memory_mb(server.pid)], "MB")
    guarded(run.table, lambda: measure_log(run, folder / "decisions.db"))


def one_client(run: Run, server: Server, n: int) -> None:
    measuring.one_client(run, server, [through(server, REMOTE)], n, goals=True)
    measuring.one_client(run, server, [through(server, LOCAL)], n)


def measure_log(run: Run, path: Path) -> None:
    """Rows of the decision log for each reply that was read: 1, and a little more for those nobody waited for."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as log:
        (rows,) = log.execute("SELECT count(*) FROM decisions").fetchone()
    run.table.add("rows of the log for each reply", [rows / max(run.replies.get("gateway", 0), 1)], "")


def measure_nginx(run: Run, folder: Path, binary: str) -> None:
    run.table.section("nginx as a reverse proxy, for information")
    if not Path(binary).exists():
        run.table.problem(f"there is no {binary}")
        return
    with nginx_server(folder, run.upstream, binary) as server:
        measuring.one_client(run, server, [plain(server)], 1000)
        measuring.many_clients(run, server, [plain(server)])
        measuring.streaming(run, server, [plain(server, stream=True)], 200)


def measure_litellm(run: Run, folder: Path, binary: str) -> None:
    run.table.section("LiteLLM's proxy, for information")
    if not Path(binary).exists():
        run.table.problem(f"there is no {binary}; see requirements/peers.txt")
        return
    with litellm_server(folder, run.upstream, binary) as server:
        measuring.one_client(run, server, [plain(server)], 100)
        measuring.many_clients(run, server, [plain(server)])
        measuring.streaming(run, server, [plain(server, stream=True)], 50)
        run.table.add("resident memory", [memory_mb(server.pid)], "MB")


if __name__ == "__main__":
    raise SystemExit(main())
