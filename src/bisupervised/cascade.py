"""BiSupervised: the paper's figure as one I/O-free generator, and its drivers.

`deciding` is the heart: it yields "ask this level these inputs" and receives model outputs. Four drivers run
it: `BiSupervised.predict` (a plain call), `apredict` (the event loop), `predict_many` (a batch: local
predictions vectorised, remote calls concurrent with a bound) and `replay` (recorded outputs, no model).
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np

from bisupervised.calls import BoundedCalls, as_coroutine, call_plainly
from bisupervised.decision import route
from bisupervised.errors import EvidenceError, InputError, PredictionRejected
from bisupervised.fallback import AnyFallback, HandOver, Pending, Raise, as_fallback
from bisupervised.models.port import Model
from bisupervised.outcomes import join_outcomes, outcome_of, outcomes_of, settling
from bisupervised.portal import Portal
from bisupervised.records import (
    Decisions,
    Deferred,
    IntArray,
    LevelName,
    ModelOutput,
    Outcome,
    Outcomes,
    Reason,
    Route,
    Verdicts,
    take_outputs,
)
from bisupervised.supervisor import Supervisor

T = TypeVar("T")
R = TypeVar("R")


# ---------------------------------------------------------------- the heart


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this level's model; `rows` are the inputs it is asked about, None for all of them."""

    level: LevelName
    rows: IntArray | None = None


class Judging(Protocol):
    """What the heart needs of a supervisor."""

    def judge(self, output: ModelOutput, deferred: Deferred | None = None) -> Verdicts:
        """One verdict for each prediction; `deferred`, at the 2nd level, is what the 1st made of the same inputs."""


def deciding(n: int, local: Judging, remote: Judging) -> Generator[Ask, ModelOutput, Decisions]:
    """Decide on n inputs: the paper's figure. Yields what to ask, is sent the outputs, returns the decisions."""
    local_output = yield Ask(LevelName.LOCAL)
    local_verdicts, local_s = _judge(local, local_output, None)
    local_accepted = local_verdicts.accepted
    deferred = np.flatnonzero(local_verdicts.deferred)
    if deferred.size == 0:
        # Nothing to ask: trusted, or abstained on. Without a remote prediction nothing of it is accepted.
        return Decisions(route(local_accepted, local_accepted), local_output, local_verdicts, local_s, deferred)
    remote_output = yield Ask(LevelName.REMOTE, deferred)
    seen = Deferred(local_output, local_verdicts.compared, deferred)
    remote_verdicts, remote_s = _judge(remote, remote_output, seen)
    if deferred.size == n:  # so does every single input that is deferred
        remote_accepted = remote_verdicts.accepted
    else:
        remote_accepted = np.zeros(n, dtype=np.bool_)
        remote_accepted[deferred] = remote_verdicts.accepted
    if remote_verdicts.local_preferred is not None:  # arbitration: what is accepted is the local prediction
        local_accepted = local_accepted.copy()
        local_accepted[deferred] = remote_verdicts.accepted & remote_verdicts.local_preferred
    routes = route(local_accepted, remote_accepted)
    return Decisions(
        routes, local_output, local_verdicts, local_s, deferred, remote_output, remote_verdicts, remote_s
    )


def _judge(supervisor: Judging, output: ModelOutput, deferred: Deferred | None) -> tuple[Verdicts, float]:
    start = perf_counter()
    verdicts = supervisor.judge(output) if deferred is None else supervisor.judge(output, deferred)
    return verdicts, (perf_counter() - start) / max(len(output), 1)


def drive(steps: Generator[T, Any, R], answer: Callable[[T], Any]) -> R:
    """Run a generator to its end with a plain function; what that raises is thrown into the generator."""
    try:
        question = next(steps)
        while True:
            try:
                reply = answer(question)
            except Exception as error:
                question = steps.throw(error)
            else:
                question = steps.send(reply)
    except StopIteration as stop:
        result: R = stop.value
        return result


async def adrive(steps: Generator[T, Any, R], answer: Callable[[T], Awaitable[Any]]) -> R:
    """`drive` with an awaited answer."""
    try:
        question = next(steps)
        while True:
            try:
                reply = await answer(question)
            except Exception as error:
                question = steps.throw(error)
            else:
                question = steps.send(reply)
    except StopIteration as stop:
        result: R = stop.value
        return result


def replay(local: ModelOutput, remote: ModelOutput, supervisors: tuple[Judging, Judging]) -> Decisions:
    """Decide from recorded outputs of both models on the same n inputs; no model is called."""
    recorded = {LevelName.LOCAL: local, LevelName.REMOTE: remote}
    if len(local) != len(remote):
        raise InputError(f"the recordings differ in length: {len(local)} local, {len(remote)} remote rows")

    def answer(ask: Ask) -> ModelOutput:
        output = recorded[ask.level]
        return output if ask.rows is None else take_outputs(output, ask.rows)

    return drive(deciding(len(local), *supervisors), answer)


# ---------------------------------------------------------------- the running system


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A model with the supervisor that watches it.

    `cost` is what one call for one input costs, in currency units, where the model's output does not say. None
    means 0 at the 1st level, whose model is at hand, and not known at the 2nd.
    `inline` runs an in-process model in the event loop itself: right when it takes less than about a
    millisecond.
    """

    model: Model
    supervisor: Supervisor
    cost: float | None = None
    inline: bool = False

    def __post_init__(self) -> None:
        if not hasattr(self.model, "predict") or not hasattr(self.model, "provides"):
            raise InputError(
                f"a level's model has predict, provides, name and max_batch; {self.model!r} has not. "
                f"Wrap a function: FunctionModel(function)"
            )
        needs = self.supervisor.quantifier.needs
        if needs is not None and needs not in self.model.provides:
            gives = ", ".join(sorted(self.model.provides)) or "no evidence at all"
            raise EvidenceError(
                f"the supervisor's quantifier {self.supervisor.quantifier.name} needs {needs.value}, and the model "
                f"{self.model.name} gives {gives}. Choose another quantifier or make the model give it."
            )


class Log(Protocol):
    """Where outcomes are stored, such as `bisupervised.decision_log.DecisionLog`."""

    def write(self, outcomes: Iterable[Outcome], inputs: Iterable[Any]) -> None:
        """Store one row for each outcome; an outcome whose id waits in a queue replaces that row."""

    def flush(self) -> None:
        """Return when everything written so far is stored for good."""


class PendingQueue(Protocol):
    """A queue of inputs that wait, which can be read and emptied: `bisupervised.decision_log.PendingInputs`."""

    def waiting(self) -> Sequence[Pending]: ...

    def done(self, id_: str) -> None: ...


class BiSupervised:
    """Two levels and a fallback.

    Ask the local model; its supervisor trusts the easy inputs. Ask the remote model about the others; what its
    supervisor does not trust is REJECTED and takes the fallback. A level that fails (down, timed out,
    unreadable) is not trusted, and the outcome says so. Every outcome is written to `log`, if there is one,
    before it is returned or raised.

    >>> from bisupervised.models.function import FunctionModel
    >>> small = FunctionModel(lambda xs: [[0.9, 0.1] if x == "easy" else [0.6, 0.4] for x in xs])
    >>> large = FunctionModel(lambda xs: [[0.0, 1.0] for x in xs])
    >>> local = Level(small, Supervisor(threshold=0.8))
    >>> system = BiSupervised(local, Level(large, Supervisor(threshold=0.8), cost=0.002))
    >>> easy, hard = system.predict("easy"), system.predict("hard")
    >>> int(easy.answer), easy.route.label, int(hard.answer), hard.route.label, hard.cost
    (0, 'local', 1, 'remote', 0.002)
    """

    def __init__(
        self, local: Level, remote: Level, fallback: AnyFallback | None = None, *, log: Log | None = None
    ) -> None:
        self.local = local
        self.remote = remote
        self.fallback = Raise() if fallback is None else as_fallback(fallback)
        self.log = log
        self._portal = Portal()

    def close(self) -> None:
        """Stop the background event loop. The models and the log belong to whoever made them."""
        self._portal.close()

    def __enter__(self) -> BiSupervised:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _supervisors(self) -> tuple[Supervisor, Supervisor]:
        return self.local.supervisor, self.remote.supervisor

    @property
    def costs(self) -> tuple[float, float]:
        """What an input costs at either level where the model's output does not say; NaN: not known."""
        local, remote = self.local.cost, self.remote.cost
        return 0.0 if local is None else local, math.nan if remote is None else remote

    def _level(self, name: LevelName) -> Level:
        return self.local if name is LevelName.LOCAL else self.remote

    # ------------------------------------------------------------ one input

    def predict(self, x: Any, *, id_: str | None = None) -> Outcome:
        """Decide on one input, blocking. Raises `PredictionRejected` when that is the fallback."""

        def answer(ask: Ask) -> ModelOutput:
            return call_plainly(self._level(ask.level).model, [x], self._portal)

        decisions = drive(deciding(1, *self._supervisors), answer)
        outcome = outcome_of(decisions, id_ or uuid.uuid4().hex, self.costs)
        error = None
        if outcome.route is Route.REJECTED:
            outcome, error = drive(
                settling(self.fallback, x, outcome), lambda later: self._portal.run(as_coroutine(later))
            )
        return self._finish(x, outcome, error)

    async def apredict(self, x: Any, *, id_: str | None = None) -> Outcome:
        """Decide on one input in the event loop. Raises `PredictionRejected` when that is the fallback."""

        async def answer(ask: Ask) -> ModelOutput:
            level = self._level(ask.level)
            return await BoundedCalls(level.model, max_concurrency=1, inline=level.inline)([x])

        decisions = await adrive(deciding(1, *self._supervisors), answer)
        outcome = outcome_of(decisions, id_ or uuid.uuid4().hex, self.costs)
        error = None
        if outcome.route is Route.REJECTED:
            outcome, error = await adrive(settling(self.fallback, x, outcome), as_coroutine)
        return self._finish(x, outcome, error)

    def _finish(self, x: Any, outcome: Outcome, error: Exception | None) -> Outcome:
        if isinstance(error, PredictionRejected):
            error = PredictionRejected(outcome)  # with the settled outcome, as it is logged
        if self.log is not None:
            self.log.write([outcome], [x])
        if error is not None:
            raise error
        return outcome

    # ------------------------------------------------------------ many inputs

    def predict_many(
        self,
        inputs: Sequence[Any],
        *,
        ids: Sequence[str] | None = None,
        batch_size: int = 256,
        max_concurrency: int = 16,
        on_done: Callable[[int], None] | None = None,
    ) -> Outcomes:
        """Decide on many inputs: local predictions in batches, at most `max_concurrency` remote calls at a time.

        Nothing raises for a single input: a rejected one is marked (`Outcomes.raise_for_rejected` raises
        afterwards), a failed call or fallback is stored with its row. `on_done(k)` is told of every k more
        inputs that are decided.
        """
        return self._portal.run(
            self.apredict_many(
                inputs, ids=ids, batch_size=batch_size, max_concurrency=max_concurrency, on_done=on_done
            )
        )

    async def apredict_many(
        self,
        inputs: Sequence[Any],
        *,
        ids: Sequence[str] | None = None,
        batch_size: int = 256,
        max_concurrency: int = 16,
        on_done: Callable[[int], None] | None = None,
    ) -> Outcomes:
        """`predict_many` in the running event loop."""
        inputs = _listed(inputs)
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        ids = [uuid.uuid4().hex for _ in inputs] if ids is None else list(ids)
        if len(ids) != len(inputs) or len(set(ids)) != len(ids):
            raise InputError(f"ids must be unique, one for each of the {len(inputs)} inputs")
        batch = _Batch(self, max_concurrency, on_done)
        starts = range(0, max(len(inputs), 1), batch_size)
        # While batches wait for their remote calls, the next ones ask the local model: so many that one deferred
        # input in each is enough to use every remote call there may be.
        under_way = asyncio.Semaphore(1 + max_concurrency)
        tasks = []
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for start in starts:
                    await under_way.acquire()
                    rows = slice(start, start + batch_size)
                    task = group.create_task(batch.decide(inputs[rows], ids[rows]))
                    task.add_done_callback(lambda _: under_way.release())
                    tasks.append(task)
        except BaseExceptionGroup as group_error:
            error = _first_of(group_error)
        if error is not None:
            raise error
        return join_outcomes([task.result() for task in tasks])

    # ------------------------------------------------------------ inputs that wait

    def replay_pending(self, queue: PendingQueue, *, max_concurrency: int = 16) -> Outcomes:
        """Ask again about the inputs that wait in a queue, under their own ids: one final outcome each.

        An input whose remote call fails again stays in the queue; every other one leaves it once its outcome is
        stored for good, and a rejected one is marked as with `Raise`.
        """
        waiting = list(queue.waiting())
        again = BiSupervised(self.local, self.remote, HandOver(_StillThere(), only_failures=True), log=self.log)
        inputs, ids = [item.x for item in waiting], [item.id for item in waiting]
        # In this system's loop, where its models' connections are.
        outcomes = self._portal.run(again.apredict_many(inputs, ids=ids, max_concurrency=max_concurrency))
        if self.log is not None:
            self.log.flush()
        for id_, reason in zip(outcomes.ids, outcomes.reasons, strict=True):
            if reason is not Reason.FAILED:
                queue.done(id_)
        return outcomes


class _StillThere:
    """The queue of inputs that are in it already."""

    def put(self, item: Pending, /) -> None:
        """Leave it where it is."""


def _listed(inputs: Any) -> Sequence[Any]:
    """The inputs as something that rows and slices of rows are taken from by their position."""
    if isinstance(inputs, str | bytes):
        raise InputError("predict_many takes a list of inputs; use predict for a single one")
    if hasattr(inputs, "columns"):
        raise InputError(
            "predict_many takes a list of inputs, not a data frame: give one of its columns, or its rows"
        )
    # A pandas series would find a row by its index, which need not count from 0.
    if isinstance(inputs, np.ndarray):
        return inputs  # type: ignore[return-value]  # it is one in all that is done here: length, rows, slices
    return inputs if isinstance(inputs, Sequence) else list(inputs)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a task group, however deep: what a single call would have raised."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Batch:
    """The models' bounded calls, shared by all batches of one `apredict_many`."""

    def __init__(self, system: BiSupervised, max_concurrency: int, on_done: Callable[[int], None] | None) -> None:
        local_in_process = system.local.model.max_batch is None
        self._system = system
        self._on_done = on_done
        self._calls = {
            LevelName.LOCAL: BoundedCalls(
                system.local.model,
                max_concurrency=1 if local_in_process else max_concurrency,
                inline=system.local.inline,
            ),
            LevelName.REMOTE: BoundedCalls(
                system.remote.model, max_concurrency=max_concurrency, inline=system.remote.inline
            ),
        }

    async def decide(self, inputs: Sequence[Any], ids: Sequence[str]) -> Outcomes:
        async def answer(ask: Ask) -> ModelOutput:
            if ask.rows is None:
                return await self._calls[ask.level](inputs)
            self._tell(len(inputs) - len(ask.rows))
            return await self._calls[ask.level]([inputs[row] for row in ask.rows], self._tell)

        system = self._system
        decisions = await adrive(deciding(len(inputs), *system._supervisors), answer)
        if decisions.remote_output is None:
            self._tell(len(inputs))
        outcomes = outcomes_of(decisions, ids, system.costs)
        outcomes = await self._settle(inputs, outcomes)
        if system.log is not None:
            await asyncio.to_thread(system.log.write, outcomes, inputs)
        return outcomes

    def _tell(self, done: int) -> None:
        if self._on_done is not None and done:
            self._on_done(done)

    async def _settle(self, inputs: Sequence[Any], outcomes: Outcomes) -> Outcomes:
        answers = outcomes.answers.copy()
        fallbacks, errors = list(outcomes.fallbacks), list(outcomes.fallback_errors)
        seconds = outcomes.fallback_s.copy()
        for row in np.flatnonzero(outcomes.routes == Route.REJECTED).tolist():
            settled, _ = await adrive(settling(self._system.fallback, inputs[row], outcomes[row]), as_coroutine)
            answers[row], fallbacks[row] = settled.answer, settled.fallback
            seconds[row], errors[row] = settled.fallback_s, settled.fallback_error
        return replace(outcomes, answers=answers, fallbacks=fallbacks, fallback_s=seconds, fallback_errors=errors)
