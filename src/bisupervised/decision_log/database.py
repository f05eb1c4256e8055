"""Opening a decision log's file, its transactions, and SQLite's errors as this package's."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from bisupervised.decision_log.schema import MIGRATIONS, check_identity, migrate
from bisupervised.errors import InputError, LogError, LogFull, LogSchemaError

Location: TypeAlias = str | os.PathLike[str]
Synchronous: TypeAlias = Literal["normal", "full"]

#: How long a connection waits for another process's transaction, in seconds.
BUSY_S: Final = 30.0
_LEAST_FREE_BYTES: Final = 1 << 16


def log_path(location: Location) -> Path:
    """The file of a log, given as a path or as `sqlite:///relative.db` or `sqlite:////absolute.db`.

    Raises `InputError` for another kind of database, and for one in memory.
    """
    text = os.fspath(location)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme is not None:
        name = scheme.group(1).lower()
        if name.startswith("postgres"):
            raise InputError("a decision log in PostgreSQL is not supported yet; use sqlite:///file.db")
        if name != "sqlite":
            raise InputError(f"{name}:// is no place for a decision log; use a path or sqlite:///file.db")
        text = text[scheme.end() :].removeprefix("/")
    if text in ("", ":memory:"):
        raise InputError("a decision log is a file: it is read while it is written; give it a path")
    return Path(text)


def connect(path: Path, *, synchronous: Synchronous = "normal") -> sqlite3.Connection:
    """A connection to write with; makes the file, or brings it to the newest schema, as needed."""
    with log_errors(path):
        # The writer thread uses the connection that its owner opened, to raise what is wrong at once.
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            version = _schema_version(connection, path)  # before anything is written to another program's file
            _use_wal(connection)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            if version < len(MIGRATIONS):
                with transaction(connection):
                    migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    # Between two reads another process could make the tables, and they would look like a stranger's.
    with snapshot(connection):
        return check_identity(connection, path)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging: readers and the writer do not wait for each other."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Unlike a transaction, this change does not wait for another process that makes it too.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A read-only connection to a log that exists."""
    if not path.exists():
        raise LogError(f"there is no decision log at {path}")
    with log_errors(path):
        uri = f"{path.absolute().as_uri()}?{_read_mode(path)}"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
        try:
            version = _schema_version(connection, path)
            if version < len(MIGRATIONS):
                raise LogSchemaError(
                    f"{path} has schema {version}, not {len(MIGRATIONS)}; open it once with DecisionLog to upgrade it"
                    if version
                    else f"{path} is empty: no decision log has been opened there"
                )
        except BaseException:
            connection.close()
            raise
        return connection


def _read_mode(path: Path) -> str:
    """`mode=ro`; but where no files can be made beside a log that nobody has open, SQLite cannot open it so."""
    in_use = Path(f"{path}-wal").exists()
    return "mode=ro" if in_use or os.access(path.absolute().parent, os.W_OK) else "immutable=1"


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read inside is of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # an error may have ended it already
            connection.execute("ROLLBACK")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. Takes the write lock at once: a reader that turns writer could not wait for it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        raise


_KEPT: Final = "call flush() again: what is not stored yet is kept until then"


@contextmanager
def log_errors(path: Path, when_full: str = _KEPT) -> Iterator[None]:
    """Raise SQLite's and the system's errors as `LogError`s that say what to do; `when_full`, on a full disk."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError):
        raise  # about what was handed in, not a state of the file: trying again would not help
    except (sqlite3.Error, OSError) as error:
        raise _as_log_error(error, path, when_full) from error


def _as_log_error(error: sqlite3.Error | OSError, path: Path, when_full: str) -> LogError:
    # Absent on the few errors that the sqlite3 module raises by itself.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if (
        code == sqlite3.SQLITE_FULL
        or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
        or (code == sqlite3.SQLITE_IOERR and _no_space(path))
    ):
        return LogFull(f"no space left for the decision log {path} ({error}); free some and {when_full}")
    if code == sqlite3.SQLITE_NOTADB:
        return LogSchemaError(f"{path} is not a decision log, nor a database at all; give the log another path")
    advice = {
        sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_S:g} s",
        sqlite3.SQLITE_CANTOPEN: "does its folder exist, and may this user write there?",
        sqlite3.SQLITE_READONLY: "the file, its folder or its file system is read-only",
        sqlite3.SQLITE_CORRUPT: "the file is damaged; `sqlite3 FILE .recover` saves what can be read",
    }
    return LogError(f"the decision log {path}: {error}" + (f"; {advice[code]}" if code in advice else ""))


def _no_space(path: Path) -> bool:
    """Whether the disk is as good as full: SQLite reports that as a plain I/O error for its shared memory."""
    try:
        return shutil.disk_usage(path.absolute().parent).free < _LEAST_FREE_BYTES
    except OSError:
        return False
