"""Exact match by hand, and against the words of SQuAD's own evaluation script."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.studies.live.exact_match import exact_match, normalised


def official(s: str) -> str:
    """`normalize_answer` of SQuAD 2.0's evaluation script, as it stands there."""

    def remove_articles(text):
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    def lower(text):
        return text.lower()

    return white_space_fix(remove_articles(remove_punc(lower(s))))


@given(st.text())
def test_answers_are_normalised_as_in_the_official_script(text):
    assert normalised(text) == official(text)


@given(st.lists(st.sampled_from(["The", "a", "an", "Norman", "s", ",", "U.S.", "  ", "-", "1066"]), max_size=8))
def test_so_are_answers_made_of_what_it_removes(words):
    text = " ".join(words)
    assert normalised(text) == official(text)


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("in the 10th and 11th centuries!", ["10th and 11th centuries", "in 10th and 11th centuries"], 1.0),
        ("10th century", ["10th and 11th centuries"], 0.0),
        ("", ["Normans"], 0.0),
        ("", [], 1.0),
        ("Normans", [], 0.0),
        ("the", [], 1.0),  # nothing of it is left, as in the official script
    ],
)
def test_an_answer_is_right_where_it_equals_any_gold_answer(answer, gold, right):
    assert exact_match(answer, gold) == right
