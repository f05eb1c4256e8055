"""How many labels, and what they say: the numbers hold in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.evaluation.intervals import Estimate, rate
from bisupervised.evaluation.labels_needed import MIN_LABELS, Stratum, labels_needed, versus_remote_only


def test_the_numbers_follow_the_formula() -> None:
    needed = labels_needed(rate(50, 1000), 0.01)
    assert needed.inputs == math.ceil(1.959964**2 * 0.05 / 0.01**2)
    assert needed.labels == math.ceil(needed.inputs * 0.05)
    assert labels_needed(rate(50, 1000), 0.02).inputs * 4 == pytest.approx(needed.inputs, abs=4)


def test_there_are_never_fewer_labels_than_an_interval_takes_but_none_where_nothing_differs() -> None:
    assert labels_needed(rate(1, 1000), 0.01).labels == MIN_LABELS
    assert (labels_needed(rate(0, 1000), 0.01).labels, labels_needed(rate(0, 1000), 0.01).inputs) == (0, 0)


def test_no_label_is_needed_where_even_the_worst_is_within_the_margin() -> None:
    assert labels_needed(rate(2, 1000), 0.01).bounded_without
    assert not labels_needed(rate(8, 1000), 0.01).bounded_without  # .008 itself is within, its interval is not
    assert not labels_needed(rate(0, 0), 0.01).bounded_without


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.5, math.nan])
def test_a_margin_that_is_no_share_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="share between 0 and 1"):
        labels_needed(rate(1, 10), margin)


def test_the_difference_weighs_each_stratum_by_its_size() -> None:
    strata = [Stratum(60, np.array([1.0, -1.0, 0.0, 0.0])), Stratum(20, np.full(5, -1.0))]
    estimate = versus_remote_only(strata, 1000)
    assert estimate.value == pytest.approx(-0.02)
    assert estimate.low < -0.02 < estimate.high


def test_a_stratum_without_a_label_leaves_the_difference_unknown() -> None:
    assert math.isnan(versus_remote_only([Stratum(5, np.empty(0))], 100).value)
    assert versus_remote_only([Stratum(0, np.empty(0)), Stratum(4, np.ones(1))], 100).value == 0.04


def test_labels_that_all_agree_are_not_taken_for_certainty() -> None:
    estimate = versus_remote_only([Stratum(100, -np.ones(10))], 1000)
    assert estimate.high - estimate.low > 0.02
    assert estimate.low < -0.1


def test_without_differing_rows_there_is_no_difference() -> None:
    assert versus_remote_only([Stratum(0, np.empty(0))], 100)[:1] == (0.0,)


@pytest.mark.parametrize("labelled", [0.2, 1.0])
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says(labelled: float) -> None:
    """2,000 logs of 800 requests, of which two bands differ with shares .06 and .09, labelled in part at random."""
    rng = np.random.default_rng(11)
    shares, worse = np.array([0.06, 0.09]), np.array([0.3, 0.7])
    true = float(shares @ (1.0 - 2.0 * worse))
    covered, n, repetitions = 0, 800, 2000
    for _ in range(repetitions):
        sizes = rng.multinomial(n, [*shares, 1.0 - shares.sum()])[:2]
        strata = []
        for size, p in zip(sizes, worse, strict=True):
            differences = np.where(rng.random(size) < p, -1.0, 1.0)
            strata.append(Stratum(int(size), differences[: max(int(labelled * size), 1)]))
        low, high = versus_remote_only(strata, n)[1:]
        covered += low <= true <= high
    assert 0.935 < covered / repetitions < 0.985


def test_as_many_labels_as_are_asked_for_give_the_margin() -> None:
    needed = labels_needed(Estimate(0.08, 0.06, 0.1), 0.02)
    rng = np.random.default_rng(5)
    differing = round(needed.inputs * 0.08)
    strata = [Stratum(differing, rng.choice([-1.0, 1.0], size=needed.labels)[:differing])]
    low, high = versus_remote_only(strata, needed.inputs)[1:]
    assert (high - low) / 2 <= 0.0205
