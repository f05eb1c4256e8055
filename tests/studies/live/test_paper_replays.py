"""The paper's recorded outputs as numbers tables."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bisupervised.errors import TableError
from bisupervised.studies.live.paper_replays import imagenet_replay, squadv2_replay
from bisupervised.studies.live.study import SourceMissing
from bisupervised.studies.paper import load_paper_study

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(not (DATA / "squad").exists(), reason="../shared/data is missing"),
]


@pytest.fixture(scope="module")
def published():
    return {study.name: study.table for study in load_paper_study(DATA / "paper")}


class TestTheData:
    pytestmark = needs_data

    def test_squadv2_is_what_the_authors_published(self, published):
        table, there = squadv2_replay(DATA), published["SQuADv2 (all)"]
        assert len(table) == 10_669
        for level in ("local", "remote"):
            np.testing.assert_array_equal(table.correct(level), there.correct(level))
            np.testing.assert_allclose(table.level(level).confidences, there.level(level).confidences, rtol=1e-12)
            np.testing.assert_allclose(table.level(level).latency_s, there.level(level).latency_s, rtol=1e-12)
        possible = np.asarray(there.extra["is_possible"], dtype=float)
        np.testing.assert_array_equal(table.extra["is_possible"], possible)

    def test_squadv2_tells_which_questions_are_on_one_passage_and_holds_no_texts(self):
        table = squadv2_replay(DATA)
        passages = np.asarray(table.extra["passage"], dtype=float)
        assert len(np.unique(passages)) > 1000
        assert np.unique(passages).tolist() == list(range(len(np.unique(passages))))
        for column in table.extra.values():
            assert np.isfinite(np.asarray(column, dtype=float)).all()

    def test_imagenet_is_what_the_authors_published(self, published):
        table, there = imagenet_replay(DATA), published["ImageNet"]
        assert len(table) == 50_000
        assert len(set(table.ids.tolist())) == 50_000
        for level in ("local", "remote"):
            np.testing.assert_array_equal(table.correct(level), there.correct(level))
            np.testing.assert_array_equal(table.level(level).confidences, there.level(level).confidences)


def test_missing_data_say_how_to_get_them(tmp_path):
    with pytest.raises(SourceMissing, match="replication package"):
        squadv2_replay(tmp_path)
    with pytest.raises(TableError, match="there is no"):
        imagenet_replay(tmp_path)


@pytest.mark.parametrize("content", [b"{}\n", b"no json\n", b"[1]\n"])
def test_a_file_that_is_another_is_refused_with_words(tmp_path, content):
    (tmp_path / "squad").mkdir()
    with gzip.open(tmp_path / "squad" / "squadv2_paper_rows.jsonl.gz", "wb") as file:
        file.write(content)
    with pytest.raises(TableError, match="cannot be read"):
        squadv2_replay(tmp_path)


def test_half_a_file_is_refused_with_words(tmp_path):
    (tmp_path / "squad").mkdir()
    path = tmp_path / "squad" / "squadv2_paper_rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * 100_000)[:60])
    with pytest.raises(TableError, match="cannot be read"):
        squadv2_replay(tmp_path)
