from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration import RequestBudget, Thresholds
from bisupervised.calibration.targets import describe
from bisupervised.errors import ThresholdError

NAN, INF = float("nan"), float("inf")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | text
    | st.builds(np.float64, st.floats(allow_nan=False))
    | st.builds(np.int64, st.integers(-9, 9)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
some = st.dictionaries(text, values, max_size=4)


@settings(deadline=None, max_examples=200)
@given(st.floats(allow_nan=False), st.floats(allow_nan=False), some, some, some)
def test_a_file_gives_back_what_was_written_under_the_same_id(
    tmp_path_factory: pytest.TempPathFactory,
    local: float,
    remote: float,
    target: dict,
    evidence: dict,
    achieved: dict,
) -> None:
    path = tmp_path_factory.getbasetemp() / "thresholds.toml"
    first = Thresholds(local, remote, target, evidence, achieved)
    first.save(path)
    again = Thresholds.load(path)
    assert (again.local, again.remote) == (local, remote)
    assert math.copysign(1, again.local) == math.copysign(1, local)
    assert again.id == first.id
    assert again.to_toml() == first.to_toml()
    for name, value in target.items():
        if isinstance(value, str | bool | int | float):
            assert again.target[name] == value


@pytest.mark.parametrize("value", [INF, -INF, -0.0, 1e-300, 1e300, 0.1, 5e-324, 123456789.123456789])
def test_every_number_survives(tmp_path: Path, value: float) -> None:
    Thresholds(value, -value).save(tmp_path / "t.toml")
    again = Thresholds.load(tmp_path / "t.toml")
    assert (again.local, again.remote) == (value, -value)


@pytest.mark.parametrize(
    "words",
    ['say "so"', "back\\slash", "line\nbreak\r\n", "tab\t\x00\x1f\x7f\x85\u2028", "ünï-日本-🙂", "'''\"\"\"", ""],
)
def test_every_text_survives_as_value_and_as_name(tmp_path: Path, words: str) -> None:
    Thresholds(0.5, 0.5, {words: words, "list": [words, [words]]}).save(tmp_path / "t.toml")
    assert Thresholds.load(tmp_path / "t.toml").target == {words: words, "list": [words, [words]]}


def test_numbers_of_numpy_become_plain_numbers() -> None:
    made = Thresholds(np.float64(0.25), np.float32(0.5), {"points": np.int64(400), "exact": np.bool_(True)})
    assert type(made.local) is type(made.remote) is float
    read = tomllib.loads(made.to_toml())
    assert read["thresholds"] == {"local": 0.25, "remote": 0.5}
    assert read["target"] == {"points": 400, "exact": True}
    assert made.id == Thresholds(0.25, 0.5, {"points": 400, "exact": True}).id


def test_a_target_without_a_2nd_level_keeps_its_id(tmp_path: Path) -> None:
    made = Thresholds(0.5, -INF, describe(RequestBudget(0.3, false_alarm_rate=None)))
    made.save(tmp_path / "t.toml")
    again = Thresholds.load(tmp_path / "t.toml")
    assert again.id == made.id
    assert again.target == {"name": "request_budget", "request_rate": 0.3}


def test_the_id_changes_with_the_thresholds_the_target_and_the_evidence() -> None:
    first = Thresholds(0.5, 0.6, {"name": "remote_even"}, {"seed": 0}, {"coverage": 0.9})
    others = [
        replace(first, local=0.5000000001),
        replace(first, remote=INF),
        Thresholds(0.6, 0.5, first.target, first.evidence),
        replace(first, target={"name": "best_accuracy"}),
        replace(first, evidence={"seed": 1}),
        replace(first, evidence={}),
        replace(first, target=first.evidence, evidence=first.target),
    ]
    assert len({first.id, *(other.id for other in others)}) == 8
    assert replace(first, achieved={}).id == first.id
    assert len(first.id) == 12
    assert int(first.id, 16) >= 0
    assert f'id = "{first.id}"' in first.to_toml()


@pytest.mark.parametrize("threshold", [NAN, None, "high", [0.5]])
def test_a_threshold_that_is_no_number_is_refused(threshold: object) -> None:
    with pytest.raises(ThresholdError, match="remote threshold"):
        Thresholds(0.5, threshold)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "needs a [thresholds] table"),
        (b"[thresholds]\nlocal = 0.5\n", "needs a [thresholds] table"),
        (b"thresholds = 0.5", "needs a [thresholds] table"),
        (b"[thresholds]\nlocal = nan\nremote = 0.5", "thresholds.local is NaN"),
        (b"[thresholds]\nlocal = 0.5\nremote = '0.5'", "thresholds.remote must be a number, not '0.5'"),
        (b"[thresholds]\nlocal = true\nremote = 0.5", "thresholds.local must be a number, not True"),
        (b"[thresholds]\nlocal = [0.5]\nremote = 0.5", "thresholds.local must be a number"),
        (b"[thresholds]\nlocal = 1979-05-27\nremote = 0.5", "thresholds.local must be a number"),
        (b"[thresholds]\nlocal = 1" + b"0" * 400 + b"\nremote = 0.5", "too large a number"),
        (b"target = 3\n[thresholds]\nlocal = 1\nremote = 0.5", "target must be a table"),
        (b"evidence = []\n[thresholds]\nlocal = 1\nremote = 0.5", "evidence must be a table"),
        (b"[thresholds\nlocal = 0.5", "cannot be read as a thresholds file"),
        (b"\xff\xfe\x00", "cannot be read as a thresholds file"),
        (b"a = " + b"[" * 100_000, "cannot be read as a thresholds file"),
        (b"local,remote\n0.5,0.5\n", "cannot be read as a thresholds file"),
    ],
    ids=range(15),
)
def test_a_file_that_is_none_is_refused_with_its_name_and_what_is_wrong(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "thresholds.toml"
    path.write_bytes(content)
    with pytest.raises(ThresholdError) as caught:
        Thresholds.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_cut_off_anywhere_is_refused_or_is_the_same_thresholds(tmp_path: Path) -> None:
    made = Thresholds(0.125, 0.75, {"name": "remote_even"}, {"seed": 7})
    whole = made.to_toml().encode()
    path = tmp_path / "thresholds.toml"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            found = Thresholds.load(path)
        except ThresholdError:
            continue
        # TOML does not tell that a number or a table lacks its end; the id does.
        assert found.id != made.id or end >= whole.rindex(b"7")


def test_a_file_that_is_not_there_says_which_command_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ThresholdError, match="`bisupervised calibrate` writes one"):
        Thresholds.load(tmp_path / "none.toml")
    with pytest.raises(ThresholdError, match="cannot be read"):
        Thresholds.load(tmp_path)


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.toml"
    Thresholds(0.1, 0.2).save(path)
    Thresholds(0.3, 0.4).save(str(path))
    assert Thresholds.load(str(path)).local == 0.3
    assert [one.name for one in tmp_path.iterdir()] == ["thresholds.toml"]
