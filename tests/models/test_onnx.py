from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bisupervised.errors import InputError, ModelError, ReplyUnreadable
from bisupervised.models import OnnxModel
from bisupervised.records import Evidence

X = [[0.5, 1.0], [1.0, -1.0]]
LOGITS = np.array(X) @ np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
EXPECTED = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def test_the_probabilities_are_the_graphs(linear_onnx: Any) -> None:
    output = OnnxModel(linear_onnx, ["a", "b", "c"]).predict(X)
    np.testing.assert_allclose(output.probabilities, EXPECTED, rtol=1e-6)
    assert output.probabilities.dtype == np.float64
    assert output.predictions.tolist() == ["c", "a"]
    assert OnnxModel(str(linear_onnx)).predict(X).predictions.tolist() == [2, 0]


def test_softmax_turns_logits_into_probabilities(linear_onnx: Any) -> None:
    for output in ("logits", 0, -3):
        result = OnnxModel(linear_onnx.read_bytes(), output=output, softmax=True).predict(X)
        np.testing.assert_allclose(result.probabilities, EXPECTED, rtol=1e-6)


def test_softmax_stands_large_logits(linear_onnx: Any) -> None:
    p = OnnxModel(linear_onnx, output="logits", softmax=True).predict([[1e4, 0.0]]).probabilities
    np.testing.assert_allclose(p, [[1.0, 0.0, 0.0]])


def test_renormalise_divides_by_the_sum_and_a_row_without_mass_is_nan(linear_onnx: Any) -> None:
    p = OnnxModel(linear_onnx, output="logits", renormalise=True).predict([[0.0, 1.0], [0.0, 0.0]]).probabilities
    np.testing.assert_allclose(p[0], [0.0, 0.25, 0.75])
    assert np.isnan(p[1]).all()


def test_prepare_makes_an_array_or_a_feed(linear_onnx: Any) -> None:
    def rows(texts: Any) -> Any:
        return np.array([[len(text) / 2, 1.0] for text in texts], dtype=np.float32)

    for prepare in (rows, lambda texts: {"x": rows(texts)}):
        np.testing.assert_allclose(
            OnnxModel(linear_onnx, prepare=prepare).predict(["a"]).probabilities, EXPECTED[:1], rtol=1e-6
        )


def test_a_session_of_ones_own_is_taken(linear_onnx: Any) -> None:
    import onnxruntime

    model = OnnxModel(onnxruntime.InferenceSession(linear_onnx), name="mine")
    assert (model.name, len(model.predict(X))) == ("mine", 2)
    assert repr(model) == "OnnxModel('mine', output='probabilities')"


def test_no_inputs_have_the_graphs_classes(linear_onnx: Any) -> None:
    assert OnnxModel(linear_onnx).predict([]).probabilities.shape == (0, 3)


def test_what_cannot_work_is_refused_when_it_is_made(linear_onnx: Any, tmp_path: Any) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for model, settings, says in [
        (tmp_path / "absent.onnx", {}, "cannot load .*absent.onnx"),
        (tmp_path / "broken.onnx", {}, "cannot load"),
        (b"no model", {}, "cannot load these bytes"),
        (linear_onnx, {"output": "scores"}, "no output 'scores'.*logits, probabilities"),
        (linear_onnx, {"output": 7}, "no output 7"),
        (linear_onnx, {"threads": 0}, "threads"),
    ]:
        with pytest.raises(InputError, match=says):
            OnnxModel(model, **settings)


def test_what_goes_wrong_at_work_is_a_model_error_or_the_callers(linear_onnx: Any) -> None:
    with pytest.raises(ModelError, match="ONNX Runtime raised"):
        OnnxModel(linear_onnx).predict([[1.0, 2.0, 3.0]])
    with pytest.raises(InputError, match="give prepare"):
        OnnxModel(linear_onnx).predict(["text"])
    with pytest.raises(ModelError, match="3 probabilities for 2 classes"):
        OnnxModel(linear_onnx, ["a", "b"]).predict(X)
    with pytest.raises(ReplyUnreadable, match=r"shape \(1, 1\)"):
        OnnxModel(linear_onnx, output="total").predict(X)
    with pytest.raises(ReplyUnreadable, match="given 2 inputs and answered 1"):
        OnnxModel(linear_onnx, prepare=lambda xs: np.ones((1, 2), np.float32)).predict(X)


def test_further_outputs_of_the_graph_are_evidence(linear_onnx: Any) -> None:
    model = OnnxModel(linear_onnx, ["a", "b", "c"], logits="logits", features=0)
    output = model.predict(X)
    np.testing.assert_allclose(output.logits, LOGITS, rtol=1e-6)
    np.testing.assert_allclose(output.features, LOGITS, rtol=1e-6)
    np.testing.assert_allclose(output.probabilities, EXPECTED, rtol=1e-6)
    assert model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}
    softened = OnnxModel(linear_onnx, output="logits", softmax=True)
    np.testing.assert_allclose(softened.predict(X).logits, LOGITS, rtol=1e-6)
    assert softened.provides == {Evidence.PROBABILITIES, Evidence.LOGITS}


def test_a_further_output_that_is_none_is_refused(linear_onnx: Any) -> None:
    with pytest.raises(InputError, match=r"no output 'pooled'.*logits"):
        OnnxModel(linear_onnx, features="pooled")
    with pytest.raises(InputError, match="leave out logits="):
        OnnxModel(linear_onnx, output="logits", softmax=True, logits="logits")
