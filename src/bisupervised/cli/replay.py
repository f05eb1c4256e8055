"""`bisupervised replay`: what the cascade would have saved on a team's own log, before it is switched on."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisupervised.cli.inputs import check_out
from bisupervised.cli.options import cost, print_json, renamed, seed
from bisupervised.errors import ConfigError, InputError, TableError

if TYPE_CHECKING:
    from bisupervised.config import Configured
    from bisupervised.evaluation.replayed import Question, Replay
    from bisupervised.replaying import Recording, RemotePrices
    from bisupervised.request_logs import LoggedRequest, RequestLog
    from bisupervised.table import Table

#: Seconds after which a recording under way is written again.
_WRITE_EVERY_S = 10.0


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="what the cascade would have saved on your own request log, before it is switched on",
        description="Asks the local model about a sample of the logged requests, compares its answers with those of "
        "the remote model, and says what would be saved and how often the answers differ. The remote model is not "
        "called.",
    )
    _add_source(parser)
    _add_local(parser)
    _add_judging(parser)
    parser.add_argument("--json", action="store_true", help="every figure as JSON, and what else is said on stderr")
    parser.set_defaults(run=run)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="the log: JSON lines of OpenAI requests and responses, batch files, fine-tuning messages, LiteLLM spend "
        "logs (JSON or CSV), or CSV with input and answer",
    )
    parser.add_argument(
        "answers",
        metavar="ANSWERS",
        type=Path,
        nargs="?",
        help="when requests and answers are in two files (a batch's input and output): the other one, joined on id",
    )
    parser.add_argument(
        "--columns",
        metavar="OURS=YOURS",
        action="append",
        default=[],
        help="what a column is called in your file, as in --columns input=question,answer=reply (ours: id, input, "
        "messages, request, answer, label, cost, prompt_tokens, completion_tokens, latency_s, time, model)",
    )
    parser.add_argument(
        "--remote-cost", type=cost, metavar="COST", help="cost of one request, where the log has none"
    )
    for what, example in (("prompt", "prompt"), ("completion", "answer"), ("cached-prompt", "cached prompt")):
        parser.add_argument(
            f"--remote-{what}-price", type=cost, metavar="PRICE", help=f"per million {example} tokens"
        )
    parser.add_argument(
        "--days", type=_positive, metavar="N", help="how long the log took, where its rows have no times"
    )


def _add_local(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("local model")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="the two levels (default: cascade.toml; with --recorded: none)"
    )
    group.add_argument("--cascade", metavar="NAME", help="which cascade of the file, if it has several")
    group.add_argument(
        "--sample", type=_sample, default=500, metavar="N", help="random requests to replay (default 500), or all"
    )
    group.add_argument("--seed", type=seed, default=0, help="of the sample and of intervals (default 0)")
    group.add_argument(
        "--out",
        type=Path,
        default=Path("recorded.jsonl"),
        metavar="FILE",
        help="where the local answers are kept, and not asked for again (.jsonl, .csv, .parquet; recorded.jsonl)",
    )
    group.add_argument("--recorded", type=Path, metavar="FILE", help="local answers that are there; nothing is asked")
    group.add_argument(
        "--local-cost", type=cost, metavar="COST", help="cost of one local answer, where none is known"
    )
    group.add_argument("--max-concurrency", type=int, default=16, metavar="N", help="local calls at a time (16)")
    group.add_argument("--yes", action="store_true", help="spend what the estimate says without asking")


def _add_judging(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("judging")
    group.add_argument(
        "--agreement",
        choices=("same", "token_f1"),
        default="same",
        help="same (default): alike but for case, white space and signs around; token_f1: the share of common words",
    )
    group.add_argument(
        "--labels", metavar="A,B,C", help="the answers are these labels (default: the configuration's)"
    )
    group.add_argument(
        "--request-rate", type=float, action="append", metavar="SHARE", help="show this one (may be repeated)"
    )
    group.add_argument(
        "--max-disagreement",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of local answers, where to start observing (0.05)",
    )
    group.add_argument(
        "--margin", type=float, default=0.01, metavar="SHARE", help="how well to know the loss in accuracy (0.01)"
    )
    group.add_argument(
        "--to-label",
        type=Path,
        default=Path("to_label.csv"),
        metavar="FILE",
        help="where the rows worth a label go (to_label.csv)",
    )
    group.add_argument(
        "--labels-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="that file, its label or right column filled (may be repeated)",
    )


def run(args: argparse.Namespace) -> int:
    from bisupervised.cli.replay_settings import cascade_of, prices_of, question_of, scored_by
    from bisupervised.evaluation.labelling import judgements_of
    from bisupervised.evaluation.replayed import judge
    from bisupervised.label_files import read_judgements
    from bisupervised.replaying import assess_by_labels, sort_requests
    from bisupervised.request_logs import read_request_log

    log = read_request_log(args.source, args.answers, columns=renamed(args.columns))
    _say_what_was_read(log)
    cascade = cascade_of(args)
    try:
        section: Mapping[str, Any] = {} if cascade is None else cascade.section
        ordered = sort_requests(log, scored_by(section))
        if not ordered.scorable:
            raise InputError(_nothing_scorable(args.source, ordered.reasons))
        prices, question = prices_of(args, section), question_of(args, section, cascade)
        table = _replayed(args, cascade, ordered.scorable, prices, question)
    finally:
        if cascade is not None:
            cascade.close()
    judgements = {}
    if table.labels is not None:
        judgements = judgements_of(table, list(table.ids), list(table.labels), [None] * len(table), question)
    for path in args.labels_file:
        judgements |= read_judgements(path, table, question)
    days = log.days if args.days is None else args.days
    replay = judge(table, ordered.traffic(prices, days), question, judgements)
    n_to_label = _write_to_label(args, replay, ordered.scorable)
    _show(args, log, replay, n_to_label, assess_by_labels(table, question))
    return 0


def _show(args: argparse.Namespace, log: RequestLog, replay: Replay, n_to_label: int, assessment: Any) -> None:
    from bisupervised.report.figures import evaluation_to_dict
    from bisupervised.report.headline import headline
    from bisupervised.report.replayed import next_steps, replay_text, replay_to_dict

    steps = next_steps(replay, to_label=str(args.to_label) if n_to_label else None, n_to_label=n_to_label)
    if args.json:
        values = {
            "n_bad_rows": len(log.problems),
            "formats": log.formats,
            **replay_to_dict(replay, log.repeated, steps),
        }
        print_json(values if assessment is None else {**values, "evaluation": evaluation_to_dict(assessment)})
        return
    width = min(max(shutil.get_terminal_size().columns, 60), 110)
    print(replay_text(replay, repeated=log.repeated, steps=steps, width=width))
    if assessment is not None:
        print("\nBy the log's own labels, one half of which chose the thresholds and the other judged them:")
        print(f"{headline(assessment)}.")


def _say_what_was_read(log: RequestLog) -> None:
    kinds = ", ".join(f"{count:,} as {kind}" for kind, count in log.formats.items())
    print(f"read {len(log):,} requests: {kinds}", file=sys.stderr)
    if log.problems:
        print(f"left out {len(log.problems):,} rows that cannot be read:", file=sys.stderr)
        for problem in log.problems[:3]:
            print(f"  {problem}", file=sys.stderr)
        if len(log.problems) > 3:
            print(f"  … and {len(log.problems) - 3:,} more", file=sys.stderr)
    for note in log.notes:
        print(note, file=sys.stderr)


def _nothing_scorable(source: Path, reasons: Mapping[str, int]) -> str:
    from bisupervised.request_logs import REASONS

    text = f"{source} holds no request that could be replayed: "
    text += ", ".join(f"{n:,} {REASONS[kind]}" for kind, n in reasons.items())
    if "not_stored" in reasons:
        text += ". LiteLLM keeps contents with general_settings: store_prompts_in_spend_logs: true"
    if "cut" in reasons:
        text += ". LiteLLM keeps more of them with a higher MAX_STRING_LENGTH_PROMPT_IN_DB in its environment"
    return text


# ---------------------------------------------------------------- local answers


def _replayed(
    args: argparse.Namespace,
    cascade: Configured | None,
    scorable: Sequence[LoggedRequest],
    prices: RemotePrices,
    question: Question,
) -> Table:
    """The one table of the replayed requests."""
    from bisupervised.replaying import answered_before, sample_of, with_log
    from bisupervised.sources import read_table

    costs = {} if args.local_cost is None else {"local": args.local_cost}
    if args.recorded is None:
        assert cascade is not None
        sample = sample_of(scorable, args.sample, args.seed)
        recorded = _recorded(args, cascade, sample, prices, question)
        return with_log(recorded, answered_before(recorded, sample), sample, prices)
    recorded = read_table(args.recorded, costs=costs)
    rows = answered_before(recorded, scorable)
    known = [(row, request) for row, request in zip(rows, scorable, strict=True) if row >= 0]
    if not known:
        raise TableError(
            f"{args.recorded} has no answer to any request of the log: its ids are {', '.join(recorded.ids[:3])}, …, "
            f"the log's {', '.join(request.id for request in scorable[:3])}, …"
        )
    sample = sample_of([request for _, request in known], args.sample, args.seed)
    row_of = {id(request): row for row, request in known}
    return with_log(recorded, [row_of[id(request)] for request in sample], sample, prices)


def _recorded(
    args: argparse.Namespace,
    cascade: Configured,
    sample: Sequence[LoggedRequest],
    prices: RemotePrices,
    question: Question,
) -> Table:
    """The recording with an answer to each request of the sample: those that are missing are asked for, and kept."""
    from bisupervised.cli.replay_settings import fingerprint
    from bisupervised.replaying import Recording

    check_out(args.out)
    settings = fingerprint(cascade.section["local"])
    recording = Recording(args.out, settings, question)
    missing = recording.missing(sample)
    print(f"{len(sample) - len(missing):,} of {len(sample):,} local answers are in {args.out}", file=sys.stderr)
    if missing:
        _agree_to_spend(args, cascade, missing)
        given = {"prices": prices, "settings": settings}
        _ask(args, cascade, missing, recording, given)
    return recording.table


def _ask(
    args: argparse.Namespace,
    cascade: Configured,
    missing: Sequence[LoggedRequest],
    recording: Recording,
    given: Mapping[str, Any],
) -> None:
    from bisupervised.cli.replay_settings import local_level
    from bisupervised.replaying import record_sample
    from bisupervised.report.text import progress_bar

    local, input_of = local_level(cascade, args)
    written_s = time.monotonic()
    try:
        with progress_bar(len(missing), "asking the local model") as on_done:
            for part in record_sample(
                local,
                missing,
                input_of,
                **given,
                batch_size=max(32, args.max_concurrency),
                max_concurrency=args.max_concurrency,
                on_done=on_done,
            ):
                recording.add(part)
                if time.monotonic() - written_s > _WRITE_EVERY_S:
                    recording.save()
                    written_s = time.monotonic()
    finally:
        recording.save()


def _agree_to_spend(args: argparse.Namespace, cascade: Configured, missing: Sequence[LoggedRequest]) -> None:
    """Say what the local model's answers will cost, if it has a price; real money needs a yes."""
    from bisupervised.cli.replay_settings import local_spend

    spend = local_spend(args, cascade.section["local"], missing)
    if spend == 0.0:
        return
    print(f"{len(missing):,} local calls, which cost about {spend:.2f}", file=sys.stderr)
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("this spends money: add --yes to agree to the estimate above")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was asked and nothing was spent")


def _write_to_label(args: argparse.Namespace, replay: Replay, scorable: Sequence[LoggedRequest]) -> int:
    """Write the rows worth a label; how many. A file that somebody has filled in is left as it is."""
    from bisupervised.label_files import may_be_replaced, write_to_label

    if replay.labels is None or replay.labels.bounded_without:
        return 0
    if not may_be_replaced(args.to_label):
        print(f"{args.to_label} is filled in, or another file, and is left as it is", file=sys.stderr)
        return 0
    return write_to_label(args.to_label, replay, {request.id: request for request in scorable}, args.seed)


# ---------------------------------------------------------------- options


def _sample(text: str) -> int | None:
    if text == "all":
        return None
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"a sample holds at least one request, not {text}; or all")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"a number above 0, not {text}")
    return value
