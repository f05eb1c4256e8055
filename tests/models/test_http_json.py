from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from bisupervised.errors import InputError, ModelStatusError, ReplyUnreadable
from bisupervised.models import HttpJsonModel
from bisupervised.models.http_json import read_reply
from bisupervised.records import Evidence, ModelOutput
from models.asking import ask, failure_kinds

PROBABILITIES = {Evidence.PROBABILITIES}


def test_the_default_shapes_are_inputs_and_predictions_with_confidences(server: Any) -> None:
    output = ask(HttpJsonModel(server.url("ok"), max_batch=None), ["good", "bad"])
    assert output.predictions.tolist() == ["positive", "negative"]
    assert output.confidences.shape == (2,)
    assert output.cost is None


def test_probabilities_come_with_their_classes(server: Any) -> None:
    output = ask(HttpJsonModel(server.url("probabilities"), provides=PROBABILITIES), ["good"])
    assert output.classes.tolist() == ["negative", "positive"]
    assert output.predictions.tolist() == ["positive"]
    np.testing.assert_allclose(output.probabilities.sum(axis=1), 1.0)


def test_request_and_read_adapt_any_shape(server: Any) -> None:
    def read(reply: Any, n: int) -> ModelOutput:
        return ModelOutput(np.array([row["body"]["text"] for row in reply["predictions"]]))

    model = HttpJsonModel(
        server.url("echo"),
        provides=(),
        request=lambda inputs: {"text": inputs[0]},
        read=read,
        headers={"X-Team": "a"},
    )
    assert ask(model, ["hello"]).predictions.tolist() == ["hello"]


def test_headers_are_sent(server: Any) -> None:
    model = HttpJsonModel(server.url("echo"), headers={"X-Team": "blue", "content-type": "application/json; v=2"})
    sent = ask(model, ["a"]).predictions[0]["headers"]
    assert sent["X-Team"] == "blue"
    assert [value for name, value in sent.items() if name.lower() == "content-type"] == ["application/json; v=2"]


def test_a_null_confidence_is_nan(server: Any) -> None:
    assert np.isnan(ask(HttpJsonModel(server.url("echo")), ["a"]).confidences).all()


@pytest.mark.parametrize(
    ("behaviour", "provides", "says"),
    [
        ("fieldless", {Evidence.CONFIDENCE}, 'neither "probabilities" nor "predictions"'),
        ("short", {Evidence.CONFIDENCE}, "given 1 inputs and answered 0"),
        ("noconfidence", {Evidence.CONFIDENCE}, "declared to hold confidence and holds no evidence"),
        ("ok", PROBABILITIES, "declared to hold probabilities and holds confidence"),
    ],
)
def test_a_reply_that_is_not_what_was_agreed_is_unreadable_and_paid_for(
    server: Any, behaviour: str, provides: Any, says: str
) -> None:
    output = ask(HttpJsonModel(server.url(behaviour), provides=provides, cost_per_input=0.002), ["a"])
    assert failure_kinds(output) == ["unreadable"]
    assert says in output.failures[0].message
    assert output.cost.tolist() == [0.002]
    assert output.latency_s[0] > 0


@pytest.mark.parametrize("wrong", [KeyError("x"), TypeError(), IndexError(), AttributeError(), ZeroDivisionError()])
def test_whatever_read_raises_is_an_unreadable_reply(server: Any, wrong: Exception) -> None:
    def read(reply: Any, n: int) -> Any:
        raise wrong

    assert failure_kinds(ask(HttpJsonModel(server.url("ok"), read=read), ["a"])) == ["unreadable"]


@pytest.mark.parametrize("result", [None, "text", [["a"]], ([1], [2, 3]), [[1.0], [0.0, 1.0]], (["a"], ["b"]), {}])
def test_whatever_read_returns_is_an_output_or_an_unreadable_reply(server: Any, result: Any) -> None:
    assert list(ask(HttpJsonModel(server.url("ok"), read=lambda reply, n: result), ["a"]).failures) == [0]


def test_undeclared_evidence_is_left_out(server: Any) -> None:
    output = ask(HttpJsonModel(server.url("ok"), provides=()), ["good"])
    assert output.confidences is None
    assert output.predictions.tolist() == ["positive"]


def test_cost_and_latency_are_per_input(server: Any) -> None:
    output = ask(HttpJsonModel(server.url("slow"), max_batch=None, cost_per_input=0.5), ["a", "b"])
    assert output.cost.tolist() == [0.5, 0.5]
    assert 0.025 <= output.latency_s[0] == output.latency_s[1] < 0.5


def test_more_inputs_than_a_call_may_hold_are_refused(server: Any) -> None:
    with pytest.raises(InputError, match="at most 1 inputs"):
        ask(HttpJsonModel(server.url("ok")), ["a", "b"])
    with pytest.raises(InputError, match="max_batch"):
        HttpJsonModel(server.url("ok"), max_batch=0)


def test_check_tells_what_came_back(server: Any) -> None:
    def check(behaviour: str, **settings: Any) -> Any:
        return asyncio.run(HttpJsonModel(server.url(behaviour), **settings).check("good"))

    fine = check("ok", cost_per_input=0.1)
    assert fine.ok
    assert (fine.given, fine.prediction, fine.cost) == ({Evidence.CONFIDENCE}, "positive", 0.1)
    other = check("probabilities")
    assert not other.ok
    assert (other.missing, other.given) == ({Evidence.CONFIDENCE}, PROBABILITIES)
    assert check("echo").missing == {Evidence.CONFIDENCE}  # null is no confidence
    assert check("fieldless").failure.kind == "unreadable"
    with pytest.raises(ModelStatusError):
        check("denied")


def test_its_repr_shows_neither_query_nor_headers() -> None:
    model = HttpJsonModel("https://user:pass-word@example.org/p?key=s3cr3t-key", headers={"X-Key": "s3cr3t-key"})
    assert repr(model) == "HttpJsonModel('https://example.org/p', name='example.org')"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"features": [[1.0]]}, r'"features" has the shape \(1, 1\); \(2, d\) is needed'),
        ({"features": [["a"], ["b"]]}, '"features" is no array of numbers'),
        ({"logits": [[1.0], [1.0, 2.0]]}, '"logits" is no array of numbers'),
        ({"sampled_probabilities": [[0.5, 0.5]] * 2}, r'"sampled_probabilities" is \(2, 2\)'),
    ],
)
def test_evidence_that_is_none_is_unreadable(reply: Any, says: str) -> None:
    with pytest.raises(ReplyUnreadable, match=says):
        read_reply({"probabilities": [[0.5, 0.5]] * 2} | reply, 2)


def test_predictions_may_bring_features_too() -> None:
    output = read_reply({"predictions": ["a"], "confidences": [None], "features": [[1, 2]]}, 1)
    assert (output.predictions.tolist(), output.features.tolist()) == (["a"], [[1.0, 2.0]])
    assert np.isnan(output.confidences).all()
