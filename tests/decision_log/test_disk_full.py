"""A disk that is full, for real: nothing that was committed is lost, and the rest waits or is counted."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
from contextlib import closing

import pytest

from bisupervised.decision_log import Counts, DecisionLog, Ledger, PendingInputs, Sequences, buffer, read_log
from bisupervised.decision_log.database import log_errors
from bisupervised.errors import LogError, LogFull
from bisupervised.fallback import Pending
from decision_log.making import QUEUED, local, locals_, start_python


@pytest.fixture(autouse=True)
def _no_retry_by_itself(monkeypatch):
    monkeypatch.setattr(buffer, "RETRY_S", 1_000.0)


def _limit_pages(log: DecisionLog, pages: int) -> None:
    log._connection.execute(f"PRAGMA max_page_count = {pages}")


def _full_log(path, **options) -> DecisionLog:
    """A log with 10 rows committed, and no room for more."""
    log = DecisionLog(path, **options)
    log.write(locals_(10), range(10))
    log.flush()
    _limit_pages(log, 1)  # SQLite takes the pages that there are
    return log


def test_flush_says_what_to_do_and_the_rows_wait(tmp_path):
    with _full_log(tmp_path / "log.db") as log:
        log.write(locals_(5_000, start=10), range(5_000))
        for _ in range(2):
            with pytest.raises(LogFull, match=r"no space left .* call flush"):
                log.flush()
        assert log.counts() == Counts(written=10, dropped=0, duplicates=0, pending=5_000)
        assert len(read_log(tmp_path / "log.db")) == 10
        _limit_pages(log, 100_000)
        log.flush()
        assert log.counts() == Counts(written=5_010, dropped=0, duplicates=0, pending=0)
    assert read_log(tmp_path / "log.db").ids.tolist() == [f"i{row}" for row in range(5_010)]


def test_rows_that_are_never_stored_are_counted_at_close(tmp_path):
    log = _full_log(tmp_path / "log.db")
    log.write(locals_(5_000, start=10), range(5_000))
    with pytest.raises(LogFull, match="closed now; 5000 rows were dropped"):
        log.close()
    assert log.counts() == Counts(written=10, dropped=5_000, duplicates=0, pending=0)
    assert len(read_log(tmp_path / "log.db")) == 10


def test_a_buffer_that_cannot_be_emptied_raises_rather_than_wait_for_ever(tmp_path):
    log = _full_log(tmp_path / "log.db", capacity=2_000)
    log.write(locals_(2_000, start=10), range(2_000))
    with pytest.raises(LogFull):
        log.write([local("late")], ["x"])
    assert log.counts() == Counts(written=10, dropped=1, duplicates=0, pending=2_000)
    with pytest.raises(LogFull):
        log.close()


def test_a_queue_that_cannot_store_says_so(tmp_path):
    with PendingInputs(tmp_path / "log.db") as queue:
        queue._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(LogFull):
            queue.put(Pending("a", "x" * 100_000, QUEUED))
        queue._connection.execute("PRAGMA max_page_count = 1000")
        queue.put(Pending("a", "x" * 100_000, QUEUED))
        assert len(queue) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def _write_until_it_fails(log: DecisionLog) -> None:
    for start in range(0, 100_000, 20):
        log.write(locals_(20, start), range(20))
        log.flush()


def test_a_real_disk_that_runs_full_and_has_room_again(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 300_000)
    log = DecisionLog(small_disk / "log.db")
    try:
        with pytest.raises(LogFull):
            _write_until_it_fails(log)
        flushed = log.counts().written
        assert flushed > 0
        ballast.unlink()
        log.flush()
        assert log.counts() == Counts(written=flushed + 20, dropped=0, duplicates=0, pending=0)
    finally:
        log.close()
    assert read_log(small_disk / "log.db").ids.tolist() == [f"i{row}" for row in range(flushed + 20)]
    with closing(sqlite3.connect(small_disk / "log.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


GIVES_OUT = """
import asyncio
from bisupervised.decision_log import Ledger, Sequences
from bisupervised.errors import LogFull
folder = sys.argv[1]
numbers, money = Sequences(f"{folder}/log.db", process="a"), Ledger(f"{folder}/log.db", {}, process="a")

def use_all():
    while True:
        numbers.take()

def pay_all():
    for k in range(10_000):
        asyncio.run(money.areserve([f"key:{k}"], 0.5))

for use in (use_all, pay_all):
    with open(f"{folder}/ballast", "wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(1024)):
                pass
        except OSError:
            pass
    try:
        use()
    except LogFull as error:
        print(error, flush=True)
    with open(f"{folder}/ballast", "wb"):
        pass
print(numbers.take(), asyncio.run(money.areserve(["total"], 0.5)).bound, flush=True)
numbers.close()
money.close()
"""


def test_nothing_is_given_out_on_a_real_disk_that_is_full(small_disk):
    with start_python(GIVES_OUT, small_disk) as process:
        no_number, no_money, after = process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == 0, "the mark is in memory that the disk has room for"
    assert "no space left" in no_number
    assert "no request can be numbered until then" in no_number
    assert "no paid call can be made until then" in no_money
    with closing(sqlite3.connect(small_disk / "log.db")) as connection:
        assert connection.execute("SELECT max(last) FROM sequence_blocks").fetchone()[0] >= int(after.split()[0])
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_process_that_cannot_make_its_file_says_so(small_disk):
    DecisionLog(small_disk / "log.db").close()
    (small_disk / "ballast").write_bytes(b"\0" * 300_000)
    with (small_disk / "more").open("wb", buffering=0) as more, contextlib.suppress(OSError):
        while more.write(bytes(1024)):
            pass
    for use in (Sequences, lambda path, process: Ledger(path, {}, process=process)):
        with pytest.raises(LogFull):
            use(small_disk / "log.db", process="a")


def test_a_log_cannot_be_opened_on_a_full_disk(small_disk):
    (small_disk / "ballast").write_bytes(b"\0" * (512 * 1024 - 4096))
    with pytest.raises(LogFull):
        DecisionLog(small_disk / "log.db")


def test_an_input_output_error_on_a_full_disk_is_a_full_disk(small_disk):
    """SQLite says so when it cannot enlarge the memory that its connections share."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    for ballast, kind in ((0, LogError), (512 * 1024 - 4096, LogFull)):
        (small_disk / "ballast").write_bytes(b"\0" * ballast)
        with pytest.raises(LogError) as raised, log_errors(small_disk / "log.db"):
            raise error
        assert type(raised.value) is kind


def test_the_system_has_its_own_words_for_a_full_disk(tmp_path):
    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(LogFull), log_errors(tmp_path / "log.db"):
            raise OSError(number, os.strerror(number))
    with pytest.raises(LogError) as raised, log_errors(tmp_path / "log.db"):
        raise PermissionError(errno.EACCES, "denied")
    assert not isinstance(raised.value, LogFull)
