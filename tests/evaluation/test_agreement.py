"""Whether two models say the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.evaluation.agreement import agreement, label_reader, normal_form, same_answer, token_f1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Positive", " positive.\n"),
        ("yes", "**Yes!**"),
        ("'Rome'", "“rome”"),
        ("New  York\nCity", "new york city"),
        ("Straße", "STRASSE"),
        ("ﬁne", "fine"),
        ("１２", "12"),
        ('{"a": 1, "b": [2.0, "x"]}', '{"b":[2,"x"],"a":1.0}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        (3, "3"),
        (3.0, "3"),
        ("はい。", "はい"),
        ("...", " ... "),
    ],
)
def test_answers_that_are_written_differently_are_the_same(first: object, second: object) -> None:
    assert same_answer(first, second) == same_answer(second, first) == 1.0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("5", "-5"),
        ("5", ".5"),
        ("5 %", "5"),
        ("not good", "good"),
        ("C", "C++"),
        ('{"a": "X"}', '{"a": "x"}'),
        ("[1, 2]", "[2, 1]"),
        ("...", "!!!"),
        ("", "a"),
    ],
)
def test_answers_that_mean_something_else_stay_different(first: str, second: str) -> None:
    assert same_answer(first, second) == 0.0


_AROUND = st.sampled_from(["", " ", '"', "**", "`", "\n", "“"])


@given(
    st.text(st.characters(categories=["L", "N"]), min_size=1), _AROUND, st.sampled_from(["", ".", "!", '"', " \n"])
)
def test_what_stands_around_a_word_makes_no_difference(word: str, before: str, after: str) -> None:
    assert normal_form(f"{before}{word}{after}") == normal_form(word)


@given(st.text(), st.text())
def test_the_grades_are_symmetric_lie_in_the_unit_interval_and_are_1_for_the_same(first: str, second: str) -> None:
    for grade in (same_answer, token_f1):
        assert grade(first, second) == grade(second, first)
        assert 0.0 <= grade(first, second) <= 1.0
        assert grade(first, first) == 1.0
    if same_answer(first, second):
        assert token_f1(first, second) == 1.0


def test_token_f1_counts_each_word_as_often_as_it_stands_there() -> None:
    assert token_f1("the cat sat", "the cat") == pytest.approx(0.8)
    assert token_f1("a a a", "a") == pytest.approx(0.5)
    assert token_f1("cats", "dogs") == 0.0
    assert token_f1("東京です", "東京") == pytest.approx(2 * 2 / 6)
    assert token_f1("東京", "京東") == 1.0


def test_labels_are_read_by_their_spellings_and_a_stranger_agrees_with_nothing() -> None:
    read = label_reader({"pos": ["positive", "good"], "neg": ["negative"]})
    assert [read(text) for text in ("POS", "Good!", "negative.", "neutral", "positive film")] == [
        "pos", "pos", "neg", None, None,
    ]  # fmt: skip
    local = np.array(["pos", "neg", "neutral", None], dtype=object)
    remote = np.array(["Positive.", "good", "neutral", "pos"], dtype=object)
    grades = agreement(local, remote, same_answer, read)
    assert grades[:3].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(grades[3])
    assert label_reader(["a", "b"])(" B. ") == "b"


def test_where_a_model_said_nothing_agreement_is_not_known() -> None:
    local = np.array(["a", None, "", "c"], dtype=object)
    remote = np.array(["A.", "b", "b", None], dtype=object)
    assert np.isnan(agreement(local, remote, same_answer)).tolist() == [False, True, True, True]
