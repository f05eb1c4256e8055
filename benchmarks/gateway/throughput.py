"""Requests per second of many clients, measured by `wrk`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.machine import LOAD_CORE, cpu_seconds
from benchmarks.gateway.setting import KEY

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk measured."""

    replies: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int  #: replies with another status than 2xx and 3xx, and those that did not come
    busy: float  #: share of the time that the server's processes ran


def load(url: str, body: bytes, pid: int, *, clients: int = 32, seconds: float = 3.0) -> Load:
    """Keep `clients` connections busy, from one thread on the core of the load."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = ["taskset", "-c", str(LOAD_CORE % (os.cpu_count() or 1)), "wrk", "-t1", f"-c{clients}"]
        command += [f"-d{seconds:g}s", "-s", str(SCRIPT), url, "--", file.name, KEY]
        before = cpu_seconds(pid)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
        ran = cpu_seconds(pid) - before
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    took = found["seconds"]
    return Load(
        replies=found["requests"],
        per_second=found["requests"] / took,
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        failed=found["failed"],
        busy=ran / took,
    )
