"""The demo's remote model in a process of its own, behind HTTP: `python -m bisupervised.studies.demo_server`.

It speaks as much of OpenAI's chat route as the demo needs: one answer of one token, its log-probability and the
likeliest alternatives where they are asked for, and the usage. It listens on the loopback interface only, prints
its port when it is ready, and ends when its standard input does: with its parent, however that one ends.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisupervised.errors import MissingExtra
from bisupervised.studies.demo_models import WordPairModel
from bisupervised.studies.demo_prompt import review_in, tokens_in

if TYPE_CHECKING:
    from aiohttp import web

MODEL_NAME = "demo-words-and-pairs"
HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_TOP_LOGPROBS = 20
#: As a language model does, the mass of a label is spread over several tokens that stand for it.
TOKEN_SHARES = {
    "positive": {" Positive": 0.80, "Positive": 0.12, " positive": 0.08},
    "negative": {" Negative": 0.80, "Negative": 0.12, " negative": 0.08},
}
_SURE = 1e-6  # probabilities stay this far from 0 and 1, where the logarithm would be lost


class RequestRefused(ValueError):  # noqa: N818 - what the server says to the client
    """A request that this server cannot answer; the message goes back with status 400."""


def token_logprobs(positive: float) -> dict[str, float]:
    """The natural log-probability of every token that may be the answer, the likeliest first.

    >>> list(token_logprobs(0.9))[:2]
    [' Positive', 'Positive']
    """
    positive = min(max(positive, _SURE), 1.0 - _SURE)
    mass = {"positive": positive, "negative": 1.0 - positive}
    logprobs = {
        token: math.log(mass[label] * share)
        for label, shares in TOKEN_SHARES.items()
        for token, share in shares.items()
    }
    return dict(sorted(logprobs.items(), key=lambda item: -item[1]))


def completion(model: WordPairModel, request: Any) -> dict[str, Any]:
    """The reply to a request of the chat route. Raises `RequestRefused`."""
    messages = _messages(request)
    top = _top_logprobs(request)
    logprobs = token_logprobs(model.probability(review_in(messages[-1]["content"])))
    # One of the tokens written with a space, so that the written token is always among the likeliest.
    token = next(iter(logprobs))
    content = None if top is None else {"content": [_token_entry(token, logprobs, top)]}
    prompt_tokens = tokens_in(messages)
    return {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL_NAME,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": token},
                "logprobs": content,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 1, "total_tokens": prompt_tokens + 1},
    }


def _token_entry(token: str, logprobs: dict[str, float], top: int) -> dict[str, Any]:
    entries = [
        {"token": text, "logprob": logprob, "bytes": list(text.encode())} for text, logprob in logprobs.items()
    ]
    return {**next(e for e in entries if e["token"] == token), "top_logprobs": entries[:top]}


def _messages(request: Any) -> list[dict[str, str]]:
    messages = request.get("messages") if isinstance(request, dict) else None
    readable = isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages
    )
    if not messages or not readable:
        raise RequestRefused("messages must be a list of at least one message whose content is a string")
    if request.get("stream"):
        raise RequestRefused("this server does not stream")
    return list(messages)


def _top_logprobs(request: dict[str, Any]) -> int | None:
    """How many alternatives are asked for; None when no log-probabilities are."""
    top = request.get("top_logprobs")
    if not request.get("logprobs"):
        if top is not None:
            raise RequestRefused("top_logprobs needs logprobs: true")
        return None
    if top is None:
        return 0
    if not isinstance(top, int) or not 0 <= top <= MAX_TOP_LOGPROBS:
        raise RequestRefused(f"top_logprobs must be an integer from 0 to {MAX_TOP_LOGPROBS}")
    return top


# ---------------------------------------------------------------- HTTP


def create_app(model: WordPairModel, delay_s: float) -> web.Application:
    """The server's routes; every answer of the model comes `delay_s` later than it could."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise MissingExtra("aiohttp", "demo") from error

    async def chat(request: web.Request) -> web.Response:
        try:
            reply = completion(model, await request.json())
        except ValueError as error:  # no JSON, or refused
            body = {"error": {"message": str(error), "type": "invalid_request_error"}}
            return web.json_response(body, status=400)
        await asyncio.sleep(delay_s)
        return web.json_response(reply)

    async def models(_: web.Request) -> web.Response:
        one = {"id": MODEL_NAME, "object": "model", "created": 0, "owned_by": "bisupervised"}
        return web.json_response({"object": "list", "data": [one]})

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
    return app


async def serve(model: WordPairModel, *, port: int, delay_s: float) -> None:
    """Serve on the loopback interface, print the port, and stop at the end of standard input."""
    from aiohttp import web

    runner = web.AppRunner(create_app(model, delay_s), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.buffer.read)
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="bisupervised.studies.demo_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the npz file of the trained model")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--delay", type=float, default=0.03, help="seconds that every answer waits")
    options = parser.parse_args(arguments)
    asyncio.run(serve(WordPairModel.load(options.model), port=options.port, delay_s=options.delay))


if __name__ == "__main__":
    main()
