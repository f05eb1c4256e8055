"""A real model server in a process of its own, and small real model files."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

#: A program for another environment, which has the KServe SDK.
collect_ignore = ["open_inference_kserve.py"]

_tests = itertools.count()


class ModelServer:
    """The server of `http_server.py`; every `url` is fresh, so that its requests are counted on their own."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def url(self, behaviour: str, route: str = "predict") -> str:
        return f"{self.root}/{behaviour}/{next(_tests)}/{route}".rstrip("/")

    def count(self, url: str) -> int:
        """How many requests came for a URL."""
        return self._counted(url)[0]

    def most_at_once(self, url: str) -> int:
        """How many of them ran at the same time, at most."""
        return self._counted(url)[1]

    def _counted(self, url: str) -> list[int]:
        behaviour, test = url.removeprefix(self.root + "/").split("/")[:2]
        with urllib.request.urlopen(f"{self.root}/count/{behaviour}/{test}") as reply:
            return json.load(reply)


@pytest.fixture(scope="session")
def server() -> Iterator[ModelServer]:
    program = Path(__file__).with_name("http_server.py")
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield ModelServer(int(process.stdout.readline()))
        process.stdin.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def linear_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with the outputs `logits` = x·W, and `probabilities`, their softmax; x is (n, 2), 3 classes."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]], dtype=np.float32), "W")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
            helper.make_node("ReduceSum", ["logits"], ["total"], keepdims=1),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 3]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, [1, 1]),
        ],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path_factory.mktemp("onnx") / "linear.onnx"
    onnx.save(model, path)
    return path
