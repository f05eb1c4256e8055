"""`bisupervised init`: a commented file to start from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bisupervised.errors import InputError


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "init",
        help="write a commented cascade.toml for the gateway",
        description="Writes a file that observes: clients get the remote model's answers as before, and what the "
        "cascade would have done is logged beside them. Then: `bisupervised doctor FILE`, `bisupervised serve FILE`.",
    )
    parser.add_argument("file", nargs="?", type=Path, default=Path("cascade.toml"), help="default: cascade.toml")
    parser.add_argument("--name", default="assistant", help="the virtual model that clients ask for")
    parser.add_argument("--local-url", default="http://127.0.0.1:8080/v1", help="the small model's endpoint")
    parser.add_argument("--local-model", default="small", help="its name there")
    parser.add_argument("--remote-url", default="https://api.example.com/v1", help="the large model's endpoint")
    parser.add_argument("--remote-model", default="large", help="its name there")
    parser.add_argument("--remote-key-env", default="REMOTE_API_KEY", help="the environment variable with its key")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.file.exists() and not args.force:
        raise InputError(f"{args.file} is there already; name another file, or give --force to replace it")
    names = ("name", "local_url", "local_model", "remote_url", "remote_model", "remote_key_env")
    args.file.write_text(
        _TEMPLATE.format(**{name: json.dumps(getattr(args, name)) for name in names}), encoding="utf-8"
    )
    print(f"wrote {args.file}. Next:")
    print(f"  export {args.remote_key_env}=…     # or take api_key_env out of the file: an endpoint without a key")
    print(f"  bisupervised doctor {args.file}     # what is wrong, and what each model really gives")
    print(f"  bisupervised serve {args.file}      # then point a client's base_url at it")
    return 0


_TEMPLATE = """\
# A gateway for bisupervised: `bisupervised serve` this file. `${{NAME}}` is the environment variable NAME.
# Every setting is described in docs/how-to/gateway.md.

[gateway]
host = "127.0.0.1"                 # another address needs keys
port = 8100
log = "decisions.db"               # the decision log, budgets, modes: SQLite; several gateways may share it
store_inputs = false               # true: requests are stored as well, for calibration and review
# daily_budget = 10.0              # currency units for each UTC day, all cascades together

# Clients' keys. `bisupervised key NAME --scopes call,label` prints a key once, and this section for it.
# [[gateway.key]]
# name = "team-a"
# sha256 = "…"
# scopes = ["call"]                # call, label (attach ground truth, read outcomes), admin (modes, thresholds)
# daily_budget = 2.0

# Other models and routes, byte for byte.
# [[gateway.passthrough]]
# name = "everything-else"
# base_url = {remote_url}
# api_key_env = {remote_key_env}
# models = ["*"]

[[cascade]]
name = {name}                      # the model that clients ask for
# Choose them with `bisupervised calibrate decisions.db`, once labels are there; until then nothing local is trusted.
thresholds = {{ local = inf, remote = -inf }}

[cascade.gateway]
mode = "observe"                   # observe: the remote answers as before; enforce; remote_only
share = 1.0                        # enforce: for this share of requests (0.05 = 5 %); the others are observed
share_by = "random"                # or "key": a client as a whole
streaming = "buffer"               # buffer: judge the whole answer; prefix: its first prefix_tokens, then stream live
prefix_tokens = 16
speculative = false                # true: ask the remote at once, and cancel it when the local answer is trusted
audit_share = 0.0                  # of trusted local answers that the remote is asked about too, to see agreement
stick_to_remote = false            # true: a conversation in which the remote answered stays there
store_predictions = true           # false: only hashes of answers are stored

[cascade.local]
model = "openai"
base_url = {local_url}
model_name = {local_model}
quantifier = "token_likelihood_mean"   # needs log-probabilities: `bisupervised doctor` says whether they come
timeout_s = 10.0

[cascade.remote]
model = "openai"
base_url = {remote_url}
model_name = {remote_model}
api_key_env = {remote_key_env}
quantifier = "token_likelihood_mean"   # "constant" trusts it unjudged, for an endpoint without log-probabilities
timeout_s = 60.0
# prompt_price = 2.5                # currency units for a million tokens; without prices costs are not known
# cached_prompt_price = 1.25
# completion_price = 10.0
# max_tokens = 1024                 # caps what a client asks for; needed with a daily budget

[cascade.fallback]
kind = "raise"                     # raise: a typed error; default (with answer = "…"); local_untrusted
"""
