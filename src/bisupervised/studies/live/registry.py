"""The live studies by name, and the numbers of each that come with the package."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from bisupervised.errors import InputError
from bisupervised.studies.live.numbers_file import Numbers, read_numbers_file
from bisupervised.studies.live.study import LiveStudy

#: Each is a function of that name in a module of that name: `imdb(data, models, limit=None)`.
STUDIES: Final = ("imdb", "issues", "imagenet", "squadv2", "out_of_scope")


def study_by_name(name: str, data: Path, models: Path, limit: int | None = None) -> LiveStudy:
    """The study, its inputs read and its models not yet. Raises `InputError` (`SourceMissing`) or `MissingExtra`."""
    if name not in STUDIES:
        raise InputError(f"no live study is called {name!r}; there are: {', '.join(STUDIES)}")
    if limit is not None and limit < 1:
        raise InputError(f"a limit is a number of inputs, 1 or more, not {limit}")
    try:
        module = importlib.import_module(f"bisupervised.studies.live.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"bisupervised.studies.live.{name}":
            raise InputError(f"the study {name} needs the package {error.name}, which is not installed") from error
        raise InputError(f"this version of bisupervised has no live study {name}") from error
    make: Callable[..., LiveStudy] = getattr(module, name)
    return make(data, models, limit=limit)


def numbers_by_name(name: str, folder: Path | None = None) -> Numbers:
    """The recorded numbers `<name>.parquet` in a folder, or those that come with the package."""
    if folder is not None:
        path = folder / f"{name}.parquet"
        if not path.exists():
            raise InputError(
                f"there is no {path}: `bisupervised study {name} --live --numbers {folder}` records it, and --replay "
                f"without a folder reads what comes with the package"
            )
        return read_numbers_file(path)
    shipped = files("bisupervised.studies.live").joinpath("numbers", f"{name}.parquet")
    if not shipped.is_file():
        raise InputError(
            f"no recorded numbers of {name} come with this version; record them: `bisupervised study {name} --live`, "
            f"or name a folder that holds {name}.parquet: --replay FOLDER"
        )
    with as_file(shipped) as path:
        return read_numbers_file(path)
