"""How much of a language model's next-token mass stands for the label it chose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers import LabelProbability
from bisupervised.records import ModelOutput

NAN = float("nan")
LABELS = {1: ["positive", "pos", "yes"], 0: ["negative", "no"]}


def score(quantifier, prediction, **top):
    logprobs = {token.replace("_", " "): math.log(p) if p else -math.inf for token, p in top.items()}
    column = np.empty(1, dtype=object)
    column[0] = prediction
    return float(quantifier(ModelOutput(column, top_logprobs=[logprobs]))[0])


PLAIN, NORMALISED = LabelProbability(LABELS), LabelProbability(LABELS, normalise=True)


def test_the_papers_rule_sums_the_probabilities_of_all_tokens_of_the_label():
    top = {"positive": 0.5, "pos": 0.2, "yes": 0.05, "negative": 0.1, "the": 0.15}
    assert score(PLAIN, 1, **top) == pytest.approx(0.75)
    assert score(PLAIN, 0, **top) == pytest.approx(0.1)


def test_spaces_and_case_are_folded_and_spellings_of_one_token_add_up():
    top = {"_Positive": 0.3, "POSITIVE_": 0.2, "pos": 0.1, "\nno": 0.25}
    assert score(PLAIN, 1, **top) == pytest.approx(0.6)
    assert score(PLAIN, 0, **top) == pytest.approx(0.25)
    capitals = LabelProbability({1: ["Positive"], 0: ["NEGATIVE"]})
    assert score(capitals, 1, **{"positive": 0.4}) == pytest.approx(0.4), "both sides are folded"


def test_tokens_are_compared_whole_and_by_the_folding_one_gives():
    assert score(PLAIN, 1, positively=0.9, po=0.05, s=0.05) == 0.0
    exact = LabelProbability({1: ["A"], 0: ["a"]}, fold=lambda token: token)
    assert score(exact, 1, A=0.6, a=0.3) == pytest.approx(0.6)
    assert exact.label_of("a") == 0
    assert exact.label_of(" a") is None


def test_normalised_it_is_the_share_among_the_labels():
    top = {"yes": 0.3, "no": 0.1, "perhaps": 0.6}
    assert score(NORMALISED, 1, **top) == pytest.approx(0.75)
    assert score(NORMALISED, 0, **top) == pytest.approx(0.25)
    assert score(NORMALISED, 1, yes=0.01) == pytest.approx(1.0)


def test_a_label_without_any_mass_is_0_and_without_any_labels_mass_normalised_not_known():
    assert score(PLAIN, 1, no=0.9) == 0.0
    assert score(NORMALISED, 1, no=0.9) == 0.0
    assert score(PLAIN, 1, perhaps=0.9) == 0.0
    assert math.isnan(score(NORMALISED, 1, perhaps=0.9))
    assert score(PLAIN, 1, yes=0.0) == 0.0, "a log-probability of -inf"
    assert math.isnan(score(NORMALISED, 1, yes=0.0, no=0.0))


@pytest.mark.parametrize("quantifier", [PLAIN, NORMALISED])
@pytest.mark.parametrize("prediction", [None, 2, "1", "positive", NAN, ""])
def test_a_prediction_that_is_no_label_gives_no_evidence(quantifier, prediction):
    assert math.isnan(score(quantifier, prediction, yes=0.9))


@pytest.mark.parametrize("prediction", [1, 1.0, np.int64(1), True])
def test_a_label_is_the_one_it_equals(prediction):
    assert score(PLAIN, prediction, yes=0.9) == pytest.approx(0.9)


def test_labels_in_a_text_column_are_found():
    quantifier = LabelProbability({"positive": ["yes"], "negative": ["no"]})
    output = ModelOutput(np.array(["negative", "positive"]), top_logprobs=[{"no": math.log(0.5)}] * 2)
    assert quantifier(output).tolist() == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize("alternatives", [{}, None])
def test_an_output_without_alternatives_gives_no_evidence(alternatives):
    assert np.isnan(PLAIN(ModelOutput(np.array([1]), top_logprobs=[alternatives]))).all()


def test_rounding_never_gives_more_than_1():
    assert score(PLAIN, 1, yes=0.5, pos=0.3, positive=0.2 + 1e-9) <= 1.0


@pytest.mark.parametrize("token", ["yes", "no", "unrelated"])
def test_numbers_above_0_are_no_log_probabilities(token):
    """Probabilities passed as log-probabilities would be certain: e^0.6 is above 1."""
    with pytest.raises(EvidenceError, match="above 0"):
        PLAIN(ModelOutput(np.array([1]), top_logprobs=[{token: 0.6, "y": -1.0}]))


@pytest.mark.parametrize(
    "labels",
    [
        {1: ["yes"], 0: ["no", "yes"]},
        {1: ["Yes"], 0: [" yes"]},
        {1: ["a", "b"], 0: ["c"], 2: ["B"]},
    ],
)
def test_a_token_cannot_stand_for_two_labels(labels):
    with pytest.raises(EvidenceError, match="stands for both"):
        LabelProbability(labels)


@pytest.mark.parametrize("tokens", ["yes", [], ()])
def test_each_label_needs_a_list_of_tokens(tokens):
    with pytest.raises(EvidenceError, match="list of at least one token"):
        LabelProbability({1: tokens, 0: ["no"]})


def test_a_token_may_be_listed_twice_for_one_label():
    assert score(LabelProbability({1: ["yes", "Yes"], 0: ["no"]}), 1, yes=0.5) == pytest.approx(0.5)


@given(
    st.dictionaries(st.sampled_from(["yes", "pos", "no", "negative", "x", "y"]), st.floats(0.001, 0.16), min_size=1)
)
def test_the_labels_share_at_most_all_of_the_mass(top):
    plain = [score(PLAIN, label, **top) for label in LABELS]
    assert sum(plain) <= sum(top.values()) + 1e-9
    shares = [score(NORMALISED, label, **top) for label in LABELS]
    assert sum(plain) == 0.0 or sum(shares) == pytest.approx(1.0)
