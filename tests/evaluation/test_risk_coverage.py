from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from bisupervised.evaluation import auroc, risk_coverage
from evaluation.made import random_rows, rows, tie_orders

NAN = float("nan")


@settings(deadline=None, max_examples=60)
@given(rows(max_n=6, graded=True))
def test_its_areas_are_the_means_over_random_tie_breaking(made: tuple) -> None:
    confidences, correct, _, _ = made
    n = len(confidences)
    aurcs, augrcs = [], []
    for order in tie_orders(confidences):
        wrong = np.cumsum(1.0 - correct[list(order[::-1])])
        aurcs.append(np.mean(wrong / np.arange(1, n + 1)))
        augrcs.append(np.mean(wrong / n))
    curve = risk_coverage(confidences, correct)
    assert curve.aurc == pytest.approx(np.mean(aurcs))
    assert curve.augrc == pytest.approx(np.mean(augrcs))


@settings(deadline=None, max_examples=100)
@given(rows())
def test_augrc_is_made_of_auroc_and_accuracy(made: tuple) -> None:
    """Traub et al. 2024: (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2, and (1 - acc) / 2n for the finite n."""
    confidences, correct, _, _ = made
    n, accuracy = len(correct), float(correct.mean())
    ranking = auroc(confidences, correct).value
    disorder = 0.0 if math.isnan(ranking) else (1 - ranking) * accuracy * (1 - accuracy)
    expected = disorder + (1 - accuracy) ** 2 / 2 + (1 - accuracy) / (2 * n)
    assert risk_coverage(confidences, correct).augrc == pytest.approx(expected)


@pytest.mark.parametrize(
    ("correct", "confidences", "coverages", "risks", "aurc", "augrc"),
    [
        # all, some (first and second of four) and no predictions correct; all by hand
        ([1, 1, 1, 1], [0.5] * 4, [1], [0], 0, 0),
        ([1, 1, 1, 1], [0.1, 0.1, 0.9, 0.9], [0.5, 1], [0, 0], 0, 0),
        ([1, 1, 1, 1], [NAN] * 4, [1], [0], 0, 0),
        ([0, 0, 0, 0], [0.5] * 4, [1], [1], 1, 0.625),
        ([0, 0, 0, 0], [4, 3, 2, 1], [0.25, 0.5, 0.75, 1], [1] * 4, 1, 0.625),
        ([0, 0, 0, 0], [NAN] * 4, [1], [1], 1, 0.625),
        ([1, 1, 0, 0], [0.5] * 4, [1], [0.5], 0.5, 0.3125),
        ([1, 1, 0, 0], [4, 3, 2, 1], [0.25, 0.5, 0.75, 1], [0, 0, 1 / 3, 0.5], 5 / 24, 3 / 16),
        ([1, 1, 0, 0], [1, 2, 3, 4], [0.25, 0.5, 0.75, 1], [1, 1, 2 / 3, 0.5], 19 / 24, 7 / 16),
        ([1, 1, 0, 0], [9, 1, 9, 1], [0.5, 1], [0.5, 0.5], 0.5, 0.3125),
        ([1, 1, 0, 0], [NAN] * 4, [1], [0.5], 0.5, 0.3125),
        ([1, 1, 0, 0], [NAN, 4, 3, NAN], [0.25, 0.5, 1], [0, 0.5, 0.5], 3 / 8, 9 / 32),
    ],
)
def test_curves_computed_by_hand(
    correct: list, confidences: list, coverages: list, risks: list, aurc: float, augrc: float
) -> None:
    curve = risk_coverage(np.array(confidences, dtype=float), np.array(correct, dtype=bool))
    assert curve.coverages.tolist() == coverages
    assert curve.risks == pytest.approx(risks)
    assert (curve.aurc, curve.augrc) == pytest.approx((aurc, augrc))


def test_a_perfect_order_of_many_has_no_excess() -> None:
    n = 20_000
    correct = np.arange(n) < 0.8 * n
    curve = risk_coverage(-np.arange(n, dtype=float), correct)
    assert curve.e_aurc == pytest.approx(0.0, abs=1e-4)
    shuffled = risk_coverage(np.random.default_rng(0).random(n), correct)
    assert shuffled.e_aurc == pytest.approx(0.2 - (0.2 + 0.8 * math.log(0.8)), abs=5e-3)
    assert risk_coverage(np.arange(9.0), np.zeros(9, bool)).e_aurc == pytest.approx(0.0)


@settings(deadline=None, max_examples=60)
@given(rows())
def test_grades_of_0_and_1_are_booleans_and_rows_may_be_permuted(made: tuple) -> None:
    confidences, correct, _, _ = made
    flags, grades = risk_coverage(confidences, correct), risk_coverage(confidences, correct.astype(float))
    order = np.random.default_rng(0).permutation(len(correct))
    permuted = risk_coverage(confidences[order], correct[order])
    for other in (grades, permuted):
        assert other.risks == pytest.approx(flags.risks)
        assert (other.aurc, other.e_aurc, other.augrc) == pytest.approx((flags.aurc, flags.e_aurc, flags.augrc))


def test_large_groups_of_ties_do_not_overflow() -> None:
    confidences, correct, _, _ = random_rows(300_000, levels=2)
    flags, grades = risk_coverage(confidences, correct), risk_coverage(confidences, correct.astype(float))
    assert (flags.aurc, flags.augrc) == pytest.approx((grades.aurc, grades.augrc), rel=1e-9)
    assert 0 < flags.augrc < flags.aurc < 1
