"""As an OpenAI-compatible upstream behind a LiteLLM proxy, a real one in a process and an environment of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.running import InThread, cascade, endpoint, gateway, in_process, key_section, wait_until
from gateway.upstreams.handle import faulty_upstream

LITELLM = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "litellm"
MASTER_KEY = "sk-litellm-0123456789abcdef0123456789abcdef"
#: What LiteLLM calls the headers of an upstream.
TOLD = "llm_provider-x-bisupervised-"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LITELLM.exists(), reason=f"there is no {LITELLM}: requirements/peers.txt is not installed"
    ),
]
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@contextmanager
def litellm(base_url: str, folder: Path, *models: str) -> Iterator[str]:
    """The base URL of a proxy whose models are those of the gateway."""
    params = {"api_base": base_url, "api_key": "key-litellm"}
    listed = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **params}} for name in models]
    config = {
        "model_list": listed,
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"num_retries": 0},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with (folder / "litellm.log").open("w") as log:
        process = subprocess.Popen(
            [str(LITELLM), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)],
            env=environment | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"

    def alive() -> bool:
        assert process.poll() is None, (folder / "litellm.log").read_text()[-2000:]
        try:
            urllib.request.urlopen(f"{url}/health/liveliness", timeout=2).close()
        except OSError:
            return False
        return True

    try:
        wait_until(alive, bool, 90.0)
        yield f"{url}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InThread, openai.OpenAI]]:
    folder = tmp_path_factory.mktemp("litellm")
    with faulty_upstream() as upstream:
        upstream.models(large="ok?text=a remote answer&logprob=-0.01", small="ok?text=unsure&logprob=-2")
        cascades = [
            cascade(in_process(), endpoint(upstream.base_url, "large")),
            cascade(in_process(), endpoint(upstream.base_url, "small"), "rejecting"),
            cascade(in_process(), endpoint(upstream.base_url, "tool_call"), "tools"),
        ]
        keys = [key_section("litellm", "key-litellm")]
        with (
            gateway(folder, *cascades, key=keys) as one,
            litellm(one.base_url, folder, "assistant", "rejecting", "tools") as base_url,
            openai.OpenAI(base_url=base_url, api_key=MASTER_KEY, max_retries=0, timeout=30.0) as client,
        ):
            yield one, client


def said(client: openai.OpenAI, text: str, stream: bool, model: str = "assistant") -> tuple[Any, str]:
    """The headers and the text of an answer."""
    messages: Any = [{"role": "user", "content": text}]
    raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, stream=stream)
    answer: Any = raw.parse()
    if not stream:
        return raw.headers, answer.choices[0].message.content
    return raw.headers, "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)


@streamed
@pytest.mark.parametrize(
    ("text", "answer", "route"), [("easy", "positive", "local"), ("hard", "a remote answer", "remote")]
)
def test_the_cascades_answer_comes_through_litellm(
    running: tuple[InThread, openai.OpenAI], text: str, answer: str, route: str, stream: bool
) -> None:
    one, client = running
    one.service.log.flush()
    before = len(one.rows())
    headers, found = said(client, text, stream)
    assert found == answer
    row = one.rows(before + 1)[-1]
    assert (row["route"], row["streamed"], row["key"]) == (route, stream, "litellm")
    if not stream:
        assert (headers[f"{TOLD}route"], headers[f"{TOLD}id"]) == (route, row["id"])


def test_usage_and_completions_come_through(running: tuple[InThread, openai.OpenAI]) -> None:
    _, client = running
    messages: Any = [{"role": "user", "content": "hard"}]
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="assistant", messages=messages, stream=True, stream_options=options)
    )
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage is not None] == [13]
    assert client.completions.create(model="assistant", prompt="hard").choices[0].text == "a remote answer"


@streamed
def test_tool_calls_come_through(running: tuple[InThread, openai.OpenAI], stream: bool) -> None:
    _, client = running
    tools: Any = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    ]
    messages: Any = [{"role": "user", "content": "hard"}]
    answer: Any = client.chat.completions.create(model="tools", messages=messages, tools=tools, stream=stream)
    if stream:
        calls = [call for chunk in answer for c in chunk.choices for call in c.delta.tool_calls or ()]
    else:
        calls = answer.choices[0].message.tool_calls
    assert calls[0].function.name == "weather"
    assert json.loads("".join(call.function.arguments or "" for call in calls)) == {"city": "Bern"}


@streamed
def test_a_rejection_stays_a_client_error(running: tuple[InThread, openai.OpenAI], stream: bool) -> None:
    """LiteLLM does not take it for an outage: it keeps the status and does not try elsewhere."""
    one, client = running
    before = one.metric("responses_total", cascade="rejecting", status="422")
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        said(client, "hard", stream, "rejecting")
    assert "no prediction could be trusted" in str(caught.value)
    assert one.metric("responses_total", cascade="rejecting", status="422") == before + 1
