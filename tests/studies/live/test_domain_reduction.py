"""A local model that knows k classes, and defers about all others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.decision import accept
from bisupervised.errors import InputError
from bisupervised.studies.live.domain_reduction import (
    OTHER,
    frequent_classes,
    is_other,
    is_outside,
    max_softmax,
    reduced_confidences,
    reduced_probabilities,
)

CLASSES = ["a", "b", "c", "d"]
KEPT = np.array(["c", "a"])
P = np.array(
    [
        [0.6, 0.2, 0.1, 0.1],  # a: known, and likelier than b and d together
        [0.1, 0.2, 0.5, 0.2],  # c: likelier than any class, as likely or less than others together?
        [0.1, 0.5, 0.2, 0.2],  # b: not known
        [0.25, 0.125, 0.5, 0.125],
        [np.nan, 0.5, 0.25, 0.25],
    ]
)


def test_probabilities_of_unknown_classes_are_summed():
    reduced = reduced_probabilities(P, CLASSES, KEPT)
    np.testing.assert_allclose(reduced[:4], [[0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [0.2, 0.1, 0.7], [0.5, 0.25, 0.25]])
    assert np.isnan(reduced[4]).all()


def test_other_is_never_accepted_whatever_the_threshold():
    predictions, confidences = max_softmax(P, CLASSES, KEPT)
    assert predictions.tolist() == ["a", "c", OTHER, "c", OTHER]
    np.testing.assert_array_equal(confidences, [0.6, 0.5, np.nan, 0.5, np.nan])
    for threshold in (-np.inf, 0.0, 0.4):
        assert accept(confidences, threshold).tolist() == [True, True, False, True, False]


def test_where_other_is_as_likely_as_a_class_the_input_is_deferred():
    assert is_other([[0.5, 0.25, 0.25]], ["a", "b", "c"], np.array(["a"])).tolist() == [True]


def test_a_supervisor_of_any_kind_keeps_its_confidences_in_the_known_classes():
    confidences = reduced_confidences([3.0, -2.0, 7.0, np.nan, 1.0], is_other(P, CLASSES, KEPT))
    np.testing.assert_array_equal(confidences, [3.0, -2.0, np.nan, np.nan, np.nan])


def test_recorded_predictions_outside_the_known_classes_are_deferred():
    outside = is_outside(np.array([3, 1, 7]), np.array([1, 3]))
    assert outside.tolist() == [False, False, True]
    np.testing.assert_array_equal(reduced_confidences([0.1, 0.2, 0.9], outside), [0.1, 0.2, np.nan])
    assert is_outside([None, "a"], np.array(["a"])).tolist() == [True, False]


def test_the_most_frequent_classes_come_first_and_ties_in_their_own_order():
    assert frequent_classes([5, 3, 5, 9, 1, 9, 9], 3).tolist() == [9, 5, 1]
    assert frequent_classes([2, 1], 100).tolist() == [1, 2]


def test_all_classes_kept_change_nothing():
    predictions, confidences = max_softmax(P[:4], CLASSES, np.array(CLASSES))
    assert predictions.tolist() == ["a", "c", "b", "c"]
    np.testing.assert_array_equal(confidences, P[:4].max(axis=1))


def test_no_rows_give_no_rows():
    predictions, confidences = max_softmax(np.empty((0, 4)), CLASSES, KEPT)
    assert len(predictions) == len(confidences) == 0


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: frequent_classes([], 3), "calibration rows"),
        (lambda: frequent_classes([1], 0), "at least one class"),
        (lambda: reduced_probabilities(P, CLASSES, np.array(["a", "z"])), "does not have"),
        (lambda: reduced_probabilities(P, CLASSES, np.array(["a", "a"])), "twice"),
        (lambda: reduced_probabilities(P[0], CLASSES, KEPT), "shape"),
        (lambda: reduced_probabilities(P, CLASSES[:3], KEPT), "shape"),
        (lambda: reduced_confidences([0.1], np.array([True, False])), "one truth value per row"),
        (lambda: reduced_confidences([0.1], np.array([1])), "one truth value per row"),
    ],
)
def test_bad_input_is_refused_with_words(act, says):
    with pytest.raises(InputError, match=says):
        act()


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 12))
def test_mass_is_kept_and_knowing_more_classes_never_defers_more(seed, classes, k):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.3), size=20)
    order = rng.permutation(classes)
    k = min(k, classes)
    fewer, more = order[: max(1, k - 1)], order[:k]
    np.testing.assert_allclose(reduced_probabilities(p, range(classes), more).sum(axis=1), 1.0)
    deferred_of_more = is_other(p, range(classes), more)
    assert (deferred_of_more <= is_other(p, range(classes), fewer)).all()
    # All that a recorded prediction can tell is a part of it.
    assert (is_outside(p.argmax(axis=1), more) <= deferred_of_more).all()


def test_a_tables_local_model_knows_the_frequent_classes_of_the_choosing_rows_alone():
    from bisupervised.studies.live.domain_reduction import with_reduced_domain
    from bisupervised.table import Table

    part = np.array(["calibration"] * 3 + ["report"] * 3, dtype=object)
    labels = ["a", "a", "b", "b", "b", "b"]  # b is the most frequent of all rows, a of those that choose
    columns = {"id": list("123456"), "label": labels, "part": part, "remote_prediction": labels}
    columns |= {
        "local_prediction": ["a", "b", "b", "a", "b", "a"],
        "local_confidence": [0.9] * 6,
        "remote_confidence": [0.9] * 6,
    }
    reduced = with_reduced_domain(Table.from_columns(columns), 1).extra["local_domain_confidence"]
    assert np.isnan(reduced).tolist() == [False, True, True, False, True, False]
    folds = {**columns, "fold": [0, 0, 0, 1, 1, 1]}
    del folds["part"]
    crossed = with_reduced_domain(Table.from_columns(folds), 1).extra["local_domain_confidence"]
    assert np.isnan(crossed).tolist() == [True, False, False, False, True, False]
