"""A classifier behind the Open Inference Protocol v2 in a process of its own: the studies' remote models.

`python -m bisupervised.studies.live.model_server KIND PATH` listens on a free port of the loopback interface, prints
the port and the tensors of an answer when it is ready, and ends with its standard input. One input tensor, `input`:
BYTES (n,), texts or files. The answer's tensors: `probabilities` [n, classes], and `logits`, `features` where the
model gives them. `GET /cpu` tells the processor seconds that the process has used. `--delay` lets every answer wait,
as a network would; `--options` is a JSON object of what the kind takes beside the path.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bisupervised.errors import InputError, MissingExtra, ModelError, TensorError
from bisupervised.models.open_inference import OpenInferenceModel
from bisupervised.models.open_inference_tensors import tensor_of
from bisupervised.models.open_inference_wire import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    build_response,
    parse_request,
)
from bisupervised.models.port import Model
from bisupervised.records import AnyArray, ModelOutput
from bisupervised.studies.live.photographs import efficientnet_lite, mobilenet
from bisupervised.studies.live.study import RunningModel
from bisupervised.studies.live.text_encoder import text_encoder
from bisupervised.studies.serving import server_process

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 64 * 1024 * 1024
#: What can be served, by name; each is made from a path and the options of its own.
KINDS: Mapping[str, Callable[..., Model]] = {
    "text": text_encoder,
    "efficientnet_lite": efficientnet_lite,
    "mobilenet": mobilenet,
}
_TEXTS = ("text",)
_TENSORS = ("probabilities", "logits", "features")


@contextmanager
def served(
    kind: str,
    path: Path,
    classes: Sequence[Any],
    *,
    written: Callable[[Any], str | bytes] | None = None,
    delay_s: float = 0.0,
    **options: Any,
) -> Iterator[RunningModel]:
    """The model as a client of its server sees it, over HTTP; the server ends with the block.

    `written` makes of an input what is sent (default: a text or bytes as they are); `options` are the kind's own.
    Every answer waits `delay_s` seconds, which are no processor seconds. Raises `ModelUnreachable` when the server
    does not start, with the reason.
    """
    arguments = [kind, str(path), "--delay", repr(delay_s), "--options", json.dumps(options)]
    with server_process("bisupervised.studies.live.model_server", arguments, path.name) as server:
        port, *tensors = server.line.split()
        model = OpenInferenceModel(
            path.name,
            f"http://{HOST}:{port}",
            classes,
            prepare=partial(_as_bytes, written=written),
            output="probabilities",
            logits="logits" if "logits" in tensors else None,
            features="features" if "features" in tensors else None,
        )
        yield RunningModel(model, server.cpu_s)


def _as_bytes(inputs: Sequence[Any], written: Callable[[Any], str | bytes] | None) -> AnyArray:
    column = np.empty(len(inputs), dtype=object)
    texts = inputs if written is None else [written(one) for one in inputs]
    column[:] = [one if isinstance(one, bytes) else str(one).encode() for one in texts]
    return column


def response(model: Model, inputs: Sequence[Any]) -> InferResponse:
    """The model's answer to n inputs as tensors. Raises a `ModelError`."""
    output = model.predict(inputs)
    assert isinstance(output, ModelOutput)  # the kinds are in-process models
    given = {name: matrix for name in _TENSORS if (matrix := getattr(output, name)) is not None}
    tensors = (tensor_of(name, np.asarray(matrix, dtype=np.float32)) for name, matrix in given.items())
    return InferResponse(model.name, tuple(tensors))


def create_app(model: Model, *, texts: bool, delay_s: float = 0.0) -> web.Application:
    """The server's routes; every answer of the model comes `delay_s` later than it could."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise MissingExtra("aiohttp", "http") from error

    async def infer(request: web.Request) -> web.Response:
        try:
            asked = parse_request(await request.read(), request.headers.get(HEADER_LENGTH))
            message = build_response(response(model, _inputs(asked, texts)), asked)
        except (InputError, UnicodeDecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except ModelError as error:
            return web.json_response({"error": str(error)}, status=500)
        await asyncio.sleep(delay_s)
        headers = {"Content-Type": message.content_type}
        if message.header_length is not None:
            headers[HEADER_LENGTH] = str(message.header_length)
        return web.Response(body=message.body, headers=headers)

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def cpu(_: web.Request) -> web.Response:
        return web.json_response({"cpu_s": time.process_time()})

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.add_routes([web.post("/v2/models/{name}/infer", infer), web.get("/v2/health/ready", ready)])
    app.add_routes([web.get("/cpu", cpu)])
    return app


def _inputs(asked: InferRequest, texts: bool) -> list[Any]:
    """The elements of the request's tensor `input`: texts, or bytes."""
    tensor = next((one for one in asked.inputs if one.name == "input"), None)
    if tensor is None or tensor.datatype != "BYTES":
        raise TensorError("send one tensor called input, of the datatype BYTES")
    data = [one if isinstance(one, bytes) else str(one).encode() for one in tensor.data.ravel()]
    return [one.decode() for one in data] if texts else data


async def serve(model: Model, *, texts: bool, delay_s: float = 0.0) -> None:
    """Serve until standard input ends; print the port and the tensors of an answer when ready."""
    from aiohttp import web

    given = [name for name in _TENSORS if any(name == evidence.value for evidence in model.provides)]
    app = create_app(model, texts=texts, delay_s=delay_s)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        sys.stdout.write(f"{runner.addresses[0][1]} {' '.join(given)}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.buffer.read)
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="bisupervised.studies.live.model_server", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("path", type=Path)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that every answer waits")
    parser.add_argument("--options", type=json.loads, default={}, help="a JSON object: what the kind takes besides")
    options = parser.parse_args(arguments)
    model = KINDS[options.kind](options.path, **options.options)
    asyncio.run(serve(model, texts=options.kind in _TEXTS, delay_s=options.delay))


if __name__ == "__main__":
    main()
