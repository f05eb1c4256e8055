"""`bisupervised study`: the paper's tables and figures beside ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bisupervised.cli.options import print_json
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
        help="the paper's case studies: published tables beside ours",
        description="Loads the authors' published predictions and repeats the paper's tables, with the difference to "
        "what was published. Weiss & Tonella, TOSEM 2023, doi:10.1145/3617593.",
    )
    parser.add_argument("study", choices=["all", *_STUDIES], help="which case study")
    parser.add_argument(
        "--recorded",
        type=Path,
        metavar="FOLDER",
        help="the authors' CSV files, or a copy of their repository (without it: where to get them)",
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.studies.paper import WHERE_TO_GET_IT, load_paper_study, load_published, write_paper_csv
    from bisupervised.studies.paper_report import draw_paper_figures, paper_report, study_lines

    if args.recorded is None:
        raise InputError(f"name the folder of the recorded predictions with --recorded; {WHERE_TO_GET_IT}")
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
