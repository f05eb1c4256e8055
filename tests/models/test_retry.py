from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from bisupervised.errors import (
    InputError,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.models import FunctionModel, HttpJsonModel, OpenAIModel, Retry, Timeout
from models.asking import ask, counted

QUICK = {"wait_initial_s": 0.001, "wait_jitter_s": 0.0}
LATER = pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])


def status(code: int, after: float | None = None) -> ModelStatusError:
    return ModelStatusError(f"answered {code}", status=code, retry_after_s=after)


PASSING = [ModelTimeout("t"), ModelUnreachable("u"), *map(status, (408, 409, 425, 429, 500, 502, 503, 504, 529))]
LASTING = [ReplyUnreadable("r"), ModelError("m"), ValueError("v"), *map(status, (301, 400, 401, 403, 404, 413, 422))]


@LATER
@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_may_pass_is_tried_again(error: Exception, later: bool) -> None:
    model, calls = counted([error, error], later=later)
    assert ask(Retry(model, **QUICK), ["a"]).predictions.tolist() == ["a"]
    assert calls == [["a"]] * 3


@LATER
@pytest.mark.parametrize("error", LASTING, ids=str)
def test_what_will_not_pass_is_raised_at_once(error: Exception, later: bool) -> None:
    model, calls = counted([error], later=later)
    with pytest.raises(type(error)):
        ask(Retry(model, **QUICK), ["a"])
    assert len(calls) == 1


@LATER
def test_the_last_error_is_raised_after_all_attempts(later: bool) -> None:
    model, calls = counted([status(500), status(502), status(503), status(504)], later=later)
    with pytest.raises(ModelStatusError, match="503"):
        ask(Retry(model, 3, **QUICK), ["a"])
    assert len(calls) == 3


@LATER
def test_the_time_an_endpoint_asks_for_is_waited(later: bool) -> None:
    model, _ = counted([status(429, 0.15)], later=later)
    start = time.perf_counter()
    ask(Retry(model, **QUICK), ["a"])
    assert 0.15 <= time.perf_counter() - start < 3.0


@LATER
def test_more_time_than_there_is_is_not_waited(later: bool) -> None:
    model, calls = counted([status(429, 4.0)], later=later)
    start = time.perf_counter()
    with pytest.raises(ModelStatusError, match="429"):
        ask(Retry(model, timeout_s=1.0, **QUICK), ["a"])
    assert time.perf_counter() - start < 3.0
    assert len(calls) == 1


def test_no_attempt_begins_after_the_time_is_up() -> None:
    model, calls = counted([ModelUnreachable("u")] * 100)
    with pytest.raises(ModelUnreachable):
        ask(Retry(model, 100, timeout_s=0.1, wait_initial_s=0.06, wait_jitter_s=0.0), ["a"])
    assert 2 <= len(calls) <= 4


@LATER
def test_latency_holds_the_failed_attempts_and_the_waits(later: bool) -> None:
    model, _ = counted([status(429, 0.1)], later=later, latency_s=0.5, cost=2.0)
    output = ask(Retry(model, **QUICK), ["a", "b"])
    assert 0.55 <= output.latency_s[0] < 2.0  # two inputs share the 0.1 s
    assert output.cost.tolist() == [2.0, 2.0]
    assert ask(Retry(counted(latency_s=0.5)[0]), ["a"]).latency_s.tolist() == [0.5]


def test_the_cost_is_not_known_after_an_attempt_that_may_have_been_charged() -> None:
    model, _ = counted([ModelTimeout("t"), status(500)], cost=2.0)
    assert np.isnan(ask(Retry(model, **QUICK), ["a"]).cost).all()


def test_a_server_that_recovers_is_asked_until_it_answers(server: Any) -> None:
    url = server.url("flaky")  # 500, then a reset connection, then an answer
    output = ask(Retry(HttpJsonModel(url), 3, **QUICK), ["good"])
    assert output.predictions.tolist() == ["positive"]
    assert server.count(url) == 3


def test_a_busy_server_is_asked_again_when_it_said(server: Any) -> None:
    url = server.url("busy", "")
    output = ask(Retry(OpenAIModel("m", url), **QUICK), ["good"])
    assert output.latency_s[0] >= 0.2
    assert server.count(url) == 2
    with pytest.raises(ModelStatusError) as caught:
        ask(Retry(HttpJsonModel(server.url("busyforever")), timeout_s=1.0), ["good"])
    assert caught.value.retry_after_s == 4.0


def test_each_attempt_has_its_own_timeout_inside(server: Any) -> None:
    url = server.url("stallonce")
    output = ask(Retry(Timeout(HttpJsonModel(url), 0.3), **QUICK), ["good"])
    assert output.predictions.tolist() == ["positive"]
    assert server.count(url) == 2


@pytest.mark.parametrize("behaviour", ["denied", "html", "cutjson", "truncated", "redirect"])
def test_a_reply_that_stays_wrong_is_asked_for_once(server: Any, behaviour: str) -> None:
    url = server.url(behaviour)
    with pytest.raises(ModelError):
        ask(Retry(HttpJsonModel(url), **QUICK), ["good"])
    assert server.count(url) == 1


class Eventually:
    def __await__(self) -> Any:
        raise AssertionError("nobody may wait for it")


def test_an_awaitable_from_a_model_that_does_not_declare_it_is_refused() -> None:
    with pytest.raises(InputError, match="async def"):
        ask(Retry(FunctionModel(lambda xs: Eventually()), **QUICK), ["a"])


def test_settings_that_cannot_work_are_refused() -> None:
    model, _ = counted()
    for settings in ({"attempts": 0}, {"timeout_s": 0}, {"wait_max_s": -1}):
        with pytest.raises(InputError):
            Retry(model, **settings)
