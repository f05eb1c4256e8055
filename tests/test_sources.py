"""Files in, one table out, and back."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bisupervised import read_table, write_table
from bisupervised.errors import TableError
from bisupervised.quantifiers import SoftmaxEntropy
from bisupervised.records import LevelRows
from bisupervised.sources import read_columns
from bisupervised.table import Table

CSV = """id,label,local_prediction,local_confidence,remote_prediction,remote_confidence,remote_error
a,pos,pos,0.9,pos,0.8,
b,neg,pos,0.4,neg,0.95,
c,neg,neg,0.7,,,timeout: no answer in 5 s
"""


def put(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_becomes_a_table(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, CSV))
    assert table.ids.tolist() == ["a", "b", "c"]
    assert table.correct("local").tolist() == [1.0, 0.0, 1.0]
    assert table.correct("remote").tolist() == [1.0, 1.0, 0.0]
    assert np.isnan(table.remote.confidences[2])
    assert table.remote.errors.tolist() == [None, None, "timeout: no answer in 5 s"]
    assert "1 of 3 remote replies are errors" in table.notes


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    table = read_table(put(tmp_path, CSV))
    path = tmp_path / f"again{suffix}"
    write_table(table, path)
    again = read_table(path)
    for level in ("local", "remote"):
        np.testing.assert_array_equal(table.correct(level), again.correct(level))
        np.testing.assert_array_equal(table.level(level).confidences, again.level(level).confidences)
        assert table.level(level).errors.tolist() == again.level(level).errors.tolist()
    assert again.ids.tolist() == table.ids.tolist()
    assert not list(tmp_path.glob("*.part"))


def test_probabilities_and_tokens_survive_a_round_trip(tmp_path: Path) -> None:
    text = (
        "id,label,local_proba_neg,local_proba_pos,remote_prediction,remote_token_logprobs\n"
        'a,pos,0.25,0.75,pos,"[-0.1, -0.2]"\nb,neg,0.5,0.5,neg,[]\n'
    )
    table = read_table(put(tmp_path, text), quantifiers={"local": SoftmaxEntropy()})
    assert table.local.predictions.tolist() == ["pos", "neg"]
    assert table.local.confidences[0] == pytest.approx(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert table.remote.confidences[0] == pytest.approx(np.exp(-0.2))
    assert np.isnan(table.remote.confidences[1])
    write_table(table, tmp_path / "again.parquet")
    again = read_table(tmp_path / "again.parquet")
    np.testing.assert_allclose(again.local.probabilities, [[0.25, 0.75], [0.5, 0.5]])
    assert again.remote.token_logprobs[0].tolist() == [-0.1, -0.2]


def test_two_one_model_files_are_joined_on_id_with_the_papers_names(tmp_path: Path) -> None:
    local = put(
        tmp_path, "index,prediction,ground_truth,sm_confidence,pred_time\n0,1,1,0.9,0.1\n1,0,1,0.6,0.1\n", "l.csv"
    )
    remote = put(
        tmp_path, "id,prediction,ground_truth,sm_confidence,pred_time\n1,1,1,0.8,0.5\n0,0,1,0.7,0.4\n", "r.csv"
    )
    table = read_table(local, remote)
    assert table.correct("local").tolist() == [1.0, 0.0]
    assert table.correct("remote").tolist() == [0.0, 1.0]
    assert table.remote.latency_s.tolist() == [0.4, 0.5]


def test_columns_of_other_names_are_mapped_and_costs_given(tmp_path: Path) -> None:
    path = put(tmp_path, "key,ok_small,ok_big,small,big\nx,1,1,.5,.6\ny,0,1,.4,.9\n")
    names = {
        "id": "key",
        "local_correct": "ok_small",
        "remote_correct": "ok_big",
        "local_confidence": "small",
        "remote_confidence": "big",
    }
    table = read_table(path, rename=names, costs={"remote": 0.002})
    assert table.ids.tolist() == ["x", "y"]
    assert table.remote.cost.tolist() == [0.002, 0.002]
    assert table.local.cost.tolist() == [0.0, 0.0]  # the model at hand, unless somebody says
    assert np.isnan(read_table(path, rename=names).local.cost).all()


def test_texts_longer_than_the_csv_modules_limit_are_read_and_the_limit_is_left_as_it_was(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    columns = read_columns(put(tmp_path, f"id,text\n1,{'long ' * 60_000}\n"))
    assert len(columns["text"][0]) == 300_000
    assert csv.field_size_limit() == limit


def test_semicolons_tabs_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    assert list(read_columns(put(tmp_path, "\ufeffid;x\n1;2\n"))) == ["id", "x"]
    assert list(read_columns(put(tmp_path, "id\tx\n1\t2\n"))) == ["id", "x"]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "rows.csv", "is empty"),
        ("id,local_confidence\n", "rows.csv", "no rows"),
        ("id,x\n1,2,3\n", "rows.csv", "row 2: 3 cells under 2 column names"),
        ("id,x,x\n1,2,3\n", "rows.csv", "two columns of the same name: x"),
        ('id,x\n1,"open\n', "rows.csv", "not well-formed CSV"),
        ('{"id": 1}\n{"id": \n', "rows.jsonl", "line 2: not JSON"),
        ("[1]\n", "rows.jsonl", "line 1: a JSON object"),
        ("PAR1 and no more", "rows.parquet", "cannot be read as Parquet"),
        ("id,a\n1,2\n", "rows.csv", "no local_confidence"),
    ],
)
def test_a_source_that_cannot_be_used_says_why(tmp_path: Path, text: str, name: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        read_table(put(tmp_path, text, name))


def test_a_missing_file_a_folder_and_binary_rubbish_say_so(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(TableError, match="is a folder"):
        read_table(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(TableError, match="not UTF-8"):
        read_table(tmp_path / "x.csv")


def test_jsonl_keeps_kinds_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, CSV))
    write_table(table, tmp_path / "t.jsonl")
    last = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[-1])
    assert last["remote_confidence"] is None
    assert last["local_confidence"] == 0.7
    with pytest.raises(TableError, match=r"\.csv, \.jsonl or \.parquet"):
        write_table(table, tmp_path / "t.xlsx")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_text_with_odd_line_separators_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    answers = ["one\u2028two\u0085three", "four\r\nfive", "six"]
    path = tmp_path / name
    rows = [{"id": str(n), "local_prediction": a, "local_confidence": 0.5} for n, a in enumerate(answers)]
    if name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), newline="")
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    assert read_columns(path)["local_prediction"].tolist() == answers


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_logits_and_features_survive_a_round_trip_to_the_last_bit(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    rows = LevelRows.empty(20)
    features = rng.normal(size=(20, 12)).astype(np.float32)
    features[3] = np.nan
    logits = rng.normal(size=(20, 2)) * 1e-7
    logits[4, 0] = -np.inf
    local = replace(
        rows,
        predictions=np.array(["a", "b"] * 10, dtype=object),
        confidences=rng.random(20),
        asked=np.ones(20, bool),
        features=features,
        logits=logits,
        classes=np.array(["a", "b"]),
    )
    table = Table(np.arange(20).astype(str), None, local, replace(local, logits=None, features=None))
    write_table(table, tmp_path / f"t{suffix}")
    back = read_table(tmp_path / f"t{suffix}")
    np.testing.assert_array_equal(back.local.features, features.astype(np.float64))
    np.testing.assert_array_equal(back.local.logits, logits)
    assert back.local.classes.tolist() == ["a", "b"]
    assert (back.remote.features, back.remote.logits) == (None, None)
