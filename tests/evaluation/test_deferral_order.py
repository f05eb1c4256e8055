from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from bisupervised.errors import InputError
from bisupervised.evaluation import DeferralOrder
from evaluation.made import rows

NAN, INF = float("nan"), float("inf")


def test_the_least_trusted_come_first_and_nan_before_all() -> None:
    order = DeferralOrder.of(np.array([0.9, NAN, 0.1, 0.9, NAN, -INF]))
    assert order.ends.tolist() == [2, 3, 4, 6]
    assert [set(part.tolist()) for part in np.split(order.order, order.ends[:-1])] == [{1, 4}, {5}, {2}, {0, 3}]
    assert np.array_equal(order.thresholds, [NAN, -INF, 0.1, 0.9, INF], equal_nan=True)
    assert order.never == 2
    assert order.has_ties
    assert order.group_sizes().tolist() == [2, 1, 1, 2]
    assert order.mid_ranks().tolist() == [5.5, 1.5, 4.0, 5.5, 1.5, 3.0]


@pytest.mark.parametrize(
    ("confidences", "thresholds", "attainable"),
    [
        ([0.5], [0.5, INF], [0, 1]),
        ([NAN], [NAN, INF], [1]),
        ([NAN, NAN, NAN], [NAN, INF], [1]),
        ([INF, INF], [INF, NAN], [0]),
        ([-INF], [-INF, INF], [0, 1]),
        ([INF, NAN], [NAN, INF, NAN], [1]),
        ([0.0, -0.0], [0.0, INF], [0, 1]),
        ([INF, 1.0, -INF, NAN], [NAN, -INF, 1.0, INF, NAN], [1, 2, 3]),
    ],
)
def test_thresholds_at_the_edges_of_the_numbers(confidences: list, thresholds: list, attainable: list) -> None:
    order = DeferralOrder.of(np.array(confidences))
    assert np.array_equal(order.thresholds, thresholds, equal_nan=True)
    assert list(order.attainable) == attainable


@settings(deadline=None, max_examples=150)
@given(rows(graded=True))
def test_totals_are_the_sums_over_the_deferred(made: tuple) -> None:
    confidences, grades, _, _ = made
    order = DeferralOrder.of(confidences)
    assert sorted(order.order.tolist()) == list(range(len(confidences)))
    keys = np.where(np.isnan(confidences), -np.inf, confidences)
    for values in (grades, grades > 0.4, (grades > 0.4).astype(np.int8) - (grades > 0.9)):
        totals = order.totals(values)
        assert totals.dtype.kind == ("f" if values.dtype.kind == "f" else "i")
        assert totals[0] == 0
        for group, end in enumerate(order.ends):
            deferred = order.order[:end]
            assert totals[group + 1] == pytest.approx(np.sum(values[deferred], dtype=float))
            kept = np.setdiff1d(np.arange(len(keys)), deferred)
            if len(kept) and order.never in (0, order.never and end):
                assert keys[deferred].max() <= keys[kept].min()
    assert order.group_of_row()[order.order].tolist() == sorted(order.group_of_row().tolist())


@pytest.mark.parametrize("confidences", [np.array([]), np.zeros((2, 2)), np.float64(0.3)])
def test_what_is_no_column_is_refused(confidences: np.ndarray) -> None:
    with pytest.raises(InputError, match="one number per input"):
        DeferralOrder.of(confidences)


def test_the_callers_array_stays_as_it_was() -> None:
    confidences = np.array([0.3, NAN, 0.1])
    before = confidences.copy()
    DeferralOrder.of(confidences)
    assert np.array_equal(confidences, before, equal_nan=True)
