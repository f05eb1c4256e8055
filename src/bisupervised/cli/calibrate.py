"""`bisupervised calibrate`: thresholds for a target, with their evidence, in a file a system runs on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.options import add_source, add_target, print_json, table_of, target_of


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="choose thresholds for a target and write thresholds.toml",
        description="Chooses both thresholds on one part of the rows, and states what they achieve on the other.",
    )
    add_source(parser)
    add_target(parser)
    parser.add_argument("--out", type=Path, default=Path("thresholds.toml"), metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print the thresholds and their evidence as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.assessment import calibrate

    thresholds = calibrate(
        table_of(args), target_of(args), objective=args.objective, held_out=args.held_out, seed=args.seed
    )
    thresholds.save(args.out)
    if args.json:
        print_json(
            {
                "id": thresholds.id,
                "thresholds": {"local": thresholds.local, "remote": thresholds.remote},
                "target": thresholds.target,
                "evidence": thresholds.evidence,
                "achieved": thresholds.achieved,
                "file": str(args.out),
            }
        )
        return 0
    print(thresholds.to_toml())
    print(f"written: {args.out.resolve()}")
    return 0
