"""Testing in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.calibration.guarantees.sequences import doubling_starts, fallback

FIRST = np.array([1.0, 0.0, 0.0, 0.0])


def test_a_fixed_sequence_stops_at_its_first_failure() -> None:
    assert fallback(np.array([0.1, 0.05, 0.11, 0.0]), FIRST, 0.1).tolist() == [True, True, False, False]


def test_a_second_start_goes_on_after_a_failure_with_its_own_share_only() -> None:
    shared = np.array([0.5, 0.5, 0.0, 0.0])
    assert fallback(np.array([0.2, 0.05, 0.05, 0.06]), shared, 0.1).tolist() == [False, True, True, False]


def test_levels_of_starts_that_are_certified_add_up_to_all_of_delta() -> None:
    shared = np.array([0.5, 0.0, 0.5, 0.0])
    assert fallback(np.array([0.05, 0.05, 0.1, 0.1]), shared, 0.1).all()
    assert not fallback(np.array([0.051, 0.0, 0.1, 0.1]), shared, 0.1).any()


def test_no_share_left_certifies_nothing_however_small_the_p_value() -> None:
    assert not fallback(np.array([0.5, 0.0, 0.0, 0.0]), FIRST, 0.1).any()


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_many_sequences_at_once_are_each_alone(values: list) -> None:
    weights = np.array([0.4, 0.0, 0.5, 0.1])
    many = fallback(np.array(values), weights, 0.3)
    assert many.tolist() == [fallback(np.array(one), weights, 0.3).tolist() for one in values]


@pytest.mark.parametrize("weights", [FIRST, np.full(4, 0.25), np.array([0.0, 0.5, 0.3, 0.2])])
@pytest.mark.parametrize("true", [(0,), (3,), (1, 2), (0, 1, 2, 3)])
def test_a_true_hypothesis_is_rejected_in_at_most_delta(weights: np.ndarray, true: tuple) -> None:
    """Uniform p-values where true, 0 where false; those of the true ones independent, or all the same."""
    rng = np.random.default_rng(0)
    for p in (rng.random((20_000, 4)), np.repeat(rng.random((20_000, 1)), 4, axis=1)):
        p[:, [j for j in range(4) if j not in true]] = 0.0
        wrong = fallback(p, weights, 0.1)[:, list(true)].any(axis=1)
        assert wrong.mean() <= 0.1 + 3 * 0.0022


def test_starts_double_from_four_times_the_fewest_rows() -> None:
    sizes = np.arange(10, 1001, 10)  # ln 0.1 / ln 0.9 = 21.9 rows without an error, so 87.4, 175, 350, 699
    weights = doubling_starts(sizes, 0.1, 0.1)
    assert {int(sizes[j]): round(float(weights[j]), 6) for j in np.flatnonzero(weights)} == {
        90: 0.5625,
        180: 0.25,
        350: 0.125,
        700: 0.0625,
    }
    assert weights.sum() == pytest.approx(1.0)


def test_too_few_rows_for_a_start_leave_the_whole_to_the_last() -> None:
    assert doubling_starts(np.array([10, 20]), 0.05, 0.1).tolist() == [0.0, 1.0]
