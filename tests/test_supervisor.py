"""Quantifier, probability calibration and threshold -> verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bisupervised.errors import EvidenceError, InputError, ThresholdError
from bisupervised.probability_calibration import BetaCalibration, IsotonicCalibration, TemperatureScaling, VennAbers
from bisupervised.quantifiers import (
    DeepGini,
    GivenConfidence,
    LabelProbability,
    MaxSoftmax,
    PredictionConfidenceScore,
    SoftmaxEntropy,
    TokenLikelihood,
)
from bisupervised.records import Evidence, Failure, ModelOutput, Reason
from bisupervised.supervisor import Supervisor
from fakes import recorded

NAN = float("nan")


def probable(*rows: list[float], predictions: list | None = None, failed: tuple[int, ...] = ()) -> ModelOutput:
    p = np.array(rows)
    column = p.argmax(axis=1) if predictions is None else np.array(predictions)
    return ModelOutput(column, probabilities=p, failures={row: Failure("status", "500") for row in failed})


def test_without_calibrating_it_trusts_nothing():
    verdicts = Supervisor().judge(probable([1.0, 0.0]))
    assert verdicts.threshold == math.inf
    assert not verdicts.accepted.any()
    assert verdicts.reason(0) is Reason.NOT_TRUSTED


def test_another_threshold_leaves_everything_else():
    supervisor = Supervisor(
        DeepGini(), 0.5, TemperatureScaling(2.0), IsotonicCalibration(np.array([0.0]), np.array([0.5])), ("other",)
    )
    moved = supervisor.with_threshold(-math.inf)
    assert moved.threshold == -math.inf
    assert supervisor.threshold == 0.5
    for name in ("quantifier", "temperature", "confidence_calibration", "never_trust"):
        assert getattr(moved, name) is getattr(supervisor, name)
    with pytest.raises(ThresholdError):
        supervisor.with_threshold(NAN)


def test_a_prediction_exactly_at_the_threshold_is_trusted():
    output = recorded([0.7, np.nextafter(0.7, 0)])
    assert Supervisor(GivenConfidence(), 0.7).judge(output).accepted.tolist() == [True, False]


def test_predictions_that_are_never_trusted_give_no_evidence():
    output = recorded([0.9, 0.9, 0.9, 0.9], ["a", "other", "b", "other"])
    verdicts = Supervisor(GivenConfidence(), -math.inf, never_trust=["other"]).judge(output)
    assert verdicts.accepted.tolist() == [True, False, True, False]
    assert verdicts.reason(1) is Reason.NO_EVIDENCE
    assert output.confidences.tolist() == [0.9] * 4, "the model's own output is left as it was"


@pytest.mark.parametrize("never", [{7}, [7], (7, 8), frozenset({7}), np.array([7, 8])])
def test_never_trust_is_any_collection_of_labels(never):
    output = ModelOutput(np.array([7, 1]), confidences=np.array([1.0, 1.0]))
    assert np.isnan(Supervisor(GivenConfidence(), 0.0, never_trust=never).confidences(output)).tolist() == [
        True,
        False,
    ]


def test_a_text_as_never_trust_would_match_its_letters_and_is_refused():
    with pytest.raises(InputError, match=r"never_trust=\['other'\]"):
        Supervisor(never_trust="other")


def test_temperature_is_applied_before_and_confidence_calibration_after_the_quantifier():
    output = probable([0.9, 0.1], [0.6, 0.4])
    cooled = Supervisor(temperature=TemperatureScaling(0.5)).confidences(output)
    np.testing.assert_allclose(cooled, [0.81 / 0.82, 0.36 / 0.52])
    steps = IsotonicCalibration(np.array([0.0, 0.8]), np.array([0.25, 0.75]))
    assert Supervisor(confidence_calibration=steps).confidences(output).tolist() == [0.75, 0.25]
    assert Supervisor(temperature=TemperatureScaling(3.0), confidence_calibration=steps).confidences(
        output
    ).tolist() == [
        0.25,
        0.25,
    ]


@pytest.mark.parametrize("kind", [IsotonicCalibration, BetaCalibration, VennAbers])
def test_any_confidence_calibration_will_do_and_leaves_no_evidence_as_it_is(kind):
    rng = np.random.default_rng(0)
    confidences = rng.random(200)
    fitted = kind.fit(confidences, rng.random(200) < confidences**2)
    supervisor = Supervisor(GivenConfidence(), 0.5, confidence_calibration=fitted)
    output = recorded([0.2, NAN, 0.9])
    verdicts = supervisor.judge(output)
    np.testing.assert_array_equal(verdicts.confidences, fitted(np.array([0.2, NAN, 0.9])))
    assert np.isnan(verdicts.confidences).tolist() == [False, True, False]
    assert verdicts.accepted.tolist() == [False, False, True]


@pytest.mark.parametrize("quantifier", [GivenConfidence(), TokenLikelihood(), LabelProbability({1: ["a"]})])
def test_temperature_needs_probabilities(quantifier):
    with pytest.raises(EvidenceError, match=r"give a confidence_calibration instead"):
        Supervisor(quantifier, temperature=TemperatureScaling(2.0))
    Supervisor(quantifier, confidence_calibration=IsotonicCalibration(np.array([0.0]), np.array([0.5])))


@pytest.mark.parametrize("quantifier", [MaxSoftmax(), SoftmaxEntropy(), PredictionConfidenceScore(), DeepGini()])
@pytest.mark.parametrize("rows", [[[3.0, 1.0]], [[3.0, -1.0]], [[-3.0, 4.0]], [[0.5, 0.6]]])
def test_temperature_does_not_hide_that_logits_were_passed(quantifier, rows):
    output = ModelOutput(np.array([0]), probabilities=np.array(rows))
    with pytest.raises(EvidenceError, match="softmax"):
        Supervisor(quantifier, 0.5, temperature=TemperatureScaling(2.0)).judge(output)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_call_that_failed_for_all_its_inputs_needs_no_evidence(n):
    output = ModelOutput.failed(n, Failure("timeout", "1 s"))
    for quantifier in (MaxSoftmax(), GivenConfidence(), TokenLikelihood(), LabelProbability({1: ["a"]})):
        verdicts = Supervisor(quantifier, -math.inf).judge(output)
        assert np.isnan(verdicts.confidences).all()
        assert verdicts.confidences.shape == (n,)
        assert not verdicts.accepted.any()
        assert all(verdicts.reason(row) is Reason.FAILED for row in range(n))


@pytest.mark.parametrize("rubbish", [[0.0, 0.0], [5.0, -7.0], [NAN, NAN], [1.0, 0.0]])
def test_the_evidence_of_a_failed_row_is_not_read(rubbish):
    output = probable([0.9, 0.1], rubbish, [0.3, 0.7], failed=(1,))
    verdicts = Supervisor(MaxSoftmax(), 0.5).judge(output)
    np.testing.assert_array_equal(verdicts.confidences, [0.9, NAN, 0.7])
    assert verdicts.accepted.tolist() == [True, False, True]
    assert verdicts.reason(1) is Reason.FAILED


def test_a_failed_row_is_never_trusted_even_with_a_confidence():
    verdicts = Supervisor(GivenConfidence(), -math.inf).judge(recorded([0.9, 0.9], failed=[0]))
    assert verdicts.accepted.tolist() == [False, True]


def test_missing_evidence_is_no_failure_but_an_error_that_says_what_to_do():
    with pytest.raises(EvidenceError, match="returns `probabilities`"):
        Supervisor(MaxSoftmax(), 0.5).judge(recorded([0.9]))


class OneForAll:
    """A quantifier that breaks the contract: one confidence however many predictions."""

    name = "one_for_all"
    needs = Evidence.CONFIDENCE

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __call__(self, output: ModelOutput) -> np.ndarray:
        return np.full(self.shape, 0.9)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 1), (3, 3), (4,)])
def test_a_quantifier_that_gives_another_number_of_confidences_is_refused(shape):
    """One confidence would be broadcast: all inputs accepted by the confidence of the first."""
    with pytest.raises(EvidenceError, match=r"one_for_all gave confidences of the shape"):
        Supervisor(OneForAll(shape), 0.5).judge(recorded([0.1, 0.2, 0.3]))


def test_a_plain_list_of_confidences_from_a_quantifier_will_do():
    class Listed(OneForAll):
        def __call__(self, output):
            return [0.9, 0.1]

    assert Supervisor(Listed(()), 0.5).judge(recorded([0, 0])).accepted.tolist() == [True, False]
