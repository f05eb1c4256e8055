"""When two answers say the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import ConfigError, EvidenceError
from bisupervised.quantifiers.equivalence import Cosine, TokenF1, equivalence_of, exact, normalised

VECTORS = {
    "one": [1.0, 0.0],
    "uno": [2.0, 0.2],
    "two": [0.0, 1.0],
    "nothing": [0.0, 0.0],
    "broken": [float("nan"), 1.0],
}
EVERY = pytest.mark.parametrize(
    "equivalent",
    [exact, normalised, TokenF1(0.5), TokenF1(1.0), Cosine(lambda text: [len(text), 1.0], 0.99)],
    ids=["exact", "normalised", "f1 .5", "f1 1", "cosine"],
)


@EVERY
@given(a=st.text(max_size=12), b=st.text(max_size=12))
def test_an_answer_is_like_itself_and_the_order_does_not_count(equivalent: Any, a: str, b: str) -> None:
    assert equivalent(a, a) is True
    assert equivalent(a, b) is equivalent(b, a)


@EVERY
def test_labels_that_are_no_text_are_compared_as_they_are(equivalent: Any) -> None:
    assert equivalent(1, 1) is True
    assert equivalent(1, 2) is False
    assert equivalent(1, "1") is False


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("The Eiffel Tower.", "eiffel  tower", True),
        ("«Straße»", "STRASSE!", True),
        ("Anna", "anna", True),
        ("the", "The", True),
        ("A", "The", False),
        ("A", "B", False),
        ("!", "?", False),
        ("3.5", "35", False),
        ("-5", "5", False),
        ("It is -5 °C.", "it is -5 c", True),
        ("10:30", "1030", False),
        ("3.5.", "3.5", True),
        ("tower eiffel", "eiffel tower", False),
        ("", " ", True),
    ],
)
def test_normalised_answers(a: str, b: str, same: bool) -> None:
    assert normalised(a, b) is same


@pytest.mark.parametrize(
    ("least", "a", "b", "same"),
    [
        (0.8, "north of France", "France, of north", True),
        (0.8, "a b c d", "b c d e f", False),  # words b c d | b c d e f: F1 = 6/8, below
        (0.75, "a b c d", "b c d e f", True),
        (0.5, "yes yes yes", "yes", True),  # 2/4
        (0.51, "yes yes yes", "yes", False),
        (1.0, "Paris", "paris", True),
        (0.1, "Paris", "Lyon", False),
        (0.1, "", "Lyon", False),
    ],
)
def test_words_in_common(least: float, a: str, b: str, same: bool) -> None:
    assert TokenF1(least)(a, b) is same


def test_embeddings_that_point_the_same_way() -> None:
    cosine = Cosine(VECTORS.__getitem__, 0.9)
    assert cosine("one", "uno") is True
    assert cosine("one", "two") is False
    for unusable in ("nothing", "broken"):
        assert cosine(unusable, "one") is False
        assert cosine(unusable, unusable) is True
    assert Cosine(VECTORS.__getitem__, -1.0)("nothing", "one") is False, "no direction is no evidence of likeness"


def test_a_text_is_embedded_once() -> None:
    asked = []

    def embed(text: str) -> list[float]:
        asked.append(text)
        return VECTORS[text]

    cosine = Cosine(embed, 0.5)
    for _ in range(3):
        cosine("one", "two")
        cosine("one", "uno")
    assert sorted(asked) == ["one", "two", "uno"]


def loaded(name: str) -> Any:
    return {"mine:function": exact, "mine:embed": VECTORS.__getitem__, "mine:number": 3}[name]


def test_a_configuration_file_names_an_equivalence() -> None:
    assert equivalence_of("exact") is exact
    assert equivalence_of("normalised") is normalised
    assert equivalence_of({"token_f1": 0.8}) == TokenF1(0.8)
    assert equivalence_of({"token_f1": 1}) == TokenF1(1.0)
    assert equivalence_of({"cosine": 0.9, "embed": "mine:embed"}, loaded)("one", "uno")
    assert equivalence_of("mine:function", loaded) is exact
    assert equivalence_of(exact) is exact


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("same", "equivalence is 'exact'"),
        (None, "equivalence is 'exact'"),
        ({}, "equivalence is 'exact'"),
        ({"token_f1": 0.8, "more": 1}, "equivalence is 'exact'"),
        ({"cosine": 0.9}, "equivalence is 'exact'"),
        ({"token_f1": 0.0}, "min is in"),
        ({"token_f1": "high"}, "high"),
        ({"cosine": 2.0, "embed": "mine:embed"}, "min is in"),
        ({"cosine": 0.5, "embed": "mine:number"}, "no function"),
        ("mine:number", "no function"),
    ],
)
def test_a_setting_that_names_none_is_refused(setting: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        equivalence_of(setting, loaded)


def test_a_function_cannot_be_named_where_nobody_can_load_it() -> None:
    with pytest.raises(ConfigError, match="no function"):
        equivalence_of("mine:function")


@pytest.mark.parametrize("least", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_of_words_is_above_0_and_at_most_1(least: float) -> None:
    with pytest.raises(EvidenceError, match="token_f1"):
        TokenF1(least)
