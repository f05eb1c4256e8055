"""The unchanged `openai` client against a running gateway: what it asks for is what it gets, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.running import InThread, cascade, endpoint, gateway, in_process
from gateway.upstreams.handle import FaultyUpstream
from models.conftest import linear_onnx  # noqa: F401 - a fixture

PRICES = {"prompt_price": 2.0, "completion_price": 8.0, "cached_prompt_price": 1.0}
SURE, UNSURE = -0.01, -2.0  #: log-probabilities of every token: confidences .99 and .135
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]

routes = pytest.mark.parametrize("route", ["chat", "completions"])
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
later = pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    """`small` is unsure of what it says, `large` is sure."""
    running_upstream.reset()
    running_upstream.models(
        small={"kind": "ok", "text": "a local answer", "logprob": UNSURE},
        large={"kind": "ok", "text": "a remote answer", "logprob": SURE, "cached_tokens": 4},
    )
    return running_upstream


@pytest.fixture(scope="module")
def running(running_upstream: FaultyUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    url = running_upstream.base_url
    local, remote = endpoint(url, "small", cost_per_input=0.0), endpoint(url, "large", **PRICES)
    unjudged = remote | {"quantifier": "constant"}
    cascades = [
        cascade(in_process(), remote, "words"),
        cascade(local, remote, "assistant"),
        cascade(local, remote, "prefix", streaming="prefix", prefix_tokens=2),
        cascade(local, unjudged, "unjudged"),
        cascade(local, remote, "speculative", speculative=True),
    ]
    with gateway(tmp_path_factory.mktemp("gateway"), *cascades) as one:
        yield one


def sure(upstream: FaultyUpstream, model: str = "small", **options: Any) -> None:
    upstream.models(**{model: {"kind": "ok", "text": "a local answer", "logprob": SURE} | options})


# ---------------------------------------------------------------- asking


@dataclass
class Answer:
    """What the client made of an answer."""

    headers: Any
    text: str = ""
    chunks: list[Any] = field(default_factory=list)
    completion: Any = None

    @property
    def usages(self) -> list[Any]:
        return [chunk.usage for chunk in self.chunks if chunk.usage is not None]

    @property
    def finish_reason(self) -> str:
        choices = self.completion.choices if self.completion else [c for x in self.chunks for c in x.choices]
        return str(next(choice.finish_reason for choice in choices if choice.finish_reason))

    @property
    def logprobs(self) -> list[Any]:
        objects = [self.completion] if self.completion else self.chunks
        return [choice.logprobs for one in objects for choice in one.choices if choice.logprobs is not None]


def options_of(route: str, model: str, text: str, options: dict[str, Any]) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": text}]} if route == "chat" else {"prompt": text}
    return {"model": model, **asked, **options}


def say(gateway: InThread, model: str, text: str = "hard", *, route: str = "chat", **options: Any) -> Answer:
    """Ask with the plain client."""
    with gateway.client() as client:
        resource = client.chat.completions if route == "chat" else client.completions
        raw = resource.with_raw_response.create(**options_of(route, model, text, options))
        answer, parsed = Answer(raw.headers), raw.parse()
        if options.get("stream"):
            answer.chunks = list(parsed)
        else:
            answer.completion = parsed
    return read(answer, route)


async def asay(gateway: InThread, model: str, text: str = "hard", *, route: str = "chat", **options: Any) -> Answer:
    """Ask with the client of the event loop."""
    async with gateway.async_client() as client:
        resource = client.chat.completions if route == "chat" else client.completions
        raw = await resource.with_raw_response.create(**options_of(route, model, text, options))
        answer, parsed = Answer(raw.headers), raw.parse()
        if options.get("stream"):
            answer.chunks = [chunk async for chunk in parsed]
        else:
            answer.completion = parsed
    return read(answer, route)


def read(answer: Answer, route: str) -> Answer:
    if answer.completion is not None:
        choice = answer.completion.choices[0]
        answer.text = choice.message.content if route == "chat" else choice.text
        return answer
    for chunk in answer.chunks:
        for choice in chunk.choices:
            answer.text += (choice.delta.content or "") if route == "chat" else choice.text
    return answer


# ---------------------------------------------------------------- answers


@later
@routes
@streamed
def test_an_in_process_model_answers_what_it_is_sure_of(
    running: InThread, upstream: FaultyUpstream, route: str, stream: bool, later: bool
) -> None:
    asked = {"route": route, "stream": stream}
    answer = asyncio.run(asay(running, "words", "easy", **asked)) if later else say(running, "words", "easy", **asked)
    assert (answer.text, answer.finish_reason) == ("positive", "stop")
    assert answer.headers["x-bisupervised-route"] == "local"
    assert upstream.state().begun == 0


@later
@routes
@streamed
def test_what_the_local_model_is_not_sure_of_the_remote_one_answers(
    running: InThread, upstream: FaultyUpstream, route: str, stream: bool, later: bool
) -> None:
    for model in ("words", "assistant", "prefix", "unjudged", "speculative"):
        asked = {"route": route, "stream": stream}
        answer = asyncio.run(asay(running, model, **asked)) if later else say(running, model, **asked)
        assert (answer.text, answer.finish_reason) == ("a remote answer", "stop")
        assert answer.headers["x-bisupervised-route"] == "remote"


@routes
@streamed
def test_an_endpoint_answers_locally_when_its_tokens_are_likely(
    running: InThread, upstream: FaultyUpstream, route: str, stream: bool
) -> None:
    sure(upstream)
    for model in ("assistant", "prefix", "unjudged"):
        answer = say(running, model, route=route, stream=stream)
        assert (answer.text, answer.headers["x-bisupervised-route"]) == ("a local answer", "local")
    assert {body["model"] for body in upstream.state().bodies()} == {"small"}


def test_a_model_that_is_sure_at_first_is_believed_on_its_prefix_alone(
    running: InThread, upstream: FaultyUpstream
) -> None:
    tokens = [["one", SURE], [" two", SURE], *([" three", -9.0] for _ in range(5))]
    upstream.models(small={"kind": "ok", "tokens": tokens})
    assert say(running, "prefix", stream=True).headers["x-bisupervised-route"] == "local"
    assert say(running, "assistant", stream=True).headers["x-bisupervised-route"] == "remote"
    assert say(running, "prefix").headers["x-bisupervised-route"] == "remote", "not streamed: all of it is judged"


def test_no_word_of_a_draft_that_is_not_trusted_reaches_the_client(
    running: InThread, upstream: FaultyUpstream
) -> None:
    tokens = [["SECRET", UNSURE], [" DRAFT", UNSURE], *([" SURE", SURE] for _ in range(20))]
    upstream.models(small={"kind": "ok", "tokens": tokens, "delay_s": 0.005})
    for model in ("assistant", "prefix", "speculative"):
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hard"}]}
        content = running.request("POST", "/v1/chat/completions", body).body
        assert b"remote" in content
        assert not {b"SECRET", b"DRAFT", b"SURE"} & set(content.replace(b'"', b" ").split())


@routes
@streamed
def test_an_onnx_model_answers_what_it_is_sure_of(
    upstream: FaultyUpstream, request: pytest.FixtureRequest, tmp_path: Path, route: str, stream: bool
) -> None:
    path = str(request.getfixturevalue("linear_onnx"))
    local = {"model": "onnx", "path": path, "prepare": "gateway.local_models:features", "inline": True}
    local |= {"classes": ["negative", "neutral", "positive"], "output": "probabilities", "quantifier": "max_softmax"}
    with gateway(tmp_path, cascade(local, endpoint(upstream.base_url, "large"))) as running:
        easy = say(running, "assistant", "easy", route=route, stream=stream)
        assert (easy.text, easy.headers["x-bisupervised-route"]) == ("negative", "local")
        assert float(easy.headers["x-bisupervised-local-confidence"]) > 0.99
        hard = say(running, "assistant", "hard", route=route, stream=stream)
        assert (hard.text, hard.headers["x-bisupervised-route"]) == ("a remote answer", "remote")


# ---------------------------------------------------------------- usage and log-probabilities


@routes
@pytest.mark.parametrize("model", ["assistant", "prefix", "unjudged"])
def test_a_streams_usage_comes_once_at_its_end_and_only_when_asked_for(
    running: InThread, upstream: FaultyUpstream, route: str, model: str
) -> None:
    for options in ({}, {"stream_options": {"include_usage": False}}):
        assert say(running, model, route=route, stream=True, **options).usages == []
    answer = say(running, model, route=route, stream=True, stream_options={"include_usage": True})
    assert answer.chunks[-1].choices == []
    [usage] = answer.usages
    assert (usage, usage.prompt_tokens, usage.completion_tokens) == (answer.chunks[-1].usage, 10, 3)


def test_a_whole_answer_has_the_usage_of_the_model_that_gave_it(running: InThread, upstream: FaultyUpstream) -> None:
    usage = say(running, "assistant").completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 3, 13)
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert say(running, "words", "easy").completion.usage is None, "an in-process model has no tokens: not known"


@routes
@streamed
@pytest.mark.parametrize("model", ["assistant", "prefix"])
def test_log_probabilities_that_only_the_supervisor_asked_for_are_taken_out(
    running: InThread, upstream: FaultyUpstream, route: str, stream: bool, model: str
) -> None:
    for certain in (UNSURE, SURE):  # the remote answers, the local one does
        sure(upstream, logprob=certain)
        assert say(running, model, route=route, stream=stream).logprobs == []
    assert all(body["logprobs"] for body in upstream.state().bodies())


@streamed
def test_log_probabilities_come_when_the_client_asks_for_them(
    running: InThread, upstream: FaultyUpstream, stream: bool
) -> None:
    answer = say(running, "assistant", stream=stream, logprobs=True, top_logprobs=2)
    tokens = [token for logprobs in answer.logprobs for token in logprobs.content]
    assert [(token.token, token.logprob, len(token.top_logprobs)) for token in tokens] == [
        (token, SURE, 2) for token in ("a", " remote", " answer")
    ]
    answer = say(running, "assistant", route="completions", stream=stream, logprobs=2)
    values = [value for logprobs in answer.logprobs for value in logprobs.token_logprobs]
    assert values == [SURE] * 3


def test_what_the_client_asks_for_reaches_the_endpoint_unchanged(running: InThread, upstream: FaultyUpstream) -> None:
    given = {
        "temperature": 0.25,
        "max_tokens": 7,
        "stop": ["\n"],
        "seed": 3,
        "user": "somebody",
        "metadata": {"a": "b"},
    }
    say(running, "assistant", "Zürich \U0001f600", extra_body={"made_up": {"x": [1, None]}}, **given)
    for body in upstream.state().bodies():
        assert given.items() <= body.items()
        assert body["made_up"] == {"x": [1, None]}
        assert body["messages"] == [{"role": "user", "content": "Zürich \U0001f600"}]


# ---------------------------------------------------------------- tools and JSON


@streamed
@pytest.mark.parametrize("model", ["words", "assistant", "prefix", "unjudged"])
def test_tools_go_to_the_remote_model_and_its_call_comes_back(
    running: InThread, upstream: FaultyUpstream, model: str, stream: bool
) -> None:
    upstream.models(large="tool_call")
    answer = say(running, model, "easy", stream=stream, tools=TOOLS, tool_choice="auto")
    [body] = upstream.state().bodies()
    assert (body["model"], body["tools"], body["tool_choice"]) == ("large", TOOLS, "auto")
    assert answer.finish_reason == "tool_calls"
    if stream:
        pieces = [call for chunk in answer.chunks for c in chunk.choices for call in c.delta.tool_calls or ()]
        assert {call.index for call in pieces} == {0}
        name, id_ = pieces[0].function.name, pieces[0].id
        arguments = "".join(call.function.arguments or "" for call in pieces)
    else:
        [call] = answer.completion.choices[0].message.tool_calls
        name, id_, arguments = call.function.name, call.id, call.function.arguments
    assert (name, id_, json.loads(arguments)) == ("weather", "call_1", {"city": "Bern"})
    assert running.row(answer)["unscorable"] == "tools"


@streamed
def test_json_mode_is_passed_on(running: InThread, upstream: FaultyUpstream, stream: bool) -> None:
    upstream.models(large={"kind": "ok", "text": '{"city": "Bern"}', "logprob": SURE})
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True}}
    answer = say(running, "assistant", stream=stream, response_format=form)
    assert json.loads(answer.text) == {"city": "Bern"}
    assert [body["response_format"] for body in upstream.state().bodies()] == [form, form]


def test_the_clients_own_parsing_of_structured_answers_works(running: InThread, upstream: FaultyUpstream) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        city: str

    upstream.models(large={"kind": "ok", "text": '{"city": "Bern"}', "logprob": SURE})
    messages = [{"role": "user", "content": "hard"}]
    with running.client() as client:
        parsed = client.chat.completions.parse(model="assistant", messages=messages, response_format=City)
        assert parsed.choices[0].message.parsed == City(city="Bern")
        with client.chat.completions.stream(model="assistant", messages=messages, response_format=City) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == City(city="Bern")


# ---------------------------------------------------------------- models


def test_the_models_are_the_cascades(running: InThread) -> None:
    with running.client() as client:
        listed = [model.id for model in client.models.list()]
        assert listed == ["words", "assistant", "prefix", "unjudged", "speculative"]
        assert client.models.retrieve("words").id == "words"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("large")
    assert caught.value.code == "model_not_found"


def test_the_models_of_the_endpoints_are_no_models_of_the_gateway(
    running: InThread, upstream: FaultyUpstream
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        say(running, "large")
    assert caught.value.code == "model_not_found"
    assert upstream.state().begun == 0


# ---------------------------------------------------------------- how an answer came about


@routes
@streamed
def test_every_answer_says_how_it_came_about_and_the_log_says_the_same(
    running: InThread, upstream: FaultyUpstream, route: str, stream: bool
) -> None:
    headers = say(running, "assistant", route=route, stream=stream).headers
    told = {name.removeprefix("x-bisupervised-"): headers[name] for name in headers if "bisupervised" in name}
    texts = {
        "mode": "enforce",
        "route": "remote",
        "served": "remote",
        "reason": "trusted",
        "deferred-because": "not_trusted",
    }
    assert texts.items() <= told.items()
    assert float(told["local-confidence"]) == pytest.approx(0.1353, abs=1e-4)
    assert float(told["remote-confidence"]) == pytest.approx(0.99, abs=1e-3)
    assert float(told["local-cost"]) == 0.0
    assert float(told["remote-cost"]) == pytest.approx((6 * 2.0 + 4 * 1.0 + 3 * 8.0) / 1e6)
    row = running.row(told["id"])
    assert row["thresholds_id"] == told["thresholds"]
    assert (row["route"], row["served"], row["mode"], row["status"]) == ("remote", "remote", "enforce", 200)
    assert row["streamed"] is stream
    for level in ("local", "remote"):
        for name in ("confidence", "latency-s", "cost"):
            column = f"{level}_{name}".replace("-", "_")
            assert float(told[f"{level}-{name}"]) == pytest.approx(row[column], rel=1e-6), column
    assert (row["remote_prompt_tokens"], row["remote_completion_tokens"]) == (10, 3)
    assert (row["first_token_s"] is not None) is stream


def test_what_is_not_known_is_not_said(running: InThread, upstream: FaultyUpstream) -> None:
    upstream.models(large="ok?usage=false")
    headers = say(running, "assistant").headers
    assert "x-bisupervised-remote-cost" not in headers
    headers = say(running, "words", "easy").headers
    assert not [name for name in headers if "remote" in name], "it was not asked"
    assert "x-bisupervised-deferred-because" not in headers


def test_a_speculative_call_is_cancelled_when_it_is_not_needed_and_its_cost_is_counted(
    running: InThread, upstream: FaultyUpstream
) -> None:
    sure(upstream)
    upstream.models(large="drip?delay_s=0.01")
    answer = say(running, "speculative", stream=True)
    assert (answer.text, answer.headers["x-bisupervised-route"]) == ("a local answer", "local")
    state = upstream.wait_for(lambda state: state.disconnects == 1)
    assert {body["model"] for body in state.bodies()} == {"small", "large"}
    row = running.row(answer)
    assert (row["extra_remote_calls"], row["remote_asked"], row["extra_cost"]) == (1, False, None)
    assert row["cost_bound"] > 0.0
    assert running.metric("extra_remote_calls_total", cascade="speculative") >= 1.0


# ---------------------------------------------------------------- wishes


@streamed
def test_a_client_may_force_the_local_model(running: InThread, upstream: FaultyUpstream, stream: bool) -> None:
    answer = say(running, "assistant", stream=stream, extra_headers={"x-bisupervised-force": "local"})
    assert answer.text == "a local answer"
    assert answer.headers["x-bisupervised-mode"] == "forced_local"
    assert {body["model"] for body in upstream.state().bodies()} == {"small"}
    row = running.row(answer)
    assert (row["mode"], row["route"], row["local_confidence"]) == (
        "forced_local",
        "local",
        pytest.approx(0.135, abs=1e-3),
    )


@streamed
def test_a_client_may_force_the_remote_model(running: InThread, upstream: FaultyUpstream, stream: bool) -> None:
    answer = say(running, "words", "easy", stream=stream, extra_headers={"x-bisupervised-force": "remote"})
    assert answer.text == "a remote answer"
    row = running.row(answer)
    assert (row["mode"], row["route"], row["local_prediction"]) == ("forced_remote", "remote", None)


@pytest.mark.parametrize(
    ("name", "value"), [("force", "both"), ("fallback", "queue"), ("fallback", "call"), ("store", "maybe")]
)
def test_a_wish_that_there_is_not_is_a_bad_request(
    running: InThread, upstream: FaultyUpstream, name: str, value: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        say(running, "words", extra_headers={f"x-bisupervised-{name}": value})
    assert caught.value.code == "invalid_request"
    assert f"x-bisupervised-{name}" in str(caught.value)
    assert upstream.state().begun == 0
