"""cascade.toml -> running systems, and everything wrong with one said at once."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.config import load_config
from bisupervised.errors import ConfigError, PredictionRejected
from bisupervised.probability_calibration import IsotonicCalibration
from bisupervised.probability_calibration_file import save_confidence_calibration
from bisupervised.quantifiers import (
    Energy,
    Gen,
    Mahalanobis,
    MaxLogit,
    RenyiEntropy,
    SoftmaxEntropy,
    TokenEntropy,
    VerbalisedConfidence,
    save_quantifier,
)
from bisupervised.records import Evidence, ModelOutput, Route

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


# ---------------------------------------------------------------- quantifiers with settings, and what was fitted

FEATURES = """
import numpy as np
from bisupervised import ModelOutput

def local(texts):
    p = np.array([[0.95, 0.05] if "good" in text else [0.6, 0.4] for text in texts])
    features = np.array([[float(len(text)), 1.0] for text in texts])
    labels = np.array(["positive", "negative"])
    return ModelOutput(labels[p.argmax(axis=1)], probabilities=p, logits=np.log(p), features=features, classes=labels)

def remote(texts):
    return [[0.02, 0.98] if "bad" in text else [0.5, 0.5] for text in texts]

def other(texts):
    return [[0.1, 0.9] for text in texts]

def forget(features):
    return features * 0.0

def alike(a, b):
    return 1.0 if a == b else 0.0
"""


def with_quantifier(folder: Path, setting: str, more: str = "") -> Path:
    (folder / f"models_{folder.name}.py").write_text(FEATURES)
    text = CONFIG.replace(
        'function = "%(module)s:local"\n', f'function = "%(module)s:local"\nquantifier = {setting}\n{more}'
    )
    return write(folder, text=text)


def quantifier_in(path: Path, level: str = "local") -> Any:
    [one] = load_config(path)
    one.close()
    return getattr(one.system, level).supervisor.quantifier


@pytest.mark.parametrize(
    ("setting", "quantifier"),
    [
        ('"max_logit"', MaxLogit()),
        ('{ name = "gen", gamma = 0.5, largest = 2 }', Gen(0.5, 2)),
        ('{ name = "energy", temperature = 2.5 }', Energy(2.5)),
        ('{ name = "renyi_entropy", alpha = 0.5 }', RenyiEntropy(0.5)),
        ('{ name = "softmax_entropy" }', SoftmaxEntropy()),
    ],
)
def test_a_quantifier_is_named_alone_or_in_a_table_with_its_settings(
    folder: Path, setting: str, quantifier: Any
) -> None:
    assert quantifier_in(with_quantifier(folder, setting)) == quantifier


def test_a_function_reconstructs_the_features(folder: Path) -> None:
    for setting, more in (
        ('"reconstruction"', 'reconstruct = "%(module)s:forget"\n'),
        ('{ name = "reconstruction", reconstruct = "%(module)s:forget" }', ""),
    ):
        path = with_quantifier(folder, setting, more)
        [one] = load_config(path)
        assert one.system.predict("bad").local_confidence == -(3.0**2 + 1.0) / 2
        one.close()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('{ name = "gen", gama = 0.5 }', "gen takes no gama; its settings: gamma, largest"),
        ('{ name = "max_softmax", gamma = 0.5 }', "max_softmax takes no gamma; its settings: none"),
        ('{ name = "gen", gamma = -1.0 }', "gen: "),
        ("{ gamma = 0.5 }", "a quantifier with settings is a table with its name"),
        ('{ name = "lost.npz" }', "there is no file"),
        ('{ name = "lost.npz", k = 3 }', "holds its settings: it takes no k"),
        ('"mahalanobis"', "mahalanobis is fitted on training rows: fit it, save it, and name its file"),
        ('{ name = "reconstruction", alpha = 1 }', "reconstruction takes no alpha"),
        ('"reconstruction"', "reconstruct names a function"),
        ('{ name = "token_entropy_max", aggregate = "mean" }', "takes no aggregate; its settings: tail"),
        ('{ name = "cocoa", unlikely = "never" }', "unlikely is one of"),
    ],
)
def test_a_setting_that_is_none_is_said(folder: Path, setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_config(with_quantifier(folder, setting))


def openai_local(folder: Path, quantifier: str) -> Any:
    text = SAMPLING.replace('quantifier = "semantic_entropy"\n', f"quantifier = {quantifier}\n")
    for line in ("samples = 7\n", "weighted = true\n", 'equivalence = "%(module)s:alike"\n'):
        text = text.replace(line, "")
    (folder / f"models_{folder.name}.py").write_text(FEATURES)
    [one] = load_config(write(folder, text=text))
    one.close()
    return one.system.local


def test_a_language_model_is_asked_for_what_its_quantifier_reads(folder: Path) -> None:
    cocoa = openai_local(
        folder, '{ name = "cocoa", samples = 3, unlikely = "entropy", similarity = "%(module)s:alike" }'
    )
    quantifier = cocoa.supervisor.quantifier
    assert (quantifier.samples, quantifier.unlikely, quantifier.similarity("a", "a")) == (3, "entropy", 1.0)
    assert cocoa.model.extra_calls.samples == 3
    assert Evidence.TOKEN_ALTERNATIVES in cocoa.model.provides
    entropy = openai_local(folder, '{ name = "token_entropy_max", tail = false }')
    assert entropy.supervisor.quantifier == TokenEntropy("max", tail=False)
    assert Evidence.TOKEN_ALTERNATIVES in entropy.model.provides
    verbalised = openai_local(folder, '{ name = "verbalised_confidence", scale = "percent" }')
    assert verbalised.supervisor.quantifier == VerbalisedConfidence("percent")
    consistent = openai_local(folder, '{ name = "self_consistency", samples = 4, equivalence = "exact" }')
    assert consistent.model.extra_calls.samples == 4


def fitted_file(folder: Path, level: str = "local") -> None:
    rng = np.random.default_rng(0)
    output = ModelOutput(np.array(["positive", "negative"] * 50), features=rng.normal((8.0, 1.0), size=(100, 2)))
    save_quantifier(Mahalanobis.fit(output), folder / "local.npz", level=level)


def test_a_fitted_quantifier_comes_from_its_file(folder: Path) -> None:
    fitted_file(folder)
    path = with_quantifier(folder, '"local.npz"')
    [one] = load_config(path)
    assert isinstance(one.system.local.supervisor.quantifier, Mahalanobis)
    near, far = one.system.predict_many(["good one", "good " * 40])
    assert near.local_confidence > far.local_confidence
    one.close()


def test_what_was_fitted_on_the_other_level_is_refused(folder: Path) -> None:
    fitted_file(folder, level="remote")
    calibration = IsotonicCalibration(np.array([0.0, 0.9]), np.array([0.25, 0.75]))
    save_confidence_calibration(calibration, folder / "local.json", level="remote")
    said = "was fitted on rows of the remote model, and is given for the local one"
    with pytest.raises(ConfigError, match=rf"cascade 'reviews', local: .*local\.npz {said}"):
        load_config(with_quantifier(folder, '"local.npz"'))
    path = with_quantifier(folder, '"max_softmax"', 'confidence_calibration = "local.json"\n')
    with pytest.raises(ConfigError, match=rf"cascade 'reviews', local: .*local\.json {said}"):
        load_config(path)
    save_confidence_calibration(calibration, folder / "local.json", level="local")
    [one] = load_config(path)
    one.close()


def test_a_fitted_quantifier_whose_model_gives_no_features_is_refused(folder: Path) -> None:
    fitted_file(folder)
    path = with_quantifier(folder, '"local.npz"')
    path.write_text(
        path.read_text().replace(f'model = "function"\nfunction = "models_{folder.name}:local"', HTTP_LOCAL)
    )
    with pytest.raises(ConfigError, match=r"mahalanobis needs features, and the model 127\.0\.0\.1 gives confidence"):
        load_config(path)


def test_a_function_that_says_what_it_gives_is_held_to_it(folder: Path) -> None:
    fitted_file(folder)
    path = with_quantifier(folder, '"local.npz"', 'provides = ["probabilities"]\n')
    with pytest.raises(ConfigError, match=r"mahalanobis needs features, and the model .* gives probabilities"):
        load_config(path)
    with pytest.raises(ConfigError, match="provides: there is no evidence embeddings; there is: probabilities, "):
        load_config(with_quantifier(folder, '"local.npz"', 'provides = ["embeddings"]\n'))


HTTP_LOCAL = 'model = "http_json"\nurl = "http://127.0.0.1:1/"'


def test_confidences_are_calibrated_by_a_file(folder: Path) -> None:
    calibration = IsotonicCalibration(np.array([0.0, 0.9]), np.array([0.25, 0.75]))
    save_confidence_calibration(calibration, folder / "local.json")
    path = with_quantifier(folder, '"max_softmax"', 'confidence_calibration = "local.json"\n')
    [one] = load_config(path)
    assert one.system.local.supervisor.confidence_calibration.values.tolist() == [0.25, 0.75]
    outcome = one.system.predict("bad film")
    assert (outcome.local_confidence, outcome.route) == (0.25, Route.REMOTE)
    one.close()
    (folder / "local.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no confidence calibration"):
        load_config(path)


def onnx_file(folder: Path) -> None:
    from onnx import TensorProto, helper, save

    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    named = ("pooled", "logits", "probabilities")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in named]
    nodes = [helper.make_node("Mul", ["x", "two"], ["pooled"]), helper.make_node("Neg", ["pooled"], ["logits"])]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [two])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")


def test_a_graph_s_further_outputs_are_asked_for_by_name(folder: Path) -> None:
    pytest.importorskip("onnx")
    onnx_file(folder)
    local = 'model = "onnx"\npath = "m.onnx"\nlogits = "logits"\nfeatures = "pooled"\nquantifier = "local.npz"\n'
    fitted_file(folder)
    text = CONFIG.replace('model = "function"\nfunction = "%(module)s:local"\n', local)
    [one] = load_config(write(folder, text=text))
    one.close()
    model = one.system.local.model
    assert model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}
    output = model.predict([[4.0, 0.5]])
    assert (output.features.tolist(), output.logits.tolist()) == ([[8.0, 1.0]], [[-8.0, -1.0]])
    assert one.system.local.supervisor.confidences(output)[0] > -1.0


def test_a_model_is_asked_several_times_and_an_ensemble_once_each(folder: Path) -> None:
    path = with_quantifier(folder, '"mutual_information"', "passes = 5\n")
    [one] = load_config(path)
    output = one.system.local.model.predict(["good"])
    assert output.sampled_probabilities.shape == (1, 5, 2)
    assert one.system.local.supervisor.confidences(output).tolist() == [0.0], "all passes say the same"
    one.close()
    one_of = 'model = "function", function = "%(module)s'
    members = f'{{ {one_of}:local" }}, {{ {one_of}:other", classes = ["positive", "negative"] }}'
    text = CONFIG.replace(
        'model = "function"\nfunction = "%(module)s:local"\nclasses = ["positive", "negative"]\n',
        f'model = "ensemble"\nmembers = [{members}]\nquantifier = "variation_ratio"\n',
    )
    [one] = load_config(write(folder, text=text))
    output = one.system.local.model.predict(["good"])
    np.testing.assert_allclose(output.probabilities, [[0.525, 0.475]])
    assert one.system.local.supervisor.confidences(output).tolist() == [0.5]
    one.close()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("members = 3", "members is a list of tables"),
        ('members = [{ model = "magic" }]', "member 1: model is one of"),
        ('members = [{ model = "onnx", quantifier = "gen" }]', "member 1: unknown quantifier"),
        ("members = []", "at least one member"),
        ('members = [{ model = "http_json", url = "http://127.0.0.1:1/" }]', "127.0.0.1 does not"),
        ("passes = 0", "passes is how often the model is asked"),
    ],
)
def test_an_ensemble_that_is_none_is_said(folder: Path, setting: str, said: str) -> None:
    kind = "function" if "passes" in setting else "ensemble"
    function = 'function = "%(module)s:local"\nclasses = ["positive", "negative"]\n' if "passes" in setting else ""
    text = CONFIG.replace(
        'model = "function"\nfunction = "%(module)s:local"\nclasses = ["positive", "negative"]\n',
        f'model = "{kind}"\n{function}{setting}\n',
    )
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_config(write(folder, text=text))
