"""The tables of a decision log file, as numbered migrations, and their columns.

`PRAGMA user_version` is the number of migrations that a file has had; a new one is appended, none is changed.
Columns without a type keep each value's own type (see `values.py`).
"""

from __future__ import annotations

import sqlite3
from typing import Final

from bisupervised.errors import LogSchemaError

#: Written to every file, so that another program's database is never taken for a log: "BiSu".
APPLICATION_ID: Final = 0x42695375

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE decisions (
            seq INTEGER PRIMARY KEY,          -- rising; a row that is replaced keeps its own
            id TEXT NOT NULL UNIQUE,
            time REAL NOT NULL,               -- Unix seconds at which the outcome was handed to the log
            label,
            route TEXT NOT NULL,
            reason TEXT NOT NULL,
            deferred_because TEXT,
            answer,
            local_prediction,
            local_confidence REAL,
            local_latency_s REAL,
            local_supervisor_s REAL,
            local_cost REAL,
            local_error TEXT,
            remote_asked INTEGER NOT NULL,
            remote_prediction,
            remote_confidence REAL,
            remote_latency_s REAL,
            remote_supervisor_s REAL,
            remote_cost REAL,
            remote_error TEXT,
            fallback TEXT,
            fallback_s REAL,
            fallback_error TEXT,
            input_hash TEXT NOT NULL,
            input TEXT,                       -- JSON, when inputs are stored
            thresholds_id TEXT,
            attempts INTEGER NOT NULL DEFAULT 1,  -- outcomes this input has had; above 1 it once waited
            earlier_cost REAL DEFAULT 0       -- spent on the attempts before this one; NULL: not known
        )
        """,
        """
        CREATE TABLE pending (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            time REAL NOT NULL,
            input NOT NULL,                   -- JSON text, or bytes
            outcome TEXT NOT NULL             -- JSON
        )
        """,
    ),
    # What a gateway adds. Rows that no gateway wrote have NULL in all of these columns.
    (
        "ALTER TABLE decisions ADD COLUMN sequence INTEGER",
        "ALTER TABLE decisions ADD COLUMN cascade TEXT",
        "ALTER TABLE decisions ADD COLUMN mode TEXT",
        "ALTER TABLE decisions ADD COLUMN served TEXT",
        "ALTER TABLE decisions ADD COLUMN status INTEGER",
        "ALTER TABLE decisions ADD COLUMN key TEXT",
        "ALTER TABLE decisions ADD COLUMN streamed INTEGER",
        "ALTER TABLE decisions ADD COLUMN total_s REAL",
        "ALTER TABLE decisions ADD COLUMN first_token_s REAL",
        "ALTER TABLE decisions ADD COLUMN local_prompt_tokens REAL",
        "ALTER TABLE decisions ADD COLUMN local_completion_tokens REAL",
        "ALTER TABLE decisions ADD COLUMN remote_prompt_tokens REAL",
        "ALTER TABLE decisions ADD COLUMN remote_completion_tokens REAL",
        "ALTER TABLE decisions ADD COLUMN extra_remote_calls INTEGER",
        "ALTER TABLE decisions ADD COLUMN extra_cost REAL",
        "ALTER TABLE decisions ADD COLUMN cost_bound REAL",
        "ALTER TABLE decisions ADD COLUMN unscorable TEXT",
        "CREATE INDEX decisions_sequence ON decisions (sequence) WHERE sequence IS NOT NULL",
        "CREATE INDEX decisions_time ON decisions (time)",
        """
        CREATE TABLE processes (
            id TEXT PRIMARY KEY,              -- of one object that reserves; its file says whether it lives
            name TEXT NOT NULL,
            boot TEXT,                        -- the system's start that it ran under; NULL: not known
            started_at REAL NOT NULL,
            ended_at REAL                     -- NULL: it runs, or was killed
        )
        """,
        """
        CREATE TABLE sequence_blocks (
            first INTEGER PRIMARY KEY,
            last INTEGER NOT NULL,
            process TEXT NOT NULL,
            reserved_at REAL NOT NULL,
            last_used INTEGER,                -- first - 1: none; NULL until the process ends by itself
            lost INTEGER,                     -- surely used, and without a row; NULL until it is settled
            lost_at_most INTEGER
        )
        """,
        "CREATE INDEX sequence_blocks_open ON sequence_blocks (process) WHERE lost IS NULL",
        """
        CREATE TABLE budgets (
            day INTEGER NOT NULL,             -- UTC, days since 1970-01-01
            scope TEXT NOT NULL,
            process TEXT NOT NULL,
            set_aside REAL NOT NULL,          -- what counts against the cap
            spent REAL NOT NULL,              -- of that, as far as it was known when this was written
            PRIMARY KEY (day, scope, process)
        )
        """,
        """
        CREATE TABLE changes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            cascade TEXT NOT NULL,            -- "*": all of them
            kind TEXT NOT NULL,
            value TEXT NOT NULL,              -- JSON
            made_by TEXT NOT NULL,
            note TEXT NOT NULL
        )
        """,
        "CREATE INDEX changes_cascade ON changes (cascade, kind)",
        """
        CREATE TABLE audits (
            id TEXT PRIMARY KEY,              -- of the outcome whose input was sent again
            time REAL NOT NULL,
            cascade TEXT,
            remote_prediction,
            agrees INTEGER,                   -- NULL: the two could not be compared
            cost REAL,                        -- NULL: not known
            cost_bound REAL,
            latency_s REAL,
            error TEXT
        )
        """,
        "CREATE INDEX audits_time ON audits (time)",
    ),
    # Learned supervisors: of both levels, and of the 1st.
    (
        "ALTER TABLE decisions ADD COLUMN pair_confidence REAL",
        "ALTER TABLE decisions ADD COLUMN learned_confidence REAL",
    ),
)


def check_identity(connection: sqlite3.Connection, path: object) -> int:
    """How many migrations the file has had; call it inside a transaction.

    Raises `LogSchemaError` for a file that is no log, or newer.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables or version or application:
            raise LogSchemaError(f"{path} is a database, and not a decision log; give the log a file of its own")
        return 0
    if version > len(MIGRATIONS):
        raise LogSchemaError(
            f"{path} was written by a newer version (schema {version}, this one knows {len(MIGRATIONS)}); "
            f"upgrade bisupervised to open it"
        )
    return version


def migrate(connection: sqlite3.Connection, path: object) -> None:
    """Bring the file to the newest schema. Call it inside a write transaction: it is then all or nothing."""
    version = check_identity(connection, path)
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
