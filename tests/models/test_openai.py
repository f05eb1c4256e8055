from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest

from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import ConfigError, InputError, ModelStatusError
from bisupervised.fallback import Default
from bisupervised.models import FunctionModel, OpenAIModel
from bisupervised.models.extra_calls import VERIFICATION_PROMPT
from bisupervised.quantifiers import LabelProbability, PTrue, SelfConsistency, SemanticEntropy, TokenLikelihood
from bisupervised.records import Evidence, Route
from bisupervised.supervisor import Supervisor
from models.asking import ask, failure_kinds
from models.http_server import confidence_of

TOKENS, TOP, TEXT = Evidence.TOKEN_LOGPROBS, Evidence.TOP_LOGPROBS, Evidence.TEXT
ALTERNATIVES = Evidence.TOKEN_ALTERNATIVES
SHAPES = [("ok", "chat"), ("ok", "completions"), ("llamacpp", "chat"), ("llamacpp", "completions")]


def model_at(server: Any, behaviour: str = "ok", **settings: Any) -> OpenAIModel:
    return OpenAIModel("tiny", server.url(behaviour, ""), **settings)


def sent(server: Any, x: Any = "hello", **settings: Any) -> Any:
    return json.loads(ask(model_at(server, "echo", **settings), [x]).predictions[0])


@pytest.mark.parametrize(("behaviour", "route"), SHAPES)
def test_text_tokens_alternatives_and_usage_are_read_in_every_shape(server: Any, behaviour: str, route: Any) -> None:
    output = ask(model_at(server, behaviour, route=route, top_logprobs=2), ["good film"])
    p = confidence_of("good film")
    assert output.predictions.tolist() == ["positive."]
    np.testing.assert_allclose(output.token_logprobs[0], [math.log(0.99), math.log(p), -0.1])
    # Every token's own log-probability is among its alternatives, whatever their order.
    assert [row.shape for row in output.token_alternatives] == [(3, 2)]
    for alternatives, own in zip(output.token_alternatives[0], output.token_logprobs[0], strict=True):
        assert np.isclose(alternatives, own).any()
    # The leading line break is no answer: the alternatives are those of the first word.
    assert output.top_logprobs[0] == pytest.approx({" positive": math.log(p), " other": math.log(1 - p + 1e-9)})
    assert (output.prompt_tokens.tolist(), output.completion_tokens.tolist()) == ([9], [3])
    assert not output.failures


@pytest.mark.parametrize(
    ("logprobs", "top", "provides"),
    [(False, 0, {TEXT}), (True, 0, {TEXT, TOKENS}), (True, 3, {TEXT, TOKENS, TOP, ALTERNATIVES})],
)
def test_it_declares_and_gives_what_was_asked_for(server: Any, logprobs: bool, top: int, provides: Any) -> None:
    model = model_at(server, logprobs=logprobs, top_logprobs=top)
    output = ask(model, ["good"])
    assert model.provides == provides
    columns = {TOKENS: output.token_logprobs, TOP: output.top_logprobs, ALTERNATIVES: output.token_alternatives}
    assert {evidence for evidence, column in columns.items() if column is not None} == provides - {TEXT}
    assert output.texts == ["\n positive."], "as it is written, before a label is read"


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_a_reply_without_log_probabilities_gives_a_nan_confidence(server: Any, route: Any) -> None:
    output = ask(model_at(server, "nologprobs", route=route, top_logprobs=5), ["good"])
    assert not output.failures
    assert (output.token_logprobs[0].size, output.top_logprobs[0]) == (0, {})
    assert np.isnan(TokenLikelihood()(output)).all()
    assert np.isnan(LabelProbability({"positive.": ["positive"]})(output)).all()


def test_a_label_is_read_from_the_text(server: Any) -> None:
    labels = {"positive.": 1, "negative.": 0}
    model = model_at(server, read_label=labels.get, top_logprobs=2)
    output = ask(model, ["good"])
    assert output.predictions.tolist() == [1]
    confidence = LabelProbability({1: ["positive"], 0: ["negative"]})(output)
    assert confidence == pytest.approx([confidence_of("good")])


def raising(text: str) -> Any:
    raise KeyError(text)


@pytest.mark.parametrize(
    ("behaviour", "read_label", "says"),
    [
        ("ok", {}.get, "none of the labels: 'positive.'"),
        ("ok", raising, "read_label raised KeyError"),
        ("null", None, "holds no text (finish_reason: stop)"),
        ("empty", None, "holds no text"),
    ],
)
def test_an_unreadable_answer_is_a_failure_whose_cost_counts(
    server: Any, behaviour: str, read_label: Any, says: str
) -> None:
    model = model_at(server, behaviour, read_label=read_label, prompt_price=1.0, completion_price=2.0)
    output = ask(model, ["good"])
    assert failure_kinds(output) == ["unreadable"]
    assert says in output.failures[0].message
    assert output.predictions.tolist() == [None]
    assert output.cost == pytest.approx([(4 * 1.0 + 3 * 2.0) / 1e6])
    assert output.latency_s[0] > 0


# ---------------------------------------------------------------- further calls


@pytest.mark.parametrize(("behaviour", "route"), [("varied", "chat"), ("varied", "completions")])
def test_samples_are_drawn_read_as_the_prediction_is_and_scored(server: Any, behaviour: str, route: Any) -> None:
    model = model_at(server, behaviour, route=route, samples=6, extra={"seed": 7}, read_label=str.upper)
    output = ask(model, ["good film"])
    assert model.provides == {TEXT, TOKENS, Evidence.SAMPLES}
    assert output.predictions.tolist() == ["POSITIVE."]
    # The seeds 8 to 13: the server answers otherwise to those that 3 divides.
    assert list(output.samples[0]) == ["POSITIVE.", "MIXED.", "POSITIVE.", "POSITIVE.", "MIXED.", "POSITIVE."]
    np.testing.assert_allclose(output.sample_logprobs[0], np.full(6, output.token_logprobs[0].sum()))
    assert output.sample_lengths[0].tolist() == [3.0] * 6
    assert SelfConsistency(6)(output) == pytest.approx([4 / 6])
    entropy = 5 / 7 * math.log(5 / 7) + 2 / 7 * math.log(2 / 7)
    for weighted in (False, True):
        assert SemanticEntropy(6, weighted=weighted)(output) == pytest.approx([entropy])
    assert output.extra_calls.tolist() == [6]
    assert output.p_true is None


@pytest.mark.parametrize(("behaviour", "route"), SHAPES)
def test_the_model_is_asked_whether_its_answer_is_true(server: Any, behaviour: str, route: Any) -> None:
    model = model_at(server, behaviour, route=route, self_verification=True)
    output = ask(model, ["good film"])
    asked = VERIFICATION_PROMPT.format(question="good film", answer="positive.")
    assert model.provides == {TEXT, TOKENS, Evidence.P_TRUE}
    assert PTrue()(output) == pytest.approx([confidence_of(asked)])
    assert (output.samples, output.extra_calls.tolist()) == (None, [1])


def test_what_further_calls_cost_and_take_is_part_of_the_row(server: Any) -> None:
    prices = {"prompt_price": 10.0, "completion_price": 100.0}
    plain = ask(model_at(server, **prices), ["good"])
    output = ask(model_at(server, **prices, samples=2, self_verification=True), ["good"])
    asked = len(VERIFICATION_PROMPT.format(question="good", answer="positive."))
    assert plain.extra_calls is None
    assert (plain.prompt_tokens, plain.completion_tokens) == (4, 3)
    assert (output.prompt_tokens, output.completion_tokens) == (3 * 4 + asked, 3 * 3 + 1)
    assert output.cost == pytest.approx([((3 * 4 + asked) * 10 + (3 * 3 + 1) * 100) / 1e6])
    assert ask(model_at(server, samples=2), ["good"]).cost is None


def test_further_calls_run_at_the_same_time_after_the_answer(server: Any) -> None:
    model = model_at(server, "slowextra", samples=4, self_verification=True)
    output = ask(model, ["good"])
    url = model._endpoint.shown_url
    assert (server.count(url), server.most_at_once(url)) == (6, 5)
    assert 0.2 < output.latency_s[0] < 5 * 0.2


def test_no_further_calls_are_made_about_an_answer_that_failed(server: Any) -> None:
    model = model_at(
        server, read_label={}.get, samples=3, self_verification=True, prompt_price=1.0, completion_price=1.0
    )
    output = ask(model, ["good"])
    assert failure_kinds(output) == ["unreadable"]
    assert server.count(model._endpoint.shown_url) == 1
    assert (output.extra_calls.tolist(), list(output.samples[0])) == ([0], [])
    assert np.isnan(output.p_true).all()
    assert output.cost == pytest.approx([7e-6])


def test_further_calls_that_are_refused_cost_nothing_and_leave_the_answer(server: Any) -> None:
    prices = {"prompt_price": 10.0, "completion_price": 100.0}
    output = ask(model_at(server, "extrabusy", samples=2, self_verification=True, **prices), ["good"])
    assert output.predictions.tolist() == ["positive."]
    assert not output.failures
    assert list(output.samples[0]) == [None, None]
    for quantifier in (SelfConsistency(2), SemanticEntropy(2), PTrue()):
        assert np.isnan(quantifier(output)).all()
    assert output.extra_calls.tolist() == [3]
    assert output.cost == pytest.approx([340e-6])
    assert (output.prompt_tokens, output.completion_tokens) == (4, 3)


def test_one_that_breaks_off_may_have_cost_something_and_agrees_with_nothing(server: Any) -> None:
    prices = {"prompt_price": 10.0, "completion_price": 100.0}
    output = ask(model_at(server, "extrareset", samples=4, extra={"seed": 1}, **prices), ["good"])
    assert list(output.samples[0]) == ["positive.", None, "positive.", None]
    assert np.isnan(output.sample_logprobs[0]).tolist() == [False, True, False, True]
    assert SelfConsistency(4)(output) == [0.5]
    assert not output.failures
    for column in (output.cost, output.prompt_tokens, output.completion_tokens):
        assert np.isnan(column).all()


def test_what_is_asked_further_is_part_of_what_a_cache_finds_an_answer_by(server: Any) -> None:
    models = [
        {},
        {"samples": 2},
        {"samples": 3},
        {"self_verification": True},
        {"samples": 2, "sample_temperature": 0.5},
    ]
    url = server.url("ok", "")
    keys = [json.dumps(OpenAIModel("m", url, **settings).cache_key("x"), sort_keys=True) for settings in models]
    assert len(set(keys)) == len(keys)
    assert "extra_calls" not in keys[0], "answers that were kept before are found again"


def test_unreadable_answers_do_not_become_predictions_of_the_system(server: Any) -> None:
    remote = Level(model_at(server, read_label={}.get), Supervisor(TokenLikelihood(), threshold=-np.inf))
    local = Level(FunctionModel(lambda xs: [[0.5, 0.5] for _ in xs]), Supervisor())
    with BiSupervised(local, remote, Default("?")) as system:
        outcomes = system.predict_many(["good", "bad", "fair"])
    assert outcomes.answers.tolist() == ["?"] * 3
    assert set(outcomes.routes) == {Route.REJECTED}
    assert all(error.startswith("unreadable: ") for error in outcomes.remote.errors)


def test_cost_follows_the_usage_and_the_prices(server: Any) -> None:
    prices = {"prompt_price": 10.0, "completion_price": 100.0}
    assert ask(model_at(server), ["good"]).cost is None
    assert ask(model_at(server, **prices), ["good"]).cost == pytest.approx([340e-6])
    assert ask(model_at(server, "cached", **prices), ["good"]).cost == pytest.approx([340e-6])
    cheaper = model_at(server, "cached", **prices, cached_prompt_price=1.0)
    assert ask(cheaper, ["good"]).cost == pytest.approx([322e-6])
    unknown = ask(model_at(server, "nousage", **prices), ["good"])
    assert np.isnan(unknown.cost).all()
    assert np.isnan(unknown.prompt_tokens).all()


def test_the_request_is_as_configured(server: Any) -> None:
    body = sent(server)["body"]
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.0,
        "stream": False,
        "logprobs": True,
    }
    extra = {"max_tokens": None, "max_completion_tokens": 3, "temperature": None, "seed": 1}
    body = sent(server, top_logprobs=5, max_tokens=9, extra=extra)["body"]
    assert (body["top_logprobs"], body["max_completion_tokens"], body["seed"]) == (5, 3, 1)
    assert not body.keys() & {"max_tokens", "temperature"}
    body = sent(server, route="completions", max_tokens=1, prompt="Text: {}".format)["body"]
    assert (body["prompt"], body["logprobs"], body["max_tokens"]) == ("Text: hello", 1, 1)
    assert sent(server, route="completions", top_logprobs=4)["body"]["logprobs"] == 4
    assert "logprobs" not in sent(server, logprobs=False)["body"]


def test_prompt_may_give_messages_on_the_chat_route_only(server: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    assert sent(server, prompt=lambda x: messages)["body"]["messages"] == messages
    assert sent(server, messages)["body"]["messages"] == messages
    for settings, x in [({"route": "completions"}, messages), ({}, 3), ({}, []), ({}, None)]:
        with pytest.raises(InputError, match="prompt must give"):
            ask(model_at(server, **settings), [x])


def test_the_key_is_sent_and_shown_nowhere(server: Any, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("TEAM_KEY", " sk-team-secret\n")
    assert sent(server, api_key_env="TEAM_KEY")["headers"]["Authorization"] == "Bearer sk-team-secret"
    assert sent(server, api_key="k")["headers"]["Authorization"] == "Bearer k"
    assert "Authorization" not in sent(server)["headers"]
    model = model_at(server, "denied", api_key_env="TEAM_KEY")
    with caplog.at_level("DEBUG"), pytest.raises(ModelStatusError, match=r"answered 401: .*\*\*\*") as caught:
        ask(model, ["hello"])
    assert "sk-team" not in f"{model!r} {model.name} {caught.value!s} {caught.value!r} {caplog.text}"
    assert "sk-team" not in json.dumps(model.cache_key("hello"))


def test_settings_that_cannot_work_are_refused_when_it_is_made(monkeypatch: Any) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        OpenAIModel("m", "http://localhost", api_key_env="NO_SUCH_KEY")
    for settings, says in [
        ({"api_key": "a", "api_key_env": "B"}, "not both"),
        ({"route": "responses"}, "route must be"),
        ({"logprobs": False, "top_logprobs": 1}, "needs logprobs"),
        ({"prompt_price": 1.0}, "together"),
        ({"cached_prompt_price": 1.0}, "together"),
        ({"prompt_price": -1.0, "completion_price": 0.0}, "a price is"),
        ({"samples": -1}, "0 or more"),
        ({"samples": 2, "sample_temperature": 0.0}, "every sample is the same"),
        ({"samples": 1, "sample_temperature": -1.0}, "from 0 on"),
        ({"self_verification": True, "verification_prompt": "Is it true?"}, r"contain \{answer\}"),
    ]:
        with pytest.raises(InputError, match=says):
            OpenAIModel("m", "http://localhost", **settings)
    with pytest.raises(InputError, match="at most 1"):
        ask(OpenAIModel("m", "http://localhost"), ["a", "b"])


def test_check_tells_declared_evidence_that_did_not_come_back(server: Any) -> None:
    assert asyncio.run(model_at(server, top_logprobs=2).check()).ok
    check = asyncio.run(model_at(server, "nologprobs", top_logprobs=2, read_label={}.get).check("good"))
    assert check.missing == {TOKENS, TOP, ALTERNATIVES}
    assert check.failure.kind == "unreadable"
    assert math.isnan(check.cost)
