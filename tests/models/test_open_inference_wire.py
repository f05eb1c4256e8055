"""The v2 protocol's bytes: what goes in comes out, tritonclient agrees, and nothing malformed gets further."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import TensorError
from bisupervised.models.open_inference_tensors import Tensor, classified, tensor_of, texts
from bisupervised.models.open_inference_wire import (
    InferRequest,
    InferResponse,
    Message,
    RequestedOutput,
    build_request,
    build_response,
    parse_request,
    parse_response,
    request_from,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies' own
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tritonclient = pytest.importorskip("tritonclient.http")

NUMBERS = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ARRAYS = st.sampled_from(NUMBERS).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES))


def one_input(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not ...}]}


def refused(message: Any, header_length: Any = None, body: bytes = b"") -> str:
    """What a message is refused with, by either decoder."""
    content = message if isinstance(message, bytes) else json.dumps(message).encode() + body
    said = []
    for decode in (json.loads, msgspec.json.decode):
        with pytest.raises(TensorError) as caught:
            parse_request(content, header_length, decode=decode)
        said.append(str(caught.value))
        assert len(said[-1]) < 500
    return said[0]


def refused_raw(tensor: dict[str, Any], raw: bytes) -> str:
    header = {"inputs": [tensor]}
    return refused(header, len(json.dumps(header)), raw)


# ---------------------------------------------------------------- there and back


@given(ARRAYS, st.booleans())
def test_any_array_of_numbers_is_the_same_after_the_journey_of_a_request(array: Any, binary: bool) -> None:
    if not binary and array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, np.nan).astype(array.dtype)  # JSON knows no infinity
    message = build_request(InferRequest((tensor_of("x", array),), id="7"), binary=binary)
    request = parse_request(*message)
    (tensor,) = request.inputs
    assert (request.id, tensor.name, tensor.shape) == ("7", "x", array.shape)
    assert tensor.data.dtype == array.dtype
    np.testing.assert_array_equal(tensor.data, array)
    assert (message.header_length is not None) == binary


@given(ARRAYS, st.booleans())
def test_any_array_of_numbers_is_the_same_after_the_journey_of_a_response(array: Any, binary: bool) -> None:
    if not binary and array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, np.nan).astype(array.dtype)
    request = InferRequest((), parameters={"binary_data_output": binary})
    sent = InferResponse("m", (tensor_of("y", array),), "3", "7", {"thresholds": "abc"})
    response = parse_response(*build_response(sent, request))
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "7")
    assert response.parameters == {"thresholds": "abc"}
    np.testing.assert_array_equal(response.outputs[0].data, array)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.booleans())
def test_any_text_is_the_same_after_the_journey(words: list[str], binary: bool) -> None:
    message = build_request(InferRequest((tensor_of("x", np.array(words, dtype=object)),)), binary=binary)
    for decode in (json.loads, msgspec.json.decode):
        assert texts(parse_request(*message, decode=decode).inputs[0]) == words


@given(st.lists(st.binary()))
def test_any_bytes_are_the_same_after_the_journey_of_raw_data(elements: list[bytes]) -> None:
    message = build_request(InferRequest((tensor_of("x", np.array([*elements, b"x"], dtype=object)),)))
    assert parse_request(*message).inputs[0].data.tolist() == [*elements, b"x"]


@given(hnp.arrays(np.float32, SHAPES))
def test_bf16_is_held_as_fp32_and_rounded_as_others_round_it(array: Any) -> None:
    sent = Tensor("x", "BF16", array)
    (tensor,) = parse_request(*build_request(InferRequest((sent,)))).inputs
    with np.errstate(over="ignore", invalid="ignore"):
        expected = array.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(tensor.data, expected.astype(np.float32))
    again = tensor_of("x", expected)
    assert again.datatype == "BF16"
    np.testing.assert_array_equal(parse_request(*build_request(InferRequest((again,)))).inputs[0].data, tensor.data)


def test_several_tensors_share_a_body_raw_and_in_json() -> None:
    outputs = (tensor_of("a", np.arange(3)), tensor_of("b", np.array(["x", "yz"])), tensor_of("c", np.array([True])))
    wanted = (RequestedOutput("c", True), RequestedOutput("b"), RequestedOutput("a", True))
    message = build_response(InferResponse("m", outputs), InferRequest((), wanted))
    header = json.loads(message.body[: message.header_length])
    assert [("data" in one, one.get("parameters")) for one in header["outputs"]] == [
        (False, {"binary_data_size": 1}),
        (True, None),
        (False, {"binary_data_size": 24}),
    ]
    assert message.content_type == "application/octet-stream"
    read = parse_response(*message)
    assert [one.name for one in read.outputs] == ["c", "b", "a"]
    assert [one.data.tolist() for one in read.outputs] == [[True], ["x", "yz"], [0, 1, 2]]


def test_outputs_are_json_unless_the_request_wants_them_raw() -> None:
    response = InferResponse("m", (tensor_of("a", np.arange(2)), tensor_of("b", np.arange(2))))
    assert build_response(response).header_length is None
    assert build_response(response, InferRequest(())).content_type == "application/json"
    every = InferRequest((), parameters={"binary_data_output": True})
    assert len(build_response(response, every).body) - build_response(response, every).header_length == 32
    with pytest.raises(TensorError, match="no output 'z'; there are: a, b"):
        build_response(response, InferRequest((), (RequestedOutput("z"),)))


def test_a_single_output_may_differ_from_binary_data_output() -> None:
    request = parse_request(
        json.dumps(
            one_input()
            | {
                "parameters": {"binary_data_output": True, "priority": 3},
                "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False, "classification": 2}}],
            }
        ).encode()
    )
    assert request.outputs == (RequestedOutput("a", True), RequestedOutput("b", False, 2))
    assert request.parameters["priority"] == 3


def test_nested_lists_are_read_in_row_major_order() -> None:
    def read(**changes: Any) -> Any:
        return parse_request(json.dumps(one_input(**changes)).encode()).inputs[0].data.tolist()

    assert read(data=[[1, 2], [3, 4]]) == read(data=[1, 2, 3, 4]) == [[1.0, 2.0], [3.0, 4.0]]
    cube = [[["a"], ["b"]], [["c"], ["d"]]]
    assert read(data=cube, shape=[2, 2, 1], datatype="BYTES") == cube
    assert read(data=[7], shape=[]) == 7.0


def test_a_number_that_is_not_known_is_null_in_json() -> None:
    message = build_response(InferResponse("m", (tensor_of("c", np.array([0.5, np.nan, np.inf])),)))
    assert json.loads(message.body)["outputs"][0]["data"] == [0.5, None, None]
    assert b"NaN" not in message.body
    assert np.isnan(parse_response(*message).outputs[0].data).tolist() == [False, True, True]


def test_an_object_that_somebody_else_decoded_is_read_too() -> None:
    message = build_request(InferRequest((tensor_of("x", np.eye(2)),)))
    decoded = json.loads(message.body[: message.header_length])
    np.testing.assert_array_equal(request_from(decoded, *message).inputs[0].data, np.eye(2))
    assert request_from(one_input()).inputs[0].data.tolist() == [[1.0, 2.5], [3.0, 4.0]]


def test_another_encoder_writes_the_same() -> None:
    response = InferResponse("m", (tensor_of("c", np.array([0.5, np.nan])), tensor_of("p", np.array(["é", "b"]))))
    ours, theirs = build_response(response), build_response(response, encode=msgspec.json.encode)
    assert json.loads(ours.body) == json.loads(theirs.body)


def test_what_is_read_may_be_written_to_and_is_aligned() -> None:
    for length in range(8):
        request = InferRequest((tensor_of("x" * (length + 1), np.arange(4.0)),))
        data = parse_request(*build_request(request)).inputs[0].data
        assert data.flags.writeable
        assert data.flags.aligned


def test_any_layout_of_an_array_is_written_in_row_major_order() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    for one in (array.T, array[::2, ::-1], np.asfortranarray(array), array.astype(">i4")):
        for binary in (True, False):
            (read,) = parse_request(*build_request(InferRequest((tensor_of("x", one),)), binary=binary)).inputs
            assert read.data.tolist() == one.tolist()


def test_classification_gives_the_likeliest_classes_with_their_labels() -> None:
    p = tensor_of("p", np.array([[0.25, 0.5, 0.25], [0.0, 0.125, 0.875]]))
    assert classified(p, 2, ["a", "b", "c"]).data.tolist() == [
        [b"0.5:1:b", b"0.25:0:a"],
        [b"0.875:2:c", b"0.125:1:b"],
    ]
    assert classified(p, 9).data[1].tolist() == [b"0.875:2", b"0.125:1", b"0.0:0"]
    with pytest.raises(TensorError, match="no numbers"):
        classified(tensor_of("t", np.array(["a"])), 1)


# ---------------------------------------------------------------- as tritonclient sends and reads it


TRITON_ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([[-128, 127]], np.int8),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT64": np.array([[-(2**63), 2**63 - 1]]),
    "FP16": np.array([[0.5, 65504.0]], np.float16),
    "FP32": np.array([[0.1, -3e38]], np.float32),
    "FP64": np.array([[0.1, 1e300]]),
    "BYTES": np.array([["é", ""]], dtype=object),
}


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("datatype", TRITON_ARRAYS)
def test_what_tritonclient_sends_is_read(datatype: str, binary: bool) -> None:
    array = TRITON_ARRAYS[datatype]
    given_input = tritonclient.InferInput("x", list(array.shape), datatype)
    given_input.set_data_from_numpy(array, binary_data=binary)
    body, header_length = tritonclient.InferenceServerClient.generate_request_body([given_input], request_id="r1")
    request = parse_request(body, header_length)
    assert (request.id, request.binary_data_output) == ("r1", True)
    (tensor,) = request.inputs
    assert (tensor.datatype, tensor.shape) == (datatype, (1, 2))
    read = [texts(tensor)] if datatype == "BYTES" else tensor.data.tolist()
    assert read == array.tolist()


def test_the_bf16_and_the_requested_outputs_of_tritonclient_are_read() -> None:
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    given_input = tritonclient.InferInput("x", [2], "BF16")
    given_input.set_data_from_numpy(array)
    outputs = [
        tritonclient.InferRequestedOutput("p", binary_data=True, class_count=3),
        tritonclient.InferRequestedOutput("q", binary_data=False),
    ]
    body, length = tritonclient.InferenceServerClient.generate_request_body([given_input], outputs=outputs)
    request = parse_request(body, length)
    assert request.inputs[0].data.tolist() == [1.5, -2.0]
    assert request.outputs == (RequestedOutput("p", True, 3), RequestedOutput("q", False))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("datatype", TRITON_ARRAYS)
def test_what_we_answer_tritonclient_reads(datatype: str, binary: bool) -> None:
    array = TRITON_ARRAYS[datatype]
    if datatype == "BYTES":
        array = array.astype(object)
    response = InferResponse("m", (tensor_of("a", np.arange(2)), tensor_of("y", array)), "1", "r1")
    message = build_response(response, InferRequest((), parameters={"binary_data_output": binary}))
    result = tritonclient.InferenceServerClient.parse_response_body(message.body, header_length=message.header_length)
    read = result.as_numpy("y")
    if datatype == "BYTES" and binary:
        read = np.array([[one.decode() for one in read[0]]], dtype=object)
    assert read.tolist() == array.tolist()
    assert result.get_response()["id"] == "r1"


def test_tritonclient_reads_null_as_nan() -> None:
    message = build_response(InferResponse("m", (tensor_of("c", np.array([np.nan, 0.5])),)))
    read = tritonclient.InferenceServerClient.parse_response_body(message.body).as_numpy("c")
    np.testing.assert_array_equal(read, [np.nan, 0.5])


# ---------------------------------------------------------------- what is malformed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ...}, 'has no "name"'),
        ({"name": ""}, 'has no "name"'),
        ({"name": 4}, "is a string, not a number"),
        ({"name": "x" * 300}, "at most 256"),
        ({"datatype": ...}, "is one of BOOL, UINT8"),
        ({"datatype": "FLOAT"}, "not 'FLOAT'"),
        ({"datatype": "fp32"}, "not 'fp32'"),
        ({"datatype": ["FP32"]}, "not a list"),
        ({"datatype": "BF16"}, "JSON has no BF16; send it as binary data"),
        ({"shape": ...}, "is a list of whole numbers"),
        ({"shape": [2, -2]}, "is a list of whole numbers"),
        ({"shape": [2, 2.0]}, "is a list of whole numbers"),
        ({"shape": [True, 4]}, "is a list of whole numbers"),
        ({"shape": "2,2"}, "is a list of whole numbers"),
        ({"shape": [2**64, 0], "data": []}, "is a list of whole numbers"),
        ({"shape": [1] * 40, "data": [1]}, "40 dimensions; at most 32"),
        ({"shape": [0, 2**62, 2**62], "data": []}, "too large"),
        ({"shape": [2, 3]}, "has 4 elements, and 6 by its shape [2, 3]"),
        ({"shape": [2**40, 2**40]}, "has 4 elements, and"),
        ({"data": ...}, 'neither a list "data" nor binary_data_size'),
        ({"data": None}, 'neither a list "data" nor binary_data_size'),
        ({"data": "1234"}, 'neither a list "data" nor binary_data_size'),
        ({"data": {"0": 1}}, 'neither a list "data" nor binary_data_size'),
        ({"data": [1, 2, 3, "4"]}, "holds numbers (FP32), not '4'"),
        ({"data": [1, 2, 3, True]}, "holds numbers (FP32), not true or false"),
        ({"data": [1, 2, 3, {}]}, "holds numbers (FP32), not an object"),
        ({"data": [1, 2, 3, 1e39]}, "too large for FP32"),
        ({"data": [1, 2, 3, 10**400]}, "too large for FP32"),
        ({"data": [1, 2, 3, 1e5], "datatype": "FP16"}, "too large for FP16"),
        ({"data": [1, 2, 3, 4.0], "datatype": "INT32"}, "holds whole numbers (INT32), not 4.0"),
        ({"data": [1, 2, 3, None], "datatype": "INT32"}, "holds whole numbers (INT32), not null"),
        ({"data": [1, 2, 3, 128], "datatype": "INT8"}, "outside INT8, -128 to 127"),
        ({"data": [1, 2, 3, -1], "datatype": "UINT64"}, "outside UINT64"),
        ({"data": [1, 2, 3, 10**4000], "datatype": "UINT64"}, "outside UINT64"),
        ({"data": [1, 2, 3, 10**4000], "datatype": "BYTES"}, "holds strings (BYTES), not a number"),
        ({"data": [0, 1, 0, 1], "datatype": "BOOL"}, "holds true or false (BOOL), not a number"),
        ({"data": ["a", "b", "c", None], "datatype": "BYTES"}, "holds strings (BYTES), not null"),
        ({"data": [[1, 2], [3]]}, "nested as its shape [2, 2] says"),
        ({"data": [[1, 2], 3, 4]}, "nested as its shape [2, 2] says"),
        ({"data": [[1], [2], [3], [4]]}, "nested as its shape [2, 2] says"),
        ({"data": [[1, 2, 3, 4]]}, "nested as its shape [2, 2] says"),
        ({"data": [[1, [2]], [3, 4]]}, "holds numbers (FP32), not a list"),
        ({"data": [[1, 2], [3, 4]], "shape": [4]}, "nested as its shape [4] says"),
        ({"data": [[1]], "shape": []}, "nested as its shape [] says"),
        ({"parameters": []}, "is a JSON object, not a list"),
        ({"parameters": {"binary_data_size": 16}}, 'both "data" and binary_data_size'),
        (
            {"data": ..., "parameters": {"binary_data_size": 16}},
            "say with the header Inference-Header-Content-Length",
        ),
        ({"data": ..., "parameters": {"shared_memory_region": "r"}}, "shared memory, which is not offered"),
    ],
)
def test_a_malformed_tensor_is_refused_with_what_to_do(changes: dict[str, Any], says: str) -> None:
    assert says in refused(one_input(**changes))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        ([], "the request is a JSON object, not a list"),
        ({}, '"inputs" of the message is a list, not missing'),
        ({"inputs": {}}, "is a list, not an object"),
        ({"inputs": []}, "has no input tensors"),
        ({"inputs": ["x"]}, "a tensor is a JSON object, not a string"),
        ({"inputs": one_input()["inputs"] * 2}, "have the same name"),
        (one_input() | {"id": 7}, '"id" of the request is a string, not a number'),
        (one_input() | {"parameters": 7}, '"parameters" of the request is a JSON object'),
        (one_input() | {"outputs": {}}, '"outputs" of the request is a list'),
        (one_input() | {"outputs": [{}]}, 'a requested output has no "name"'),
        (one_input() | {"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "is true or false"),
        (one_input() | {"outputs": [{"name": "a", "parameters": {"classification": 0}}]}, "at least 1"),
        (one_input() | {"outputs": [{"name": "a", "parameters": {"classification": True}}]}, "at least 1"),
        (one_input() | {"outputs": [{"name": "a", "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
    ],
)
def test_a_malformed_request_is_refused_with_what_to_do(message: Any, says: str) -> None:
    assert says in refused(message)


RAW = {"name": "x", "shape": [2], "datatype": "INT32", "parameters": {"binary_data_size": 8}}
WORDS = {"name": "x", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}}


@pytest.mark.parametrize(
    ("tensor", "raw", "says"),
    [
        (RAW, b"1234567", "cut off: the tensor 'x' is announced with 8 bytes, and 7 came"),
        (RAW, b"123456789", "1 bytes follow the last tensor"),
        (RAW | {"shape": [3]}, b"12345678", "has 8 bytes, and by its shape 3 elements of 4 (INT32)"),
        (RAW | {"shape": [2**60]}, b"12345678", "has 8 bytes"),
        (RAW | {"parameters": {"binary_data_size": 2**62}}, b"12345678", "cut off"),
        (RAW | {"parameters": {"binary_data_size": 10**30}}, b"12345678", "whole number of bytes"),
        (RAW | {"parameters": {"binary_data_size": -8}}, b"12345678", "whole number of bytes"),
        (RAW | {"parameters": {"binary_data_size": "8"}}, b"12345678", "whole number of bytes"),
        (RAW | {"parameters": {"binary_data_size": True}}, b"12345678", "whole number of bytes"),
        (RAW | {"parameters": {}}, b"12345678", "neither a list"),
        (WORDS, b"\1\0\0\0a\xff\xff\xff\xffb", "cut off in its element 1"),
        (WORDS, b"\5\0\0\0abcdef", "cut off in its element 1"),
        (WORDS, b"\0\0\0\0\0\0\0\0ab", "2 bytes follow the 2 elements"),
        (WORDS | {"shape": [2**40]}, b"\1\0\0\0a\1\0\0\0b", "too few for 1099511627776 elements"),
    ],
)
def test_malformed_raw_data_is_refused_with_what_to_do(tensor: dict[str, Any], raw: bytes, says: str) -> None:
    assert says in refused_raw(tensor, raw)


@pytest.mark.parametrize("length", [0, -1, 999, "", "1e2", " 12", "٣", "9" * 5000, 1.5, True, b"12"])
def test_a_header_length_that_is_none_is_refused(length: Any) -> None:
    assert "Inference-Header-Content-Length" in refused(one_input(), length)


def test_bytes_that_are_no_text_are_refused_as_text_and_in_json() -> None:
    tensor = tensor_of("x", np.array([b"\xff"], dtype=object))
    with pytest.raises(TensorError, match="in UTF-8"):
        texts(tensor)
    with pytest.raises(TensorError, match="in UTF-8"):
        build_response(InferResponse("m", (tensor,)))
    with pytest.raises(TensorError, match="ask for binary data"):
        build_response(InferResponse("m", (Tensor("x", "BF16", np.zeros(1, np.float32)),)))


@pytest.mark.parametrize("array", [np.array([1j]), np.array([None]), np.array([1, "a"], dtype=object)])
def test_what_no_datatype_holds_is_refused(array: Any) -> None:
    with pytest.raises(TensorError, match="give booleans, numbers or texts"):
        tensor_of("x", array)


def test_a_lone_surrogate_does_not_break_the_answer() -> None:
    message = build_response(
        InferResponse("m", (tensor_of("t", np.array(["a\ud800"], dtype=object)),)),
        InferRequest((), parameters={"binary_data_output": True}),
    )
    assert texts(parse_response(*message).outputs[0]) == ["a?"]


def test_nothing_is_allocated_for_what_a_body_only_claims() -> None:
    claims = [
        ({"name": "x", "shape": [2**33], "datatype": "FP64", "data": [1.0]}, b""),
        ({"name": "x", "shape": [2**33], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}, b"12345678"),
        ({"name": "x", "shape": [2**33], "datatype": "FP64", "parameters": {"binary_data_size": 2**36}}, b"12345678"),
        (
            {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}},
            b"\xff\xff\xff\xffa",
        ),
    ]
    tracemalloc.start()
    try:
        for tensor, raw in claims:
            header = json.dumps({"inputs": [tensor]}).encode()
            with pytest.raises(TensorError):
                parse_request(header + raw, len(header))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "shape", "data"]), inner),
    max_leaves=8,
)
SOMETHING = {
    "name": st.sampled_from(["x", "y"]) | JSON,
    "datatype": st.sampled_from(["FP32", "FP16", "BF16", "BYTES", "BOOL", "UINT8", "INT64"]) | JSON,
    "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
    "data": st.lists(st.integers(-1, 300) | st.text(max_size=2), max_size=4) | JSON,
    "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}) | JSON,
}


@given(
    st.fixed_dictionaries({"inputs": st.lists(st.fixed_dictionaries({}, optional=SOMETHING), max_size=3) | JSON})
    | JSON,
    st.binary(max_size=24),
    st.booleans(),
)
def test_whatever_is_sent_is_read_or_refused(message: Any, raw: bytes, has_header: bool) -> None:
    header = json.dumps(message).encode()
    for parse in (parse_request, parse_response):
        for decode in (json.loads, msgspec.json.decode):
            with contextlib.suppress(TensorError):
                parse(header + raw, len(header) if has_header else None, decode=decode)


@given(st.data())
def test_a_body_cut_anywhere_is_refused(data: Any) -> None:
    request = InferRequest((tensor_of("x", np.arange(6.0).reshape(2, 3)), tensor_of("t", np.array(["ab", "c"]))))
    message = build_request(request, binary=data.draw(st.booleans()))
    cut = data.draw(st.integers(0, len(message.body) - 1))
    with pytest.raises(TensorError):
        parse_request(message.body[:cut], message.header_length)


def test_the_raw_bytes_are_those_of_the_protocol() -> None:
    request = InferRequest((tensor_of("n", np.array([1, 258], np.uint16)), tensor_of("t", np.array(["é"]))))
    message = build_request(request)
    assert message.body[message.header_length :] == b"\1\0\2\1" + struct.pack("<I", 2) + b"\xc3\xa9"
    assert Message(b"{}").content_type == "application/json"
