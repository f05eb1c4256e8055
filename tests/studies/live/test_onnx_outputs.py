"""Inner tensors of a graph as further outputs, by a graph made here."""

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.models.onnx import OnnxModel
from bisupervised.studies.live.onnx_outputs import with_outputs

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

#: Longer than 127 bytes, as names of converted graphs are: its length takes two bytes.
LONG = "inner/" + "x" * 200


@pytest.fixture(scope="module")
def graph() -> bytes:
    """x (n, 2) -> 2 x, called LONG -> softmax, called p."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Mul", ["x", "two"], [LONG]),
        helper.make_node("Softmax", [LONG], ["p"]),
    ]
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("p", kind, ["n", 2])],
        [helper.make_tensor("two", kind, [1], [2.0])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_an_inner_tensor_becomes_evidence(graph):
    model = OnnxModel(with_outputs(graph, [LONG]), output="p", logits=LONG)
    output = model.predict([[1.0, 2.0], [0.0, -3.0]])
    np.testing.assert_allclose(output.logits, [[2.0, 4.0], [0.0, -6.0]])
    np.testing.assert_array_equal(output.probabilities, OnnxModel(graph).predict([[1.0, 2.0], [0, -3]]).probabilities)


def test_what_comes_out_is_a_model_by_the_library_too(graph):
    read = onnx.load_from_string(with_outputs(graph, [LONG]))
    assert [output.name for output in read.graph.output] == ["p", LONG]
    assert with_outputs(graph, []) == graph


def test_a_tensor_that_the_graph_does_not_have_is_refused(graph):
    with pytest.raises(InputError, match="cannot load"):
        OnnxModel(with_outputs(graph, ["nowhere"]), output="p")
