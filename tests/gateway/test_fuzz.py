"""The HTTP surface, fuzzed from its own description: no mistake of the gateway's, no hang, nothing undocumented."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bisupervised.gateway.app import create_app
from bisupervised.gateway.refusals import CODES
from gateway.running import (
    Process,
    cascade,
    config_text,
    endpoint,
    gateway,
    gateway_process,
    in_process,
    key_section,
)
from gateway.upstreams.handle import faulty_upstream

pytestmark = pytest.mark.slow

pytest.importorskip("schemathesis")

#: What is valid by its shape may still name what there is not; what is sampled and how is the endpoint's to judge.
CHECKS = """
[[operations]]
include-name = "GET /v1/outcomes"
[operations.checks]
positive_data_acceptance.enabled = false

[[operations]]
include-name = "POST /v1/changes/{change}/rollback"
[operations.checks]
positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "completions$"
[operations.checks]
negative_data_rejection.enabled = false
"""


@contextmanager
def fuzzed(folder: Path, behaviour: str, **settings: Any) -> Iterator[Process]:
    """A gateway whose models behave so. They give one answer, however many the fuzzer asks for."""
    with faulty_upstream() as upstream:
        upstream.default(behaviour)
        small = endpoint(upstream.base_url, "small", extra={"n": 1})
        large = endpoint(upstream.base_url, "large", extra={"n": 1}, breaker_failures=10**9, timeout_s=1.0)
        cascades = [
            cascade(in_process(), large),
            cascade(small, large, "endpoints", streaming="prefix", prefix_tokens=2),
            cascade(small, large, "observed", mode="observe"),
            cascade(small, large, "speculative", speculative=True, audit_share=0.5),
        ]
        keys = [key_section("root", "key-root", "admin")]
        path = folder / "cascade.toml"
        path.write_text(config_text(*cascades, key=keys, **settings), encoding="utf-8")
        with gateway_process(path, "key-root") as running:
            yield running


def schemathesis(running: Process, *options: str, examples: int) -> str:
    """What it found. Fails for anything, and for a request that takes more than 5 seconds."""
    folder = running.config_path.parent
    (folder / "schemathesis.toml").write_text(CHECKS)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{running.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {running.key}", "--request-timeout", "5"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", "20230914"),
            *("--warnings", "off", "--continue-on-failure", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def mistakes(running: Process) -> tuple[float, str]:
    """Answers with status 500 so far, and what the process printed."""
    return running.metric("responses_total", status="500"), running.printed.read_text()


def test_nothing_that_can_be_sent_is_a_mistake_of_the_gateway(tmp_path: Path) -> None:
    with fuzzed(tmp_path, "ok?logprob=-0.01") as running:
        said = schemathesis(running, examples=40)
        assert "17 selected / 17 total" in said
        assert mistakes(running) == (0.0, "")
        statuses = [int(row["status"]) for row in running.rows()]
        assert len(statuses) > 50, "requests got as far as the cascades"
        assert max(statuses) < 500
        running.chat("easy")
        assert running.process.poll() is None


@pytest.mark.parametrize("behaviour", ["503", "cut_json", "sse_cut_event", "no_logprobs", "tool_call"])
def test_a_remote_model_that_fails_is_told_apart_from_a_mistake(tmp_path: Path, behaviour: str) -> None:
    """Server errors are documented ones of the remote's, and never `internal_error`."""
    with fuzzed(tmp_path, behaviour) as running:
        checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
        schemathesis(running, "--checks", checks, "--include-path-regex", "completions$", examples=30)
        assert mistakes(running) == (0.0, "")
        statuses = {status for status, _ in CODES.values()} | {200, 499}
        seen = {int(row["status"]) for row in running.rows()}
        assert seen <= statuses - {500}


def test_the_description_is_of_every_route_that_there_is(tmp_path: Path) -> None:
    with faulty_upstream() as upstream:
        large = endpoint(upstream.base_url, "large")
        with gateway(tmp_path, cascade(in_process(), large)) as running:
            described = running.request("GET", "/openapi.json").json
            for path, operations in described["paths"].items():
                for method in operations:
                    plain = path.replace("{cascade}", "assistant").replace("{model}", "assistant")
                    plain = plain.replace("{change}", "1").replace("{id}", "nobody")
                    reply = running.request(method.upper(), plain, {})
                    assert reply.status != 405, (method, path)
                    assert b"no such route" not in reply.body
            app = create_app(running.service)
            routes = {route.path.replace(":path", "") for route in app._rest.routes} | set(app._hot)  # type: ignore[attr-defined]
            assert routes - {"/v1/{rest}", "/{rest}"} == set(described["paths"])
