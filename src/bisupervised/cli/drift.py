"""`bisupervised drift`: has the traffic moved away from the calibration rows, what that means, and what to do."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.cli.options import add_source, check_confidences, print_json, seed, table_of
from bisupervised.errors import InputError

MOVED = 3  #: the exit status when an alarm rang


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "drift",
        help="has the traffic moved away from the rows that the thresholds were calibrated on?",
        description="Compares confidences, request rate, early abstention and, where there are labels, the risk with "
        "the [reference] in thresholds.toml, and holds them to what was certified, or to limits that you give. Run "
        "it as often as you like, on all rows since the calibration: the alarm is valid at any time.",
        epilog="Exit status: 0 no sign that anything moved (or too few rows to say), 3 something moved, 2 the input "
        "cannot be used.",
    )
    add_source(parser)
    parser.add_argument(
        "--against", type=Path, required=True, metavar="FILE", help="the thresholds.toml that the rows are held to"
    )
    parser.add_argument(
        "--calibration",
        metavar="ROWS",
        help="the calibration rows, for a thresholds.toml without [reference]; read with the same options",
    )
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="probability that any alarm rings by chance (default 0.01)"
    )
    parser.add_argument("--max-risk", type=float, metavar="SHARE", help="a limit on the risk, as in 0.05")
    parser.add_argument("--max-request-rate", type=float, metavar="SHARE", help="a limit on the request rate")
    parser.add_argument(
        "--max-abstention", type=float, metavar="SHARE", help="a limit on the share without a trusted answer"
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only rows from then on: ISO 8601 (UTC if it names no zone) or Unix seconds; by default, where the rows "
        "have times, those after the calibration",
    )
    parser.add_argument(
        "--label-share",
        metavar="SHARE|COLUMN",
        help="the probability with which each row was chosen to be labelled: a number, or a column that holds it",
    )
    parser.add_argument(
        "--shuffle",
        action="store_true",
        help="take the rows in a random order: for a file whose order is not that of time (sorted by label, say)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the figure, PNG or SVG")
    parser.add_argument("--seed", type=seed, default=0, help="of how ties are broken (default 0)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.assessment import answered
    from bisupervised.calibration import Thresholds
    from bisupervised.learned import supervisors_of
    from bisupervised.monitoring import drift

    thresholds = Thresholds.load(args.against)
    check_confidences(args, thresholds)
    table = answered(table_of(args), supervisors_of(thresholds))
    if args.calibration is not None:
        thresholds = with_reference(thresholds, args)
    limits = {"risk": args.max_risk, "request_rate": args.max_request_rate, "abstention": args.max_abstention}
    found = drift(
        table,
        thresholds,
        alpha=args.alpha,
        limits={name: most for name, most in limits.items() if most is not None},
        label_share=label_share_of(args.label_share, table),
        audits=audits_of(args),
        since=args.since,
        shuffle=args.shuffle,
        seed=args.seed,
    )
    if args.plot is not None:
        from bisupervised.report.drift_plots import save_drift_figure

        save_drift_figure(args.plot, found)
    if args.json:
        print_json({"thresholds_id": thresholds.id, **found.to_dict()})
    else:
        from bisupervised.report.drift_text import print_drift

        print_drift(found)
        if args.plot is not None:
            print(f"\nfigure: {args.plot.resolve()}")
    return MOVED if found.moved else 0


def with_reference(thresholds: Any, args: argparse.Namespace) -> Any:
    """The thresholds with a reference made of `--calibration`."""
    from bisupervised.assessment import answered
    from bisupervised.calibration.calibrate import rows_to_judge
    from bisupervised.learned import supervisors_of
    from bisupervised.monitoring import reference_of

    if thresholds.reference:
        raise InputError(f"{args.against} has its own [reference]: leave out --calibration")
    rows = table_of(argparse.Namespace(**{**vars(args), "source": args.calibration, "remote_source": None}))
    rows = answered(rows, supervisors_of(thresholds))
    # Of the rows that chose, those held out: the others only where there are none, or they cannot be told.
    judged, _ = rows_to_judge(rows, thresholds)
    reference = reference_of(
        judged,
        thresholds.local,
        thresholds.remote,
        thresholds.abstain,
        chose_thresholds=len(judged) == len(rows),
    )
    return replace(thresholds, reference=reference)


def label_share_of(given: str | None, table: Any) -> Any:
    """`--label-share` as a number, or as the numbers of a column."""
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        pass
    if given not in table.extra:
        raise InputError(f"--label-share is a number or a column's name; there is no further column {given!r}")
    try:
        return np.asarray(table.extra[given], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the column {given!r} holds no probabilities: {error}") from error


def audits_of(args: argparse.Namespace) -> Any:
    """The audits of a decision log; None where there are none, or the source is no log."""
    from bisupervised.decision_log.audits import read_audits
    from bisupervised.monitoring import Audits
    from bisupervised.sources import is_log

    if args.remote_source is not None or not is_log(args.source):
        return None
    found = read_audits(args.source, cascade=args.cascade)
    return Audits(found.ids, found.agrees) if found.ids else None
