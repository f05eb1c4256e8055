"""What a model says when it is asked again: self-consistency and semantic entropy."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import ConfigError, EvidenceError
from bisupervised.quantifiers import SelfConsistency, SemanticEntropy, quantifier_by_name
from bisupervised.quantifiers.equivalence import TokenF1, exact
from bisupervised.quantifiers.semantic_entropy import clustered
from bisupervised.records import Failure, ModelOutput
from bisupervised.supervisor import Supervisor

NAN, INF = float("nan"), float("inf")
WORDS = st.lists(st.sampled_from(["a1", "b2", "c3", None]), min_size=1, max_size=7)


def output_of(prediction: Any, samples: Any, **columns: Any) -> ModelOutput:
    return ModelOutput(np.array([prediction], dtype=object), samples=[samples], **columns)


def consistency(prediction: Any, samples: Any, equivalent: Any = exact) -> float:
    return float(SelfConsistency(equivalent=equivalent)(output_of(prediction, samples))[0])


def entropy(prediction: Any, samples: Any, equivalent: Any = exact) -> float:
    return float(SemanticEntropy(equivalent=equivalent)(output_of(prediction, samples))[0])


def weighted(prediction: Any, tokens: Any, samples: Any, sums: Any, lengths: Any) -> float:
    output = output_of(prediction, samples, token_logprobs=[tokens], sample_logprobs=[sums], sample_lengths=[lengths])
    return float(SemanticEntropy(equivalent=exact, weighted=True)(output)[0])


# ---------------------------------------------------------------- self-consistency


@pytest.mark.parametrize(
    ("samples", "share"),
    [(["Rome"] * 4, 1.0), (["Oslo"] * 4, 0.0), (["Rome", "Oslo", "Rome", "Rome"], 0.75), (["Rome", None], 0.5)],
)
def test_the_share_of_samples_that_agree(samples: list[Any], share: float) -> None:
    assert consistency("Rome", samples) == share


def test_labels_agree_with_labels() -> None:
    assert consistency(1, [1, 0, 1, None]) == 0.5


def test_a_prediction_that_is_none_cannot_be_agreed_with() -> None:
    assert math.isnan(consistency(None, ["Rome"]))
    assert math.isnan(entropy(None, ["Rome"]))


# ---------------------------------------------------------------- semantic entropy


@given(st.integers(1, 12))
def test_it_is_0_when_all_say_the_same_and_minus_log_s_when_no_two_do(k: int) -> None:
    assert entropy("x", ["x"] * k) == 0.0
    assert entropy("x", [f"s{number}" for number in range(k)]) == pytest.approx(-math.log(1 + k))


def test_a_value_computed_by_hand() -> None:
    # x, x, x | y, y | z
    expected = 3 / 6 * math.log(3 / 6) + 2 / 6 * math.log(2 / 6) + 1 / 6 * math.log(1 / 6)
    assert entropy("x", ["y", "x", "z", "x", "y"]) == pytest.approx(expected)


@given(st.sampled_from(["a1", "b2"]), WORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_count_to_the_last_bit(prediction: str, samples: list, random: Any) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)
    for score in (consistency, entropy):
        np.testing.assert_array_equal(score(prediction, samples), score(prediction, shuffled))


@given(st.sampled_from(["a1", "b2"]), WORDS)
def test_it_stays_in_its_range_and_a_sample_that_failed_never_makes_it_more_trusted(
    prediction: str, samples: list
) -> None:
    if all(sample is None for sample in samples):
        assert math.isnan(entropy(prediction, samples))
        assert math.isnan(consistency(prediction, samples))
        return
    assert -math.log(1 + len(samples)) - 1e-12 <= entropy(prediction, samples) <= 0.0
    for place, sample in enumerate(samples):
        fewer = [*samples[:place], None, *samples[place + 1 :]]
        if sample is not None and any(one is not None for one in fewer):
            assert entropy(prediction, fewer) <= entropy(prediction, samples) + 1e-12
            assert consistency(prediction, fewer) <= consistency(prediction, samples)


@given(st.sampled_from(["a1", "b2"]), WORDS)
def test_equal_likelihoods_weigh_as_the_plain_shares_do(prediction: str, samples: list) -> None:
    known = [sample or "d4" for sample in samples]
    k = len(known)
    lengths = np.arange(1.0, k + 1)
    value = weighted(prediction, [-0.5, -1.5], known, -lengths, lengths)
    assert value == pytest.approx(entropy(prediction, known), abs=1e-12)


def test_a_weighted_value_computed_by_hand() -> None:
    # Likelihoods per token: the prediction .5, its twin .25, another .25; two clusters with .75 and .25.
    value = weighted("x", [math.log(0.5)] * 3, ["x", "y"], [2 * math.log(0.25), 5 * math.log(0.25)], [2, 5])
    assert value == pytest.approx(0.75 * math.log(0.75) + 0.25 * math.log(0.25))


def test_an_impossible_answer_weighs_nothing() -> None:
    assert weighted("x", [-0.5], ["x", "y"], [-0.5, -INF], [1, 1]) == 0.0
    assert weighted("x", [-INF], ["y"], [-INF], [1]) == pytest.approx(-math.log(2))


@pytest.mark.parametrize(
    ("tokens", "sums", "lengths"),
    [
        ([], [-1.0, -1.0], [1, 1]),
        (None, [-1.0, -1.0], [1, 1]),
        ([-1.0, NAN], [-1.0, -1.0], [1, 1]),
        ([-1.0], [-1.0, NAN], [1, 1]),
        ([-1.0], [-1.0, -1.0], [1, NAN]),
        ([-1.0], [0.0, -1.0], [0, 1]),
        ([-1.0], [], []),
        ([-1.0], None, None),
    ],
)
def test_a_likelihood_that_is_not_known_gives_no_evidence(tokens: Any, sums: Any, lengths: Any) -> None:
    assert math.isnan(weighted("x", tokens, ["x", "y"], sums, lengths))


def test_likelihoods_that_cannot_be_are_errors() -> None:
    with pytest.raises(EvidenceError, match="above 0"):
        weighted("x", [-1.0], ["x"], [0.5], [1])
    with pytest.raises(EvidenceError, match="shape"):
        weighted("x", [-1.0], ["x", "y"], [-0.5], [1])
    with pytest.raises(EvidenceError, match="weighted = false"):
        SemanticEntropy(weighted=True)(output_of("x", ["x"]))


def test_the_clusters_are_greedy_against_their_first_answers() -> None:
    close = lambda a, b: abs(a - b) <= 1  # noqa: E731
    assert clustered([0, 1, 2, 3], close) == [[0, 1], [2, 3]], "2 is like 1, which is not the first of its cluster"
    assert clustered([1, 0, 2, 3], close) == [[0, 1, 2], [3]]


def test_paraphrases_are_one_cluster_under_an_equivalence_that_knows_them() -> None:
    answers = ["It is Paris", "Paris, it is!", "Lyon"]
    assert entropy("it is paris", answers, TokenF1(0.9)) > entropy("it is paris", answers, exact)


# ---------------------------------------------------------------- both


BOTH = pytest.mark.parametrize("kind", [SelfConsistency, SemanticEntropy])


@BOTH
def test_an_equivalence_that_raises_costs_its_row_the_evidence_and_no_other(kind: Any, caplog: Any) -> None:
    def equivalent(a: str, b: str) -> bool:
        if "?" in b:
            raise ConnectionError("the model of entailment is down")
        return a == b

    output = ModelOutput(np.array(["x", "x"]), samples=[["x", "?"], ["x", "x"]])
    with caplog.at_level(logging.WARNING, "bisupervised"):
        confidences = kind(equivalent=equivalent)(output)
    assert math.isnan(confidences[0])
    assert confidences[1] == {SelfConsistency: 1.0, SemanticEntropy: 0.0}[kind]
    assert "ConnectionError: the model of entailment is down" in caplog.text


@BOTH
@pytest.mark.parametrize("samples", [[None], [[]], [[None, None]], [()]])
def test_a_row_without_samples_gives_no_evidence(kind: Any, samples: Any) -> None:
    assert np.isnan(kind()(ModelOutput(np.array(["x"]), samples=samples))).all()


@BOTH
def test_one_text_is_no_list_of_samples(kind: Any) -> None:
    with pytest.raises(EvidenceError, match="list of answers"):
        kind()(output_of("x", "xx"))


@BOTH
@pytest.mark.parametrize("samples", [0, -1])
def test_at_least_one_sample_is_drawn(kind: Any, samples: int) -> None:
    with pytest.raises(EvidenceError, match="at least 1"):
        kind(samples=samples)


@BOTH
def test_settings_come_from_a_file(kind: Any) -> None:
    found = quantifier_by_name(kind.name, {"samples": 3, "equivalence": {"token_f1": 0.5}, "quantifier": kind.name})
    assert found == kind(3, TokenF1(0.5))
    assert found.extra_calls == 3
    assert quantifier_by_name(kind.name, {"equivalence": "m:f"}, {"m:f": exact}.get) == kind(equivalent=exact)
    for wrong in ({"samples": 0}, {"samples": 2.5}, {"samples": True}, {"samples": "5"}, {"equivalence": "alike"}):
        with pytest.raises(ConfigError):
            quantifier_by_name(kind.name, wrong)
    with pytest.raises(ConfigError, match="weighted"):
        quantifier_by_name("semantic_entropy", {"weighted": "yes"})


def test_a_supervisor_does_not_read_the_samples_of_a_failed_row() -> None:
    output = ModelOutput(
        np.array(["x", None], dtype=object), samples=[["x"], ["x"]], failures={1: Failure("unreadable", "?")}
    )
    verdicts = Supervisor(SelfConsistency(samples=1), 0.5).judge(output)
    assert verdicts.accepted.tolist() == [True, False]
