"""What a language model's own token probabilities say about its answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers import TokenLikelihood, quantifier_by_name
from bisupervised.records import ModelOutput

NAN, INF = float("nan"), float("inf")
AGGREGATES = ["sum", "mean", "min", 0.0, 0.25, 0.5, 1.0]
EVERY = pytest.mark.parametrize("aggregate", AGGREGATES)


def score(aggregate, *rows):
    return TokenLikelihood(aggregate)(ModelOutput(np.zeros(len(rows)), token_logprobs=list(rows))).tolist()


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("sum", 1 / 64), ("mean", 1 / 4), ("min", 1 / 8), (0.0, 1 / 8), (0.5, 1 / 4), (1.0, 1 / 2), (0.25, 2**-2.5)],
)
def test_values_are_those_computed_by_hand(aggregate, expected):
    assert score(aggregate, np.log([1 / 2, 1 / 8, 1 / 4])) == pytest.approx([expected])


@EVERY
def test_a_single_token_is_its_probability_and_a_certain_answer_is_1(aggregate):
    assert score(aggregate, np.log([0.3])) == pytest.approx([0.3])
    assert score(aggregate, [0.0, 0.0]) == [1.0]
    assert score(aggregate, [5e-7, 0.0]) == [1.0], "rounding above 0 is no probability above 1"


@EVERY
@pytest.mark.parametrize("row", [None, [], np.empty(0), [NAN], [-0.1, NAN], [None, -0.1], [NAN, 3.0]])
def test_an_answer_without_tokens_or_with_one_not_known_gives_no_evidence(aggregate, row):
    np.testing.assert_array_equal(score(aggregate, row, [-0.5]), [NAN, np.exp(-0.5)])


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("sum", 0.0), ("mean", 0.0), ("min", 0.0), (0.0, 0.0), (0.25, 0.0), (1.0, 1.0)]
)
def test_an_impossible_token_makes_the_answer_impossible_unless_the_quantile_is_above_it(aggregate, expected):
    assert score(aggregate, [-INF, 0.0, 0.0]) == [expected]
    assert score(aggregate, [-INF, -INF]) == [0.0]


@EVERY
@pytest.mark.parametrize("row", [[0.9, 0.8], [-0.1, 0.01], [INF], [2e-6]])
def test_numbers_above_0_are_no_log_probabilities(aggregate, row):
    """Probabilities passed as log-probabilities would look certain."""
    with pytest.raises(EvidenceError, match="above 0"):
        score(aggregate, [-0.1], row)


@EVERY
@pytest.mark.parametrize("row", [["high"], [[-0.1, -0.2]], -0.5, [[-0.1], [-0.2, -0.3]]])
def test_what_is_no_list_of_numbers_is_an_error(aggregate, row):
    with pytest.raises(EvidenceError):
        score(aggregate, row)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=12))
def test_the_aggregates_are_ordered_as_they_must_be(logprobs):
    total, mean, least = (score(aggregate, logprobs)[0] for aggregate in ("sum", "mean", "min"))
    quantiles = [score(q, logprobs)[0] for q in (0.0, 0.3, 0.7, 1.0)]
    slack = 1 + 1e-9
    assert total <= least * slack
    assert least <= mean * slack
    assert mean <= quantiles[-1] * slack
    assert quantiles[0] == pytest.approx(least)
    assert all(a <= b * slack for a, b in itertools.pairwise(quantiles))


def test_half_precision_tokens_are_summed_in_full():
    tokens = np.full(5000, -0.001, dtype=np.float16)
    assert score("sum", tokens) == pytest.approx([np.exp(5000 * float(np.float16(-0.001)))])


@pytest.mark.parametrize("aggregate", ["max", "", "0.5", -0.1, 1.1, NAN])
def test_an_unknown_aggregate_is_refused(aggregate):
    with pytest.raises(EvidenceError, match="quantile"):
        TokenLikelihood(aggregate)


@given(st.floats(0, 1))
def test_every_quantile_comes_back_from_its_name(quantile):
    quantifier = TokenLikelihood(quantile)
    assert quantifier_by_name(quantifier.name) == quantifier


def test_names():
    assert TokenLikelihood("mean").name == "token_likelihood_mean"
    assert [TokenLikelihood(q).name for q in (0.5, 1, 0, 0.1)] == [
        f"token_likelihood_q{q}" for q in ("0.5", 1, 0, "0.1")
    ]
