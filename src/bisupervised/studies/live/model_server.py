"""A classifier behind the Open Inference Protocol v2 in a process of its own: the studies' remote models.

`python -m bisupervised.studies.live.model_server KIND PATH` listens on a free port of the loopback interface, prints the
port when it is ready, and ends with its standard input. One input tensor, `input`: BYTES (n,), texts or files. The
answer's tensors: `probabilities` [n, classes], and `logits`, `features` where the model gives them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bisupervised.errors import MissingExtra, ModelError, TensorError
from bisupervised.models.open_inference import OpenInferenceModel
from bisupervised.models.open_inference_tensors import Tensor, tensor_of
from bisupervised.models.open_inference_wire import HEADER_LENGTH, InferResponse, build_response, parse_request
from bisupervised.models.port import Model
from bisupervised.records import ModelOutput
from bisupervised.studies.live.photographs import efficientnet_lite, mobilenet
from bisupervised.studies.live.serving import server_process
from bisupervised.studies.live.study import RunningModel
from bisupervised.studies.live.text_encoder import text_encoder

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 64 * 1024 * 1024
#: What can be served, by name; each is made from a path.
KINDS: Mapping[str, Callable[[Path], Model]] = {
    "text": text_encoder,
    "efficientnet_lite": efficientnet_lite,
    "mobilenet": mobilenet,
}
_TEXTS = ("text",)
_TENSORS = ("probabilities", "logits", "features")


@contextmanager
def served(kind: str, path: Path, classes: Sequence[Any]) -> Iterator[RunningModel]:
    """The model as a client of its server sees it, over HTTP; the server ends with the block."""
    with server_process("bisupervised.studies.live.model_server", [kind, str(path)], path.name) as server:
        port, *tensors = server.line.split()
        model = OpenInferenceModel(
            path.name,
            f"http://{HOST}:{port}",
            classes,
            prepare=_as_bytes,
            output="probabilities",
            logits="logits" if "logits" in tensors else None,
            features="features" if "features" in tensors else None,
        )
        yield RunningModel(model, server.cpu_s)


def _as_bytes(inputs: Sequence[Any]) -> Any:
    column = np.empty(len(inputs), dtype=object)
    column[:] = [one if isinstance(one, bytes) else str(one).encode() for one in inputs]
    return column


def response(model: Model, inputs: Sequence[Any]) -> InferResponse:
    """The model's answer to n inputs as tensors. Raises a `ModelError`."""
    output = model.predict(inputs)
    assert isinstance(output, ModelOutput)
    tensors: list[Tensor] = []
    for name in _TENSORS:
        if (matrix := getattr(output, name)) is not None:
            tensors.append(tensor_of(name, np.asarray(matrix, dtype=np.float32)))
    return InferResponse(model.name, tuple(tensors))


def create_app(model: Model, *, texts: bool) -> web.Application:
    """The server's routes."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise MissingExtra("aiohttp", "http") from error

    async def infer(request: web.Request) -> web.Response:
        try:
            asked = parse_request(await request.read(), request.headers.get(HEADER_LENGTH))
            data = [
                bytes(one) if isinstance(one, bytes) else str(one).encode() for one in asked.inputs[0].data.ravel()
            ]
            inputs: list[Any] = [one.decode() for one in data] if texts else data
            message = build_response(response(model, inputs), asked)
        except (TensorError, ValueError, ModelError) as error:
            return web.json_response({"error": str(error)}, status=400)
        headers = {"Content-Type": message.content_type}
        if message.header_length is not None:
            headers[HEADER_LENGTH] = str(message.header_length)
        return web.Response(body=message.body, headers=headers)

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.add_routes([web.post("/v2/models/{name}/infer", infer), web.get("/v2/health/ready", ready)])
    return app


async def serve(model: Model, *, texts: bool) -> None:
    """Serve until standard input ends; print the port and the tensors of an answer when ready."""
    from aiohttp import web

    given = [name for name in _TENSORS if any(name == evidence.value for evidence in model.provides)]
    runner = web.AppRunner(create_app(model, texts=texts), access_log=None, shutdown_timeout=1.0)
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
    options = parser.parse_args(arguments)
    asyncio.run(serve(KINDS[options.kind](options.path), texts=options.kind in _TEXTS))


if __name__ == "__main__":
    main()
