"""`bisupervised adapt`: the local threshold that a long-run target would have led to; proposed, and never applied."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bisupervised.cli.options import add_source, check_confidences, print_json, table_of


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "adapt",
        help="propose a local threshold that follows a long-run target through recent rows",
        description="Replays rows in their order, the threshold rising after each error and falling after each input "
        "without one (adaptive conformal inference). It holds in the long run whatever the inputs do, and promises "
        "nothing of the next ones: calibrate where you can. The proposal is a file to look at; `bisupervised mode "
        "CONFIG --thresholds FILE` puts it to use, which the gateway's log records and can roll back.",
    )
    add_source(parser)
    parser.add_argument(
        "--against", type=Path, required=True, metavar="FILE", help="the thresholds.toml to start from"
    )
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--error-share", type=float, metavar="SHARE", help="of all inputs wrongly accepted locally")
    group.add_argument("--request-rate", type=float, metavar="SHARE", help="of all inputs sent to the remote model")
    parser.add_argument(
        "--step", type=float, metavar="X", help="in units of confidence; larger: quicker, less steady"
    )
    parser.add_argument("--out", type=Path, default=Path("proposed.toml"), metavar="FILE")
    parser.add_argument("--json", action="store_true", help="the proposal as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.assessment import answered
    from bisupervised.calibration import Thresholds
    from bisupervised.learned import supervisors_of
    from bisupervised.monitoring import follow

    thresholds = Thresholds.load(args.against)
    check_confidences(args, thresholds)
    table = answered(table_of(args), supervisors_of(thresholds))
    by_errors = args.error_share is not None
    found = follow(
        table,
        thresholds,
        target=args.error_share if by_errors else args.request_rate,
        aim="error_share" if by_errors else "request_rate",
        step=args.step,
    )
    found.thresholds.save(args.out)
    if args.json:
        print_json(
            {"rows": found.rows, "started_at": found.started_at, **asdict(found.proposal), "file": str(args.out)}
        )
        return 0
    proposal = found.proposal
    what = "wrongly accepted" if by_errors else "sent to the remote model"
    print(
        f"local threshold {found.started_at:g} -> {proposal.threshold:g}, after {found.rows} rows of which "
        f"{proposal.counted} were counted: {proposal.mean:.4f} of them {what}, target {proposal.target:g} "
        f"(it may differ by {min(proposal.bound, 1.0):.4f} after so many)"
    )
    print("No promise holds of it. Nothing was changed; to use it, after a look:")
    print(f"  bisupervised mode CONFIG --thresholds {args.out}")
    return 0
