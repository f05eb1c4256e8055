"""`bisupervised compare`, as a person runs it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from bisupervised.cli import main
from report.comparisons import columns


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    rows = columns()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    return path


def test_it_ends_with_what_to_do_and_that_command_works(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", str(results)]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    command = re.fullmatch(r"then: bisupervised (calibrate .*)", last)
    assert command is not None
    monkeypatch.chdir(tmp_path)
    assert main(command[1].split()) == 0
    assert "written" in capsys.readouterr().out


def test_json_is_json_and_nothing_else_and_the_report_is_written_beside_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", str(results), "--json", "--report", str(page), "--request-rate", "0.7"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["request_rate"] == pytest.approx(0.7, abs=0.01)
    assert values["levels"]["local"]["recommended"] == "score_better"
    assert "<svg" in page.read_text()


def test_only_names_what_is_compared(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(results), "--json", "--only", "gen,score_dice", "--only", "deep_gini"]) == 0
    found = json.loads(capsys.readouterr().out)["levels"]["local"]["candidates"]
    assert {one["name"] for one in found} == {"max_softmax", "gen", "score_dice", "deep_gini"}
    assert main(["compare", str(results), "--only", "gan"]) == 2
    assert "the rows allow no supervisor gan" in capsys.readouterr().err


def test_thresholds_say_which_inputs_are_deferred(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "thresholds.toml"
    assert main(["calibrate", str(results), "--max-request-rate", "0.4", "--out", str(file)]) == 0
    capsys.readouterr()
    assert main(["compare", str(results), "--thresholds", str(file), "--json"]) == 0
    assert "by the thresholds" in json.loads(capsys.readouterr().out)["deferred_by"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "folder"], "--report names an HTML file"),
        (["--request-rate", "70"], "a request rate is a share between 0 and 1"),
        (["--alpha", "5"], "alpha is a share"),
        (["--objective", "macro_f1"], "compared by a graded objective"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_do(
    results: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(results), *options]) == 2
    assert message in capsys.readouterr().err


def test_many_rows_show_how_far_it_is(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisupervised.cli.compare._MANY_ROWS", 100)
    assert main(["compare", str(results), "--json"]) == 0
    assert "100 %" in capsys.readouterr().err
