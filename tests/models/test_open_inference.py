"""A classifier behind a v2 server: a real one of the KServe SDK, and servers that break."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import (
    ConfigError,
    InputError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.models import Model, RecordingCache
from bisupervised.models.open_inference import OpenInferenceModel
from bisupervised.models.open_inference_tensors import Tensor, tensor_of
from bisupervised.models.open_inference_wire import InferRequest, InferResponse, build_response
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import Evidence
from bisupervised.supervisor import Supervisor
from models.asking import ask, ask_as_drivers_do, failure_kinds

PEERS = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
WEIGHTS = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
POINTS = [[0.0, 1.0], [2.0, -1.0], [0.3, 0.4], [-1.0, 0.5]]
BINARY = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])


def softmax(points: Any) -> Any:
    logits = np.exp(np.array(points) @ WEIGHTS)
    return logits / logits.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not PEERS.exists():
        pytest.skip(f"there is no environment with the KServe SDK at {PEERS}: requirements/peers.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(__file__).with_name("open_inference_kserve.py")
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen([PEERS, program, str(port)], stdout=stream, stderr=stream)
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/health/ready", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: Any, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the KServe server did not start:\n{log.read_text()[-2000:]}")


# ---------------------------------------------------------------- a real server


@BINARY
def test_probabilities_of_a_kserve_server_are_read(kserve: str, binary: bool) -> None:
    model = OpenInferenceModel("linear", kserve, ["a", "b", "c"], binary=binary, max_batch=None, cost_per_input=0.5)
    output = ask(model, POINTS)
    np.testing.assert_allclose(output.probabilities, softmax(POINTS), rtol=1e-6)
    assert output.predictions.tolist() == ["c", "a", "c", "c"]
    assert output.classes.tolist() == ["a", "b", "c"]
    assert output.cost.tolist() == [0.5] * 4
    assert 0 < output.latency_s[0] < 5
    assert not output.failures


@BINARY
def test_logits_become_probabilities_and_rows_are_renormalised(kserve: str, binary: bool) -> None:
    logits = OpenInferenceModel("logits", kserve, output="output-0", softmax=True, binary=binary, max_batch=4)
    np.testing.assert_allclose(ask(logits, POINTS).probabilities, softmax(POINTS), rtol=1e-6)
    divided = OpenInferenceModel("linear", kserve, renormalise=True, datatype="FP64", binary=binary, max_batch=4)
    np.testing.assert_allclose(ask(divided, POINTS).probabilities.sum(axis=1), 1.0, rtol=1e-12)


@BINARY
def test_labels_and_their_confidences_are_read(kserve: str, binary: bool) -> None:
    model = OpenInferenceModel(
        "words", kserve, labels="label", confidence="confidence", binary=binary, max_batch=None
    )
    output = ask(model, ["a good one", "bad", "ñ"])
    assert output.predictions.tolist() == ["positive", "négative", "négative"]
    np.testing.assert_allclose(output.confidences, [0.6, 0.53, 0.51])
    assert model.provides == {Evidence.CONFIDENCE}
    alone = OpenInferenceModel("words", kserve, labels="label", binary=binary)
    assert alone.provides == frozenset()
    assert ask(alone, ["good"]).confidences is None


@BINARY
def test_prepare_fills_the_tensors(kserve: str, binary: bool) -> None:
    def prepare(inputs: Any) -> Any:
        return np.array([[len(x), 0.0] for x in inputs], np.float32)

    expected = softmax([[1.0, 0.0], [3.0, 0.0]])
    for one in (prepare, lambda inputs: {"anything": prepare(inputs)}):
        model = OpenInferenceModel("linear", kserve, prepare=one, binary=binary, max_batch=None)
        np.testing.assert_allclose(ask(model, ["a", "abc"]).probabilities, expected, rtol=1e-6)


def test_it_keeps_the_ports_contract(kserve: str) -> None:
    model = OpenInferenceModel("linear", kserve, ["a", "b", "c"], max_batch=3)
    assert isinstance(model, Model)
    assert repr(model) == f"OpenInferenceModel('linear', '{kserve}/v2/models/linear/infer')"
    together, none = ask_as_drivers_do(model, POINTS), ask(model, [])
    assert len(none) == 0
    assert none.probabilities.shape == (0, 3)
    for row, x in enumerate(POINTS):
        np.testing.assert_array_equal(ask(model, [x]).probabilities, together.probabilities[row : row + 1])
    with pytest.raises(InputError, match="at most 3 inputs"):
        ask(model, POINTS)


def test_it_is_the_remote_model_of_a_cascade(kserve: str) -> None:
    local = OpenInferenceModel("words", kserve, labels="label", confidence="confidence", max_batch=8)
    remote = OpenInferenceModel(
        "linear", kserve, ["a", "b", "c"], prepare=lambda xs: np.array([[len(x), 0] for x in xs], np.float32)
    )
    system = BiSupervised(
        Level(local, Supervisor(GivenConfidence(), 0.6)), Level(remote, Supervisor(threshold=0.9), cost=0.1)
    )
    with system:
        outcomes = system.predict_many(["a good one", "xx", ""])
    assert [outcome.route.label for outcome in outcomes] == ["local", "remote", "rejected"]
    assert outcomes.answers.tolist() == ["positive", "a", None]


def test_the_key_is_sent_and_not_shown(kserve: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-very-secret")
    model = OpenInferenceModel("words", kserve, labels="label", api_key_env="TEAM_KEY")
    assert ask(model, ["x"]).predictions.tolist() == ["Bearer sk-very-secret"]
    assert "secret" not in repr(model) + str(model.cache_key("x"))


def test_what_a_server_refuses_is_a_status_with_its_words(kserve: str) -> None:
    with pytest.raises(ModelStatusError, match="nothing") as caught:
        ask(OpenInferenceModel("nothing", kserve), POINTS[:1])
    assert caught.value.status == 404
    # This server versions no models, and says so.
    with pytest.raises(ModelStatusError, match="linear/versions/2/infer answered 501"):
        ask(OpenInferenceModel("linear", kserve, version="2"), POINTS[:1])


def test_check_tells_what_came_back(kserve: str) -> None:
    check = asyncio.run(OpenInferenceModel("linear", kserve, cost_per_input=0.1).check(POINTS[0]))
    assert check.ok
    assert (check.given, check.prediction, check.cost) == ({Evidence.PROBABILITIES}, 2, 0.1)
    wrong = asyncio.run(OpenInferenceModel("words", kserve, output="label").check("good"))
    assert wrong.missing == {Evidence.PROBABILITIES}
    assert wrong.failure.kind == "unreadable"


def test_a_recording_finds_an_input_again_by_what_is_sent(kserve: str, tmp_path: Path) -> None:
    cached = RecordingCache(OpenInferenceModel("linear", kserve, cost_per_input=1.0), tmp_path / "cache.sqlite")
    first, again, other = (ask(cached, [x]) for x in ([1.0, 2.0], np.array([1, 2]), [2.0, 1.0]))
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert [one.cost.tolist() for one in (first, again, other)] == [[1.0], [0.0], [1.0]]
    cached.close()


# ---------------------------------------------------------------- servers that break


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("stall", ModelTimeout),
        ("reset", ModelUnreachable),
        ("hangup", ModelUnreachable),
        ("truncated", ReplyUnreadable),
        ("nothttp", ReplyUnreadable),
        ("badgzip", ReplyUnreadable),
        ("huge", ReplyUnreadable),
        ("redirect", ModelStatusError),
        ("denied", ModelStatusError),
    ],
)
def test_a_broken_exchange_raises_the_error_for_it(server: Any, behaviour: str, expected: Any) -> None:
    timeout_s = 0.1 if behaviour == "stall" else 10.0
    model = OpenInferenceModel(
        "m",
        server.url(behaviour, ""),
        binary=False,
        timeout_s=timeout_s,
        max_reply_bytes=50_000,
        api_key="sk-very-secret",
    )
    with pytest.raises(expected) as caught:
        ask(model, POINTS[:1])
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("behaviour", ["cutjson", "deep", "html"])
def test_a_reply_that_is_none_is_marked_and_paid_for(server: Any, behaviour: str) -> None:
    model = OpenInferenceModel("m", server.url(behaviour, ""), binary=False, cost_per_input=0.25, max_batch=2)
    output = ask(model, POINTS[:2])
    assert failure_kinds(output) == ["unreadable"] * 2
    assert output.cost.tolist() == [0.25, 0.25]
    assert list(output.predictions) == [None, None]


@contextmanager
def replying(content: bytes, header_length: int | None = None) -> Iterator[tuple[str, list[Any]]]:
    """The URL of a server that gives one reply to everything, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            if header_length is not None:
                self.send_header("Inference-Header-Content-Length", str(header_length))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", asked
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def outputs(**arrays: Any) -> bytes:
    tensors = tuple(tensor_of(name, np.array(array)) for name, array in arrays.items())
    return build_response(InferResponse("m", tensors)).body


LABELS = {"labels": "label", "confidence": "confidence"}


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"{}", {}, '"outputs" of the message is a list, not missing'),
        (b'{"outputs": []}', {}, "no tensor 'probabilities'; there are: none"),
        (outputs(a=[[0.5, 0.5]] * 2, b=[1, 1]), {}, "no tensor 'probabilities'; there are: a, b"),
        (outputs(a=[[0.5, 0.5]]), {}, "given 2 inputs and answered 1"),
        (outputs(a=[0.5, 0.5]), {}, "a' is FP64 [2]; one number for each of at least two classes"),
        (outputs(a=[[1.0], [1.0]]), {}, "is FP64 [2, 1]"),
        (outputs(a=[["a", "b"]] * 2), {}, "is BYTES [2, 2]"),
        (outputs(a=[[0.5, 0.5]] * 2), {"classes": ["x", "y", "z"]}, "2 probabilities for 3 classes"),
        (outputs(a=[[0.5, 0.5]] * 2), {"output": "b"}, "no tensor 'b'; there are: a"),
        (outputs(label=["a", "b"]), LABELS, "no tensor 'confidence'"),
        (outputs(label=["a"], confidence=[0.5, 0.5]), LABELS, "'label' has the shape [1], not [2]"),
        (outputs(label=["a", "b"], confidence=["0.5", "0.5"]), LABELS, "'confidence' holds no numbers"),
    ],
)
def test_a_reply_that_is_not_what_was_agreed_is_unreadable(content: bytes, options: Any, says: str) -> None:
    with replying(content) as (url, _):
        output = ask(OpenInferenceModel("m", url, max_batch=2, name="remote", **options), POINTS[:2])
    assert failure_kinds(output) == ["unreadable"] * 2
    assert says in output.failures[0].message
    assert output.failures[0].message.startswith("remote: ")


EVIDENCE = {"output": "p", "features": "pooled", "logits": "z"}


def test_further_tensors_are_evidence() -> None:
    reply = outputs(p=[[0.5, 0.5], [0.1, 0.9]], pooled=[[1.0, 2.0, 3.0]] * 2, z=[[0.0, 0.0], [1.0, 3.0]])
    with replying(reply) as (url, asked):
        model = OpenInferenceModel("m", url, ["a", "b"], max_batch=2, binary=False, **EVIDENCE)
        output = ask(model, POINTS[:2])
    assert model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}
    assert output.features.tolist() == [[1.0, 2.0, 3.0]] * 2
    assert output.logits.tolist() == [[0.0, 0.0], [1.0, 3.0]]
    assert [one["name"] for one in json.loads(asked[0][2])["outputs"]] == ["p", "z", "pooled"]
    with replying(outputs(p=[[0.0, 1.0]] * 2)) as (url, _):
        model = OpenInferenceModel("m", url, max_batch=2, output="p", softmax=True)
        output = ask(model, POINTS[:2])
    assert (output.logits.tolist(), model.provides) == ([[0.0, 1.0]] * 2, {Evidence.PROBABILITIES, Evidence.LOGITS})
    with replying(outputs(label=["a", "b"], pooled=[[1.0], [2.0]])) as (url, _):
        output = ask(OpenInferenceModel("m", url, max_batch=2, labels="label", features="pooled"), POINTS[:2])
    assert (output.predictions.tolist(), output.features.tolist()) == (["a", "b"], [[1.0], [2.0]])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (outputs(p=[[0.5, 0.5]] * 2, z=[[0.0, 1.0]] * 2), "no tensor 'pooled'"),
        (outputs(p=[[0.5, 0.5]] * 2, z=[[0.0, 1.0]] * 2, pooled=[1.0, 2.0]), "'pooled' has the shape (2,)"),
        (outputs(p=[[0.5, 0.5]] * 2, z=[[0.0, 1.0]] * 2, pooled=[["a"]] * 2), "'pooled' is no array of numbers"),
        (outputs(p=[[0.5, 0.5]] * 2, z=[[0.0]] * 2, pooled=[[1.0]] * 2), "the logits have the shape (2, 1)"),
    ],
)
def test_evidence_that_is_not_what_was_agreed_is_unreadable(content: bytes, says: str) -> None:
    with replying(content) as (url, _):
        output = ask(OpenInferenceModel("m", url, max_batch=2, **EVIDENCE), POINTS[:2])
    assert failure_kinds(output) == ["unreadable"] * 2
    assert says in output.failures[0].message


def test_evidence_goes_beside_a_named_tensor() -> None:
    with pytest.raises(InputError, match="name the tensor of the probabilities"):
        OpenInferenceModel("m", "http://localhost", features="pooled")
    with pytest.raises(InputError, match="leave out logits"):
        OpenInferenceModel("m", "http://localhost", output="p", softmax=True, logits="z")


def test_raw_data_that_is_cut_off_is_unreadable() -> None:
    raw = InferRequest((), parameters={"binary_data_output": True})
    message = build_response(InferResponse("m", (tensor_of("p", np.eye(2)),)), raw)
    for content in (message.body[:-1], message.body + b"x"):
        with replying(content, message.header_length) as (url, _):
            assert failure_kinds(ask(OpenInferenceModel("m", url), [1.0])) == ["unreadable"]
    with replying(message.body, len(message.body) + 1) as (url, _):
        assert failure_kinds(ask(OpenInferenceModel("m", url), [1.0])) == ["unreadable"]


def test_labels_may_be_numbers_and_columns_and_a_missing_confidence_is_nan() -> None:
    with replying(outputs(label=[[3], [4]], confidence=[[0.5], [np.nan]])) as (url, _):
        output = ask(OpenInferenceModel("m", url, max_batch=2, **LABELS), ["a", "b"])
    assert output.predictions.tolist() == [3, 4]
    np.testing.assert_array_equal(output.confidences, [0.5, np.nan])


def test_the_request_says_what_is_wanted_and_how() -> None:
    with replying(outputs(p=[[0.5, 0.5]])) as (url, asked):
        ask(
            OpenInferenceModel("a/b c", url + "/", input="x", parameters={"team": "blue"}, headers={"X-T": "1"}),
            [0.5],
        )
        ask(OpenInferenceModel("m", url, output="p", datatype="BF16", version="7"), [0.5])
        ask(OpenInferenceModel("m", url, output="p", binary=False), ["text"])
    (path, headers, body), (versioned, _, bf16), (_, json_headers, json_body) = asked
    assert path == "/v2/models/a/b%20c/infer"
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length]) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}],
        "parameters": {"team": "blue", "binary_data_output": True},
    }
    assert (headers["Content-Type"], headers["X-T"]) == ("application/octet-stream", "1")
    assert body[length:] == np.float32(0.5).tobytes()
    assert versioned == "/v2/models/m/versions/7/infer"
    assert bf16.endswith(b"\x00\x3f")
    assert json_headers["Content-Type"] == "application/json"
    assert "Inference-Header-Content-Length" not in json_headers
    assert json.loads(json_body) == {
        "inputs": [{"name": "input", "datatype": "BYTES", "shape": [1], "data": ["text"]}],
        "outputs": [{"name": "p", "parameters": {"binary_data": False}}],
    }


def test_inputs_that_are_no_array_say_what_to_give() -> None:
    model = OpenInferenceModel("m", "http://localhost", datatype="INT64")
    for wrong in ([[1, 2], [3]], [{"a": 1}], [2**70]):
        with pytest.raises(InputError, match=r"no array of INT64.*give prepare"):
            model.cache_key(wrong)
    with pytest.raises(InputError, match="booleans, numbers or texts"):
        OpenInferenceModel("m", "http://localhost", prepare=lambda xs: np.array([None])).cache_key(1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": "a", "output": "b"}, "not both"),
        ({"labels": "a", "classes": ["x"]}, "not both"),
        ({"labels": "a", "softmax": True}, "not both"),
        ({"confidence": "a"}, "give labels too"),
        ({"datatype": "float32"}, "the datatype is one of BOOL"),
        ({"max_batch": 0}, "at least 1"),
        ({"api_key": "a", "api_key_env": "B"}, "not both"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        OpenInferenceModel("m", "http://localhost", **options)


def test_a_key_that_is_not_set_is_named(monkeypatch: Any) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_KEY is not set"):
        OpenInferenceModel("m", "http://localhost", api_key_env="NO_KEY")


def test_a_row_without_any_mass_is_no_evidence() -> None:
    tensors = (Tensor("p", "FP32", np.array([[0.0, 0.0], [1.0, 3.0]], np.float32)),)
    with replying(build_response(InferResponse("m", tensors)).body) as (url, _):
        output = ask(OpenInferenceModel("m", url, renormalise=True, max_batch=2), POINTS[:2])
    np.testing.assert_array_equal(output.probabilities, [[np.nan, np.nan], [0.25, 0.75]])
