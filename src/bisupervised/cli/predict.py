"""`bisupervised predict`: answer inputs through both supervisors."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from bisupervised.cli.inputs import Inputs, add_inputs, check_out, configured, read_inputs
from bisupervised.cli.options import print_json
from bisupervised.config import Configured
from bisupervised.decision_log import DecisionLog
from bisupervised.records import Outcome, Outcomes, Route


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="answer inputs through both supervisors",
        description="One row for each input: answer, route, both confidences, latency and cost; in FILE, or as JSON "
        "lines on standard output. Exits with 1 when the remote model was asked and never answered.",
    )
    add_inputs(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="answers as .csv, .jsonl or .parquet")
    parser.add_argument("--json", action="store_true", help="the summary as JSON, and no rows")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.sources import write_table
    from bisupervised.table import table_from_outcomes

    check_out(args.out)
    rows = read_inputs(args)
    cascade = configured(args)
    try:
        outcomes = _predict(args, cascade, rows)
        if args.out:  # before the log is closed: what it may raise must not cost the answers
            write_table(table_from_outcomes(outcomes, rows.labels), args.out)
        elif not args.json:
            for outcome in outcomes:
                print(json.dumps(_row(outcome), ensure_ascii=False, default=str))
        _label(cascade, outcomes, rows)
    finally:
        cascade.close()
    summary = _summary(outcomes, args.out)
    if args.json:
        print_json(summary)
    else:
        for name, value in summary.items():
            shown = "not known" if isinstance(value, float) and math.isnan(value) else value
            print(f"{name:>22}: {shown}", file=sys.stderr)
    asked = outcomes.remote.asked
    return int(bool(asked.any()) and all(error is not None for error in outcomes.remote.errors[asked]))


def _predict(args: argparse.Namespace, cascade: Configured, rows: Inputs) -> Outcomes:
    from bisupervised.report.text import progress_bar

    with progress_bar(len(rows.inputs), "predicting") as on_done:
        return cascade.system.predict_many(
            rows.inputs,
            ids=rows.ids,
            batch_size=args.batch_size,
            max_concurrency=args.max_concurrency,
            on_done=on_done,
        )


def _label(cascade: Configured, outcomes: Outcomes, rows: Inputs) -> None:
    """Labels that came with the inputs go into the log too."""
    log = cascade.system.log
    if rows.labels is not None and isinstance(log, DecisionLog):
        log.flush()
        log.label_many(zip(outcomes.ids, rows.labels, strict=True))


def _row(outcome: Outcome) -> dict[str, Any]:
    figures = {
        "local_confidence": outcome.local_confidence,
        "remote_confidence": outcome.remote_confidence,
        "latency_s": outcome.latency_s,
        "cost": outcome.cost,
    }
    known = {name: None if math.isnan(value) else value for name, value in figures.items()}
    return {
        "id": outcome.id,
        "answer": outcome.answer,
        "route": outcome.route.label,
        "reason": outcome.reason,
        **known,
    }


def _summary(outcomes: Outcomes, out: Path | None) -> dict[str, Any]:
    errors = {
        name: [e for e in rows.errors if e] for name, rows in (("local", outcomes.local), ("remote", outcomes.remote))
    }
    first = next((error for found in errors.values() for error in found), None)
    return {
        "inputs": len(outcomes),
        "request_rate": round(outcomes.request_rate, 6),
        "coverage": round(outcomes.coverage, 6),
        **{f"{route.label}": int((outcomes.routes == route).sum()) for route in Route},
        "local_failures": len(errors["local"]),
        "remote_failures": len(errors["remote"]),
        "first_failure": first,
        "cost": float(outcomes.cost.sum()),
        "written": None if out is None else str(out),
    }
