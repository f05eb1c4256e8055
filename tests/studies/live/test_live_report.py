"""The results in words, in tables and as a page that loads nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bisupervised.studies.live.claims import Claim, Outcome, above
from bisupervised.studies.live.live_report import lines, live_report, summary_table, write_live_report
from bisupervised.studies.live.results import StudyResults
from bisupervised.studies.live.study import Source
from bisupervised.studies.live.tables import (
    SUMMARY_COLUMNS,
    certified_table,
    counts_table,
    latency_table,
    money_table,
    parts_table,
    stated_table,
    supervised_table,
    supervisors_table,
    systems_table,
)
from bisupervised.studies.live.words import claim_lines, goal_line, headline, verdict_text


@pytest.fixture(scope="module")
def results(split_study: StudyResults, crossed_study: StudyResults) -> list[StudyResults]:
    return [split_study, crossed_study]


@pytest.fixture(scope="module")
def page(results: list[StudyResults]) -> str:
    sources = {"imdb": [Source("the local model", Path("x"), "somebody <script>", "MIT", "ask")]}
    return live_report(results, sources=sources)


class Read(HTMLParser):
    """Tags, ids, references and captions of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "input", "br", "img"):
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src", "xlink:href", "aria-labelledby"):
                self.references.append(str(value) if name != "aria-labelledby" else f"#{value}")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_that_loads_nothing(page: str) -> None:
    read = Read(page)
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    assert {reference[1:] for reference in read.references} <= set(read.ids)
    assert all(reference.startswith("#") for reference in read.references)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert "script" not in read.tags
    assert "somebody &lt;script&gt;" in page
    assert (
        "nan"
        not in re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL).replace("fina", "").lower()
    )


def test_the_page_can_be_read_with_a_keyboard_and_aloud(page: str) -> None:
    read = Read(page)
    assert read.tags.count("caption") == read.tags.count("table")
    scrolling = re.findall(r'<div class="scroll"[^>]*>', page)
    assert scrolling
    assert all('tabindex="0"' in one and "aria-label" in one for one in scrolling)
    assert page.count('role="img"') == 2
    assert 'class="skip"' in page
    assert "prefers-color-scheme: dark" in page


def test_the_first_screen_says_which_claims_hold(page: str, results: list[StudyResults]) -> None:
    first = page[: page.index('id="curves"')]
    assert headline(results).split(":")[0] in first
    for study in results:
        assert f">{study.name}</a>" in first
        for claim in study.claims:
            assert verdict_text(claim).split(" (")[0] in first


def with_outcomes(study: StudyResults, name: str, outcomes: list[float]) -> StudyResults:
    """The study with claims whose one part has these values throughout."""
    claims = [
        Claim(one.key, one.title, [above("", np.full(500, value), 0.0)])
        for one, value in zip(study.claims, outcomes, strict=True)
    ]
    return replace(study, name=name, claims=claims)


def test_the_headline_counts_what_is_held(split_study: StudyResults) -> None:
    made = [with_outcomes(split_study, "a", [1, 1, -1]), with_outcomes(split_study, "b", [1, -1, -1])]
    assert headline(made) == "On the report rows of 2 studies, held: claim 1 in 2, claim 2 in 1, claim 3 in none."
    assert claim_lines(made)[1].endswith("Held: a; not held: b.")
    assert headline([]) == "No study was run."
    assert lines([]) == ["No study was run."]


def test_verdicts_in_words() -> None:
    assert verdict_text(above("", np.ones(99), 0.0)) == "held"
    assert verdict_text(above("", -np.ones(99), 0.0)) == "not held"
    rows = np.zeros(100)
    rows[:5], rows[5:7] = 1.0, -1.0
    verdict = above("", rows, 0.0)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict_text(verdict) == f"undecided ({verdict.n_needed} rows would decide)"
    assert verdict_text(above("", np.zeros(99), 0.0)) == "undecided (the estimate lies on the bound)"


def test_the_closing_table(results: list[StudyResults]) -> None:
    rows = summary_table(results)
    assert all(len(row) == len(SUMMARY_COLUMNS) for row in rows)
    by_name = dict(zip(SUMMARY_COLUMNS, rows[0], strict=True))
    assert by_name["paper's"] != ""
    assert by_name["paper: remote-even at"] == "55 %"
    assert by_name["paper: best at"] == "68 %"
    assert summary_table(results, [])[0][8] == "–"


def test_every_table_has_a_cell_for_each_column(results: list[StudyResults]) -> None:
    tables = [make(results) for make in (latency_table, stated_table, money_table, certified_table, counts_table)]
    for study in results:
        tables += [make(study) for make in (parts_table, systems_table, supervised_table)]
        tables += [supervisors_table(study, level) for level in ("local", "remote")]
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows), table.caption
        assert not any("nan" in cell.split() for row in table.rows for cell in row)


def test_what_is_not_known_is_said(crossed_study: StudyResults) -> None:
    (row,) = money_table([crossed_study]).rows
    assert row[2] == "not known"
    assert "money not known" in verdict_text(crossed_study.claim("requests")) or (
        crossed_study.claim("requests").outcome is Outcome.NOT_HELD
    )


def test_the_text_begins_with_the_headline(results: list[StudyResults]) -> None:
    found = lines(results)
    assert found[0] == headline(results)
    assert goal_line(results) in found
    assert any(line.startswith("imdb: ") for line in found)


def test_the_results_as_json(results: list[StudyResults], tmp_path: Path) -> None:
    path = write_live_report(results, tmp_path / "folder" / "results.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [one["name"] for one in found] == ["imdb", "squadv2"]
    assert write_live_report([], tmp_path / "none.html").read_text(encoding="utf-8").count("No study was run") == 1
