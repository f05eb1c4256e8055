import math

import pytest

from bisupervised.errors import ConfigError, InputError
from bisupervised.studies.demo_prompt import messages_of, tokens_in
from bisupervised.studies.demo_settings import DemoSettings, estimate

ENDPOINT = {"remote_url": "http://127.0.0.1:9/v1", "remote_model": "some-model"}


def test_the_rows_are_split_between_calibration_and_test():
    settings = DemoSettings(rows=101)
    assert settings.calibration_rows + settings.test_rows == settings.asked_rows == 101
    assert DemoSettings().asked_rows == 8_000


def test_an_endpoint_is_asked_about_fewer_rows_by_default():
    assert DemoSettings(**ENDPOINT).asked_rows == 600


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"remote_url": "http://127.0.0.1:9/v1"}, ConfigError, "together"),
        ({"remote_model": "some-model"}, ConfigError, "together"),
        ({"remote_key_env": "SOME_KEY"}, ConfigError, "needs none"),
        ({"remote_prompt_price": 1.0, "remote_completion_price": 1.0}, ConfigError, "illustrative"),
        ({**ENDPOINT, "remote_prompt_price": 1.0}, ConfigError, "together"),
        ({"rows": 3}, InputError, "at least 60"),
        ({"calibration_share": 1.0}, InputError, "between 0 and 1"),
        ({"concurrency": 0}, InputError, "at least 1"),
        ({"delay_s": -1.0}, InputError, "0 or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        DemoSettings(**given)


def test_the_key_is_that_of_openai_if_it_is_set_and_only_for_an_endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    assert DemoSettings().key_env is None
    assert DemoSettings(**ENDPOINT).key_env == "OPENAI_API_KEY"
    assert DemoSettings(**ENDPOINT, remote_key_env="OTHER").key_env == "OTHER"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert DemoSettings(**ENDPOINT).key_env is None


def test_the_estimate_counts_every_call_and_prices_its_tokens(parts):
    settings = DemoSettings(rows=200, **ENDPOINT, remote_prompt_price=2.0, remote_completion_price=10.0)
    cost = estimate(settings, parts)
    texts = [parts.train.texts[0], *parts.calibration.texts, *parts.test.texts]
    assert cost.calls == 201
    assert cost.prompt_tokens == sum(tokens_in(messages_of(text)) for text in texts)
    assert cost.completion_tokens == 3 * 201
    assert cost.cost == pytest.approx((cost.prompt_tokens * 2.0 + cost.completion_tokens * 10.0) / 1e6)
    assert cost.real_money


def test_without_prices_the_cost_of_an_endpoint_is_not_known(parts):
    cost = estimate(DemoSettings(rows=200, **ENDPOINT), parts)
    assert math.isnan(cost.cost)
    assert cost.prompt_tokens > 0


def test_the_demos_own_model_costs_no_real_money(parts):
    assert not estimate(DemoSettings(rows=200), parts).real_money
