"""A user's own model in a study's place: what it is asked, what that will cost, and where its answers are kept."""

import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from bisupervised.errors import ConfigError, InputError
from bisupervised.portal import Portal
from bisupervised.records import Evidence
from bisupervised.studies.live.own_remote import OwnModels, classes_of, estimate, is_loopback, with_own_models
from bisupervised.studies.live.prices import Prices
from bisupervised.studies.live.prompts import MAX_CHARACTERS, PROMPTS
from bisupervised.studies.live.recording import record_study
from studies.answering import answering
from studies.live import fake_study
from studies.live.fake_study import Local, Remote, reply, silent

PRICES = Prices.load()
URL = "https://api.example.com/v1"


def asked_once(study):
    portal = Portal()
    try:
        with study.remote() as running:
            answer = portal.run(running.model.predict([study.inputs[0]]))
            portal.run(running.model.aclose())
            return running, answer
    finally:
        portal.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"remote_url": URL}, "--remote-model"),
        ({"remote_model": "a"}, "--remote-url or --remote-v2"),
        ({"remote_url": URL, "remote_v2": URL, "remote_model": "a"}, "name one remote model"),
        ({"remote_url": "api.example.com", "remote_model": "a"}, "http://"),
        ({"remote_key_env": "KEY"}, "--remote-key-env"),
        ({"remote_url": URL, "remote_model": "a", "prompt_price": 1.0}, "together"),
        ({"prompt_price": 1.0, "completion_price": 1.0}, "--remote-url"),
        (
            {"remote_url": URL, "remote_model": "a", "prompt_price": -1.0, "completion_price": 1.0},
            "price is",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, words):
    with pytest.raises((ConfigError, InputError), match=words):
        OwnModels(**given)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:80", True),
        ("http://localhost:8080/v1", True),
        ("http://127.0.0.1.example.com", False),
        ("https://10.0.0.1", False),
        ("https://api.example.com/v1", False),
    ],
)
def test_only_this_machine_is_loopback(url, here):
    assert is_loopback(url) is here


def test_a_classifier_of_words_has_the_probabilities_of_the_classes_words():
    study = fake_study.fake_study(URL, 3)
    with answering(200, reply(0.3)) as url:
        own = OwnModels(remote_url=url, remote_model="mini", prompt_price=10.0, completion_price=100.0)
        running, output = asked_once(with_own_models(study, own, PRICES))
    # The imdb prompt knows positive and negative; this server says Yes: unreadable, and paid for all the same.
    assert running.model.name == "mini"
    assert Evidence.PROBABILITIES in running.model.provides
    assert output.failures[0].kind == "unreadable"
    assert np.isnan(output.probabilities).all()
    assert output.cost[0] == pytest.approx((12 * 10 + 100) / 1e6)
    said = reply(0.3)
    entry = said["choices"][0]["logprobs"]["content"][0]
    entry |= {"token": "Positive", "logprob": math.log(0.6)}
    entry["top_logprobs"] = [
        {"token": token, "logprob": math.log(p)} for token, p in (("Positive", 0.6), (" negative", 0.2), ("The", 0.1))
    ]
    said["choices"][0]["message"]["content"] = "Positive."
    with answering(200, said) as url:
        own = OwnModels(remote_url=url, remote_model="mini")
        _, output = asked_once(with_own_models(study, own, PRICES))
    assert output.predictions.tolist() == [1]
    assert output.classes.tolist() == [0, 1]
    assert output.probabilities == pytest.approx(np.array([[0.25, 0.75]]))


def test_a_prompt_names_the_classes_and_holds_the_text_cut_where_it_is_too_long():
    system, user = PROMPTS["issues"].messages({"title": "It breaks", "body": "x" * 100_000})
    assert "bug, feature or question" in system["content"]
    assert user["content"].startswith("It breaks\n\nxxx")
    assert len(user["content"]) == MAX_CHARACTERS
    assert PROMPTS["issues"].read_label("Feature request") == "feature"


def test_the_estimate_counts_what_is_left_and_asks_for_consent_only_where_money_is_spent(tmp_path):
    remote = Remote()
    with remote.serving() as url:
        study = fake_study.fake_study(url, 20)
        own = OwnModels(remote_url=URL, remote_model="gpt-x", prompt_price=1e6, completion_price=0.0)
        cost = estimate(study, own, tmp_path, PRICES)
        assert cost.calls == 20
        assert cost.cost == cost.prompt_tokens > 20 * 20
        assert cost.needs_consent
        record_study(study, tmp_path, progress=silent, kept_as=own.kept_as)  # as if its answers were that model's
    assert (tmp_path / "imdb" / "remote-gpt-x").is_dir()
    done = estimate(study, own, tmp_path, PRICES)
    assert done.calls == 0
    assert not done.needs_consent
    assert "nothing is asked" in str(done)
    assert estimate(study, own, tmp_path, PRICES, fresh=True).calls == 20
    free = OwnModels(remote_url=URL, remote_model="free", prompt_price=0.0, completion_price=0.0)
    assert not estimate(study, free, tmp_path, PRICES).needs_consent
    unknown = estimate(study, OwnModels(remote_url=URL, remote_model="who"), tmp_path, PRICES)
    assert math.isnan(unknown.cost)
    assert unknown.needs_consent
    assert "not known" in str(unknown)
    here = OwnModels(remote_url="http://localhost:1/v1", remote_model="who")
    assert not estimate(study, here, tmp_path, PRICES).needs_consent
    assert estimate(study, OwnModels(), tmp_path, PRICES) is None


def test_a_model_of_the_price_list_has_its_price():
    listed = OwnModels(remote_url=URL, remote_model=PRICES.large.model).price(PRICES)
    assert listed == PRICES.large
    assert OwnModels(remote_url=URL, remote_model="who").price(PRICES) is None
    assert OwnModels(remote_hub="a/b").price(PRICES) is None


def test_what_a_study_cannot_be_asked_is_said_before_anything_is_asked():
    pictures = fake_study.fake_study(URL, 3, name="imagenet")
    with pytest.raises(ConfigError, match="--remote-v2"):
        with_own_models(pictures, OwnModels(remote_url=URL, remote_model="a"), PRICES)
    questions = fake_study.fake_study(URL, 3, name="squadv2", labels=None)
    with pytest.raises(ConfigError, match="--remote-url"):
        with_own_models(questions, OwnModels(remote_v2=URL, remote_model="a"), PRICES)


def test_a_v2_endpoint_is_asked_with_texts_and_its_columns_are_the_classes():
    said = {
        "model_name": "mine",
        "outputs": [{"name": "probabilities", "shape": [1, 2], "datatype": "FP32", "data": [0.2, 0.8]}],
    }
    study = fake_study.fake_study(URL, 3, inputs=["a", "b", "c"], labels=[0, 1, 1])
    assert classes_of(study) == [0, 1]
    with answering(200, said) as url:
        own = OwnModels(remote_v2=url.removesuffix("/v1"), remote_model="mine")
        _, output = asked_once(with_own_models(study, own, PRICES))
    assert output.predictions.tolist() == [1]
    assert output.probabilities == pytest.approx(np.array([[0.2, 0.8]]))


def test_a_model_of_the_hub_is_loaded_when_it_is_asked_and_reads_texts(monkeypatch):
    loaded = []

    def load(name):
        loaded.append(name)
        return Local()

    module = ModuleType("bisupervised.models.hugging_face")
    module.HuggingFaceModel = SimpleNamespace(load=load)
    monkeypatch.setitem(sys.modules, "bisupervised.models.hugging_face", module)
    own = OwnModels(remote_hub="someone/large", local_hub="someone/small")
    assert own.kept_as == {"local": "local-someone-small", "remote": "remote-someone-large"}
    study = fake_study.fake_study(URL, 3, truncated={"local": np.ones(3, bool), "remote": np.ones(3, bool)})
    study = with_own_models(study, own, PRICES)
    assert loaded == []
    assert all(np.isnan(study.truncated[level]).all() for level in ("local", "remote"))  # of another model: not known
    with study.local() as running:
        assert running.model.predict([2.0]).predictions.tolist() == [1]
        assert running.cpu_s() >= 0.0
    assert loaded == ["someone/small"]
