"""`bisupervised study --live` and `--replay`, on a study in miniature; analysis and report have their own tests."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bisupervised.cli import main
from bisupervised.errors import MissingExtra
from bisupervised.studies.live import registry, running
from bisupervised.studies.live.study import Source, SourceMissing
from studies.live.fake_study import Remote, fake_study


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def studies(remote, monkeypatch, tmp_path):
    """A registry with one study that runs and others that do not; what was analysed."""
    analysed = []
    known = {"changes": {}}

    def study_by_name(name, data, models, limit):
        known["asked_for"] = (data, models, limit)
        if name == "imdb":
            return fake_study(known["url"], limit or 30, **known["changes"])
        if name == "issues":
            raise SourceMissing("the issues are not there; get them at example.com")
        raise MissingExtra("onnxruntime", "onnx")

    def analyse(table, name, paper_names, objective, cluster, cross_fitted, prices, notes, *, title):
        assert title == "Signs"
        analysed.append((table, name, paper_names, objective, cluster, cross_fitted, prices, notes))
        return SimpleNamespace(name=name, to_dict=lambda: {"study": name, "rows": len(table)})

    report = SimpleNamespace(
        lines=lambda results: [f"results of {one.name}" for one in results],
        write_live_report=lambda results, path, *, sources: path.write_text(f"<p>{len(results)} {list(sources)}"),
    )
    monkeypatch.setattr(running, "live_report", report)
    monkeypatch.setattr(running, "analyse", analyse)
    monkeypatch.setattr(registry, "study_by_name", study_by_name)
    with remote.serving() as url:
        known["url"] = url
        yield SimpleNamespace(analysed=analysed, known=known, data=tmp_path)


def live(study, tmp_path, *options):
    return main(["study", study, "--live", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *options])


def test_a_live_study_is_recorded_reported_and_replayed_with_the_same_numbers(studies, remote, tmp_path, capsys):
    report, numbers = tmp_path / "report.html", tmp_path / "numbers"
    assert live("imdb", tmp_path, "--limit", "25", "--report", str(report), "--numbers", str(numbers)) == 0
    printed = capsys.readouterr()
    assert "results of imdb" in printed.out
    assert "imdb, remote model: 25 of 25" in printed.err
    assert report.read_text() == "<p>1 ['imdb']"
    assert sum(remote.asked.values()) == 25
    assert main(["study", "imdb", "--replay", str(numbers), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"studies": [{"study": "imdb", "rows": 25}], "skipped": {}}
    first, again = studies.analysed
    assert again[1:6] == first[1:6] == ("imdb", ("imdb",), "accuracy", None, False)
    assert again[0].remote.confidences.tolist() == first[0].remote.confidences.tolist()
    assert sum(remote.asked.values()) == 25


def test_the_same_command_goes_on_after_the_remote_model_has_died(studies, remote, tmp_path, capsys):
    remote.dies_after = 12
    assert live("imdb", tmp_path) == 2
    assert "12 of 30 answers are kept" in capsys.readouterr().err
    remote.dies_after = None
    assert live("imdb", tmp_path) == 0
    assert set(remote.asked.values()) == {1}
    assert live("imdb", tmp_path, "--fresh") == 0
    assert set(remote.asked.values()) == {2}


def test_replies_that_cannot_be_read_are_counted_in_the_notes(studies, remote, tmp_path):
    remote.instead = {str(fake_study("", 30).inputs[0]): ("perhaps", -3.0)}
    assert live("imdb", tmp_path) == 0
    assert any("1 of 30 remote replies could not be read" in note for note in studies.analysed[0][-1])
    assert studies.analysed[0][0].remote.errors[0] == "unreadable"


def test_of_all_studies_those_that_can_be_run_are_and_the_others_are_named(studies, tmp_path, capsys):
    assert live("all", tmp_path, "--json") == 1
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said["studies"] == [{"study": "imdb", "rows": 30}]
    assert "example.com" in said["skipped"]["issues"]
    assert "pip install 'bisupervised[onnx]'" in said["skipped"]["imagenet"]
    assert "skipped: issues" in printed.err


def test_what_a_study_needs_is_said_before_anything_is_asked(studies, remote, tmp_path, capsys):
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.write_text("x")
    studies.known["changes"] = {
        "sources": (
            Source("the texts", there, "Somebody, 2020", "CC BY 4.0", "download it"),
            Source("the model", missing, "Somebody else", "not stated", "train it: make model"),
        )
    }
    assert live("imdb", tmp_path) == 2
    said = capsys.readouterr().err
    assert "Somebody, 2020; licence: CC BY 4.0" in said
    assert f"found: {there}" in said
    assert "MISSING" in said
    assert "train it: make model" in said
    assert not remote.asked
    missing.write_text("x")
    assert live("imdb", tmp_path) == 0
    missing.unlink()  # what is recorded needs no model
    assert live("imdb", tmp_path) == 0


def test_an_own_endpoint_is_estimated_and_costs_nothing_without_a_yes(studies, remote, tmp_path, capsys):
    own = ["--remote-url", "http://api.example.invalid/v1", "--remote-model", "big"]
    assert live("imdb", tmp_path, *own) == 2
    said = capsys.readouterr().err
    assert "30 remote requests" in said
    assert "not known" in said
    assert "add --yes" in said
    prices = ["--remote-prompt-price", "2", "--remote-completion-price", "8"]
    assert live("imdb", tmp_path, *own, *prices) == 2
    assert "at most 0.0026 USD" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert live("all", tmp_path, *own) == 2
    assert "one study at a time" in capsys.readouterr().err


def test_an_own_endpoint_on_this_machine_is_asked_and_kept_beside_the_study_s_own(studies, remote, tmp_path, capsys):
    assert live("imdb", tmp_path) == 0
    own = ["--remote-url", studies.known["url"], "--remote-model", "mine"]
    own += ["--remote-prompt-price", "2", "--remote-completion-price", "8"]
    assert live("imdb", tmp_path, *own) == 0
    assert set(remote.asked.values()) == {2}
    folders = {path.name for path in (tmp_path / "out" / "imdb").iterdir()}
    assert folders == {"local", "remote", "remote-mine"}
    _, own_run = studies.analysed
    ((name, price),) = own_run[6].items()
    assert name.startswith("mine, ")
    assert price.cost_of(np.array([1e6]), np.array([0.0])).tolist() == [2.0]
    assert any("mine, in the place of the study's own" in note for note in own_run[7])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["imdb", "--replay", "/nowhere"], "/nowhere/imdb.parquet"),
        (["imdb", "--live", "--data", "/nowhere"], "name its folder with --data"),
        (["imdb", "--recorded", ".", "--fresh"], "--fresh goes with --live"),
        (["imdb", "--replay", "--yes"], "--yes goes with --live"),
        (["imdb", "--live", "--csv", "x.csv"], "go with --recorded"),
        (["imdb", "--live", "--data", ".", "--limit", "0"], "1 or more"),
        (["out_of_scope", "--recorded", "."], "no study of the paper's"),
        (["imdb", "--live", "--data", ".", "--prices", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_a_mistake_gets_one_line_that_says_what_to_do(arguments, words, capsys):
    assert main(["study", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
