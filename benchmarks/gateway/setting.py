"""The files of one run: the gateway's `cascade.toml` with its model, and the peers' configurations."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KEY = "sk-bench-2f1c9a77d0e84b55"
TEXT = "The plot is thin, the actors try, and the last half hour almost makes up for it."
WIDTH = 16  #: of the local model's input

#: Models of the upstream, `tests/gateway/upstreams/fast.py`: answers of 12 tokens, the first of likelihood 0.82.
SMALL, LARGE, SLOW = "fast+gap2ms", "fast+first40ms+gap2ms", "fast+gap833ms"
MODES = ("buffer", "prefix", "speculative")
PREFIX_TOKENS = 4

PREPARE = f'''
"""Texts -> features, and a remote model that nobody asks."""

import numpy as np


def prepare(texts):
    """How often each kind of byte occurs."""
    counts = [np.bincount(np.frombuffer(str(text).encode(), np.uint8) % {WIDTH}, minlength={WIDTH}) for text in texts]
    return np.array(counts, np.float32)


def never(inputs):
    raise RuntimeError("the remote model was asked, though every local answer is to be trusted")
'''

GATEWAY = """
[gateway]
host = "127.0.0.1"
port = 0
log = "decisions.db"

[[gateway.key]]
name = "bench"
sha256 = "{digest}"
scopes = ["call", "label", "admin"]
"""

CASCADE = """
[[cascade]]
name = "{name}"
thresholds = {{ local = {local_threshold}, remote = 0.1 }}

[cascade.gateway]
mode = "enforce"
{gateway}

[cascade.local]
{local}

[cascade.remote]
{remote}
"""

ONNX = """model = "onnx"
path = "local.onnx"
classes = ["negative", "positive"]
inline = true
"""

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    upstream remote {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://remote;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Cascade:
    """One virtual model, and where its requests are meant to be answered."""

    name: str
    route: str  #: local | remote


LOCAL, REMOTE, STREAMS = (
    Cascade("bench-local", "local"),
    Cascade("bench-remote", "remote"),
    Cascade("bench-slow", "remote"),
)
NUMBERS = Cascade("bench-numbers", "local")  #: over the v2 protocol
STREAMING = {(mode, route): Cascade(f"mode-{mode}-{route}", route) for mode in MODES for route in ("local", "remote")}


def write_gateway(folder: Path, upstream: int) -> Path:
    """`cascade.toml`, with the ONNX model and the module that it names beside it."""
    write_onnx(folder / "local.onnx")
    (folder / "bench_prepare.py").write_text(PREPARE)
    texts = ONNX + 'prepare = "bench_prepare:prepare"\n'
    trusted, deferred = 0.0, 0.99999
    never = 'model = "function"\nfunction = "bench_prepare:never"\n'
    parts = [
        GATEWAY.format(digest=hashlib.sha256(KEY.encode()).hexdigest()),
        _cascade(LOCAL, trusted, texts, _openai(upstream, "fast")),
        _cascade(REMOTE, deferred, texts, _openai(upstream, "fast")),
        _cascade(STREAMS, deferred, texts, _openai(upstream, SLOW), 'streaming = "prefix"\nprefix_tokens = 1'),
        _cascade(NUMBERS, trusted, ONNX, never, 'interface = "v2"'),
    ]
    for (mode, route), cascade in STREAMING.items():
        threshold = 0.5 if route == "local" else 0.9
        parts.append(_cascade(cascade, threshold, _openai(upstream, SMALL), _openai(upstream, LARGE), _mode(mode)))
    path = folder / "cascade.toml"
    path.write_text("".join(parts))
    return path


def _cascade(cascade: Cascade, threshold: float, local: str, remote: str, gateway: str = "") -> str:
    return CASCADE.format(name=cascade.name, local_threshold=threshold, local=local, remote=remote, gateway=gateway)


def _openai(upstream: int, model: str) -> str:
    given = {"model": "openai", "base_url": f"http://127.0.0.1:{upstream}/v1", "model_name": model}
    given["quantifier"] = "token_likelihood_min"
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    return "\n".join([*lines, "prompt_price = 1.0", "completion_price = 2.0", "max_concurrency = 4096", ""])


def _mode(mode: str) -> str:
    speculative = "true" if mode == "speculative" else "false"
    streaming = "prefix" if mode == "prefix" else "buffer"
    return f'streaming = "{streaming}"\nprefix_tokens = {PREFIX_TOKENS}\nspeculative = {speculative}'


def write_onnx(path: Path) -> None:
    """A classifier of (n, WIDTH) numbers into two classes: one layer, softmax."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(size=(WIDTH, 2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        ],
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def write_nginx(folder: Path, upstream: int, port: int) -> Path:
    """A reverse proxy in one worker with connections kept alive both ways."""
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    return path


def write_litellm(folder: Path, upstream: int) -> Path:
    """LiteLLM's proxy with a key, no database, no logging, no retries. JSON is YAML too."""
    path = folder / "litellm.yaml"
    model = {"model": "openai/fast", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    general = {"master_key": KEY, "disable_spend_logs": True, "disable_error_logs": True}
    general |= {"background_health_checks": False}
    quiet = {"set_verbose": False, "num_retries": 0, "turn_off_message_logging": True, "request_timeout": 60}
    settings = {
        "model_list": [{"model_name": "fast", "litellm_params": model}],
        "litellm_settings": quiet | {"callbacks": [], "success_callback": [], "failure_callback": []},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True, "routing_strategy": "simple-shuffle"},
        "general_settings": general,
    }
    path.write_text(json.dumps(settings))
    return path
