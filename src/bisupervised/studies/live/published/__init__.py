"""The paper's own figures, to stand beside: `rq2_table.csv` as its authors published it.

From github.com/testingautomated-usi/bisupervised (generated/results), under the MIT licence in `LICENSE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from bisupervised.studies.paper import PaperRow, load_published

SOURCE: Final = (
    "Weiss and Tonella, TOSEM 2023, doi:10.1145/3617593: rq2_table.csv of "
    "github.com/testingautomated-usi/bisupervised (MIT licence)"
)


def published_rows(names: Sequence[str], directory: str | Path | None = None) -> list[PaperRow]:
    """The published rows of the first of these studies that has any; from a folder with `rq2_table.csv`, or from the
    copy that comes with the package."""
    if directory is None:
        with resources.as_file(resources.files(__name__)) as folder:
            rows = load_published(folder)
    else:
        rows = load_published(directory)
    for name in names:
        found = [row for row in rows if row.study == name]
        if found:
            return found
    return []


def by_study(directory: str | Path | None = None) -> Mapping[str, list[PaperRow]]:
    """All published rows by study."""
    with resources.as_file(resources.files(__name__)) as folder:
        rows = load_published(folder if directory is None else directory)
    return {name: [row for row in rows if row.study == name] for name in dict.fromkeys(row.study for row in rows)}
