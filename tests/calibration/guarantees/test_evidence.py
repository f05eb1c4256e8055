"""Results, in words and as plain values."""

from __future__ import annotations

import json

import pytest

from bisupervised.calibration import Thresholds
from bisupervised.calibration.guarantees import Certified, Infeasible
from bisupervised.calibration.rule import Rule
from bisupervised.errors import InfeasibleTarget, InputError

CERTIFIED = Certified(
    method="fixed sequence",
    thresholds={"local": 0.7},
    target={"risk": 0.05},
    delta=0.1,
    n=500,
    counts={"accepted": 300, "errors": 8},
    bounds={"risk": 0.043},
    assumption="Holds.",
)


def test_a_part_of_a_rule_is_not_taken_for_a_whole_one() -> None:
    with pytest.raises(InputError, match="chose only local"):
        _ = CERTIFIED.rule
    whole = Certified("m", {"local": 0.7, "remote": 0.5}, {"risk": 0.05}, None, 5, {}, {}, "")
    assert whole.rule == Rule(0.7, 0.5)


def test_the_evidence_goes_into_a_thresholds_file_and_back() -> None:
    written = Thresholds(0.7, 0.5, evidence=CERTIFIED.evidence())
    assert "method" in written.to_toml()
    assert json.loads(json.dumps(CERTIFIED.evidence()))["counts"] == {"accepted": 300, "errors": 8}


def test_the_sentence_of_the_issue() -> None:
    found = Infeasible("fixed sequence", {"risk": 0.05}, 0.1, 212, "too many errors", {"risk": 0.081}, 340)
    assert found.sentence == (
        "infeasible: with n = 212 labelled rows the lowest risk that can be certified is 0.081; 340 more rows would "
        "certify 0.05 at the present rates"
    )
    assert isinstance(found.raised(), InfeasibleTarget)
    assert str(found.raised()) == found.sentence
    assert not found


def test_without_a_number_of_rows_the_reason_is_given() -> None:
    found = Infeasible("m", {"request_rate": 0.1}, 0.1, 50, "they have no confidence", {"request_rate": 0.3})
    assert found.sentence == (
        "infeasible: with n = 50 rows the lowest request rate that can be certified is 0.300; they have no confidence"
    )
