"""That the grid of three thresholds is the replay at every point of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration.joint_grid import joint_grid
from bisupervised.calibration.rule import CalibrationRows, figures_of
from evaluation.made import random_rows, rows


@settings(deadline=None, max_examples=60)
@given(rows(max_n=15, graded=True), st.sampled_from([3, 5, 400]))
def test_every_point_of_the_grid_is_the_replay_of_its_rule(made: tuple, points: int) -> None:
    data = CalibrationRows.of(*made)
    grid = joint_grid(data, local_points=points, remote_points=points)
    for h in range(len(grid.local_thresholds)):
        counts = grid.counts(h)
        for i in range(h, len(grid.local_thresholds)):
            for j in range(len(grid.remote_thresholds)):
                one = figures_of(data, grid.rule(h, i, j))
                assert counts.accepted[i - h, j] == one.accepted
                assert counts.loss[i - h, j] == pytest.approx(one.loss)
                assert counts.requests[i - h, 0] == one.requests
                assert counts.early == one.early


def test_several_abstention_thresholds_at_once_are_each_alone() -> None:
    data = CalibrationRows.of(*random_rows(500, levels=20))
    grid = joint_grid(data, local_points=15, remote_points=12)
    levels = np.array([0, 3, 9])
    many = grid.counts_at_each(levels)
    for place, h in enumerate(levels):
        one = grid.counts(int(h))
        assert many.accepted[place, h:].tolist() == one.accepted.tolist()
        assert many.loss[place, h:].tolist() == one.loss.tolist()
        assert many.requests[place, h:].tolist() == one.requests.tolist()
        assert (many.early[place, h:] == one.early).all()
        if h:  # below the abstention threshold, both are the same threshold
            assert many.accepted[place, 0, 0] == figures_of(data, grid.rule(h, 0, 0)).accepted


def test_other_losses_can_be_summed_in_place_of_the_recorded_ones() -> None:
    data = CalibrationRows.of(*random_rows(100))
    half = np.full(100, 0.5)
    counts = joint_grid(data, losses=(half, half)).counts(0)
    assert counts.loss == pytest.approx(counts.accepted / 2)
