"""The quantifiers that read class probabilities: values by hand, and evidence that breaks its contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers import DeepGini, MaxSoftmax, PredictionConfidenceScore, SoftmaxEntropy
from bisupervised.records import ModelOutput

NAN, INF = float("nan"), float("inf")
ALL = [MaxSoftmax(), PredictionConfidenceScore(), SoftmaxEntropy(), DeepGini()]
EVERY = pytest.mark.parametrize("quantifier", ALL, ids=lambda q: q.name)


def output(*rows: list[float]) -> ModelOutput:
    p = np.array(rows)
    return ModelOutput(np.zeros(len(p)), probabilities=p)


LN2 = math.log(2)


@pytest.mark.parametrize(
    ("row", "max_softmax", "pcs", "entropy", "gini"),
    [
        ([1.0], 1.0, 1.0, 0.0, 1.0),
        ([1.0, 0.0], 1.0, 1.0, 0.0, 1.0),
        ([0.0, 0.0, 1.0], 1.0, 1.0, 0.0, 1.0),
        ([0.5, 0.5], 0.5, 0.0, -LN2, 0.5),
        ([0.5, 0.25, 0.25], 0.5, 0.25, -1.5 * LN2, 0.375),
        ([0.25, 0.25, 0.25, 0.25], 0.25, 0.0, -2 * LN2, 0.25),
        ([0.5, 0.5, 0.0, 0.0], 0.5, 0.0, -LN2, 0.5),
        ([0.125, 0.625, 0.25], 0.625, 0.375, -(0.375 * LN2 + 0.625 * math.log(1.6) + 0.5 * LN2), 0.46875),
    ],
)
def test_values_are_those_computed_by_hand(row, max_softmax, pcs, entropy, gini):
    expected = [max_softmax, pcs, entropy, gini]
    assert [float(quantifier(output(row))[0]) for quantifier in ALL] == pytest.approx(expected, abs=1e-15)


def test_the_entropy_of_a_certain_row_is_0_and_not_minus_0():
    confidence = SoftmaxEntropy()(output([1.0, 0.0]))[0]
    assert math.copysign(1.0, confidence) == 1.0


@EVERY
def test_the_order_of_the_classes_does_not_matter(quantifier):
    values = quantifier(output([0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]))
    np.testing.assert_allclose(values, values[0])


@EVERY
@pytest.mark.parametrize(
    "row",
    [
        [3.0, -1.0],
        [2.0, -1.0],  # logits that happen to sum to 1
        [0.5, 0.6],
        [0.5, 0.4],
        [0.0, 0.0],
        [1.5, -0.5],
        [INF, 0.0],
        [INF, -INF],
        [-0.1, 1.1],
        [90.0, 10.0],  # percent
    ],
)
@pytest.mark.parametrize("company", [[], [[0.5, 0.5]], [[NAN, NAN]], [[NAN, 0.5], [1.0, 0.0]]])
def test_what_is_no_probability_is_an_error_alone_and_beside_rows_without_evidence(quantifier, row, company):
    with pytest.raises(EvidenceError, match=f"row {len(company)} .*softmax.*renormalise"):  # and no warning
        quantifier(output(*company, row))


@EVERY
def test_the_error_counts_the_rows_that_are_wrong(quantifier):
    with pytest.raises(EvidenceError, match=r"2 of 4 rows .* \(row 1 sums to 2"):
        quantifier(output([0.5, 0.5], [1.0, 1.0], [NAN, 1.0], [7.0, -6.0]))


@EVERY
@pytest.mark.parametrize("shape", [(2,), (2, 2, 2), (3, 2), (1, 2), (0, 2), (2, 0), ()])
def test_probabilities_of_another_shape_are_an_error(quantifier, shape):
    with pytest.raises(EvidenceError):
        quantifier(ModelOutput(np.zeros(2), probabilities=np.full(shape, 0.5)))


@EVERY
def test_probabilities_that_are_no_numbers_are_an_error(quantifier):
    with pytest.raises(EvidenceError, match="must be numbers"):
        quantifier(ModelOutput(np.zeros(1), probabilities=np.array([["high", "low"]])))


@EVERY
@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_softmax_rounded_to_half_or_single_precision_still_sums_to_1(quantifier, classes, dtype):
    logits = np.random.default_rng(0).normal(size=(20, classes)) * 3
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    assert np.isfinite(quantifier(output(*p))).all()


@EVERY
@settings(max_examples=40)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 30), st.sampled_from([1, 2, 3, 7, 64, 1000])),
        elements=st.floats(0.01, 1),
    ),
    st.sampled_from(["C", "F", "reversed", "strided"]),
)
def test_memory_layout_and_company_change_no_bit(quantifier, weights, layout):
    p = weights / weights.sum(axis=1, keepdims=True)
    confidences = quantifier(output(*p))
    laid_out = {
        "C": np.ascontiguousarray(p),
        "F": np.asfortranarray(p),
        "reversed": p[::-1].copy()[::-1],
        "strided": np.repeat(p, 2, axis=1)[:, ::2],
    }[layout]
    given_so = quantifier(ModelOutput(np.zeros(len(p)), probabilities=laid_out))
    assert given_so.tobytes() == confidences.tobytes()
    for row in range(len(p)):
        assert quantifier(output(p[row]))[0].tobytes() == confidences[row].tobytes()


@EVERY
@settings(max_examples=40)
@given(st.integers(2, 20), st.floats(0, 1))
def test_confidence_lies_between_the_uniform_and_the_certain_row(quantifier, classes, share):
    uniform, certain = np.full(classes, 1 / classes), np.eye(classes)[0]
    low, between, high = quantifier(output(uniform, share * certain + (1 - share) * uniform, certain))
    assert low - 1e-12 <= between <= high + 1e-12
