"""Ids that rise with time."""

from __future__ import annotations

import threading
import time
import uuid

from bisupervised.decision_log import DecisionLog, ids, new_id, read_log
from decision_log.making import local, start_python


def test_an_id_is_a_uuid_of_version_7_and_tells_its_time():
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_ids_rise_even_if_the_clock_jumps_back_or_stands(monkeypatch):
    clock = iter([*[10**18] * 5_000, *[5 * 10**17] * 5_000, *[10**18 + 10**9] * 10])
    monkeypatch.setattr(ids, "time_ns", lambda: next(clock))
    monkeypatch.setattr(ids, "_last", 0)
    made = [new_id() for _ in range(10_010)]
    assert made == sorted(set(made))
    assert {uuid.UUID(one).version for one in made} == {7}
    assert int(made[-1], 16) >> 80 == 10**12 + 10**3, "and follow the clock again once it has caught up"


def test_threads_make_different_ids(monkeypatch):
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda some: some.extend(new_id() for _ in range(5_000)), args=(m,)) for m in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(some == sorted(some) for some in made)
    assert len({one for some in made for one in some}) == 20_000


def test_forked_processes_make_different_ids():
    script = """
import os
from bisupervised.decision_log import ids
ids.time_ns = lambda: 10**18
child = os.fork()
os.write(1, f"{ids.new_id()}\\n".encode())
if child:
    os.wait()
"""
    with start_python(script) as process:
        mine, theirs = process.communicate(timeout=30)[0].split()
    assert mine[:16] == theirs[:16], "at the same moment"
    assert mine != theirs


def test_a_log_takes_them(tmp_path):
    made = [new_id() for _ in range(100)]
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([local(one) for one in made], range(100))
    assert read_log(tmp_path / "log.db").ids.tolist() == made
