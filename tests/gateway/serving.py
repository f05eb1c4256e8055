"""`bisupervised serve` as a process that can be ended in any way; what it has written is read from outside."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisupervised.decision_log.database import connect, snapshot
from bisupervised.decision_log.losses import Losses, count_losses, settle
from gateway.running import wait_until

TESTS = Path(__file__).resolve().parents[1]

Row = dict[str, Any]  #: of the decision log, as SQLite gives it


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway process, or what one has left behind: its log can be read after its end."""

    url: str
    process: subprocess.Popen[str]
    log: Path
    printed: Path  #: what it wrote to its standard error

    # ------------------------------------------------------------ the process

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def end(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; the exit status."""
        self.terminate()
        return self.process.wait(timeout_s)

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    # ------------------------------------------------------------ what it says

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=20) as reply:
            content: bytes = reply.read()
        return content

    def stats(self) -> dict[str, Any]:
        """`GET /v1/stats`."""
        stats: dict[str, Any] = json.loads(self.get("/v1/stats"))
        return stats

    def gauge(self, name: str) -> float:
        """A metric without labels of `GET /metrics`, its name without `bisupervised_`."""
        found = re.search(rf"^bisupervised_{name} (\S+)$", self.get("/metrics").decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    # ------------------------------------------------------------ what it has written

    def select(self, sql: str, *values: Any) -> list[Row]:
        """What a query of the log's file finds; it is only read."""
        with closing(sqlite3.connect(f"{self.log.absolute().as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def rows(self, *, after: int = 0) -> list[Row]:
        """The decisions of requests with a number above `after`, by number."""
        return self.select("SELECT * FROM decisions WHERE sequence > ? ORDER BY sequence, seq", after)

    def settled_rows(self, n: int, *, after: int = 0, timeout_s: float = 20.0) -> list[Row]:
        """`rows`, as soon as there are n of them; those that there are when the time is over."""

        def count() -> int:
            (found,) = self.select("SELECT count(*) AS n FROM decisions WHERE sequence > ?", after)
            return int(found["n"])

        with suppress(TimeoutError):
            wait_until(count, lambda found: found >= n, timeout_s)
        return self.rows(after=after)

    def audits(self) -> list[Row]:
        """Trusted local answers whose inputs the remote model was given, too."""
        return self.select("SELECT * FROM audits")

    def newest(self) -> int:
        """The highest number that has a row."""
        (found,) = self.select("SELECT coalesce(max(sequence), 0) AS newest FROM decisions")
        return int(found["newest"])

    def losses(self) -> Losses:
        """Numbers that have no row, when the process has ended."""
        with closing(connect(self.log)) as connection:
            settle(connection, self.log)
            with snapshot(connection):
                return count_losses(connection)

    def set_aside(self, scope: str = "total") -> float:
        """What counts against a budget's cap, on the newest day: spent or set aside by all processes."""
        (found,) = self.select(
            "SELECT coalesce(sum(set_aside), 0.0) AS money FROM budgets WHERE scope = ? "
            "AND day = (SELECT max(day) FROM budgets)",
            scope,
        )
        return float(found["money"])


@contextmanager
def serving(folder: Path, config: str, *, env: Mapping[str, str] | None = None) -> Iterator[Gateway]:
    """`bisupervised serve` on a file with this text in `folder`, killed at the end of the block if it still runs.

    A second one in the same folder goes on with the first one's log.
    """
    file = folder / "cascade.toml"
    file.write_text(config, encoding="utf-8")
    printed = folder / "gateway.err"
    with printed.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "bisupervised", "serve", str(file), "--port", "0", "--json"],
            env=os.environ | {"PYTHONPATH": str(TESTS)} | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30.0)
        line = process.stdout.readline() if ready else ""
        if not line.startswith("{"):
            raise RuntimeError(f"the gateway did not start: {line}{printed.read_text()}")
        named = re.search(r'^"?log"? = "(.*)"$', config, re.MULTILINE)
        log = folder / (named[1] if named else "decisions.db")
        yield Gateway(json.loads(line)["url"], process, log, printed)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
