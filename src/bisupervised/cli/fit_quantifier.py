"""`bisupervised fit-quantifier`: a quantifier that has to be fitted, from recorded rows, in a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bisupervised.cli.options import add_source, print_json, seed, table_of
from bisupervised.errors import InputError
from bisupervised.evaluation.intervals import Estimate
from bisupervised.fitting import fit_quantifier
from bisupervised.quantifiers import fitted_kinds

#: With more labels than this their number is shown.
_FEW_LABELS = 10


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "fit-quantifier",
        help="fit a quantifier on recorded rows and write it to an .npz file",
        description="Fits on one part of the rows, and says how well the confidences tell right from wrong on the "
        "other. The rows need what the quantifier reads: `record --with features`, or logits.",
    )
    add_source(parser)
    add_fitting(parser)
    parser.add_argument("--kind", required=True, choices=sorted(fitted_kinds()), help="which quantifier")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=NUMBER",
        action="append",
        default=[],
        help="a setting of its fit, as in k=20 for knn (may be repeated)",
    )
    parser.add_argument(
        "--last-layer", type=Path, metavar="FILE", help="vim: an .npz with weights (classes, d) and bias (classes,)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="an .npz file")
    parser.add_argument("--json", action="store_true", help="what came of it as JSON")
    parser.set_defaults(run=run)


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """Which level's rows are fitted on, and how many."""
    parser.add_argument("--level", choices=("local", "remote"), default="local", help="whose rows (default: local)")
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="share of rows that are not fitted on, and judge (default 0.3)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the split (default 0)")


def run(args: argparse.Namespace) -> int:
    if args.out.suffix != ".npz":
        raise InputError(f"a fitted quantifier is written to an .npz file, not to {args.out}")
    settings = _settings(args.settings) | _last_layer(args.last_layer)
    fitted = fit_quantifier(
        table_of(args), args.kind, level=args.level, held_out=args.held_out, seed=args.seed, settings=settings
    )
    fitted.save(args.out)
    if args.json:
        print_json(
            {
                "quantifier": args.kind,
                "level": args.level,
                "rows": fitted.rows,
                "labels": fitted.labels,
                "held_out_rows": fitted.held_out,
                "auroc": fitted.auroc._asdict(),
                "auroc_of_the_tables_confidences": fitted.auroc_before._asdict(),
                "written": str(args.out),
            }
        )
        return 0
    print(f"{args.kind} of the {args.level} model, fitted on {fitted.rows} rows: {_labels(fitted.labels)}")
    if fitted.held_out:
        print(f"AUROC on {fitted.held_out} rows that it was not fitted on: {_interval(fitted.auroc)}")
        print(f"of the confidences in the table, on the same rows: {_interval(fitted.auroc_before)}")
    else:
        print("AUROC: not known, since no labelled row was left to judge by")
    print(f'written: {args.out}; use it by quantifier = "{args.out.name}" in [cascade.{args.level}]')
    return 0


def _interval(estimate: Estimate) -> str:
    if estimate.value != estimate.value:
        return "not known: all of the predictions are right, or all are wrong"
    return f"{estimate.value:.3f} (95 %: {estimate.low:.3f} to {estimate.high:.3f})"


def _labels(labels: Mapping[str, int]) -> str:
    if len(labels) > _FEW_LABELS:
        return f"{len(labels)} classes"
    return ", ".join(f"{count} {label}" for label, count in labels.items())


def _settings(pairs: list[str]) -> dict[str, float]:
    settings: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            settings[name.strip()] = int(text) if text.strip().lstrip("+-").isdecimal() else float(text)
        except ValueError as error:
            raise InputError(f"--set takes NAME=NUMBER, as in k=20; got {pair!r}") from error
    return settings


def _last_layer(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("weights", "bias")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no .npz file with weights and bias: {error}") from error
