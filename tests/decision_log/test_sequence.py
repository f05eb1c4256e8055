"""Numbers of requests: unique, reserved before they are used, and accounted for afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from bisupervised.decision_log import DecisionLog, Losses, Sequences, presence, sequence
from bisupervised.errors import InputError, LogError, LogFull
from decision_log.making import details, local, start_python


def _blocks(path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT first, last FROM sequence_blocks ORDER BY first").fetchall()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def disk(monkeypatch):
    """A gate before every reservation but the first one, and how many went through."""
    reserve, gate, asked = sequence._reserve, threading.Event(), []

    def slowly(*arguments):
        asked.append(arguments)
        if len(asked) > 1:
            assert gate.wait(30)
        return reserve(*arguments)

    monkeypatch.setattr(sequence, "_reserve", slowly)
    yield gate, asked
    gate.set()


class TestGivingOut:
    def test_numbers_rise_from_one_without_a_gap(self, path):
        with Sequences(path, process="a", block=7) as numbers:
            assert [numbers.take() for _ in range(1_000)] == list(range(1, 1_001))

    def test_each_number_is_in_a_block_that_is_committed_before(self, path):
        with Sequences(path, process="a", block=3) as numbers:
            for _ in range(500):
                number = numbers.take()
                assert number <= _blocks(path)[-1][1]

    def test_blocks_follow_the_traffic_within_bounds(self, path, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(sequence, "monotonic", lambda: now[0])
        with Sequences(path, process="a", block=256) as numbers:
            for pace_s, fits in ((1e-6, sequence.MOST_BLOCK), (10.0, sequence.LEAST_BLOCK)):
                for _ in range(40_000 if pace_s < 1 else 60_000):
                    numbers.take()
                    now[0] += pace_s
                first, last = _blocks(path)[-1]
                assert last - first + 1 == fits

    def test_threads_and_objects_never_share_a_number(self, path):
        taken: list[list[int]] = [[] for _ in range(6)]

        def take(numbers: Sequences, mine: list[int]) -> None:
            mine.extend(numbers.take() for _ in range(2_000))

        with Sequences(path, process="a", block=64) as one, Sequences(path, process="b", block=1) as two:
            threads = [threading.Thread(target=take, args=((one, two)[k % 2], taken[k])) for k in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert all(mine == sorted(mine) for mine in taken)
        assert len({number for mine in taken for number in mine}) == 12_000

    def test_the_next_block_is_fetched_while_half_of_this_one_is_left(self, path, disk):
        gate, asked = disk
        with Sequences(path, process="a", block=100) as numbers:
            for _ in range(49):
                numbers.take()
            threading.Event().wait(0.05)
            assert len(asked) == 1
            assert [numbers.take_now() for _ in range(51)] == list(range(50, 101)), "the disk holds nobody up"
            for _ in range(1_000):
                if len(asked) > 1:
                    break
                threading.Event().wait(0.005)
            assert len(asked) == 2
            assert numbers.take_now() is None
            gate.set()
            assert numbers.take() == 101

    def test_without_numbers_a_thread_waits(self, path, disk):
        gate, _ = disk
        with Sequences(path, process="a", block=1) as numbers:
            numbers.take()
            taken: list[int] = []
            waiting = threading.Thread(target=lambda: taken.append(numbers.take()))
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()
            gate.set()
            waiting.join()
            assert taken == [2]

    def test_without_numbers_an_event_loop_goes_on(self, path, disk):
        gate, asked = disk

        async def run(numbers: Sequences) -> tuple[list[int], int]:
            waiting = [asyncio.create_task(numbers.atake()) for _ in range(20)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            waiting[0].cancel()  # one client that goes away does not disturb the others
            await asyncio.sleep(0)
            gate.set()
            return sorted(await asyncio.gather(*waiting[1:])), len(asked)

        with Sequences(path, process="a", block=1) as numbers:
            assert numbers.take() == 1
            taken, reservations = asyncio.run(run(numbers))
        assert taken == list(range(2, 21))
        assert reservations == 2, "one for all of them"

    @pytest.mark.parametrize("block", [0, 8193])
    def test_a_block_has_a_size(self, path, block):
        with pytest.raises(InputError, match="block is a number from 1 to 8192"):
            Sequences(path, process="a", block=block)

    def test_a_closed_one_gives_out_nothing(self, path):
        numbers = Sequences(path, process="a")
        numbers.close()
        numbers.close()
        with pytest.raises(LogError, match="closed"):
            numbers.take()
        with pytest.raises(LogError, match="closed"):
            asyncio.run(numbers.atake())

    def test_closing_ends_the_wait_for_a_number(self, path, disk):
        gate, _ = disk
        numbers = Sequences(path, process="a", block=1)
        numbers.take()
        told: list[str] = []

        def take() -> None:
            try:
                numbers.take()
            except LogError as error:
                told.append(str(error))

        waiting = threading.Thread(target=take)
        waiting.start()
        threading.Event().wait(0.05)
        threading.Timer(0.05, gate.set).start()
        numbers.close()
        waiting.join(10)
        assert "closed" in told[0]

    def test_a_forked_child_is_told_to_open_its_own(self, path):
        script = """
import os
from bisupervised.decision_log import Sequences
from bisupervised.errors import LogError
numbers = Sequences(sys.argv[1], process="a")
numbers.take()
if os.fork() == 0:
    try:
        numbers.take()
    except LogError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(numbers.take(), flush=True)
"""
        with start_python(script, path) as process:
            told, number = process.communicate(timeout=30)[0].splitlines()
        assert "opened before this process was forked" in told
        assert number == "2"


class TestAFullDisk:
    def test_nothing_is_given_out_that_is_not_reserved(self, path, monkeypatch):
        monkeypatch.setattr(sequence, "MOST_BLOCK", 64)
        monkeypatch.setattr(sequence, "RETRY_S", 1_000.0)
        with Sequences(path, process="a", block=64) as numbers:
            pages = numbers._connection.execute("PRAGMA page_count").fetchone()[0]
            numbers._connection.execute(f"PRAGMA max_page_count = {pages}")
            taken = []

            def take_all() -> None:
                while len(taken) < 100_000:
                    taken.append(numbers.take())

            for _ in range(2):
                with pytest.raises(LogFull, match=r"no space left .* no request can be numbered"):
                    take_all()
            with pytest.raises(LogFull):
                asyncio.run(numbers.atake())
            assert taken == list(range(1, _blocks(path)[-1][1] + 1))
            numbers._connection.execute("PRAGMA max_page_count = 100000")
            assert numbers.take() == taken[-1] + 1
            assert numbers.take() <= _blocks(path)[-1][1]

    def test_while_there_are_numbers_it_tries_again_by_itself(self, path, monkeypatch):
        reserve, failures = sequence._reserve, [1, 1]

        def failing(*arguments):
            if failures and len(_blocks(path)) == 1:
                failures.pop()
                raise sqlite3.OperationalError("disk I/O error")
            return reserve(*arguments)

        monkeypatch.setattr(sequence, "RETRY_S", 0.01)
        with Sequences(path, process="a", block=100) as numbers:
            monkeypatch.setattr(sequence, "_reserve", failing)
            for _ in range(60):
                numbers.take()
            for _ in range(1_000):
                if len(_blocks(path)) == 2:
                    break
                threading.Event().wait(0.005)
            assert len(_blocks(path)) == 2
            assert failures == []

    def test_an_end_that_cannot_be_written_is_that_of_a_killed_process(self, path):
        numbers = Sequences(path, process="a")
        for _ in range(10):
            numbers.take()
        numbers._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(LogError):
            numbers.close()
        with Sequences(path, process="b") as others:
            assert others.settle_dead() == 10
            assert (others.lost(), others.lost_at_most()) == (10, 10)


class TestLosses:
    def test_after_a_proper_end_what_was_used_and_has_no_row_is_lost(self, path):
        with Sequences(path, process="a", block=10) as numbers:
            with DecisionLog(path) as log:
                for number in [numbers.take() for _ in range(25)]:
                    if number % 5:
                        log.write([local(str(number))], ["x"], [details(number)])
            assert numbers.settle_dead() == 0, "a process that runs has lost nothing yet"
            assert numbers.losses() == Losses(lost=0, lost_at_most=0, missing=4), "25 may be in flight"
        with Sequences(path, process="b") as others:
            assert others.settle_dead() == 5
            assert others.settle_dead() == 0, "each block is counted once"
            assert others.losses() == Losses(lost=5, lost_at_most=5, missing=0)

    def test_rows_that_are_deleted_later_are_not_lost(self, path):
        with DecisionLog(path) as log, Sequences(path, process="a", block=10) as numbers:
            for number in [numbers.take() for _ in range(20)]:
                log.write([local(str(number))], ["x"], [details(number)])
            log.flush()
            numbers.settle_dead()
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("DELETE FROM decisions WHERE sequence <= 10")
            assert numbers.losses().missing == 0
        with Sequences(path, process="b") as others:
            assert others.settle_dead() == 0

    def test_a_process_that_took_nothing_has_lost_nothing(self, path):
        Sequences(path, process="a").close()
        with Sequences(path, process="b") as others:
            others.settle_dead()
            assert others.losses() == Losses(0, 0, 0)
            assert others.take() == 257, "but its block is not used again"


KILLED = """
from decision_log.making import details, local
from bisupervised.decision_log import DecisionLog, Sequences
log, numbers = DecisionLog(sys.argv[1]), Sequences(sys.argv[1], process="killed", block=64)
taken = [numbers.take() for _ in range(1000)]
for number in taken[:900]:
    if number % 9 == 0:
        log.write([local(str(number))], ["x"], [details(number)])
log.flush()
print(taken[899], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(path):
    """A process that took 1000 numbers, wrote 100 rows up to its 900th, and was killed."""
    with start_python(KILLED, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "900\n"
        with Sequences(path, process="other") as others:
            assert others.settle_dead() == 0, "it lives"
            assert others.losses() == Losses(0, 0, missing=800)
        process.kill()
    return path


class TestAKilledProcess:
    def test_what_it_lost_is_known_to_the_last_number(self, killed):
        with Sequences(killed, process="b") as others:
            assert others.settle_dead() == 900
            assert others.losses() == Losses(lost=900, lost_at_most=900, missing=0)
            assert others.settle_dead() == 0
            assert others.take() > 1_000

    def test_after_the_machine_went_down_there_are_bounds(self, killed, monkeypatch):
        reserved = max(last for first, last in _blocks(killed) if first <= 1_000)
        monkeypatch.setattr(presence, "this_boot", lambda: "another start of the system")
        with Sequences(killed, process="b") as others:
            assert others.settle_dead() >= reserved - 100
            losses = others.losses()
        assert losses.lost == 800, "those between rows"
        assert losses.lost <= 900 <= losses.lost_at_most
        spare = 2 * sequence.MOST_BLOCK
        assert reserved - 100 <= losses.lost_at_most <= reserved - 100 + spare

    def test_two_that_settle_at_once_count_once(self, killed):
        with Sequences(killed, process="b") as b, Sequences(killed, process="c") as c:
            newly: list[int] = []
            threads = [
                threading.Thread(target=lambda s: newly.append(s.settle_dead()), args=(s,)) for s in (b, c) * 2
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sum(newly) == 900
            assert b.lost() == c.lost() == 900
