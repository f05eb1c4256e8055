"""Making confidences match frequencies."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import EvidenceError
from bisupervised.probability_calibration import (
    BetaCalibration,
    IsotonicCalibration,
    TemperatureScaling,
    VennAbers,
    calibration_from_dict,
)

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


# ---------------------------------------------------------------- beta

UNIT_ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0]) | st.floats(0, 1), st.booleans()), min_size=1, max_size=40
)


def drawn(n: int, a: float, b: float, c: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences whose frequencies of being right are those of a beta calibration with these parameters."""
    rng = np.random.default_rng(seed)
    confidences = rng.random(n)
    return confidences, rng.random(n) < BetaCalibration(a, b, c)(confidences)


@pytest.mark.parametrize("wanted", [(1.0, 1.0, 0.0), (0.4, 2.5, 0.7), (2.0, 0.5, -1.0), (3.0, 3.0, 0.0)])
def test_beta_calibration_finds_the_curve_that_the_data_were_made_with(wanted):
    confidences, correct = drawn(100_000, *wanted)
    fitted = BetaCalibration.fit(confidences, correct)
    assert (fitted.a, fitted.b, fitted.c) == pytest.approx(wanted, rel=0.1, abs=0.15)
    grid = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(fitted(grid), BetaCalibration(*wanted)(grid), atol=0.015)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_with_a_and_b_1_and_c_0_nothing_changes(confidences):
    given_so = np.array(confidences)
    np.testing.assert_allclose(BetaCalibration(1.0, 1.0, 0.0)(given_so), given_so, atol=1e-11)


@given(UNIT_ROWS)
def test_beta_calibration_keeps_the_order_and_stays_within_0_and_1(rows):
    x, y = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    fitted = BetaCalibration.fit(x, y)
    assert fitted.a >= 0.0
    assert fitted.b >= 0.0
    calibrated = fitted(np.linspace(0, 1, 101))
    assert (np.diff(calibrated) >= 0.0).all()
    assert ((calibrated >= 0.0) & (calibrated <= 1.0)).all()


@settings(max_examples=50, deadline=None)
@given(UNIT_ROWS)
def test_no_other_curve_with_the_signs_of_beta_calibration_is_likelier(rows):
    x, y = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    best = BetaCalibration.fit(x, y)

    def loss(a: float, b: float, c: float) -> float:
        s = np.clip(x, 1e-12, 1 - 1e-12)
        z = a * np.log(s) - b * np.log(1 - s) + c
        penalty = 1e-4 * ((a - 1) ** 2 * (best.a > 0) + (b - 1) ** 2 * (best.b > 0) + c**2)
        return float(np.sum(np.logaddexp(0, z) - y * z)) + penalty

    least = loss(best.a, best.b, best.c)
    for da, db, dc in np.random.default_rng(0).normal(size=(30, 3)) * 0.1:
        a = best.a + da if best.a > 0.0 else 0.0
        b = best.b + db if best.b > 0.0 else 0.0
        assert least <= loss(a, b, best.c + dc) + 1e-6


def test_where_right_and_wrong_do_not_overlap_the_curve_is_steep_and_finite():
    fitted = BetaCalibration.fit(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    assert fitted(np.array([0.2]))[0] < 0.05
    assert fitted(np.array([0.8]))[0] > 0.95
    assert fitted.a < 1e4


def test_confidences_that_point_the_wrong_way_are_made_equal_and_not_turned_round():
    confidences, correct = drawn(2000, 2.0, 2.0, 0.0)
    fitted = BetaCalibration.fit(confidences, ~correct)
    assert (fitted.a, fitted.b) == (0.0, 0.0)
    np.testing.assert_allclose(fitted(np.array([0.1, 0.9])), (~correct).mean(), atol=1e-3)


def test_certain_confidences_and_nan_do_no_harm():
    fitted = BetaCalibration.fit(np.array([0.0, 1.0, 1.0, 0.5, NAN, 0.3]), np.array([0.0, 1.0, 0.0, 1.0, 1.0, NAN]))
    calibrated = fitted(np.array([0.0, NAN, 1.0]))
    assert np.isnan(calibrated).tolist() == [False, True, False]
    assert fitted(np.empty(0)).shape == (0,)
    with pytest.raises(EvidenceError, match="at least one row"):
        BetaCalibration.fit(np.array([NAN, 0.5]), np.array([1.0, NAN]))


@pytest.mark.parametrize("wrong", [[-0.5, 0.5], [0.5, 1.5], [-2.0, NAN]])
def test_beta_calibration_refuses_what_is_no_share_and_says_what_to_use(wrong):
    with pytest.raises(EvidenceError, match="use isotonic or Venn-ABERS"):
        BetaCalibration.fit(np.array(wrong), np.array([1.0, 0.0]))
    with pytest.raises(EvidenceError, match="use isotonic or Venn-ABERS"):
        BetaCalibration(1.0, 1.0, 0.0)(np.array(wrong))


@pytest.mark.parametrize("values", [(-1.0, 1.0, 0.0), (1.0, NAN, 0.0), (1.0, 1.0, float("inf"))])
def test_beta_parameters_that_would_turn_the_order_round_are_refused(values):
    with pytest.raises(EvidenceError, match="from 0 on"):
        BetaCalibration(*values)


# ---------------------------------------------------------------- Venn-ABERS


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.0, 3.0]), st.booleans()), min_size=1, max_size=14),
    st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 9.0]), min_size=1, max_size=11),
)
def test_venn_abers_is_an_isotonic_fit_with_each_label_for_each_confidence(rows, queried):
    x, y = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    p0, p1 = VennAbers.fit(x, y).interval(np.array(queried))
    for label, estimates in ((0.0, p0), (1.0, p1)):
        for confidence, estimate in zip(queried, estimates, strict=True):
            isotonic = IsotonicCalibration.fit(np.append(x, confidence), np.append(y, label))
            assert estimate == pytest.approx(isotonic(np.array([confidence]))[0], abs=1e-12)


@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=40), st.lists(SCORES, min_size=2, max_size=20))
def test_venn_abers_is_monotone_and_its_estimate_lies_in_its_interval(rows, new):
    x, y = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    fitted = VennAbers.fit(x, y)
    queried = np.sort(np.array(new))
    p0, p1 = fitted.interval(queried)
    calibrated = fitted(queried)
    assert (p0 <= calibrated + 1e-12).all()
    assert (calibrated <= p1 + 1e-12).all()
    for values in (p0, p1, calibrated):
        assert (np.diff(values) >= -1e-12).all()
        assert ((values >= 0.0) & (values <= 1.0)).all()


def test_a_venn_abers_interval_is_narrow_with_many_rows_and_wide_with_few():
    widths = []
    for n in (10, 100, 10_000):
        confidences, correct = drawn(n, 1.0, 1.0, 0.0)
        p0, p1 = VennAbers.fit(confidences, correct).interval(np.linspace(0.2, 0.8, 50))
        widths.append(float((p1 - p0).mean()))
    assert widths[0] > 2 * widths[1] > 8 * widths[2]
    p0, p1 = VennAbers.fit(np.array([0.5]), np.array([1.0])).interval(np.array([0.1, 0.5, 0.9]))
    np.testing.assert_array_equal([p0, p1], [[0.0, 0.5, 0.5], [1.0, 1.0, 1.0]])


def test_one_of_the_two_venn_abers_estimates_is_calibrated_whatever_the_data_are():
    """The theorem: with the estimate of the true label chosen, its mean is the frequency of being right."""
    rng = np.random.default_rng(0)
    chosen, right = [], []
    for _ in range(2000):
        confidences = rng.random(15) ** 3
        correct = rng.random(15) < np.sin(3 * confidences) ** 2
        p0, p1 = VennAbers.fit(confidences[1:], correct[1:]).interval(confidences[:1])
        chosen.append(float(p1[0] if correct[0] else p0[0]))
        right.append(bool(correct[0]))
    difference = np.array(chosen) - right
    assert abs(difference.mean()) < 3 * difference.std() / math.sqrt(2000)


def test_venn_abers_leaves_out_nan_and_refuses_graded_labels():
    fitted = VennAbers.fit(np.array([0.2, NAN, 0.8, 0.5]), np.array([0.0, 1.0, 1.0, NAN]))
    assert fitted.starts.tolist() == [0.2, 0.8]
    assert np.isnan(fitted(np.array([NAN, 0.5]))).tolist() == [True, False]
    assert fitted(np.empty(0)).shape == (0,)
    with pytest.raises(EvidenceError, match="right or wrong"):
        VennAbers.fit(np.array([0.2, 0.3]), np.array([0.5, 1.0]))
    with pytest.raises(EvidenceError, match="at least one row"):
        VennAbers.fit(np.empty(0), np.empty(0))


# ---------------------------------------------------------------- files


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1), st.booleans()), min_size=1))
def test_calibrations_come_back_from_json(rows):
    x, y = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    temperature = TemperatureScaling(1.0 + abs(float(x[0])))
    for calibration in (*(kind.fit(x, y) for kind in (IsotonicCalibration, BetaCalibration, VennAbers)), temperature):
        text = json.dumps(calibration.to_dict(), allow_nan=False)
        back = calibration_from_dict(json.loads(text))
        assert type(back) is type(calibration)
        p = np.stack([np.full(3, 0.3), np.full(3, 0.7)], axis=1)
        queried = p if isinstance(calibration, TemperatureScaling) else x
        assert back(queried).tolist() == calibration(queried).tolist()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_confidence_alone_is_calibrated_as_in_a_batch(confidences):
    x, y = drawn(200, 0.5, 2.0, 0.1)
    queried = np.array(confidences)
    for kind in (IsotonicCalibration, BetaCalibration, VennAbers):
        calibration = kind.fit(x, y)
        together = calibration(queried)
        assert [calibration(queried[row : row + 1])[0] for row in range(len(queried))] == together.tolist()


@pytest.mark.parametrize("values", [{}, {"method": "platt"}, {"method": None}])
def test_an_unknown_method_is_refused_with_the_known_ones(values):
    with pytest.raises(EvidenceError, match="temperature, isotonic, beta, venn_abers"):
        calibration_from_dict(values)
