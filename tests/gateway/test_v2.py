"""The v2 routes on a real server: what is answered, and everything that can be wrong with a request."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.cascade import BiSupervised
from bisupervised.errors import ModelTimeout, ModelUnreachable
from bisupervised.fallback import Call, Default, HandOver
from bisupervised.gateway.refusals import refusal
from bisupervised.gateway.v2 import V2, refusal_of_outcome
from bisupervised.gateway.v2_tensors import TensorMetadata, outputs_of
from bisupervised.models.open_inference import OpenInferenceModel
from bisupervised.models.open_inference_tensors import tensor_of
from bisupervised.models.open_inference_wire import InferRequest, RequestedOutput, build_request, parse_response
from bisupervised.records import Failure, ModelOutput
from fakes import FakeModel, FakeQueue, level, recorded
from gateway.v2_classifiers import FakeClassifier, FakeService, Sent, numbers_cascade, serving, words_cascade
from models.asking import ask

TEXT = [TensorMetadata("text", "BYTES", (-1,))]
POINT = [TensorMetadata("point", "FP32", (-1, 2))]
LABELS = ("negative", "positive")
FALLBACKS = ("default", "queue", "broken fallback")


class Reply:
    """What came back."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.body = reply.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def outputs(self) -> dict[str, Any]:
        return {one["name"]: one["data"] for one in self.json["outputs"]}


class Served:
    """A running server, and its service."""

    def __init__(self, address: str, service: FakeService) -> None:
        self.address = address
        self.service = service

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> Reply:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def infer(self, model: str, body: Any, headers: Any = None) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.request("POST", f"/v2/models/{model}/infer", content, headers)


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    service = FakeService(
        FakeClassifier("words", words_cascade(), inputs=TEXT, classes=LABELS, versions=("1", "2")),
        FakeClassifier("points", numbers_cascade(), inputs=POINT, prediction="INT64", classes=(0, 1, 2)),
        FakeClassifier("anything", numbers_cascade()),
        FakeClassifier("team/asleep", words_cascade(), ready=False),
        FakeClassifier("default", words_cascade(Default("unknown"))),
        FakeClassifier("queue", words_cascade(HandOver(FakeQueue()))),
        FakeClassifier("broken fallback", words_cascade(Call(lambda x, outcome: 1 / 0))),
    )
    with serving(service, max_body_bytes=100_000, max_inputs=64) as address:
        yield Served(address, service)


@pytest.fixture
def served(running: Served) -> Served:
    running.service.refusals.clear()
    running.service.turns_away = None
    for one in running.service.classifiers.values():
        one.asked.clear()
        one.clients.clear()
    return running


def text_request(*texts: str, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}], **more}


def point_request(*points: Any, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "point", "datatype": "FP32", "shape": [len(points), 2], "data": list(points)}
    return {"inputs": [tensor | changes]}


# ---------------------------------------------------------------- who is there


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "bisupervised", "version": "0.test"}),
        ("/v2/", {"name": "bisupervised"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["words", "points", "anything", "team/asleep", *FALLBACKS]}),
        ("/v2/models/words/ready", {"name": "words", "ready": True}),
        ("/v2/models/words/versions/1/ready", {"name": "words", "ready": True}),
        ("/v2/models/broken%20fallback", {"name": "broken fallback", "inputs": []}),
        ("/v2/models/team/asleep/versions/1", {"name": "team/asleep"}),
    ],
)
def test_a_get_route_tells_what_the_protocol_says(served: Served, path: str, expected: Any) -> None:
    for method in ("GET", "HEAD"):
        reply = served.request(method, path)
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        if method == "GET":
            assert {name: reply.json[name] for name in expected} == expected
        else:
            assert reply.body == b""


def test_a_models_metadata_names_its_tensors(served: Served) -> None:
    metadata = served.request("GET", "/v2/models/points").json
    assert metadata["inputs"] == [{"name": "point", "datatype": "FP32", "shape": [-1, 2]}]
    assert [(one["name"], one["datatype"], one["shape"]) for one in metadata["outputs"]] == [
        ("prediction", "INT64", [-1]),
        ("confidence", "FP64", [-1]),
        ("route", "BYTES", [-1]),
        ("id", "BYTES", [-1]),
        ("probabilities", "FP64", [-1, 3]),
    ]
    assert (metadata["versions"], metadata["platform"]) == (["1"], "bisupervised")
    without = served.request("GET", "/v2/models/anything").json
    assert "probabilities" not in [one["name"] for one in without["outputs"]]


def test_what_is_not_ready_is_503(served: Served) -> None:
    reply = served.request("GET", "/v2/models/team/asleep/ready")
    assert (reply.status, reply.json) == (503, {"name": "team/asleep", "ready": False})
    with serving(FakeService(ready=False)) as address:
        assert Served(address, FakeService()).request("GET", "/v2/health/ready").status == 503
        assert Served(address, FakeService()).request("GET", "/v2/health/live").status == 200


def test_the_index_lists_every_version(served: Served) -> None:
    every = served.request("POST", "/v2/repository/index").json
    assert [(one["name"], one["version"], one["state"]) for one in every][:4] == [
        ("words", "1", "READY"),
        ("words", "2", "READY"),
        ("points", "1", "READY"),
        ("anything", "1", "READY"),
    ]
    assert [one["state"] for one in every].count("UNAVAILABLE") == 1
    ready = served.request("POST", "/v2/repository/index", b'{"ready": true}').json
    assert {one["state"] for one in ready} == {"READY"}
    for body in (b"[]", b"{", b"\xff"):
        assert served.request("POST", "/v2/repository/index", body).status == 400


# ---------------------------------------------------------------- answers


def test_a_batch_is_answered_row_by_row(served: Served) -> None:
    body = text_request("easy good", "hard good", "neither", "easy", "hard", id="r7")
    reply = served.infer("words", body)
    assert reply.status == 200
    assert (reply.json["model_name"], reply.json["model_version"], reply.json["id"]) == ("words", "2", "r7")
    assert reply.json["parameters"] == {"mode": "enforce", "thresholds": "t1"}
    outputs = reply.outputs()
    assert outputs["prediction"] == ["positive", "positive", "", "negative", "negative"]
    assert outputs["route"] == ["local", "remote", "rejected", "local", "remote"]
    assert outputs["confidence"] == [0.96875, 0.96875, None, 0.96875, 0.96875]
    assert outputs["id"] == [f"words-1-{row}" for row in range(5)]
    assert reply.headers["x-bisupervised-thresholds"] == "t1"
    assert "x-bisupervised-route" not in reply.headers


def test_the_model_gets_texts_and_arrays(served: Served) -> None:
    served.infer("words", text_request("easy é", "hard"))
    served.infer("points", point_request([1, 2], [3, 4]))
    (texts,), (points,) = (served.service.classifiers[name].asked for name in ("words", "points"))
    assert texts == ["easy é", "hard"]
    assert points.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert points.dtype == np.float32


def test_a_single_answer_says_in_headers_how_it_came_about(served: Served) -> None:
    local = served.infer("words", text_request("easy good"))
    assert local.outputs()["prediction"] == ["positive"]
    expected = {"id": "words-1-0", "route": "local", "served": "local", "reason": "trusted", "mode": "enforce"}
    expected |= {"thresholds": "t1", "local-confidence": "0.96875", "local-cost": "0"}
    ours = {name.removeprefix("x-bisupervised-"): value for name, value in local.headers.items() if "-bis" in name}
    assert expected.items() <= ours.items()
    assert float(ours["local-latency-s"]) > 0
    assert not [name for name in ours if "remote" in name or "deferred" in name]
    remote = served.infer("words", text_request("hard"))
    shown = [remote.headers[f"x-bisupervised-{name}"] for name in ("route", "deferred-because", "remote-cost")]
    assert shown == ["remote", "not_trusted", "0.002"]
    assert remote.headers["x-bisupervised-remote-confidence"] == "0.96875"


def test_whole_numbers_are_int64_and_anything_else_is_text(served: Served) -> None:
    reply = served.infer("points", point_request([0, 1], [2, -1]))
    assert reply.outputs()["prediction"] == [2, 0]
    assert reply.json["outputs"][0]["datatype"] == "INT64"

    def prediction(*answers: Any, remote: float = 0.9) -> Any:
        confidences = [0.9] * (len(answers) - 1) + [remote]
        some = level(FakeModel(recorded(confidences, list(answers))))
        with BiSupervised(some, level(FakeModel(recorded([remote] * len(answers))))) as system:
            outcomes = system.predict_many(range(len(answers)))
        (tensor,) = outputs_of(outcomes, InferRequest((), (RequestedOutput("prediction"),)), None)
        return tensor.datatype, tensor.data.tolist()

    assert prediction(5, -6) == ("INT64", [5, -6])
    assert prediction(5, 6, remote=0.1) == ("BYTES", ["5", ""])  # no number says that there is no answer
    assert prediction(1.5, 2.0) == ("BYTES", ["1.5", "2.0"])
    assert prediction(True, False) == ("BYTES", ["True", "False"])
    assert prediction(2**63) == ("BYTES", [str(2**63)])


def test_probabilities_come_to_those_who_ask_in_the_order_of_the_classes(served: Served) -> None:
    body = text_request("easy good", "hard good", "neither", outputs=[{"name": "probabilities"}, {"name": "route"}])
    reply = served.infer("words", body)
    assert [one["name"] for one in reply.json["outputs"]] == ["probabilities", "route"]
    assert reply.json["outputs"][0]["shape"] == [3, 2]
    assert reply.outputs()["probabilities"] == [0.03125, 0.96875, 0.03125, 0.96875, None, None]
    body["outputs"] = [{"name": "probabilities", "parameters": {"classification": 1}}]
    likeliest = served.infer("words", body).outputs()["probabilities"]
    assert likeliest[:2] == ["0.96875:1:positive", "0.96875:1:positive"]


def test_raw_tensors_come_and_go(served: Served) -> None:
    outputs = (RequestedOutput("prediction", True), RequestedOutput("confidence"), RequestedOutput("route", True))
    message = build_request(InferRequest((tensor_of("text", np.array(["easy good", "neither"])),), outputs))
    length = {"Inference-Header-Content-Length": str(message.header_length)}
    reply = served.infer("words", message.body, length)
    assert reply.headers["content-type"] == "application/octet-stream"
    response = parse_response(reply.body, reply.headers["inference-header-content-length"])
    assert [one.data.tolist() for one in response.outputs][::2] == [[b"positive", b""], [b"local", b"rejected"]]
    np.testing.assert_array_equal(response.outputs[1].data, [0.96875, np.nan])


def test_a_column_of_texts_is_one_text_each_and_several_make_a_list(served: Served) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": ["easy", "hard"]}
    assert served.infer("words", {"inputs": [tensor]}).outputs()["route"] == ["local", "remote"]
    pairs = tensor | {"shape": [1, 2], "name": "pair"}
    served.infer("team/asleep", {"inputs": [pairs]})
    assert served.service.classifiers["words"].asked == [["easy", "hard"]]
    assert served.service.classifiers["team/asleep"].asked == [[["easy", "hard"]]]


def test_several_tensors_make_a_mapping_for_each_input(served: Served) -> None:
    tensors = [
        {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        {"name": "size", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]},
    ]
    served.infer("anything", {"inputs": tensors})
    first, second = served.service.classifiers["anything"].asked[0]
    assert (first["text"], first["size"].tolist()) == ("a", [1, 2])
    assert (second["text"], second["size"].tolist()) == ("b", [3, 4])


def test_who_calls_and_the_headers_reach_the_service(served: Served) -> None:
    served.infer("words", text_request("easy"), {"Authorization": "Bearer k", "X-Bisupervised-Force": "local"})
    ((client, headers),) = served.service.classifiers["words"].clients
    assert client == b"Bearer k"
    assert headers[b"x-bisupervised-force"] == b"local"


def test_a_version_may_be_named(served: Served) -> None:
    reply = served.request("POST", "/v2/models/words/versions/1/infer", json.dumps(text_request("easy")))
    assert (reply.status, reply.json["model_version"]) == (200, "1")


def test_our_own_model_reads_our_own_gateway(served: Served) -> None:
    labels = {"labels": "prediction", "confidence": "confidence"}
    for binary in (True, False):
        model = OpenInferenceModel(
            "words", f"http://{served.address}", input="text", binary=binary, max_batch=9, **labels
        )
        output = ask(model, ["easy good", "neither", "hard"])
        assert output.predictions.tolist() == ["positive", "", "negative"]
        np.testing.assert_array_equal(output.confidences, [0.96875, np.nan, 0.96875])
        points = OpenInferenceModel(
            *("points", f"http://{served.address}"), input="point", output="probabilities", binary=binary
        )
        assert ask(points, [[0.0, 1.0]]).predictions.tolist() == [2]


# ---------------------------------------------------------------- rejected


def test_a_single_input_that_nobody_answers_is_422(served: Served) -> None:
    reply = served.infer("words", text_request("neither"))
    assert reply.status == 422
    assert "no prediction could be trusted" in reply.json["error"]
    assert reply.json["code"] == "not_trusted"
    assert reply.json["bisupervised"]["local_confidence"] == 0.5
    assert reply.headers["x-bisupervised-route"] == "rejected"
    assert reply.headers["x-bisupervised-id"] == "words-1-0"
    assert served.service.refusals == []  # it was accepted, and has an outcome


def test_a_fallback_answers_and_the_route_still_says_rejected(served: Served) -> None:
    reply = served.infer("default", text_request("neither"))
    assert reply.outputs() | {"id": 0} == {
        "prediction": ["unknown"],
        "confidence": [None],
        "route": ["rejected"],
        "id": 0,
    }
    assert reply.headers["x-bisupervised-served"] == "default"


def test_a_queue_and_a_broken_fallback_are_errors_of_their_own(served: Served) -> None:
    assert served.infer("queue", text_request("a", "b")).outputs()["prediction"] == ["", ""]
    assert served.infer("queue", text_request("a")).status == 422
    assert served.infer("queue", text_request("a")).json["code"] == "queued"
    broken = served.infer("broken%20fallback", text_request("a"))
    assert (broken.status, broken.json["code"]) == (500, "fallback_failed")
    assert "division" not in broken.json["error"]
    assert served.infer("broken%20fallback", text_request("a", "easy")).outputs()["prediction"] == ["", "negative"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelTimeout("30 s"), 504, "remote_timeout"),
        (ModelUnreachable("refused"), 503, "remote_unreachable"),
        (ZeroDivisionError("oops"), 502, "remote_failed"),
    ],
)
def test_a_remote_model_that_fails_is_told_apart(error: Exception, status: int, code: str, caplog: Any) -> None:
    system = BiSupervised(
        level(FakeModel(recorded([0.1, 0.9]))), level(FakeModel(recorded([0.9, 0.9]), raises={0: error}))
    )
    with serving(FakeService(FakeClassifier("m", system))) as address:
        client = Served(address, FakeService())
        row = {"name": "row", "datatype": "INT64", "shape": [1], "data": [0]}
        one = client.infer("m", {"inputs": [row]})
        two = client.infer("m", {"inputs": [row | {"shape": [2], "data": [0, 1]}]})
    assert (one.status, one.json["code"]) == (status, code)
    assert (two.status, two.outputs()["route"]) == (200, ["rejected", "local"])


@pytest.mark.parametrize(
    ("local_error", "remote_error", "code"),
    [
        (None, "budget: the day's budget is spent", "budget_exhausted"),
        (None, "circuit_open: left alone", "circuit_open"),
        (None, "status: answered 500", "remote_status"),
        (None, "something: else", "remote_failed"),
        ("failed: out of memory", "not_asked: the client forced the local model", "local_failed"),
    ],
)
def test_every_kind_of_failure_has_its_code(local_error: Any, remote_error: str, code: str) -> None:
    kind, _, message = remote_error.partition(": ")
    remote = ModelOutput.failed(1, Failure(kind, message))
    some = level(FakeModel(recorded([0.1])))
    with BiSupervised(some, level(FakeModel(remote))) as system:
        outcome = replace(system.predict_many([0])[0], local_error=local_error)
    assert refusal_of_outcome(outcome).code == code


# ---------------------------------------------------------------- what is wrong with a request


@pytest.mark.parametrize(
    ("model", "body", "says"),
    [
        ("words", b"", "is no JSON"),
        ("words", b'{"inputs": ', "is no JSON"),
        ("words", b"[" * 50_000, "is no JSON"),
        ("words", {"inputs": []}, "no input tensors"),
        ("words", text_request(), "'text' is empty"),
        ("words", text_request(*["x"] * 65), "65 inputs are more than one request may hold: send at most 64"),
        ("words", point_request([1, 2]), "the model takes text (BYTES [-1]); sent were point [1, 2]"),
        ("words", {"inputs": text_request("a")["inputs"] * 2}, "same name"),
        (
            "points",
            point_request([1, 2], datatype="FP64"),
            "is FP32 [-1, 2] (-1: any size), and was sent as FP64",
        ),
        ("points", point_request([1, 2, 3], shape=[1, 3]), "was sent as FP32 [1, 3]"),
        ("points", point_request(1, 2, shape=[2]), "was sent as FP32 [2]"),
        ("points", point_request(shape=[0, 2]), "'point' is empty"),
        ("anything", point_request(1, shape=[]), "the first dimension counts the inputs"),
        ("anything", point_request(shape=[10**9, 0]), "'point' is empty"),
        (
            "words",
            text_request("a", outputs=[{"name": "label"}]),
            "no output 'label'; there are: prediction, ",
        ),
        ("words", text_request("a", outputs=[{"name": "route"}] * 2), "asked for twice"),
        ("anything", point_request([1, 2]) | {"outputs": [{"name": "probabilities"}]}, "no output 'probabilities'"),
        (
            "words",
            text_request("a", outputs=[{"name": "route", "parameters": {"classification": 1}}]),
            "ask for classification of probabilities",
        ),
    ],
)
def test_a_malformed_request_is_400_and_asks_nobody(served: Served, model: str, body: Any, says: str) -> None:
    reply = served.infer(model, body)
    assert reply.status == 400
    assert says in reply.json["error"]
    assert reply.json["code"] == "invalid_request"
    assert served.service.classifiers[model].asked == []
    assert served.service.refusals == ["invalid_request"]


def test_bytes_that_are_no_text_are_refused(served: Served) -> None:
    message = build_request(InferRequest((tensor_of("text", np.array([b"\xff\xfe"], dtype=object)),)))
    length = {"Inference-Header-Content-Length": str(message.header_length)}
    assert "UTF-8" in served.infer("words", message.body, length).json["error"]
    for wrong in ("x", "-1", "999999", "", "é"):
        reply = served.infer("words", message.body, {"Inference-Header-Content-Length": wrong.encode("latin-1")})
        assert reply.status == 400
        assert "Inference-Header-Content-Length" in reply.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/v2/models/nothing", 404, "there is no model 'nothing'; there are: words, points"),
        ("GET", "/v2/models/nothing/ready", 404, "no model"),
        ("POST", "/v2/models/nothing/infer", 404, "no model"),
        ("GET", "/v2/models/words/versions/9", 404, "words has no such version; there are: 1, 2"),
        ("POST", "/v2/models/words/versions/9/infer", 404, "no such version"),
        ("GET", "/v2/models/words/config", 404, "no model"),
        ("GET", "/v2/models/", 404, "no model"),
        ("GET", "/v2/nothing", 404, "no route /v2/nothing"),
        ("GET", "/v2/" + "x" * 5000, 404, "no route"),
        ("GET", "/v2/models/words/infer", 405, "for POST, not GET"),
        ("DELETE", "/v2/models/words", 405, "for GET, not DELETE"),
        ("POST", "/v2/health/live", 405, "for GET, not POST"),
        ("GET", "/v2/repository/index", 405, "for POST"),
    ],
)
def test_an_unknown_route_is_an_error_of_the_protocols_form(
    served: Served, method: str, path: str, status: int, says: str
) -> None:
    reply = served.request(method, path)
    assert reply.status == status
    assert says in reply.json["error"]
    assert len(reply.body) < 500
    assert ("allow" in reply.headers) == (status == 405)


def test_a_client_that_may_not_call_is_sent_away_before_its_body_is_read(served: Served) -> None:
    served.service.turns_away = Sent(refusal("invalid_api_key", "there is no such key"))
    for method, path in [
        ("POST", "/v2/models/words/infer"),
        ("GET", "/v2/models/words"),
        ("GET", "/v2"),
        ("POST", "/v2/repository/index"),
    ]:
        reply = served.request(method, path, b"x" * 90_000 if method == "POST" else None)
        assert (reply.status, reply.json) == (401, {"error": "there is no such key", "code": "invalid_api_key"})
    assert served.service.refusals == ["invalid_api_key"] * 4
    assert served.request("GET", "/v2/health/live").status == 200


def test_what_the_service_refuses_is_told_and_a_mistake_is_not_shown() -> None:
    later = refusal("too_many_requests", "later", retry_after_s=3)
    busy = FakeClassifier("busy", words_cascade(), raises=Sent(later))
    broken = FakeClassifier("broken", words_cascade(), raises=RuntimeError("a secret"))
    service = FakeService(busy, broken)
    with serving(service) as address:
        client = Served(address, service)
        reply = client.infer("busy", text_request("easy"))
        assert (reply.status, reply.headers["retry-after"], reply.json["error"]) == (429, "3", "later")
        reply = client.infer("broken", text_request("easy"))
        assert (reply.status, reply.json["code"]) == (500, "internal_error")
        assert b"secret" not in reply.body
    assert service.refusals == ["too_many_requests", "internal_error"]


# ---------------------------------------------------------------- sizes and compression


def test_a_body_that_is_too_large_is_413_however_it_comes(served: Served) -> None:
    large = json.dumps(text_request("x" * 100_000)).encode()
    path = "/v2/models/words/infer"
    whole = served.request("POST", path, large)
    in_chunks = served.request("POST", path, iter([large[:60_000], large[60_000:]]))
    packed = served.request("POST", path, gzip.compress(large), {"Content-Encoding": "gzip"})
    bomb = zlib.compress(b" " * 50_000_000)
    unpacked = served.request("POST", path, bomb, {"Content-Encoding": "deflate"})
    for reply in (whole, in_chunks, packed, unpacked):
        assert (reply.status, reply.json["code"]) == (413, "body_too_large")
        assert "100,000 bytes" in reply.json["error"]
    assert len(bomb) < 100_000
    fitting = json.dumps(text_request("easy" + "x" * 90_000)).encode()
    assert served.request("POST", path, iter([fitting[:9], fitting[9:]])).status == 200


def test_a_compressed_body_is_read(served: Served) -> None:
    body = json.dumps(text_request("easy good")).encode()
    for encoding, pack in [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]:
        reply = served.infer("words", pack(body), {"Content-Encoding": encoding})
        assert reply.outputs()["prediction"] == ["positive"]


def test_no_more_is_unpacked_than_may_be() -> None:
    body = zlib.compress(b" " * 50_000_000)
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        return messages.pop()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v2/models/words/infer"}
    scope |= {"headers": [(b"content-encoding", b"deflate")]}
    app = V2(FakeService(FakeClassifier("words", words_cascade())), max_body_bytes=100_000)
    tracemalloc.start()
    try:
        asyncio.run(app(scope, receive, send))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", b"{}"),
        ("gzip", gzip.compress(b"{}")[:-1]),
        ("gzip", gzip.compress(b"{}") + b"x"),
        ("deflate", gzip.compress(b"{}")),
        ("br", b"{}"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
    ],
)
def test_a_body_that_is_not_compressed_as_it_says_is_400(served: Served, encoding: str, content: bytes) -> None:
    reply = served.infer("words", content, {"Content-Encoding": encoding})
    assert (reply.status, reply.json["code"]) == (400, "invalid_request")


def test_a_response_is_compressed_when_the_client_takes_it_and_it_is_worth_it(served: Served) -> None:
    many, one = text_request(*["easy"] * 64), text_request("easy")
    for accepts, encoding, unpack in [
        ("gzip", "gzip", gzip.decompress),
        ("deflate", "deflate", zlib.decompress),
        ("br;q=1.0, gzip;q=0.5", "gzip", gzip.decompress),
    ]:
        reply = served.infer("words", many, {"Accept-Encoding": accepts})
        assert (reply.headers["content-encoding"], reply.headers["vary"]) == (encoding, "accept-encoding")
        assert len(json.loads(unpack(reply.body))["outputs"]) == 4
        assert "content-encoding" not in served.infer("words", one, {"Accept-Encoding": accepts}).headers
    for accepts in ("identity", "gzip;q=0", "gzip; q=0.0, br"):
        assert "content-encoding" not in served.infer("words", many, {"Accept-Encoding": accepts}).headers


# ---------------------------------------------------------------- clients that go away


def test_a_call_is_cancelled_when_its_client_goes_away() -> None:
    slow = FakeClassifier("slow", words_cascade(), seconds=5.0)
    with serving(FakeService(slow)) as address:
        host, port = address.split(":")
        body = json.dumps(text_request("easy")).encode()
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            until = time.monotonic() + 5
            while not slow.asked and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(0.05)
            gone = time.monotonic()
        while not slow.cancelled and time.monotonic() < until:
            time.sleep(0.002)
        assert slow.cancelled[0] - gone < 0.1
        # and the server answers on
        slow.seconds = 0.05
        assert Served(address, FakeService()).infer("slow", text_request("easy")).status == 200
        assert len(slow.cancelled) == 1


def test_a_client_that_goes_away_before_its_body_is_whole_asks_nobody(served: Served) -> None:
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v2/models/words/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        time.sleep(0.05)
    time.sleep(0.05)
    assert served.service.classifiers["words"].asked == []
    assert served.infer("words", text_request("easy")).status == 200


def test_a_cancelled_server_is_not_taken_for_a_client_that_went_away() -> None:
    slow = FakeClassifier("slow", words_cascade(), seconds=5.0)
    body = json.dumps(text_request("easy")).encode()
    messages: list[Any] = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        raise AssertionError(message)

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v2/models/slow/infer", "headers": []}
        task = asyncio.create_task(V2(FakeService(slow))(scope, receive, send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(slow.cancelled) == 1


# ---------------------------------------------------------------- whatever is sent

PIECES = [
    "/models",
    "/words",
    "/versions",
    "/1",
    "/infer",
    "/ready",
    "/repository/index",
    "/health/live",
    "/",
    "/é",
    "//",
]
WHOLE = json.dumps(text_request("easy", "neither", outputs=[{"name": "probabilities"}])).encode()
RAW = build_request(InferRequest((tensor_of("text", np.array(["easy"])),)))


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS"]),
    path=st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | st.just("/models/words/infer"),
    body=st.sampled_from([WHOLE, RAW.body]) | st.binary(max_size=60) | st.integers(0, 200).map(lambda k: WHOLE[:k]),
    headers=st.dictionaries(
        st.sampled_from(
            [b"inference-header-content-length", b"content-encoding", b"accept-encoding", b"content-length"]
        ),
        st.sampled_from([b"", b"0", b"7", b"%d" % (RAW.header_length or 0), b"gzip", b"-1", b"\xff", b"9" * 40]),
    ),
    cuts=st.integers(0, 100),
)
def test_whatever_is_sent_gets_one_answer_and_no_5xx(
    method: str, path: str, body: bytes, headers: dict[bytes, bytes], cuts: int
) -> None:
    messages = [
        {"type": "http.request", "body": body[:cuts], "more_body": True},
        {"type": "http.request", "body": body[cuts:], "more_body": False},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    service = FakeService(FakeClassifier("words", words_cascade(), inputs=TEXT, classes=LABELS))
    scope = {"type": "http", "method": method, "path": "/v2" + path, "headers": list(headers.items())}
    asyncio.run(V2(service)(scope, receive, send))
    start, end = sent
    assert start["status"] in (200, 400, 404, 405, 413)
    if start["status"] != 200:
        assert json.loads(end["body"])["error"]
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(end["body"])
