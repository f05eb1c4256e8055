"""Which processes live: each holds a lock on a small file of its own, which the operating system releases at death.

The files are in the folder `<log>-alive` beside the log. A lock needs no clock and no process number, so neither a
clock that jumps nor a number that is used again makes a living process look dead. A file's first eight bytes are
the process's mark: a number that outlives `kill -9`, since it is in the page cache, and not the power.
"""

from __future__ import annotations

import errno
import mmap
import os
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Final

from bisupervised.decision_log.ids import new_id

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, mmap.PAGESIZE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def this_boot() -> str | None:
    """Which start of the operating system this is; None where it does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def _file(log: Path, process: str) -> Path:
    return Path(f"{log}-alive") / process


class Presence:
    """This process, as others see it, until `close` or its death."""

    def __init__(self, log: Path, name: str) -> None:
        self.id = new_id()
        self.name = name
        self._file = _file(log, self.id)
        self._file.parent.mkdir(exist_ok=True)
        self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Written, not only made longer: a page that the disk has no room for would end the process later.
            if os.write(self._fd, bytes(mmap.PAGESIZE)) < mmap.PAGESIZE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _lock(self._fd)
            self._memory = mmap.mmap(self._fd, mmap.PAGESIZE)
        except BaseException:
            self.close()
            raise
        #: One 64-bit number, `mark[0]`, 0 at first.
        self.mark = memoryview(self._memory).cast("q")

    def enter(self, connection: sqlite3.Connection) -> None:
        """Write this process into the log; call it inside a transaction."""
        connection.execute(
            "INSERT INTO processes (id, name, boot, started_at) VALUES (?, ?, ?, ?)",
            (self.id, self.name, this_boot(), time()),
        )

    def leave(self, connection: sqlite3.Connection) -> None:
        """Write that this process has ended by itself; call it inside a transaction."""
        connection.execute("UPDATE processes SET ended_at = ? WHERE id = ?", (time(), self.id))

    def close(self, *, keep_file: bool = False) -> None:
        """Release the lock. `keep_file`: the end could not be written, so others are to find this process dead."""
        if not keep_file:
            with suppress(OSError):
                self._file.unlink()
        self.forget()

    def forget(self) -> None:
        """In a forked child: this presence is its parent's alone, whose lock is not released by that."""
        if hasattr(self, "mark"):
            self.mark.release()
            self._memory.close()
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a process that has died."""

    mark: int | None  #: as the process left it; None: it went with the power


@contextmanager
def remains(log: Path, process: str, boot: str | None) -> Iterator[Remains | None]:
    """What is left of a process; None when it lives, or when nobody can tell.

    Nobody else takes the same process for dead meanwhile, and its file is deleted afterwards. Without a file, a
    process is dead only if it ran under another start of the system than `boot`'s.
    """
    here = this_boot()
    file = _file(log, process)
    try:
        fd = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        yield Remains(None) if boot is not None and here is not None and boot != here else None
        return
    except OSError:
        yield None
        return
    try:
        try:
            _lock(fd)
        except OSError:
            yield None
            return
        os.lseek(fd, 0, os.SEEK_SET)
        mark = int.from_bytes(os.read(fd, 8), sys.byteorder, signed=True)
        yield Remains(mark if boot is not None and boot == here else None)
        with suppress(OSError):
            file.unlink()
    finally:
        os.close(fd)


def in_forked_children(method: Callable[[], Any]) -> None:
    """Call a bound method in every process that is forked from this one, as long as its object lives."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (bound := reference()) is not None:
            bound()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
