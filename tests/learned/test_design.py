"""Named columns and their features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.learned.columns import SPREAD, LabelColumn, NumericColumn, agreement
from bisupervised.learned.design import Design
from bisupervised.learned.heads import Heads

NAN, INF = float("nan"), float("inf")
numbers = st.lists(
    st.floats(-1e6, 1e6) | st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1e308, -1e308, 5e-324, 1e-311]),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(numbers, numbers)
def test_ranks_rise_with_the_numbers_and_keep_their_bounds(fitting, others):
    fitting = np.array(fitting)
    if not np.isfinite(fitting).any():
        with pytest.raises(InputError, match="holds no number in any"):
            NumericColumn.fit("c", fitting)
        return
    column = NumericColumn.fit("c", fitting)
    values = np.sort(np.array(others)[~np.isnan(others)])
    ranks = column(values)
    assert (np.abs(ranks) <= SPREAD + 1e-12).all()
    assert (np.diff(ranks) >= -1e-12).all()
    assert column(np.array([NAN])) == 0.0


def test_ranks_by_hand():
    column = NumericColumn.fit("c", np.array([1.0, 2.0, 2.0, 3.0]))
    assert column(np.array([1.0, 2.0, 3.0, INF])) / SPREAD == pytest.approx([-0.75, 0.0, 0.75, 0.75])
    assert column(np.array([1.5]))[0] / SPREAD == pytest.approx(-0.375)


def test_a_unit_changes_nothing():
    values = np.random.default_rng(0).normal(size=200)
    one, other = NumericColumn.fit("c", values), NumericColumn.fit("c", values * 1000.0)
    assert one(values) == pytest.approx(other(values * 1000.0), abs=1e-9)


def test_labels_are_what_is_written_and_unknown_ones_have_no_number():
    column = LabelColumn.fit("c", np.array([1, 0, 1]))
    assert column(np.array(["1", "0", "7", None, 1.0, True], dtype=object)).tolist() == [1, 0, -1, -1, 1, 1]
    assert column(np.array([1, 5])).tolist() == [1, -1]


@given(
    st.lists(st.tuples(*[st.sampled_from([1, 1.0, "1", " 1", "x", None, NAN, True])] * 2), min_size=1, max_size=20)
)
def test_agreement_of_a_batch_is_that_of_each_row(pairs):
    first, second = (np.array([pair[side] for pair in pairs], dtype=object) for side in (0, 1))
    alone = [agreement(first[i : i + 1], second[i : i + 1])[0] for i in range(len(pairs))]
    assert np.array_equal(agreement(first, second), alone, equal_nan=True)


def columns(n: int, seed: int, classes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": np.where(rng.random(n) < 0.1, NAN, rng.normal(size=n)),
        "b": rng.integers(0, 3, n).astype(float),
        "agreement": rng.choice([0.0, 1.0, NAN], n),
        "local_prediction": rng.integers(0, min(classes, 3), n),
        "remote_prediction": rng.integers(0, classes, n),
    }


@pytest.mark.parametrize("classes", [1, 2, 3, 8, 20])
def test_the_features_are_as_many_as_the_design_says(classes):
    read = columns(300, 1, classes)
    design = Design.fit(read)
    features = design.features(design.read(read))
    assert features.shape == (design.size, 300)
    assert np.isfinite(features).all()
    assert (design.classes is not None) == (classes == 20)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 20]))
def test_a_row_alone_gets_to_the_last_bit_what_it_gets_in_a_batch(seed, classes):
    fitting = columns(200, seed, classes)
    heads = Heads.fit(fitting, [(np.random.default_rng(seed).random(200) < 0.5).astype(float)] * 2)
    new = columns(40, seed + 1, classes + 2)
    batch = heads.probabilities(new)
    alone = [heads.probabilities({k: v[i : i + 1] for k, v in new.items()}) for i in range(40)]
    assert np.array_equal(batch, np.concatenate(alone, axis=1), equal_nan=True)


def test_many_rows_are_the_same_in_blocks():
    fitting = columns(200, 0, 2)
    heads = Heads.fit(fitting, [np.arange(200) % 2.0])
    many = {k: np.tile(v, 50) for k, v in fitting.items()}
    assert np.array_equal(heads.probabilities(many), np.tile(heads.probabilities(fitting), 50), equal_nan=True)


def test_labels_with_as_many_classes_as_rows_are_left_out():
    design = Design.fit({"a": np.arange(50.0), "local_prediction": np.array([f"answer {i}" for i in range(50)])})
    assert design.names == ("a",)


def test_what_cannot_be_read_is_said():
    design = Design.fit({"a": np.arange(50.0), "b": np.arange(50.0)})
    with pytest.raises(InputError, match="the columns b are missing; given are: a"):
        design.read({"a": [1.0]})
    with pytest.raises(InputError, match="held numbers when the supervisor was fitted"):
        design.read({"a": [1.0], "b": ["x"]})
    with pytest.raises(InputError, match="differ in length"):
        design.read({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(InputError, match="one value for each row"):
        design.read({"a": [[1.0]], "b": [1.0]})
    with pytest.raises(InputError, match="at least one column of numbers"):
        Design.fit({"local_prediction": np.array([0, 1])})


def test_penalties_are_above_0():
    for bad in (0.0, -1.0, NAN, INF):
        with pytest.raises(InputError, match="a penalty is a number above 0"):
            Heads.fit({"a": np.arange(30.0)}, [np.arange(30) % 2.0], penalty=bad)
