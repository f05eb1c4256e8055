"""The machine, its two cores, and what a process takes of its memory."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

#: The gateway or a peer has one core; upstream, load tool and this program have the other.
GATEWAY_CORE, LOAD_CORE = 0, 1


def described() -> str:
    """Processor, cores, system, Python and the load tool."""
    model = "processor not known"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout.split()[1]
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}, wrk {wrk}"


def pin(core: int) -> None:
    """Keep this process, and those that it starts, on one core. On a machine with one core it stays where it is."""
    if core in os.sched_getaffinity(0) or (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})


def processes_of(pid: int) -> list[int]:
    """A process and everything it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += processes_of(int(child))
    return found


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process and all that it started, in 10^6 bytes. `VmHWM`: at its highest."""
    total = 0
    for one in processes_of(pid):
        lines = Path(f"/proc/{one}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and all that it started have had."""
    ticks = 0
    for one in processes_of(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
