"""Whether the files that a study needs are there, and are those it was fixed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bisupervised.studies.live.study import Source, SourceChanged, SourceMissing

_BLOCK = 1 << 20


def found(source: Source) -> Path:
    """Where the source lies. Raises `SourceMissing` or `SourceChanged`, which say what to do."""
    if not source.path.exists():
        raise SourceMissing(
            f"{source.what} is not at {source.path}. How to get it: {source.get} (from {source.origin}; licence: "
            f"{source.licence})"
        )
    if source.sha256 is not None and (sum_ := checksum(source.path)) != source.sha256:
        raise SourceChanged(
            f"{source.what}: {source.path} is another file than the study was fixed with (SHA-256 {sum_}, expected "
            f"{source.sha256}). Remove it and get it again: {source.get}"
        )
    return source.path


def all_found(sources: Iterable[Source]) -> None:
    """Every problem of a study's sources at once, as one `SourceMissing` or `SourceChanged`."""
    problems: list[SourceMissing | SourceChanged] = []
    for source in sources:
        try:
            found(source)
        except (SourceMissing, SourceChanged) as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise SourceMissing("\n".join(map(str, problems)))


def checksum(path: Path) -> str:
    """The SHA-256 of a file; of a large one it is remembered in `<name>.sha256.json` beside it, where that can be
    written, as long as size and time of change stay the same."""
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns]
    memory = path.with_name(f"{path.name}.sha256.json")
    try:
        remembered = json.loads(memory.read_text())
        if remembered["state"] == state:
            return str(remembered["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if stat.st_size > 100 * _BLOCK:
        with suppress(OSError):  # a read-only folder: it is computed again the next time
            memory.write_text(json.dumps({"state": state, "sha256": digest.hexdigest()}))
    return digest.hexdigest()
