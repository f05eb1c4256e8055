"""p-values that are uniform whatever the distribution, from few numbers of the calibration rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.monitoring.ranks import BinnedRanks, Bins, Share, ShareRanks
from monitoring.streams import SOURCES

NAN, INF = float("nan"), float("inf")
CONFIDENCES = st.lists(
    st.sampled_from([NAN, -INF, 0.0, 0.5, 0.5, 1.0, INF]) | st.floats(0, 1), min_size=1, max_size=60
)


@given(CONFIDENCES, st.integers(2, 100))
def test_bins_count_every_row_once_and_their_edges_are_order_statistics(values, bins):
    found = Bins.of(np.array(values), bins)
    assert found.counts.sum() == found.rows == len(values)
    assert found.missing == sum(v != v for v in values)
    assert len(found.edges) == min(bins, len(values) + 1) - 1
    ordered = sorted(values, key=lambda v: (v == v, v))
    for edge, rank, tied_rank, tied in zip(found.edges, found.ranks, found.tied_ranks, found.tied, strict=True):
        same = [place for place, v in enumerate(ordered, 1) if v == edge or (v != v and edge != edge)]
        assert rank in same
        assert tied == len(same)
        assert tied_rank == rank - same[0] + 1


def test_bins_of_nothing_are_refused():
    with pytest.raises(InputError, match="at least one calibration row"):
        Bins.of(np.empty(0))


@pytest.mark.parametrize(("name", "n"), [("continuous", 7), ("eleven values", 150), ("missing and infinite", 1)])
def test_p_values_are_uniform_and_independent(name, n):
    check_uniform(name, n, 1_500)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("n", [1, 7, 150])
def test_p_values_are_uniform_and_independent_for_every_source(name, n):
    check_uniform(name, n, 2_500)


def check_uniform(name: str, n: int, repeats: int) -> None:
    rows = 4
    p = np.empty((repeats, rows))
    for seed in range(repeats):
        rng = np.random.default_rng([seed, n, 77])
        ranks = BinnedRanks(Bins.of(SOURCES[name](rng, n), 20), seed)
        p[seed] = ranks.p_values(SOURCES[name](rng, rows), rng.random((rows, 2)))
    for column in p.T:  # Kolmogorov and Smirnov, at about 1 in 10,000
        distance = np.abs(np.sort(column) - (np.arange(repeats) + 0.5) / repeats).max()
        assert distance < 2.25 / np.sqrt(repeats)
    correlations = np.corrcoef(p.T)[np.triu_indices(rows, 1)]
    assert np.abs(correlations).max() < 4.0 / np.sqrt(repeats)


def test_with_all_order_statistics_as_edges_a_p_value_is_the_rank_among_all_rows():
    calibration = np.array([0.2, 0.4, 0.6, 0.8])
    ranks = BinnedRanks(Bins.of(calibration))
    values, uniforms = np.array([0.3, 0.9, 0.35]), np.full((3, 2), 0.5)
    # Of five places the second; of six the sixth; of seven the second or the third, where 0.3 stands already.
    assert ranks.p_values(values, uniforms) == pytest.approx([1.5 / 5, 5.5 / 6, 2.0 / 7])


def test_p_values_of_a_share_are_those_of_conformal_prediction():
    ranks = ShareRanks(Share(1, 3))
    p = ranks.p_values(np.array([1.0, 0.0, 1.0]), np.full((3, 2), 0.5))
    assert p == pytest.approx([(2 + 0.5 * 2) / 4, 0.5 * 3 / 5, (3 + 0.5 * 3) / 6])


def test_a_share_is_exact_with_every_bag_of_rows():
    """Enumerated: over all orders of a bag, each p-value is uniform: its mean and its second moment are right."""
    for ones in range(5):
        bag = [1.0] * ones + [0.0] * (4 - ones)
        p = []
        for order in set(itertools.permutations(range(4))):
            rows = np.array([bag[place] for place in order])
            share = Share(int(rows[:3].sum()), 3)
            for u in np.linspace(0.005, 0.995, 100):
                p += ShareRanks(share).p_values(rows[3:], np.array([[0.0, u]])).tolist()
        assert np.mean(p) == pytest.approx(0.5, abs=1e-9)
        assert np.mean(np.square(p)) == pytest.approx(1 / 3, abs=1e-4)


@given(CONFIDENCES, CONFIDENCES, st.integers(0, 60))
def test_rows_may_come_in_any_parts(calibration, traffic, cut):
    bins, uniforms = Bins.of(np.array(calibration)), np.random.default_rng(0).random((len(traffic), 2))
    values = np.array(traffic)
    whole = BinnedRanks(bins).p_values(values, uniforms)
    first = BinnedRanks(bins)
    early = first.p_values(values[:cut], uniforms[:cut])
    second = BinnedRanks(bins)
    second.restore(first.state(), len(early))
    assert np.concatenate([early, second.p_values(values[cut:], uniforms[cut:])]) == pytest.approx(whole, abs=1e-12)
    assert ((whole >= 0) & (whole <= 1)).all()
