from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bisupervised.errors import InputError, ReplyUnreadable
from bisupervised.models.outputs import (
    EVIDENCE_COLUMNS,
    as_column,
    check_batch,
    empty_output,
    evidence_in,
    matrix_of,
    output_from_result,
)
from bisupervised.records import Evidence, ModelOutput


@pytest.mark.parametrize(
    ("result", "predictions"),
    [
        ([[0.1, 0.9], [0.5, 0.5]], [1, 0]),
        (np.array([[0.0, 1.0], [0.2, 0.8]]), [1, 1]),
        ((["a", "b"], [0.1, 0.2]), ["a", "b"]),
        (ModelOutput(np.array(["x", "y"])), ["x", "y"]),
    ],
)
def test_results_of_three_kinds_become_outputs(result: Any, predictions: Any) -> None:
    assert output_from_result(result, 2).predictions.tolist() == predictions


@pytest.mark.parametrize(
    "result", [[[0.1, 0.9]], (["a"], [0.1]), (["a", "b"], [0.1]), ModelOutput(np.array(["x"])), 3]
)
def test_results_of_another_length_or_kind_are_unreadable(result: Any) -> None:
    with pytest.raises(ReplyUnreadable):
        output_from_result(result, 2)


def test_columns_of_mixed_values_are_objects_and_stay_what_they_are() -> None:
    assert as_column(["a", "bb"]).dtype.kind == "U"
    assert as_column(["a", 1, None]).tolist() == ["a", 1, None]
    assert as_column([[1, 2], [3, 4]]).shape == (2,)


def test_evidence_is_what_some_row_really_has() -> None:
    nan = np.array([np.nan, np.nan])
    output = ModelOutput(
        np.array(["a", "b"]), confidences=nan, token_logprobs=[np.empty(0), np.array([-1.0])], top_logprobs=[{}, {}]
    )
    assert evidence_in(output) == {Evidence.TOKEN_LOGPROBS}
    assert evidence_in(ModelOutput(np.array(["a"]))) == set()
    for samples, given in [([[], []], set()), ([[], [None]], set()), ([[None], [None, "x"]], {Evidence.SAMPLES})]:
        assert evidence_in(ModelOutput(np.array(["a", "b"]), samples=samples, p_true=nan)) == given


@pytest.mark.parametrize("evidence", list(Evidence))
def test_an_output_for_no_inputs_has_the_declared_columns_and_no_rows(evidence: Evidence) -> None:
    output = empty_output({evidence}, ["a", "b"])
    held = [e for e, name in EVIDENCE_COLUMNS.items() if getattr(output, name) is not None]
    assert held == [evidence]
    assert len(getattr(output, EVIDENCE_COLUMNS[evidence])) == 0
    assert len(output) == 0


def test_a_batch_may_be_as_long_as_the_model_says() -> None:
    check_batch(["a"] * 3, 3, "m")
    check_batch(["a"] * 3000, None, "m")
    with pytest.raises(InputError, match="m takes at most 2 inputs"):
        check_batch(["a"] * 3, 2, "m")


@pytest.mark.parametrize(
    ("values", "shape"),
    [([[1, 2]], (1, 2)), (np.ones((1, 3), np.float32), (1, 3)), (np.ones((1, 4, 1, 1)), (1, 4))],
)
def test_logits_and_features_are_rows_of_numbers(values: Any, shape: Any) -> None:
    matrix = matrix_of(values, "features", 1)
    assert (matrix.shape, matrix.dtype.kind) == (shape, "f")


@pytest.mark.parametrize(
    "values", [[1.0], [[[1.0, 2.0], [3.0, 4.0]]], [["a"]], [[]], [[1.0], [2.0]], [[1.0], [2.0, 3.0]], None]
)
def test_what_is_no_row_of_numbers_for_each_input_is_unreadable(values: Any) -> None:
    with pytest.raises(ReplyUnreadable, match="features"):
        matrix_of(values, "features", 1)
