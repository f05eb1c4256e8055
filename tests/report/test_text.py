"""The terminal's report: complete in any width, plain in a pipe, and honest about what is not known."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from bisupervised.assessment import Assessment, evaluate
from bisupervised.errors import MissingExtra
from bisupervised.report import text
from bisupervised.report.headline import headline
from bisupervised.report.text import print_report, progress_bar
from report.assessments import columns, full, logged, unlabelled


def printed(assessment: Assessment, width: int, *, terminal: bool = False) -> str:
    stream = io.StringIO()
    color = "standard" if terminal else None
    print_report(
        assessment, Console(file=stream, width=width, force_terminal=terminal, color_system=color, highlight=False)
    )
    return stream.getvalue()


def squeezed(words: str) -> str:
    return " ".join(words.split())


@pytest.mark.parametrize("width", [80, 140, 200])
def test_nothing_is_cut_off_at_any_width(width: int) -> None:
    shown = printed(full(), width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 160])
def test_it_opens_with_the_headline(width: int) -> None:
    assessment = full()
    assert squeezed(printed(assessment, width)).startswith(headline(assessment))


def test_intervals_stand_below_their_figures_in_80_columns_and_beside_them_in_200() -> None:
    assert "[.890,.925]" in printed(full(), 80)
    assert ".909 [.890, .925]" in printed(full(), 200)


def test_a_pipe_gets_plain_text_and_a_terminal_gets_colours() -> None:
    assessment = evaluate({**columns(), "local_confidence": columns()["local_confidence"] * 0 + 0.5}, (0.5, 0.4))
    assert "\x1b[" not in printed(assessment, 80)
    in_color = printed(assessment, 80, terminal=True)
    assert "\x1b[33m" in in_color
    assert "The local confidence is constant" in squeezed(printed(assessment, 200))


@pytest.mark.parametrize("make", [unlabelled, logged])
def test_unknown_numbers_are_said_to_be_not_known(make: object) -> None:
    shown = printed(make(), 80)  # type: ignore[operator]
    rows = [line for line in shown.splitlines() if line.startswith("remote-only ")]
    assert "not known" in rows[0]
    assert "nan" not in shown
    assert next(line for line in shown.splitlines() if line.startswith("AUC-RAC")).split()[1:] == ["not", "known"]


def test_words_of_the_user_are_no_markup() -> None:
    assessment = full()
    assessment.evaluation.notes.append("[bold]a note[/bold] [/nothing]")  # type: ignore[attr-defined]
    assert "[bold]a note[/bold] [/nothing]" in printed(assessment, 80)


def test_without_rich_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(MissingExtra, match=r"bisupervised\[report\]"):
        print_report(full())


def test_progress_in_a_pipe_is_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(1000, "asking") as on_done:
        for _ in range(100):
            on_done(10)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 10
    assert lines[0].startswith("asking: 100 of 1,000 (10 %), ")
    assert lines[-1].startswith("asking: 1,000 of 1,000 (100 %), ")


def test_progress_of_nothing_and_in_one_step(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(0, "asking"):
        pass
    with progress_bar(3, "asking") as on_done:
        on_done(3)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(text.sys, "stderr", stream)
    with progress_bar(10, "asking [all]") as on_done:
        on_done(10)
    assert "asking [all]" in stream.getvalue()
    assert "10/10" in stream.getvalue()
