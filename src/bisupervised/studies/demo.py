"""The whole system at work on real data: train, serve, record, calibrate, run live, evaluate.

A local model and a remote one behind a real network call answer labelled film reviews. The calibration rows choose
the thresholds; the test rows go through the running system, which asks the remote model about the deferred ones
only; afterwards the remote model is asked about the others too, so that remote-only is measured and not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from bisupervised.assessment import Assessment, calibrate, evaluate
from bisupervised.calibration import Thresholds, judged_on
from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import BiSupervisedError, ModelError
from bisupervised.evaluation.system import bisupervised
from bisupervised.models.openai import OpenAIModel
from bisupervised.models.port import Model
from bisupervised.outcomes import join_rows
from bisupervised.quantifiers import MaxSoftmax
from bisupervised.records import LevelRows, Outcomes, Route
from bisupervised.studies.demo_models import LocalReviewModel, train_local, train_remote
from bisupervised.studies.demo_prompt import LABEL_PROBABILITY
from bisupervised.studies.demo_remote import check_remote, openai_model, running_server, with_retries
from bisupervised.studies.demo_reviews import CITATION, ReviewParts, Reviews, load_reviews, split_reviews
from bisupervised.studies.demo_server import MODEL_NAME
from bisupervised.studies.demo_settings import PRICE_NOTE, CostEstimate, DemoSettings, estimate
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table, table_from_outcomes

__all__ = ["CostEstimate", "DemoResult", "DemoSettings", "Spend", "estimate", "prepare_reviews", "run_demo"]

Advance: TypeAlias = Callable[[int], None]
#: (stage, steps or None when they cannot be counted) -> a context that gives `advance(k)`.
OnStage: TypeAlias = Callable[[str, int | None], AbstractContextManager[Advance]]

#: Local predictions are made in the event loop; a small batch does not hold up the replies that come in meanwhile.
BATCH_SIZE = 32
_LIVE = "Run BiSupervised on the test rows"
#: Calibration stops the demo when more of its remote requests fail than this.
MAX_FAILED_SHARE = 0.2

_OWN_NOTES = [
    "The remote model is a linear model in a process of its own on this machine: a stand-in for a large one. Every "
    "request crosses a real HTTP connection, and every answer waits for the stated delay besides.",
    "Training and test hardly share a film, as far as the order of the file tells films apart.",
]
_ENDPOINT_PRICES = "Costs are the replies' token counts at the given prices; not known without prices."


@dataclass(frozen=True, slots=True)
class Spend:
    """What one purpose took of the remote model."""

    purpose: str
    calls: int
    cost: float  #: currency units; NaN: not known


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """Everything the demo found out."""

    assessment: Assessment  #: of the test rows
    thresholds: Thresholds
    calibration_table: Table  #: both models' answers to the calibration rows
    table: Table  #: both models' answers to the test rows, with the live run's `route` and `answer`
    live: Outcomes  #: of the running system on the test rows
    live_s: float  #: seconds that the live run took
    local_name: str
    remote_name: str
    delay_s: float | None  #: seconds that the demo's own remote model adds to every answer; None: an endpoint
    concurrency: int  #: remote requests at a time
    sizes: dict[str, int]  #: reviews: train, calibration, test, and repeated (left out)
    seconds: dict[str, float]  #: per stage
    spent: list[Spend]
    price_note: str  #: where the costs come from
    citation: str
    notes: list[str]  #: what a reader should know about these figures

    @property
    def routes(self) -> dict[str, int]:
        """How many test rows took each route in the live run."""
        return {route.label: int((self.live.routes == route).sum()) for route in Route}


def no_progress(stage: str, steps: int | None) -> AbstractContextManager[Advance]:
    """The default `on_stage`: tells nobody."""
    return nullcontext(lambda k: None)


def prepare_reviews(settings: DemoSettings) -> ReviewParts:
    """The parts of the data set that these settings ask for, without training or asking anything."""
    return split_reviews(
        load_reviews(),
        train=settings.train_rows,
        calibration=settings.calibration_rows,
        test=settings.test_rows,
        seed=settings.seed,
    )


def run_demo(
    settings: DemoSettings | None = None, *, parts: ReviewParts | None = None, on_stage: OnStage = no_progress
) -> DemoResult:
    """Run everything. `parts` are those of `prepare_reviews`, if it was called already (to show an estimate).

    Spends money when `settings.remote_url` is a paid endpoint: show `estimate` before. Raises a `ModelError` with
    advice when the remote model cannot be used; the demo's own server is stopped in any case.
    """
    settings = settings or DemoSettings()
    stages = _Stages(on_stage)
    if parts is None:
        with stages("Read the reviews"):
            parts = prepare_reviews(settings)
    with stages("Train the local model"):
        local = train_local(parts.train)
    with _remote_model(settings, parts.train, stages) as remote:
        return _Demo(settings, parts, stages, local, remote).run()


class _Stages:
    """Tells `on_stage` of every stage, and keeps how long it took."""

    def __init__(self, on_stage: OnStage) -> None:
        self._on_stage = on_stage
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, steps: int | None = None) -> Iterator[Advance]:
        start = perf_counter()
        with self._on_stage(stage, steps) as advance:
            yield advance
        self.seconds[stage] = perf_counter() - start


@contextmanager
def _remote_model(settings: DemoSettings, train: Reviews, stages: _Stages) -> Iterator[OpenAIModel]:
    if settings.remote_url is not None and settings.remote_model is not None:
        yield openai_model(settings, base_url=settings.remote_url, model=settings.remote_model)
        return
    with stages("Train the remote model"):
        trained = train_remote(train)
    with ExitStack() as stack:
        with stages("Start the remote model's server"):
            base_url = stack.enter_context(running_server(trained, delay_s=settings.delay_s))
        yield openai_model(settings, base_url=base_url, model=MODEL_NAME)


@dataclass(frozen=True, slots=True, eq=False)
class _Demo:
    """The stages that both kinds of remote model share."""

    settings: DemoSettings
    parts: ReviewParts
    stages: _Stages
    local: LocalReviewModel
    remote: OpenAIModel

    def run(self) -> DemoResult:
        with self.stages("Ask the remote model once"):
            check = check_remote(self.remote, self.parts.train.texts[0])
        with self._system(Thresholds(np.inf, -np.inf)) as recorder:
            recorded = self._record(recorder, self.parts.calibration)
            calibration_table = table_from_outcomes(recorded, self.parts.calibration.labels)
            with self.stages("Choose the thresholds"):
                thresholds = calibrate(calibration_table, self.settings.target, held_out=0.0)
            live = self._run_live(thresholds)
            others = self._ask_about_the_others(recorder, live)
        table = complete_table(live, others, self.parts.test)
        with self.stages("Evaluate"):
            thresholds = judged_on(thresholds, table, self.settings.target)
            assessment = evaluate(table, thresholds)
            check_routes(table, live, thresholds)
        return DemoResult(
            assessment=assessment,
            thresholds=thresholds,
            calibration_table=calibration_table,
            table=table,
            live=live,
            live_s=self.stages.seconds[_LIVE],
            **self._circumstances(),
            spent=[
                Spend("check", 1, check.cost),
                _spend("calibration", recorded.remote),
                _spend("live run", live.remote),
                _spend("remote-only baseline", others),
            ],
        )

    def _system(self, thresholds: Thresholds) -> BiSupervised:
        remote: Model = with_retries(self.remote, self.settings)
        return BiSupervised(
            Level(self.local, Supervisor(MaxSoftmax(), thresholds.local), inline=True),
            Level(remote, Supervisor(LABEL_PROBABILITY, thresholds.remote), cost=np.nan),
        )

    def _predict(self, system: BiSupervised, reviews: Reviews, advance: Advance) -> Outcomes:
        return system.predict_many(
            reviews.texts,
            ids=list(reviews.ids),
            batch_size=BATCH_SIZE,
            max_concurrency=self.settings.concurrency,
            on_done=advance,
        )

    def _record(self, recorder: BiSupervised, reviews: Reviews) -> Outcomes:
        """Both models' answers: a system whose 1st level trusts nothing asks both about everything."""
        with self.stages("Record the calibration rows", len(reviews)) as advance:
            outcomes = self._predict(recorder, reviews, advance)
        errors = [error for error in outcomes.remote.errors if error is not None]
        if len(errors) > MAX_FAILED_SHARE * len(reviews):
            raise ModelError(
                f"{len(errors)} of {len(reviews)} requests to {self.remote.name} failed, the first with {errors[0]}. "
                f"Fewer requests at a time, or another endpoint, may help"
            )
        return outcomes

    def _run_live(self, thresholds: Thresholds) -> Outcomes:
        with (
            self._system(thresholds) as system,
            self.stages(_LIVE, len(self.parts.test)) as advance,
        ):
            return self._predict(system, self.parts.test, advance)

    def _ask_about_the_others(self, recorder: BiSupervised, live: Outcomes) -> LevelRows:
        """The remote model's answers to the test rows that the live run did not ask it about.

        The recorder asks the local model again; that answer is free, and dropped.
        """
        reviews = self.parts.test.take(np.flatnonzero(~live.remote.asked))
        with self.stages("Ask the remote model about the others", len(reviews)) as advance:
            return self._predict(recorder, reviews, advance).remote

    def _circumstances(self) -> dict[str, Any]:
        own = self.settings.remote_url is None
        sizes = {name: len(getattr(self.parts, name)) for name in ("train", "calibration", "test")}
        return {
            "local_name": self.local.name,
            "remote_name": self.remote.name,
            "delay_s": self.settings.delay_s if own else None,
            "concurrency": self.settings.concurrency,
            "sizes": {**sizes, "repeated": self.parts.repeated},
            "seconds": dict(self.stages.seconds),
            "price_note": PRICE_NOTE if own else _ENDPOINT_PRICES,
            "citation": CITATION,
            "notes": _OWN_NOTES if own else [],
        }


def _spend(purpose: str, rows: LevelRows) -> Spend:
    return Spend(purpose, int(rows.asked.sum()), float(rows.cost[rows.asked].sum()))


def complete_table(live: Outcomes, others: LevelRows, reviews: Reviews) -> Table:
    """The live run's table, with the remote model's answers to the rows it was not asked about put in.

    `others` are those answers, in the rows' order. Route and answer stay those of the live run.
    """
    asked = live.remote.asked
    place = np.argsort(np.concatenate([np.flatnonzero(asked), np.flatnonzero(~asked)]))
    remote = join_rows([live.remote.take(asked), others]).take(place)
    failed = int(sum(error is not None for error in remote.errors))
    notes = [f"{failed} of {len(live)} remote replies are errors"] if failed else []
    return replace(table_from_outcomes(live, reviews.labels), remote=remote, notes=notes)


def check_routes(table: Table, live: Outcomes, thresholds: Thresholds) -> None:
    """Raises `BiSupervisedError` unless the evaluation decides every row as the running system did."""
    evaluated = bisupervised(table, thresholds.local, thresholds.remote).routes
    different = np.flatnonzero(evaluated != live.routes)
    if len(different):
        row = int(different[0])
        raise BiSupervisedError(
            f"{len(different)} of {len(live)} rows took another route in the live run than in the evaluation, the "
            f"first being {live.ids[row]}: please report this"
        )
