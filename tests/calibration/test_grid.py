"""That the grid is `decide` at every pair of thresholds is in `tests/evaluation/test_one_rule.py`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from bisupervised.calibration.grid import quantile_thresholds, threshold_grid
from evaluation.made import random_rows, rows

NAN, INF = float("nan"), float("inf")


@settings(deadline=None, max_examples=100)
@given(rows())
def test_thresholds_rise_from_minus_to_plus_infinity_through_confidences(made: tuple) -> None:
    confidences = made[0]
    for points in (3, 5, 400):
        found = quantile_thresholds(confidences, points)
        assert found[[0, -1]].tolist() == [-INF, INF]
        assert (np.diff(found) > 0).all()
        assert len(found) <= points
        assert set(found[1:-1].tolist()) <= set(confidences.tolist())
    known = set(confidences[np.isfinite(confidences)].tolist())
    assert set(quantile_thresholds(confidences, 400)[1:-1].tolist()) == known


def test_many_confidences_give_even_quantiles() -> None:
    confidences = np.random.default_rng(0).permutation(10_001) / 10_000
    assert quantile_thresholds(confidences, 13)[1:-1] == pytest.approx(np.linspace(0, 1, 11))


def test_no_confidences_leave_the_two_extremes() -> None:
    assert quantile_thresholds(np.array([NAN, NAN]), 400).tolist() == [-INF, INF]
    grid = threshold_grid(np.array([NAN]), np.array([True]), np.array([NAN]), np.array([True]))
    assert grid.coverage.tolist() == [[0, 0], [0, 0]]
    assert grid.request_rate.tolist() == [1, 1]


def test_the_full_grid_keeps_its_size_and_its_sums() -> None:
    local, left, remote, right = random_rows(50_000)
    grid = threshold_grid(local, left, remote, right)
    assert grid.coverage.shape == grid.correct.shape == grid.risk_of_all.shape == (400, 400)
    assert (np.diff(grid.request_rate) >= 0).all()
    assert (np.diff(grid.coverage, axis=1) <= 0).all()  # a higher remote threshold accepts less
    assert grid.coverage[0, 0] == 1.0
    assert grid.coverage[-1, -1] == 0.0
    assert grid.correct[0, 0] == pytest.approx(left.mean())
    assert grid.correct[-1, 0] == pytest.approx(right.mean())
