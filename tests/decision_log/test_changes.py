"""Changes of modes, thresholds and the kill switch."""

from __future__ import annotations

import math
import threading
import time

import pytest

from bisupervised.decision_log import ALL_CASCADES, Changes
from bisupervised.errors import InputError, LogError, LogFull

OBSERVE = {"mode": "observe", "share": 1.0, "share_by": "random"}
ENFORCE = {"mode": "enforce", "share": 0.05, "share_by": "key"}
THRESHOLDS = {"local": 0.83, "remote": -math.inf, "id": "t1", "target": {}, "evidence": {"n": 100}, "achieved": {}}


@pytest.fixture
def changes(tmp_path):
    with Changes(tmp_path / "log.db") as changes:
        yield changes


def test_a_change_is_a_row_that_another_process_sees(changes):
    assert changes.newest() == 0
    before = time.time()
    id_ = changes.append("support", "mode", ENFORCE, "ops", "first customers")
    with Changes(changes.path) as other:
        assert other.newest() == id_
        (change,) = other.since(0)
    assert (change.id, change.cascade, change.kind, change.value) == (id_, "support", "mode", ENFORCE)
    assert (change.by, change.note) == ("ops", "first customers")
    assert before <= change.time <= time.time()
    assert changes.since(id_) == []


def test_what_holds_is_the_newest_of_each_kind_of_a_cascade(changes):
    assert changes.current("support") == {}
    for cascade, kind, value in (
        ("support", "mode", OBSERVE),
        ("support", "thresholds", THRESHOLDS),
        ("other", "mode", OBSERVE),
        ("support", "mode", ENFORCE),
        (ALL_CASCADES, "kill_switch", {"on": True}),
    ):
        changes.append(cascade, kind, value, "ops")
    now = changes.current("support")
    assert {kind: change.value for kind, change in now.items()} == {"mode": ENFORCE, "thresholds": THRESHOLDS}
    assert changes.current("other")["mode"].value == OBSERVE
    assert changes.current(ALL_CASCADES)["kill_switch"].value == {"on": True}


def test_history_is_the_newest_first(changes):
    ids = [changes.append(cascade, "mode", OBSERVE, "ops") for cascade in "abab"]
    assert [change.id for change in changes.history()] == ids[::-1]
    assert [change.id for change in changes.history("a")] == [ids[2], ids[0]]
    assert [change.id for change in changes.history(limit=1)] == [ids[3]]
    assert changes.history("nobody") == []


def test_rolling_back_adds_what_held_before(changes):
    first = changes.append("support", "mode", OBSERVE, "ops")
    changes.append("support", "thresholds", THRESHOLDS, "ops")
    changes.append("other", "mode", {"mode": "remote_only"}, "ops")
    second = changes.append("support", "mode", ENFORCE, "ops")
    back = changes.rollback(second, "boss")
    assert (back.value, back.by, back.kind, back.cascade) == (OBSERVE, "boss", "mode", "support")
    assert back.note == f"rolls back change {second}"
    assert changes.newest() == back.id > second
    assert changes.current("support")["mode"] == back
    again = changes.rollback(back.id, "boss")
    assert again.value == ENFORCE, "rolling back a rollback"
    assert [change.id for change in changes.history("support")][-1] == first, "nothing is ever taken away"


def test_the_first_of_its_kind_cannot_be_rolled_back(changes):
    changes.append("other", "mode", OBSERVE, "ops")
    first = changes.append("support", "mode", ENFORCE, "ops")
    with pytest.raises(InputError, match="was the first of mode for 'support'"):
        changes.rollback(first, "boss")
    with pytest.raises(InputError, match="there is no change 99"):
        changes.rollback(99, "boss")
    assert changes.newest() == first


@pytest.mark.parametrize(
    ("cascade", "kind", "value", "message"),
    [
        ("a", "modes", OBSERVE, "of the kind mode, thresholds, kill_switch"),
        ("a", "mode", {"share": 1.0}, "needs mode"),
        ("a", "thresholds", {"id": "t"}, "needs local, remote"),
        ("a", "kill_switch", {"on": True}, "for the cascade"),
        ("*", "kill_switch", {"on": "yes"}, "for the cascade"),
        ("*", "kill_switch", {}, "needs on"),
        ("a", "mode", {"mode": object()}, "is JSON"),
    ],
)
def test_what_is_no_change_is_refused(changes, cascade, kind, value, message):
    with pytest.raises(InputError, match=message):
        changes.append(cascade, kind, value, "ops")
    assert changes.newest() == 0


def test_several_write_at_once_and_nobody_misses_one(changes):
    def write(name: str) -> None:
        with Changes(changes.path) as mine:
            for _ in range(20):
                mine.append(name, "mode", OBSERVE, name)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < 60:
        seen.extend(change.id for change in changes.since(seen[-1] if seen else 0))
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 61))


def test_a_change_that_cannot_be_stored_says_so(changes):
    changes._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(LogFull, match="make the change again"):
        changes.append("a", "mode", {**OBSERVE, "note": "x" * 100_000}, "ops")
    changes._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(LogError):
        changes.append("a", "mode", OBSERVE, "ops")
    assert changes.newest() == 0
