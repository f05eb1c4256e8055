"""The quantifiers that read several passes: values by hand, and how their parts add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import EvidenceError
from bisupervised.models.function import FunctionModel
from bisupervised.quantifiers import (
    ExpectedEntropy,
    MaxSoftmax,
    MeanSoftmax,
    MutualInformation,
    PredictiveEntropy,
    SoftmaxEntropy,
    VariationRatio,
)
from bisupervised.records import ModelOutput
from bisupervised.supervisor import Supervisor

NAN = float("nan")
LN2 = math.log(2)
ALL = [VariationRatio(), MeanSoftmax(), PredictiveEntropy(), ExpectedEntropy(), MutualInformation()]
EVERY = pytest.mark.parametrize("quantifier", ALL, ids=lambda q: q.name)
WEIGHTS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 5)), elements=st.floats(0.001, 1)
)


def output(*blocks: list[list[float]]) -> ModelOutput:
    return ModelOutput(np.zeros(len(blocks)), sampled_probabilities=np.array(blocks))


def normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=2, keepdims=True)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ([[1.0, 0.0]], [1.0, 1.0, 0.0, 0.0, 0.0]),
        ([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5, -LN2, 0.0, -LN2]),
        ([[0.5, 0.5], [0.5, 0.5]], [1.0, 0.5, -LN2, -LN2, 0.0]),
        ([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [2 / 3, 2 / 3, -(math.log(3) - 2 / 3 * LN2), 0.0, None]),
        ([[0.75, 0.25], [0.25, 0.75]], [0.5, 0.5, -LN2, -(2 * LN2 - 0.75 * math.log(3)), None]),
    ],
)
def test_values_are_those_computed_by_hand(block, expected):
    *others, mutual = expected
    mutual = others[2] - others[3] if mutual is None else mutual
    assert [float(q(output(block))[0]) for q in ALL] == pytest.approx([*others, mutual], abs=1e-15)


@given(WEIGHTS)
def test_the_mutual_information_is_the_predictive_less_the_expected_entropy_and_not_negative(weights):
    rows = output(*normalised(weights))
    mutual = -MutualInformation()(rows)
    np.testing.assert_allclose(mutual, ExpectedEntropy()(rows) - PredictiveEntropy()(rows), atol=1e-12)
    assert (mutual >= 0.0).all()
    assert (mutual <= math.log(weights.shape[2]) + 1e-12).all()
    assert (mutual <= math.log(weights.shape[1]) + 1e-12).all(), "s passes can tell at most ln s"


@given(WEIGHTS)
def test_the_mean_of_the_passes_gives_what_the_same_probabilities_alone_give(weights):
    p = normalised(weights)
    alone = ModelOutput(np.zeros(len(p)), probabilities=p.mean(axis=1))
    np.testing.assert_allclose(MeanSoftmax()(output(*p)), MaxSoftmax()(alone), rtol=1e-12)
    np.testing.assert_allclose(PredictiveEntropy()(output(*p)), SoftmaxEntropy()(alone), atol=1e-12)


@given(WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_passes_does_not_matter(weights, random):
    p = normalised(weights)
    order = list(range(p.shape[1]))
    random.shuffle(order)
    for quantifier in ALL:
        np.testing.assert_allclose(quantifier(output(*p[:, order])), quantifier(output(*p)), atol=1e-12)


@EVERY
def test_a_nan_in_any_pass_is_no_evidence(quantifier):
    confidences = quantifier(output([[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [NAN, 0.5]]))
    assert np.isnan(confidences).tolist() == [False, True]


@EVERY
def test_what_is_no_probability_is_an_error(quantifier):
    with pytest.raises(EvidenceError, match="softmax"):
        quantifier(output([[0.5, 0.5], [2.0, -3.0]]))


@EVERY
@pytest.mark.parametrize("shape", [(2, 3), (2,), (3, 2, 2), (1, 2, 2), (0, 2, 2), (2, 0, 2), (2, 2, 0)])
def test_passes_of_another_shape_are_an_error(quantifier, shape):
    with pytest.raises(EvidenceError, match=r"sampled_probabilities must have the shape|over no classes"):
        quantifier(ModelOutput(np.zeros(2), sampled_probabilities=np.full(shape, 0.5)))


def test_an_ensemble_is_a_function_that_gives_all_its_members_say():
    members = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]

    def ensemble(xs):
        p = np.array([[row if x else [0.95, 0.05] for row in members] for x in xs])
        return ModelOutput(p.mean(axis=1).argmax(axis=1), sampled_probabilities=p)

    model = FunctionModel(ensemble)
    verdicts = Supervisor(VariationRatio(), 1.0).judge(model.predict([0, 1]))
    assert verdicts.accepted.tolist() == [True, False]
    assert VariationRatio()(model.predict([])).shape == (0,)
