"""The studies by name: what is not there is said, with what to do."""

import pytest

from bisupervised.errors import InputError
from bisupervised.studies.live import registry
from bisupervised.studies.live.numbers_file import About, Numbers, write_numbers_file
from bisupervised.studies.live.registry import STUDIES, numbers_by_name, study_by_name
from bisupervised.studies.live.study import SourceMissing
from bisupervised.table import Table


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_which_data_it_misses(name, tmp_path):
    with pytest.raises(SourceMissing, match="How to get it"):
        study_by_name(name, tmp_path, tmp_path)


def test_an_unknown_study_and_a_limit_that_is_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="no live study is called 'mnist'"):
        study_by_name("mnist", tmp_path, tmp_path)
    with pytest.raises(InputError, match="1 or more, not 0"):
        study_by_name("imdb", tmp_path, tmp_path, 0)


def test_a_package_that_is_not_installed_is_named(monkeypatch, tmp_path):
    def absent(name):
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    monkeypatch.setattr(registry.importlib, "import_module", absent)
    with pytest.raises(InputError, match="needs the package PIL"):
        study_by_name("imagenet", tmp_path, tmp_path)


def test_numbers_are_read_from_a_folder_or_from_the_package(tmp_path, monkeypatch):
    table = Table.from_columns(
        {"id": ["a"], "local_correct": [1.0], "remote_correct": [0.0], "local_confidence": [0.5]}
        | {"remote_confidence": [0.25], "part": ["report"]}
    )
    folder = tmp_path / "numbers"
    write_numbers_file(Numbers(About("imdb", "Reviews", ("imdb",), "accuracy"), table), folder / "imdb.parquet")
    assert numbers_by_name("imdb", folder).about.title == "Reviews"
    with pytest.raises(InputError, match=r"no .*issues\.parquet: .*--live --numbers"):
        numbers_by_name("issues", folder)
    monkeypatch.setattr(registry, "files", lambda _: tmp_path)  # as if they came with the package
    assert numbers_by_name("imdb").table.remote.confidences.tolist() == [0.25]
    with pytest.raises(InputError, match="no recorded numbers of issues come with this version"):
        numbers_by_name("issues")
