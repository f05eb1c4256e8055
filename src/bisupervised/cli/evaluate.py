"""`bisupervised evaluate`: what two columns of predictions are worth, in one sentence, a table and a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.options import add_source, add_target, check_confidences, cost, print_json, table_of, target_of
from bisupervised.errors import InputError


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="judge two models and their supervisors on recorded predictions",
        description="Opens with one sentence; then the table, the curve and the report. Without thresholds, one part "
        "of the rows chooses them and the other part is judged.",
    )
    add_source(parser)
    parser.add_argument("--thresholds", type=Path, metavar="FILE", help="a thresholds.toml to judge")
    parser.add_argument("--local-threshold", type=float, metavar="X", help="a 1st-level threshold to judge")
    parser.add_argument("--remote-threshold", type=float, metavar="X", help="a 2nd-level threshold to judge")
    parser.add_argument(
        "--abstain-threshold",
        type=float,
        metavar="X",
        help="below this local confidence an input is rejected without asking the remote model",
    )
    add_target(parser)
    parser.add_argument(
        "--fallback-cost", type=cost, default=0.0, metavar="COST", help="what the fallback of a rejected input costs"
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("bisupervised-report"),
        metavar="FOLDER",
        help="where report.html and the curve go (default: bisupervised-report)",
    )
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--json", action="store_true", help="every figure of the report as JSON, and no report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.assessment import evaluate
    from bisupervised.report.figures import evaluation_to_dict

    assessment = evaluate(
        table_of(args),
        thresholds_of(args),
        target=target_of(args),
        objective=args.objective,
        held_out=args.held_out,
        seed=args.seed,
        abstention_cost=args.abstention_cost or 0.0,
        fallback_cost=args.fallback_cost,
    )
    if args.json:
        print_json(evaluation_to_dict(assessment))
        return 0
    from bisupervised.report.text import print_report

    print_report(assessment)
    if not args.no_report:
        write_report(assessment, args.report, source=" + ".join(filter(None, [args.source, args.remote_source])))
    return 0


def thresholds_of(args: argparse.Namespace) -> Any:
    """The thresholds that the options give, or None to choose them."""
    from bisupervised.calibration import Thresholds

    given = (args.local_threshold, args.remote_threshold)
    if args.abstain_threshold is not None and args.local_threshold is None:
        raise InputError("--abstain-threshold goes with --local-threshold")
    if args.thresholds is not None:
        if given != (None, None):
            raise InputError("give --thresholds FILE, or --local-threshold and --remote-threshold, not both")
        thresholds = Thresholds.load(args.thresholds)
        check_confidences(args, thresholds)
        return thresholds
    if given == (None, None):
        return None
    if args.local_threshold is None:
        raise InputError("--remote-threshold goes with --local-threshold")
    remote = float("-inf") if args.remote_threshold is None else args.remote_threshold
    abstain = float("-inf") if args.abstain_threshold is None else args.abstain_threshold
    return Thresholds(args.local_threshold, remote, abstain=abstain)


def write_report(assessment: Any, folder: Path, *, source: str) -> None:
    """The curve as PNG and the self-contained HTML report; prints where they are."""
    from bisupervised.report.curve import save_curve_of
    from bisupervised.report.html import write_html_report

    folder.mkdir(parents=True, exist_ok=True)
    if assessment.evaluation.curves is not None:
        curve = folder / "request_accuracy.png"
        save_curve_of(assessment.evaluation, curve)
        print(f"curve:  {curve}")
    report = write_html_report(assessment, folder / "report.html", title=f"BiSupervised: {source}", source=source)
    print(f"report: {report.resolve()}")
