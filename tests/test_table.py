"""The one table: reading and checking named columns."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import ModelTimeout, TableError
from bisupervised.fallback import Default
from bisupervised.quantifiers import (
    DeepGini,
    GivenConfidence,
    LabelProbability,
    Reconstruction,
    SoftmaxEntropy,
    TokenLikelihood,
    quantifier_by_name,
)
from bisupervised.records import LevelName
from bisupervised.table import Table, is_missing, join_tables, table_from_outcomes
from fakes import system

NAN, INF = float("nan"), float("inf")


def columns(n: int = 3, **changes: Any) -> dict[str, Any]:
    """Columns of n rows that are fine; `changes` replace or add some, None removes one."""
    good: dict[str, Any] = {
        "id": [f"row {row}" for row in range(n)],
        "label": ["ham", "spam", "ham"][:n],
        "local_prediction": ["ham", "ham", "ham"][:n],
        "local_confidence": [0.9, 0.2, 0.8][:n],
        "remote_prediction": ["ham", "spam", "spam"][:n],
        "remote_confidence": [0.9, 0.7, 0.6][:n],
    }
    return {name: column for name, column in (good | changes).items() if column is not None}


def read(**changes: Any) -> Table:
    return Table.from_columns(columns(**changes))


def refused(**changes: Any) -> str:
    with pytest.raises(TableError) as raised:
        read(**changes)
    return str(raised.value)


# ---------------------------------------------------------------- reading


def test_a_mapping_of_lists_is_read():
    table = read(local_latency_s=[0.1, None, 0.3], remote_cost=[1, 2, ""], tenant=["x", "y", "z"])
    assert len(table) == 3
    assert table.ids.tolist() == ["row 0", "row 1", "row 2"]
    assert table.local.confidences.tolist() == [0.9, 0.2, 0.8]
    assert table.correct("local").tolist() == [1.0, 0.0, 1.0]
    assert table.correct(LevelName.REMOTE).tolist() == [1.0, 1.0, 0.0]
    np.testing.assert_array_equal(table.local.latency_s, [0.1, NAN, 0.3])
    np.testing.assert_array_equal(table.remote.cost, [1.0, 2.0, NAN])
    assert table.extra["tenant"].tolist() == ["x", "y", "z"]
    assert table.complete.all()
    assert list(read().notes) == []
    assert table.level("remote") is table.remote


def test_lists_tuples_arrays_and_ranges_are_all_columns():
    table = read(local_confidence=(1, 0, 1), remote_confidence=range(3), label=np.array(["ham", "spam", "ham"]))
    assert table.local.confidences.tolist() == [1.0, 0.0, 1.0]
    assert table.remote.confidences.tolist() == [0.0, 1.0, 2.0]


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


@pytest.mark.parametrize("convert", [False, True], ids=["plain", "nullable"])
def test_a_data_frame_is_read_missing_cells_included(pandas, convert):
    frame = pandas.DataFrame(
        columns(
            label=["ham", None, "ham"],
            local_confidence=[0.9, None, 0.8],
            remote_error=[None, "timeout: 1 s", None],
            remote_asked=[True, None, False],
        ),
        index=[7, 7, 3],
    )
    table = Table.from_columns(frame.convert_dtypes() if convert else frame)
    np.testing.assert_array_equal(table.local.confidences, [0.9, NAN, 0.8])
    np.testing.assert_array_equal(table.correct("local"), [1.0, NAN, 1.0])
    assert table.remote.errors.tolist() == [None, "timeout: 1 s", None]
    assert table.remote.asked.tolist() == [True, True, False]
    assert table.labels[1] is None or table.labels[1] != table.labels[1]


def test_integers_with_gaps_categories_and_int_column_names_of_a_frame_are_read(pandas):
    frame = pandas.DataFrame(
        columns(label=[1, None, 0], local_prediction=[1, 1, 0], remote_prediction=["1", "0", "1"])
    )
    frame["remote_prediction"] = frame["remote_prediction"].astype("category")
    frame[0] = ["a", "b", "c"]
    table = Table.from_columns(frame)
    np.testing.assert_array_equal(table.correct("local"), [1.0, NAN, 1.0])
    np.testing.assert_array_equal(table.correct("remote"), [1.0, NAN, 0.0])
    assert table.extra["0"].tolist() == ["a", "b", "c"]


def test_two_columns_of_one_name_in_a_frame_are_refused(pandas):
    frame = pandas.DataFrame(columns())
    with pytest.raises(TableError, match="same name"):
        Table.from_columns(pandas.concat([frame, frame[["label"]]], axis=1))


def test_an_arrow_table_is_read():
    pyarrow = pytest.importorskip("pyarrow")
    table = Table.from_columns(pyarrow.table(columns(local_cost=[None, 0.5, 1.0])))
    np.testing.assert_array_equal(table.local.cost, [NAN, 0.5, 1.0])
    assert table.correct("local").tolist() == [1.0, 0.0, 1.0]


def test_without_ids_rows_are_numbered_and_ids_may_be_numbers():
    assert read(id=None).ids.tolist() == ["0", "1", "2"]
    assert read(id=[10, 11.0, "twelve"]).ids.tolist() == ["10", "11", "twelve"]


@pytest.mark.parametrize("missing", [None, NAN, "", np.float32("nan")])
def test_missing_is_missing_whatever_stands_for_it(missing):
    assert is_missing(missing)
    table = read(
        label=["ham", missing, "ham"],
        local_prediction=[missing, "spam", "ham"],
        remote_confidence=[0.1, missing, 0.3],
        local_error=[missing, missing, missing],
    )
    np.testing.assert_array_equal(table.correct("local"), [0.0, NAN, 1.0])
    assert np.isnan(table.remote.confidences).tolist() == [False, True, False]
    assert not any(table.local.errors)
    assert "nan" not in [str(label) for label in table.labels], "NaN among texts is not the text nan"


@pytest.mark.parametrize("there", [0, 0.0, False, "0", " ", "nan", "None", INF, (), np.int64(0)])
def test_what_is_there_is_not_missing(there):
    assert not is_missing(there)


# ---------------------------------------------------------------- labels


LIKE_ONE = [1, 1.0, True, "1", " 1 ", np.int64(1), np.uint8(1), np.float32(1.0), np.bool_(True), np.str_("1")]


@pytest.mark.parametrize("prediction", LIKE_ONE, ids=lambda v: f"{type(v).__name__} {v!r}")
@pytest.mark.parametrize("label", LIKE_ONE, ids=lambda v: f"{type(v).__name__} {v!r}")
@pytest.mark.parametrize("as_array", [False, True])
def test_labels_are_compared_as_they_are_written(label, prediction, as_array):
    make = np.array if as_array else list
    other = 0 if not isinstance(label, str) else "0"
    table = Table.from_columns(
        columns(
            2,
            label=make([label, other]),
            local_prediction=make([prediction, prediction]),
            remote_prediction=[None, 2],
        )
        | {"remote_prediction": ["1", 2]}
    )
    assert table.correct("local").tolist() == [1.0, 0.0]
    assert table.correct("remote").tolist() == [1.0, 0.0]


def test_labels_that_look_alike_are_not_the_same():
    labels = ["1", "01", "1.5", "a", "A"]
    table = Table.from_columns(
        {
            "label": labels,
            "local_prediction": [1, 1, 1.5, "a", "a"],
            "local_confidence": np.ones(5),
            "remote_prediction": labels,
            "remote_confidence": np.ones(5),
        }
    )
    assert table.correct("local").tolist() == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert table.correct("remote").tolist() == [1.0] * 5


def test_big_integers_and_numbers_with_gaps_compare_exactly():
    big = 2**53
    table = read(
        label=[big, big + 1, 5], local_prediction=[big, big, 5.0], remote_prediction=np.array([big, big + 1, 6])
    )
    assert table.correct("remote").tolist() == [1.0, 1.0, 0.0]
    assert table.correct("local")[2] == 1.0


def test_rows_without_a_label_serve_but_nothing_is_known_of_their_correctness():
    table = read(label=["ham", None, ""])
    np.testing.assert_array_equal(table.correct("local"), [1.0, NAN, NAN])
    assert table.complete.tolist() == [True, False, False]
    none_at_all = read(label=None)
    assert none_at_all.labels is None
    assert np.isnan(none_at_all.correct("remote")).all()
    assert not none_at_all.complete.any()
    assert not read(label=[None, None, None]).complete.any()


def test_predictions_that_are_never_a_label_are_the_wrong_column():
    message = refused(remote_prediction=[0.9, 0.7, 0.6])
    assert "no remote prediction is a known label" in message
    assert "0.6" in message
    assert "ham" in message
    assert "local" not in message.replace("local_", ""), "only what is wrong is named"
    read(remote_prediction=["ham", "eggs", "eggs"])
    read(remote_prediction=[None, None, None])


# ---------------------------------------------------------------- failed, not asked, graded


def test_a_failed_level_is_wrong_and_one_that_was_not_asked_is_not_known():
    table = read(remote_error=["timeout: 1 s", None, ""], remote_asked=[True, True, False])
    np.testing.assert_array_equal(table.correct("remote"), [0.0, 1.0, NAN])
    np.testing.assert_array_equal(table.remote.confidences, [NAN, 0.7, NAN])
    assert table.remote.errors.tolist() == ["timeout: 1 s", None, None]
    assert list(table.notes) == ["1 of 3 remote replies are errors"]
    assert table.complete.tolist() == [True, True, False]


def test_failures_and_missing_confidences_are_counted_apart_in_notes():
    table = read(
        local_error=["unreadable: x", None, None],
        local_confidence=[0.9, NAN, 0.8],
        remote_confidence=[None, None, 0.6],
        remote_asked=[0, 1, 1],
    )
    assert list(table.notes) == [
        "1 of 3 local replies are errors",
        "1 of 3 local confidences are missing: never accepted",
        "1 of 3 remote confidences are missing: never accepted",
    ]


@pytest.mark.parametrize(
    "asked",
    [
        [True, False, None],
        [1, 0, 1],
        [1.0, 0.0, NAN],
        ["true", "False", ""],
        ["TRUE", "FALSE", "1.0"],
        ["1", "0", "1"],
    ],
)
def test_asked_is_true_or_false_however_written_and_true_where_nothing_stands(asked):
    assert read(remote_asked=asked).remote.asked.tolist() == [True, False, True]


@pytest.mark.parametrize("asked", [[2, 0, 1], ["yes", "no", "no"], [0.5, 1, 1]])
def test_asked_that_is_neither_true_nor_false_is_refused(asked):
    assert "remote_asked" in refused(remote_asked=asked)


def test_correctness_may_be_given_in_place_of_labels():
    table = read(
        label=None,
        local_prediction=None,
        remote_prediction=None,
        local_correct=[1, 0, "true"],
        remote_correct=[0.25, None, 1.0],
        remote_asked=[1, 1, 0],
    )
    assert table.correct("local").tolist() == [1.0, 0.0, 1.0]
    np.testing.assert_array_equal(table.correct("remote"), [0.25, NAN, NAN])
    assert table.complete.tolist() == [True, False, False]


def test_correctness_that_is_given_goes_before_labels_and_predictions():
    table = read(local_correct=[0, 1, 0], local_prediction=["x", "y", "z"])
    assert table.correct("local").tolist() == [0.0, 1.0, 0.0]


def test_a_local_cost_that_nobody_gives_is_0_beside_a_remote_cost_and_noted():
    for table in (Table.from_columns(columns(), costs={"remote": 2.0}), read(remote_cost=[1, 2, 3])):
        assert table.local.cost.tolist() == [0.0, 0.0, 0.0]
        assert list(table.notes) == ["no local cost is given: counted as 0"]
    assert np.isnan(read(local_cost=["", "", ""], remote_cost=[1, 2, 3]).local.cost).all(), "a column says: not known"


@pytest.mark.parametrize("cost", [-1.0, NAN])
def test_a_constant_cost_is_a_number_from_0_on(cost):
    with pytest.raises(TableError, match=f"the remote cost is {cost}"):
        Table.from_columns(columns(), costs={"remote": cost})


def test_predictions_that_are_no_label_and_infinite_confidences_are_noted():
    table = read(local_prediction=["ham", "eggs", "ham"], remote_confidence=[INF, -INF, 0.5])
    assert list(table.notes) == [
        "1 of 3 remote confidences are +inf: always accepted",
        "1 of 3 local predictions are none of the 2 known labels",
    ]


def test_costs_are_columns_else_constants_and_nothing_where_not_asked():
    table = Table.from_columns(columns(local_cost=[0.5, None, 0.0], remote_asked=[1, 0, 1]), costs={"remote": 2.0})
    np.testing.assert_array_equal(table.local.cost, [0.5, NAN, 0.0])
    assert table.remote.cost.tolist() == [2.0, 0.0, 2.0]
    assert np.isnan(read().remote.cost).all(), "not known is not 0"


# ---------------------------------------------------------------- confidences from evidence


def probable(name: str = "local") -> dict[str, Any]:
    return {f"{name}_confidence": None, f"{name}_proba_ham": [0.9, 0.4, 0.5], f"{name}_proba_spam": [0.1, 0.6, 0.5]}


def test_class_probabilities_give_confidences_and_predictions():
    table = read(**probable(), local_prediction=None)
    assert table.local.confidences.tolist() == [0.9, 0.6, 0.5]
    assert table.local.predictions.tolist() == ["ham", "spam", "ham"]
    assert table.local.classes.tolist() == ["ham", "spam"]
    given = Table.from_columns(columns(**probable()), quantifiers={"local": SoftmaxEntropy()})
    assert given.local.confidences[2] == pytest.approx(-math.log(2))
    assert given.local.predictions.tolist() == ["ham", "ham", "ham"], "a prediction column goes before"


def test_a_quantifier_goes_before_a_confidence_column():
    evidence = probable() | {"local_confidence": [7.0, 8.0, 9.0]}
    assert read(**evidence).local.confidences.tolist() == [7.0, 8.0, 9.0]
    by_name = [
        Table.from_columns(columns(**evidence), quantifiers={"local": quantifier}).local.confidences[2]
        for quantifier in (DeepGini(), GivenConfidence())
    ]
    assert by_name == [0.5, 9.0]


@pytest.mark.parametrize("row", [[NAN, NAN], [0.0, 0.0], [7.0, -3.0]])
def test_the_probabilities_of_a_reply_that_failed_are_not_read_nor_its_prediction(row):
    ham, spam = [0.9, row[0], 0.5], [0.1, row[1], 0.5]
    table = read(
        local_confidence=None,
        local_prediction=None,
        local_proba_ham=ham,
        local_proba_spam=spam,
        local_error=[None, "timeout: 1 s", None],
        label=["ham", "ham", "spam"],
    )
    np.testing.assert_array_equal(table.local.confidences, [0.9, NAN, 0.5])
    assert table.correct("local").tolist() == [1.0, 0.0, 0.0], "no probabilities are not the first class"


def test_rows_without_probabilities_have_no_prediction():
    table = read(
        local_confidence=None, local_prediction=None, local_proba_ham=[NAN, "", 1], local_proba_spam=[None, NAN, 0]
    )
    assert table.local.predictions.tolist() == [None, None, "ham"]
    assert list(table.notes) == ["2 of 3 local confidences are missing: never accepted"]


@pytest.mark.parametrize(
    "tokens",
    [
        ["[-0.5, -1]", "[]", ""],
        [[-0.5, -1.0], [], None],
        [np.array([-0.5, -1.0]), np.empty(0), NAN],
        [(-0.5, -1.0), "", None],
    ],
)
def test_token_log_probabilities_give_confidences(tokens):
    table = read(remote_confidence=None, remote_token_logprobs=tokens)
    np.testing.assert_allclose(table.remote.confidences, [math.exp(-1), NAN, NAN])
    mean = Table.from_columns(
        columns(remote_confidence=None, remote_token_logprobs=tokens), quantifiers={"remote": TokenLikelihood("mean")}
    )
    assert mean.remote.confidences[0] == pytest.approx(math.exp(-0.75))


@pytest.mark.parametrize("tokens", [[[-0.5, -1.0], [-0.1, -0.2], [0.0, -3.0]], np.full((3, 2), -1.0)])
def test_token_lists_of_one_length_are_no_matrix(tokens):
    table = read(remote_confidence=None, remote_token_logprobs=tokens)
    assert [row.tolist() for row in table.remote.token_logprobs] == [list(row) for row in tokens]


@pytest.mark.parametrize("cell", ["[-0.5", "high", '["a"]', '{"a": 1}'])
def test_token_log_probabilities_that_are_no_list_are_refused_with_their_row(cell):
    message = refused(remote_confidence=None, remote_token_logprobs=["[-1]", cell, ""])
    assert "remote_token_logprobs, row 2" in message


def test_evidence_that_breaks_its_contract_is_refused_and_named():
    assert "local: 1 of 3 rows are no probabilities" in refused(
        local_confidence=None, local_proba_ham=[0.9, 3.0, 0.5], local_proba_spam=[0.1, -1.0, 0.5]
    )
    assert "remote: a token log-probability of 0.5 is above 0" in refused(
        remote_confidence=None, remote_token_logprobs=["[-1]", "[0.5]", ""]
    )
    with pytest.raises(TableError, match="local: the model output holds no log-probabilities of alternative"):
        Table.from_columns(columns(), quantifiers={"local": LabelProbability({1: ["a"]})})


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("empty", [{}, {name: [] for name in columns()}])
def test_no_rows_are_refused(empty):
    with pytest.raises(TableError, match="no rows"):
        Table.from_columns(empty)


def test_columns_of_different_length_are_named_with_their_lengths():
    message = refused(label=["ham", "spam"])
    assert "label: 2" in message
    assert "id: 3" in message


@pytest.mark.parametrize("ids", [["a", "a", "b"], [1, "1", 2], [1, 1.0, True]])
def test_repeated_ids_are_refused(ids):
    assert "repeat an id" in refused(id=ids)


@pytest.mark.parametrize("missing", [None, NAN, ""])
def test_missing_ids_are_refused(missing):
    assert "1 rows have no id" in refused(id=["a", missing, "b"])
    assert "2 rows have no id" in refused(id=["a", missing, missing])


@pytest.mark.parametrize("name", ["local", "remote"])
def test_a_missing_confidence_column_is_named_with_what_there_is_and_what_to_do(name):
    message = refused(**{f"{name}_confidence": None, "score": [1, 2, 3]})
    assert f"no {name}_confidence" in message
    assert f"--columns {name}_confidence=YOUR_COLUMN" in message
    assert "score" in message


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("local_confidence", [0.5, "high", 0.1], "row 2: 'high' is not a number"),
        ("local_confidence", ["0,5", 0.1, 0.2], "row 1: '0,5' is not a number (decimal commas are not understood"),
        ("local_confidence", [[0.5], 0.1, 0.2], "row 1: [0.5] is not a number"),
        ("local_confidence", [1j, 0.1, 0.2], "is not a number"),
        ("local_confidence", np.array(["2020-01-01"] * 3, dtype="M8[D]"), "is not a number"),
        ("remote_latency_s", [0.1, INF, 0.2], "1 values are infinite"),
        ("remote_latency_s", [0.1, -1, 0.2], "1 values lie outside [0, inf]"),
        ("remote_supervisor_s", [-1, -1, 0.2], "2 values lie outside [0, inf]"),
        ("remote_cost", [0.1, "free", 0.2], "row 2: 'free' is not a number"),
        ("remote_cost", [0.1, -0.1, 0.2], "1 values lie outside [0, inf]"),
        ("local_correct", [0, 2, 1], "1 values lie outside [0, 1]"),
        ("local_correct", [0, -1, 100], "2 values lie outside [0, 1]"),
        ("local_proba_ham", [0.5, "x", 0.1], "row 2: 'x' is not a number"),
    ],
)
def test_cells_that_cannot_be_read_are_named_with_their_column(column, cells, said):
    message = refused(**{column: cells})
    assert column in message
    assert said in message


def test_confidences_may_be_infinite_and_any_number_and_text_that_is_one():
    table = read(local_confidence=["-inf", "1e3", " -2.5 "], remote_confidence=[INF, -INF, NAN])
    assert table.local.confidences.tolist() == [-INF, 1000.0, -2.5]
    np.testing.assert_array_equal(table.remote.confidences, [INF, -INF, NAN])


def test_every_problem_is_told_at_once():
    message = refused(
        id=["a", "a", "b"],
        local_confidence=["x", 1, 2],
        remote_confidence=None,
        local_correct=[2, 0, 0],
        remote_cost=["y", 0, 0],
    )
    for part in (
        "repeat an id",
        "local_confidence, row 1",
        "no remote_confidence",
        "local_correct",
        "remote_cost, row 1",
    ):
        assert part in message


@pytest.mark.parametrize("column", [5, "text", None, [[1, 2], [3, 4], [5, 6]], np.ones((3, 2))])
def test_what_is_no_column_is_refused(column):
    with pytest.raises(TableError, match="local_confidence"):
        Table.from_columns(columns() | {"local_confidence": column})


@pytest.mark.parametrize("option", ["costs", "quantifiers"])
def test_options_of_a_level_that_there_is_not_are_refused(option):
    value = 1.0 if option == "costs" else DeepGini()
    with pytest.raises(TableError, match=f"{option} are given by level, local or remote, not remot"):
        Table.from_columns(columns(), **{option: {"remot": value}})


# ---------------------------------------------------------------- renaming


def test_columns_are_renamed():
    theirs = columns(local_confidence=None, score_a=[0.1, 0.2, 0.3], label=None, truth=["ham", "ham", "ham"])
    table = Table.from_columns(theirs, rename={"local_confidence": "score_a", "label": "truth"})
    assert table.local.confidences.tolist() == [0.1, 0.2, 0.3]
    assert table.labels.tolist() == ["ham"] * 3
    assert dict(table.extra) == {}


@pytest.mark.parametrize("first", [True, False])
def test_a_renamed_column_goes_before_one_that_had_the_name_whatever_their_order(first):
    score = {"score_a": [0.1, 0.2, 0.3]}
    theirs = score | columns() if first else columns() | score
    table = Table.from_columns(theirs, rename={"local_confidence": "score_a"})
    assert table.local.confidences.tolist() == [0.1, 0.2, 0.3]


def test_one_column_may_serve_twice():
    table = Table.from_columns(
        columns() | {"seconds": [1, 2, 3]}, rename={"local_latency_s": "seconds", "remote_latency_s": "seconds"}
    )
    assert table.local.latency_s.tolist() == table.remote.latency_s.tolist() == [1.0, 2.0, 3.0]


def test_probability_columns_are_renamed():
    theirs = columns(local_confidence=None) | {"p0": [0.9, 0.2, 0.5], "p1": [0.1, 0.8, 0.5]}
    table = Table.from_columns(theirs, rename={"local_proba_ham": "p0", "local_proba_spam": "p1"})
    assert table.local.confidences.tolist() == [0.9, 0.8, 0.5]


def test_renaming_what_there_is_not_lists_what_there_is():
    with pytest.raises(TableError, match=r"no column score_b \(for local_confidence\); the columns are: id, label"):
        Table.from_columns(columns(), rename={"local_confidence": "score_b"})
    with pytest.raises(TableError, match="local_score: not a column of the table"):
        Table.from_columns(columns(), rename={"local_score": "label"})


# ---------------------------------------------------------------- rows, and back again


@given(st.lists(st.integers(0, 2), max_size=6))
def test_taken_rows_are_those_rows_in_every_column(rows):
    table = read(
        **probable(),
        local_token_logprobs=["[-1]", "", "[-2, -3]"],
        local_correct=[0, 0.5, 1],
        remote_error=["x: y", None, None],
        tenant=["x", "y", "z"],
    )
    taken = table.take(np.array(rows, dtype=np.int64))
    assert taken.ids.tolist() == [f"row {row}" for row in rows]
    assert taken.labels.tolist() == [table.labels[row] for row in rows]
    assert taken.extra["tenant"].tolist() == [list("xyz")[row] for row in rows]
    assert taken.local.probabilities.tolist() == [table.local.probabilities[row].tolist() for row in rows]
    np.testing.assert_array_equal(taken.correct("local"), table.correct("local")[rows])
    np.testing.assert_array_equal(taken.remote.confidences, table.remote.confidences[rows])
    mask = np.isin(np.arange(3), rows)
    assert table.take(mask).ids.tolist() == [f"row {row}" for row in sorted(set(rows))]


def assert_same(one: Table, other: Table) -> None:
    assert one.ids.tolist() == other.ids.tolist()
    for name in LevelName:
        ours, theirs = one.level(name), other.level(name)
        np.testing.assert_array_equal(ours.confidences, theirs.confidences)
        np.testing.assert_array_equal(ours.asked, theirs.asked)
        np.testing.assert_array_equal(ours.latency_s, theirs.latency_s)
        np.testing.assert_array_equal(ours.cost, theirs.cost)
        assert ours.errors.tolist() == theirs.errors.tolist()
        np.testing.assert_array_equal(one.correct(name), other.correct(name))
        for matrix in ("probabilities", "logits", "features"):
            one_matrix, other_matrix = getattr(ours, matrix), getattr(theirs, matrix)
            assert (one_matrix is None) == (other_matrix is None)
            if one_matrix is not None:
                np.testing.assert_array_equal(one_matrix, other_matrix)
        for a, b in zip(ours.predictions, theirs.predictions, strict=True):
            assert a == b or (is_missing(a) and is_missing(b))
    assert set(one.extra) == set(other.extra)


LABELS = st.sampled_from(["ham", "spam", None]) | st.sampled_from([0, 1, None])
NUMBERS = st.floats(0, 1) | st.just(NAN)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(1, 6))

    def column(cells: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(cells, min_size=n, max_size=n))

    named: dict[str, Any] = {"label": column(LABELS), "tenant": column(st.sampled_from("xyz"))}
    for name in LevelName:
        named[f"{name}_prediction"] = [draw(st.sampled_from([label, "ham", 0, None])) for label in named["label"]]
        named[f"{name}_confidence"] = column(NUMBERS | st.sampled_from([INF, -INF]))
        named[f"{name}_latency_s"] = column(NUMBERS)
        named[f"{name}_cost"] = column(NUMBERS)
        named[f"{name}_error"] = column(st.sampled_from([None, "timeout: 1 s"]))
        named[f"{name}_asked"] = column(st.booleans())
        if draw(st.booleans()):
            p = np.array(column(st.floats(0, 1)))
            named |= {f"{name}_proba_ham": p, f"{name}_proba_spam": 1 - p}
        if draw(st.booleans()):
            logits = st.floats(-50, 50) | st.sampled_from([NAN, -INF])
            named |= {f"{name}_logit_{label}": column(logits) for label in ("ham", "spam")}
        for place in range(draw(st.integers(0, 3))):
            named[f"{name}_feature_{place}"] = column(st.floats(-5, 5) | st.just(NAN))
        if draw(st.booleans()):
            named[f"{name}_correct"] = column(NUMBERS)
    if draw(st.booleans()) or any({f"{name}_proba_ham", f"{name}_logit_ham"} & named.keys() for name in LevelName):
        named["local_correct"] = named["remote_correct"] = np.ones(n)  # else no prediction may be a label: refused
    else:
        known = next((row for row, label in enumerate(named["label"]) if label is not None), 0)
        for name in LevelName:
            named[f"{name}_prediction"][known] = named["label"][known]
    return Table.from_columns(named)


def with_features(**more: Any) -> dict[str, Any]:
    """Three rows of two features, the second of them first, and logits of two classes."""
    named = {"local_feature_1": [1.0, 2.0, 3.0], "local_feature_0": [0.1, 0.2, NAN]}
    named |= {"local_logit_ham": [2.0, -1.0, 0.0], "local_logit_spam": [1.0, 3.0, -INF]}
    return columns() | named | more


def test_logits_and_features_are_read_by_class_and_by_number():
    local = Table.from_columns(with_features()).local
    np.testing.assert_array_equal(local.features, [[0.1, 1.0], [0.2, 2.0], [NAN, 3.0]])
    assert local.logits.tolist() == [[2.0, 1.0], [-1.0, 3.0], [0.0, -INF]]
    assert local.classes.tolist() == ["ham", "spam"]


def test_ten_features_and_more_are_in_the_order_of_their_numbers():
    named = columns() | {f"remote_feature_{place}": [float(place)] * 3 for place in (10, 2, 0, 1, *range(3, 10))}
    assert Table.from_columns(named).remote.features[0].tolist() == list(map(float, range(11)))


def test_logits_are_in_the_order_of_the_classes_of_the_probabilities():
    named = with_features(local_proba_spam=[0.3, 0.9, 0.0], local_proba_ham=[0.7, 0.1, 1.0])
    local = Table.from_columns(named).local
    assert local.classes.tolist() == ["spam", "ham"]
    assert local.logits.tolist() == [[1.0, 2.0], [3.0, -1.0], [-INF, 0.0]]


def test_a_quantifier_reads_logits_and_features_and_not_those_of_a_row_that_failed():
    named = with_features(local_error=[None, "timeout: 1 s", None])
    read_by = {"local": quantifier_by_name("max_logit")}
    np.testing.assert_array_equal(Table.from_columns(named, quantifiers=read_by).local.confidences, [2.0, NAN, 0.0])
    read_by = {"local": Reconstruction(lambda features: features * 0.0)}
    confidences = Table.from_columns(named, quantifiers=read_by).local.confidences
    np.testing.assert_allclose(confidences, [-0.505, NAN, NAN])


def test_a_level_that_predicted_nothing_does_not_predict_from_its_logits_when_it_is_read_back():
    table = Table.from_columns(with_features(local_prediction=[None] * 3, label=[None] * 3))
    assert all(is_missing(prediction) for prediction in table.local.predictions)
    assert_same(table, Table.from_columns(table.to_columns()))


def test_logits_alone_give_the_prediction_and_the_largest_softmax():
    named = with_features(local_confidence=None, local_prediction=None)
    named = {key: column for key, column in named.items() if column is not None}
    local = Table.from_columns(named).local
    assert local.predictions.tolist() == ["ham", "spam", "ham"]
    np.testing.assert_allclose(local.confidences, [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-4)), 1.0])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"local_feature_3": [0.0] * 3}, "local_feature_2 is missing: the 3 features are numbered from 0"),
        ({"local_feature_0": [0.0, "x", 1.0]}, "local_feature_0, row 2: 'x' is not a number"),
        ({"local_feature_0": [0.0, INF, 1.0]}, "1 values are infinite"),
        ({"local_logit_ham": ["a", "b", "c"]}, "local_logit_ham, row 1:"),
        ({"local_proba_ham": [0.5] * 3, "local_proba_eggs": [0.5] * 3}, "are of different classes"),
    ],
)
def test_features_and_logits_that_cannot_be_read_are_named(more, said):
    with pytest.raises(TableError, match=re.escape(said)):
        Table.from_columns(with_features(**more))


def test_a_quantifier_that_reads_what_the_table_has_not_says_how_it_comes_there():
    with pytest.raises(TableError, match="record --with features"):
        Table.from_columns(columns(), quantifiers={"local": Reconstruction(lambda features: features)})


def test_a_column_named_feature_and_a_word_is_somebodys_own():
    table = read(local_feature_length=[1, 2, 3])
    assert (table.local.features, table.extra["local_feature_length"].tolist()) == (None, [1, 2, 3])


@given(tables())
def test_a_table_comes_back_from_its_own_columns(table):
    again = Table.from_columns(table.to_columns())
    assert_same(table, again)
    assert_same(again, Table.from_columns(again.to_columns()))


def test_a_table_in_which_a_level_always_failed_comes_back_too():
    table = read(remote_error=["timeout: 1 s"] * 3, remote_prediction=None)
    assert_same(table, Table.from_columns(table.to_columns()))


def test_columns_that_hold_nothing_are_left_out():
    assert set(read().to_columns()) == set(columns())
    assert set(read(label=None, local_latency_s=[NAN] * 3).to_columns()) == set(columns()) - {"label"}


# ---------------------------------------------------------------- a running system's outcomes


def test_the_table_of_a_running_system_holds_what_happened():
    raises = {3: ModelTimeout("1 s")}
    running = system([0.9, 0.1, 0.1, 0.1], [0.9, 0.8, 0.2, 0.9], Default(7), max_batch=1, raises=raises)
    with running:
        outcomes = running.predict_many(range(4), ids=list("abcd"), batch_size=3)
    table = table_from_outcomes(outcomes, labels=[0, 5, "2", None])
    assert table.ids.tolist() == list("abcd")
    np.testing.assert_array_equal(table.correct("local"), [1.0, 0.0, 1.0, NAN])
    np.testing.assert_array_equal(table.correct("remote"), [NAN, 0.0, 1.0, NAN])
    np.testing.assert_array_equal(table.remote.confidences, [NAN, 0.8, 0.2, NAN])
    assert table.remote.asked.tolist() == [False, True, True, True]
    assert table.remote.errors.tolist() == [None, None, None, "timeout: 1 s"]
    assert table.extra["route"].tolist() == ["local", "remote", "rejected", "rejected"]
    assert table.extra["answer"].tolist() == [0, 1, 7, 7]
    assert_same(table, Table.from_columns(table.to_columns()))
    assert table_from_outcomes(outcomes).labels is None
    with pytest.raises(TableError, match="4 outcomes and 2 labels"):
        table_from_outcomes(outcomes, labels=[1, 2])


# ---------------------------------------------------------------- two files of one model each


def one_model(ids: list[Any], **more: Any) -> dict[str, Any]:
    return {"id": ids, "prediction": [f"p{id_}" for id_ in ids], "confidence": [int(id_) / 10 for id_ in ids], **more}


def test_two_files_are_joined_on_their_ids_whatever_their_order():
    local = one_model([3, 1, 2], label=["c", "a", "b"], latency_s=[0.3, 0.1, 0.2])
    remote = one_model(["1", "2", "3"], label=["a", "b", "c"], local_note=["x", "y", "z"])
    joined = join_tables(local, remote)
    assert joined["id"].tolist() == ["3", "1", "2"]
    assert joined["remote_confidence"].tolist() == [0.3, 0.1, 0.2]
    assert joined["remote_prediction"].tolist() == ["p3", "p1", "p2"]
    assert joined["local_latency_s"].tolist() == [0.3, 0.1, 0.2]
    assert joined["label"].tolist() == ["c", "a", "b"]
    assert "remote_latency_s" not in joined
    assert len(Table.from_columns(joined | {"label": np.array(["p3", "p1", "p1"])})) == 3


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_every_input_meets_itself(one, other):
    joined = join_tables(one_model(list(one)), one_model(list(other)))
    assert joined["local_prediction"].tolist() == joined["remote_prediction"].tolist()
    assert joined["id"].tolist() == [str(id_) for id_ in one]


def test_prefixed_columns_keep_their_prefix_and_probabilities_and_correctness_get_one():
    local = {"id": [1], "local_confidence": [0.5], "proba_ham": [1.0], "correct": [1]}
    joined = join_tables(local, one_model([1], correct=[0]))
    assert set(joined) == {
        "id",
        "local_confidence",
        "local_proba_ham",
        "local_correct",
        "remote_prediction",
        "remote_confidence",
        "remote_correct",
    }


@pytest.mark.parametrize(("left", "right", "said"), [([1, 2], [2, 3], "1"), ([1], [1, 2], "0")])
def test_files_of_different_inputs_are_refused_with_counts(left, right, said):
    with pytest.raises(TableError, match=f"{said} only in the local file, 1 only in the remote"):
        join_tables(one_model(left), one_model(right))


def test_files_that_disagree_on_the_label_are_refused():
    with pytest.raises(TableError, match="disagree on label"):
        join_tables(one_model([1, 2], label=["a", "b"]), one_model([2, 1], label=["a", "b"]))
    join_tables(one_model([1, 2], label=[1, 0]), one_model([1, 2], label=["1", 0.0]))


@pytest.mark.parametrize("side", ["local", "remote"])
def test_files_need_ids_and_each_once(side):
    def join(wrong):
        files = {"local": one_model([1, 2]), "remote": one_model([1, 2])} | {side: wrong}
        return join_tables(files["local"], files["remote"])

    with pytest.raises(TableError, match=f"the {side} file has no id column .* its columns: confidence"):
        join({"confidence": [1, 2]})
    with pytest.raises(TableError, match=f"the {side} file repeats ids"):
        join(one_model([1, 1]))


# ---------------------------------------------------------------- speed


def test_200_000_rows_of_text_labels_are_read_and_compared_in_about_a_second():
    n = 200_000
    rng = np.random.default_rng(0)
    names = np.array(["positive", "negative", "neutral"], dtype=object)
    labels, local, remote = (names[rng.integers(0, 3, n)] for _ in range(3))
    named = {
        "id": np.array([f"input-{row}" for row in range(n)], dtype=object),
        "label": labels,
        "local_prediction": local,
        "local_confidence": rng.random(n),
        "remote_prediction": remote,
        "remote_confidence": rng.random(n),
        "remote_error": np.full(n, "", dtype=object),
    }
    start = time.process_time()
    table = Table.from_columns(named)
    assert table.correct("local").mean() == (labels == local).mean()
    assert time.process_time() - start < 3.0, "it takes 0.3 s; the bound is for slow machines"
