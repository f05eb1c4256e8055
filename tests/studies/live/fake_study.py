"""A study in miniature: numbers to be told apart by sign, a local model in process, a remote one behind real HTTP.

`python fake_study.py FOLDER URL` records it, slowly: something to kill in the middle.
"""

import json
import sys
import threading
from collections import Counter
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from bisupervised.models.openai import OpenAIModel
from bisupervised.records import Evidence, ModelOutput
from bisupervised.studies.live.prompts import LabelledAnswers, Prompt
from bisupervised.studies.live.recording import record_study
from bisupervised.studies.live.study import LiveStudy, RunningModel

PROMPT = Prompt("Is the number above zero?", {"no": 0, "yes": 1})


class Local:
    """Knows the sign of a number that is far from zero."""

    name = "sign"
    provides = frozenset({Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES, Evidence.SAMPLED_PROBABILITIES})
    max_batch = None

    def __init__(self):
        self.calls = []
        self.seconds = 0.0

    def predict(self, inputs):
        self.calls.append(list(inputs))
        self.seconds += 0.25
        x = np.array(inputs, dtype=float)
        noisy = x + 0.5 * np.sin(37.0 * x)
        logits = np.stack([-noisy, noisy], axis=1)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        samples = np.stack([p, 0.9 * p + 0.05], axis=1)
        return ModelOutput(
            (noisy > 0).astype(int),
            probabilities=p,
            classes=np.array([0, 1]),
            logits=logits,
            features=np.stack([x, x**2, np.cos(x)], axis=1),
            sampled_probabilities=samples,
        )


class Remote:
    """An OpenAI-compatible server; `asked` counts, by input, the calls that it answered."""

    def __init__(self):
        self.asked = Counter()
        self.dies_after = None  #: so many answers
        self.instead = {}  #: input -> (text, its log-probability)
        self.refused = 0
        self.seconds = 0.0

    @contextmanager
    def serving(self):
        remote = self
        pause = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: in two, the second waits 40 ms for the first's receipt

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                x = body["messages"][-1]["content"]
                if remote.dies_after is not None and sum(remote.asked.values()) >= remote.dies_after:
                    remote.refused += 1
                    self._send(500, {"error": {"message": "out of memory"}})
                    return
                pause.wait(remote.seconds)
                remote.asked[x] += 1
                self._send(200, reply(x, *remote.instead.get(x, ())))

            def _send(self, code, content):
                data = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def reply(x, text=None, logprob=-3.0):
    """What the server says: the sign, and how likely each word was."""
    p = 1.0 / (1.0 + np.exp(-4.0 * float(x)))
    word = text or ("Yes" if p > 0.5 else "No")
    logprob = logprob if text else float(np.log(0.9 * max(p, 1 - p) + 0.01))
    top = [
        {"token": t, "logprob": float(np.log(q))} for t, q in (("Yes", 0.9 * p + 0.01), ("No", 0.9 * (1 - p) + 0.01))
    ]
    return {
        "choices": [
            {
                "message": {"content": word},
                "logprobs": {"content": [{"token": word, "logprob": logprob, "top_logprobs": top}]},
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 1},
    }


def fake_study(url, n=130, *, local=None, remote_name="asked", name="imdb", **changes):
    """n numbers; the ids of a smaller study are among those of a larger one."""
    inputs = np.random.default_rng(3).normal(0.0, 2.0, n).round(4).tolist()
    known = local or Local()

    @contextmanager
    def in_process():
        yield RunningModel(known, lambda: known.seconds)

    @contextmanager
    def behind_http():
        model = OpenAIModel(
            remote_name, url, prompt=PROMPT.messages, read_label=PROMPT.read_label, top_logprobs=5, timeout_s=5.0
        )
        yield RunningModel(LabelledAnswers(model, PROMPT))

    return LiveStudy(
        **{
            "name": name,
            "title": "Signs",
            "paper_names": ("imdb",),
            "objective": "accuracy",
            "inputs": inputs,
            "ids": [f"number-{row}" for row in range(n)],
            "labels": [int(x > 0) for x in inputs],
            "local": in_process,
            "remote": behind_http,
            "sources": (),
            **changes,
        }
    )


def silent(_level, _n):
    """No progress is shown."""
    return nullcontext(lambda _: None)


if __name__ == "__main__":
    record_study(fake_study(sys.argv[2]), Path(sys.argv[1]), progress=silent)
