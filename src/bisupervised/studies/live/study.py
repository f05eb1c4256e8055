"""What a live study is: inputs, two levels that really answer, and where each of their files comes from.

The stations, in order: `sources` are looked for and checked, `recording` asks both models about every input,
`scoring` turns their evidence into confidences, `analysis` chooses on one part of the rows and reports on the other,
`report` shows it beside the paper's figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisupervised.errors import InputError
from bisupervised.models.port import Model
from bisupervised.records import AnyArray, BoolArray, FloatArray, IntArray


class SourceMissing(InputError):  # noqa: N818 - named as the others of the tree
    """A file or a package that a study needs is not there; the message says which, and how to get it."""


class SourceChanged(InputError):  # noqa: N818
    """A file is there, but it is another one than the study was fixed with (its checksum differs)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file (or a folder of files) that a study needs, and what is known of it."""

    what: str  #: as in "the paper's local transformer"
    path: Path  #: where it lies, or is expected
    origin: str  #: who made it, with an address or a reference to cite
    licence: str  #: as stated by its makers; "not stated" where they say nothing
    get: str  #: a sentence or a command: how to get it
    sha256: str | None = None  #: None: any file of that name will do


@dataclass(frozen=True, slots=True, eq=False)
class RunningModel:
    """A model that answers, and whose processor time is counted by `cpu_s` (seconds so far; None: not known)."""

    model: Model
    cpu_s: Callable[[], float] | None = None


@dataclass(frozen=True, eq=False)
class LiveStudy:
    """n inputs, the two models that are asked about them, and how an answer is graded."""

    name: str  #: as on the command line: `imdb`, `issues`, `imagenet`, `squadv2`, `out_of_scope`
    title: str
    paper_names: Sequence[str]  #: its rows of `rq2_table.csv`, the closest first; empty: none
    objective: str  #: `accuracy` or `exact_match`; both are 0/1 per input
    inputs: Sequence[Any]
    ids: Sequence[str]  #: n unique ones that stay the same from run to run
    labels: Sequence[Any] | None  #: n; None where `grade` judges
    #: how the local and the remote model are made ready; each is left (its process ended) with the block
    local: Callable[[], AbstractContextManager[RunningModel]]
    remote: Callable[[], AbstractContextManager[RunningModel]]
    sources: Sequence[Source]
    #: (predictions of k rows, the k row numbers) -> (k,) 1.0, 0.0 or NaN; None: right is what equals the label
    grade: Callable[[AnyArray, IntArray], FloatArray] | None = None
    #: further columns that go with the rows into every table, (n,) each: numbers or short names, never texts
    extra: Mapping[str, AnyArray] = field(default_factory=dict)
    #: the name of the column of `extra` whose equal values are not independent (questions on one passage)
    cluster: str | None = None
    #: (n,) the inputs longer than the local, and than the remote model takes: cut, and counted
    truncated: Mapping[str, BoolArray] = field(default_factory=dict)
    #: small sets: thresholds are chosen on four fifths and judged on the fifth, in turn, so that all rows report
    cross_fitted: bool = False
    notes: Sequence[str] = ()  #: what a reader must know of the data and the models
