"""The gateway without its transport: cascades, and what they share. `app.py` puts HTTP on top."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar

from bisupervised.cascade import Level
from bisupervised.decision_log import DecisionLog
from bisupervised.decision_log.audits import Audit
from bisupervised.decision_log.changes import Change
from bisupervised.decision_log.details import Details
from bisupervised.decision_log.ids import new_id
from bisupervised.decision_log.ledger import Ledger
from bisupervised.decision_log.queries import outcome as stored_outcome
from bisupervised.decision_log.queries import outcomes as stored_outcomes
from bisupervised.decision_log.queries import stats as stored_stats
from bisupervised.decision_log.sequence import Sequences
from bisupervised.errors import BudgetExhausted, LogError
from bisupervised.fallback import Fallback
from bisupervised.gateway.asking import Channel, Wishes
from bisupervised.gateway.conversations import Conversations
from bisupervised.gateway.journey import Journey
from bisupervised.gateway.judging import without_unasked
from bisupervised.gateway.keys import Keys
from bisupervised.gateway.levels import Backend
from bisupervised.gateway.metrics import Metrics
from bisupervised.gateway.modes import State
from bisupervised.gateway.openai_wire import CompletionRequest
from bisupervised.gateway.refusals import CODES, Refusal, refusal
from bisupervised.gateway.settings import CascadeSettings, GatewaySettings, PassthroughSettings
from bisupervised.gateway.spending import Spending
from bisupervised.gateway.switching import Switchboard
from bisupervised.gateway.tracing import Tracing
from bisupervised.gateway.upstream import Pool
from bisupervised.records import Failure, LevelName, ModelOutput, Outcome
from bisupervised.supervisor import Supervisor

logger = logging.getLogger("bisupervised.gateway")
T = TypeVar("T")

#: Seconds between two looks for changes that another process made.
_LOOK_S: Final = 0.5
#: Seconds between two looks for processes that were killed.
_SETTLE_S: Final = 60.0
#: Seconds that a label waits for the row of its outcome.
_WAIT_FOR_ROW_S: Final = 5.0


class Refused(Exception):  # noqa: N818 - reads as what it is
    """The request is not accepted."""

    def __init__(self, refused: Refusal) -> None:
        super().__init__(refused.code)
        self.refusal = refused


@dataclass(slots=True, eq=False)
class Cascade:
    """One virtual model: two levels as the gateway asks them, their supervisors, and how requests are treated now."""

    name: str
    settings: CascadeSettings
    backends: Mapping[LevelName, Backend]  #: how a level answers a completion request
    levels: Mapping[LevelName, Level]  #: how it answers any other inputs
    base_supervisors: tuple[Supervisor, Supervisor]
    fallback: Fallback
    costs: tuple[float, float]
    state: State
    supervisors: tuple[Supervisor, Supervisor]
    created: int = 0  #: Unix seconds

    def use(self, state: State) -> None:
        """From now on, requests are treated so; those under way keep what they began with."""
        local, remote = self.base_supervisors
        thresholds = state.thresholds
        self.supervisors = (
            local.with_threshold(thresholds.local, thresholds.abstain),
            remote.with_threshold(thresholds.remote),
        )
        self.state = state


class Service:
    """All cascades of a gateway with their log, budgets, metrics and background work.

    `open` and `close` it in the event loop that it serves.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        cascades: Sequence[Cascade],
        pool: Pool,
        log: DecisionLog,
        ledger: Ledger | None,
        sequences: Sequences,
        board: Switchboard,
        path: Path,
    ) -> None:
        self.settings = settings
        self.cascades = {cascade.name: cascade for cascade in cascades}
        self.pool = pool
        self.log = log
        self.ledger = ledger
        self.sequences = sequences
        self.keys = Keys(settings.keys)
        self.capped_keys = {key.name for key in settings.keys if key.daily_budget is not None}
        self.metrics = Metrics()
        self.conversations = Conversations()
        self.tracing = Tracing() if settings.traces else None
        self.in_flight = 0
        self.draining = False
        self.board = board
        self._path = path
        self._lost = 0
        self._board_thread = ThreadPoolExecutor(1, thread_name_prefix="bisupervised-board")
        self._query_threads = ThreadPoolExecutor(2, thread_name_prefix="bisupervised-queries")
        #: Ids that clients may know already, whose rows are still to be written.
        self.under_way: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._describe_gauges()

    def _describe_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("in_flight", "Requests under way", lambda: self.in_flight)
        gauge("log_pending", "Rows that wait to be committed", lambda: self.log.counts().pending)
        gauge("log_dropped", "Rows that the full log lost", lambda: self.log.counts().dropped)
        gauge("lost", "Requests of killed processes that have no row", lambda: self._lost)

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """Take up what the store says of modes and thresholds, and look for changes from now on."""
        await asyncio.to_thread(self._settle_dead)
        await self._at_board(self.board.declare)
        self._apply()
        self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Finish what runs in the background, for `drain_s` at most; then store everything and let go."""
        self.draining = True
        if self._looking is not None:
            self._looking.cancel()
        await self._requests_end()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.settings.drain_s)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        self.pool.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        await asyncio.to_thread(self._close_store)

    async def _requests_end(self) -> None:
        """The server has let go of every request; those that it cancelled have their rows still to write."""
        end = monotonic() + 5.0
        while self.in_flight and monotonic() < end:
            await asyncio.sleep(0.01)

    def _close_store(self) -> None:
        for part in (self.log, self.ledger, self.sequences, self.board):
            if part is not None:
                try:
                    part.close()
                except LogError:
                    logger.exception("what the store could not take is lost, and counted")

    def _settle_dead(self) -> None:
        """Count what gateways on this store that were killed have left behind."""
        self.sequences.settle_dead()
        if self.ledger is not None:
            self.ledger.settle_dead()
        self._lost = self.sequences.lost()

    @property
    def may_observe(self) -> bool:
        """Whether there is room beside the requests: what is observed must not pile up behind a slow local model."""
        return len(self._tasks) < self.settings.max_concurrency

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside the requests; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ one request

    def admit(self) -> None:
        """Let one more request in. Raises `Refused` when there are too many. Call `leave` after it."""
        if self.draining:
            raise Refused(refusal("shutting_down", "the gateway is stopping; try another one", retry_after_s=1.0))
        if self.in_flight >= self.settings.max_concurrency:
            raise Refused(
                refusal(
                    "too_many_requests", "as many requests as may are in flight (max_concurrency)", retry_after_s=1.0
                )
            )
        if self.settings.when_log_full == "refuse" and self.log.counts().pending >= self.settings.log_capacity:
            raise Refused(refusal("log_full", "the decision log cannot take another row now", retry_after_s=1.0))
        self.in_flight += 1

    def leave(self) -> None:
        """A request that was let in has ended."""
        self.in_flight -= 1

    async def complete(
        self,
        cascade: Cascade,
        request: CompletionRequest,
        raw: bytes,
        key: str | None,
        wishes: Wishes,
        channel: Channel,
    ) -> None:
        """Take one completion request through a cascade. From here on it has exactly one outcome."""
        (sequence,) = await self.numbers(1)
        journey = Journey(self, cascade, request, raw, key, wishes, channel, id_=new_id(), sequence=sequence)
        await journey.run()

    async def numbers(self, n: int) -> list[int]:
        """Sequence numbers for n outcomes, reserved for good. Raises `Refused` when the store cannot."""
        try:
            numbers = []
            for _ in range(n):
                number = self.sequences.take_now()
                numbers.append(await self.sequences.atake() if number is None else number)
            return numbers
        except LogError as error:
            logger.warning("a request is turned away: %s", error)
            raise Refused(refusal("log_full", CODES["log_full"][1], retry_after_s=5.0)) from None

    def record(
        self, cascade: Cascade, outcome: Outcome, details: Details, body: Mapping[str, Any], raw: bytes
    ) -> None:
        """The one row of a request, and its metrics."""
        store = self.settings.store_inputs and details.store_input
        self.record_many(cascade, [outcome], [details], [body if store else raw])

    def record_many(
        self, cascade: Cascade, outcomes: list[Outcome], details: list[Details], inputs: list[Any]
    ) -> None:
        """The rows of a request of several inputs, and their metrics."""
        outcomes = [without_unasked(outcome) for outcome in outcomes]
        if not cascade.settings.store_predictions or not details[0].store_input:
            outcomes = [without_content(outcome) for outcome in outcomes]
        self.under_way.difference_update(outcome.id for outcome in outcomes)
        try:
            self.log.write(outcomes, inputs, details)
        except LogError:
            logger.exception("%d outcomes are lost, and counted", len(outcomes))
        for outcome, one in zip(outcomes, details, strict=True):
            self.metrics.outcome(outcome, one)

    # ------------------------------------------------------------ audits

    def audit(self, journey: Journey, outcome: Outcome) -> None:
        """Perhaps ask the remote model too about a request whose local answer was trusted, beside the requests."""
        share = journey.cascade.settings.audit_share
        if share > 0.0 and random.random() < share and not self.draining:
            self.background(self._audit(journey, outcome))

    async def _audit(self, journey: Journey, outcome: Outcome) -> None:
        cascade = journey.cascade
        request = replace(journey.request, stream=False)
        spending = Spending(self.ledger, [*journey.scopes, f"audit:{cascade.name}"])
        try:
            reply = await cascade.backends[LevelName.REMOTE].whole(request, outcome.id, spending)
            output = reply.output
        except BudgetExhausted as error:
            output = ModelOutput.failed(1, Failure("budget", str(error)))
        except LogError as error:
            output = ModelOutput.failed(1, Failure("log_full", str(error)))
        self.record_audit(cascade, outcome, output, spending, store=journey.wishes.store)

    def record_audit(
        self, cascade: Cascade, outcome: Outcome, output: ModelOutput, spending: Spending, *, store: bool
    ) -> None:
        """What the remote model said to an input whose local answer was trusted."""
        failure = output.failures.get(0)
        prediction: Any = None if failure is not None else output.predictions[:1].tolist()[0]
        agrees = None if failure is not None else normalised(prediction) == normalised(outcome.answer)
        result = "failed" if agrees is None else "agrees" if agrees else "disagrees"
        self.metrics.audit(cascade.name, result, spending.cost)
        store = store and cascade.settings.store_predictions
        error = None if failure is None else str(failure)
        self.log.write_audit(
            Audit(
                outcome.id,
                cascade.name,
                prediction if store else hashed(prediction),
                agrees,
                cost=spending.cost,
                cost_bound=spending.bound,
                latency_s=math.nan if output.latency_s is None else float(output.latency_s[0]),
                error=error if store else _kind_of(error),
            )
        )

    # ------------------------------------------------------------ modes and thresholds

    async def _at_board(self, function: Callable[..., T], *arguments: Any) -> T:
        """In a thread of its own: no queue of other work stands before the kill switch."""
        return await asyncio.get_running_loop().run_in_executor(self._board_thread, function, *arguments)

    async def _figures(self, function: Callable[[], T]) -> T:
        """A query that may take long, in one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._query_threads, function)

    def _apply(self) -> None:
        for cascade in self.cascades.values():
            cascade.use(self.board.state(cascade.name))

    async def _look(self) -> None:
        """Follow what other processes change, and notice those that were killed."""
        failed_at, settled_at = -math.inf, monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if await self._at_board(self.board.refresh):
                    self._apply()
                if monotonic() - settled_at > _SETTLE_S:
                    settled_at = monotonic()
                    await asyncio.to_thread(self._settle_dead)
            except Exception as error:  # whatever it is, the next look may be the one for the kill switch
                if monotonic() - failed_at > 60.0:
                    failed_at = monotonic()
                    logger.warning("cannot look for changes of modes and thresholds: %s", error)

    async def change(self, cascade: str, kind: str, value: Any, by: str, note: str = "") -> Change:
        """Change a mode, thresholds or the kill switch, from the next request on. Raises `InputError`."""
        change = await self._at_board(self.board.change, cascade, kind, value, by, note)
        self._apply()
        return change

    async def roll_back(self, change_id: int, by: str) -> Change:
        """Undo a change: what held before it holds again, as a change of its own. Raises `InputError`."""
        change = await self._at_board(self.board.roll_back, change_id, by)
        self._apply()
        return change

    async def changes(self, cascade: str | None, limit: int) -> list[Change]:
        """The newest changes, the latest first."""
        return await self._at_board(self.board.history, limit, cascade)

    # ------------------------------------------------------------ what was logged

    async def label(self, id_: str, label: Any) -> None:
        """Attach the ground truth to an outcome. Raises `UnknownOutcome`.

        The row of an answer may come after it (in observe mode the local model is still at work): it is waited for,
        and after a while `Refused` says to try again.
        """
        end = monotonic() + _WAIT_FOR_ROW_S
        while id_ in self.under_way:
            if monotonic() > end:
                raise Refused(refusal("outcome_pending", CODES["outcome_pending"][1], retry_after_s=1.0))
            await asyncio.sleep(0.02)

        def attach() -> None:
            self.log.flush()
            stored = stored_outcome(self._path, id_)
            cascade = self.cascades.get(stored.get("cascade") or "")
            texts = (stored.get("answer"), stored.get("local_prediction"), stored.get("remote_prediction"))
            hide = cascade is not None and not cascade.settings.store_predictions
            # Hashed where those are, so that they can be compared.
            hide = hide or any(isinstance(text, str) and _HASH.fullmatch(text) for text in texts)
            self.log.label(id_, hashed(label) if hide else label)

        await asyncio.to_thread(attach)

    async def outcome(self, id_: str) -> Mapping[str, Any]:
        """One outcome as it is stored. Raises `UnknownOutcome`."""

        def read() -> Mapping[str, Any]:
            self.log.flush()
            return stored_outcome(self._path, id_)

        return await asyncio.to_thread(read)

    async def outcomes(self, **selection: Any) -> Mapping[str, Any]:
        """Outcomes as they are stored, the newest first."""
        return await self._figures(lambda: stored_outcomes(self._path, **selection))

    async def stats(self, **selection: Any) -> Mapping[str, Any]:
        """What the log says over a period."""
        return await self._figures(lambda: stored_stats(self._path, **selection))

    # ------------------------------------------------------------ other models

    def passthrough_for(self, model: str | None) -> PassthroughSettings | None:
        """Where a model that is no cascade goes; with None, a request that names no model."""
        for one in self.settings.passthrough:
            if any(pattern == "*" if model is None else _matches(model, pattern) for pattern in one.models):
                return one
        return None


def _matches(model: str, pattern: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


# ---------------------------------------------------------------- content that is not stored

_HASHED: Final = "sha256:"
_HASH: Final = re.compile(_HASHED + "[0-9a-f]{32}")
_SPACES: Final = re.compile(r"\s+")


def normalised(value: Any) -> Any:
    """Text without differences of case, white space and a full stop at its end; anything else as it is.

    >>> normalised(" Yes. ") == normalised("yes")
    True
    """
    return _SPACES.sub(" ", value).strip().rstrip(".").casefold() if isinstance(value, str) else value


def hashed(value: Any) -> Any:
    """The hash of a text, which still tells whether two texts are the same; anything but text as it is."""
    if not isinstance(value, str) or _HASH.fullmatch(value):
        return value
    return _HASHED + hashlib.sha256(normalised(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def without_content(outcome: Outcome) -> Outcome:
    """An outcome whose texts are hashes: two are equal where the texts were, and nobody can read them.

    Of its errors the kinds are left: what is said beyond that may quote the request or the answer.
    """
    return replace(
        outcome,
        answer=hashed(outcome.answer),
        local_prediction=hashed(outcome.local_prediction),
        remote_prediction=hashed(outcome.remote_prediction),
        local_error=_kind_of(outcome.local_error),
        remote_error=_kind_of(outcome.remote_error),
        fallback_error=_kind_of(outcome.fallback_error),
    )


def _kind_of(error: str | None) -> str | None:
    return None if error is None else error.partition(":")[0]
