"""The way to the file: group commit, what happens when it is full, and what happens to odd rows."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing

import pytest

from bisupervised.decision_log import Counts, DecisionLog, buffer, read_log
from bisupervised.decision_log import log as log_module
from bisupervised.errors import InputError, LogError
from decision_log.making import local, locals_, start_python


@pytest.fixture
def groups(monkeypatch):
    """How many rows each commit had; `gate` holds the writer up before a commit."""
    sizes: list[int] = []
    store_rows = log_module.store_rows

    def counting(connection, rows):
        sizes.append(len(rows))
        gate.wait()
        return store_rows(connection, rows)

    gate = threading.Event()
    gate.set()
    monkeypatch.setattr(log_module, "store_rows", counting)
    counting_fixture = sizes, gate
    yield counting_fixture
    gate.set()


def test_rows_are_committed_in_groups(tmp_path, groups):
    sizes, _ = groups
    with DecisionLog(tmp_path / "log.db") as log:
        for outcome in locals_(500):
            log.write([outcome], ["x"])
        log.flush()
    assert sum(sizes) == 500
    assert len(sizes) < 50


def test_rows_that_come_close_together_share_a_commit(tmp_path, groups, monkeypatch):
    """The writer is not woken by every row: it waits for company, until there is a group or a flush."""
    sizes, _ = groups
    monkeypatch.setattr(buffer, "GROUP_S", 30.0)
    with DecisionLog(tmp_path / "log.db") as log:
        for outcome in locals_(20):
            log.write([outcome], ["x"])
            threading.Event().wait(0.002)
        log.flush()
        assert sizes == [20]
        log.write([local("first")], ["x"])
        threading.Event().wait(0.1)  # the writer is awake now, and waits for a group
        for outcome in locals_(buffer.GROUP_ROWS - 1, start=100):
            log.write([outcome], ["x"])
        for _ in range(1_000):
            if log.counts().pending == 0:
                break
            threading.Event().wait(0.005)
        assert sum(sizes) == 20 + buffer.GROUP_ROWS, "a whole group is committed without a flush"


def test_a_row_is_committed_soon_without_a_flush(tmp_path):
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([local("a")], ["x"])
        for _ in range(1_000):
            if log.counts().pending == 0:
                break
            threading.Event().wait(0.005)
        assert len(log) == 1


def test_a_full_buffer_makes_callers_wait(tmp_path, groups):
    _, gate = groups
    with DecisionLog(tmp_path / "log.db", capacity=10) as log:
        gate.clear()
        log.write(locals_(10), range(10))
        waiting = threading.Thread(target=log.write, args=([local("late")], ["x"]))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert log.counts() == Counts(written=0, dropped=0, duplicates=0, pending=10)
        gate.set()
        waiting.join()
        log.flush()
        assert log.counts() == Counts(written=11, dropped=0, duplicates=0, pending=0)


def test_a_full_buffer_drops_and_counts_when_told_to(tmp_path, groups):
    _, gate = groups
    with DecisionLog(tmp_path / "log.db", capacity=10, when_full="drop") as log:
        gate.clear()
        log.write(locals_(9), range(9))
        log.write(locals_(3, start=100), range(3))
        log.write([local("fits")], ["x"])
        assert log.counts() == Counts(written=0, dropped=3, duplicates=0, pending=10)
        gate.set()
    assert log.counts() == Counts(written=10, dropped=3, duplicates=0, pending=0)
    assert "fits" in read_log(tmp_path / "log.db").ids


def test_a_write_larger_than_the_buffer_is_let_in_alone(tmp_path):
    with DecisionLog(tmp_path / "log.db", capacity=3) as log:
        log.write(locals_(100), range(100))
        log.write(locals_(100, start=100), range(100))
    assert log.counts().written == 200


def test_closing_while_somebody_waits_for_room_turns_the_rows_away(tmp_path, groups):
    _, gate = groups
    log = DecisionLog(tmp_path / "log.db", capacity=1)
    gate.clear()
    log.write([local("a")], ["x"])
    raised: list[LogError] = []

    def write() -> None:
        try:
            log.write([local("b")], ["x"])
        except LogError as error:
            raised.append(error)

    waiting = threading.Thread(target=write)
    waiting.start()
    waiting.join(0.05)
    log._buffer.close()
    waiting.join()
    gate.set()
    log.close()
    assert "closed" in str(raised[0])
    assert log.counts() == Counts(written=1, dropped=1, duplicates=0, pending=0)


def test_what_cannot_be_stored_does_not_hold_up_the_others(tmp_path):
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([local("a")], ["x"])
        log.write(["no outcome"], ["x"])  # type: ignore[list-item]
        log.write([local("b", reason=None)], ["x"])
        log.write([local("c")], ["x"])
        with pytest.raises(LogError, match="1 outcomes cannot be stored: AttributeError"):
            log.flush()
        assert log.counts() == Counts(written=2, dropped=2, duplicates=0, pending=0)
    assert set(read_log(tmp_path / "log.db").ids) == {"a", "c"}


def test_another_process_that_holds_the_file_is_waited_for(tmp_path):
    with DecisionLog(tmp_path / "log.db") as log:
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            log.write([local("a")], ["x"])
            flushing = threading.Thread(target=log.flush)
            flushing.start()
            flushing.join(0.2)
            assert flushing.is_alive()
            other.execute("COMMIT")
        flushing.join()
        assert len(log) == 1


def test_a_write_error_is_raised_by_flush_and_retried(tmp_path, monkeypatch):
    """The writer goes on by itself, too, once the reason is gone."""
    store_rows, broken = log_module.store_rows, threading.Event()
    broken.set()

    def failing(connection, rows):
        if broken.is_set():
            raise sqlite3.OperationalError("disk I/O error")
        return store_rows(connection, rows)

    monkeypatch.setattr(log_module, "store_rows", failing)
    monkeypatch.setattr(buffer, "RETRY_S", 0.01)
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([local("a")], ["x"])
        with pytest.raises(LogError, match="disk I/O error"):
            log.flush()
        with pytest.raises(LogError, match="disk I/O error"):
            log.label("a", 1)
        broken.clear()
        for _ in range(1_000):
            if log.counts().written:
                break
            threading.Event().wait(0.005)
        assert log.counts() == Counts(written=1, dropped=0, duplicates=0, pending=0)


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path):
    script = """
from decision_log.making import locals_
from bisupervised.decision_log import DecisionLog
log = DecisionLog(sys.argv[1])
log.write(locals_(100), range(100))
"""
    with start_python(script, tmp_path / "log.db") as process:
        assert process.wait(30) == 0
    assert len(read_log(tmp_path / "log.db")) == 100


def test_a_forked_process_is_told_to_open_its_own_log(tmp_path):
    script = """
import os
from decision_log.making import locals_
from bisupervised.decision_log import DecisionLog
from bisupervised.errors import LogError
with DecisionLog(sys.argv[1]) as log:
    if os.fork() == 0:
        try:
            log.write(locals_(1), "x")
        except LogError as error:
            log.close()
            print(error, flush=True)
        os._exit(0)
    os.wait()
    log.write(locals_(1), "x")
"""
    with start_python(script, tmp_path / "log.db") as process:
        assert "opened before this process was forked" in process.communicate(timeout=30)[0]
        assert process.returncode == 0
    assert len(read_log(tmp_path / "log.db")) == 1


@pytest.mark.parametrize("options", [{"capacity": 0}, {"when_full": "raise"}, {"synchronous": "off"}])
def test_options_that_are_none_are_refused(tmp_path, options):
    with pytest.raises(InputError, match=next(iter(options))):
        DecisionLog(tmp_path / "log.db", **options)
    assert os.listdir(tmp_path) == []


def test_synchronous_full_reaches_sqlite(tmp_path):
    with DecisionLog(tmp_path / "log.db", synchronous="full") as log:
        assert log._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        log.write([local("a")], ["x"])
    with DecisionLog(tmp_path / "log.db") as log:
        assert log._connection.execute("PRAGMA synchronous").fetchone()[0] == 1
