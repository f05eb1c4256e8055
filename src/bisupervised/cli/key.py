"""`bisupervised key`: a client's key for the gateway, shown once, and what the file keeps of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bisupervised.cli.options import print_json


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "key",
        help="make a client's key for the gateway",
        description="Prints a new key, which is stored nowhere, and the section for cascade.toml, which holds only "
        "its SHA-256.",
    )
    parser.add_argument("name", metavar="NAME", help="what logs, metrics and budgets call the client")
    parser.add_argument(
        "--scopes", default="call", help="what it allows, by commas: call, label, admin (default: call)"
    )
    parser.add_argument("--daily-budget", type=float, metavar="AMOUNT", help="currency units for each UTC day")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.gateway.keys import digest_of, new_key
    from bisupervised.gateway.settings import raise_problems, read_gateway

    key = new_key()
    scopes = [scope.strip() for scope in args.scopes.split(",") if scope.strip()]
    section: dict[str, Any] = {"name": args.name, "sha256": digest_of(key), "scopes": scopes}
    if args.daily_budget is not None:
        section["daily_budget"] = args.daily_budget
    problems: list[str] = []
    read_gateway({"key": [section]}, problems)
    raise_problems("key", problems)
    if args.json:
        print_json({"key": key, "section": section})
        return 0
    print(f"the key, shown this once: {key}\n")
    print("[[gateway.key]]")
    for name, value in section.items():
        print(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return 0
