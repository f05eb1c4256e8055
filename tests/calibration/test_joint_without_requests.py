"""Whether the requests of a rule buy anything."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of
from bisupervised.calibration.without_requests import without_requests


def made(remote_accuracy: float, n: int = 20_000, seed: int = 0) -> CalibrationRows:
    """A local model that is right in proportion to its confidence, and a remote one whose confidence says nothing."""
    rng = np.random.default_rng(seed)
    local = rng.random(n)
    return CalibrationRows.of(
        local, rng.random(n) < 0.2 + 0.75 * local, rng.random(n), rng.random(n) < remote_accuracy
    )


RULE = Rule(local=0.6, remote=0.5)


def halves(remote_accuracy: float) -> tuple[CalibrationRows, CalibrationRows]:
    rows = made(remote_accuracy)
    return rows.take(slice(0, 10_000)), rows.take(slice(10_000, None))


def test_a_remote_model_no_better_than_the_local_one_is_found_out() -> None:
    found = without_requests(*halves(0.5), RULE)
    assert found.matches
    assert found.coverage == pytest.approx(found.rule_coverage, abs=0.02)
    assert found.sentence.startswith(
        "The local model with its supervisor already matches this without any remote request"
    )
    assert f"with {found.rule_request_rate:.1%} requests" in found.sentence


def test_a_remote_model_that_is_better_is_not_matched() -> None:
    found = without_requests(*halves(0.95), RULE)
    assert not found.matches
    assert found.difference.high < 0.0
    assert found.sentence.startswith("Without requests, at about the same coverage")


def test_figures_of_the_rule_are_those_of_its_replay() -> None:
    choosing, judging = halves(0.8)
    found, counts = without_requests(choosing, judging, RULE), figures_of(judging, RULE)
    assert found.rule_coverage == counts.coverage
    assert found.rule_supervised_accuracy == pytest.approx(counts.supervised_accuracy)
    assert found.rule_request_rate == counts.request_rate


@pytest.mark.slow
def test_the_interval_of_the_difference_covers_it() -> None:
    """The true difference is that of a large population; 95 % intervals, 300 draws."""
    population = made(0.7, 400_000, 1)
    truth = without_requests(population, population, RULE)
    covered = 0
    for seed in range(300):
        rows = population.take(np.random.default_rng(seed).integers(0, 400_000, 3000))
        fixed = Rule(truth.threshold, float("inf"), float("inf"))
        found = without_requests(population, rows, RULE)
        assert fixed.local == found.threshold
        covered += found.difference.low <= truth.difference.value <= found.difference.high
    assert covered / 300 == pytest.approx(0.95, abs=3 * 0.0126)


def test_nothing_accepted_has_no_accuracy() -> None:
    found = without_requests(*halves(0.8), Rule(float("inf"), float("inf")))
    assert np.isnan(found.supervised_accuracy)
    assert found.threshold == float("inf")
    assert not found.matches
