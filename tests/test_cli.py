"""The commands, as a person runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bisupervised import read_table
from bisupervised.cli import build_parser, main
from bisupervised.quantifiers import quantifier_from_file


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """600 rows: a local model right in about .8, a remote one in about .9, confidences that know something."""
    rng = np.random.default_rng(7)
    local, remote = rng.uniform(0.5, 1.0, 600), rng.uniform(0.5, 1.0, 600)
    right = {"local": rng.random(600) < 0.35 + 0.6 * local, "remote": rng.random(600) < 0.45 + 0.6 * remote}
    labels = rng.integers(0, 2, 600)
    lines = [
        "id,label,local_prediction,local_confidence,local_latency_s,remote_prediction,remote_confidence,remote_latency_s"
    ]
    for row in range(600):
        guess = {name: labels[row] if ok[row] else 1 - labels[row] for name, ok in right.items()}
        lines.append(
            f"r{row},{labels[row]},{guess['local']},{local[row]:.6f},0.01,{guess['remote']},{remote[row]:.6f},0.4"
        )
    path = tmp_path / "preds.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_opens_with_the_answer_and_leaves_a_report(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(predictions), "--remote-cost", "0.002", "--report", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "of inputs go to the remote model" in " ".join(printed.split())
    assert (tmp_path / "out" / "request_accuracy.png").stat().st_size > 5_000
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    assert str(tmp_path / "out" / "report.html") in printed


def test_evaluate_json_is_json_and_nothing_else(predictions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(predictions), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["n"] == 300
    assert 0 < values["systems"]["bisupervised"]["request_rate"]["value"] < 1
    assert values["systems"]["bisupervised"]["cost_per_input"]["value"] is None  # no cost was given: not known


def test_calibrate_writes_thresholds_that_evaluate_judges_on_the_rows_held_out(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "thresholds.toml"
    assert main(["calibrate", str(predictions), "--max-request-rate", "0.3", "--out", str(out)]) == 0
    written = tomllib.loads(out.read_text())
    assert written["target"] == {"name": "request_budget", "request_rate": 0.3, "false_alarm_rate": 0.05}
    assert written["evidence"]["n"] == 300
    capsys.readouterr()
    assert main(["evaluate", str(predictions), "--thresholds", str(out), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["n"] == 300
    assert any("held out" in note for note in values["notes"])
    assert values["systems"]["bisupervised"]["request_rate"]["value"] == pytest.approx(
        written["achieved"]["request_rate"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "absent.csv"], "there is no file absent.csv"),
        (["evaluate", "{rows}", "--columns", "local_confidence"], "--columns takes OURS=YOURS"),
        (["evaluate", "{rows}", "--columns", "local_confidence=nope"], "no column nope"),
        (["evaluate", "{rows}", "--target", "request-budget"], "needs --max-request-rate"),
        (["evaluate", "{rows}", "--target", "lowest-cost"], "--error-cost"),
        (
            ["evaluate", "{rows}", "--target", "lowest-cost", "--margin", "0.1"],
            "--margin goes with --target remote-even",
        ),
        (["evaluate", "{rows}", "--target", "false-alarm-rate"], "--keep-local-threshold"),
        (["calibrate", "{rows}", "--out", "/proc/thresholds.toml"], "cannot read or write"),
        (["evaluate", "{rows}", "--report", "/proc/report"], "cannot read or write"),
        (["evaluate", "{rows}", "--columns", "local_latency_s=remote_confidence,local_cost=id"], "local_cost, row 1"),
        (["evaluate", "{rows}", "--max-request-rate", "30"], "write 30 % as 0.3"),
        (["evaluate", "{rows}", "--remote-threshold", "0.5"], "goes with --local-threshold"),
        (["evaluate", "{rows}", "--local-threshold", "nan"], "NaN"),
        (["evaluate", "{rows}", "--objective", "beauty"], "no objective is called 'beauty'"),
        (["evaluate", "{rows}", "--thresholds", "absent.toml"], "there is no thresholds file"),
        (["predict", "{rows}", "--config", "absent.toml"], "there is no configuration file"),
        (["study", "all"], "testingautomated-usi/bisupervised"),
        (["study", "imdb", "--recorded", "."], "imdb_local.csv"),
    ],
)
def test_a_mistake_gets_one_line_that_says_what_to_do(
    predictions: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(rows=predictions) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("bisupervised: ")
    assert "Traceback" not in captured.err


def test_an_option_out_of_range_is_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--seed", "-1"], ["--remote-cost", "-1"], ["--fallback-cost", "nan"], ["--target", "luck"]):
        with pytest.raises(SystemExit) as left:
            main(["evaluate", "absent.csv", *option])
        assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_with_json_a_mistake_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "absent.csv", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "TableError"


def test_the_readmes_command_shows_what_the_cascade_saves(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(predictions), "--remote-cost", "0.002", "--no-report"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no local cost is given: counted as 0" in printed
    assert "costs" in printed.split("Systems")[0]


def test_a_log_takes_the_options_that_files_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bisupervised import DecisionLog

    path = tmp_path / "log.db"
    with DecisionLog(path) as log:
        from bisupervised import BiSupervised, FunctionModel, Level, Supervisor

        model = FunctionModel(lambda xs: [[0.9, 0.1] if x % 2 else [0.6, 0.4] for x in xs])
        levels = Level(model, Supervisor(threshold=0.8)), Level(model, Supervisor(threshold=0.5))
        with BiSupervised(*levels, log=log) as system:
            system.predict_many(list(range(40)))
    assert np.isnan(read_table(path).remote.cost[::2]).all()
    assert read_table(path, costs={"remote": 0.5}).remote.cost.sum() == pytest.approx(10.0)
    assert main(["evaluate", str(path), "--local-threshold", "0.8", "--columns", "local_confidence=zzz"]) == 2
    assert "no column zzz" in capsys.readouterr().err


def test_an_outage_is_no_advice_to_drop_the_remote_model(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predictions.read_text().splitlines()
    for row in range(1, len(lines), 4):
        cells = lines[row].split(",")
        lines[row] = ",".join([*cells[:5], "", "", "", "timeout: no answer in 5 s"])
    lines = [lines[0] + ",remote_error", *(line if line.count(",") == 8 else line + "," for line in lines[1:])]
    predictions.write_text("\n".join(lines) + "\n")
    assert main(["evaluate", str(predictions), "--no-report"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Use the local model alone" not in printed
    assert "remote calls failed" in printed


def test_the_authors_unreadable_replies_are_failures_and_not_confident_mistakes(tmp_path: Path) -> None:
    from bisupervised import read_table

    head = "id,prediction,ground_truth,sm_confidence,pred_time\n"
    (tmp_path / "l.csv").write_text(head + "0,1,1,0.9,0.1\n1,0,0,0.8,0.1\n")
    (tmp_path / "r.csv").write_text(head + "0,1,1,0.9,0.1\n1,-1,0,0,0.1\n")
    table = read_table(tmp_path / "l.csv", tmp_path / "r.csv")
    assert table.remote.errors[1].startswith("unreadable")
    assert np.isnan(table.remote.confidences[1])


def config(folder: Path) -> Path:
    name = f"cli_models_{folder.name}"
    (folder / f"{name}.py").write_text(
        "def local(texts):\n    return [[.9, .1] if 'good' in t else [.6, .4] for t in texts]\n"
        "def remote(texts):\n    return [[.1, .9] for t in texts]\n"
    )
    path = folder / "cascade.toml"
    path.write_text(
        "[[cascade]]\nname = 'demo'\nthresholds = { local = 0.8, remote = 0.8 }\n"
        f"[cascade.local]\nmodel = 'function'\nfunction = '{name}:local'\nclasses = ['pos', 'neg']\n"
        f"[cascade.remote]\nmodel = 'function'\nfunction = '{name}:remote'\nclasses = ['pos', 'neg']\n"
    )
    return path


def test_predict_and_record_write_the_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = tmp_path / "inputs.csv"
    inputs.write_text("id,text,label\n1,good film,pos\n2,bad film,neg\n3,good try,neg\n")
    settings = ["--config", str(config(tmp_path))]
    assert main(["predict", str(inputs), *settings, "--out", str(tmp_path / "a.csv"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["local"], summary["remote"], summary["rejected"]) == (2, 1, 0)
    assert main(["record", str(inputs), *settings, "--out", str(tmp_path / "r.jsonl"), "--limit", "2"]) == 0
    assert main(["record", str(inputs), *settings, "--out", str(tmp_path / "r.jsonl"), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == 2
    assert main(["evaluate", str(tmp_path / "r.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3


def features_config(folder: Path, labels: Sequence[str] = ("neg", "pos")) -> Path:
    """A local model whose function gives logits and features, and a remote one that does not."""
    name = f"cli_features_{folder.name}"
    (folder / f"{name}.py").write_text(
        "import numpy as np\nfrom bisupervised import ModelOutput\n"
        f"LABELS = np.array({list(labels)})\n"
        "def local(texts):\n"
        "    f = np.array([[float(w) for w in t.split()] for t in texts])\n"
        "    logits = np.stack([-f[:, 0], f[:, 0]], axis=1)\n"
        "    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)\n"
        "    labels = LABELS[p.argmax(axis=1)]\n"
        "    return ModelOutput(labels, probabilities=p, logits=logits, features=f, classes=LABELS)\n"
        "def remote(texts):\n    return [[.1, .9] for t in texts]\n"
    )
    path = folder / "features.toml"
    path.write_text(
        "[[cascade]]\nname = 'demo'\nthresholds = { local = 0.8, remote = 0.8 }\n"
        f"[cascade.local]\nmodel = 'function'\nfunction = '{name}:local'\n"
        f"[cascade.remote]\nmodel = 'function'\nfunction = '{name}:remote'\nclasses = {list(labels)}\n"
    )
    return path


def recorded_with_features(folder: Path, n: int = 60, labels: Sequence[str] = ("neg", "pos")) -> Path:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, 3))
    points[:, 0] += np.where(np.arange(n) % 2, 1.0, -1.0)
    rows = [f"r{row},{' '.join(map(repr, map(float, f)))},{labels[row % 2]}" for row, f in enumerate(points)]
    (folder / "inputs.csv").write_text("id,text,label\n" + "\n".join(rows) + "\n")
    settings = ["--config", str(features_config(folder, labels)), "--with", "logits,features"]
    assert main(["record", str(folder / "inputs.csv"), *settings, "--out", str(folder / "rows.csv")]) == 0
    return folder / "rows.csv"


def test_record_keeps_logits_and_features_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_table(recorded_with_features(tmp_path))
    assert (table.local.features.shape, table.local.logits.shape, table.remote.features) == ((60, 3), (60, 2), None)
    inputs = tmp_path / "inputs.csv"
    settings = ["--config", str(tmp_path / "features.toml"), "--out", str(tmp_path / "plain.csv")]
    assert main(["record", str(inputs), *settings]) == 0
    assert read_table(tmp_path / "plain.csv").local.features is None
    capsys.readouterr()
    assert main(["record", str(inputs), *settings, "--overwrite", "--with", "embeddings"]) == 2
    assert "a table holds logits and features on demand, not 'embeddings'" in capsys.readouterr().err
    plain = ["--config", str(config(tmp_path)), "--out", str(tmp_path / "c.csv"), "--with", "features"]
    assert main(["record", str(inputs), *plain]) == 2
    assert "the models' outputs hold no features" in capsys.readouterr().err


def test_a_quantifier_is_fitted_judged_and_used_on_other_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = str(recorded_with_features(tmp_path, 200)), tmp_path / "m.npz"
    capsys.readouterr()
    assert main(["fit-quantifier", rows, "--kind", "mahalanobis", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "mahalanobis of the local model, fitted on 140 rows: " in printed
    assert "AUROC on 60 rows that it was not fitted on: 0." in printed
    assert "of the confidences in the table, on the same rows: 0." in printed
    assert 'quantifier = "m.npz" in [cascade.local]' in printed
    assert main(["fit-quantifier", rows, "--kind", "mahalanobis", "--out", str(out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["rows"], figures["held_out_rows"], sum(figures["labels"].values())) == (140, 60, 140)
    assert 0.0 <= figures["auroc"]["low"] <= figures["auroc"]["value"] <= figures["auroc"]["high"] <= 1.0
    thresholds = ["--max-request-rate", "0.5", "--no-second-level", "--out", str(tmp_path / "t.toml"), "--json"]
    assert main(["calibrate", rows, "--local-quantifier", str(out), *thresholds]) == 0
    said = capsys.readouterr()
    assert f"140 of 200 rows are left out: {out} was fitted on them" in said.err
    assert json.loads(said.out)["evidence"]["n"] == 30, "half of the rows that are left"
    assert json.loads(said.out)["thresholds"]["local"] < 0.0, "a Mahalanobis distance, not a probability"
    text = (
        (tmp_path / "features.toml").read_text().replace("[cascade.local]", "[cascade.local]\nquantifier = 'm.npz'")
    )
    (tmp_path / "features.toml").write_text(text)
    settings = ["--config", str(tmp_path / "features.toml"), "--out", str(tmp_path / "again.csv")]
    assert main(["record", str(tmp_path / "inputs.csv"), *settings]) == 0
    recorded = read_table(tmp_path / "again.csv").local.confidences
    np.testing.assert_array_equal(
        read_table(rows, quantifiers={"local": quantifier_from_file(out)}).local.confidences, recorded
    )


@pytest.mark.parametrize("kind", ["dsa", "lsa", "max_logit_pnorm"])
def test_a_model_whose_classes_are_digits_has_the_confidences_live_that_its_csv_was_calibrated_on(
    kind: str, tmp_path: Path
) -> None:
    """A CSV of "0" and "1" is read as numbers; the model goes on predicting texts."""
    rows, out = str(recorded_with_features(tmp_path, 300, labels=("0", "1"))), tmp_path / "new" / "m.npz"
    assert main(["fit-quantifier", rows, "--kind", kind, "--out", str(out)]) == 0
    thresholds = ["--max-request-rate", "0.3", "--no-second-level", "--out", str(tmp_path / "t.toml")]
    assert main(["calibrate", rows, "--local-quantifier", str(out), *thresholds]) == 0
    text = (tmp_path / "features.toml").read_text().replace("thresholds = { local = 0.8, remote = 0.8 }", "")
    text = text.replace("name = 'demo'", "name = 'demo'\nthresholds = 't.toml'")
    text = text.replace("[cascade.local]", "[cascade.local]\nquantifier = 'new/m.npz'")
    (tmp_path / "features.toml").write_text(text)
    settings = ["--config", str(tmp_path / "features.toml"), "--out", str(tmp_path / "live.csv")]
    assert main(["predict", str(tmp_path / "inputs.csv"), *settings]) == 0
    live = read_table(tmp_path / "live.csv")
    offline = read_table(rows, quantifiers={"local": quantifier_from_file(out, "local")})
    assert not np.isnan(live.local.confidences).any()
    np.testing.assert_array_equal(live.local.confidences, offline.local.confidences)
    assert live.remote.asked.mean() < 0.6, "about 0.3 of the rows that it was not fitted on, and not all of them"


@pytest.mark.parametrize("probabilities", [True, False])
def test_a_csv_with_logits_and_without_predictions_is_fitted_on_as_one_with_them(
    probabilities: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = recorded_with_features(tmp_path, 200, labels=("0", "1"))
    lines = [line.split(",") for line in rows.read_text().splitlines()]
    without = [place for place, name in enumerate(lines[0]) if name == "local_prediction"]
    if not probabilities:
        without += [place for place, name in enumerate(lines[0]) if name.startswith("local_proba_")]
    kept = [[cell for place, cell in enumerate(line) if place not in without] for line in lines]
    (tmp_path / "bare.csv").write_text("\n".join(",".join(line) for line in kept) + "\n")
    capsys.readouterr()
    figures = []
    for file in ("rows.csv", "bare.csv"):
        options = ["--kind", "dsa", "--out", str(tmp_path / "m.npz"), "--json"]
        assert main(["fit-quantifier", str(tmp_path / file), *options]) == 0
        figures.append(json.loads(capsys.readouterr().out)["auroc"])
    assert figures[0] == figures[1]


def test_a_file_for_one_level_is_refused_for_the_other_and_a_calibration_by_any_name_leaves_its_rows_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = str(recorded_with_features(tmp_path, 200))
    quantifier, calibration = str(tmp_path / "q" / "m.npz"), tmp_path / "c" / "local.json"
    assert main(["fit-quantifier", rows, "--kind", "mdsa", "--out", quantifier]) == 0
    assert main(["calibrate-confidence", rows, "--out", str(calibration)]) == 0
    capsys.readouterr()
    for option, file in (("quantifier", quantifier), ("confidence-calibration", str(calibration))):
        assert main(["evaluate", rows, f"--remote-{option}", file, "--local-threshold", "0.5"]) == 2
        error = capsys.readouterr().err
        assert "was fitted on rows of the local model, and is given for the remote one" in error
        assert error.count("\n") == 1
    for name in ("calibration", "calibration.npz", "calibration.toml"):
        other = calibration.rename(calibration.with_name(name))
        options = ["--local-confidence-calibration", str(other), "--local-threshold", "0.5", "--json"]
        assert main(["evaluate", rows, *options]) == 0
        said = capsys.readouterr()
        assert (json.loads(said.out)["n"], "140 of 200 rows are left out" in said.err) == (60, True)
        calibration = other


def test_what_is_fitted_is_not_written_where_no_folder_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = str(recorded_with_features(tmp_path, 200))
    capsys.readouterr()
    for command, file in (("fit-quantifier --kind mdsa", "m.npz"), ("calibrate-confidence", "c.json")):
        out = tmp_path / "inputs.csv" / file
        assert main([*command.split(), rows, "--out", str(out)]) == 2
        assert f"cannot write {out}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "vim", "--out", "m.npz"], "without weights, bias; its settings: weights (--last-layer FILE), "),
        (["--kind", "vim", "--set", "bad=1", "--out", "m.npz"], "vim has no setting bad; its settings: weights (--l"),
        (["--kind", "lsa", "--set", "k=2", "--out", "m.npz"], "lsa has no setting k; its settings: max_features, sh"),
        (["--kind", "knn", "--set", "k=2.5", "--out", "m.npz"], "k of knn is a whole number, not 2.5"),
        (["--kind", "knn", "--set", "k=twenty", "--out", "m.npz"], "--set takes NAME=NUMBER, as in k=20"),
        (["--kind", "knn", "--set", "k=5000", "--out", "m.npz"], "k is from 1 to the number of training rows"),
        (["--kind", "mdsa", "--out", "m.json"], "is written to an .npz file, not to m.json"),
        (["--kind", "mdsa", "--level", "remote", "--out", "m.npz"], "record it with --with features"),
        (
            ["--kind", "vim", "--last-layer", "no.npz", "--out", "m.npz"],
            "no.npz is no .npz file with weights and bias",
        ),
        (["--kind", "mdsa", "--local-quantifier", "no.npz", "--out", "m.npz"], "there is no file no.npz"),
    ],
)
def test_what_cannot_be_fitted_gets_one_line_that_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    rows = recorded_with_features(tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["fit-quantifier", str(rows), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_last_layer_comes_from_a_file(tmp_path: Path) -> None:
    rows = recorded_with_features(tmp_path)
    np.savez(tmp_path / "layer.npz", weights=np.eye(2, 3), bias=np.full(2, 9.0))
    options = ["--kind", "vim", "--last-layer", str(tmp_path / "layer.npz"), "--out", str(tmp_path / "v.npz")]
    assert main(["fit-quantifier", str(rows), *options, "--set", "dimensions=1"]) == 0
    assert quantifier_from_file(tmp_path / "v.npz").name == "vim"


def test_confidences_are_calibrated_and_thresholds_are_then_of_calibrated_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = str(recorded_with_features(tmp_path, 200)), tmp_path / "local.json"
    capsys.readouterr()
    assert main(["calibrate-confidence", rows, "--method", "beta", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in (
        "fitted on 140 rows",
        "on 60 rows that it was not fitted on",
        "Brier score there: 0.",
        "calibrate again",
    ):
        assert words in printed
    assert main(["calibrate-confidence", rows, "--held-out", "0", "--out", str(tmp_path / "all.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["brier"] is None, "not known: no row is left"
    options = ["--local-confidence-calibration", str(out), "--local-threshold", "0.5", "--json"]
    assert main(["evaluate", rows, *options]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["n"] == 60
    assert "140 of 200 rows are left out" in said.err
    assert main(["calibrate-confidence", rows, "--out", str(tmp_path / "local.npz")]) == 2
    assert "is written to a .json file" in capsys.readouterr().err


def test_nothing_is_asked_when_the_answers_could_not_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "inputs.csv"
    inputs.write_text("id,text\n1,good film\n")
    settings = ["--config", str(config(tmp_path))]
    for command in ("predict", "record"):
        assert main([command, str(inputs), *settings, "--out", str(tmp_path / "out.xyz")]) == 2
        assert ".csv, .jsonl, .parquet" in capsys.readouterr().err
    kept = tmp_path / "kept.csv"
    kept.write_text("paid for")
    assert main(["record", str(inputs), *settings, "--out", str(kept)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert kept.read_text() == "paid for"


def test_predict_without_a_file_prints_its_answers_and_labels_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bisupervised import read_table

    inputs = tmp_path / "inputs.csv"
    inputs.write_text("text,label\ngood film,pos\nbad film,neg\n")
    path = config(tmp_path)
    path.write_text(path.read_text() + "[cascade.log]\npath = 'log.db'\n")
    for _ in range(2):  # rows without ids of their own get new ones: a second run is no repetition
        assert main(["predict", str(inputs), "--config", str(path)]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["answer"], row["route"]) for row in rows] == [("pos", "local"), ("neg", "remote")]
    table = read_table(tmp_path / "log.db")
    assert table.labels.tolist() == ["pos", "neg"] * 2
    assert table.extra["answer"].tolist() == ["pos", "neg"] * 2


def test_predict_exits_1_when_the_remote_model_never_answers(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.csv"
    inputs.write_text("id,text\n1,good film\n2,bad film\n")
    path = config(tmp_path)
    path.write_text(
        path.read_text().split("[cascade.remote]")[0]
        + "[cascade.remote]\nmodel = 'openai'\nmodel_name = 'm'\nbase_url = 'http://127.0.0.1:9/v1'\n"
        + "quantifier = 'token_likelihood_min'\n"
    )
    assert main(["predict", str(inputs), "--config", str(path), "--json"]) == 1


def test_doctor_says_what_the_models_really_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "numpy" in capsys.readouterr().out
    assert main(["doctor", str(config(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cascades"]["demo"]["remote"]["prediction"] == "neg"


def test_doctor_exits_1_when_a_model_is_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path)
    text = path.read_text()
    path.write_text(
        text[: text.index("[cascade.remote]")]
        + "[cascade.remote]\nmodel = 'openai'\nmodel_name = 'm'\nbase_url = 'http://127.0.0.1:9/v1'\n"
        + "quantifier = 'token_likelihood_min'\n"
    )
    assert main(["doctor", str(path)]) == 1
    printed = capsys.readouterr()
    assert "PROBLEM" in printed.out
    assert "unreachable" in printed.out


PAPER = Path(__file__).parents[2] / "shared" / "data" / "paper"


@pytest.mark.data
@pytest.mark.skipif(not PAPER.exists(), reason="../shared/data/paper is missing")
def test_the_study_prints_its_tables_writes_ours_and_draws_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, figures = tmp_path / "ours.csv", tmp_path / "figures"
    assert main(["study", "all", "--recorded", str(PAPER), "--csv", str(ours), "--figures", str(figures)]) == 0
    assert "SQuADv2 (possible only)" in capsys.readouterr().out
    assert ours.read_text() == (PAPER / "rq2_table.csv").read_text()
    drawn = sorted(figures.iterdir())
    assert len(drawn) == 4
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000 for path in drawn)
    assert main(["study", "imdb", "--recorded", str(PAPER), "--json"]) == 0
    assert {row["case_s"] for row in json.loads(capsys.readouterr().out)["rows"]} == {"imdb"}


def test_every_command_has_help_and_the_readme_names_it() -> None:
    help_text = build_parser().format_help()
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    gateway = ("init", "replay", "serve", "mode", "key")
    trust = ("compare", "drift", "adapt", "fit-quantifier", "calibrate-confidence")
    for command in ("demo", "record", "evaluate", "calibrate", "predict", "study", "doctor", *gateway, *trust):
        assert command in help_text
        assert f"bisupervised {command}" in readme
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0


def test_the_command_runs_as_a_module_and_closes_quietly_on_a_closed_pipe(predictions: Path) -> None:
    command = f"{sys.executable} -m bisupervised evaluate {predictions} --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "{"
    assert done.stderr == ""


def test_rows_of_a_gateways_log_are_chosen_by_mode_and_cascade(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from bisupervised import DecisionLog
    from bisupervised.decision_log.details import Details
    from fakes import system

    log = DecisionLog(tmp_path / "log.db")
    for number in range(40):
        with system([0.1], [0.9]) as running:
            outcome = running.predict(0, id_=str(number))
        mode = "observe" if number % 2 else "enforce"
        details = Details(number, "a", mode, "remote", 200, "t", None)
        log.write([replace(outcome, id=str(number))], [number], [details])
        log.flush()
        log.label(str(number), outcome.remote_prediction)
    log.close()
    source = str(tmp_path / "log.db")
    assert main(["evaluate", source, "--mode", "observe", "--local-threshold", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 20
    assert main(["evaluate", source, "--cascade", "b"]) == 2
    assert "no row's cascade is 'b'; there are: a" in capsys.readouterr().err
    plain = tmp_path / "plain.csv"
    columns = "id,label,local_prediction,local_confidence,remote_prediction,remote_confidence"
    plain.write_text(f"{columns}\na,1,1,0.5,1,0.5\n")
    assert main(["evaluate", str(plain), "--mode", "observe"]) == 2
    assert "the decision log of a gateway" in capsys.readouterr().err


# ---------------------------------------------------------------- calibrate with a promise


def test_calibrate_with_limits_writes_what_is_promised_and_says_it(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "thresholds.toml"
    options = ["--max-risk", "0.25", "--delta", "0.2", "--max-request-rate", "0.6", "--out", str(out)]
    assert main(["calibrate", str(predictions), *options]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "With confidence 0.8: risk at most 0.25 and request rate at most 0.6 (n = 600)." in printed
    assert "independent draws from one source" in printed
    guarantee = tomllib.loads(out.read_text())["evidence"]["guarantee"]
    assert guarantee["guarantee"] == {"risk": 0.25, "request_rate": 0.6}
    assert guarantee["bounds"]["risk"] <= 0.25
    assert main(["calibrate", str(predictions), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evidence"]["guarantee"]["delta"] == 0.2


def test_what_a_promise_leaves_out_is_said(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predictions.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    unlabelled = [",".join([cell[0], "" if row % 3 == 0 else cell[1], *cell[2:]]) for row, cell in enumerate(cells)]
    predictions.write_text("\n".join([lines[0], *unlabelled]) + "\n")
    out = str(tmp_path / "thresholds.toml")
    assert main(["calibrate", str(predictions), "--max-risk", "0.25", "--out", out]) == 0
    assert "200 of 600 rows have no label, or not both models' answers, and are left out" in capsys.readouterr().out


def test_calibrate_says_infeasible_with_what_would_do(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "thresholds.toml"
    assert main(["calibrate", str(predictions), "--max-risk", "0.02", "--out", str(out)]) == 2
    assert (
        "infeasible: with n = 600 labelled rows the lowest risk that can be certified is" in capsys.readouterr().err
    )
    assert not out.exists(), "no silent number"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-risk", "0.1", "--target", "remote-even"], "--max-risk goes with --target within-limits"),
        (["--max-risk", "0.1", "--delta", "0.1", "--no-guarantee"], "give one of them"),
        (["--no-guarantee"], "--no-guarantee goes with --max-risk"),
        (["--delta", "0.1"], "--delta goes with"),
        (["--max-risk", "5"], "write 30 % as 0.3"),
        (["--target", "within-limits"], "give at least one limit"),
        (["--min-rows", "5"], "--min-rows goes with --by"),
        (["--by", "tenant"], "there is no column tenant to group by"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["calibrate", str(predictions), *options, "--out", str(tmp_path / "out.toml")]) == 2
    assert words in capsys.readouterr().err


def test_each_group_has_thresholds_of_its_own_or_a_reason(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predictions.read_text().splitlines()
    tenants = ["a/b" if row < 300 else "a b" if row < 590 else "small" for row in range(600)]
    lines = [lines[0] + ",tenant", *(f"{line},{tenant}" for line, tenant in zip(lines[1:], tenants, strict=True))]
    predictions.write_text("\n".join(lines) + "\n")
    options = ["calibrate", str(predictions), "--by", "tenant", "--max-risk", "0.3", "--out", str(tmp_path / "of")]
    assert main(options) == 1, "one group has none"
    printed = capsys.readouterr().out
    assert "10 rows, fewer than the 50 asked for of a group" in printed
    assert sorted(path.name for path in (tmp_path / "of").iterdir()) == ["a_b-2.toml", "a_b.toml"], "no two alike"
    assert main([*options, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["groups"]["a/b"]["evidence"]["group"] == {"tenant": "a/b"}
    assert shown["groups"]["a/b"]["evidence"]["guarantee"]["n"] == 300
    assert "infeasible" in shown["groups"]["small"]


def test_evaluate_judges_an_abstention_threshold(predictions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = ["evaluate", str(predictions), "--local-threshold", "0.8", "--abstain-threshold", "0.6", "--json"]
    assert main(judged) == 0
    ours = json.loads(capsys.readouterr().out)["systems"]["bisupervised"]
    assert ours["early_abstention"]["value"] == pytest.approx(0.2, abs=0.05)
    assert ours["request_rate"]["value"] == pytest.approx(0.4, abs=0.05)
    assert main(["evaluate", str(predictions), "--abstain-threshold", "0.6"]) == 2
    assert "--abstain-threshold goes with --local-threshold" in capsys.readouterr().err


def test_thresholds_remember_how_the_confidences_were_read(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration, out = tmp_path / "local.json", tmp_path / "thresholds.toml"
    assert main(["calibrate-confidence", str(predictions), "--method", "beta", "--out", str(calibration)]) == 0
    read_so = ["--local-confidence-calibration", str(calibration)]
    assert main(["calibrate", str(predictions), *read_so, "--max-request-rate", "0.3", "--out", str(out)]) == 0
    capsys.readouterr()
    for command in (
        ["evaluate", "--no-report", "--thresholds"],
        ["compare", "--thresholds"],
        ["drift", "--against"],
        ["adapt", "--request-rate", "0.3", "--out", str(tmp_path / "proposed.toml"), "--against"],
        ["calibrate", "--out", str(tmp_path / "new.toml"), "--supervisors-of"],
    ):
        assert main([command[0], str(predictions), *command[1:], str(out)]) == 2
        assert "read with --local-confidence-calibration local.json: give it here too" in capsys.readouterr().err
    assert main(["evaluate", str(predictions), *read_so, "--thresholds", str(out), "--json"]) == 0
    plain = tmp_path / "plain.toml"
    assert main(["calibrate", str(predictions), "--max-request-rate", "0.3", "--out", str(plain)]) == 0
    assert main(["evaluate", str(predictions), *read_so, "--thresholds", str(plain), "--json"]) == 2
    assert "leave it out, or calibrate with it" in capsys.readouterr().err
