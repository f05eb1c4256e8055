"""`bisupervised study … --live` and `--replay`: real models, or what they said, and the same report of both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bisupervised.cli.options import print_json
from bisupervised.errors import BiSupervisedError, ConfigError, InputError

#: Where the data lies beside a checkout of the project.
_DATA = Path("..") / "shared" / "data"


def add_live_options(parser: argparse.ArgumentParser) -> None:
    """The options of `--live`, some of which `--replay` reads too."""
    live = parser.add_argument_group("live")
    live.add_argument("--data", type=Path, metavar="DIR", help=f"the studies' data (default: {_DATA}, where it is)")
    live.add_argument(
        "--models", type=Path, metavar="DIR", help="prepared models (default: ~/.cache/bisupervised/models)"
    )
    live.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="keeps every answer as soon as it is there (default: bisupervised-study)",
    )
    live.add_argument("--limit", type=int, metavar="N", help="only the first N inputs of a fixed random order")
    live.add_argument("--fresh", action="store_true", help="forget what is recorded, and ask everything again")
    live.add_argument("--retry-failed", action="store_true", help="ask again where a call failed")
    live.add_argument("--numbers", type=Path, metavar="DIR", help="write the numbers, without texts, for --replay")
    live.add_argument("--report", type=Path, metavar="FILE", help="the report as HTML (with --replay too)")
    live.add_argument("--prices", type=Path, metavar="FILE", help="your own copy of prices.toml (with --replay too)")
    own = parser.add_argument_group("live, with models of your own")
    own.add_argument("--remote-url", metavar="URL", help="an OpenAI-compatible endpoint, up to /v1")
    own.add_argument("--remote-v2", metavar="URL", help="a server of the Open Inference Protocol v2")
    own.add_argument("--remote-model", metavar="NAME", help="the model of either")
    own.add_argument("--remote-key-env", metavar="NAME", help="the environment variable with its key")
    own.add_argument("--remote-prompt-price", type=float, metavar="PRICE", help="per million prompt tokens")
    own.add_argument("--remote-completion-price", type=float, metavar="PRICE", help="per million answer tokens")
    own.add_argument("--remote-hub", metavar="NAME", help="a model of the Hugging Face hub as the remote one")
    own.add_argument("--local-hub", metavar="NAME", help="a model of the Hugging Face hub as the local one")
    own.add_argument("--yes", action="store_true", help="spend what the estimate says without asking")


#: By how they are spelt; those that `--replay` reads too are the second list.
_LIVE_ONLY = (
    *("data", "models", "out", "limit", "fresh", "retry_failed", "numbers", "yes"),
    *("remote_url", "remote_v2", "remote_model", "remote_key_env", "remote_prompt_price", "remote_completion_price"),
    *("remote_hub", "local_hub"),
)
_BOTH = ("report", "prices")


def refuse_live_options(args: argparse.Namespace, names: tuple[str, ...] = _LIVE_ONLY + _BOTH) -> None:
    """Raises `InputError` for one that is given where it says nothing."""
    for name in names:
        if getattr(args, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} goes with --live{' or --replay' if name in _BOTH else ''}")


def run_live(args: argparse.Namespace) -> int:
    """Record, score, analyse and report. 1: a study of several could not be run."""
    from bisupervised.studies.live.own_remote import OwnModels
    from bisupervised.studies.live.prices import Prices
    from bisupervised.studies.live.running import Run

    own = OwnModels(
        remote_url=args.remote_url,
        remote_v2=args.remote_v2,
        remote_model=args.remote_model,
        remote_key_env=args.remote_key_env,
        remote_hub=args.remote_hub,
        local_hub=args.local_hub,
        prompt_price=args.remote_prompt_price,
        completion_price=args.remote_completion_price,
    )
    if args.study == "all" and own.kept_as:
        raise ConfigError("models of your own are for one study at a time: name it in the place of `all`")
    run = Run(
        folder=args.out or Path("bisupervised-study"),
        own=own,
        prices=Prices.load(args.prices),
        fresh=args.fresh,
        retry_failed=args.retry_failed,
    )
    data, models = _data(args.data), args.models or Path.home() / ".cache" / "bisupervised" / "models"
    return _each(args, lambda name: _live(args, run, name, data, models))


def run_replay(args: argparse.Namespace) -> int:
    """The same report from recorded numbers."""
    from bisupervised.studies.live.prices import Prices
    from bisupervised.studies.live.registry import numbers_by_name
    from bisupervised.studies.live.running import analysed

    refuse_live_options(args, _LIVE_ONLY)
    folder = Path(args.replay) if args.replay else None
    prices = Prices.load(args.prices)

    def replayed(name: str) -> tuple[Any, Any]:
        numbers = numbers_by_name(name, folder)
        return numbers.about, analysed(numbers, prices)

    return _each(args, replayed)


def _data(given: Path | None) -> Path:
    folder = given or _DATA
    if not folder.is_dir():
        raise InputError(
            f"the studies' data is not at {folder}: name its folder with --data (of an empty one, each study says "
            f"which file it needs, and where that comes from); recorded numbers need no data: --replay"
        )
    return folder


def _each(args: argparse.Namespace, results_of: Callable[[str], tuple[Any, Any]]) -> int:
    """Every study that was asked for; of `all`, those that can be run."""
    from bisupervised.studies.live.registry import STUDIES
    from bisupervised.studies.live.running import results_lines, write_report

    abouts, results, skipped = [], [], {}
    for name in STUDIES if args.study == "all" else [args.study]:
        try:
            about, found = results_of(name)
            abouts.append(about)
            results.append(found)
        except BiSupervisedError as error:
            if args.study != "all":
                raise
            skipped[name] = str(error)
            print(f"skipped: {name}: {error}", file=sys.stderr)
    if not results:
        raise InputError("none of the studies could be run; above it says why, and what to do")
    if args.report is not None:
        write_report(results, args.report, abouts)
    if args.json:
        print_json({"studies": [one.to_dict() for one in results], "skipped": skipped})
    else:
        print("\n".join(results_lines(results)))
        if args.report is not None:
            print(f"written: {args.report}")
    return 1 if skipped else 0


def _live(args: argparse.Namespace, run: Any, name: str, data: Path, models: Path) -> tuple[Any, Any]:
    from bisupervised.report.text import progress_bar
    from bisupervised.studies.live.numbers_file import write_numbers_file
    from bisupervised.studies.live.own_remote import estimate, with_own_models
    from bisupervised.studies.live.registry import study_by_name
    from bisupervised.studies.live.running import analysed, check_sources, recorded_numbers, source_lines

    study = with_own_models(study_by_name(name, data, models, args.limit), run.own, run.prices)
    _say(f"{study.title}: {len(study.ids):,} inputs", *source_lines(study))
    check_sources(study, run)
    cost = estimate(study, run.own, run.folder, run.prices, fresh=run.fresh, retry_failed=run.retry_failed)
    if cost is not None:
        _say(str(cost))
        if cost.needs_consent:
            _agree(yes=args.yes)
    numbers = recorded_numbers(study, run, progress_bar)
    if args.numbers is not None:
        path = args.numbers / f"{name}.parquet"
        write_numbers_file(numbers, path)
        _say(f"written: {path}")
    return numbers.about, analysed(numbers, run.prices, run.own)


def _say(*lines: str) -> None:
    print("\n".join(lines), file=sys.stderr, flush=True)


def _agree(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("this may spend money: add --yes to agree to the estimate above")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was asked and nothing was spent")
