"""How alike answers are, and what is made of it: lexical similarity, CoCoA, the graph scores, the semantic sets."""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import ConfigError, EvidenceError
from bisupervised.models.extra_calls import ExtraCalls
from bisupervised.quantifiers import (
    CoCoA,
    DegMat,
    Eccentricity,
    EigValLaplacian,
    LexicalSimilarity,
    NumSemanticSets,
    SelfConsistency,
    SemanticEntropy,
    quantifier_by_name,
    similarity_of,
)
from bisupervised.quantifiers.similarity import common_length, jaccard, rouge_l, similarity_matrix
from bisupervised.quantifiers.similarity_graph import laplacian
from bisupervised.records import ModelOutput

NAN = float("nan")
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9)
ANSWERS = st.lists(st.sampled_from(["x", "y", "z", None]), min_size=1, max_size=6)
GRAPHS = [DegMat, Eccentricity, EigValLaplacian]
BY_SIMILARITY = [LexicalSimilarity, CoCoA, *GRAPHS]


def asked(prediction: Any, samples: Any, logprobs: Any = (-0.5, -1.0)) -> ModelOutput:
    return ModelOutput(
        np.array([prediction], dtype=object),
        samples=[samples],
        token_logprobs=[np.array(logprobs, dtype=float)],
        token_alternatives=[np.log([[0.5, 0.5]])],
    )


def score(quantifier: Any, prediction: Any, samples: Any, **more: Any) -> float:
    return float(quantifier(asked(prediction, samples, **more))[0])


# ---------------------------------------------------------------- similarities


def naive_common_length(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(WORDS, WORDS)
def test_the_common_subsequence_is_the_one_of_the_table(a, b):
    assert common_length(a, b) == common_length(b, a) == naive_common_length(a, b)


@given(WORDS, WORDS)
def test_similarities_are_symmetric_shares_and_1_for_the_same_words(a, b):
    one, other = " ".join(a), " ".join(b)
    for similarity in (rouge_l, jaccard, similarity_of("exact"), similarity_of("normalised")):
        assert similarity(one, other) == similarity(other, one)
        assert 0.0 <= similarity(one, other) <= 1.0
        assert similarity(one, one) == 1.0


@pytest.mark.parametrize(
    ("a", "b", "longest", "words"),
    [
        ("the cat sat", "The cat, sat!", 1.0, 1.0),
        ("cat sat", "sat cat", 0.5, 1.0),
        ("in Paris in France", "Paris", 0.4, 1 / 3),
        ("Paris", "", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("Paris", 3, 0.0, 0.0),
        (3, 3, 1.0, 1.0),
    ],
)
def test_similarities_by_hand(a, b, longest, words):
    assert rouge_l(a, b) == pytest.approx(longest)
    assert jaccard(a, b) == pytest.approx(words)


def test_long_answers_are_compared_in_time():
    rng = np.random.default_rng(0)
    a, b = (" ".join(map(str, rng.integers(0, 500, 20_000))) for _ in range(2))
    assert 0.0 < rouge_l(a, b) < 1.0


def test_a_file_names_the_similarity():
    assert similarity_of("rouge_l") is rouge_l
    assert similarity_of("jaccard") is jaccard
    assert similarity_of("module:name", lambda _: jaccard) is jaccard
    assert similarity_of(jaccard) is jaccard
    for wrong in ("cosine", "module:name", 3, None):
        with pytest.raises(ConfigError, match="similarity is 'rouge_l', 'jaccard'"):
            similarity_of(wrong)
    with pytest.raises(ConfigError, match="similarity is"):
        similarity_of("module:name", lambda _: 3)
    named = quantifier_by_name("deg_mat", {"similarity": "rouge_l", "samples": 7, "equivalence": "no:business"})
    assert named == DegMat(7, rouge_l)
    assert quantifier_by_name("num_semantic_sets", {"equivalence": "exact", "similarity": "no"}).equivalent("a", "a")
    with pytest.raises(ConfigError, match="cocoa: unlikely is one of sum, mean, entropy"):
        quantifier_by_name("cocoa", {"unlikely": "very"})


def test_what_lies_outside_0_and_1_counts_as_0_and_1_and_nan_is_no_evidence():
    np.testing.assert_array_equal(similarity_matrix(["a", "b"], lambda a, b: -0.5), np.eye(2))
    np.testing.assert_array_equal(similarity_matrix(["a", "b"], lambda a, b: 1.5), np.ones((2, 2)))
    for kind in BY_SIMILARITY:
        assert np.isnan(score(kind(similarity=lambda a, b: NAN), "a", ["b"]))


# ---------------------------------------------------------------- what is made of them


@given(ANSWERS, st.sampled_from([*BY_SIMILARITY, NumSemanticSets]))
def test_equal_answers_give_the_most_and_different_ones_the_least(samples, kind):
    m = 1 + len(samples)
    most = {EigValLaplacian: -1.0, NumSemanticSets: -1.0, CoCoA: 0.0, Eccentricity: 0.0}.get(kind, 1.0)
    least = {
        DegMat: 1 / m,
        LexicalSimilarity: 0.0,
        Eccentricity: -math.sqrt(1 - 1 / m),
        CoCoA: -0.75,
    }.get(kind, -float(m))
    between = score(kind(), "x", samples)
    assert score(kind(), "x", ["x"] * len(samples)) == pytest.approx(most, abs=1e-7)
    assert score(kind(), "x", [f"n{i}" for i in range(len(samples))]) == pytest.approx(least, abs=1e-7)
    if any(samples):
        assert least - 1e-7 <= between <= most + 1e-7
    else:
        assert np.isnan(between)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(samples, random):
    shuffled = list(samples)
    random.shuffle(shuffled)
    for kind in [*BY_SIMILARITY, NumSemanticSets]:
        assert score(kind(), "x", shuffled) == pytest.approx(score(kind(), "x", samples), abs=1e-9, nan_ok=True)


@given(ANSWERS)
def test_answers_that_are_alike_or_not_at_all_are_counted_as_by_their_meaning(samples):
    """With a similarity of 0 and 1 the graph falls into groups, and its scores into counts."""
    if not any(samples):
        return
    m, groups = 1 + len(samples), {}
    for place, answer in enumerate(["x", *samples]):
        groups.setdefault(place if answer is None else answer, []).append(place)
    own = len(groups["x"])
    assert score(EigValLaplacian(), "x", samples) == pytest.approx(-len(groups), abs=1e-9)
    assert score(NumSemanticSets(), "x", samples) == -len(groups)
    assert score(DegMat(), "x", samples) == pytest.approx(own / m)
    assert score(SelfConsistency(), "x", samples) == pytest.approx((own - 1) / (m - 1))
    assert score(Eccentricity(), "x", samples) == pytest.approx(-math.sqrt(max(1 / own - 1 / m, 0)), abs=1e-7)
    assert score(SemanticEntropy(), "x", samples) >= -math.log(len(groups)) - 1e-12, "an entropy of so many groups"


def test_the_laplacian_is_positive_semidefinite_and_0_on_a_group():
    rng = np.random.default_rng(0)
    matrix = rng.random((6, 6))
    matrix = np.maximum(matrix, matrix.T)
    np.fill_diagonal(matrix, 1.0)
    eigenvalues = np.linalg.eigvalsh(laplacian(matrix))
    assert eigenvalues.min() == pytest.approx(0.0, abs=1e-12)
    assert eigenvalues.max() <= 2.0


def test_lexical_similarity_is_the_mean_of_the_pairs():
    answers = ["in Paris", "Paris", "in Lyon"]
    expected = np.mean([rouge_l(a, b) for a, b in itertools.combinations(answers, 2)])
    assert score(LexicalSimilarity(), answers[0], answers[1:]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unlikely", "u"), [("sum", 1.5), ("mean", 0.75), ("entropy", math.log(2))], ids=lambda value: str(value)
)
def test_cocoa_multiplies_how_unlikely_by_how_unlike(unlikely, u):
    quantifier = CoCoA(similarity=similarity_of("exact"), unlikely=unlikely)
    assert score(quantifier, "a", ["a", "b", "c", None]) == pytest.approx(-u * 0.75)
    assert score(quantifier, "a", ["a", "a"]) == 0.0
    assert math.copysign(1.0, score(quantifier, "a", ["a", "a"])) == 1.0


def test_cocoa_of_a_long_answer_does_not_underflow():
    assert score(CoCoA(unlikely="sum"), "a", ["b"], logprobs=[-1.0] * 5000) == -5000.0
    assert score(CoCoA(unlikely="sum"), "a", ["b"], logprobs=[-np.inf]) == -np.inf


def test_cocoa_needs_the_log_probabilities_too():
    with pytest.raises(EvidenceError, match="token log-probabilities"):
        CoCoA()(ModelOutput(np.array(["a"]), samples=[["a"]]))
    with pytest.raises(EvidenceError, match="alternatives"):
        CoCoA(unlikely="entropy")(ModelOutput(np.array(["a"]), samples=[["a"]]))
    assert np.isnan(score(CoCoA(), "a", ["b"], logprobs=[]))
    with pytest.raises(EvidenceError, match="unlikely is one of"):
        CoCoA(unlikely="perplexity")


@pytest.mark.parametrize("kind", [*BY_SIMILARITY, NumSemanticSets])
def test_a_comparison_that_raises_costs_its_row_the_evidence_and_no_other(kind, caplog):
    def compare(a: str, b: str) -> bool:
        if "broken" in (a, b):
            raise ConnectionError("the cross-encoder is down")
        return a == b

    quantifier = kind(**{"equivalent" if kind is NumSemanticSets else "similarity": compare})
    output = ModelOutput(np.array(["a", "a"]), samples=[["broken"], ["a"]], token_logprobs=[np.array([-1.0])] * 2)
    with caplog.at_level(logging.WARNING, "bisupervised"):
        confidences = quantifier(output)
    assert np.isnan(confidences).tolist() == [True, False]
    assert "ConnectionError: the cross-encoder is down" in caplog.text


@pytest.mark.parametrize("kind", [*BY_SIMILARITY, NumSemanticSets])
def test_the_samples_that_it_states_are_asked_for(kind):
    assert ExtraCalls.of(kind(samples=7), {}).samples == 7
    with pytest.raises(EvidenceError, match="at least 1"):
        kind(samples=0)
    assert np.isnan(score(kind(), "a", []))
    assert np.isnan(score(kind(), None, ["a"]))
