"""Constant, which reads nothing, and P(True), which reads one number."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.errors import EvidenceError
from bisupervised.probability_calibration import TemperatureScaling
from bisupervised.quantifiers import Constant, PTrue, quantifier_by_name
from bisupervised.records import Failure, ModelOutput, Reason
from bisupervised.supervisor import Supervisor

NAN = float("nan")


def test_constant_trusts_what_did_not_fail_whatever_it_holds():
    output = ModelOutput(np.array(["a", None, ""], dtype=object), failures={1: Failure("timeout", "1 s")})
    np.testing.assert_array_equal(Constant()(output), [1.0, NAN, 1.0])
    verdicts = Supervisor(Constant(), 1.0).judge(output)
    assert verdicts.accepted.tolist() == [True, False, True]
    assert verdicts.reason(1) is Reason.FAILED
    assert not Supervisor(Constant()).judge(output).accepted.any(), "without a threshold, nothing is trusted"
    assert quantifier_by_name("constant") == Constant()


def test_temperature_scaling_has_nothing_to_work_on_in_a_constant():
    with pytest.raises(EvidenceError, match="constant reads nothing"):
        Supervisor(Constant(), temperature=TemperatureScaling(2.0))


def p_true(*values):
    return PTrue()(ModelOutput(np.zeros(len(values)), p_true=np.array(values, dtype=object)))


def test_p_true_is_taken_as_it_is_and_nan_stays():
    np.testing.assert_array_equal(p_true(0.0, 1.0, NAN, 0.3, None), [0.0, 1.0, NAN, 0.3, NAN])


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("inf"), -float("inf")])
def test_what_is_no_probability_is_an_error(wrong):
    with pytest.raises(EvidenceError, match="is a probability"):
        p_true(0.5, wrong, NAN)
    with pytest.raises(EvidenceError, match="must be numbers"):
        p_true("high")


def test_the_output_and_its_confidences_do_not_share_memory():
    output = ModelOutput(np.zeros(1), p_true=np.array([0.5]))
    PTrue()(output)[0] = 0.0
    assert output.p_true[0] == 0.5
