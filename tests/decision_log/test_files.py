"""Which files are a decision log, how they are named, and how they grow into newer schemas."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bisupervised.decision_log import DecisionLog, PendingInputs, add_labels, database, read_log, schema
from bisupervised.decision_log.database import log_path
from bisupervised.errors import InputError, LogError, LogSchemaError
from decision_log.making import local, start_python


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("log.db", "log.db"),
        (Path("a/log.db"), "a/log.db"),
        ("sqlite:///log.db", "log.db"),
        ("sqlite:////var/log.db", "/var/log.db"),
        ("SQLite:///a/b.db", "a/b.db"),
    ],
)
def test_paths_and_urls(location, path):
    assert log_path(location) == Path(path)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("postgresql://host/db", "PostgreSQL is not supported yet"),
        ("postgres://host/db", "PostgreSQL is not supported yet"),
        ("postgresql+asyncpg://host/db", "PostgreSQL is not supported yet"),
        ("mysql://host/db", "mysql:// is no place"),
        ("sqlite://", "is a file"),
        ("sqlite:///:memory:", "is a file"),
        (":memory:", "is a file"),
        ("", "is a file"),
    ],
)
def test_other_places_are_refused(location, message):
    for use in (DecisionLog, PendingInputs, read_log):
        with pytest.raises(InputError, match=message):
            use(location)
    with pytest.raises(InputError, match=message):
        add_labels(location, {})


def test_a_relative_url_and_a_name_with_odd_characters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "50% of? all #logs; é.db"
    with DecisionLog(f"sqlite:///{name}") as log:
        log.write([local("a")], ["x"])
    assert (tmp_path / name).exists()
    assert len(read_log(tmp_path / name)) == 1


def test_reading_and_labelling_make_no_file(tmp_path):
    for use in (read_log, lambda path: add_labels(path, {"a": 1})):
        with pytest.raises(LogError, match="there is no decision log at"):
            use(tmp_path / "nothing.db")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_does_not_hold_up_the_writer(tmp_path):
    path = tmp_path / "log.db"
    with DecisionLog(path) as log, closing(database.connect_to_read(path)) as reader:
        log.write([local("a")], ["x"])
        log.flush()
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM decisions").fetchone() == (1,)
        log.write([local("b")], ["x"])
        start = time.monotonic()
        log.flush()
        assert time.monotonic() - start < database.BUSY_S / 2
        assert reader.execute("SELECT count(*) FROM decisions").fetchone() == (1,), "its snapshot stays"


def test_a_stranger_is_told_from_a_log_that_is_being_made(tmp_path, monkeypatch):
    """Another process makes the log between two looks at the file: it is a log, not a stranger's database."""
    path, check = tmp_path / "log.db", schema.check_identity

    class Interrupted:
        def __init__(self, connection):
            self._connection = connection

        def execute(self, sql):
            if "sqlite_master" in sql:
                monkeypatch.setattr(database, "check_identity", check)
                monkeypatch.setattr(database, "BUSY_S", 0.1)
                with contextlib.suppress(LogError):  # a snapshot may hold the other process up, for a moment
                    DecisionLog(path).close()
            return self._connection.execute(sql)

    monkeypatch.setattr(database, "check_identity", lambda connection, at: check(Interrupted(connection), at))
    with DecisionLog(path) as log:
        log.write([local("a")], ["x"])
    assert len(read_log(path)) == 1


def test_a_folder_that_does_not_exist_is_said_so(tmp_path):
    with pytest.raises(LogError, match="does its folder exist"):
        DecisionLog(tmp_path / "no" / "log.db")


def test_what_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("id,label\n" + "a,ham\n" * 500)
    before = path.read_bytes()
    for use in (DecisionLog, PendingInputs, read_log):
        with pytest.raises(LogSchemaError, match="nor a database at all"):
            use(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE decisions (id)")
    before = path.read_bytes()
    for use in (DecisionLog, PendingInputs, read_log):
        with pytest.raises(LogSchemaError, match="not a decision log"):
            use(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "log.db"
    DecisionLog(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    for use in (DecisionLog, PendingInputs, read_log):
        with pytest.raises(LogSchemaError, match=r"newer version \(schema 99"):
            use(path)


def test_an_empty_file_is_no_log_yet(tmp_path):
    path = tmp_path / "log.db"
    path.touch()
    with pytest.raises(LogSchemaError, match="is empty"):
        read_log(path)
    DecisionLog(path).close()
    assert len(read_log(path)) == 0


@pytest.fixture
def two_migrations(monkeypatch):
    more = (*schema.MIGRATIONS, ("ALTER TABLE decisions ADD COLUMN tenant TEXT",))
    for module in (schema, database):
        monkeypatch.setattr(module, "MIGRATIONS", more)


def test_an_older_file_is_brought_up_and_keeps_its_rows(tmp_path, request):
    path = tmp_path / "log.db"
    with DecisionLog(path) as log:
        log.write([local("a")], ["x"])
    request.getfixturevalue("two_migrations")
    with pytest.raises(LogSchemaError, match="open it once with DecisionLog to upgrade"):
        read_log(path)
    with DecisionLog(path) as log:
        log.write([local("b")], ["x"])
    assert read_log(path).ids.tolist() == ["a", "b"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        assert connection.execute("SELECT tenant FROM decisions").fetchall() == [(None,), (None,)]


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "log.db"
    DecisionLog(path).close()
    broken = (*schema.MIGRATIONS, ("ALTER TABLE decisions ADD COLUMN tenant TEXT", "no SQL"))
    for module in (schema, database):
        monkeypatch.setattr(module, "MIGRATIONS", broken)
    with pytest.raises(LogError):
        DecisionLog(path)
    monkeypatch.undo()
    with DecisionLog(path) as log:
        log.write([local("a")], ["x"])
    assert len(read_log(path)) == 1


def test_processes_that_start_at_once_agree_on_the_schema(tmp_path):
    script = """
import time
from bisupervised.decision_log import DecisionLog
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
for k in range(20):
    DecisionLog(f"{sys.argv[1]}{k}.db").close()
"""
    processes = [start_python(script, tmp_path / "log", time.time() + 1.0) for _ in range(3)]
    for process in processes:
        with process:
            assert process.wait(60) == 0
    assert len(read_log(tmp_path / "log19.db")) == 0


def test_errors_of_a_damaged_file_say_so(tmp_path):
    path = tmp_path / "log.db"
    with DecisionLog(path) as log:
        log.write([local(f"i{row}") for row in range(2_000)], range(2_000))
    raw = bytearray(path.read_bytes())
    raw[8_192:] = b"\x55" * (len(raw) - 8_192)
    path.write_bytes(raw)
    with pytest.raises(LogError, match="damaged"):
        read_log(path)


def test_a_read_only_folder_can_be_read_once_the_log_is_closed(tmp_path):
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([local("a")], ["x"])
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(tmp_path / "log.db", folder)
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    try:
        assert len(read_log(folder / "log.db")) == 1
    finally:
        subprocess.run(["umount", folder], check=True)


def test_numpy_and_the_standard_library_are_enough():
    code = """
import sys
before = set(sys.modules)
import bisupervised.decision_log
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - sys.stdlib_module_names))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "['bisupervised', 'numpy']\n"
