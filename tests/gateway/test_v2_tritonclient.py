"""The unchanged `tritonclient` against a real server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bisupervised.gateway.v2_tensors import TensorMetadata
from gateway.v2_classifiers import FakeClassifier, FakeService, numbers_cascade, serving, words_cascade

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies' own
    triton = pytest.importorskip("tritonclient.http")
    from tritonclient.utils import InferenceServerException

BINARY = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
PACKED = pytest.mark.parametrize("packed", [None, "gzip", "deflate"])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    text, point = TensorMetadata("text", "BYTES", (-1,)), TensorMetadata("point", "FP32", (-1, 2))
    service = FakeService(
        FakeClassifier("team/words", words_cascade(), inputs=[text], classes=("negative", "positive")),
        FakeClassifier("points", numbers_cascade(), inputs=[point], prediction="INT64", versions=("1", "2")),
        FakeClassifier("asleep", numbers_cascade(), ready=False),
    )
    with serving(service) as where:
        yield where


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address, concurrency=4) as one:
        yield one


def text_input(texts: Any, binary: bool) -> Any:
    tensor = triton.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
    return tensor


def point_input(points: Any, binary: bool = True) -> Any:
    array = np.array(points, dtype=np.float32)
    tensor = triton.InferInput("point", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def outputs(*names: str, binary: bool) -> Any:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def as_text(array: Any) -> list[str]:
    return [one.decode() if isinstance(one, bytes) else one for one in array.tolist()]


def test_it_sees_who_is_there(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("team/words")
    assert client.is_model_ready("points", "2")
    assert not client.is_model_ready("points", "3")
    assert not client.is_model_ready("asleep")
    assert not client.is_model_ready("nothing")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("team/words")
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [one["name"] for one in metadata["outputs"]][-1] == "probabilities"
    assert client.get_model_metadata("points", "1")["versions"] == ["1", "2"]
    index = client.get_model_repository_index()
    assert [(one["name"], one["state"]) for one in index][-1] == ("asleep", "UNAVAILABLE")


@PACKED
@BINARY
def test_it_infers(client: Any, binary: bool, packed: str | None) -> None:
    texts = ["easy good é", "hard", "neither"] * 40
    result = client.infer(
        "team/words",
        [text_input(texts, binary)],
        outputs=outputs("prediction", "confidence", "route", "id", "probabilities", binary=binary),
        request_id="r1",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    assert as_text(result.as_numpy("prediction")) == ["positive", "negative", ""] * 40
    assert as_text(result.as_numpy("route")) == ["local", "remote", "rejected"] * 40
    np.testing.assert_array_equal(result.as_numpy("confidence"), [0.96875, 0.96875, np.nan] * 40)
    assert len(set(as_text(result.as_numpy("id")))) == 120
    np.testing.assert_array_equal(result.as_numpy("probabilities")[0], [0.03125, 0.96875])
    assert result.get_response()["id"] == "r1"
    assert result.get_response()["parameters"] == {"mode": "enforce", "thresholds": "t1"}


@BINARY
def test_it_infers_from_numbers_and_gets_every_output_raw_when_it_names_none(client: Any, binary: bool) -> None:
    result = client.infer("points", [point_input([[0, 1], [2, -1]], binary)], model_version="1")
    assert result.as_numpy("prediction").tolist() == [2, 0]
    assert result.as_numpy("prediction").dtype == np.int64
    assert as_text(result.as_numpy("route")) == ["local", "local"]
    assert [one["parameters"]["binary_data_size"] for one in result.get_response()["outputs"]][:2] == [16, 16]
    assert result.get_response()["model_version"] == "1"


def test_it_infers_many_at_a_time(client: Any) -> None:
    waiting = [client.async_infer("points", [point_input([[0, k]])], request_id=str(k)) for k in range(1, 20)]
    results = [one.get_result() for one in waiting]
    assert [one.get_response()["id"] for one in results] == [str(k) for k in range(1, 20)]
    assert {int(one.as_numpy("prediction")[0]) for one in results} == {2}


@BINARY
def test_it_asks_for_the_likeliest_classes(client: Any, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    result = client.infer("team/words", [text_input(["easy good", "hard"], binary)], outputs=[wanted])
    assert [as_text(row) for row in result.as_numpy("probabilities")] == [
        ["0.96875:1:positive", "0.03125:0:negative"],
        ["0.96875:0:negative", "0.03125:1:positive"],
    ]


def test_its_errors_hold_our_words(client: Any) -> None:
    cases = [
        (lambda: client.infer("nothing", [point_input([[0, 1]])]), "404", "there is no model 'nothing'"),
        (lambda: client.infer("points", [point_input([[0, 1, 2]])]), "400", "was sent as FP32 [1, 3]"),
        (lambda: client.infer("team/words", [text_input(["neither"], True)]), "422", "could be trusted"),
        (lambda: client.get_model_metadata("nothing"), "404", "there is no model"),
        (lambda: client.get_model_config("points"), "404", "there is no model 'points/config'"),
    ]
    for call, status, says in cases:
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == status
        assert says in caught.value.message()
