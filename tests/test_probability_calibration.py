"""Making confidences match frequencies."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import EvidenceError
from bisupervised.probability_calibration import IsotonicCalibration, TemperatureScaling, calibration_from_dict

NAN = float("nan")


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def labelled(n: int, true_temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is over-confident (T > 1) or under-confident by exactly this temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 2
    truth = softmax(logits)
    labels = (rng.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return softmax(logits * true_temperature), np.minimum(labels, 3)


def nll(p: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(p)), labels], 1e-300)).mean())


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 2.5, 6.0])
def test_temperature_scaling_finds_the_temperature_that_the_data_were_made_with(true_temperature):
    p, labels = labelled(20_000, true_temperature)
    fitted = TemperatureScaling.fit(p, labels)
    assert fitted.temperature == pytest.approx(true_temperature, rel=0.03)


@given(hnp.arrays(np.float64, (7, 3), elements=st.floats(-8, 8)), st.lists(st.integers(0, 2), min_size=7, max_size=7))
def test_no_other_temperature_has_a_smaller_loss(logits, labels):
    p, columns = softmax(logits), np.array(labels)
    best = TemperatureScaling.fit(p, columns)
    floor = np.maximum(p, 1e-12)
    assert 0.01 <= best.temperature <= 100.0
    for other in [1.0, *np.geomspace(0.0101, 99, 40)]:
        assert nll(best(floor), columns) <= nll(TemperatureScaling(other)(floor), columns) + 1e-7


@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(-20, 20)), st.floats(0.05, 50))
def test_temperature_never_changes_the_order_of_the_classes_nor_the_prediction(logits, temperature):
    p = softmax(logits)
    scaled = TemperatureScaling(temperature)(p)
    np.testing.assert_allclose(scaled.sum(axis=1), 1.0)
    assert ((scaled >= 0) & (scaled <= 1)).all()
    for before, after in zip(p, scaled, strict=True):
        assert after[before.argmax()] == after.max()
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()


def test_a_temperature_of_one_changes_nothing_and_a_higher_one_makes_less_sure():
    p, _ = labelled(50, 1.0)
    np.testing.assert_allclose(TemperatureScaling(1.0)(p), p)
    assert (TemperatureScaling(2.0)(p).max(axis=1) <= p.max(axis=1)).all()
    assert (TemperatureScaling(0.5)(p).max(axis=1) >= p.max(axis=1)).all()


def test_zeros_and_rows_with_nan_are_scaled_without_warnings():
    p = np.array([[1.0, 0.0], [NAN, 0.5], [0.5, 0.5]])
    scaled = TemperatureScaling(2.0)(p)
    assert scaled[0, 0] > 0.999
    assert np.isnan(scaled[1]).all()
    assert scaled[2].tolist() == [0.5, 0.5]
    assert TemperatureScaling(2.0)(np.empty((0, 3))).shape == (0, 3)


def test_rows_with_nan_are_left_out_of_the_fit():
    p, labels = labelled(500, 2.0)
    with_nan = np.vstack([p, np.full((100, 4), NAN)])
    more = np.concatenate([labels, np.zeros(100, dtype=int)])
    assert TemperatureScaling.fit(with_nan, more).temperature == TemperatureScaling.fit(p, labels).temperature


def test_certain_rows_that_are_all_right_or_all_wrong_end_at_the_bounds():
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert TemperatureScaling.fit(p, np.array([0, 1])).temperature == 0.01
    assert TemperatureScaling.fit(p, np.array([1, 0])).temperature == 100.0


@pytest.mark.parametrize(
    ("p", "labels"),
    [
        (np.empty((0, 2)), []),
        (np.full((3, 2), 0.5), [0, 1]),
        (np.full((2, 2), NAN), [0, 1]),
        (np.full((2, 2), 0.5), [0, -1]),
        (np.full((2, 2), 0.5), [0, 2]),
        (np.full(2, 0.5), [0, 1]),
    ],
)
def test_temperature_refuses_rows_and_labels_that_do_not_fit(p, labels):
    """A label column of -1, "no such class", must not be read as the last class."""
    with pytest.raises(EvidenceError):
        TemperatureScaling.fit(p, np.array(labels, dtype=int))


@pytest.mark.parametrize("temperature", [0.0, -1.0, NAN, float("inf")])
def test_a_temperature_must_be_a_positive_number(temperature):
    with pytest.raises(EvidenceError, match="positive"):
        TemperatureScaling(temperature)


# Rounded: scikit-learn holds confidences 1e-10 apart for equal.
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 1.0]) | st.floats(-5, 5).map(lambda score: round(score, 3))
ROWS = st.lists(st.tuples(SCORES, st.sampled_from([0.0, 1.0, 1.0]) | st.floats(0, 1)), min_size=1, max_size=40)


@settings(max_examples=60)
@given(ROWS)
@example([(0.0, 1.0), (1.0, 0.0)])
@example([(0.5, 1.0), (0.5, 0.0), (0.5, 0.0)])
def test_isotonic_calibration_is_scikit_learns_at_every_fitted_confidence(rows):
    isotonic = pytest.importorskip("sklearn.isotonic")
    x, y = (np.array(column) for column in zip(*rows, strict=True))
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x, y)
    ours = IsotonicCalibration.fit(x, y)
    np.testing.assert_allclose(ours(x), theirs.predict(x), atol=1e-7)


@given(ROWS, st.lists(SCORES, min_size=2, max_size=20))
def test_isotonic_calibration_is_monotone_within_its_labels_and_idempotent(rows, new):
    x, y = (np.array(column) for column in zip(*rows, strict=True))
    calibration = IsotonicCalibration.fit(x, y)
    queried = np.sort(np.array(new))
    calibrated = calibration(queried)
    assert (np.diff(calibrated) >= 0).all()
    assert (calibrated >= y.min() - 1e-12).all()
    assert (calibrated <= y.max() + 1e-12).all()
    assert (np.diff(calibration.starts) > 0).all()
    assert (np.diff(calibration.values) > 0).all(), "equal steps are one step"
    once = calibration(x)
    again = IsotonicCalibration.fit(once, y)
    np.testing.assert_allclose(again(once), once, atol=1e-9)
    assert calibration(x).mean() == pytest.approx(y.mean()), "the mean of the labels is kept"


def test_isotonic_steps_hold_from_their_start_and_the_first_one_below_it():
    calibration = IsotonicCalibration(np.array([0.2, 0.6]), np.array([0.1, 0.9]))
    queried = np.array([-np.inf, 0.0, 0.2, 0.5999, 0.6, 2.0, np.inf, NAN])
    np.testing.assert_array_equal(calibration(queried), [0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, NAN])
    assert calibration(np.empty(0)).shape == (0,)


def test_rows_without_confidence_or_label_are_left_out():
    calibration = IsotonicCalibration.fit(np.array([0.1, NAN, 0.9, 0.5]), np.array([0.0, 1.0, 1.0, NAN]))
    assert calibration(np.array([0.1, 0.9])).tolist() == [0.0, 1.0]
    with pytest.raises(EvidenceError, match="at least one row"):
        IsotonicCalibration.fit(np.array([NAN, 0.5]), np.array([1.0, NAN]))
    with pytest.raises(EvidenceError, match="at least one row"):
        IsotonicCalibration.fit(np.empty(0), np.empty(0))


def test_correctness_may_be_truth_values():
    calibration = IsotonicCalibration.fit(np.array([0.1, 0.2, 0.3]), np.array([False, True, True]))
    assert calibration(np.array([0.1, 0.2])).tolist() == [0.0, 1.0]


@given(ROWS)
def test_calibrations_come_back_from_json(rows):
    x, y = (np.array(column) for column in zip(*rows, strict=True))
    for calibration in (IsotonicCalibration.fit(x, y), TemperatureScaling(1.0 + abs(float(x[0])))):
        text = json.dumps(calibration.to_dict(), allow_nan=False)
        back = calibration_from_dict(json.loads(text))
        assert type(back) is type(calibration)
        p = np.stack([np.full(3, 0.3), np.full(3, 0.7)], axis=1)
        queried = p if isinstance(calibration, TemperatureScaling) else x
        assert back(queried).tolist() == calibration(queried).tolist()


@pytest.mark.parametrize("values", [{}, {"method": "platt"}, {"method": None}])
def test_an_unknown_method_is_refused_with_the_known_ones(values):
    with pytest.raises(EvidenceError, match="temperature, isotonic"):
        calibration_from_dict(values)
