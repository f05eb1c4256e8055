"""A small model server for the tests: `python http_server.py` prints its port and serves until its input ends.

A path is `/<behaviour>/<anything>/<route>`; `GET /count/<behaviour>/<anything>` tells how many requests came.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

counts: Counter[str] = Counter()
running: Counter[str] = Counter()
most_running: Counter[str] = Counter()
lock = threading.Lock()


def label_of(text: str) -> str:
    return "positive" if "good" in text else "negative"


def confidence_of(text: str) -> float:
    return round(0.5 + (sum(text.encode()) % 50) / 100, 2)


def is_extra(body: dict) -> bool:
    """Whether a request is a further one about an answer: a sample, or whether the answer is true."""
    return body.get("temperature") == 1.0


def prompt_of(body: dict) -> str:
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


def tokens_of(text: str, label: str) -> list[tuple[str, float, dict[str, float]]]:
    p = confidence_of(text)
    top = {f" {label}": math.log(p), " other": math.log(1.0 - p + 1e-9)}
    return [("\n", math.log(0.99), {"\n": math.log(0.99)}), (f" {label}", math.log(p), top), (".", -0.1, {".": -0.1})]


def verification_tokens(text: str) -> list[tuple[str, float, dict[str, float]]]:
    """The one token that says whether a proposed answer is true: with the confidence of the prompt."""
    p = 0.9 * confidence_of(text)
    return [(" (", math.log(0.05), {" True": math.log(p), " B": math.log(0.9 - p + 1e-9), " (": math.log(0.05)})]


def chat_logprobs(tokens, k):
    return {
        "content": [
            {
                "token": token,
                "logprob": logprob,
                "bytes": list(token.encode()),
                "top_logprobs": [{"token": t, "logprob": p} for t, p in list(top.items())[:k]],
            }
            for token, logprob, top in tokens
        ]
    }


def completion_logprobs(tokens, k):
    return {
        "tokens": [token for token, _, _ in tokens],
        "token_logprobs": [logprob for _, logprob, _ in tokens],
        "top_logprobs": [dict(list(top.items())[:k]) for _, _, top in tokens],
        "text_offset": [0] * len(tokens),
    }


def completion(behaviour: str, chat: bool, body: dict) -> dict:
    text = prompt_of(body)
    label = label_of(text)
    if behaviour == "varied" and is_extra(body) and body.get("seed", 1) % 3 == 0:
        label = "mixed"  # every third sample
    tokens = verification_tokens(text) if "Is the proposed answer" in text else tokens_of(text, label)
    content = {"null": None, "empty": " \n"}.get(behaviour, "".join(token for token, _, _ in tokens))
    choice: dict = {"index": 0, "finish_reason": "stop"}
    choice |= {"message": {"role": "assistant", "content": content}} if chat else {"text": content}
    wanted = body.get("logprobs")
    if wanted and behaviour != "nologprobs":
        k = body.get("top_logprobs", 0) if chat else wanted
        shape = chat_logprobs if chat or behaviour == "llamacpp" else completion_logprobs
        choice["logprobs"] = shape(tokens, k)
    reply = {"choices": [choice], "model": body["model"]}
    if behaviour != "nousage":
        usage = {"prompt_tokens": len(text), "completion_tokens": len(tokens)}
        reply["usage"] = usage | {"prompt_tokens_details": {"cached_tokens": 2}} if behaviour == "cached" else usage
    return reply


def predictions(behaviour: str, body: dict) -> object:
    inputs = body["inputs"]
    if behaviour in ("probabilities", "evidence"):
        p = [confidence_of(x) if label_of(x) == "positive" else 1 - confidence_of(x) for x in inputs]
        reply = {"probabilities": [[1 - each, each] for each in p], "classes": ["negative", "positive"]}
        if behaviour == "evidence":
            reply["logits"] = [[0.0, each] for each in p]
            reply["features"] = [[len(x), each, 1.5] for x, each in zip(inputs, p, strict=True)]
            reply["sampled_probabilities"] = [[[1 - each, each], [0.5, 0.5]] for each in p]
        return reply
    if behaviour == "noconfidence":
        return {"predictions": [label_of(x) for x in inputs]}
    if behaviour == "short":
        return {"predictions": [], "confidences": []}
    if behaviour == "fieldless":
        return {"results": []}
    return {"predictions": [label_of(x) for x in inputs], "confidences": [confidence_of(x) for x in inputs]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every reply waits 40 ms for a delayed acknowledgement

    def log_message(self, *_):
        pass

    def do_GET(self):
        key = self.path.removeprefix("/count/")
        self.send(200, json.dumps([counts[key], most_running[key]]).encode())

    def do_POST(self):
        _, behaviour, test, *route = self.path.split("?")[0].split("/")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        key = f"{behaviour}/{test}"
        with lock:
            counts[key] += 1
            running[key] += 1
            most_running[key] = max(most_running[key], running[key])
        try:
            getattr(self, f"do_{behaviour}", self.answer)(behaviour, route, json.loads(data), counts[key])
        finally:
            with lock:
                running[key] -= 1

    def send(self, status, content, kind="application/json", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def answer(self, behaviour, route, body, count):
        if route == ["predict"]:
            reply = predictions(behaviour, body)
        else:
            reply = completion(behaviour, route == ["chat", "completions"], body)
        self.send(200, json.dumps(reply).encode())

    def do_echo(self, behaviour, route, body, count):
        reply = {"predictions": [{"body": body, "headers": dict(self.headers)}], "confidences": [None]}
        reply["choices"] = [{"message": {"content": json.dumps(reply["predictions"][0])}}]
        self.send(200, json.dumps(reply).encode())

    def do_status(self, behaviour, route, body, count):
        given = body["inputs"][0]
        self.send(given["status"], b'{"error": "no"}', headers=given.get("headers", {}).items())

    def do_busy(self, behaviour, route, body, count):  # busy once, and says for how long
        if count == 1:
            self.send(429, b'{"error": "slow down"}', headers=[("Retry-After", "0.2")])
        else:
            self.answer("ok", route, body, count)

    def do_busyforever(self, behaviour, route, body, count):
        self.send(429, b"{}", headers=[("Retry-After", "4")])

    def do_flaky(self, behaviour, route, body, count):  # 500, reset, then an answer
        if count == 1:
            self.send(500, b"oops", "text/plain")
        elif count == 2:
            self.do_reset(behaviour, route, body, count)
        else:
            self.answer("ok", route, body, count)

    def do_extrabusy(self, behaviour, route, body, count):
        if is_extra(body):
            self.send(429, b'{"error": "slow down"}')
        else:
            self.answer("ok", route, body, count)

    def do_extrareset(self, behaviour, route, body, count):  # every second one, by its seed
        if is_extra(body) and body.get("seed", 1) % 2:
            self.do_reset(behaviour, route, body, count)
        else:
            self.answer("ok", route, body, count)

    def do_slowextra(self, behaviour, route, body, count):
        time.sleep(0.2 if is_extra(body) else 0)
        self.answer("ok", route, body, count)

    def do_stallonce(self, behaviour, route, body, count):
        if count == 1:
            time.sleep(0.5)
        self.answer("ok", route, body, count)

    def do_stall(self, behaviour, route, body, count):
        time.sleep(3)
        self.close_connection = True

    def do_slow(self, behaviour, route, body, count):
        time.sleep(0.05)
        self.answer("ok", route, body, count)

    def do_reset(self, behaviour, route, body, count):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_hangup(self, behaviour, route, body, count):
        self.close_connection = True

    def do_truncated(self, behaviour, route, body, count):  # less than Content-Length says
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
        self.close_connection = True

    def do_nothttp(self, behaviour, route, body, count):
        self.wfile.write(b"220 smtp.example ESMTP\r\n\r\n")
        self.close_connection = True

    def do_badgzip(self, behaviour, route, body, count):
        self.send(200, b"this is no gzip", headers=[("Content-Encoding", "gzip")])

    def do_cutjson(self, behaviour, route, body, count):
        self.send(200, b'{"predictions": ["pos')

    def do_deep(self, behaviour, route, body, count):
        self.send(200, b"[" * 40_000)

    def do_html(self, behaviour, route, body, count):
        self.send(200, b"<html>" + b"Sign in, please. " * 100, "text/html; charset=utf-8")

    def do_huge(self, behaviour, route, body, count):
        self.send(200, b'{"predictions": ["' + b"x" * 100_000 + b'"]}')

    def do_redirect(self, behaviour, route, body, count):
        self.send(307, b"", headers=[("Location", "/ok/elsewhere/predict?token=secret-in-location")])

    def do_denied(self, behaviour, route, body, count):  # as some providers do: the key is in the message
        shown = {"error": f"Incorrect API key provided: {self.headers['Authorization']} " + "x" * 1000}
        self.send(401, json.dumps(shown).encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):  # clients that gave up
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
