"""A live study from its sources to its results: looked for, recorded, scored, analysed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.records import LevelName
from bisupervised.studies.live import live_report
from bisupervised.studies.live.analysis import analyse
from bisupervised.studies.live.domain_reduction import with_reduced_domain
from bisupervised.studies.live.numbers_file import About, Numbers, rounded
from bisupervised.studies.live.own_remote import OwnModels
from bisupervised.studies.live.prices import Prices
from bisupervised.studies.live.recording import left_to_ask, record_study
from bisupervised.studies.live.results import StudyResults
from bisupervised.studies.live.scoring import quantifiers_in, scored
from bisupervised.studies.live.sources import all_found, found
from bisupervised.studies.live.study import LiveStudy, Source, SourceChanged, SourceMissing
from bisupervised.table import Table

#: `progress(total, what)` gives a context in which `on_done(k)` is told of k more.
Progress = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the studies are recorded."""

    folder: Path  #: holds the recordings
    own: OwnModels
    prices: Prices
    fresh: bool = False
    retry_failed: bool = False


def source_lines(study: LiveStudy) -> list[str]:
    """What the study needs, from whom, under which licence, and where it lies or how to get it."""
    lines = []
    for source in study.sources:
        try:
            state = f"found: {found(source)}"
        except SourceMissing:
            state = f"MISSING, expected at {source.path}; to get it: {source.get}"
        except SourceChanged:
            state = f"CHANGED, another file than the study was fixed with: {source.path}; to get it: {source.get}"
        lines += [f"  {source.what}", f"    {source.origin}; licence: {source.licence}", f"    {state}"]
    return lines


def check_sources(study: LiveStudy, run: Run) -> None:
    """Before anything is asked. Raises `SourceMissing` or `SourceChanged` with everything that is amiss.

    With a model of the user's own, which file is whose shows when a model is loaded; what is recorded needs none.
    """
    left = [
        left_to_ask(
            study, run.folder, level, fresh=run.fresh, retry_failed=run.retry_failed, kept_as=run.own.kept_as
        ).size
        for level in LevelName
    ]
    if any(left) and not run.own.kept_as:
        all_found(study.sources)


def recorded_numbers(study: LiveStudy, run: Run, progress: Progress) -> Numbers:
    """The study's numbers, every answer recorded, now or before. Raises `RecordingStopped` and `InputError`."""
    table = record_study(
        study,
        run.folder,
        progress=lambda level, n: progress(n, f"{study.name}, {level} model"),
        fresh=run.fresh,
        retry_failed=run.retry_failed,
        kept_as=run.own.kept_as,
    )
    with progress(quantifiers_in(table), f"{study.name}, supervisors") as on_done:
        numbers = scored(table, study, on_done=on_done)
    notes = [*_failures(table), *_replaced(run.own)]
    return Numbers(About.of(study, notes), rounded(errors_by_kind(numbers)))


def _failures(table: Table) -> list[str]:
    """Calls that failed and replies that could not be read, counted apart."""
    notes = []
    for level in LevelName:
        errors = [str(error) for error in table.level(level).errors if error is not None]
        unreadable = sum(error.startswith("unreadable:") for error in errors)
        if unreadable:
            notes.append(
                f"{unreadable} of {len(table)} {level} replies could not be read: counted as wrong, not trusted"
            )
        if len(errors) > unreadable:
            notes.append(
                f"{len(errors) - unreadable} of {len(table)} {level} calls failed: counted as wrong, not trusted; "
                f"--retry-failed asks them again"
            )
    return notes


def _replaced(own: OwnModels) -> list[str]:
    named = {"local": own.local_hub, "remote": own.remote}
    return [f"the {level} model is {name}, in the place of the study's own" for level, name in named.items() if name]


def errors_by_kind(table: Table) -> Table:
    """The errors by their kind alone: their messages quote what was answered, which is text."""
    levels: Mapping[str, Any] = {
        level.value: replace(
            rows := table.level(level),
            errors=np.array([None if e is None else str(e).partition(":")[0] for e in rows.errors], dtype=object),
        )
        for level in LevelName
    }
    return replace(table, **levels)


def analysed(numbers: Numbers, prices: Prices, own: OwnModels | None = None) -> StudyResults:
    """The results of a study's numbers.

    Money is claimed at the price of the list's large model, or of the user's own where that is known.
    """
    about, price = numbers.about, None if own is None else own.price(prices)
    table = prices.with_tokens(numbers.table, about.name)
    if about.name.startswith("imagenet"):  # the study of the paper's that has so many classes that few may do
        table = with_reduced_domain(table)
    return analyse(
        table,
        about.name,
        about.paper_names,
        about.objective,
        about.cluster,
        about.cross_fitted,
        {
            f"{one.model}, {prices.date}": replace(prices, large=one)
            for one in ((prices.large, prices.small) if price is None else (price,))
        },
        about.notes,
        title=about.title,
    )


def results_lines(results: Sequence[StudyResults]) -> list[str]:
    """The results as text."""
    return live_report.lines(results)


def write_report(results: Sequence[StudyResults], path: Path, abouts: Sequence[About]) -> None:
    """The results as one HTML file."""
    sources = {
        about.name: [Source(what, Path(), origin, licence, get) for what, origin, licence, get in about.sources]
        for about in abouts
    }
    live_report.write_live_report(results, path, sources=sources)
