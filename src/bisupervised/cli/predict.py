"""`bisupervised predict`: answer inputs through both supervisors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.inputs import add_inputs, configured, read_inputs
from bisupervised.cli.options import print_json


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="answer inputs through both supervisors",
        description="Writes one row for each input: answer, route, both confidences, latency and cost.",
    )
    add_inputs(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="answers as .csv, .jsonl or .parquet")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.report.text import progress_bar
    from bisupervised.sources import write_table
    from bisupervised.table import table_from_outcomes

    rows = read_inputs(args)
    cascade = configured(args)
    try:
        with progress_bar(len(rows.inputs), "predicting") as on_done:
            outcomes = cascade.system.predict_many(
                rows.inputs,
                ids=rows.ids,
                batch_size=args.batch_size,
                max_concurrency=args.max_concurrency,
                on_done=on_done,
            )
    finally:
        cascade.close()
    if args.out:
        write_table(table_from_outcomes(outcomes, rows.labels), args.out)
    summary = _summary(outcomes, args.out)
    if args.json:
        print_json(summary)
    else:
        for name, value in summary.items():
            print(f"{name:>22}: {'not known' if value != value else value}")
    return 0


def _summary(outcomes: Any, out: Path | None) -> dict[str, Any]:
    from bisupervised.records import Route

    errors = [error for level in (outcomes.local, outcomes.remote) for error in level.errors if error]
    return {
        "inputs": len(outcomes),
        "request_rate": round(outcomes.request_rate, 6),
        "coverage": round(outcomes.coverage, 6),
        **{f"{route.label}": int((outcomes.routes == route).sum()) for route in Route},
        "model_failures": len(errors),
        "first_failure": errors[0] if errors else None,
        "cost": float(outcomes.cost.sum()),
        "written": None if out is None else str(out),
    }
