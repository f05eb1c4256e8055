"""`bisupervised compare`: which supervisor to use at each level, of all that the recorded rows allow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.options import add_source, check_confidences, print_json, seed, table_of
from bisupervised.errors import InputError

#: From this many rows on it may take long enough to show how far it is.
_MANY_ROWS = 10_000


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="which supervisor to use at each level, of all that your recorded rows allow",
        description="Scores the labelled rows with every quantifier whose evidence they hold, and with columns "
        "local_score_<name> and remote_score_<name> of your own, and says which one to use: max softmax (or the "
        "recorded confidence), unless another is shown to be better on the same inputs.",
    )
    add_source(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--request-rate",
        type=float,
        metavar="SHARE",
        help="share of inputs that are deferred, on which 2nd-level supervisors are judged (default 0.5)",
    )
    where.add_argument("--thresholds", type=Path, metavar="FILE", help="the same by a thresholds.toml")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="compare these with the baseline, not all (may be repeated, or separated by commas)",
    )
    parser.add_argument("--objective", default="accuracy", help="what is right: accuracy (default) or exact_match")
    parser.add_argument(
        "--alpha", type=float, default=0.05, metavar="P", help="level of significance, all supervisors in view (0.05)"
    )
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="of fitted supervisors (default 5)")
    parser.add_argument("--seed", type=seed, default=0, help="of the folds and of p-values (default 0)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write an HTML page with a figure for each level")
    parser.add_argument("--json", action="store_true", help="every figure as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.assessment import compare
    from bisupervised.calibration import Thresholds
    from bisupervised.learned import COMPARABLE
    from bisupervised.report.text import progress_bar

    if args.report is not None and args.report.suffix not in (".html", ".htm"):
        raise InputError(f"--report names an HTML file, as in --report supervisors.html; got {args.report}")
    thresholds = None if args.thresholds is None else Thresholds.load(args.thresholds)
    if thresholds is not None:
        check_confidences(args, thresholds)
    table = table_of(args)
    comparison = compare(
        table,
        objective=args.objective,
        learned=COMPARABLE,
        only=_names(args.only),
        request_rate=args.request_rate,
        thresholds=thresholds,
        alpha=args.alpha,
        folds=args.folds,
        seed=args.seed,
        progress=progress_bar if len(table) >= _MANY_ROWS else None,
    )
    source = _words(args)
    if args.json:
        from bisupervised.report.comparison import comparison_to_dict

        print_json(comparison_to_dict(comparison, source))
    else:
        from bisupervised.report.comparison_text import print_comparison

        print_comparison(comparison, source)
    if args.report is not None:
        from bisupervised.report.comparison_html import write_comparison_report

        path = write_comparison_report(comparison, args.report, source=source)
        if not args.json:
            print(f"report: {path.resolve()}")
    return 0


def _names(given: list[str] | None) -> list[str] | None:
    return None if given is None else [name.strip() for names in given for name in names.split(",") if name.strip()]


def _words(args: argparse.Namespace) -> list[str]:
    """The words of the command line that name the rows."""
    words = [str(args.source), *([str(args.remote_source)] if args.remote_source else [])]
    words += [word for pair in args.columns for word in ("--columns", pair)]
    for name in ("mode", "cascade"):
        if getattr(args, name) is not None:
            words += [f"--{name}", getattr(args, name)]
    return words
