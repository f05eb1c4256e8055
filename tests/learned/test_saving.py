"""Learned supervisors in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.learned import (
    Arbiter,
    DeferralHead,
    PairSupervisor,
    StackedSupervisor,
    fit_pair,
    learned_from_file,
    refuse_fitting_rows,
    save_learned,
)
from learned.made import both_of, made_table
from learned.test_supervisors import Shares

KINDS = (StackedSupervisor, DeferralHead, PairSupervisor, Arbiter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 30])
def test_a_supervisor_comes_back_to_the_last_bit(kind, classes, tmp_path: Path):
    fitting, new = made_table(400, 0, classes=classes, gaps=0.1), made_table(100, 1, classes=classes, gaps=0.1)
    supervisor = kind.fit(fitting)
    path = tmp_path / "supervisor.npz"
    save_learned(supervisor, path)
    again = learned_from_file(path)
    assert type(again) is kind
    assert again.columns == supervisor.columns
    before, after = (getattr(one.of_table(new), "confidences", one.of_table(new)) for one in (supervisor, again))
    assert np.array_equal(before, after, equal_nan=True)
    if kind is Arbiter:
        assert np.array_equal(again(both_of(new)).local_preferred, supervisor(both_of(new)).local_preferred)
    with pytest.raises(InputError, match="are among the"):
        refuse_fitting_rows(again, fitting)
    assert [file.name for file in tmp_path.iterdir()] == ["supervisor.npz"]


def test_what_cannot_be_saved_is_said(tmp_path: Path):
    table = made_table(200, 0)
    with pytest.raises(InputError, match="no file holds an estimator of yours"):
        save_learned(StackedSupervisor.fit(table, estimator=Shares()), tmp_path / "a")
    with pytest.raises(InputError, match=r"not a CrossFitted; of a cross-fitted one, save its \.supervisor"):
        save_learned(fit_pair(table), tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_learned(PairSupervisor.fit(table), tmp_path / "file" / "a")
    with pytest.raises(InputError, match="there is no file"):
        learned_from_file(tmp_path / "nothing")


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, np.ndarray]:
    save_learned(Arbiter.fit(made_table(200, 0, classes=20)), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        return {name: file[name] for name in file.files}


def written(entries: dict, tmp_path: Path) -> Path:
    with open(tmp_path / "forged.npz", "wb") as file:
        np.savez(file, **entries)
    return tmp_path / "forged.npz"


@pytest.mark.parametrize(
    ("name", "forge"),
    [
        ("both/weights", lambda a: a[:, 1:]),
        ("both/weights", lambda a: a[:1]),
        ("both/weights", lambda a: np.where(np.arange(a.shape[1]) == 1, np.nan, a)),
        ("both/weights", lambda a: a.astype(str)),
        ("local/effects", lambda a: a[:, 1:]),
        ("both/0/knots", lambda a: a[::-1]),
        ("both/0/ranks", lambda a: a[:-1]),
        ("both/1/knots", lambda a: a[:0]),
        ("remote/0/knots", lambda a: a.reshape(1, -1)),
        ("fitted_on", lambda a: a[::-1]),
        ("fitted_on", lambda a: a.astype(float)),
    ],
)
def test_forged_arrays_are_refused(entries, tmp_path: Path, name: str, forge):
    path = written({**entries, name: forge(entries[name])}, tmp_path)
    with pytest.raises(InputError, match="holds no arbiter supervisor that can be used"):
        learned_from_file(path)
    del entries[name]
    with pytest.raises(InputError, match="holds no arbiter supervisor that can be used"):
        learned_from_file(written(entries, tmp_path))


@pytest.mark.parametrize(
    "forge",
    [
        lambda head: {**head, "format": 2},
        lambda head: {**head, "kind": "pickle"},
        lambda head: {**head, "kind": ["arbiter"]},
        lambda head: {**head, "kind": "pair"},
        lambda head: {**head, "kind": "stacked"},
        lambda head: {**head, "heads": {}},
        lambda head: {**head, "heads": None},
        lambda head: {**head, "columns": "abc"},
        lambda head: {**head, "columns": [1]},
        lambda head: [head],
        lambda head: {**head, "heads": {**head["heads"], "both": {**head["heads"]["both"], "agreement": "yes"}}},
        lambda head: {**head, "heads": {**head["heads"], "both": {**head["heads"]["both"], "numbers": []}}},
        lambda head: {
            **head,
            "heads": {**head["heads"], "both": {**head["heads"]["both"], "labels": [["a", ["b"]]]}},
        },
        lambda head: {**head, "heads": {**head["heads"], "both": {**head["heads"]["both"], "classes": 5}}},
    ],
)
def test_forged_heads_are_refused(entries, tmp_path: Path, forge):
    head = forge(json.loads(str(entries["learned"])))
    with pytest.raises(InputError, match="holds"):
        learned_from_file(written({**entries, "learned": np.array(json.dumps(head))}, tmp_path))


def test_files_that_are_none_are_refused(entries, tmp_path: Path):
    path = tmp_path / "x"
    whole = (tmp_path / "good.npz").read_bytes()
    objects = {**entries, "both/weights": np.array([{"a": 1}], dtype=object)}
    for content in (b"", b"PK\x03\x04", b"{}", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds no learned supervisor"):
            learned_from_file(path)
    with pytest.raises(InputError, match="holds no learned supervisor"):
        learned_from_file(written(objects, tmp_path))  # a pickle, which is not opened
    with pytest.raises(InputError, match="holds no learned supervisor"):
        learned_from_file(tmp_path)
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(middle))
    with pytest.raises(InputError, match="holds"):
        learned_from_file(path)
