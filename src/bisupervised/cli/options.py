"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.calibration import (
    BestAccuracy,
    FalseAlarmRate,
    LowestCost,
    RemoteEven,
    RequestBudget,
    Target,
    WithinLimits,
)
from bisupervised.calibration.targets import TARGETS
from bisupervised.errors import InputError
from bisupervised.fitting import with_confidence_calibration, without_fitting_rows
from bisupervised.probability_calibration_file import confidence_calibration_from_file
from bisupervised.quantifiers import Quantifier, quantifier_by_name, quantifier_from_file, quantifier_names
from bisupervised.sources import read_table
from bisupervised.table import Table

SOURCE_HELP = (
    "rows: CSV, Parquet, JSON lines or a decision log (file or sqlite:///path). Columns: id, label, and for local_ "
    "and remote_ each: prediction, confidence (or proba_<class>, logit_<class>, token_logprobs; and feature_<i>), "
    "latency_s, supervisor_s, "
    "cost, error; or local_correct and remote_correct in place of label and predictions"
)


def add_source(parser: argparse.ArgumentParser, *, two_files: bool = True) -> None:
    """The one positional argument, and how to read it."""
    parser.add_argument("source", metavar="SOURCE", type=Path if not two_files else str, help=SOURCE_HELP)
    if two_files:
        parser.add_argument(
            "remote_source",
            metavar="REMOTE_SOURCE",
            nargs="?",
            help="when the models' predictions are in two files: the remote model's, joined on id",
        )
    parser.add_argument(
        "--columns",
        metavar="OURS=YOURS",
        action="append",
        default=[],
        help="what a column is called in your file, as in --columns local_confidence=score_a (may be repeated, "
        "or separated by commas)",
    )
    parser.add_argument("--mode", metavar="MODE", help="of a gateway's log, only rows of this mode, as in observe")
    parser.add_argument("--cascade", metavar="NAME", help="of a gateway's log, only this cascade's rows")
    parser.add_argument("--local-cost", type=cost, metavar="COST", help="cost of one local prediction")
    parser.add_argument("--remote-cost", type=cost, metavar="COST", help="cost of one remote prediction")
    for level in ("local", "remote"):
        parser.add_argument(
            f"--{level}-quantifier",
            metavar="NAME",
            help=f"how to read the {level} confidence from the evidence in the rows: an .npz file of "
            f"`fit-quantifier`, or {', '.join(quantifier_names())}",
        )
        parser.add_argument(
            f"--{level}-confidence-calibration",
            metavar="FILE",
            help=f"calibrate the {level} confidences by a file of `calibrate-confidence`",
        )


def table_of(args: argparse.Namespace) -> Table:
    """The table that the source options name.

    Rows that a quantifier or calibration given as a file was fitted on are left out, which is said.
    """
    costs = {level: getattr(args, f"{level}_cost") for level in ("local", "remote")}
    quantifiers = {level: getattr(args, f"{level}_quantifier") for level in ("local", "remote")}
    table = read_table(
        args.source,
        args.remote_source,
        rename=renamed(args.columns),
        costs={level: cost for level, cost in costs.items() if cost is not None},
        quantifiers={level: _quantifier(name, level) for level, name in quantifiers.items() if name},
    )
    for level, name in quantifiers.items():
        calibration = getattr(args, f"{level}_confidence_calibration")
        files = [name] if name and name.endswith(".npz") else []  # any other is a quantifier's name
        if calibration:
            calibrate = confidence_calibration_from_file(calibration, level)
            files.append(calibration)
        table = _without_fitting_rows(table, level, files)
        if calibration:
            table = with_confidence_calibration(table, level, calibrate)
    for column in ("mode", "cascade"):
        table = _only(table, column, getattr(args, column))
    return table


def _quantifier(name: str, level: str) -> Quantifier:
    return quantifier_from_file(name, level) if name.endswith(".npz") else quantifier_by_name(name)


def _without_fitting_rows(table: Table, level: str, files: Sequence[str]) -> Table:
    before = len(table.notes)
    for file in files:
        table = without_fitting_rows(table, level, file)
    for note in table.notes[before:]:
        print(f"bisupervised: {note}", file=sys.stderr)
    return table


def confidences_of(args: argparse.Namespace) -> dict[str, Any]:
    """How the confidences were read, as thresholds remember it: a threshold means nothing on another scale."""
    named: dict[str, Any] = {}
    for level in ("local", "remote"):
        quantifier = getattr(args, f"{level}_quantifier")
        calibration = getattr(args, f"{level}_confidence_calibration")
        if quantifier:
            named[f"{level}_quantifier"] = Path(quantifier).name
        if calibration:
            named[f"{level}_confidence_calibration"] = Path(calibration).name
    return named


def check_confidences(args: argparse.Namespace, thresholds: Any) -> None:
    """`InputError` when the rows' confidences are read in another way than those that chose the thresholds."""
    wanted, given = thresholds.evidence.get("confidences", {}), confidences_of(args)
    for name in sorted({*wanted, *given}):
        if "confidences" in thresholds.evidence and wanted.get(name) != given.get(name):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"the thresholds are of confidences read with {option} {wanted[name]}: give it here too"
                if name in wanted
                else f"the thresholds are of confidences read without {option}: leave it out, or calibrate with it"
            )


def _only(table: Table, column: str, wanted: str | None) -> Table:
    """The rows of a gateway's log with this value in a column; all of them when none is wanted."""
    if wanted is None:
        return table
    if column not in table.extra:
        raise InputError(f"--{column} is for the decision log of a gateway; these rows have no {column}")
    there = [str(value) for value in table.extra[column]]
    chosen = np.array([value == wanted for value in there])
    if not chosen.any():
        raise InputError(f"no row's {column} is {wanted!r}; there are: {', '.join(sorted(set(there)))}")
    return table.take(np.flatnonzero(chosen))


def renamed(pairs: list[str]) -> dict[str, str]:
    """`["local_confidence=score_a,id=key"]` as a mapping of our names to theirs."""
    names = {}
    for pair in (part for given in pairs for part in given.split(",")):
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise InputError(f"--columns takes OURS=YOURS, as in local_confidence=score_a; got {pair!r}")
        names[ours.strip()] = theirs.strip()
    return names


def add_target(parser: argparse.ArgumentParser) -> None:
    """What calibration aims at."""
    group = parser.add_argument_group("target", "what the thresholds are chosen for, on one part of the rows")
    group.add_argument(
        "--target",
        choices=[name.replace("_", "-") for name in TARGETS],
        help="remote-even (default): the fewest requests that are as accurate as the remote model alone",
    )
    group.add_argument("--margin", type=float, metavar="SHARE", help="remote-even: accuracy to give up, as in 0.01")
    group.add_argument(
        "--max-request-rate", type=float, metavar="SHARE", help="at most this share of inputs sent, as in 0.3"
    )
    group.add_argument(
        "--max-risk",
        type=float,
        metavar="SHARE",
        help="at most this share of the accepted answers wrong, as in 0.05: kept by all thresholds together, with "
        "confidence 1 - delta, or `infeasible` with what the rows could support",
    )
    group.add_argument(
        "--max-abstention", type=float, metavar="SHARE", help="at most this share without a trusted answer (likewise)"
    )
    group.add_argument(
        "--max-cost",
        type=cost,
        metavar="COST",
        help="at most this cost per input, by the three costs below (likewise)",
    )
    group.add_argument(
        "--delta",
        type=float,
        metavar="SHARE",
        help="the chance, over the calibration rows, that the promise fails (default 0.1 with --max-risk, "
        "--max-abstention and --max-cost); with a request budget it makes a promise of that too",
    )
    group.add_argument(
        "--no-guarantee", action="store_true", help="the limits hold on the calibration rows, and nothing is promised"
    )
    group.add_argument(
        "--no-early-abstention",
        action="store_true",
        help="never reject an input without asking the remote model",
    )
    group.add_argument(
        "--false-alarm-rate",
        type=float,
        metavar="SHARE",
        help="2nd level: reject at most this share of the correct predictions (default 0.05; the paper's FPR)",
    )
    group.add_argument("--no-second-level", action="store_true", help="accept every remote prediction")
    group.add_argument(
        "--keep-local-threshold", type=float, metavar="X", help="false-alarm-rate: the 1st level's threshold"
    )
    for what in ("error", "abstention", "request"):
        group.add_argument(
            f"--{what}-cost", type=cost, metavar="COST", help=f"lowest cost, or within limits: of one {what}"
        )
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="share of rows that judge and do not choose (default 0.5; 0 where a promise is made)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the split and of intervals (default 0)")
    parser.add_argument("--objective", default="accuracy", help="accuracy (default), exact_match or macro_f1")


def target_of(args: argparse.Namespace) -> Target:
    """The target that the options name; an option that the target does not read is refused."""
    limits = [option for option in _LIMITS if getattr(args, option) is not None]
    by_limits = (
        "within-limits" if limits else "request-budget" if args.max_request_rate is not None else "remote-even"
    )
    name = args.target or by_limits
    _refuse_others(args, name)
    if name == "within-limits":
        return _within_limits(args)
    rate = None if args.no_second_level else 0.05 if args.false_alarm_rate is None else args.false_alarm_rate
    if name == "request-budget":
        return RequestBudget(_needed(args, "max_request_rate", "a request budget", "0.3"), rate, delta=args.delta)
    if name == "lowest-cost":
        error, abstention, request = (_needed(args, f"{what}_cost", "the lowest cost", "1.0") for what in _COSTS)
        return LowestCost(error, abstention, request, early_abstention=not args.no_early_abstention)
    if name == "false-alarm-rate":
        return FalseAlarmRate(0.05 if rate is None else rate, _needed(args, "keep_local_threshold", name, "0.9"))
    return BestAccuracy(rate) if name == "best-accuracy" else RemoteEven(rate, args.margin or 0.0)


def _within_limits(args: argparse.Namespace) -> WithinLimits:
    if args.no_guarantee and args.delta is not None:
        raise InputError("--delta is that of a guarantee, and --no-guarantee asks for none: give one of them")
    delta = 0.1 if args.delta is None else args.delta
    return WithinLimits(
        risk=args.max_risk,
        request_rate=args.max_request_rate,
        abstention=args.max_abstention,
        cost=args.max_cost,
        delta=None if args.no_guarantee else delta,
        error_cost=args.error_cost,
        abstention_cost=args.abstention_cost,
        request_cost=args.request_cost,
        early_abstention=not args.no_early_abstention,
        seed=args.seed,
    )


_LIMITS = ("max_risk", "max_abstention", "max_cost")
_COSTS = ("error", "abstention", "request")
#: Which targets read an option. An abstention's cost is also a price in `evaluate`.
_READ_BY = {
    "max_request_rate": ("request-budget", "within-limits"),
    **dict.fromkeys(("max_risk", "max_abstention", "max_cost"), ("within-limits",)),
    "delta": ("request-budget", "within-limits"),
    "margin": ("remote-even",),
    "keep_local_threshold": ("false-alarm-rate",),
    "false_alarm_rate": ("request-budget", "remote-even", "best-accuracy", "false-alarm-rate"),
    "error_cost": ("lowest-cost", "within-limits"),
    "request_cost": ("lowest-cost", "within-limits"),
}


def _refuse_others(args: argparse.Namespace, target: str) -> None:
    if args.no_second_level and target in ("within-limits", "lowest-cost"):
        raise InputError(f"--no-second-level does not go with {target}, which chooses both levels together")
    if args.no_early_abstention and target not in ("within-limits", "lowest-cost"):
        raise InputError(
            f"--no-early-abstention goes with limits or --target lowest-cost: {target} never abstains early"
        )
    if args.no_guarantee and target != "within-limits":
        raise InputError(f"--no-guarantee goes with --max-risk, --max-abstention or --max-cost, not {target}")
    for option, targets in _READ_BY.items():
        if getattr(args, option) is not None and target not in targets:
            raise InputError(f"--{option.replace('_', '-')} goes with --target {' or '.join(targets)}, not {target}")


def _needed(args: argparse.Namespace, option: str, what: str, example: str) -> float:
    value: float | None = getattr(args, option)
    if value is None:
        name = f"--{option.replace('_', '-')}"
        raise InputError(f"{what} needs {name}, as in {name} {example}")
    return value


def cost(text: str) -> float:
    """An option's value as a cost."""
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"a cost is a number from 0 on, not {text}")
    return value


def seed(text: str) -> int:
    """An option's value as a seed."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 on, not {text}")
    return value


def print_json(values: Mapping[str, Any]) -> None:
    """Plain JSON on standard output; numbers that are not known are null."""
    print(json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
