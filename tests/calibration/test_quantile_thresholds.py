"""The thresholds of a grid: quantiles of the confidences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from bisupervised.calibration.joint_grid import quantile_thresholds
from evaluation.made import rows

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
