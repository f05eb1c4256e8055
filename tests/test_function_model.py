"""A model that is a Python function."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bisupervised.errors import ModelError, ReplyUnreadable
from bisupervised.models.function import FunctionModel
from bisupervised.models.port import Model
from bisupervised.records import Evidence, ModelOutput
from fakes import recorded


def answering(result, **options):
    return FunctionModel(lambda inputs: result, **options)


def predict(model, n=2):
    return model.predict(["x"] * n)


def test_class_probabilities_predict_the_most_probable_class_the_first_at_ties():
    p = [[0.2, 0.8], [0.5, 0.5]]
    output = predict(answering(p))
    assert output.predictions.tolist() == [1, 0]
    assert output.classes.tolist() == [0, 1]
    np.testing.assert_array_equal(output.probabilities, p)
    assert predict(answering(np.array(p, dtype=np.float32), classes=["no", "yes"])).predictions.tolist() == [
        "yes",
        "no",
    ]
    assert predict(answering(p, classes=[None, 7])).predictions.tolist() == [7, None]


def test_predictions_and_confidences_may_come_as_a_pair():
    output = predict(answering((["a", None], [0.5, None])))
    assert output.predictions.tolist() == ["a", None]
    np.testing.assert_array_equal(output.confidences, [0.5, np.nan])
    column = predict(answering((np.array([1, 2]), np.array([[0.5], [0.6]]))))
    assert column.confidences.tolist() == [0.5, 0.6]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_predictions_with_a_matrix_of_probabilities_are_no_pair(n):
    """The natural mistake `(model.predict(x), model.predict_proba(x))`: its first column is no confidence."""
    with pytest.raises(ReplyUnreadable, match=f"{n} predictions and {2 * n} confidences"):
        predict(answering((np.zeros(n), np.full((n, 2), 0.5))), n)


def test_a_model_output_is_taken_as_it_is():
    output = recorded([0.1, 0.2])
    assert predict(answering(output)) is output


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "class probabilities"),
        ("text", "class probabilities"),
        ([0.5, 0.5], "shape"),
        ([["a"], ["b"]], "class probabilities"),
        ([[0.5, 0.5], [1.0]], "class probabilities"),
        (np.empty((2, 0)), "shape"),
        ([[0.5, 0.5]], "given 2 inputs and answered 1"),
        ((["a"], [0.5]), "given 2 inputs and answered 1"),
        ((["a", "b"], [0.5]), "2 predictions and 1 confidences"),
        (recorded([0.5]), "given 2 inputs and answered 1"),
    ],
)
def test_what_is_none_of_these_is_unreadable_and_named(result, said):
    with pytest.raises(ReplyUnreadable, match=said) as raised:
        predict(answering(result, name="small"))
    assert "small" in str(raised.value)


def test_as_many_classes_as_probabilities_are_needed():
    with pytest.raises(ModelError, match="2 probabilities for 3 classes"):
        predict(answering([[0.5, 0.5]] * 2, classes=["a", "b", "c"]))


def test_a_coroutine_function_is_read_when_it_is_awaited():
    async def function(inputs):
        await asyncio.sleep(0)
        return [[0.1, 0.9] for _ in inputs]

    async def ask():
        return await FunctionModel(function, classes=["no", "yes"]).predict(["x", "y"])

    assert asyncio.run(ask()).predictions.tolist() == ["yes", "yes"]

    async def wrong(inputs):
        return None

    async def ask_wrong():
        return await FunctionModel(wrong).predict(["x"])

    with pytest.raises(ReplyUnreadable):
        asyncio.run(ask_wrong())


def test_it_is_a_model_and_says_what_it_gives():
    model = answering(None, name="small", max_batch=8, provides=frozenset({Evidence.CONFIDENCE}))
    assert isinstance(model, Model)
    assert (model.name, model.max_batch, model.provides) == ("small", 8, {Evidence.CONFIDENCE})


def test_no_inputs_are_no_rows():
    assert len(FunctionModel(lambda inputs: (inputs, [])).predict([])) == 0
    assert isinstance(FunctionModel(lambda inputs: np.empty((0, 3))).predict([]), ModelOutput)
