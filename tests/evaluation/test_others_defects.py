"""Defects that were found in other people's evaluation of cascades: each has its test, here or where it is named.

Here: scikit-fallback's curve, eth's cascade-routing, RouteLLM's CPT, the paper's keys and search. Elsewhere: ties and
`np.trapz` (test_request_accuracy.py), the paper's last grid point (there and in tests/paper), its quantile index
(tests/calibration/guarantees/test_order_statistics.py), MAPIE's bounds (tests/calibration/guarantees/test_binomial.py
and test_p_values.py), quantifiers (tests/quantifiers/test_others_defects.py).
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from bisupervised.calibration import LowestCost
from bisupervised.evaluation.request_accuracy import request_accuracy_curve
from bisupervised.evaluation.risk_coverage import risk_coverage
from bisupervised.evaluation.supervised import false_alarm_threshold
from bisupervised.table import Table


@pytest.mark.parametrize("seed", range(5))
def test_accepting_fewer_in_any_order_of_rows_counts_the_rows_that_are_accepted(seed: int) -> None:
    """scikit-fallback applies a mask over sorted thresholds to the rows by position: .733 where the truth is 1."""
    rng = np.random.default_rng(seed)
    confidences = rng.permutation(100) / 100.0
    correct = (confidences >= 0.9) | (rng.random(100) < 0.5)
    curve = risk_coverage(confidences, correct)
    for coverage, risk in zip(curve.coverages, curve.risks, strict=True):
        accepted = np.argsort(-confidences)[: round(coverage * 100)]
        assert risk == pytest.approx(1.0 - correct[accepted].mean())
    at_one_tenth = curve.risks[np.flatnonzero(curve.coverages == 0.1)[0]]
    assert at_one_tenth == 0.0, "at 90 % fallback every accepted prediction is right"
    by_position = np.sort(confidences) >= 0.9
    assert correct[by_position].mean() < 1.0, "which the mask by position would not say"


def test_tied_confidences_are_accepted_or_rejected_together() -> None:
    """scikit-fallback raises ValueError: there are fewer thresholds than rows."""
    curve = risk_coverage(np.array([0.5, 0.5, 0.9, 0.5]), np.array([True, False, True, False]))
    assert curve.coverages.tolist() == [0.25, 1.0]
    assert curve.risks.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("cheapest", [0, 3, 7, 10])
def test_the_cheapest_candidate_is_found_wherever_it_stands(cheapest: int) -> None:
    """eth's cascade-routing takes `np.argmin(cost(x) for x in candidates)`, which is 0 whatever the costs."""
    n = 10
    columns = {
        "local_confidence": np.arange(n) / n,
        "local_correct": np.arange(n) >= cheapest,
        "remote_confidence": np.ones(n),
        "remote_correct": np.ones(n),
    }
    pair = LowestCost(error=1.0, abstention=1.0, request=0.1).choose(Table.from_columns(columns))
    assert int((columns["local_confidence"] < pair.local).sum()) == cheapest


def test_the_first_point_that_is_good_enough_is_one_of_the_curves_own() -> None:
    """RouteLLM's CPT is `np.interp(target, accuracy, rate)`, which wants accuracies that only rise: here it is .6."""
    confidence = np.arange(10.0)
    left = np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    right = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1, 1], bool)
    curve = request_accuracy_curve(confidence, left, right)
    assert (curve.system_accuracy * 10).round().tolist() == [7, 8, 9, 8, 7, 6, 7, 7, 7, 7, 7]
    first = curve.remote_even()
    assert (first.request_rate, first.system_accuracy) == (0.0, 0.7)
    interpolated = float(np.interp(0.9, curve.system_accuracy, curve.request_rates))
    assert interpolated != curve.best().request_rate == 0.2, "which interpolation misses"


@pytest.mark.parametrize("n", [3, 7, 10, 49, 1000])
def test_the_ends_of_the_curve_are_exactly_0_and_1(n: int) -> None:
    """The paper's code looks its points up by float keys, `rac_points[1.0]`: a sum of steps need not reach that."""
    rng = np.random.default_rng(n)
    curve = request_accuracy_curve(rng.random(n), rng.random(n) < 0.5, rng.random(n) < 0.7)
    assert (curve.request_rates[0], curve.request_rates[-1]) == (0.0, 1.0)


def test_the_false_alarm_threshold_of_many_rows_is_found_at_once() -> None:
    """The paper's search tries every threshold on every row: 40,000 million comparisons here."""
    rng = np.random.default_rng(0)
    confidences, correct = rng.random(200_000), rng.random(200_000) < 0.8
    start = time.perf_counter()
    threshold = false_alarm_threshold(confidences, correct, 0.05)
    assert time.perf_counter() - start < 2.0
    rejected = confidences[correct] < threshold
    assert rejected.mean() <= 0.05 < rejected.mean() + 2 / correct.sum()
