"""A cascade of classifiers: n inputs at once through the same heart, each with its own logged outcome."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bisupervised.calls import BoundedCalls, as_coroutine, failed_output, with_latency
from bisupervised.cascade import Ask, Level, adrive, deciding, replay
from bisupervised.decision_log.details import Details
from bisupervised.decision_log.ids import new_id
from bisupervised.errors import BudgetExhausted, LogError
from bisupervised.fallback import Default, Fallback, HandOver, LocalUntrusted, Raise
from bisupervised.gateway.asking import Wishes, granted
from bisupervised.gateway.judging import RuledSupervisor
from bisupervised.gateway.settings import Mode
from bisupervised.gateway.spending import Payment, Spending
from bisupervised.gateway.v2 import Headers, Inference, refusal_of_outcome
from bisupervised.gateway.v2_tensors import OneOutcome, TensorMetadata
from bisupervised.outcomes import outcome_of, outcomes_of, settling
from bisupervised.records import (
    Decisions,
    Failure,
    LevelName,
    ModelOutput,
    Outcome,
    Outcomes,
    Reason,
    Route,
)

if TYPE_CHECKING:
    from bisupervised.gateway.service import Cascade, Service

logger = logging.getLogger("bisupervised.gateway")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how."""

    key: str | None
    wishes: Wishes


class CascadeClassifier:
    """One cascade as a model of the Open Inference Protocol."""

    versions = ("1",)
    platform = "bisupervised"

    def __init__(self, service: Service, cascade: Cascade, levels: Mapping[LevelName, Level]) -> None:
        self.name = cascade.name
        self.inputs: Sequence[TensorMetadata] = ()
        self._service = service
        self._cascade = cascade
        self._levels = {name: _LevelCalls(level) for name, level in levels.items()}
        classes = [getattr(level.model, "classes", None) for level in levels.values()]
        self.classes: Sequence[Any] | None = next((list(one) for one in classes if one is not None), None)
        whole_numbers = self.classes is not None and all(type(one) is int for one in self.classes)
        self.prediction: str = "INT64" if whole_numbers else "BYTES"

    @property
    def ready(self) -> bool:
        return not self._service.draining

    async def infer(
        self, inputs: Sequence[Any], *, client: Caller, headers: Headers, waiting: Callable[[], Awaitable[None]]
    ) -> Inference:
        """Answer n inputs. Raises `Refused` when the gateway takes no more; cancelled when the client goes away."""
        service = self._service
        service.admit()
        try:
            numbers = await service.numbers(len(inputs))
            batch = _Batch(service, self._cascade, self._levels, inputs, client, numbers, waiting)
            return await batch.run()
        finally:
            service.leave()


class _LevelCalls:
    """Calls of one level's model, the shortest way that it allows."""

    def __init__(self, level: Level) -> None:
        self.level = level
        model = level.model
        self.immediate = level.inline and model.max_batch is None and not inspect.iscoroutinefunction(model.predict)
        self._calls = None if self.immediate else BoundedCalls(model, max_concurrency=64, inline=level.inline)

    async def __call__(self, inputs: Sequence[Any]) -> ModelOutput:
        if self._calls is not None:
            return await self._calls(inputs)
        model, start = self.level.model, perf_counter()
        try:
            output: Any = model.predict(inputs)
            if inspect.isawaitable(output):
                output = await output
        except Exception as error:
            return failed_output(model, len(inputs), error, perf_counter() - start)
        return with_latency(model, output, len(inputs), perf_counter() - start)

    @property
    def cost(self) -> float:
        """What one input costs at most; NaN: not known."""
        return math.nan if self.level.cost is None else self.level.cost


class _Batch:
    """The inputs of one request on their way."""

    def __init__(
        self,
        service: Service,
        cascade: Cascade,
        levels: Mapping[LevelName, _LevelCalls],
        inputs: Sequence[Any],
        client: Caller,
        numbers: Sequence[int],
        waiting: Callable[[], Awaitable[None]],
    ) -> None:
        self._service = service
        self._cascade = cascade
        self._levels = levels
        self._inputs = inputs
        self._numbers = numbers
        self._waiting = waiting
        self._ids = [new_id() for _ in numbers]
        service.under_way.update(self._ids)
        self._state = cascade.state
        self._supervisors = cascade.supervisors
        self._mode = self._state.mode_for(cascade.name, client.key)
        self._client = replace(client, wishes=granted(client.wishes, self._state, self._mode))
        scopes = ["total", f"cascade:{cascade.name}"]
        self._scopes = scopes if client.key is None else [*scopes, f"key:{client.key}"]
        self._spent = Spending(service.ledger, self._scopes)
        self._start_s = perf_counter()
        self._total_s: float | None = None  # until the answer's end, where the rows are written later

    async def run(self) -> Inference:
        outcomes: Outcomes | OneOutcome
        try:
            if self._mode is Mode.ENFORCE or self._client.wishes.force is not None:
                outcomes = await self._enforced()
                self._record(outcomes)
            else:
                outcomes = await self._remote_as_before()
        except asyncio.CancelledError:
            self._record(self._unfinished(), status=499)
            raise
        except Exception:
            self._record(self._unfinished(Reason.FAILED), status=500)
            raise
        return Inference(outcomes, self._mode_name(), self._state.thresholds_id)

    def _mode_name(self) -> str:
        force = self._client.wishes.force
        return str(self._mode) if force is None else f"forced_{force}"

    # ------------------------------------------------------------ enforce

    async def _enforced(self) -> Outcomes | OneOutcome:
        force = self._client.wishes.force
        local = RuledSupervisor(self._supervisors[0], trust_all=force is LevelName.LOCAL)
        decisions = await adrive(deciding(len(self._inputs), local, self._supervisors[1]), self._answer)
        if len(self._inputs) == 1:
            return await self._one(decisions)
        outcomes = outcomes_of(decisions, self._ids, self._cascade.costs)
        if not (outcomes.routes == Route.REJECTED).any():
            return outcomes
        return await self._settled(outcomes)

    async def _one(self, decisions: Decisions) -> OneOutcome:
        """The outcome of a single input, its fallback taken if it needs one."""
        outcome = outcome_of(decisions, self._ids[0], self._cascade.costs)
        if outcome.route is Route.REJECTED:
            await self._waiting()  # the fallback may take its time
            outcome, _ = await adrive(settling(self._fallback(), self._inputs[0], outcome), as_coroutine)

        def columns() -> Outcomes:
            made = outcomes_of(decisions, self._ids, self._cascade.costs)
            answers = np.array([None], dtype=object)
            answers[0] = outcome.answer
            return replace(made, answers=answers, fallbacks=[outcome.fallback])

        return OneOutcome(outcome, columns)

    async def _answer(self, ask: Ask) -> ModelOutput:
        force = self._client.wishes.force
        if force is not None and ask.level is not force:
            n = len(self._inputs) if ask.rows is None else len(ask.rows)
            return ModelOutput.failed(n, Failure("not_asked", f"the client forced the {force} model"), latency_s=0.0)
        if not self._levels[ask.level].immediate:
            await self._waiting()
        if ask.level is LevelName.LOCAL:
            return await self._levels[LevelName.LOCAL](self._inputs)
        rows = range(len(self._inputs)) if ask.rows is None else ask.rows.tolist()
        return await self._paid(self._inputs if len(rows) == len(self._inputs) else [self._inputs[r] for r in rows])

    async def _paid(self, inputs: Sequence[Any], spending: Spending | None = None) -> ModelOutput:
        """The remote model's output. The most that it can cost is set aside before."""
        calls = self._levels[LevelName.REMOTE]
        bound = calls.cost * len(inputs)
        try:
            payment: Payment = await (spending or self._spent).begin(bound)
        except BudgetExhausted as error:
            return ModelOutput.failed(len(inputs), Failure("budget", str(error)), latency_s=0.0)
        except LogError as error:  # what it may cost cannot be set aside, so it is not made
            return ModelOutput.failed(len(inputs), Failure("log_full", str(error)), latency_s=0.0)
        try:
            output = await calls(inputs)
        except BaseException:
            payment.settle(math.nan)
            raise
        payment.settle(bound if output.cost is None else float(output.cost.sum()))
        return output

    async def _settled(self, outcomes: Outcomes) -> Outcomes:
        """The rejected rows with their fallback's answer, or without one."""
        await self._waiting()
        fallback = self._fallback()
        answers, fallbacks = outcomes.answers.copy(), list(outcomes.fallbacks)
        seconds, errors = outcomes.fallback_s.copy(), list(outcomes.fallback_errors)
        for row in np.flatnonzero(outcomes.routes == Route.REJECTED).tolist():
            steps = settling(fallback, self._inputs[row], outcomes[row])
            settled, _ = await adrive(steps, as_coroutine)
            answers[row], fallbacks[row] = settled.answer, settled.fallback
            if settled.fallback == "local_untrusted" and settled.answer is None:
                fallbacks[row] = "raise"
            seconds[row], errors[row] = settled.fallback_s, settled.fallback_error
        return replace(outcomes, answers=answers, fallbacks=fallbacks, fallback_s=seconds, fallback_errors=errors)

    def _fallback(self) -> Fallback:
        wish, configured = self._client.wishes.fallback, self._cascade.fallback
        if wish is None:
            # A queue stores the input, which the client may not want.
            hidden = isinstance(configured, HandOver) and not self._client.wishes.store
            return Raise() if hidden else configured
        if wish == "local_untrusted":
            return LocalUntrusted()
        return configured if wish == "default" and isinstance(configured, Default) else Raise()

    # ------------------------------------------------------------ observe, and remote only

    async def _remote_as_before(self) -> Outcomes:
        await self._waiting()
        local: asyncio.Task[ModelOutput] | None = None
        if self._mode is Mode.OBSERVE:
            local = asyncio.get_running_loop().create_task(self._levels[LevelName.LOCAL](self._inputs))
        try:
            remote = await self._paid(self._inputs)
        except BaseException:
            if local is not None:
                local.cancel()
            raise
        self._total_s = perf_counter() - self._start_s
        self._service.background(self._conclude(local, remote))
        return self._served(remote)

    def _not_local(self) -> ModelOutput:
        return ModelOutput.failed(len(self._inputs), Failure("not_asked", str(self._mode)), latency_s=0.0)

    def _served(self, remote: ModelOutput) -> Outcomes:
        """What the client gets: the remote model's answers, whatever a supervisor thinks of them."""
        trusting = RuledSupervisor(self._supervisors[1], trust_all=True)
        decisions = replay(self._not_local(), remote, (self._supervisors[0], trusting))
        return outcomes_of(decisions, self._ids, self._cascade.costs)

    async def _conclude(self, local: asyncio.Task[ModelOutput] | None, remote: ModelOutput) -> None:
        """The rows, once the local model has answered too: what the decision would have been."""
        output = self._not_local()
        try:
            if local is not None:
                output = await local
        except Exception:
            logger.exception("a mistake in the gateway")
        finally:
            self._record(self._observed(output, remote))

    def _observed(self, local: ModelOutput, remote: ModelOutput) -> Outcomes:
        decided = outcomes_of(replay(local, remote, self._supervisors), self._ids, self._cascade.costs)
        asked = outcomes_of(replay(self._not_local(), remote, self._supervisors), self._ids, self._cascade.costs)
        return replace(decided, remote=asked.remote)  # it was asked about every input

    # ------------------------------------------------------------ the rows

    def _unfinished(self, reason: Reason = Reason.CANCELLED) -> Outcomes:
        n = len(self._inputs)
        nothing = ModelOutput.failed(n, Failure("cancelled", "ended before the reply"), latency_s=math.nan)
        outcomes = outcomes_of(replay(nothing, nothing, self._supervisors), self._ids, self._cascade.costs)
        asked = np.full(n, self._spent.calls > 0)
        remote = replace(outcomes.remote, asked=asked, cost=np.where(asked, math.nan, 0.0))
        return replace(outcomes, reasons=[reason] * n, remote=remote)

    def _record(self, outcomes: Outcomes | OneOutcome, status: int | None = None) -> None:
        rows = list(outcomes)
        total_s = perf_counter() - self._start_s if self._total_s is None else self._total_s
        details = [self._details(row, outcome, total_s, status, len(rows)) for row, outcome in enumerate(rows)]
        self._service.record_many(self._cascade, rows, details, list(self._inputs))
        if status is None and self._mode is Mode.ENFORCE and self._client.wishes.force is None:
            self._audit(rows)

    def _details(self, row: int, outcome: Outcome, total_s: float, status: int | None, n: int) -> Details:
        enforced = self._mode is Mode.ENFORCE or self._client.wishes.force is not None
        served = outcome.fallback or outcome.route.label
        if not enforced:
            served = "error" if outcome.remote_error is not None else "remote"
        elif not outcome.answered:
            served = "error"
        return Details(
            sequence=self._numbers[row],
            cascade=self._cascade.name,
            mode=self._mode_name(),
            served="none" if status is not None else served,
            status=status or (refusal_of_outcome(outcome).status if n == 1 and served == "error" else 200),
            thresholds_id=self._state.thresholds_id,
            key=self._client.key,
            total_s=total_s,
            extra_remote_calls=int(not enforced and outcome.deferred_because is None),
            cost_bound=self._spent.bound / n,
            store_input=self._client.wishes.store,
        )

    # ------------------------------------------------------------ audits

    def _audit(self, rows: Sequence[Outcome]) -> None:
        share = self._cascade.settings.audit_share
        if share <= 0.0 or self._service.draining:
            return
        for row, outcome in enumerate(rows):
            if outcome.route is Route.LOCAL and not outcome.remote_requested and random.random() < share:
                self._service.background(self._audit_one(self._inputs[row : row + 1], outcome))

    async def _audit_one(self, inputs: Sequence[Any], outcome: Outcome) -> None:
        spending = Spending(self._service.ledger, [*self._scopes, f"audit:{self._cascade.name}"])
        output = await self._paid(inputs, spending)
        self._service.record_audit(self._cascade, outcome, output, spending, store=self._client.wishes.store)
