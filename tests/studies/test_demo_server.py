import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from bisupervised.errors import ModelUnreachable
from bisupervised.studies import serving
from bisupervised.studies.demo_prompt import messages_of
from bisupervised.studies.demo_remote import running_server
from bisupervised.studies.demo_server import MODEL_NAME, token_logprobs


def post(url, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/chat/completions", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def question(text="A wonderful film.", **fields):
    return {"model": MODEL_NAME, "messages": messages_of(text), **fields}


def alive(url):
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def ends(url, within_s=10.0):
    limit = time.monotonic() + within_s
    while alive(url):
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def test_the_answer_is_one_token_and_has_no_logprobs_unless_they_are_asked_for(server_url):
    reply = post(server_url, question())
    choice = reply["choices"][0]
    assert choice["message"]["content"] in (" Positive", " Negative")
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] == 1
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + 1


@pytest.mark.parametrize(("asked", "given"), [({}, 0), ({"top_logprobs": 5}, 5), ({"top_logprobs": 20}, 6)])
def test_logprobs_come_as_they_are_asked_for(server_url, asked, given):
    choice = post(server_url, question(logprobs=True, **asked))["choices"][0]
    (token,) = choice["logprobs"]["content"]
    assert token["token"] == choice["message"]["content"]
    assert token["logprob"] <= 0.0
    assert len(token["top_logprobs"]) == given
    logprobs = [entry["logprob"] for entry in token["top_logprobs"]]
    assert logprobs == sorted(logprobs, reverse=True)


def test_the_probability_of_the_served_model_is_spread_over_the_labels_tokens(server_url, trained):
    text = "A wonderful film."
    (token,) = post(server_url, question(text, logprobs=True, top_logprobs=20))["choices"][0]["logprobs"]["content"]
    positive = sum(math.exp(e["logprob"]) for e in token["top_logprobs"] if "positive" in e["token"].lower())
    assert positive == pytest.approx(trained.probability(text), abs=1e-9)
    assert sum(math.exp(e["logprob"]) for e in token["top_logprobs"]) == pytest.approx(1.0)


@pytest.mark.parametrize("positive", [0.0, 1e-9, 0.3, 0.5, 0.7, 1.0])
def test_the_likeliest_label_has_all_its_tokens_among_the_first_five(positive):
    first = list(token_logprobs(positive))[:5]
    label = "positive" if positive >= 0.5 else "negative"
    assert sum(label in token.lower() for token in first) == 3
    assert all(math.isfinite(logprob) for logprob in token_logprobs(positive).values())


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        {"model": MODEL_NAME},
        {"messages": []},
        {"messages": [{"role": "user", "content": None}]},
        question(stream=True),
        question(top_logprobs=5),
        question(logprobs=True, top_logprobs=21),
        question(logprobs=True, top_logprobs="5"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_with_a_reason(server_url, body):
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(server_url, body)
    with raised.value as reply:
        assert reply.status == 400
        assert json.load(reply)["error"]["message"]


def test_the_model_is_listed(server_url):
    with urllib.request.urlopen(f"{server_url}/models", timeout=10) as reply:
        assert [model["id"] for model in json.load(reply)["data"]] == [MODEL_NAME]


def test_every_answer_waits_for_the_delay(trained):
    with running_server(trained, delay_s=0.2) as url:
        start = time.perf_counter()
        post(url, question())
        assert 0.2 <= time.perf_counter() - start < 1.0


def test_the_server_ends_with_its_context_also_when_that_is_left_by_an_interrupt(trained):
    def interrupted():
        with running_server(trained, delay_s=0.0) as url:
            seen.append((url, alive(url)))
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((url, was_alive),) = seen
    assert was_alive
    assert not alive(url)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_the_server_ends_when_its_parent_is_killed_and_leaves_no_model_behind(trained, tmp_path):
    trained.save(tmp_path / "model.npz")
    program = (
        "import sys, time, pathlib\n"
        "from bisupervised.studies.demo_models import WordPairModel\n"
        "from bisupervised.studies.demo_remote import running_server\n"
        f"model = WordPairModel.load(pathlib.Path({str(tmp_path / 'model.npz')!r}))\n"
        "with running_server(model, delay_s=0.0) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        url = parent.stdout.readline().decode().strip()
        assert alive(url)
        parent.send_signal(signal.SIGKILL)
    assert ends(url)
    assert not list(temporary.rglob("*.npz"))


def test_a_server_that_does_not_start_says_why(trained, monkeypatch):
    monkeypatch.setattr(type(trained), "save", lambda self, path: path.write_bytes(b"no model"))
    with pytest.raises(ModelUnreachable, match=r"did not start: .*Error"), running_server(trained, delay_s=0.0):
        pass


def test_a_server_that_hangs_is_given_up(trained, monkeypatch):
    monkeypatch.setattr(serving, "STARTS_WITHIN_S", 0.01)
    with pytest.raises(ModelUnreachable, match="did not start"), running_server(trained, delay_s=0.0):
        pass
