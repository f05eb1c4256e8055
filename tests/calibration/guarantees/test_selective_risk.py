"""The most coverage at a certified risk."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bisupervised.calibration.guarantees import Certified, Infeasible, selective_risk
from bisupervised.calibration.guarantees.binomial import upper_bound
from bisupervised.decision import accept
from bisupervised.errors import InputError

NAN = float("nan")


def made(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    return score, rng.random(n) < 0.5 + 0.5 * score


def sgr(score: np.ndarray, correct: np.ndarray, target: float, delta: float) -> float:
    """Selection with guaranteed risk, Geifman & El-Yaniv, NeurIPS 2017, algorithm 2: the coverage it certifies."""
    order = np.argsort(-score)
    errors = np.cumsum(~correct[order])
    low, high, best, steps = 1, len(score), 0, math.ceil(math.log2(len(score)))
    for _ in range(steps):
        middle = math.ceil((low + high) / 2)
        if upper_bound(errors[middle - 1], middle, delta / steps) <= target:
            best, low = middle, middle
        else:
            high = middle
    return best / len(score)


def test_what_is_accepted_is_counted_and_its_bound_is_below_the_target() -> None:
    score, correct = made(2000)
    found = selective_risk(score, correct, 0.15)
    kept = accept(score, found.thresholds["local"])
    assert found.counts == {"accepted": kept.sum(), "errors": (~correct[kept]).sum()}
    assert found.bounds["risk"] == pytest.approx(float(upper_bound(found.counts["errors"], kept.sum(), 0.1)))
    assert found.bounds["risk"] <= 0.15
    assert found.sentence == "With confidence 0.9: risk at most 0.15 (n = 2000)."
    assert "independent draws" in found.assumption


def test_it_covers_more_than_a_binary_search_does() -> None:
    """SGR divides delta by ten and looks at eleven thresholds of 2,000: over 40 samples it covers less, on
    average."""
    ours, theirs = [], []
    for seed in range(40):
        score, correct = made(500, seed)
        found = selective_risk(score, correct, 0.2)
        ours.append(found.counts["accepted"] / 500 if found else 0.0)
        theirs.append(sgr(score, correct, 0.2, 0.1))
    assert np.mean(ours) > np.mean(theirs) + 0.03


def test_a_looser_target_or_more_confidence_moves_the_threshold_the_right_way() -> None:
    score, correct = made(3000)
    tight, loose = (selective_risk(score, correct, r).thresholds["local"] for r in (0.12, 0.2))
    sure, unsure = (selective_risk(score, correct, 0.15, delta=d).thresholds["local"] for d in (0.01, 0.3))
    assert loose < tight
    assert unsure < sure


def test_tied_scores_are_accepted_together() -> None:
    score = np.repeat([0.9, 0.5, 0.1], [300, 300, 400])
    correct = np.arange(1000) % np.repeat([100, 20, 2], [300, 300, 400]) != 0
    found = selective_risk(score, correct, 0.06)
    assert found.thresholds == {"local": 0.5}
    assert found.counts["accepted"] == 600


def test_missing_confidences_are_never_accepted_and_count_as_rows() -> None:
    score, correct = made(1000)
    some = np.where(np.arange(1000) < 200, NAN, score)
    found = selective_risk(some, correct, 0.2)
    assert found.counts["accepted"] == np.count_nonzero(some >= found.thresholds["local"])
    assert found.n == 1000
    nothing = selective_risk(np.full(50, NAN), np.ones(50), 0.2)
    assert isinstance(nothing, Infeasible)
    assert "none of them has a confidence" in nothing.sentence


def test_infeasible_says_what_these_rows_could_certify_and_how_many_would_do() -> None:
    score, correct = made(212)
    found = selective_risk(score, correct, 0.05)
    assert isinstance(found, Infeasible)
    assert found.sentence.startswith(
        "infeasible: with n = 212 labelled rows the lowest risk that can be certified is 0."
    )
    lowest = found.lowest["risk"]
    assert isinstance(selective_risk(score, correct, lowest + 0.005), Certified)
    assert isinstance(selective_risk(score, correct, lowest - 0.02), Infeasible)


def test_so_many_more_rows_at_the_present_rates_are_certified() -> None:
    score, correct = made(150, 3)
    found = selective_risk(score, correct, 0.15)
    assert found.more_rows is not None
    times = math.ceil((150 + found.more_rows) / 150)
    assert isinstance(selective_risk(np.tile(score, times), np.tile(correct, times), 0.15), Certified)
    assert f"; {found.more_rows} more rows would certify 0.15 at the present rates" in found.sentence


def test_a_risk_below_every_rate_that_was_seen_is_out_of_reach_of_any_number_of_rows() -> None:
    score = np.random.default_rng(0).random(500)
    found = selective_risk(score, np.arange(500) % 2 == 0, 0.1)
    assert found.more_rows is None
    assert "the lowest risk seen at any coverage" in found.sentence or found.lowest["risk"] > 0.3


def test_graded_correctness_is_bounded_without_being_counted() -> None:
    score, correct = made(3000)
    graded = np.where(correct, 1.0, 0.5)
    found = selective_risk(score, graded, 0.1)
    assert found.counts["errors"] == pytest.approx((1 - graded[score >= found.thresholds["local"]]).sum())
    assert found.bounds == {"risk": 0.1}


def test_given_thresholds_are_the_only_ones_tried() -> None:
    score, correct = made(2000)
    found = selective_risk(score, correct, 0.2, thresholds=np.array([0.9, 0.7, 0.5, 0.3]))
    assert found.thresholds["local"] in (0.9, 0.7, 0.5, 0.3)


@pytest.mark.parametrize(
    ("confidence", "correct"), [([0.1, 0.2], [1]), ([0.1], [NAN]), ([0.1], [2.0]), ([[0.1]], [[1]])]
)
def test_columns_that_do_not_fit_are_refused(confidence: list, correct: list) -> None:
    with pytest.raises(InputError, match="correctness known for every row"):
        selective_risk(np.array(confidence), np.array(correct), 0.1)
