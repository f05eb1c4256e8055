"""`bisupervised study`: the paper's case studies, from published predictions or live."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.options import print_json
from bisupervised.cli.study_live import add_live_options, refuse_live_options, run_live, run_replay
from bisupervised.errors import InputError

_STUDIES = {
    "imdb": ("imdb",),
    "imagenet": ("ImageNet",),
    "squadv2": ("SQuADv2 (possible only)", "SQuADv2 (all)"),
    "issues": ("Issues",),
}


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "study",
        help="the paper's case studies: published tables beside ours, or with live models",
        description="With --recorded, loads the authors' published predictions and repeats the paper's tables, with "
        "the difference to what was published. With --live, asks real models about real inputs, both supervised, and "
        "checks the paper's claims; interrupted, the same command goes on, and asks nothing twice. With --replay, "
        "the same report from recorded numbers, without models. Weiss & Tonella, TOSEM 2023, doi:10.1145/3617593.",
    )
    parser.add_argument("study", choices=["all", *_STUDIES, "out_of_scope"], help="which case study")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--recorded",
        type=Path,
        metavar="FOLDER",
        help="the authors' CSV files, or a copy of their repository (without it: where to get them)",
    )
    source.add_argument("--live", action="store_true", help="ask the models")
    source.add_argument(
        "--replay",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="recorded numbers, <study>.parquet (without a folder: those that come with the package)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write ours in the form of rq2_table.csv")
    parser.add_argument(
        "--figures",
        type=Path,
        default=Path("bisupervised-study"),
        metavar="FOLDER",
        help="where the request-accuracy curves are drawn (default: bisupervised-study)",
    )
    parser.add_argument("--no-figures", action="store_true", help="draw nothing")
    parser.add_argument("--json", action="store_true", help="every table as JSON, and no figures")
    add_live_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.live or args.replay is not None:
        if args.csv is not None or args.no_figures:
            raise InputError("--csv and --no-figures go with --recorded")
        return run_live(args) if args.live else run_replay(args)
    refuse_live_options(args)
    return _run_recorded(args)


def _run_recorded(args: argparse.Namespace) -> int:
    from bisupervised.studies.paper import WHERE_TO_GET_IT, load_paper_study, load_published, write_paper_csv
    from bisupervised.studies.paper_report import draw_paper_figures, paper_report, study_lines

    if args.study == "out_of_scope":
        raise InputError("out_of_scope is no study of the paper's: it runs with --live or --replay")
    if args.recorded is None:
        raise InputError(
            f"name the folder of the recorded predictions with --recorded; {WHERE_TO_GET_IT}. With --live models are "
            f"asked, and --replay reads what they said"
        )
    wanted = [name for names in _STUDIES.values() for name in names] if args.study == "all" else _STUDIES[args.study]
    studies = [study for study in load_paper_study(args.recorded) if study.name in wanted]
    published = [row for row in load_published(args.recorded) if row.study in wanted]
    report = paper_report(studies, published)
    if args.csv:
        write_paper_csv(args.csv, report.rows)
    if args.json:
        print_json(report.to_dict())
        return 0
    figures = [] if args.no_figures else draw_paper_figures(studies, args.figures)
    print("\n".join(study_lines(report)))
    for path in [*([args.csv] if args.csv else []), *figures]:
        print(f"written: {path}")
    return 0
