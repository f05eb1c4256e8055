"""The requests of a run as bytes, so that making them costs nothing while it is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from benchmarks.gateway.setting import KEY, NUMBERS, TEXT, WIDTH

CHAT = "/v1/chat/completions"
INFER = f"/v2/models/{NUMBERS.name}/infer"


def chat_body(model: str, *, stream: bool = False) -> bytes:
    """What the `openai` client sends for one message."""
    body = {"messages": [{"role": "user", "content": TEXT}], "model": model} | ({"stream": True} if stream else {})
    return json.dumps(body, separators=(",", ":")).encode()


def request(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A POST request with the key, on a connection that is kept."""
    given = {"Host": "127.0.0.1", "Content-Type": "application/json", "Accept": "application/json"}
    given |= {"Authorization": f"Bearer {KEY}", "Content-Length": str(len(body))} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def chat(model: str, *, stream: bool = False) -> bytes:
    return request(CHAT, chat_body(model, stream=stream))


def infer_json() -> bytes:
    """One row of numbers over the v2 protocol, as JSON."""
    row = [round(value, 4) for value in _row().tolist()]
    tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": row}
    return request(INFER, json.dumps({"inputs": [tensor]}).encode())


def infer_binary() -> bytes:
    """The same with the binary extension, both ways."""
    data = _row().tobytes()
    tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return request(INFER, head + data, headers)


def _row() -> np.ndarray:
    return np.random.default_rng(2).normal(size=WIDTH).astype(np.float32)
