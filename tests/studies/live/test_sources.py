"""Files that a study needs: missing, changed, as they were; and sums that are computed once."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from bisupervised.errors import InputError
from bisupervised.studies.live import sources
from bisupervised.studies.live.sources import all_found, checksum, found
from bisupervised.studies.live.study import Source, SourceChanged, SourceMissing


def source_at(path: Path, sha256: str | None = None) -> Source:
    return Source("the small model", path, "its makers, 2024", "CC BY 4.0", "pip download the-model", sha256)


def test_a_missing_file_says_what_where_how_and_under_which_licence(tmp_path):
    with pytest.raises(SourceMissing) as raised:
        found(source_at(tmp_path / "model.bin"))
    for part in ("the small model", str(tmp_path / "model.bin"), "pip download the-model", "CC BY 4.0"):
        assert part in str(raised.value)
    assert isinstance(raised.value, InputError)


def test_a_file_with_the_expected_sum_is_found_and_one_without_any_sum_too(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    assert found(source_at(path)) == path
    assert found(source_at(path, hashlib.sha256(b"weights").hexdigest())) == path


def test_another_file_of_that_name_is_refused_with_both_sums(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"other")
    with pytest.raises(SourceChanged) as raised:
        found(source_at(path, "0" * 64))
    assert "0" * 64 in str(raised.value)
    assert hashlib.sha256(b"other").hexdigest() in str(raised.value)


def test_all_problems_are_told_at_once(tmp_path):
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(SourceMissing) as raised:
        all_found([source_at(tmp_path / "a"), source_at(tmp_path / "b", "0" * 64)])
    assert len(str(raised.value).splitlines()) == 2
    with pytest.raises(SourceChanged):
        all_found([source_at(tmp_path / "b", "0" * 64)])
    all_found([source_at(tmp_path / "b")])


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as a large one."""
    monkeypatch.setattr(sources, "_BLOCK", 4)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(1000))
    return path


def test_the_sum_of_a_large_file_is_remembered_until_the_file_changes(large):
    right = checksum(large)
    assert right == hashlib.sha256(bytes(1000)).hexdigest()
    memory = large.with_name("large.bin.sha256.json")
    kept = json.loads(memory.read_text())
    memory.write_text(json.dumps({**kept, "sha256": "remembered"}))
    assert checksum(large) == "remembered"
    large.write_bytes(bytes(999) + b"x")
    os.utime(large, ns=(kept["state"][1] + 1, kept["state"][1] + 1))
    assert checksum(large) == hashlib.sha256(bytes(999) + b"x").hexdigest()


@pytest.mark.parametrize("damaged", ["", "[]", "{}", "null", '{"state": 1}'])
def test_a_damaged_memory_is_not_believed(large, damaged):
    large.with_name("large.bin.sha256.json").write_text(damaged)
    assert checksum(large) == hashlib.sha256(bytes(1000)).hexdigest()


def test_the_sum_of_a_small_file_leaves_nothing_behind(tmp_path):
    (tmp_path / "small").write_bytes(b"x")
    checksum(tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
