"""A language model by llama.cpp, in this process or behind its own OpenAI-compatible server.

`python -m bisupervised.studies.live.llama_server FILE` serves on a free port of the loopback interface, prints the
base URL, and ends with its standard input. `xllamacpp` carries llama.cpp as a wheel (MIT).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import MissingExtra, ModelError, ReplyUnreadable
from bisupervised.models.openai_reply import read_answer
from bisupervised.models.outputs import as_column, check_batch, empty_output
from bisupervised.records import Evidence, Failure, ModelOutput
from bisupervised.studies.serving import RunningServer, server_process

CONTEXT = 4096  #: tokens of prompt and answer
THREADS = 2


def open_server(path: Path, *, threads: int = THREADS, context: int = CONTEXT) -> Any:
    """llama.cpp's server object with one slot: questions on one passage share the prompt's beginning in its cache."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtra("xllamacpp", "studies") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx, params.n_parallel = context, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.verbosity = 0
    return xllamacpp.Server(params)


@contextmanager
def served(path: Path) -> Iterator[RunningServer]:
    """The file's model behind HTTP; the server's `line` is the base URL."""
    with server_process("bisupervised.studies.live.llama_server", [str(path)], path.name) as running:
        yield running


class LlamaModel:
    """A language model in this process: a request's body (`OpenAIModel.body`) in, a model output out.

    The reply is read as one that came over HTTP would be, so that both levels' evidence is of one kind: the answer's
    token log-probabilities and their likeliest alternatives.
    """

    max_batch: int | None = 1
    provides = frozenset({Evidence.TOKEN_LOGPROBS, Evidence.TOKEN_ALTERNATIVES, Evidence.TEXT})

    def __init__(
        self, path: Path, body: Callable[[Any], Mapping[str, Any]], read: Callable[[str], Any] | None = None
    ) -> None:
        self.name = path.stem
        self._server = open_server(path)
        self._body = body
        self._read = read

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for one input. Raises a `ModelError` where llama.cpp refuses it, such as a prompt too long."""
        check_batch(inputs, self.max_batch, self.name)
        if len(inputs) == 0:
            return empty_output(self.provides)
        start = time.perf_counter()
        answer = read_answer(self._ask(self._body(inputs[0])))
        text = None if answer.text is None else answer.text.strip()
        prediction = text if text is None or self._read is None else self._read(text)
        problem = answer.problem if text is None else f"no answer in {text[:80]!r}" if prediction is None else None
        return ModelOutput(
            predictions=as_column([prediction]),
            token_logprobs=[answer.token_logprobs],
            token_alternatives=[answer.token_alternatives],
            texts=[answer.text],
            latency_s=np.array([time.perf_counter() - start]),
            prompt_tokens=np.array([answer.usage.prompt]),
            completion_tokens=np.array([answer.usage.completion]),
            failures={} if problem is None else {0: Failure(ReplyUnreadable.kind, f"{self.name}: {problem}")},
        )

    def _ask(self, body: Mapping[str, Any]) -> Any:
        reply = self._server.handle_chat_completions(dict(body))
        reply = json.loads(reply) if isinstance(reply, str | bytes) else reply
        if isinstance(reply, Mapping) and "error" in reply and "choices" not in reply:
            # In process an error is a reply like any other; over HTTP it comes with a status of its own.
            error = reply["error"]
            what = error.get("message", error) if isinstance(error, Mapping) else error
            raise ModelError(f"{self.name}: llama.cpp answered with an error: {what}")
        return reply


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="bisupervised.studies.live.llama_server", description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    url_to = os.dup(1)  # the library prints to standard output too
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    server = open_server(options.file)
    os.write(url_to, f"{server.listening_address}/v1\n".encode())
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGKILL)  # its threads would linger after anything milder


if __name__ == "__main__":
    main()
