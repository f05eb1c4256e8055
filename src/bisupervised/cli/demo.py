"""`bisupervised demo`: the whole journey on real reviews, with a remote model behind HTTP."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bisupervised.cli.options import print_json
from bisupervised.errors import ConfigError


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="run the whole journey on 25,000 film reviews",
        description="Trains a small local model and a large remote one, starts the remote one behind HTTP on this "
        "machine, sends real reviews through both supervisors, and ends with a table, a curve and a report. With "
        "--remote-url, any OpenAI-compatible endpoint is the remote model.",
    )
    parser.add_argument(
        "--rows", type=int, metavar="N", help="reviews for the remote model (default 8000; 600 with a URL)"
    )
    parser.add_argument("--delay", type=float, metavar="SECONDS", help="what the demo's remote model adds (0.03)")
    parser.add_argument("--concurrency", type=int, default=12, metavar="N", help="remote requests at a time (12)")
    parser.add_argument("--seed", type=int, default=0, help="of the splits (default 0)")
    parser.add_argument(
        "--margin", type=float, default=0.01, metavar="SHARE", help="accuracy to give up for fewer requests (0.01)"
    )
    parser.add_argument("--out", type=Path, default=Path("bisupervised-demo"), metavar="FOLDER")
    own = parser.add_argument_group("your own remote model")
    own.add_argument("--remote-url", metavar="URL", help="an OpenAI-compatible endpoint, up to /v1")
    own.add_argument("--remote-model", metavar="NAME", help="its model")
    own.add_argument(
        "--remote-key-env", metavar="NAME", help="the variable with the key (OPENAI_API_KEY if it is set)"
    )
    own.add_argument("--remote-prompt-price", type=float, metavar="PRICE", help="per million prompt tokens")
    own.add_argument("--remote-completion-price", type=float, metavar="PRICE", help="per million answer tokens")
    own.add_argument("--yes", action="store_true", help="spend what the estimate says without asking")
    parser.add_argument("--json", action="store_true", help="every figure as JSON on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.report.figures import evaluation_to_dict
    from bisupervised.studies.demo import prepare_reviews, run_demo

    started = time.perf_counter()
    settings = _settings(args)
    parts = prepare_reviews(settings)
    _announce(settings, parts, yes=args.yes)
    result = run_demo(settings, parts=parts, on_stage=_stage)
    files = _write(result, args.out)
    if args.json:
        values = evaluation_to_dict(result.assessment)
        print_json({**values, "routes": result.routes, "sizes": result.sizes, "files": [str(file) for file in files]})
        return 0
    _print(result, files, time.perf_counter() - started)
    return 0


def _settings(args: argparse.Namespace) -> Any:
    from bisupervised.calibration import RemoteEven
    from bisupervised.studies.demo_settings import DemoSettings

    if args.delay is not None and args.remote_url is not None:
        raise ConfigError("--delay is of the demo's own remote model; an endpoint has its own")
    return DemoSettings(
        rows=args.rows,
        seed=args.seed,
        target=RemoteEven(margin=args.margin),
        concurrency=args.concurrency,
        remote_url=args.remote_url,
        remote_model=args.remote_model,
        remote_key_env=args.remote_key_env,
        remote_prompt_price=args.remote_prompt_price,
        remote_completion_price=args.remote_completion_price,
        **({} if args.delay is None else {"delay_s": args.delay}),
    )


def _announce(settings: Any, parts: Any, *, yes: bool) -> None:
    """Say what will be asked and what it costs, before anything is asked; real money needs a yes."""
    from bisupervised.studies.demo_settings import estimate

    cost = estimate(settings, parts)
    price = "not known (give both prices)" if math.isnan(cost.cost) else f"{cost.cost:.2f}"
    kind = "" if cost.real_money else ", illustrative: the demo's remote model is free"
    print(
        f"{cost.calls:,} remote requests, about {cost.prompt_tokens:,} prompt and at most {cost.completion_tokens:,} "
        f"answer tokens; cost {price}{kind}",
        file=sys.stderr,
    )
    if not cost.real_money or yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("this spends money: add --yes to agree to the estimate above")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was asked and nothing was spent")


@contextmanager
def _stage(stage: str, steps: int | None) -> Iterator[Callable[[int], None]]:
    """One line for a stage, a progress bar where it has steps."""
    from bisupervised.report.text import progress_bar

    if steps is not None:
        with progress_bar(steps, stage) as advance:
            yield advance
        return
    print(f"{stage} …", file=sys.stderr, flush=True)
    yield lambda k: None


def _write(result: Any, folder: Path) -> list[Path]:
    """Report, curve, recorded answers and thresholds."""
    from bisupervised.report.curve import save_curve_of
    from bisupervised.report.html import Section, write_html_report
    from bisupervised.sources import write_table

    folder.mkdir(parents=True, exist_ok=True)
    curve, recorded, thresholds = (
        folder / name for name in ("request_accuracy.png", "recorded.csv", "thresholds.toml")
    )
    save_curve_of(result.assessment.evaluation, curve)
    write_table(result.table, recorded)
    result.thresholds.save(thresholds)
    about = Section(
        "About this demo", "\n\n".join([*_facts(result), *result.notes, result.price_note, result.citation])
    )
    report = write_html_report(
        result.assessment,
        folder / "report.html",
        title="BiSupervised on film reviews",
        source=f"{result.local_name} and {result.remote_name} on IMDB reviews",
        extra_sections=[about],
    )
    return [curve, recorded, thresholds, report]


def _facts(result: Any) -> list[str]:
    sizes = result.sizes
    delay = "" if result.delay_s is None else f", with a stated delay of {result.delay_s * 1000:g} ms"
    routes = ", ".join(f"{count:,} {route}" for route, count in result.routes.items())
    return [
        f"Local: {result.local_name}. Remote: {result.remote_name}, behind HTTP{delay}, {result.concurrency} "
        f"requests at a time.",
        f"{sizes['train']:,} reviews trained the models, {sizes['calibration']:,} others chose the thresholds, "
        f"{sizes['test']:,} others were answered live in {result.live_s:.1f} s: {routes}.",
    ]


def _print(result: Any, files: list[Path], seconds: float) -> None:
    from bisupervised.report.headline import headline
    from bisupervised.report.text import print_report

    print_report(result.assessment)
    for line in [*_facts(result), *result.notes, result.price_note, result.citation]:
        print(line)
    print(f"\n{headline(result.assessment)}.\n\ndone in {seconds:.0f} s")
    *others, report = files
    for file in others:
        print(f"{file.stem:>17}: {file}")
    print(f"{'report':>17}: {report.resolve()}")
