"""A confidence calibration in a file gives what it gave, and nothing else passes for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.fitting_rows import row_hashes
from bisupervised.probability_calibration import BetaCalibration, IsotonicCalibration, TemperatureScaling, VennAbers
from bisupervised.probability_calibration_file import (
    calibration_fitting_rows,
    confidence_calibration_from_file,
    save_confidence_calibration,
)

KINDS = pytest.mark.parametrize("kind", [IsotonicCalibration, BetaCalibration, VennAbers])


def fitted(kind: Any, n: int = 100) -> Any:
    rng = np.random.default_rng(0)
    confidences = rng.random(n)
    return kind.fit(confidences, rng.random(n) < confidences)


@KINDS
def test_a_file_gives_it_back_to_the_last_bit(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "local.json"
    calibration, rows = fitted(kind), row_hashes(["a", "b"], [0, 1])
    save_confidence_calibration(calibration, path, fitting_rows=rows, about={"rows": 2})
    again = confidence_calibration_from_file(path)
    confidences = np.array([0.0, 0.1, np.nan, 0.999, 1.0])
    assert type(again) is kind
    assert again(confidences).tobytes() == calibration(confidences).tobytes()
    np.testing.assert_array_equal(calibration_fitting_rows(path), np.sort(rows))
    assert json.loads(path.read_text())["about"] == {"rows": 2}
    assert [one.name for one in tmp_path.iterdir()] == ["local.json"], "nothing unfinished is left behind"


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.booleans()), min_size=1, max_size=20))
def test_any_confidences_can_have_been_fitted_on(tmp_path_factory: Any, rows: list[tuple[float, bool]]) -> None:
    path = tmp_path_factory.mktemp("calibration") / "c.json"
    confidences = np.array([confidence for confidence, _ in rows])
    for kind in (IsotonicCalibration, VennAbers):
        calibration = kind.fit(confidences, np.array([right for _, right in rows]))
        save_confidence_calibration(calibration, path)
        again = confidence_calibration_from_file(path)
        np.testing.assert_array_equal(again(confidences), calibration(confidences))
    assert calibration_fitting_rows(path).size == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no confidence calibration"),
        ("[1]", "`bisupervised calibrate-confidence` writes one"),
        ('{"format": 2, "confidence_calibration": {}}', "is of format 2; this version reads format 1"),
        ('{"format": 1, "confidence_calibration": {"method": "magic"}}', "'magic' is unknown"),
        ('{"format": 1, "confidence_calibration": {"method": "beta", "a": 1}}', "can be used"),
        ('{"format": 1, "confidence_calibration": {"method": "beta", "a": -1, "b": 1, "c": 0}}', "can be used"),
        ('{"format": 1, "confidence_calibration": [1]}', "can be used"),
        (
            '{"format": 1, "confidence_calibration": {"method": "isotonic", "starts": [0, 1], "values": [0.9, 0.1]}}',
            "the values do not fall",
        ),
        (
            '{"format": 1, "confidence_calibration": {"method": "isotonic", "starts": [1, 0], "values": [0.1, 0.9]}}',
            "the starts rise",
        ),
        (
            '{"format": 1, "confidence_calibration": {"method": "isotonic", "starts": [0, 1], "values": [0.1]}}',
            "one value for each start",
        ),
        (
            '{"format": 1, "confidence_calibration": {"method": "isotonic", "starts": [], "values": []}}',
            "one value for each start",
        ),
        (
            '{"format": 1, "confidence_calibration": {"method": "isotonic", "starts": [0], "values": [NaN]}}',
            "lie in",
        ),
        (
            '{"format": 1, "confidence_calibration": '
            '{"method": "venn_abers", "starts": [0], "lower": [0.9], "upper": [0.1]}}',
            "at or below the upper",
        ),
    ],
)
def test_a_file_that_holds_none_says_so(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        confidence_calibration_from_file(path)


def test_it_says_whose_rows_it_was_fitted_on_and_is_refused_for_the_other_level(tmp_path: Path) -> None:
    path = tmp_path / "new" / "er" / "c.any"
    hashes = row_hashes(["a", "b"])
    save_confidence_calibration(fitted(BetaCalibration), path, level="remote", fitting_rows=hashes)
    for read in (confidence_calibration_from_file, calibration_fitting_rows):
        read(path)
        read(path, "remote")
        with pytest.raises(
            InputError, match=r"rows of the remote model, and is given for the local one: .*level local"
        ):
            read(path, "local")
    save_confidence_calibration(fitted(BetaCalibration), path)
    confidence_calibration_from_file(path, "local")  # whose rows they were is not known


def test_a_missing_file_says_what_writes_one_and_a_temperature_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibrate-confidence"):
        confidence_calibration_from_file(tmp_path / "c.json")
    save_confidence_calibration(TemperatureScaling(1.5), tmp_path / "t.json")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"temperature = 1\.5"):
        confidence_calibration_from_file(tmp_path / "t.json")
    (tmp_path / "no").write_text("no folder")
    with pytest.raises(InputError, match="cannot write"):
        save_confidence_calibration(fitted(BetaCalibration), tmp_path / "no" / "c.json")
