"""A server's process: its first line, its processor time, its end. The servers here are a few lines of Python."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bisupervised.errors import ModelUnreachable
from bisupervised.studies import serving
from bisupervised.studies.serving import process_cpu_s, server_process

WAITS = "import sys\nprint('ready', *sys.argv[1:], flush=True)\nsys.stdin.buffer.read()\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module that `python -m` finds."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def made(code: str) -> str:
        (tmp_path / "made_server.py").write_text(code)
        return "made_server"

    return made


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_is_ready_with_its_first_line_and_ends_with_the_block(module):
    with server_process(module(WAITS), ["a", "b"], "the model") as server:
        assert server.line == "ready a b"
        assert runs(server.pid)
        assert server.cpu_s is not None
        assert server.cpu_s() >= 0.0
    assert not runs(server.pid)
    assert math.isnan(process_cpu_s(server.pid))


def test_processor_seconds_are_those_it_used(module):
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    with server_process(module(busy + WAITS), [], "the model") as server:
        assert 0.25 <= server.cpu_s() < 3.0


def test_where_the_system_does_not_tell_they_are_not_known(monkeypatch):
    monkeypatch.setattr(serving.Path, "exists", lambda path: False)
    assert serving.RunningServer("line", os.getpid()).cpu_s is None


def test_a_server_that_never_gets_ready_says_why(module):
    with (
        pytest.raises(ModelUnreachable, match=r"the model did not start: ValueError: no such file"),
        server_process(module("raise ValueError('no such file')"), [], "the model"),
    ):
        pass


def test_a_server_that_does_not_listen_is_ended_all_the_same(module, monkeypatch):
    monkeypatch.setattr(serving, "_STOPS_WITHIN_S", 0.1)
    code = "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"
    with server_process(module(code), [], "the model") as server:
        pass
    assert not runs(server.pid)


def test_a_server_ends_when_whoever_started_it_is_killed(module):
    parent = (
        "import sys, time\nfrom bisupervised.studies.serving import server_process\n"
        f"with server_process({module(WAITS)!r}, [], 'm') as server:\n"
        "    print(server.pid, flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    assert runs(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 10.0
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(pid)
