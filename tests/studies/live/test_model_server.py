"""A classifier behind the v2 protocol in a process of its own, asked through real calls."""

import asyncio
import json
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from bisupervised.calls import call_plainly
from bisupervised.errors import ModelError, ModelUnreachable
from bisupervised.models import FunctionModel, OpenInferenceModel
from bisupervised.portal import Portal
from bisupervised.records import Evidence
from bisupervised.studies.live.model_server import create_app, served
from bisupervised.studies.live.text_encoder import text_encoder
from tiny_encoder import logits_of, write_encoder

pytest.importorskip("onnx")
CLASSES = ["negative", "positive"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("served") / "tiny_encoder")


@pytest.fixture
def portal():
    made = Portal()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(folder):
    with served("text", folder, CLASSES, delay_s=0.05) as one:
        yield one


def url_of(model):
    return model._endpoint.shown_url.partition("/v2/")[0]


def test_the_answers_are_the_models_and_so_is_the_evidence(running, folder, portal):
    inputs = ["good film", "bad", "Größe \U0001f600 good"]
    assert running.model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}
    for x, row in zip(inputs, range(3), strict=True):
        output, own = call_plainly(running.model, [x], portal), text_encoder(folder).predict([x])
        assert not output.failures, row
        assert output.predictions.tolist() == own.predictions.tolist()
        for name in ("probabilities", "logits", "features"):
            np.testing.assert_allclose(getattr(output, name), getattr(own, name), rtol=1e-6)
    portal.run(running.model.aclose())


def test_every_answer_waits_and_the_wait_costs_no_processor_time(running, portal):
    before = running.cpu_s()
    start = time.perf_counter()
    outputs = [call_plainly(running.model, ["good"], portal) for _ in range(6)]
    assert time.perf_counter() - start >= 0.3
    assert all(output.latency_s[0] >= 0.05 for output in outputs)
    assert running.cpu_s() - before < 0.3
    portal.run(running.model.aclose())


def test_it_tells_its_processor_seconds(running):
    with urllib.request.urlopen(f"{url_of(running.model)}/cpu") as reply:
        told = json.load(reply)["cpu_s"]
    assert 0.0 < told <= running.cpu_s() + 0.05


def test_it_listens_on_the_loopback_interface_alone(running):
    assert url_of(running.model).startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "no JSON"),
        (b'{"inputs": []}', "no input tensors"),
        (b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}', "called input"),
        (b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1], "data": [1]}]}', "datatype BYTES"),
    ],
)
def test_a_request_that_it_cannot_read_is_refused_with_words(running, body, says):
    request = urllib.request.Request(f"{url_of(running.model)}/v2/models/m/infer", data=body)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    with error.value as reply:
        assert reply.code == 400
        assert says in json.load(reply)["error"]


def test_an_input_may_be_written_and_options_handed_on(folder, portal):
    config = {"classes": [0, 1], "max_length": 1, "outputs": {"logits": "logits"}}
    with served("text", folder, [0, 1], written=lambda x: x["text"], config=config) as running:
        output = call_plainly(running.model, [{"text": "bad good good"}], portal)
        np.testing.assert_allclose(output.logits[0], logits_of("bad"), rtol=1e-6)
        assert running.model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS}
        portal.run(running.model.aclose())


def test_a_model_that_cannot_be_loaded_says_why(tmp_path):
    with (
        pytest.raises(ModelUnreachable, match=r"did not start: .*there is no .*config.json"),
        served("text", tmp_path, CLASSES),
    ):
        pass


def test_after_the_end_the_server_is_gone(folder, portal):
    with served("text", folder, CLASSES) as running:
        assert not call_plainly(running.model, ["good"], portal).failures
    output = call_plainly(running.model, ["good"], portal)
    assert output.failures[0].kind == "unreachable"
    portal.run(running.model.aclose())


def test_a_failing_model_is_the_servers_fault():
    def broken(inputs):
        raise ModelError("out of order")

    async def ask():
        from aiohttp.test_utils import TestClient, TestServer

        model = FunctionModel(broken, ["a", "b"], provides={Evidence.PROBABILITIES}, name="broken")
        async with TestClient(TestServer(create_app(model, texts=True))) as client:
            asked = OpenInferenceModel("broken", str(client.make_url("")).rstrip("/"), output="probabilities")
            try:
                await asked.predict(["x"])
            except ModelError as error:
                return error
            finally:
                await asked.aclose()
        return None

    error = asyncio.run(ask())
    assert error.kind == "status"
    assert error.status == 500
    assert "out of order" in str(error)
