"""Token entropy and margin: values by hand, what an endpoint leaves out, and evidence that breaks its contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers import TokenEntropy, TokenMargin
from bisupervised.quantifiers.token_alternatives import token_entropies
from bisupervised.records import ModelOutput

NAN = float("nan")
LN2 = math.log(2)
ALL = [TokenEntropy("mean"), TokenEntropy("max"), TokenEntropy("mean", tail=False), TokenMargin(), TokenMargin("min")]
EVERY = pytest.mark.parametrize("quantifier", ALL, ids=repr)


def answers(*rows: list[list[float]] | None) -> ModelOutput:
    with np.errstate(divide="ignore"):
        columns = [None if row is None else np.log(np.array(row)) for row in rows]
    return ModelOutput(np.zeros(len(rows)), token_alternatives=columns)


@pytest.mark.parametrize(
    ("tokens", "mean", "worst", "renormalised", "margin", "least"),
    [
        ([[1.0, 0.0]], 0.0, 0.0, 0.0, 1.0, 1.0),
        ([[0.5, 0.5]], -LN2, -LN2, -LN2, 0.0, 0.0),
        ([[0.5, 0.25]], -1.5 * LN2, -1.5 * LN2, -(math.log(3) - 2 / 3 * LN2), 0.25, 0.25),
        ([[1.0, 0.0], [0.5, 0.5]], -LN2 / 2, -LN2, -LN2 / 2, 0.5, 0.0),
        ([[0.25, 0.5]], -1.5 * LN2, -1.5 * LN2, -(math.log(3) - 2 / 3 * LN2), 0.25, 0.25),
    ],
)
def test_values_are_those_computed_by_hand(tokens, mean, worst, renormalised, margin, least):
    expected = [mean, worst, renormalised, margin, least]
    assert [float(q(answers(tokens))[0]) for q in ALL] == pytest.approx(expected, abs=1e-12)


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(0.001, 1)), st.integers(1, 6))
def test_of_the_k_likeliest_the_entropy_with_a_tail_is_the_least_there_may_be(weights, k):
    """The whole entropy is not below it, since the tail may be several tokens; nor is it below 0."""
    p = weights / weights.sum(axis=1, keepdims=True)
    whole = -(p * np.log(p)).sum(axis=1)
    shown = -np.sort(-p, axis=1)[:, :k]
    least = token_entropies(shown)
    assert (least <= whole + 1e-12).all()
    assert (least >= 0.0).all()
    np.testing.assert_allclose(token_entropies(p), whole, atol=1e-12)
    np.testing.assert_allclose(token_entropies(p, tail=False), whole, atol=1e-12)


def test_missing_alternatives_of_a_token_are_no_alternatives():
    """Of two tokens one has three alternatives, the other two."""
    ragged, narrow = [[0.5, 0.25, 0.25], [0.5, 0.5, NAN]], [[0.5, 0.5]]
    assert TokenEntropy("max")(answers(ragged))[0] == pytest.approx(-1.5 * LN2)
    assert TokenMargin("min")(answers(ragged))[0] == 0.0
    assert TokenEntropy()(answers([[0.5, 0.5, NAN]])) == TokenEntropy()(answers(narrow))


@EVERY
def test_no_tokens_and_a_token_that_is_not_known_are_no_evidence(quantifier):
    confidences = quantifier(answers(None, [[0.5, 0.5], [NAN, NAN]], [[0.5, 0.5]]))
    assert np.isnan(confidences).tolist() == [True, True, False]
    empty = [np.empty(0), np.empty((0, 5)), np.empty((3, 0))]
    assert np.isnan(quantifier(ModelOutput(np.zeros(3), token_alternatives=empty))).all()


def test_a_margin_needs_two_alternatives():
    assert np.isnan(TokenMargin()(answers([[0.7]], [[0.7, NAN], [0.5, 0.1]]))).all()
    assert TokenEntropy()(answers([[0.5]]))[0] == pytest.approx(-LN2), "an entropy does not: the tail is one"


@EVERY
def test_logarithms_of_no_probabilities_are_an_error(quantifier):
    for wrong in ([[0.7, 0.6]], [[1.5, NAN]]):
        with pytest.raises(EvidenceError, match="natural logarithms"):
            quantifier(answers([[0.5, 0.5]], wrong))
    with pytest.raises(EvidenceError, match="natural logarithms"):
        quantifier(ModelOutput(np.zeros(1), token_alternatives=[np.array([[0.9, 0.1]])]))  # not logarithms at all


@EVERY
def test_alternatives_of_another_shape_are_an_error(quantifier):
    for wrong in ([-0.1, -0.2], [[[-0.1]]], [["yes"]], [[-0.1], [-0.1, -0.2]]):
        with pytest.raises(EvidenceError, match="tokens, k"):
            quantifier(ModelOutput(np.zeros(1), token_alternatives=[wrong]))
    with pytest.raises(EvidenceError, match="1 rows for 2 predictions"):
        quantifier(ModelOutput(np.zeros(2), token_alternatives=[np.zeros((1, 1))]))


def test_only_known_aggregates():
    with pytest.raises(EvidenceError, match="'mean' or 'max'"):
        TokenEntropy("min")
    with pytest.raises(EvidenceError, match="'mean' or 'min'"):
        TokenMargin("max")
