"""Real processes: some are killed, some write to one file together."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest

from bisupervised.decision_log import DecisionLog, PendingInputs, read_log
from bisupervised.fallback import Pending
from decision_log.making import queued, start_python

WRITER = """
from decision_log.making import locals_
from bisupervised.decision_log import DecisionLog
log = DecisionLog(sys.argv[1])
for start in range(0, 10**9, 100):
    log.write(locals_(100, start), range(100))
    if start % 300 == 0:
        log.flush()
        print(start + 100, flush=True)
"""


def _integrity(path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


@pytest.mark.parametrize("lines", [1, 7, 40])
def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path, lines):
    path = tmp_path / "log.db"
    with start_python(WRITER, path) as process:
        assert process.stdout is not None
        flushed = [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        flushed += [int(line) for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    table = read_log(path)  # as the process left it, before anybody repairs it
    ids = [f"i{row}" for row in range(len(table))]
    assert len(table) >= flushed[-1]
    assert table.ids.tolist() == ids, "rows are whole groups, in order, without a gap"
    assert _integrity(path) == "ok"
    with DecisionLog(path) as log:
        log.label("i0", "ham")
    assert read_log(path).labels[0] == "ham"


QUEUER = """
from decision_log.making import queued
from bisupervised.decision_log import PendingInputs
from bisupervised.fallback import Pending
queue = PendingInputs(sys.argv[1])
for row in range(10**9):
    queue.put(Pending(f"q{row}", f"input {row}", queued(f"q{row}")))
    print(row, flush=True)
"""


def test_a_killed_process_leaves_its_queue(tmp_path):
    path = tmp_path / "queue.db"
    with start_python(QUEUER, path) as process:
        assert process.stdout is not None
        put = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        put += [int(line) for line in process.stdout if line.endswith("\n")]
    with PendingInputs(path) as queue:
        waiting = queue.waiting()
    assert len(waiting) in (len(put), len(put) + 1)
    assert [item.id for item in waiting] == [f"q{row}" for row in range(len(waiting))]
    assert waiting[3].x == "input 3"


TOGETHER = """
from decision_log.making import local
from bisupervised.decision_log import DecisionLog
me = sys.argv[2]
with DecisionLog(sys.argv[1]) as log:
    for row in range(2_000):
        log.write([local(f"{me}-{row}")], [row])
        if row % 50 == 0:
            log.flush()
    log.label_many({f"{me}-{row}": me for row in range(0, 2_000, 2)})
    print(log.counts().written, flush=True)
"""


def test_three_processes_write_to_one_file_that_none_has_made_before(tmp_path):
    path = tmp_path / "log.db"
    processes = [start_python(TOGETHER, path, name) for name in "abc"]
    for process in processes:
        with process:
            assert process.communicate(timeout=60)[0].strip() == "2000"
            assert process.returncode == 0
    table = read_log(path)
    assert set(table.ids) == {f"{name}-{row}" for name in "abc" for row in range(2_000)}
    assert sum(label is not None for label in table.labels) == 3_000
    for name in "abc":  # each process's own rows are in its own order
        rows = [int(id_.split("-")[1]) for id_ in table.ids if id_.startswith(name)]
        assert rows == sorted(rows)
    assert _integrity(path) == "ok"


def test_a_log_is_read_while_another_process_writes(tmp_path):
    path = tmp_path / "log.db"
    with start_python(WRITER, path) as process:
        assert process.stdout is not None
        for _ in range(10):
            flushed = int(process.stdout.readline())
            table = read_log(path)
            assert len(table) >= flushed
            assert table.ids.tolist() == [f"i{row}" for row in range(len(table))]
        process.kill()


def test_the_queue_and_the_log_of_one_file_do_not_disturb_each_other(tmp_path):
    with DecisionLog(tmp_path / "log.db") as log, PendingInputs(log) as queue:
        for row in range(50):
            log.write([queued(f"q{row}")], ["x"])
            queue.put(Pending(f"q{row}", "x", queued(f"q{row}")))
        log.flush()
        assert (len(log), len(queue)) == (50, 50)
