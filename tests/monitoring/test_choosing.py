"""Thresholds that were chosen on the reference's own rows: what is compared all the same, and what is not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from bisupervised.assessment import calibrate
from bisupervised.calibration import LowestCost, Thresholds
from bisupervised.errors import ThresholdError
from bisupervised.monitoring import Reference, drift
from bisupervised.monitoring.choosing import FLATTERED
from bisupervised.monitoring.findings import NAMES
from monitoring.made import alike, rows, thresholds_of

LOWEST = LowestCost(error=3.0, abstention=1.0, request=0.1, points=100)


def asked(thresholds: Thresholds, **more) -> set[str]:
    return {one.question for one in drift(rows(2_000, 2), thresholds, **more).findings}


def test_a_reference_says_whether_its_rows_chose_the_thresholds():
    held = calibrate(rows(400, 1), LOWEST)
    own = calibrate(rows(400, 1), LOWEST, held_out=0.0)
    assert held.reference["chose_thresholds"] is False
    assert own.reference["chose_thresholds"] is True
    assert Reference.from_mapping(own.reference).to_mapping() == own.reference
    with pytest.raises(ThresholdError, match="true or false"):
        Reference.from_mapping({**own.reference, "chose_thresholds": 1})


def test_rows_that_chose_are_compared_by_their_confidences_and_held_to_limits():
    held = calibrate(rows(400, 1), LOWEST)
    own = calibrate(rows(400, 1), LOWEST, held_out=0.0)
    assert {"local_risk", "remote_risk"} == FLATTERED
    assert asked(held) >= FLATTERED
    assert not asked(own) & FLATTERED
    assert {"local_confidences", "remote_confidences", "request_rate", "risk_limit"} <= asked(
        own, limits={"risk": 0.5}
    )
    result = drift(rows(2_000, 2), own)
    why = {one.question: one for one in result.unknown}
    assert why.keys() == FLATTERED
    assert "chosen on the rows of [reference]" in why["local_risk"].why
    assert "--held-out" in why["local_risk"].to_do


def test_an_older_file_that_does_not_say_is_read_by_its_evidence():
    thresholds = thresholds_of(rows(400, 1))
    silent = {name: value for name, value in thresholds.reference.items() if name != "chose_thresholds"}
    for n, compared in ((0, False), (200, True)):
        older = replace(thresholds, reference=silent, evidence={"n_held_out": n})
        assert ("local_risk" in asked(older)) == compared
    assert "local_risk" in asked(replace(thresholds, reference=silent)), "no evidence: thresholds that were given"


@pytest.mark.slow
def test_what_is_compared_with_rows_that_chose_rings_as_rarely_as_promised_and_the_risk_would_not():
    """Unchanged traffic, thresholds of the lowest cost. Each question may ring in .075 of the runs."""
    alpha, runs = 0.9, 200
    level = alpha / len(NAMES)
    spread = math.sqrt(level * (1.0 - level) / runs)
    rang, naive = Counter[str](), Counter[str]()
    for seed in range(runs):
        calibration, traffic = alike(200, 50_000 + seed), alike(3_000, 60_000 + seed)
        own = calibrate(calibration, LOWEST, held_out=0.0, seed=seed)
        rang.update(one.question for one in drift(traffic, own, alpha=alpha, seed=seed).findings if one.moved)
        claimed = replace(own, reference={**own.reference, "chose_thresholds": False})
        naive.update(one.question for one in drift(traffic, claimed, alpha=alpha, seed=seed).findings if one.moved)
    assert max(rang.values(), default=0) / runs <= level + 3.0 * spread, rang
    assert naive["remote_risk"] / runs > level + 3.0 * spread, naive


def test_a_reference_of_calibration_rows_for_an_older_file_uses_those_held_out(tmp_path, capsys):
    from bisupervised.cli import main
    from bisupervised.sources import write_table

    calibration = rows(600, 1)
    write_table(calibration, tmp_path / "calibration.csv")
    write_table(rows(900, 2), tmp_path / "traffic.csv")
    for held_out, compared in ((0.5, True), (0.0, False)):
        replace(calibrate(calibration, LOWEST, held_out=held_out), reference={}).save(tmp_path / "old.toml")
        against = ["--against", str(tmp_path / "old.toml"), "--calibration", str(tmp_path / "calibration.csv")]
        assert main(["drift", str(tmp_path / "traffic.csv"), *against, "--json"]) == 0
        printed = capsys.readouterr().out
        assert ('"question": "local_risk",\n      "verdict"' in printed) == compared
        assert f'"reference_rows": {int(600 * (0.5 if compared else 1.0))}' in printed
