"""What an endpoint really gives: one small request in each way that a cascade may ask it."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bisupervised.errors import ModelError
from bisupervised.gateway.levels import OverHttp
from bisupervised.gateway.openai_wire import CompletionRequest, read_request
from bisupervised.gateway.spending import Spending
from bisupervised.gateway.sse import encode
from bisupervised.models.openai_reply import read_answer
from bisupervised.models.openai_stream import StreamedAnswer
from bisupervised.records import Evidence
from bisupervised.supervisor import Supervisor

_QUESTION = "Answer with the word yes."
#: What a quantifier can read, and the signal that it needs.
_SIGNALS = {
    Evidence.TOKEN_LOGPROBS: "token_logprobs",
    Evidence.TOP_LOGPROBS: "top_logprobs",
    Evidence.TOKEN_ALTERNATIVES: "top_logprobs",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One request's result: the signals that it showed, or why it failed."""

    signals: dict[str, Any]
    failure: str | None = None


async def probe_level(backend: OverHttp, supervisor: Supervisor) -> dict[str, Any]:
    """Ask an endpoint by each route, streamed and not, with every signal that there may be.

    `ok` is whether a chat completion works and brings what the supervisor's quantifier needs.
    """
    ways: dict[str, Callable[[], Coroutine[Any, Any, Probe]]] = {
        "chat": lambda: _whole(backend, "chat"),
        "chat_streamed": lambda: _streamed(backend, "chat"),
        "completions": lambda: _whole(backend, "completions"),
    }
    found = {name: await ask() for name, ask in ways.items()}
    first = found["chat"] if found["chat"].failure is None else found["completions"]
    needs = _SIGNALS.get(supervisor.quantifier.needs) if supervisor.quantifier.needs else None
    finding: dict[str, Any] = {
        "model": backend.name,
        "called": True,
        "quantifier": supervisor.quantifier.name,
        "signals": {name: probe.signals or {"failure": probe.failure} for name, probe in found.items()},
        "ok": first.failure is None and (needs is None or bool(first.signals.get(needs))),
    }
    if first.failure is not None:
        finding["failure"] = first.failure
    elif not finding["ok"]:
        finding["failure"] = (
            f"the quantifier {supervisor.quantifier.name} needs {needs}, which the replies do not bring: nothing it "
            f"says will ever be trusted. Use `constant` at the 2nd level to trust it unjudged, self_consistency or "
            f"p_true to ask it more, or an endpoint that gives log-probabilities"
        )
    if finding["ok"] and supervisor.quantifier.extra_calls and not await _is_scored(backend, supervisor):
        finding["ok"] = False
        finding["failure"] = (
            f"the further calls of the quantifier {supervisor.quantifier.name} bring it nothing to read: p_true "
            f"needs log-probabilities, and samples must be texts"
        )
    if backend.prices is not None and first.failure is None and not first.signals["usage"]:
        finding["ok"] = False
        finding["failure"] = "the replies bring no usage: what they cost cannot be known, and budgets use the bound"
    return finding


async def _is_scored(backend: OverHttp, supervisor: Supervisor) -> bool:
    """Whether an answer has a confidence, with everything that its quantifier asks for."""
    reply = await backend.whole(_request("chat"), "doctor", Spending(None, []))
    return not math.isnan(float(supervisor.confidences(reply.output)[0]))


def _request(route: str) -> CompletionRequest:
    asked: dict[str, Any] = {"model": "doctor", "max_tokens": 4, "temperature": 0}
    if route == "chat":
        asked |= {"messages": [{"role": "user", "content": _QUESTION}], "logprobs": True, "top_logprobs": 2}
        return read_request(encode(asked), "chat")
    return read_request(encode(asked | {"prompt": _QUESTION, "logprobs": 2}), "completions")


async def _whole(backend: OverHttp, route: str) -> Probe:
    request = _request(route)
    start = perf_counter()
    try:
        body = await backend.upstream.post(route, encode(backend.body(request, stream=False)))
    except ModelError as error:
        return Probe({}, str(error))
    return _signals(read_answer(body), perf_counter() - start)


async def _streamed(backend: OverHttp, route: str) -> Probe:
    request = _request(route)
    start = perf_counter()
    streamed = StreamedAnswer(route)  # type: ignore[arg-type]
    try:
        stream = await backend.upstream.open_stream(route, encode(backend.body(request, stream=True)))
        try:
            while chunks := await stream.chunks():
                for chunk in chunks:
                    streamed.feed(chunk)
        finally:
            stream.close()
    except ModelError as error:
        return Probe({}, str(error))
    return _signals(streamed.answer(), perf_counter() - start)


def _signals(answer: Any, seconds: float) -> Probe:
    if answer.text is None and answer.kind == "text":
        return Probe({}, answer.problem or "the reply holds no text")
    usage = answer.usage
    return Probe(
        {
            "token_logprobs": len(answer.tokens) > 0,
            "top_logprobs": any(token.alternatives for token in answer.tokens),
            "usage": not math.isnan(usage.prompt) and not math.isnan(usage.completion),
            "latency_s": round(seconds, 4),
        }
    )
