"""Exact nearest neighbours by inexact matrix products: where single precision is too coarse, they are exact still."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers import neighbours
from bisupervised.quantifiers.neighbours import TrainingRows
from bisupervised.quantifiers.products import log_sum_exp, row_product, square_distances, square_norms


def exact(train: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    difference = queries[:, None, :].astype(np.float32).astype(float) - train.astype(np.float32).astype(float)
    return np.sort(np.sqrt((difference**2).sum(axis=2)), axis=1)[:, k - 1]


SHAPES = st.sampled_from(
    ["normal", "far off", "far groups", "tiny", "huge", "near ties", "duplicates", "one outlier", "constant"]
)


def shaped(shape: str, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.normal(size=(n, d))
    return {
        "normal": lambda: rows,
        "far off": lambda: rows + 1e6,
        "far groups": lambda: rows * 1e-2 + np.where(np.arange(n) % 2, 10.0, -10.0)[:, None],
        "tiny": lambda: rows * 1e-25,
        "huge": lambda: rows * 1e25,
        "near ties": lambda: np.ones((n, d)) + rows * 1e-6,
        "duplicates": lambda: rows[rng.integers(0, min(n, 2), n)],
        "one outlier": lambda: np.vstack([rows[:-1], 1e12 * np.ones((1, d))]),
        "constant": lambda: np.full((n, d), 3.25),
    }[shape]()


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 20), st.integers(1, 9), st.data())
def test_distances_are_exact_whatever_the_features_are_like(shape, seed, n, d, m, data):
    rng = np.random.default_rng(seed)
    train = shaped(shape, n, d, rng)
    queries = np.vstack([train[rng.integers(0, n, m)], shaped(shape, m, d, rng)])
    k = data.draw(st.integers(1, n))
    rows = TrainingRows(train)
    distances, places = rows.kth_nearest(queries, k)
    np.testing.assert_allclose(distances, exact(train, queries, k), rtol=1e-12)
    own = np.sqrt(((queries.astype(np.float32).astype(float) - rows.features[places].astype(float)) ** 2).sum(axis=1))
    np.testing.assert_allclose(own, distances, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_rows_left_out_do_not_count(seed, before, without, after):
    if before + after == 0:
        return
    rng = np.random.default_rng(seed)
    train = rng.normal(size=(before + without + after, 4))
    queries = train + 0.01
    distances, places = TrainingRows(train).kth_nearest(queries, without=slice(before, before + without))
    kept = np.delete(train, np.s_[before : before + without], axis=0)
    np.testing.assert_allclose(distances, exact(kept, queries, 1), rtol=1e-12)
    assert not ((places >= before) & (places < before + without)).any()
    if before:
        among, places = TrainingRows(train).kth_nearest(queries, among=slice(0, before))
        np.testing.assert_allclose(among, exact(train[:before], queries, 1), rtol=1e-12)
        assert (places < before).all()


def test_rows_left_out_do_not_count_where_every_distance_overflows_single_precision():
    train = np.array([[0.0], [1e30], [2e30], [3e30]])
    distances, places = TrainingRows(train).kth_nearest(train, without=slice(0, 2))
    assert places.tolist() == [2, 2, 2, 3]
    np.testing.assert_allclose(distances, [2e30, 1e30, 0.0, 0.0], rtol=1e-6)


def test_of_equally_near_rows_the_earlier_is_nearer():
    train = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    for k, place in enumerate([0, 1, 2, 3], start=1):
        assert TrainingRows(train).kth_nearest(np.zeros((1, 2)), k)[1].tolist() == [place]


@pytest.mark.parametrize("shape", ["normal", "constant"])
def test_work_in_blocks_changes_no_bit(shape, monkeypatch):
    rng = np.random.default_rng(0)
    train, queries = shaped(shape, 300, 5, rng), shaped(shape, 100, 5, rng)
    whole = TrainingRows(train).kth_nearest(queries, 7)
    monkeypatch.setattr(neighbours, "_DISTANCES", 1000)
    monkeypatch.setattr(neighbours, "_GATHERED", 50)
    blocks = TrainingRows(train).kth_nearest(queries, 7)
    np.testing.assert_array_equal(blocks[0], whole[0])
    np.testing.assert_array_equal(blocks[1], whole[1])


def test_training_rows_beyond_single_precision_are_refused():
    with pytest.raises(EvidenceError, match="too large for single precision"):
        TrainingRows(np.array([[1e39]]))


def test_the_nearest_is_found_where_single_precision_alone_would_miss_it():
    """Two groups, each far smaller than its distance from the middle of all."""
    rng = np.random.default_rng(0)
    train, queries = shaped("far groups", 500, 64, rng), shaped("far groups", 200, 64, rng)
    for k in (1, 5):
        np.testing.assert_allclose(
            TrainingRows(train).kth_nearest(queries, k)[0], exact(train, queries, k), rtol=1e-12
        )
    t, q = train.astype(np.float32), queries.astype(np.float32)
    single = ((t**2).sum(axis=1) - 2 * q @ t.T).argmin(axis=1)
    assert (single != TrainingRows(train).kth_nearest(queries)[1]).any(), "else this proves nothing"


def test_few_rows_are_compared_twice_when_the_features_are_ordinary():
    """Else the product would save nothing."""
    rng = np.random.default_rng(0)
    rows = TrainingRows(rng.normal(size=(2000, 64)))
    close = rows._candidates(rng.normal(size=(50, 64)).astype(np.float32), 1, 0, 2000, slice(0, 0))
    assert close.sum() < 1.5 * len(close)


# ---------------------------------------------------------------- products


WIDTHS = st.sampled_from([1, 2, 3, 7, 10, 64, 300])


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([1, 2, 7, 64, 300]), st.sampled_from([1, 3, 10, 300])
)
def test_a_row_alone_gives_to_the_last_bit_what_it_gives_in_any_batch(seed, n, d, m):
    rng = np.random.default_rng(seed)
    rows, matrix = rng.normal(size=(n, d)), rng.normal(size=(d, m))
    product = row_product(rows, matrix)
    np.testing.assert_allclose(product, rows @ matrix, atol=1e-12 * d)
    order = rng.permutation(n)
    np.testing.assert_array_equal(row_product(rows[order], matrix), product[order])
    for row in range(0, n, 5):
        np.testing.assert_array_equal(row_product(rows[row : row + 1], matrix), product[row : row + 1])


@given(st.integers(0, 10**6))
def test_squared_distances_are_those_of_the_differences(seed):
    rng = np.random.default_rng(seed)
    rows, points = rng.normal(size=(9, 5)), rng.normal(size=(7, 5))
    distances = square_distances(rows, points, square_norms(points))
    np.testing.assert_allclose(distances, ((rows[:, None] - points) ** 2).sum(axis=2), atol=1e-12)
    assert (square_distances(points, points, square_norms(points)) >= 0.0).all()


def test_the_logarithm_of_a_sum_of_exponentials_neither_overflows_nor_underflows():
    rows = np.array([[0.0, 0.0], [1e4, 1e4], [-1e4, -1e4], [-np.inf, -np.inf], [-np.inf, 3.0], [np.nan, 0.0]])
    ln2 = np.log(2)
    np.testing.assert_array_equal(log_sum_exp(rows), [ln2, 1e4 + ln2, -1e4 + ln2, -np.inf, 3.0, np.nan])
    assert log_sum_exp(np.empty((0, 3))).shape == (0,)
