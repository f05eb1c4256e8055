"""`bisupervised calibrate`: thresholds for a target, with their evidence, in a file a system runs on."""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisupervised.cli.options import (
    add_source,
    add_target,
    check_confidences,
    confidences_of,
    print_json,
    table_of,
    target_of,
)
from bisupervised.errors import InputError

if TYPE_CHECKING:
    from bisupervised.calibration import Target, Thresholds
    from bisupervised.learned import LearnedSupervisors
    from bisupervised.table import Table


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="choose thresholds for a target and write thresholds.toml",
        description="Chooses all thresholds on one part of the rows, and states what they achieve on the other. With "
        "--max-risk (or --max-abstention, --max-cost, --delta) they carry a promise, for which every row is used.",
    )
    add_source(parser)
    add_target(parser)
    parser.add_argument(
        "--by",
        metavar="COLUMN",
        help="thresholds for each group of inputs by itself, as for each tenant: one file each in the folder --out; "
        "exit status 1 when a group has none",
    )
    parser.add_argument("--min-rows", type=int, metavar="N", help="--by: the fewest rows of a group (default 50)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: thresholds.toml; --by: the folder thresholds"
    )
    parser.add_argument("--json", action="store_true", help="print the thresholds and their evidence as JSON")
    group = parser.add_argument_group(
        "learned supervisors",
        "kept in files beside the thresholds, whose file names them: `predict`, `serve` and "
        "`evaluate` find them there",
    )
    group.add_argument(
        "--learn",
        metavar="KINDS",
        help="fit supervisors on a part of the rows, and calibrate on the others; 1st level: stacked (is the local "
        "prediction right?) or deferral (which of the two will be?); 2nd level, reading both: pair (is the remote "
        "prediction right?) or arbiter (answer with the better of the two); as in --learn deferral,arbiter",
    )
    group.add_argument("--learn-share", type=float, metavar="SHARE", help="--learn: of labelled rows (default 0.5)")
    group.add_argument(
        "--supervisors-of",
        type=Path,
        metavar="FILE",
        help="those of this thresholds file, which were fitted before; rows that fitted them are left out",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.assessment import calibrate

    if args.by is not None:
        if args.learn is not None or args.supervisors_of is not None:
            raise InputError("--by has no learned supervisors: leave out --learn and --supervisors-of")
        return _by_group(args)
    if args.min_rows is not None:
        raise InputError("--min-rows goes with --by")
    table, target, out = table_of(args), target_of(args), args.out or Path("thresholds.toml")
    _refuse_without_limits(args, target)
    supervisors, table = _learned(args, table)
    thresholds = calibrate(
        table,
        target,
        objective=args.objective,
        supervisors=supervisors,
        held_out=args.held_out,
        seed=args.seed,
    )
    thresholds = replace(thresholds, evidence={**thresholds.evidence, "confidences": confidences_of(args)})
    if supervisors:
        from bisupervised.learned import save_beside

        named: dict[str, Any] = save_beside(supervisors, out)
        thresholds = replace(thresholds, **named)
    thresholds.save(out)
    if args.json:
        print_json(_as_json(thresholds, out))
        return 0
    print(replace(thresholds, reference={}).to_toml())  # which is for `drift`, and long
    for sentence in _in_words(thresholds):
        print(sentence)
    print(f"written: {out.resolve()}")
    return 0


def _refuse_without_limits(args: argparse.Namespace, target: Target) -> None:
    """Before anything is fitted: which targets can use a supervisor of both levels."""
    from bisupervised.calibration import LowestCost, WithinLimits

    second = [kind for kind in ("pair", "arbiter") if kind in (args.learn or "")]
    if second and not isinstance(target, LowestCost | WithinLimits):
        raise InputError(
            f"--learn {second[0]} goes with a limit on the risk (--max-risk 0.05, beside --max-request-rate if there "
            f"is one) or with --target lowest-cost: the others choose the levels one after the other"
        )


def _learned(args: argparse.Namespace, table: Table) -> tuple[LearnedSupervisors | None, Table]:
    """The learned supervisors that the options name or learn, and the rows that they were not fitted on."""
    from bisupervised.calibration import Thresholds
    from bisupervised.learned import learn_on_a_part, supervisors_of

    if args.learn_share is not None and args.learn is None:
        raise InputError("--learn-share goes with --learn")
    if args.learn is not None:
        if args.supervisors_of is not None:
            raise InputError("give --learn or --supervisors-of FILE, not both")
        kinds = [kind.strip() for kind in args.learn.split(",") if kind.strip()]
        share = 0.5 if args.learn_share is None else args.learn_share
        return learn_on_a_part(_graded(table, args.objective), kinds, share=share, seed=args.seed)
    if args.supervisors_of is None:
        return None, table
    thresholds = Thresholds.load(args.supervisors_of)
    check_confidences(args, thresholds)  # which they were fitted on, too
    supervisors = supervisors_of(thresholds)
    if not supervisors:
        raise InputError(f"{args.supervisors_of} names no learned supervisors")
    unseen = supervisors.unseen(table)
    if not unseen.any():
        raise InputError("the learned supervisors were fitted on all of these rows: calibrate on others")
    left_out = len(table) - int(unseen.sum())
    if left_out:
        print(f"{left_out} of {len(table)} rows fitted the supervisors and are left out", file=sys.stderr)
    return supervisors, table.take(unseen) if left_out else table


def _graded(table: Table, objective: str) -> Table:
    from bisupervised.evaluation.evaluation import graded_table
    from bisupervised.evaluation.objectives import objective_by_name

    return graded_table(table, objective_by_name(objective))


def _by_group(args: argparse.Namespace) -> int:
    from bisupervised.assessment import calibrate_by_group

    found = calibrate_by_group(
        table_of(args),
        args.by,
        target_of(args),
        objective=args.objective,
        held_out=args.held_out,
        seed=args.seed,
        **({} if args.min_rows is None else {"min_rows": args.min_rows}),
    )
    folder = args.out or Path("thresholds")
    shown: dict[str, Any] = {}
    for (name, one), file in zip(found.items(), _file_names(list(found)), strict=True):
        if one.thresholds is None:
            shown[name] = {"infeasible": one.infeasible}
            continue
        evidence = {**one.thresholds.evidence, "confidences": confidences_of(args)}
        replace(one.thresholds, evidence=evidence).save(folder / file)
        shown[name] = _as_json(one.thresholds, folder / file)
    if args.json:
        print_json({"by": args.by, "groups": shown})
    else:
        for name, one in found.items():
            print(f"{args.by} = {name}")
            lines = [one.infeasible] if one.thresholds is None else _in_words(one.thresholds)
            if one.thresholds is not None:
                lines.append(f"written: {Path(shown[name]['file']).resolve()}")
            print("".join(f"  {line}\n" for line in lines), end="")
    return 0 if all(one.thresholds is not None for one in found.values()) else 1


def _file_names(groups: list[str]) -> list[str]:
    """A file name for each group, no two alike."""
    names: list[str] = []
    for group in groups:
        stem = re.sub(r"[^\w.-]+", "_", group).strip("._") or "group"
        name, number = f"{stem}.toml", 2
        while name.lower() in (one.lower() for one in names):
            name, number = f"{stem}-{number}.toml", number + 1
        names.append(name)
    return names


def _in_words(thresholds: Thresholds) -> list[str]:
    """What is promised, on what assumption, and what the thresholds achieve."""
    from bisupervised.report.numerals import percent, share
    from bisupervised.report.tables import promises_of

    lines = [f"{promise} {assumption}" for promise, assumption in promises_of(thresholds)]
    lines += [str(remark) for part in thresholds.promises for remark in part.get("remarks", ())]
    achieved = thresholds.achieved
    known = [
        f"{name.replace('_', ' ')} {write(achieved[name])}"
        for name, write in (
            ("request_rate", percent),
            ("early_abstention", percent),
            ("coverage", percent),
            ("supervised_accuracy", share),
            ("system_accuracy", share),
        )
        if name in achieved
    ]
    lines.append(f"On {achieved['on']}: {', '.join(known)}.")
    if thresholds.remote == math.inf and achieved.get("request_rate", 0.0) > 0.0:
        lines.append(
            "The 2nd level accepts nothing (remote = inf): the remote answers that are paid for are all rejected. "
            "Allow more false alarms, label more rows, or go without it (--no-second-level)."
        )
    if "without_requests" in achieved:
        lines.append(str(achieved["without_requests"]))
    return lines


def _as_json(thresholds: Thresholds, file: Path) -> dict[str, Any]:
    return {
        "id": thresholds.id,
        "thresholds": {"local": thresholds.local, "remote": thresholds.remote, "abstain": thresholds.abstain},
        "target": thresholds.target,
        "evidence": thresholds.evidence,
        "achieved": thresholds.achieved,
        **{name: section for name in ("first_level", "second_level") if (section := getattr(thresholds, name))},
        "file": str(file),
    }
