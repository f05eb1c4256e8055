"""A model's server as a process of its own on the loopback interface, which ends with whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bisupervised.errors import ModelUnreachable

STARTS_WITHIN_S = 120.0
_STOPS_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    line: str  #: what it printed when it was ready
    pid: int

    @property
    def cpu_s(self) -> Callable[[], float] | None:
        """The processor seconds it has used, all threads together; None where the system does not say."""
        return (lambda: process_cpu_s(self.pid)) if Path(f"/proc/{self.pid}/stat").exists() else None


def process_cpu_s(pid: int) -> float:
    """User and system seconds of a running process, from /proc. NaN once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server_process(module: str, arguments: Sequence[str], what: str) -> Iterator[RunningServer]:
    """`python -m module arguments…`, from the line that it prints when it is ready to the end of the block.

    It is told to end by the end of its standard input, so that it does not outlive this process either. Raises
    `ModelUnreachable` with the last line of its standard error where it never gets ready.
    """
    with tempfile.TemporaryDirectory(prefix="bisupervised-study-") as folder:
        errors = Path(folder, "stderr.txt")
        with errors.open("wb") as stderr:
            # A session of its own: Ctrl-C is this process's to handle, which then ends the server.
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            yield RunningServer(_first_line(process, errors, what), process.pid)
        finally:
            _stop(process)


def _first_line(process: subprocess.Popen[bytes], errors: Path, what: str) -> str:
    limit = threading.Timer(STARTS_WITHIN_S, process.kill)
    limit.start()
    try:
        line = process.stdout.readline().decode().strip() if process.stdout is not None else ""
    finally:
        limit.cancel()
    if not line:
        last = errors.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        raise ModelUnreachable(f"the server of {what} did not start: {last[0]}")
    return line


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
