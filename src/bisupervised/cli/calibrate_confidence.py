"""`bisupervised calibrate-confidence`: confidences made to match how often they are right, in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.fit_quantifier import add_fitting
from bisupervised.cli.options import add_source, print_json, table_of
from bisupervised.errors import InputError
from bisupervised.fitting import CONFIDENCE_CALIBRATIONS, fit_confidence_calibration


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate-confidence",
        help="make confidences match how often they are right, and write the map to a JSON file",
        description="Probability calibration of one level's confidences, fitted on one part of the labelled rows. It "
        "chooses no threshold: do that afterwards, on other rows, with --local-confidence-calibration FILE.",
    )
    add_source(parser)
    add_fitting(parser)
    parser.add_argument(
        "--method",
        choices=list(CONFIDENCE_CALIBRATIONS),
        default="isotonic",
        help="isotonic (default) makes ties; beta makes none and does with few rows; venn_abers is cautious",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .json file")
    parser.add_argument("--json", action="store_true", help="what came of it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.out.suffix != ".json":
        raise InputError(f"a confidence calibration is written to a .json file, not to {args.out}")
    fitted = fit_confidence_calibration(
        table_of(args), args.method, level=args.level, held_out=args.held_out, seed=args.seed
    )
    fitted.save(args.out)
    if args.json:
        figures = ("method", "rows", "accuracy", "mean_confidence", "brier", "brier_before")
        values = {name: getattr(fitted, name) for name in figures}
        print_json({"level": args.level, **values, "held_out_rows": fitted.held_out, "written": str(args.out)})
        return 0
    print(f"{args.method} calibration of the {args.level} confidences, fitted on {fitted.rows} rows")
    if fitted.held_out:
        print(
            f"on {fitted.held_out} rows that it was not fitted on: mean confidence {fitted.mean_confidence:.3f}, "
            f"accuracy {fitted.accuracy:.3f}"
        )
        before = "no probabilities" if fitted.brier_before != fitted.brier_before else f"{fitted.brier_before:.4f}"
        print(f"Brier score there: {fitted.brier:.4f}; before: {before}")
    else:
        print("what it is worth on other rows is not known: no labelled row was left to judge by")
    print(f'written: {args.out}; use it by confidence_calibration = "{args.out.name}" in [cascade.{args.level}]')
    print("thresholds are of calibrated confidences then: calibrate again")
    return 0
