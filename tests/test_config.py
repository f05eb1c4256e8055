"""cascade.toml -> running systems, and everything wrong with one said at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bisupervised.config import load_config
from bisupervised.errors import ConfigError, PredictionRejected
from bisupervised.records import Route

MODELS = """
def local(texts):
    return [[0.95, 0.05] if "good" in text else [0.6, 0.4] for text in texts]

def remote(texts):
    return [[0.02, 0.98] if "bad" in text else [0.5, 0.5] for text in texts]
"""

CONFIG = """
[[cascade]]
name = "reviews"
thresholds = { local = 0.9, remote = 0.8 }

[cascade.local]
model = "function"
function = "%(module)s:local"
classes = ["positive", "negative"]

[cascade.remote]
model = "function"
function = "%(module)s:remote"
classes = ["positive", "negative"]
cost_per_input = 0.002
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # A module of its own name for each test: Python imports a name once.
    (tmp_path / f"models_{tmp_path.name}.py").write_text(MODELS)
    return tmp_path


def write(folder: Path, more: str = "", text: str = CONFIG) -> Path:
    path = folder / "cascade.toml"
    path.write_text(text % {"module": f"models_{folder.name}"} + more)
    return path


def test_a_file_becomes_a_running_system(folder: Path) -> None:
    [one] = load_config(write(folder))
    good, bad = one.system.predict("good film"), one.system.predict("bad film")
    assert (good.answer, good.route, good.cost) == ("positive", Route.LOCAL, 0.0)
    assert (bad.answer, bad.route, bad.cost) == ("negative", Route.REMOTE, 0.002)
    with pytest.raises(PredictionRejected):
        one.system.predict("so so")
    one.close()


def test_a_default_answer_and_a_log_are_built(folder: Path) -> None:
    more = '[cascade.fallback]\nkind = "default"\nanswer = "unknown"\n[cascade.log]\npath = "log.db"\n'
    [one] = load_config(write(folder, more))
    assert one.system.predict("so so").answer == "unknown"
    one.close()
    from bisupervised import read_table

    table = read_table(folder / "log.db")
    assert table.extra["answer"].tolist() == ["unknown"]


def test_a_queue_fallback_keeps_the_input(folder: Path) -> None:
    more = '[cascade.fallback]\nkind = "queue"\npath = "pending.db"\n'
    [one] = load_config(write(folder, more))
    assert one.system.predict("so so").fallback == "queue"
    waiting = one.system.fallback.queue.waiting()  # type: ignore[attr-defined]
    assert [item.x for item in waiting] == ["so so"]
    one.close()


def test_every_problem_is_said_at_once(folder: Path) -> None:
    text = """
[[cascade]]
name = "a"
thresholds = "absent.toml"
colour = "red"
[cascade.local]
model = "crystal ball"
[cascade.remote]
model = "openai"
base_url = "http://127.0.0.1:1/v1"
quantifier = "wishful"
[cascade.fallback]
kind = "default"

[[cascade]]
thresholds = { local = 1, remote = nan }
"""
    with pytest.raises(ConfigError) as error:
        load_config(write(folder, text=text))
    for words in (
        "unknown colour",
        "there is no thresholds file",
        "model is one of",
        "model_name is missing",
        "no quantifier is called 'wishful'",
        "answer is missing",
        "every [[cascade]] needs a name",
        "NaN",
        "the section is missing",
    ):
        assert words in str(error.value)


def test_a_secret_comes_from_the_environment_and_its_absence_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG.replace('"%(module)s:remote"', '"%(module)s:${WHICH}"')
    monkeypatch.delenv("WHICH", raising=False)
    with pytest.raises(ConfigError, match="environment variable WHICH is not set"):
        load_config(write(folder, text=text))
    monkeypatch.setenv("WHICH", "remote")
    [one] = load_config(write(folder, text=text))
    assert one.system.predict("bad").route is Route.REMOTE
    one.close()


def test_a_missing_file_and_a_missing_function_are_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(folder / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_config(write(folder, text=CONFIG.replace(":remote", ":absent")))
    with pytest.raises(ConfigError, match="not a readable TOML file"):
        load_config(write(folder, text="[[cascade"))
    with pytest.raises(ConfigError, match="no \\[\\[cascade\\]\\] section"):
        load_config(write(folder, text=""))


def test_a_supervisor_that_needs_what_the_model_does_not_give_is_refused(folder: Path) -> None:
    text = CONFIG.replace(
        'model = "function"\nfunction = "%(module)s:remote"\nclasses = ["positive", "negative"]',
        'model = "http_json"\nurl = "http://127.0.0.1:1/"\nprovides = ["confidence"]',
    )
    with pytest.raises(ConfigError, match="max_softmax needs probabilities"):
        load_config(write(folder, text=text))


def test_a_cost_that_nobody_gave_is_zero_at_hand_and_not_known_behind_a_network(folder: Path) -> None:
    [one] = load_config(write(folder, text=CONFIG.replace("cost_per_input = 0.002\n", "")))
    assert one.system.predict("good").cost == 0.0
    assert math.isnan(one.system.predict("bad").cost)
    one.close()


SAMPLING = """
[[cascade]]
name = "words"
thresholds = { local = -0.5, remote = 0.5 }

[cascade.local]
model = "openai"
base_url = "http://localhost:1/v1"
model_name = "small"
quantifier = "semantic_entropy"
samples = 7
sample_temperature = 0.8
equivalence = "%(module)s:alike"
weighted = true

[cascade.remote]
model = "openai"
base_url = "http://localhost:2/v1"
model_name = "large"
quantifier = "p_true"
verification_prompt = "{question} {answer}?"
"""


def test_a_quantifier_s_further_calls_are_its_model_s(folder: Path) -> None:
    (folder / f"models_{folder.name}.py").write_text("def alike(a, b):\n    return a[0] == b[0]\n")
    [one] = load_config(write(folder, text=SAMPLING))
    local, remote = one.system.local, one.system.remote
    entropy = local.supervisor.quantifier
    assert (entropy.samples, entropy.weighted, entropy.equivalent("ab", "ac")) == (7, True, True)
    assert (local.model.extra_calls.samples, local.model.extra_calls.sample_temperature) == (7, 0.8)
    assert remote.model.extra_calls.self_verification
    assert remote.model.extra_calls.verification_prompt == "{question} {answer}?"
    one.close()


def test_what_is_wrong_with_a_quantifier_is_said_once(folder: Path) -> None:
    wrong = SAMPLING.replace("samples = 7", "samples = 0").replace('quantifier = "p_true"', 'quantifier = "p_false"')
    with pytest.raises(ConfigError) as raised:
        load_config(write(folder, text=wrong))
    assert str(raised.value).count("samples is how many") == 1
    assert str(raised.value).count("p_false") == 1
