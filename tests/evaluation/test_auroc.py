from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import roc_auc_score

from bisupervised.evaluation import auroc
from bisupervised.evaluation.intervals import rate
from evaluation.made import random_rows, rows


@settings(deadline=None, max_examples=150)
@given(rows())
def test_it_is_scikit_learns_with_ties_and_nan_ranking_below_all(made: tuple) -> None:
    confidences, correct, _, _ = made
    ranks = np.unique(np.where(np.isnan(confidences), -np.inf, confidences), return_inverse=True)[1].astype(float)
    ranks += 1.0 * (~np.isnan(confidences))  # NaN below -inf
    found = auroc(confidences, correct)
    if correct.all() or not correct.any():
        assert all(map(math.isnan, found))
    else:
        assert found.value == pytest.approx(roc_auc_score(correct, ranks))
        assert 0.0 <= found.low <= found.value + 1e-12
        assert found.value - 1e-12 <= found.high <= 1.0


@pytest.mark.parametrize("levels", [None, 4])
def test_its_interval_is_delongs_computed_over_all_pairs(levels: int | None) -> None:
    confidences, correct, _, _ = random_rows(150, seed=1, levels=levels)
    right, wrong = confidences[correct], confidences[~correct]
    wins = (right[:, None] > wrong[None, :]) + 0.5 * (right[:, None] == wrong[None, :])
    variance = np.var(wins.mean(axis=1), ddof=1) / len(right) + np.var(wins.mean(axis=0), ddof=1) / len(wrong)
    found = auroc(confidences, correct)
    half = 1.959963984540054 * math.sqrt(variance)
    assert found == pytest.approx((wins.mean(), wins.mean() - half, wins.mean() + half))


@pytest.mark.slow
def test_its_interval_covers_the_true_value_in_95_of_100_samples() -> None:
    truth, inside = 0.5 + 0.5 * math.erf(0.5), 0  # normal against normal + 1: Phi(1 / sqrt 2)
    for seed in range(800):
        rng = np.random.default_rng(seed)
        confidences = np.concatenate([rng.normal(1, 1, 150), rng.normal(0, 1, 60)])
        found = auroc(confidences, np.arange(210) < 150)
        inside += found.low <= truth <= found.high
    assert 0.95 - 0.025 < inside / 800 < 0.95 + 0.025


@pytest.mark.parametrize("inverted", [False, True])
def test_a_perfect_order_of_few_rows_is_not_certain(inverted: bool) -> None:
    """DeLong's variance is 0 there, and three rows of either kind prove nothing."""
    confidences, correct = np.arange(6.0), np.arange(6) >= 3
    found = auroc(-confidences if inverted else confidences, correct)
    assert found.value == (0.0 if inverted else 1.0)
    assert found.low <= 0.5 <= found.high
    many = auroc(np.arange(400.0), np.arange(400) >= 200)
    assert many == (1.0, *rate(200, 200)[1:])
    assert many.low > 0.97


def test_a_single_wrong_prediction_leaves_nearly_everything_open() -> None:
    found = auroc(np.arange(100.0), np.arange(100) != 10)
    assert found.value == pytest.approx(89 / 99)
    assert found.low < 0.5


def test_grades_count_as_correct_from_a_half_on() -> None:
    confidences = np.array([0.1, 0.4, 0.5, 0.9])
    grades = np.array([0.49, 0.5, 0.0, 1.0])
    assert auroc(confidences, grades).value == auroc(confidences, grades >= 0.5).value == 0.75


@settings(deadline=None, max_examples=60)
@given(rows())
def test_it_stays_when_rows_are_doubled_permuted_or_confidences_stretched(made: tuple) -> None:
    confidences, correct, _, _ = made
    first = auroc(confidences, correct).value
    order = np.random.default_rng(0).permutation(len(confidences))
    assert auroc(np.tile(confidences, 2), np.tile(correct, 2)).value == pytest.approx(first, nan_ok=True)
    assert auroc(confidences[order], correct[order]).value == pytest.approx(first, nan_ok=True)
    if not np.isinf(confidences).any():
        assert auroc(confidences * 1024.0, correct).value == pytest.approx(first, nan_ok=True)
        assert (
            auroc(-confidences, correct).value == pytest.approx(1 - first, nan_ok=True) or np.isnan(confidences).any()
        )


def test_shuffled_labels_give_a_half() -> None:
    rng = np.random.default_rng(0)
    values = [auroc(rng.random(300), rng.random(300) < 0.7).value for _ in range(200)]
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / math.sqrt(200)


def test_a_million_rows_do_not_overflow() -> None:
    confidences, correct, _, _ = random_rows(1_000_000, levels=4)
    assert auroc(confidences, correct).value == pytest.approx(roc_auc_score(correct, confidences), rel=1e-12)
