"""`bisupervised serve`: the gateway."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="serve the cascades of a file to clients that speak OpenAI's or the Open Inference protocol",
        description="Serves every [[cascade]] as a virtual model until it is interrupted; what is under way is "
        "finished first. `bisupervised init` writes a commented file, `bisupervised doctor` checks one.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a cascade.toml")
    parser.add_argument("--host", help="in place of the file's")
    parser.add_argument("--port", type=int, help="in place of the file's (0: any free one)")
    parser.add_argument("--json", action="store_true", help='print {"url": …} once it listens')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.gateway.building import read_plan
    from bisupervised.gateway.server import serve
    from bisupervised.gateway.settings import check_host, raise_problems

    plan = read_plan(args.config)
    given = {name: getattr(args, name) for name in ("host", "port") if getattr(args, name) is not None}
    plan = replace(plan, gateway=replace(plan.gateway, **given))
    problems: list[str] = []
    check_host(plan.gateway, problems)
    raise_problems(args.config, problems)
    return serve(plan, as_json=args.json)
