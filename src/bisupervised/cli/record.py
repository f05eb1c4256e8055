"""`bisupervised record`: both models' answers to every input, as the one table."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bisupervised.cli.inputs import Inputs, add_inputs, check_out, configured, read_inputs
from bisupervised.cli.options import print_json
from bisupervised.errors import TableError
from bisupervised.table import Table


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "record",
        help="ask both models about every input and keep what they say",
        description="The remote model is asked about every row, and each call is paid for. Interrupted, it keeps "
        "what it has; --resume goes on from there.",
    )
    add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv, .jsonl or .parquet")
    parser.add_argument("--resume", action="store_true", help="keep the rows that FILE already holds")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    parser.add_argument(
        "--with",
        dest="evidence",
        metavar="EVIDENCE",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        default=[],
        help="logits, features, or both (logits,features): a column for each class, or feature, which are many; a "
        "quantifier can be fitted on them",
    )
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.recording import join_recorded
    from bisupervised.sources import read_table, write_table

    check_out(args.out)
    if args.out.exists() and not (args.resume or args.overwrite):
        raise TableError(f"{args.out} is there already: --resume keeps its rows and goes on, --overwrite replaces it")
    rows = read_inputs(args)
    parts: list[Table] = []
    if args.resume and args.out.exists():
        parts.append(read_table(args.out))
        rows = _without(rows, set(parts[0].ids.tolist()))
    before = sum(map(len, parts))
    try:
        _record(args, rows, parts)
    finally:
        if sum(map(len, parts)) > before:
            write_table(join_recorded(parts), args.out)
            print(f"written: {sum(map(len, parts))} rows to {args.out}", file=sys.stderr)
    if args.json:
        print_json(_summary(parts, before, args.out))
    return 0


def _record(args: argparse.Namespace, rows: Inputs, parts: list[Table]) -> None:
    from bisupervised.recording import record_in_parts
    from bisupervised.report.text import progress_bar

    if not rows.inputs:
        return
    cascade = configured(args, learned=False)
    try:
        with progress_bar(len(rows.inputs), "recording") as on_done:
            parts.extend(
                record_in_parts(
                    cascade.system,
                    rows.inputs,
                    ids=rows.ids,
                    labels=rows.labels,
                    batch_size=args.batch_size,
                    max_concurrency=args.max_concurrency,
                    on_done=on_done,
                    evidence=args.evidence,
                )
            )
    finally:
        cascade.close()


def _without(rows: Inputs, known: set[str]) -> Inputs:
    ids = [str(row) for row in range(len(rows.inputs))] if rows.ids is None else rows.ids
    keep = [row for row, id_ in enumerate(ids) if id_ not in known]
    return replace(
        rows,
        inputs=[rows.inputs[row] for row in keep],
        ids=[ids[row] for row in keep],
        labels=None if rows.labels is None else [rows.labels[row] for row in keep],
    )


def _summary(parts: list[Table], before: int, out: Path) -> dict[str, Any]:
    failures = {
        level: int(sum(error is not None for part in parts for error in part.level(level).errors))
        for level in ("local", "remote")
    }
    return {"rows": sum(map(len, parts)), "resumed": before, "failures": failures, "written": str(out)}
