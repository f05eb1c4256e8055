"""The gateway's commands, as processes: init, doctor, key, serve, mode."""

from __future__ import annotations

import json
import re
import signal
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bisupervised import DecisionLog
from bisupervised.cli import main
from bisupervised.gateway.keys import digest_of
from gateway.running import SECRETS, cascade, cli, config_text, endpoint, gateway_process, in_process, key_section
from gateway.upstreams.handle import FaultyUpstream, refused

#: Each command is a process that takes most of a second to start.
pytestmark = pytest.mark.slow

SECRET = SECRETS["REMOTE_API_KEY"]


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    return running_upstream


def written(folder: Path, *cascades: Any, **gateway: Any) -> str:
    path = folder / "cascade.toml"
    path.write_text(config_text(*cascades, **gateway), encoding="utf-8")
    return str(path)


# ---------------------------------------------------------------- from nothing to a gateway


def test_init_then_doctor_then_serve(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(small="ok?text=local&logprob=-0.01", large="ok?text=remote&logprob=-0.01")
    path = tmp_path / "cascade.toml"
    urls = ("--local-url", upstream.base_url, "--remote-url", upstream.base_url)
    done = cli("init", str(path), *urls)
    assert (done.returncode, done.stderr) == (0, "")
    assert "doctor" in done.stdout
    checked = cli("doctor", str(path))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "assistant, local: ok" in checked.stdout
    with gateway_process(path) as running:
        reply = running.chat("hello")
        assert (reply.status, reply.headers["x-bisupervised-mode"]) == (200, "observe")
        assert reply.json["choices"][0]["message"]["content"] == "remote"
        row = running.row(reply)
        assert (row["route"], row["local_prediction"]) == ("remote", "local"), "nothing local is trusted at first"
        seen = {record["headers"].get("authorization") for record in upstream.state().requests}
        assert f"Bearer {SECRET}" in seen
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert running.printed.read_text() == ""


def test_init_replaces_no_file_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text("mine")
    done = cli("init", str(path))
    assert (done.returncode, path.read_text()) == (2, "mine")
    assert "--force" in done.stderr
    assert cli("init", str(path), "--force").returncode == 0
    assert "[[cascade]]" in path.read_text()


def test_init_writes_what_it_was_told_whatever_that_is(tmp_path: Path) -> None:
    path = tmp_path / "cascade.toml"
    name = 'Zürich "quoted" \\ {braces}'
    assert cli("init", str(path), "--name", name, "--remote-key-env", "OTHER_KEY").returncode == 0
    written_ = tomllib.loads(path.read_text(encoding="utf-8"))
    [one] = written_["cascade"]
    assert (one["name"], one["remote"]["api_key_env"], one["gateway"]["mode"]) == (name, "OTHER_KEY", "observe")
    assert path.read_text(encoding="utf-8").count("#") > 20, "it explains itself"


def test_every_commented_setting_of_the_file_is_one(tmp_path: Path) -> None:
    """What a reader uncomments works."""
    path = tmp_path / "cascade.toml"
    cli("init", str(path))
    text = path.read_text(encoding="utf-8")
    key = '[[gateway.key]]\nname = "team-a"\nsha256 = "' + "0" * 64 + '"'
    text = text.replace('# [[gateway.key]]\n# name = "team-a"\n# sha256 = "…"', key)
    text = re.sub(r"^# (?=[a-z_\[])", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(Clients|Other|Choose|A gateway|Every|host|with|them).*$", "", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    done = cli("doctor", str(path), "--no-calls", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- doctor


def test_doctor_says_everything_that_is_wrong_at_once(upstream: FaultyUpstream, tmp_path: Path) -> None:
    good = endpoint(upstream.base_url, "large")
    broken = cascade(
        good | {"quantifier": "crystal_ball"}, good | {"api_key": "${NOT_SET}"}, "broken", mode="perhaps"
    )
    del broken["thresholds"]
    fine = cascade(in_process(), good | {"timeout_s": -1, "base_url": "large.example"}, "fine", share=1.5, sahre=1)
    key = {"name": "team", "sha256": "0123", "scopes": ["call", "fly"]}
    path = written(tmp_path, broken, fine, port=99999, hots="x", key=[key], host="0.0.0.0")
    done = cli("doctor", path)
    assert done.returncode == 2
    expected = (
        ("broken", "local", "crystal_ball"),
        ("NOT_SET",),
        ("broken", "thresholds"),
        ("broken", "mode", "observe, enforce, remote_only", "perhaps"),
        ("fine", "share", "1.5"),
        ("fine", "sahre"),
        ("fine", "remote", "base_url"),
        ("fine", "remote", "timeout_s"),
        ("gateway", "port", "99999"),
        ("gateway", "hots"),
        ("team", "sha256", "bisupervised key"),
        ("team", "fly"),
    )
    lines = done.stderr.splitlines()
    for words in expected:
        assert [line for line in lines if all(word in line for word in words)], (words, done.stderr)
    assert len(lines) == len(set(lines)), "each is said once"
    assert upstream.state().begun == 0, "nobody is asked before the file is right"
    assert "crystal_ball" in json.loads(cli("doctor", path, "--json").stdout)["error"]["message"]
    served = cli("serve", path)
    assert (served.returncode, served.stderr) == (2, done.stderr), "serve says the same"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"daily_budget": 1.0}, "prices"),
        ({"daily_budget": 1.0, "prompt_price": 2.0, "completion_price": 8.0}, "max_tokens"),
        ({"daily_budget": 1.0, "prompt_price": 2.0, "completion_price": 8.0, "max_tokens": 100}, None),
        ({"daily_budget": 1.0, "cost_per_input": 0.5}, None),
    ],
)
def test_doctor_knows_what_a_budget_needs(
    upstream: FaultyUpstream, tmp_path: Path, settings: dict[str, Any], words: str | None
) -> None:
    budget = {"daily_budget": settings.pop("daily_budget")}
    large = endpoint(upstream.base_url, "large", **settings)
    done = cli("doctor", written(tmp_path, cascade(in_process(), large, **budget)), "--no-calls")
    assert done.returncode == (0 if words is None else 2), done.stderr
    assert words is None or words in done.stderr


def findings(path: str) -> tuple[int, Any]:
    done = cli("doctor", path, "--json")
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_doctor_says_which_signals_each_model_really_gives(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(small="no_logprobs", large="ok?usage=false")
    priced = {"prompt_price": 2.0, "completion_price": 8.0, "api_key": "${REMOTE_API_KEY}"}
    path = written(
        tmp_path,
        cascade(endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large", **priced), "one"),
        cascade(in_process(), endpoint(upstream.base_url, "fine", **priced), "two"),
    )
    status, found = findings(path)
    assert (status, found["ok"]) == (1, False)
    local, remote = found["cascades"]["one"]["local"], found["cascades"]["one"]["remote"]
    assert (local["ok"], remote["ok"]) == (False, False)
    assert "token_logprobs" in local["failure"]
    for way in ("chat", "chat_streamed", "completions"):
        assert (local["signals"][way]["token_logprobs"], local["signals"][way]["usage"]) == (False, True)
        assert (remote["signals"][way]["token_logprobs"], remote["signals"][way]["usage"]) == (True, False)
    assert "usage" in remote["failure"]
    assert found["cascades"]["two"]["local"] == {
        **found["cascades"]["two"]["local"],
        "ok": True,
        "prediction": "positive",
        "confidence": 0.625,
    }
    fine = found["cascades"]["two"]["remote"]
    assert (fine["ok"], fine["signals"]["chat"]["top_logprobs"]) == (True, True)
    shown = cli("doctor", path)
    assert shown.returncode == 1
    for words in (
        "one, local: PROBLEM",
        "one, remote: PROBLEM",
        "two, remote: ok",
        "not token_logprobs",
        "not usage",
    ):
        assert words in shown.stdout


def test_doctor_says_what_does_not_answer(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.models(
        large={"kind": "401", "message": f"the key {SECRET} is wrong"},
        small="html",
        slow="stall_head",
        odd="chat_logprobs",
    )
    with refused() as nowhere:
        key = {"api_key": "${REMOTE_API_KEY}"}
        path = written(
            tmp_path,
            cascade(endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large", **key), "one"),
            cascade(endpoint(nowhere, "down"), endpoint(upstream.base_url, "slow") | {"timeout_s": 0.2}, "two"),
            cascade(endpoint(upstream.base_url, "odd"), endpoint(upstream.base_url, "close"), "three"),
        )
        status, found = findings(path)
    assert status == 1
    said = {
        (name, level): finding.get("failure", "")
        for name, levels in found["cascades"].items()
        for level, finding in levels.items()
    }
    for level, words in {
        ("one", "local"): "text/html",
        ("one", "remote"): "answered 401",
        ("two", "local"): "cannot be reached",
        ("two", "remote"): "within 0.2 s",
        ("three", "local"): "",
    }.items():
        assert words in said[level], said
    assert found["cascades"]["three"]["local"]["ok"], (
        "log-probabilities in the shape of chat are read on either route"
    )
    assert "closed the connection" in said["three", "remote"]


def test_doctor_asks_what_a_supervisor_needs(upstream: FaultyUpstream, tmp_path: Path) -> None:
    """A quantifier that asks further calls needs them to bring something."""
    small = endpoint(upstream.base_url, "small")
    cascades = [
        cascade(small | {"quantifier": "p_true"}, small | {"quantifier": "constant"}, "one"),
        cascade(small | {"quantifier": "self_consistency", "samples": 2}, small | {"quantifier": "constant"}, "two"),
    ]
    upstream.default("ok?text=A")
    status, found = findings(written(tmp_path, *cascades))
    assert (status, found["ok"]) == (0, True)
    upstream.default("no_logprobs?text=A")
    status, found = findings(written(tmp_path, *cascades))
    assert (found["cascades"]["one"]["local"]["ok"], status) == (False, 1), "P(True) reads a log-probability"
    assert found["cascades"]["two"]["local"]["ok"], "samples are words"


def test_doctor_without_a_file_says_what_is_installed() -> None:
    done = cli("doctor", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["installation"]["extras"]["gateway"] == "installed"


# ---------------------------------------------------------------- key


def test_a_key_is_shown_once_and_its_section_works(upstream: FaultyUpstream, tmp_path: Path) -> None:
    done = cli("key", "team-a", "--scopes", "call,label", "--daily-budget", "2.5")
    assert done.returncode == 0
    key = re.search(r"bsk_\S+", done.stdout)
    assert key is not None
    section = tomllib.loads(done.stdout[done.stdout.index("[[gateway.key]]") :])["gateway"]["key"][0]
    assert section == key_section("team-a", key[0], "call", "label", daily_budget=2.5)
    large = endpoint(upstream.base_url, "large", cost_per_input=0.5)
    path = Path(written(tmp_path, cascade(in_process(), large), key=[section]))
    with gateway_process(path) as running:
        assert running.chat("easy").status == 401
        assert running.chat("easy", headers={"Authorization": f"Bearer {key[0]}"}).status == 200
    assert key[0] not in path.read_text()


def test_a_key_for_programs(tmp_path: Path) -> None:
    made = json.loads(cli("key", "a", "--json").stdout)
    assert made["section"] == {"name": "a", "sha256": digest_of(made["key"]), "scopes": ["call"]}


@pytest.mark.parametrize("options", [("--scopes", "call,fly"), ("--daily-budget", "-1")])
def test_a_key_that_makes_no_sense_is_not_made(options: tuple[str, str]) -> None:
    done = cli("key", "a", *options)
    assert (done.returncode, "bsk_" in done.stdout) == (2, False)


# ---------------------------------------------------------------- serve


def test_a_port_that_is_taken_is_said(upstream: FaultyUpstream, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("serve", written(tmp_path, cascade(in_process(), endpoint(upstream.base_url, "x")), port=port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr


def test_no_option_opens_a_gateway_without_keys_to_everybody(upstream: FaultyUpstream, tmp_path: Path) -> None:
    path = written(tmp_path, cascade(in_process(), endpoint(upstream.base_url, "x")))
    done = cli("serve", path, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "without keys" in done.stderr


@pytest.mark.parametrize("content", ["", "[[cascade]]\n", "nonsense", "\xff", "[gateway]\n", "cascade = 3\n"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text(content, encoding="latin-1")
    for command in ("serve", "doctor", "mode"):
        done = cli(command, str(path))
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert done.stderr.startswith("bisupervised: ")
        assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = cli("serve", str(tmp_path / "nowhere.toml"))
    assert (done.returncode, "nowhere.toml" in done.stderr) == (2, True)


# ---------------------------------------------------------------- mode


def test_mode_shows_what_holds(upstream: FaultyUpstream, tmp_path: Path) -> None:
    large = endpoint(upstream.base_url, "large")
    path = written(tmp_path, cascade(in_process(), large), cascade(in_process(), large, "another", mode="observe"))
    DecisionLog(tmp_path / "decisions.db").close()
    shown = json.loads(cli("mode", path, "--json").stdout)
    assert {name: one["mode"] for name, one in shown["cascades"].items()} == {
        "assistant": "enforce",
        "another": "observe",
    }
    done = cli("mode", path, "another", "enforce", "--share", "0.05", "--share-by", "key", "--note", "a start")
    assert done.returncode == 0
    assert "enforce for 5% of requests, by key" in done.stdout
    assert "a start" in done.stdout
    for wrong in (("another", "enforce", "--share", "5"), ("--roll-back", "99"), ("another", "sometimes")):
        assert cli("mode", path, *wrong).returncode == 2
    assert json.loads(cli("mode", path, "--json").stdout)["cascades"]["another"]["share"] == 0.05


def test_mode_needs_no_secret(upstream: FaultyUpstream, tmp_path: Path) -> None:
    large = endpoint(upstream.base_url, "large", api_key="${REMOTE_API_KEY}")
    path = written(tmp_path, cascade(in_process(), large))
    DecisionLog(tmp_path / "decisions.db").close()
    done = cli("mode", path, "--json")
    assert done.returncode == 0
    assert SECRET not in done.stdout


def test_the_mode_command_needs_no_secret_no_cascades_name_and_takes_no_typing_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REMOTE_API_KEY", raising=False)
    path = tmp_path / "cascade.toml"
    assert main(["init", str(path)]) == 0
    assert main(["mode", str(path), "--kill-switch", "on"]) == 2
    assert "there is no decision log" in capsys.readouterr().err  # and it makes none, beside a copy of the file
    DecisionLog(tmp_path / "decisions.db").close()
    assert main(["mode", str(path), "--kill-switch", "on"]) == 0
    assert main(["mode", str(path), "enforce", "--share", "0.25"]) == 0
    capsys.readouterr()
    assert main(["mode", str(path), "enforc", "--kill-switch", "off"]) == 2
    assert "'enforc' is no cascade and mode" in capsys.readouterr().err
    assert main(["mode", str(path), "observe", "--share", "0.5"]) == 2
    assert "give enforce with it" in capsys.readouterr().err
    assert main(["mode", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kill_switch"] is True  # what came with the typing mistake was not done
    assert (shown["cascades"]["assistant"]["mode"], shown["cascades"]["assistant"]["share"]) == ("enforce", 0.25)
