"""`bisupervised replay`, as a person runs it: with a local model in a process of its own, and in this one."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bisupervised import cli
from bisupervised.sources import read_table
from llama import CAPITALS, MODEL, start_llama

REMOTE = (
    "[cascade.remote]\nmodel = 'openai'\nmodel_name = 'large'\nbase_url = 'http://127.0.0.1:9/v1'\n"
    "quantifier = 'token_likelihood_min'\nprompt_price = 2.5\ncompletion_price = 10.0\n"
)


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert cli.main(["replay", *arguments]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return json.loads(run(capsys, *arguments, "--json")[0])


def row(number: int, text: str, answer: str, **more: Any) -> dict[str, Any]:
    body = {"model": "large", "messages": [{"role": "user", "content": text}], "temperature": 0.3, "max_tokens": 7}
    reply = {
        "choices": [{"message": {"role": "assistant", "content": answer}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1},
    }
    time = f"2026-03-{1 + number // 24:02}T{number % 24:02}:00:00Z"
    return {"id": f"q{number}", "time": time, "request": body | more, "response": reply}


def write_log(*rows: dict[str, Any], name: str = "log.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(one) + "\n" for one in rows))
    return name


def reviews(n: int = 60) -> list[dict[str, Any]]:
    """Good and bad films; the remote model calls every tenth good one negative."""
    rows = []
    for number in range(n):
        text = f"a {'good' if number % 2 else 'bad'} film, number {number}"
        rows.append(row(number, text, "Positive." if number % 2 and number % 10 != 1 else "negative"))
    return rows


def in_process(*, local: str = "", thresholds: str = "{ local = 0.7, remote = 0.5 }") -> str:
    Path(f"replay_models_{Path.cwd().name}.py").write_text(
        "def small(texts):\n"
        "    sure = [0.501 + int(text.split()[-1]) % 50 / 100.2 for text in texts]\n"
        "    return [[p, 1 - p] if 'good' in text else [1 - p, p] for text, p in zip(texts, sure)]\n"
    )
    Path("cascade.toml").write_text(
        f"[[cascade]]\nname = 'reviews'\nthresholds = {thresholds}\n"
        f"[cascade.local]\nmodel = 'function'\nfunction = 'replay_models_{Path.cwd().name}:small'\n"
        f"classes = ['positive', 'negative']\n{local}{REMOTE}"
    )
    return "cascade.toml"


# ---------------------------------------------------------------- in this process


def test_it_opens_with_the_answer_and_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    in_process()
    out, err = run(capsys, write_log(*reviews()), "--sample", "all")
    said = " ".join(out.split())
    assert said.startswith("At request rate 50 % (local confidence >= 0.7) you would save about 0.00317 [")
    assert "3 of the 30 answers kept local would have differed from what the remote model said (10 %" in said
    assert "A difference is no error: the remote model errs too" in said
    assert 'Start with mode = "observe"' in said
    assert "read 60 requests: 60 as OpenAI request and response" in err
    with Path("to_label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"why", "label", "right", "local_answer", "remote_answer"} <= rows[0].keys()
    assert sum(one["why"].startswith("differs, answered") for one in rows) == 3


def test_the_figures_come_as_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    in_process()
    tools = row(70, "call me", "x", tools=[{"type": "function"}])
    values = figures(capsys, write_log(*reviews(), tools, {"foo": 1}), "--sample", "all", "--request-rate", "0.8")
    assert (values["n_requests"], values["n_scorable"], values["n"], values["n_bad_rows"]) == (61, 60, 60, 1)
    assert values["unscorable"] == {"tools": 1}
    assert values["formats"] == {"OpenAI request and response": 61}
    assert [point["configured"] for point in values["points"]] == [False, True]
    assert values["points"][1]["n_local"] == 30
    assert values["points"][1]["saved"]["value"] == pytest.approx(30 * 0.00026)
    assert values["spend"] == pytest.approx(61 * 0.00026)
    assert values["points"][1]["saved_share"]["value"] == pytest.approx(30 / 61)
    assert values["points"][1]["versus_remote_only"]["value"] is None
    assert values["headline"].startswith("At request rate")


def test_what_is_recorded_is_not_asked_again_and_a_larger_sample_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    in_process()
    log = write_log(*reviews())
    run(capsys, log, "--sample", "20")
    assert len(read_table("recorded.jsonl")) == 20
    _, err = run(capsys, log, "--sample", "45")
    assert "20 of 45 local answers are in recorded.jsonl" in err
    module = next(Path.cwd().glob("replay_models_*.py"))
    module.write_text(module.read_text().replace("def small", "def other"))
    sys.modules.pop(module.stem)
    with pytest.raises(AssertionError):  # its model is gone: nothing could be asked
        run(capsys, log, "--sample", "46")
    values = figures(capsys, log, "--recorded", "recorded.jsonl", "--sample", "all")
    assert values["n"] == 45
    assert figures(capsys, log, "--recorded", "recorded.jsonl", "--sample", "10")["n"] == 10


def test_a_recording_of_ones_own_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.csv").write_text(
        "id,local_prediction,local_confidence,remote_confidence\n"
        + "".join(f"q{number},Positive,{number / 60},1\n" for number in range(60))
    )
    values = figures(
        capsys, write_log(*reviews()), "--recorded", "mine.csv", "--remote-cost", "0.01", "--sample", "all"
    )
    assert values["agreement"]["value"] == pytest.approx(24 / 60)
    assert values["spend"] == pytest.approx(0.6)
    assert not Path("recorded.jsonl").exists()


def test_labels_that_come_back_say_what_the_local_answers_cost(capsys: pytest.CaptureFixture[str]) -> None:
    in_process()
    log = write_log(*reviews())
    run(capsys, log, "--sample", "all")
    path = Path("to_label.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for one in rows:
        one["label"] = "positive" if "good" in one["input"] else "negative"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    values = figures(capsys, log, "--sample", "all", "--labels-file", "to_label.csv")
    shown = next(point for point in values["points"] if point["configured"])
    assert shown["versus_remote_only"]["value"] == pytest.approx(3 / 60)  # the local model is right each time
    assert values["agreeing_correct"]["value"] == 1.0
    out, err = run(capsys, log, "--sample", "all", "--labels-file", "to_label.csv")
    assert "to_label.csv is filled in, or another file, and is left as it is" in err
    assert "system accuracy is +.050" in " ".join(out.split())
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == rows


def test_labels_in_the_log_bring_the_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    in_process()
    labelled = [one | {"label": "positive" if number % 2 else "negative"} for number, one in enumerate(reviews())]
    values = figures(capsys, write_log(*labelled), "--sample", "all")
    assert values["evaluation"]["systems"]["remote_only"]["system_accuracy"]["value"] < 1.0
    assert values["evaluation"]["systems"]["local_only"]["system_accuracy"]["value"] == 1.0
    out, _ = run(capsys, "log.jsonl", "--sample", "all")
    assert "By the log's own labels" in out
    assert cli.main(["evaluate", "recorded.jsonl", "--json"]) == 0  # the recording is the one table


def test_a_local_price_is_shown_first_and_needs_a_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(local="cost_per_input = 0.5\n")
    log = write_log(*reviews())
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    _, err = run(capsys, log, "--sample", "20", status=2)
    assert "20 local calls, which cost about 10.00" in err
    assert "add --yes" in err
    assert not Path("recorded.jsonl").exists()
    values = figures(capsys, log, "--sample", "20", "--yes")
    assert values["points"][0]["saved"]["value"] < -29.0  # 60 requests at 0.5 each


def test_the_gateways_rules_say_what_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(in_process())
    asks_for_json = [
        row(number, f"good {number}", "{}", response_format={"type": "json_object"}) for number in range(5)
    ]
    log = write_log(*reviews(20), *(one | {"id": f"j{one['id']}"} for one in asks_for_json))
    assert figures(capsys, log, "--sample", "all")["unscorable"] == {"json_mode": 5}
    config.write_text(config.read_text() + "[cascade.gateway]\nunscorable = { json_mode = 'score' }\n")
    assert figures(capsys, log, "--sample", "all")["n_scorable"] == 25


def test_one_cascade_of_several_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(in_process())
    config.write_text(config.read_text() + config.read_text().replace("'reviews'", "'other'"))
    log = write_log(*reviews(20))
    assert "choose one with --cascade: reviews, other" in run(capsys, log, status=2)[1]
    assert "has no cascade 'absent'" in run(capsys, log, "--cascade", "absent", status=2)[1]
    assert run(capsys, log, "--cascade", "other", "--out", "other.csv")[0]


def test_a_spend_log_is_replayed_with_its_own_money(capsys: pytest.CaptureFixture[str]) -> None:
    in_process()
    rows = []
    for number, one in enumerate(reviews(30)):
        start = f"2026-03-{1 + number:02}T00:00:00+00:00"
        rows.append(
            {
                "request_id": one["id"],
                "call_type": "acompletion",
                "spend": 0.25,
                "startTime": start,
                "endTime": start.replace("00:00+", "02:00+"),
                "messages": {},
                "proxy_server_request": one["request"],
                "response": one["response"],
            }
        )
    values = figures(capsys, write_log(*rows), "--sample", "all")
    shown = next(point for point in values["points"] if point["configured"])
    assert (values["spend"], values["days"]) == (7.5, 29.0)
    assert shown["saved"]["value"] == pytest.approx(0.25 * shown["n_local"])
    assert values["latency_s"]["remote"] == 120.0


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        ([], [], "log.jsonl is empty"),
        ([{"foo": 1}, {"foo": 2}], [], "row 1: there is no request in it; it has: foo. Name the columns"),
        ([row(0, "a", "b", tools=[{}])], [], "holds no request that could be replayed: 1 offer tools"),
        (
            [
                {
                    "request_id": "a",
                    "call_type": "acompletion",
                    "spend": 0.1,
                    "proxy_server_request": {},
                    "response": {},
                }
            ],
            [],
            "store_prompts_in_spend_logs: true",
        ),
        ([row(0, "good 0", "b")], ["--config", "absent.toml"], "there is no configuration file"),
        ([row(0, "good 0", "b")], ["--out", "recorded.xyz"], ".csv, .jsonl, .parquet"),
        ([row(0, "good 0", "b")], ["--recorded", "absent.csv"], "there is no file absent.csv"),
        ([row(0, "good 0", "b")], ["--columns", "input"], "--columns takes OURS=YOURS"),
        ([row(0, "good 0", "b")], ["--request-rate", "30"], "a request rate is a share, as in 0.3, not 30"),
        ([row(0, "good 0", "b")], ["--margin", "0"], "the margin is a share between 0 and 1"),
        ([row(0, "good 0", "b")], ["--remote-prompt-price", "1"], "together"),
        ([row(0, "good 0", "b")], ["--labels-file", "absent.csv"], "there is no file absent.csv"),
    ],
)
def test_a_mistake_gets_a_line_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], arguments: list[str], words: str
) -> None:
    in_process()
    _, err = run(capsys, write_log(*rows), *arguments, status=2)
    assert words in err
    assert "bisupervised: " in err
    assert "Traceback" not in err


def test_an_option_out_of_range_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--sample", "0"], ["--days", "0"], ["--agreement", "vibes"], ["--remote-cost", "-1"]):
        with pytest.raises(SystemExit) as left:
            cli.main(["replay", "log.jsonl", *option])
        assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


# ---------------------------------------------------------------- a process of its own


class Server:
    """The small model server of `models/http_server.py`."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def config(self, behaviour: str, *, quantifier: str = "token_likelihood_min", more: str = "") -> None:
        Path("cascade.toml").write_text(
            "[[cascade]]\nname = 'reviews'\nthresholds = { local = 0.8, remote = 0.5 }\n"
            f"[cascade.local]\nmodel = 'openai'\nmodel_name = 'tiny'\nbase_url = '{self.root}/{behaviour}'\n"
            f"quantifier = '{quantifier}'\n{more}{REMOTE}"
        )

    def count(self, behaviour: str) -> int:
        with urllib.request.urlopen(f"{self.root}/count/{behaviour}") as reply:
            return int(json.load(reply)[0])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    program = Path(__file__).parent / "models" / "http_server.py"
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline()))
        finally:
            process.kill()


def test_an_endpoint_is_asked_as_the_gateway_asks_it_once_for_each_request(
    capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    server.config("ok/replay1")
    log = write_log(*reviews(40))
    values = figures(capsys, log, "--sample", "25")
    assert server.count("ok/replay1") == 25
    assert values["agreement"]["value"] > 0.8  # "\n positive." is what the log calls "Positive."
    assert values["latency_s"]["local"] > 0.0
    assert values["auroc"]["value"] is not None
    figures(capsys, log, "--sample", "40")
    assert server.count("ok/replay1") == 40
    table = read_table("recorded.jsonl")
    assert len(table) == 40
    assert all(len(tokens) == 3 for tokens in table.local.token_logprobs)


def test_the_clients_own_settings_are_sent(capsys: pytest.CaptureFixture[str], server: Server) -> None:
    server.config("echo/replay2")
    figures(capsys, write_log(row(0, "a good film", "x", stop=["\n"], stream=True)), "--sample", "all")
    sent = json.loads(read_table("recorded.jsonl").local.predictions[0])["body"]
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["stop"]) == ("tiny", 0.3, 7, ["\n"])
    assert (sent["stream"], sent["logprobs"]) == (False, True)


def test_a_prompt_of_the_configuration_takes_the_place_of_the_clients_messages(
    capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    server.config("echo/replay3", more="prompt = 'Judge: {input}'\n")
    figures(capsys, write_log(row(0, "a good film", "x")), "--sample", "all")
    sent = json.loads(read_table("recorded.jsonl").local.predictions[0])["body"]
    assert sent["messages"] == [{"role": "user", "content": "Judge: a good film"}]


def test_replies_without_log_probabilities_are_never_kept_local_and_it_says_so(
    capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    server.config("nologprobs/replay4")
    out, _ = run(capsys, write_log(*reviews(20)))
    assert "every request would go to the remote model" in " ".join(out.split())
    assert "20 local answers came without a confidence" in " ".join(out.split())


def test_an_endpoint_that_is_down_stops_the_replay_and_keeps_nothing(
    capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    server.config("status/replay5")
    Path("cascade.toml").write_text(Path("cascade.toml").read_text().replace(server.root, "http://127.0.0.1:9"))
    _, err = run(capsys, write_log(*reviews(40)), status=2)
    assert "the local model tiny answered none of the first 32 requests: " in err
    assert not Path("recorded.jsonl").exists()


@pytest.mark.slow
def test_an_interrupted_replay_keeps_what_it_has(server: Server) -> None:
    server.config("slow/replay6", more="max_concurrency = 4\n")
    log = write_log(*reviews(2000))  # so many that it is not done when the signal comes, however busy the machine
    command = [sys.executable, "-m", "bisupervised", "replay", log, "--sample", "all", "--max-concurrency", "4"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 30
            while server.count("slow/replay6") < 100 and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    asked = server.count("slow/replay6")
    kept = len(read_table("recorded.jsonl"))
    assert 32 <= kept <= asked < 2000


@pytest.mark.slow
def test_a_real_language_model_is_replayed_with_its_own_confidence(capsys: pytest.CaptureFixture[str]) -> None:
    countries = {"France": "Paris", "Spain": "Madrid", "Germany": "Berlin", "Peru": "Lima", "Norway": "Oslo"}
    rows = [
        {
            "id": country,
            "request": {
                "prompt": CAPITALS.format(f"What is the capital of {country}?"),
                "max_tokens": 3,
                "stop": ["\n"],
            },
            "response": {
                "choices": [{"text": f" {capital}"}],
                "usage": {"prompt_tokens": 40, "completion_tokens": 2},
            },
        }
        for country, capital in countries.items()
    ]
    with start_llama() as base_url:
        Path("cascade.toml").write_text(
            "[[cascade]]\nname = 'capitals'\nthresholds = { local = 0.5, remote = 0.5 }\n"
            f"[cascade.local]\nmodel = 'openai'\nmodel_name = '{MODEL}'\nbase_url = '{base_url}'\n"
            f"quantifier = 'token_likelihood_min'\n{REMOTE}"
        )
        values = figures(capsys, write_log(*rows), "--sample", "all")
    assert (values["n"], values["n_without_confidence"], values["failures"]) == (5, 0, {})
    assert values["agreement"]["value"] >= 0.4
    table = read_table("recorded.jsonl")
    assert ((table.local.confidences > 0.0) & (table.local.confidences <= 1.0)).all()
    assert values["latency_s"]["local"] > 0.0
