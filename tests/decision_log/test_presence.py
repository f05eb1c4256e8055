"""Whether a process lives, told by a lock that the operating system releases at its death."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from bisupervised.decision_log import presence
from bisupervised.decision_log.presence import Presence, Remains, remains, this_boot
from decision_log.making import start_python

LIVING = """
from pathlib import Path
from bisupervised.decision_log.presence import Presence
me = Presence(Path(sys.argv[1]), "test")
me.mark[0] = 123_456_789_012
print(me.id, flush=True)
sys.stdin.read()
"""
BOOT = this_boot()


def _look(log, process, boot=BOOT):
    with remains(log, process, boot) as left:
        return left


@pytest.fixture
def living(tmp_path):
    """A process that lives, as (its id, the process)."""
    with start_python(LIVING, tmp_path / "log.db") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
        process.kill()


def test_a_process_that_lives_is_not_dead_even_if_it_is_stopped(tmp_path, living):
    id_, process = living
    assert _look(tmp_path / "log.db", id_) is None
    process.send_signal(signal.SIGSTOP)
    assert _look(tmp_path / "log.db", id_) is None
    assert _look(tmp_path / "log.db", id_, boot="another") is None


def test_a_killed_process_is_dead_and_its_mark_is_left(tmp_path, living):
    id_, process = living
    process.kill()
    process.wait()
    assert _look(tmp_path / "log.db", id_) == Remains(mark=123_456_789_012)
    assert list((tmp_path / "log.db-alive").iterdir()) == []


def test_a_mark_from_before_the_machine_went_down_is_not_believed(tmp_path, living):
    id_, process = living
    process.kill()
    process.wait()
    assert _look(tmp_path / "log.db", id_, boot="another") == Remains(mark=None)


def test_without_its_file_a_process_is_dead_only_if_the_system_was_started_again(tmp_path, monkeypatch):
    assert _look(tmp_path / "log.db", "x") is None
    assert _look(tmp_path / "log.db", "x", boot=None) is None
    assert _look(tmp_path / "log.db", "x", boot="another") == Remains(mark=None)
    monkeypatch.setattr(presence, "_BOOT_ID", tmp_path / "none")
    assert this_boot() is None
    assert _look(tmp_path / "log.db", "x", boot="another") is None


def test_this_process_lives_too_and_leaves_nothing_behind(tmp_path):
    me = Presence(tmp_path / "log.db", "me")
    assert _look(tmp_path / "log.db", me.id) is None
    me.close()
    assert list((tmp_path / "log.db-alive").iterdir()) == []


def test_a_process_that_could_not_say_goodbye_is_found_dead(tmp_path):
    me = Presence(tmp_path / "log.db", "me")
    me.mark[0] = 5
    me.close(keep_file=True)
    assert _look(tmp_path / "log.db", me.id) == Remains(mark=5)


def test_while_one_looks_at_the_dead_no_other_does_and_what_fails_is_looked_at_again(tmp_path):
    me = Presence(tmp_path / "log.db", "me")
    me.close(keep_file=True)

    def count_and_fail():
        with remains(tmp_path / "log.db", me.id, BOOT) as left:
            assert left is not None
            assert _look(tmp_path / "log.db", me.id) is None
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        count_and_fail()
    assert _look(tmp_path / "log.db", me.id) is not None


def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path):
    script = """
import os, time
from pathlib import Path
from bisupervised.decision_log.presence import Presence, in_forked_children
me = Presence(Path(sys.argv[1]), "test")
in_forked_children(me.forget)
if os.fork() == 0:
    print(os.getpid(), me.id, flush=True)
    time.sleep(60)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    with start_python(script, tmp_path / "log.db") as process:
        assert process.stdout is not None
        child, id_ = process.stdout.readline().split()
        process.wait()
        try:
            assert _look(tmp_path / "log.db", id_) is not None
        finally:
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the others do not say which start of the system this is")
def test_the_system_says_which_start_it_is():
    assert this_boot()
