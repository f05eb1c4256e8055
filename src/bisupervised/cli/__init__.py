"""The command line: one thin file per command, each parsing, calling and printing, no more."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from bisupervised import __version__
from bisupervised.cli import (
    adapt,
    calibrate,
    calibrate_confidence,
    compare,
    demo,
    doctor,
    drift,
    evaluate,
    fit_quantifier,
    init,
    key,
    mode,
    predict,
    record,
    replay,
    serve,
    study,
)
from bisupervised.errors import BiSupervisedError

_COMMANDS = (
    *(demo, record, evaluate, compare, calibrate, drift, adapt, fit_quantifier, calibrate_confidence, predict),
    *(study, init, replay, doctor, serve, mode, key),
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="bisupervised",
        description="A small local model first, a large remote one where it pays, and a supervisor on each.",
        epilog="Start with `bisupervised demo`, or with `bisupervised evaluate YOUR.csv`. Exit status: 0 done, 1 a "
        'check failed, 2 the input cannot be used (with --json, standard output then holds {"error": …}), '
        "3 `drift` found a change.",
    )
    parser.add_argument("--version", action="version", version=f"bisupervised {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: a check failed; 2: the input cannot be used; 3: `drift` found a change."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BiSupervisedError as error:
        return _say(error, str(error), as_json=getattr(args, "json", False))
    except KeyboardInterrupt:
        print("bisupervised: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        _discard_output()
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        if error.filename is None:
            _discard_output()
        where = f" {error.filename}" if error.filename else ""
        return _say(error, f"cannot read or write{where}: {error.strerror or error}", as_json=False)
    return status


def _discard_output() -> None:
    """What is still to be printed has nowhere to go; without this, Python would say so at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: Exception, message: str, *, as_json: bool) -> int:
    print(f"bisupervised: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"kind": type(error).__name__, "message": message}}))
    return 2
