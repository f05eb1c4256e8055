"""A gateway for a test: its file written, its server run in a thread of this process, its log read.

A few tests need a process of its own: `gateway_process`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from bisupervised.decision_log import outcome, outcomes
from bisupervised.errors import LogError
from bisupervised.gateway.app import create_app
from bisupervised.gateway.building import build_service, read_plan
from bisupervised.gateway.keys import digest_of
from bisupervised.gateway.server import _config as uvicorn_config
from bisupervised.gateway.service import Service

TESTS = Path(__file__).resolve().parents[1]
#: Every environment variable that a test's file names; values are easy to find in what they must not be in.
SECRETS = {"REMOTE_API_KEY": "sk-upstream-SECRET-4711"}

# ---------------------------------------------------------------- the file


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def config_text(*cascades: Mapping[str, Any], **gateway: Any) -> str:
    """A file with these sections, each a table of one line."""
    lines = [f"{json.dumps(name)} = {toml(value)}" for name, value in gateway.items()]
    return "\n".join(["[gateway]", *lines, *(f"\n[[cascade]]\n{_lines(one)}" for one in cascades)]) + "\n"


def _lines(section: Mapping[str, Any]) -> str:
    return "\n".join(f"{json.dumps(name)} = {toml(value)}" for name, value in section.items())


def endpoint(base_url: str, model: str, **more: Any) -> dict[str, Any]:
    """A level behind HTTP, judged by the mean of its tokens' log-probabilities. It is not asked twice."""
    section = {"model": "openai", "base_url": base_url, "model_name": model, "attempts": 1, "timeout_s": 5.0}
    return section | {"quantifier": "token_likelihood_mean"} | more


def in_process(function: str = "classify", **more: Any) -> dict[str, Any]:
    """A level that is a function of `local_models.py`."""
    section = {"model": "function", "function": f"gateway.local_models:{function}", "inline": True}
    return section | {"classes": ["negative", "positive"], "quantifier": "max_softmax"} | more


def cascade(
    local: Mapping[str, Any],
    remote: Mapping[str, Any],
    name: str = "assistant",
    *,
    thresholds: tuple[float, ...] = (0.9, 0.5),  # local, remote and, if there is one, abstain
    fallback: Mapping[str, Any] | None = None,
    **gateway: Any,
) -> dict[str, Any]:
    """A cascade in enforce mode; further options are those of `[cascade.gateway]`."""
    section: dict[str, Any] = {
        "name": name,
        "thresholds": dict(zip(("local", "remote", "abstain"), thresholds, strict=False)),
    }
    section |= {"local": local, "remote": remote, "gateway": {"mode": "enforce"} | gateway}
    return section | ({} if fallback is None else {"fallback": fallback})


def key_section(name: str, key: str, *scopes: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": digest_of(key), "scopes": list(scopes or ("call",))} | more


# ---------------------------------------------------------------- what a client sees


class Reply:
    """What came back over plain HTTP."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.body = reply.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The gateway's own name of an error."""
        return str(self.json["error"]["code"])


class Running:
    """A gateway that listens, and the log that it writes."""

    def __init__(self, url: str, log_path: Path, config_path: Path, key: str = "") -> None:
        self.url = url
        self.base_url = f"{url}/v1"
        self.address = urlsplit(url).netloc
        self.log_path = log_path
        self.config_path = config_path
        self.key = key

    def client(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        """The unchanged client. Close it: `with gateway.client() as client`."""
        given = {"api_key": key or self.key or "none", "max_retries": 0, "timeout": 20.0} | options
        return openai.OpenAI(base_url=self.base_url, **given)

    def async_client(self, key: str | None = None) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=key or self.key or "none", max_retries=0, timeout=20.0
        )

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Reply:
        """One request, without any client's help."""
        given = dict(headers or {})
        key = self.key if key is None else key
        if key and "Authorization" not in given:
            given["Authorization"] = f"Bearer {key}"
        content = body if body is None or isinstance(body, bytes | str) else json.dumps(body)
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            connection.request(method, path, content, given)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def chat(self, text: str = "hello", model: str = "assistant", headers: Any = None, **more: Any) -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": text}]} | more
        return self.request("POST", "/v1/chat/completions", body, headers)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Every sample of `GET /metrics`: (name without `bisupervised_`, label=value, …) -> value."""
        text = self.request("GET", "/metrics").body.decode()
        return {
            (sample.name.removeprefix("bisupervised_"), *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 when there is none."""
        wanted = {f"{key}={value}" for key, value in labels.items()}
        return sum(value for (given, *have), value in self.metrics().items() if given == name and wanted <= set(have))

    # The log

    def rows(self, count: int | None = None, **selection: Any) -> list[dict[str, Any]]:
        """The log's rows, the oldest first; with `count`, as soon as there are as many."""

        def read() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = outcomes(self.log_path, limit=1000, **selection)["outcomes"]
            return found[::-1]

        return wait_until(read, lambda rows: count is None or len(rows) >= count)

    def row(self, reply_or_id: Any) -> dict[str, Any]:
        """The row of an answer, by its id or its headers, as soon as it is written."""
        id_ = reply_or_id if isinstance(reply_or_id, str) else reply_or_id.headers["x-bisupervised-id"]

        def read() -> dict[str, Any] | None:
            try:
                return outcome(self.log_path, id_)
            except LogError:
                return None

        found = wait_until(read, lambda row: row is not None)
        assert found is not None
        return found


def wait_until(read: Callable[[], Any], condition: Callable[[Any], bool], timeout_s: float = 10.0) -> Any:
    """What `read` gives as soon as it meets a condition. Raises TimeoutError with the last one."""
    end = time.monotonic() + timeout_s
    while not condition(found := read()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {timeout_s} s: {found!r}")
        time.sleep(0.01)
    return found


# ---------------------------------------------------------------- in this process


class InThread(Running):
    """A gateway in a thread, whose parts can be looked at."""

    service: Service


@contextmanager
def gateway(folder: Path, *cascades: Mapping[str, Any], client_key: str = "", **settings: Any) -> Iterator[InThread]:
    """A gateway of these cascades, until the block ends. `settings` are those of `[gateway]`."""
    config_path = folder / "cascade.toml"
    config_path.write_text(config_text(*cascades, **settings), encoding="utf-8")
    with served(config_path, client_key) as running:
        yield running


@contextmanager
def served(config_path: Path, key: str = "") -> Iterator[InThread]:
    """A file's gateway, in a thread."""
    plan = read_plan(config_path)
    service = build_service(plan)

    @asynccontextmanager
    async def life(app: Any) -> Any:
        await service.open()
        yield
        await service.close()

    config = uvicorn_config(plan, create_app(service, life))
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), bool)
        port = server.servers[0].sockets[0].getsockname()[1]
        running = InThread(f"http://127.0.0.1:{port}", plan.log_path, config_path, key)
        running.service = service
        yield running
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the gateway did not stop"
        plan.close()


# ---------------------------------------------------------------- as a process


class Process(Running):
    """`bisupervised serve` in a process of its own. What it prints stands in `printed` when it has ended."""

    process: subprocess.Popen[str]
    printed: Path


@contextmanager
def gateway_process(config_path: Path, key: str = "", *, name: str = "gateway") -> Iterator[Process]:
    """`bisupervised serve FILE --port 0`, killed at the block's end if it has not ended by then."""
    printed = config_path.parent / f"{name}.err"
    with printed.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "bisupervised", "serve", str(config_path), "--port", "0", "--json"],
            env=os.environ | SECRETS | {"PYTHONPATH": str(TESTS)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30.0)
        line = process.stdout.readline() if ready else ""
        if not line.startswith("{"):
            raise RuntimeError(f"the gateway did not start: {line}{printed.read_text()}")
        log = re.search(r'^"?log"? = "(.*)"$', config_path.read_text(encoding="utf-8"), re.MULTILINE)
        log_path = config_path.parent / (log[1] if log else "decisions.db")
        running = Process(json.loads(line)["url"], log_path, config_path, key)
        running.process, running.printed = process, printed
        yield running
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def cli(*arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Any:
    """`bisupervised …` in a process of its own: `returncode`, `stdout`, `stderr`."""
    return subprocess.run(
        [sys.executable, "-m", "bisupervised", *arguments],
        cwd=cwd,
        env=os.environ | SECRETS | {"PYTHONPATH": str(TESTS)} | dict(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
