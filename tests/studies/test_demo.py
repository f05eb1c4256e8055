import math
import socket
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from bisupervised.calibration import RequestBudget
from bisupervised.errors import (
    BiSupervisedError,
    ConfigError,
    EvidenceError,
    ModelError,
    ModelStatusError,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.records import Route
from bisupervised.studies import demo
from bisupervised.studies.demo import DemoSettings, check_routes, prepare_reviews, run_demo
from bisupervised.studies.demo_settings import estimate
from bisupervised.table import Table
from studies.answering import answering

SMALL = {"rows": 200, "calibration_share": 0.5, "train_rows": 600, "target": RequestBudget(0.5)}


class Watched:
    """An `on_stage` that remembers the stages and how far they came."""

    def __init__(self):
        self.steps, self.done = {}, {}

    @contextmanager
    def __call__(self, stage, steps):
        self.steps[stage], self.done[stage] = steps, 0

        def advance(k):
            self.done[stage] += k

        yield advance


@pytest.fixture(scope="module")
def watched():
    return Watched()


@pytest.fixture(scope="module")
def result(watched):
    return run_demo(DemoSettings(**SMALL, delay_s=0.005), on_stage=watched)


def test_the_demo_compares_the_three_systems(result):
    systems = result.assessment.evaluation.systems
    assert {"local_only", "remote_only", "bisupervised"} <= set(systems)
    for figures in systems.values():
        for estimate_ in (figures.system_accuracy, figures.coverage, figures.request_rate, figures.cost_per_input):
            assert estimate_.low <= estimate_.value <= estimate_.high
        assert figures.latency.p50.value > 0.0
    assert systems["remote_only"].latency.p50.value > 0.005 > systems["local_only"].latency.p50.value
    assert systems["bisupervised"].request_rate.value == pytest.approx(0.5, abs=0.2)
    assert result.assessment.evaluation.curves is not None


def test_the_live_run_decided_as_the_evaluation_does(result):
    assert sum(result.routes.values()) == len(result.live) == 100
    assert list(result.table.extra["route"]) == [Route(route).label for route in result.live.routes]
    assert result.live.request_rate == result.assessment.evaluation.systems["bisupervised"].request_rate.value


def test_a_route_that_differs_is_not_passed_over(result):
    other = replace(result.thresholds, local=math.inf)
    with pytest.raises(BiSupervisedError, match="another route"):
        check_routes(result.table, result.live, other)


def test_no_row_is_paid_twice(result):
    calls = {spend.purpose: spend.calls for spend in result.spent}
    assert calls["live run"] + calls["remote-only baseline"] == 100
    assert calls["live run"] == round(result.live.request_rate * 100)
    assert calls["calibration"] == 100
    assert sum(calls.values()) == estimate(DemoSettings(**SMALL), prepare_reviews(DemoSettings(**SMALL))).calls
    assert all(spend.cost > 0.0 for spend in result.spent)


def test_the_estimate_was_right(result):
    settings = DemoSettings(**SMALL)
    expected = estimate(settings, prepare_reviews(settings)).cost
    assert sum(spend.cost for spend in result.spent) == pytest.approx(expected)


def test_the_table_holds_both_models_answers_to_every_test_row(result, parts):
    assert result.table.complete.all()
    assert set(result.table.ids) == set(parts.test.ids)
    asked = result.live.remote.asked
    assert (result.table.remote.confidences[asked] == result.live.remote.confidences[asked]).all()
    again = Table.from_columns(result.table.to_columns())
    assert np.array_equal(again.remote.confidences, result.table.remote.confidences)
    assert np.array_equal(again.correct("remote"), result.table.correct("remote"))


def test_the_baselines_answers_stand_in_their_own_rows(result, trained):
    settings = DemoSettings(**SMALL)
    text_of = dict(zip(prepare_reviews(settings).test.ids, prepare_reviews(settings).test.texts, strict=True))
    for id_, confidence in zip(result.table.ids, result.table.remote.confidences, strict=True):
        positive = trained.probability(text_of[id_])
        assert confidence == pytest.approx(max(positive, 1.0 - positive), abs=1e-5)


def test_progress_reaches_the_end_of_every_counted_stage(result, watched):
    assert {stage: done for stage, done in watched.done.items() if watched.steps[stage] is not None} == {
        stage: steps for stage, steps in watched.steps.items() if steps is not None
    }
    assert set(result.seconds) == set(watched.steps)


def test_the_result_says_what_it_is_made_of(result):
    assert result.sizes == {"train": 600, "calibration": 100, "test": 100, "repeated": 99}
    assert result.delay_s == 0.005
    assert "Maas" in result.citation
    assert "illustrative" in result.price_note


@pytest.mark.parametrize("threshold", [-math.inf, math.inf], ids=["all trusted", "all deferred"])
def test_a_system_that_trusts_all_or_nothing_locally_is_measured_too(parts, server_url, monkeypatch, threshold):
    real = demo.calibrate
    monkeypatch.setattr(demo, "calibrate", lambda *a, **k: replace(real(*a, **k), local=threshold))
    outcome = run_demo(endpoint(server_url), parts=parts)
    assert outcome.table.complete.all()


# ---------------------------------------------------------------- any endpoint


def endpoint(url, **given):
    return DemoSettings(**{**SMALL, "remote_url": url, "remote_model": "a-model", **given})


def test_any_openai_compatible_endpoint_takes_the_remote_models_place(parts, server_url):
    outcome = run_demo(endpoint(server_url, remote_prompt_price=1.0, remote_completion_price=2.0), parts=parts)
    assert outcome.remote_name == "a-model"
    assert outcome.delay_s is None
    assert outcome.table.complete.all()
    assert sum(spend.cost for spend in outcome.spent) > 0.0


def test_without_prices_no_cost_is_invented(parts, server_url):
    outcome = run_demo(endpoint(server_url), parts=parts)
    assert all(math.isnan(spend.cost) for spend in outcome.spent)
    assert math.isnan(outcome.assessment.evaluation.systems["remote_only"].cost_per_input.value)


def test_a_key_variable_that_is_not_set_is_named(parts, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        run_demo(endpoint("http://127.0.0.1:9/v1", remote_key_env="NO_SUCH_KEY"), parts=parts)


def test_an_endpoint_that_is_not_there_is_reported_with_advice(parts):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelUnreachable, match=r"Is the server running.*/v1"):
        run_demo(endpoint(f"http://127.0.0.1:{port}/v1"), parts=parts)


def test_a_wrong_path_and_a_refused_key_are_reported_with_advice_and_the_key_is_not_shown(parts, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret-key-1234")
    with answering(404, {"error": "no such path"}) as url, pytest.raises(ModelStatusError, match="up to /v1"):
        run_demo(endpoint(url), parts=parts)
    with (
        answering(401, {"error": "bad key secret-key-1234"}) as url,
        pytest.raises(ModelStatusError, match="--remote-key-env") as raised,
    ):
        run_demo(endpoint(url, remote_key_env="SOME_KEY"), parts=parts)
    assert "secret-key-1234" not in str(raised.value)


def completion(content, logprobs=None):
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}]}


def test_an_endpoint_without_alternatives_is_refused_after_one_request(parts):
    with answering(200, completion("Positive")) as url, pytest.raises(EvidenceError, match="top_logprobs"):
        run_demo(endpoint(url), parts=parts)


def test_a_model_that_answers_something_else_is_refused_after_one_request(parts):
    token = {"token": "Well", "logprob": -0.1, "top_logprobs": [{"token": "Well", "logprob": -0.1}]}
    with (
        answering(200, completion("Well, it depends", {"content": [token]})) as url,
        pytest.raises(ReplyUnreadable, match="follows instructions"),
    ):
        run_demo(endpoint(url), parts=parts)


def test_an_endpoint_that_fails_for_most_rows_stops_the_demo_at_calibration(parts):
    token = {"token": "Positive", "logprob": -0.1, "top_logprobs": [{"token": "Positive", "logprob": -0.1}]}
    fine = completion("Positive", {"content": [token]})
    with (
        answering(200, fine, then=(400, {"error": "no more"})) as url,
        pytest.raises(ModelError, match="100 of 100 requests"),
    ):
        run_demo(endpoint(url), parts=parts)
