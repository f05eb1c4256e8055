"""Defects that were found in other libraries' quantifiers: each has its test here, so that none becomes ours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bisupervised.quantifiers import DSA, KNN, LSA, MLSA
from bisupervised.records import ModelOutput


def rows(n: int, d: int, seed: int, classes: int = 3, shift: float = 0.0) -> ModelOutput:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return ModelOutput(labels, features=rng.normal(size=(n, d)) + 3 * np.eye(d)[labels] + shift)


def test_dsa_of_an_unseen_class_is_no_memory_that_happened_to_be_there():
    """dnn-tip's DSA fills the rows of the classes that it knows, and returns `np.empty` for the others."""
    fitted, new = DSA.fit(rows(60, 5, 0)), rows(8, 5, 1)
    unseen = dataclasses.replace(new, predictions=np.array([0, 1, 2, 3, 99, -1, 0, 1]))
    seen = dataclasses.replace(new, predictions=np.array([0, 1, 2, 0, 0, 0, 0, 1]))
    expected = fitted(seen)
    expected[[3, 4, 5]] = np.nan
    np.testing.assert_array_equal(fitted(unseen), expected)


def test_lsa_far_from_the_training_rows_keeps_falling():
    """dnn-tip takes the logarithm of a density that is 0 there: 30 % of shifted inputs get the same infinity."""
    fitted = LSA.fit(rows(300, 20, 0))
    confidences = [fitted(rows(60, 20, 1, shift=shift)) for shift in (0.0, 3.0, 10.0, 100.0, 1e6)]
    assert np.isfinite(confidences).all()
    assert (np.diff(confidences, axis=0) < 0).all()


def test_lsa_keeps_the_variances_of_the_features():
    """dnn-tip's stable KDE replaces the diagonal of the covariance by its jitter of 1e-10, instead of adding it."""
    stats = pytest.importorskip("scipy.stats")
    train = rows(200, 4, 0, classes=1)
    theirs = stats.gaussian_kde(train.features.T).logpdf(train.features.T)
    np.testing.assert_allclose(LSA.fit(train)(train), theirs, atol=0.3)


def test_lsa_of_a_collinear_and_of_a_constant_feature_is_a_number():
    """scipy's KDE raises LinAlgError for them."""
    stats = pytest.importorskip("scipy.stats")
    train = rows(60, 4, 0, classes=1)
    train.features[:, 3], train.features[:, 2] = 2 * train.features[:, 0], 7.0
    with pytest.raises(np.linalg.LinAlgError):
        stats.gaussian_kde(train.features.T)
    assert np.isfinite(LSA.fit(train)(train)).all()


def test_lsa_prints_nothing_and_needs_no_limit_on_its_features(capfd):
    LSA.fit(rows(60, 5, 0))(rows(6, 5, 1))
    assert capfd.readouterr() == ("", "")


def test_clusters_are_the_same_in_every_run():
    """dnn-tip's k-means has no seed: on the same data its best k was 4, 4, 4, 4, 4, 2."""
    train, new = rows(300, 5, 0), rows(20, 5, 1)
    confidences = [MLSA.fit(train, components=4)(new) for _ in range(6)]
    for other in confidences[1:]:
        np.testing.assert_array_equal(other, confidences[0])
    np.random.seed(5)  # noqa: NPY002 - that others draw random numbers changes nothing
    np.testing.assert_array_equal(MLSA.fit(train, components=4)(new), confidences[0])


def test_knn_is_of_directions_and_of_the_kth():
    """pytorch-ood of October 2024 takes k = 1 and features as they are; the paper neither."""
    train = ModelOutput(np.zeros(60, int), features=np.vstack([np.eye(2)[[0] * 59] * 100.0, [[0.0, 1.0]]]))
    upwards = ModelOutput(np.zeros(1, int), features=np.array([[0.0, 1.0]]))
    along = ModelOutput(np.zeros(1, int), features=np.array([[1.0, 0.0]]))
    fitted = KNN.fit(train)
    assert fitted(upwards) == pytest.approx(-np.sqrt(2)), "one training row alike among sixty is not fifty"
    assert fitted(along) == 0.0, "its length of 1 instead of 100 does not matter"
