"""Every way an HTTP exchange can go wrong, and which of our errors it becomes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import http_exceptions
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import (
    InputError,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.models.json_endpoint import JsonEndpoint, retry_after_s


def post(url: str, body: Any = None, **settings: Any) -> Any:
    async def exchange() -> Any:
        return await JsonEndpoint(url, **settings).post({"inputs": ["a"]} if body is None else body)

    return asyncio.run(exchange())


@pytest.mark.parametrize(
    ("behaviour", "expected", "says"),
    [
        ("stall", ModelTimeout, "did not answer within 0.1 s"),
        ("reset", ModelUnreachable, "cannot be reached"),
        ("hangup", ModelUnreachable, "cannot be reached"),
        ("truncated", ReplyUnreadable, "cut off"),
        ("nothttp", ReplyUnreadable, "no HTTP"),
        ("badgzip", ReplyUnreadable, "cut off or no HTTP"),
        ("cutjson", ReplyUnreadable, "is no JSON"),
        ("deep", ReplyUnreadable, "is no JSON"),
        ("html", ReplyUnreadable, "text/html"),
        ("huge", ReplyUnreadable, "larger than 50,000 bytes"),
        ("redirect", ModelStatusError, "Redirects are not followed"),
    ],
)
def test_a_broken_exchange_becomes_the_error_for_it(server: Any, behaviour: str, expected: Any, says: str) -> None:
    timeout_s = 0.1 if behaviour == "stall" else 10.0
    with pytest.raises(expected, match=says) as caught:
        post(server.url(behaviour), timeout_s=timeout_s, max_reply_bytes=50_000)
    assert type(caught.value) is expected
    assert len(str(caught.value)) < 400
    assert "token=" not in str(caught.value)


def test_a_closed_port_and_an_unknown_name_are_unreachable(closed_port: int) -> None:
    with pytest.raises(ModelUnreachable, match=r"refused|Connect call failed"):
        post(f"http://127.0.0.1:{closed_port}/x")
    with pytest.raises(ModelUnreachable, match="cannot be reached"):
        post("http://no-such-host.invalid/x")
    with pytest.raises(ModelUnreachable):
        post(f"https://127.0.0.1:{closed_port}/x")


def test_a_server_that_does_not_speak_tls_is_unreachable(server: Any) -> None:
    with pytest.raises(ModelUnreachable):
        post(server.url("ok").replace("http://", "https://"))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 529])
def test_an_error_status_is_kept(server: Any, status: int) -> None:
    with pytest.raises(ModelStatusError, match=f"answered {status}") as caught:
        post(server.url("status"), {"inputs": [{"status": status}]})
    assert caught.value.status == status
    assert caught.value.retry_after_s is None


def test_retry_after_is_read_in_seconds_and_as_a_date(server: Any) -> None:
    for header, seconds in [("7", 7.0), (format_datetime(datetime.now(UTC) + timedelta(seconds=100)), 99.0)]:
        body = {"inputs": [{"status": 503, "headers": {"Retry-After": header}}]}
        with pytest.raises(ModelStatusError) as caught:
            post(server.url("status"), body)
        assert caught.value.retry_after_s == pytest.approx(seconds, abs=2.0)


@given(st.text() | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str))
def test_no_retry_after_header_breaks_anything(value: str) -> None:
    seconds = retry_after_s(value)
    assert seconds is None or seconds >= 0.0


def _all_subclasses(base: type) -> set[type]:
    return {base} | {deeper for sub in base.__subclasses__() for deeper in _all_subclasses(sub)}


FOREIGN = _all_subclasses(aiohttp.ClientError) | _all_subclasses(http_exceptions.HttpProcessingError)
FOREIGN |= {TimeoutError, OSError, ConnectionResetError, BrokenPipeError}


@pytest.mark.parametrize("kind", sorted(FOREIGN, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_foreign_exception_is_mapped_and_gives_no_secret_away(kind: type[Exception]) -> None:
    foreign = kind.__new__(kind)
    mapped = JsonEndpoint("http://example.org/x?key=sk-secret", headers={"X-Key": "sk-secret"})._mapped(foreign)
    assert isinstance(mapped, ModelError)
    assert isinstance(mapped, ModelTimeout) == issubclass(kind, TimeoutError)
    assert "sk-secret" not in str(mapped)


@pytest.mark.parametrize("behaviour", ["denied", "stall", "reset", "html", "redirect", "cutjson"])
def test_no_error_holds_a_secret_nor_refers_to_one_that_does(server: Any, behaviour: str) -> None:
    secrets = ["sk-very-secret", "q-very-secret", "h-very-secret"]
    with pytest.raises(ModelError) as caught:
        post(
            server.url(behaviour) + "?api-version=1&key=q-very-secret",
            headers={"Authorization": "Bearer sk-very-secret", "X-Token": "h-very-secret"},
            timeout_s=0.1 if behaviour == "stall" else 5.0,
        )
    error: BaseException | None = caught.value
    while error is not None:
        for secret in secrets:
            assert secret not in str(error)
            assert secret not in repr(error)
        error = error.__cause__ or error.__context__
    if behaviour == "denied":
        assert "Incorrect API key provided: ***" in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org", "http://", "http://[bad", "http://h:99999/"])
def test_what_is_no_http_url_is_refused_when_the_model_is_made(url: str) -> None:
    with pytest.raises(InputError, match="must begin with http"):
        JsonEndpoint(url)


def test_what_cannot_be_sent_is_the_callers_error(server: Any) -> None:
    with pytest.raises(InputError, match="no JSON"):
        post(server.url("ok"), {"inputs": [object()]})
    with pytest.raises(InputError, match="no JSON"):
        post(server.url("ok"), {"inputs": [float("nan")]})
    with pytest.raises(InputError, match="single line"):
        JsonEndpoint("http://localhost", headers={"X-Key": "a\nb"})
    with pytest.raises(InputError, match="timeout_s"):
        JsonEndpoint("http://localhost", timeout_s=0)


def test_any_text_arrives_as_it_was_sent(server: Any) -> None:
    text = 'naïve 日本 \U0001f600 \ud800 \x00 "quoted"'
    reply = post(server.url("echo"), {"inputs": [text]}).reply
    assert reply["predictions"][0]["body"] == {"inputs": [text]}
    assert reply["predictions"][0]["headers"]["Content-Type"] == "application/json"


def test_latency_is_that_of_the_exchange(server: Any) -> None:
    assert 0.05 <= post(server.url("slow")).latency_s < 1.0


def test_connections_are_kept_within_a_loop_and_closed_with_it(server: Any) -> None:
    endpoint = JsonEndpoint(server.url("ok"))

    async def twice() -> Any:
        await endpoint.post({"inputs": ["a"]})
        (pool,) = endpoint._pools.values()
        await endpoint.post({"inputs": ["a"]})
        assert list(endpoint._pools.values()) == [pool]
        return pool.session

    sessions = [asyncio.run(twice()), asyncio.run(twice())]
    assert sessions[0] is not sessions[1]
    assert all(session.closed for session in sessions)
    assert not endpoint._pools


def test_it_can_be_closed_and_used_again(server: Any) -> None:
    endpoint = JsonEndpoint(server.url("ok"))

    async def close_between() -> None:
        await endpoint.aclose()
        await endpoint.post({"inputs": ["a"]})
        await endpoint.aclose()
        await endpoint.aclose()
        assert not endpoint._pools
        await endpoint.post({"inputs": ["a"]})

    asyncio.run(close_between())


@pytest.mark.parametrize("ending", ["", "system.close()", "del system, model; import gc; gc.collect()"])
def test_a_program_that_closes_nothing_ends_without_noise(server: Any, ending: str) -> None:
    program = f"""
        from bisupervised.cascade import BiSupervised, Level
        from bisupervised.models import FunctionModel, HttpJsonModel
        from bisupervised.quantifiers import GivenConfidence
        from bisupervised.supervisor import Supervisor
        model = HttpJsonModel({server.url("ok")!r})
        trusting = Supervisor(GivenConfidence(), threshold=0.0)
        local = Level(FunctionModel(lambda xs: [[0.5, 0.5] for _ in xs]), Supervisor())
        system = BiSupervised(local, Level(model, trusting))
        print(system.predict("good").answer)
        {ending}
    """
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "always::ResourceWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("positive\n", "", 0)
