"""A comparison in words, on the terminal, as JSON, as a figure and as a page."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.assessment import compare
from bisupervised.evaluation import Comparison, compare_supervisors
from bisupervised.records import LevelName
from bisupervised.report.comparison import (
    comparison_table,
    comparison_to_dict,
    level_notes,
    next_command,
    setting_text,
    what_to_do,
)
from bisupervised.report.comparison_html import comparison_report, write_comparison_report
from bisupervised.report.comparison_plots import intervals_figure
from bisupervised.report.comparison_text import print_comparison
from bisupervised.report.plots import svg_of
from evaluation.made import a_table, rows
from report.comparisons import columns, full, one_level
from report.test_html import Page

SOURCE = ["my results.csv"]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return full()


def printed(comparison: Comparison, width: int) -> str:
    from rich.console import Console

    out = io.StringIO()
    print_comparison(comparison, SOURCE, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 128, 200])
def test_the_terminal_shows_every_candidate_its_faults_and_what_to_do(comparison: Comparison, width: int) -> None:
    text = printed(comparison, width)
    shown = " ".join(text.split())
    assert all(len(line.rstrip()) <= width for line in text.splitlines() if "bisupervised calibrate" not in line)
    assert "…" not in text
    for level in comparison.levels.values():
        for one in level.candidates:
            assert one.name in text
    for words in ("inverted", "no better than chance", "saturated", "many missing", "versus", "use this", "baseline"):
        assert words in shown
    assert "local, 1st level: use score_better. Better than the baseline by" in shown
    assert "remote, 2nd level: keep max_softmax." in shown
    assert 'quantifier = "max_softmax" under [cascade.remote] in cascade.toml' in shown
    assert text.rstrip().endswith(
        "then: bisupervised calibrate 'my results.csv' --columns local_confidence=local_score_better "
        "--remote-quantifier max_softmax"
    )


def test_what_is_not_there_is_not_shown() -> None:
    comparison = one_level()
    text = printed(comparison, 100)
    assert "2nd level" not in text
    assert "AUC-RAC" not in text
    assert what_to_do(comparison, SOURCE)[-1] == "then: bisupervised calibrate 'my results.csv'"
    assert "nothing is to be changed" in setting_text(comparison.levels[LevelName.LOCAL])


def test_the_baseline_has_no_difference_from_itself(comparison: Comparison) -> None:
    for level in comparison.levels.values():
        headings, rows = comparison_table(level)
        cells = {one.name: dict(zip(headings, found, strict=True)) for one, found in rows}
        base = cells["max_softmax"]
        assert (base["versus max_softmax"].value, base["p"].value) == ("–", "–")
        assert cells["score_dice"]["p"].value == "<.001"
        assert cells["score_dice"]["cost"].value == "not known"


def test_copies_and_missing_confidences_are_noted(comparison: Comparison) -> None:
    notes = " ".join(level_notes(comparison.levels[LevelName.REMOTE]))
    assert "tsallis_entropy as renyi_entropy" in notes
    assert "score_holes 160 of 800" in notes


def test_fitted_and_learned_ones_are_not_promised_to_the_command() -> None:
    oracle = columns()["local_score_better"]
    learned = {"local": {"stacked": lambda _, fit, score: oracle[score]}}
    few = {key: column for key, column in columns().items() if "score" not in key}
    comparison = compare(few, learned=learned)
    assert comparison.levels[LevelName.LOCAL].recommended.name == "stacked"
    assert shlex.split(next_command(comparison, SOURCE))[-2:] == ["--learn", "stacked"]
    assert "--learn stacked" in setting_text(comparison.levels[LevelName.LOCAL])
    mine = compare(few, learned={"local": {"of mine": learned["local"]["stacked"]}})
    assert next_command(mine, SOURCE) == "", "the command does not know it"
    assert "it is learned" in " ".join(what_to_do(comparison, SOURCE))


def test_json_holds_every_figure_and_no_nan(comparison: Comparison) -> None:
    for one in (comparison, one_level()):
        values = json.loads(json.dumps(comparison_to_dict(one, SOURCE), allow_nan=False))
        assert set(values["levels"]) == {level.value for level in one.levels}
        for level in values["levels"].values():
            assert level["recommended"] in [candidate["name"] for candidate in level["candidates"]]
    level = comparison_to_dict(comparison, SOURCE)["levels"]["local"]
    best = level["candidates"][0]
    assert (best["name"], level["recommended"], level["criterion"]) == (
        "score_better",
        "score_better",
        "gain over random",
    )
    assert best["versus_baseline"]["low"] > 0.0
    assert best["auroc_deferred"] == {"value": None, "low": None, "high": None}
    assert {tuple(one["cautions"]) for one in level["candidates"]} >= {("inverted",), ("no better than chance",)}


@settings(deadline=None, max_examples=40)
@given(rows(max_n=25), rows(max_n=25), st.floats(0.01, 1.0))
def test_whatever_the_rows_hold_it_is_said_without_a_traceback(made: tuple, other: tuple, rate: float) -> None:
    n = min(len(made[0]), len(other[0]))
    table = a_table(*(column[:n] for column in made))
    scores = {"local": {"mine": other[0][:n]}, "remote": {"mine": other[2][:n]}}
    comparison = compare_supervisors(table, scores=scores, request_rate=rate)
    json.dumps(comparison_to_dict(comparison, SOURCE), allow_nan=False)
    text = printed(comparison, 100)
    assert "nan" not in text.lower()
    for level in comparison.levels.values():
        assert 0.0 <= level.recommended.p_adjusted <= 1.0
        assert all(
            one.criterion.low <= one.criterion.high or one.criterion.low != one.criterion.low
            for one in level.candidates
        )


@pytest.mark.parametrize("right", [np.ones(40), np.arange(40) % 2])
def test_the_figure_of_what_cannot_be_judged_is_drawn(right: np.ndarray) -> None:
    flat = np.full(40, 0.5)
    for level in compare_supervisors(a_table(flat, right, flat, right)).levels.values():
        assert "confidence" in svg_of(intervals_figure(level), "level").markup


def test_the_figure_names_every_candidate_and_writes_far_ones_at_the_edge(comparison: Comparison) -> None:
    for level in comparison.levels.values():
        svg = svg_of(intervals_figure(level), "level").markup
        assert all(one.name in svg for one in level.candidates)
        assert "lead over max_softmax, paired" in svg
        assert "←" in svg


def test_the_page_loads_nothing_and_says_the_same(comparison: Comparison, tmp_path: Path) -> None:
    path = write_comparison_report(comparison, tmp_path / "new" / "supervisors.html", source=SOURCE)
    page = Page(path.read_text())
    assert page.loads == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    text = " ".join(" ".join(page.texts).split()).replace("\N{NO-BREAK SPACE}", " ")
    for words in ("use score_better", "keep max_softmax", "Inverted:", "tsallis_entropy as renyi_entropy"):
        assert words in text
    assert page.tags.count("svg") == 2


def test_a_users_words_are_escaped_on_the_page() -> None:
    more = {**columns(), "local_score_<b>x": columns()["local_score_dice"]}
    assert "<b>x" not in comparison_report(compare(more), source=["<script>.csv"])
    assert "<script>" not in comparison_report(one_level(), source=["<script>.csv"])
