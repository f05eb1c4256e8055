"""One request's way through a cascade: ask, judge, ask, judge, decide, answer, log.

The decision is the heart's (`cascade.deciding`); this file asks the levels for it, sends the answer that it chose,
and sees to it that every request ends in exactly one logged outcome, whatever happens on the way.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bisupervised.calls import as_coroutine
from bisupervised.cascade import Ask, adrive, deciding, replay
from bisupervised.decision_log.details import Details
from bisupervised.errors import BudgetExhausted, LogError, ModelError, PredictionRejected
from bisupervised.fallback import Default, Fallback, HandOver, LocalUntrusted, Raise
from bisupervised.gateway.judging import (
    FIRST_LEVEL_DEFAULT,
    Judge,
    first_level_rule,
    not_asked,
    second_level_rule,
    without_unasked,
)
from bisupervised.gateway.levels import InProcess, LiveReply, Reply
from bisupervised.gateway.openai_wire import (
    CompletionRequest,
    as_asked,
    chunk_as_asked,
    chunks_of,
    completion_of,
    header_text,
)
from bisupervised.gateway.refusals import Refusal, refusal, refusal_of_failure, refusal_of_rejection
from bisupervised.gateway.settings import Mode, Streaming
from bisupervised.gateway.spending import Spending
from bisupervised.gateway.sse import DONE, encode, event_of
from bisupervised.outcomes import outcome_of, settling
from bisupervised.records import Decisions, Failure, LevelName, ModelOutput, Outcome, Reason, Route

if TYPE_CHECKING:
    from bisupervised.gateway.service import Cascade, Service

logger = logging.getLogger("bisupervised.gateway")
NAN: Final = math.nan

HeaderList = list[tuple[bytes, bytes]]


class Channel(Protocol):
    """Where a journey's answer goes: the HTTP layer, or a test."""

    async def waiting(self) -> None:
        """Before anything that takes time: from now on, the client's leaving cancels the journey's task."""

    async def whole(self, status: int, headers: HeaderList, body: bytes) -> None:
        """Send a complete answer."""

    async def begin(self, headers: HeaderList) -> None:
        """Begin a stream of events."""

    async def send(self, data: bytes) -> None:
        """Send a part of the stream."""

    async def end(self) -> None:
        """End the stream."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asked for in headers."""

    force: LevelName | None = None
    fallback: str | None = None  #: `raise`, `local_untrusted` or `default`
    store: bool = True  #: False: nothing of the content is stored
    conversation: str | None = None
    traceparent: str | None = None


class Journey:
    """One request from its acceptance to its logged outcome. Call `run` once."""

    def __init__(
        self,
        service: Service,
        cascade: Cascade,
        request: CompletionRequest,
        raw: bytes,
        key: str | None,
        wishes: Wishes,
        channel: Channel,
        *,
        id_: str,
        sequence: int,
    ) -> None:
        self.service = service
        self.cascade = cascade
        self.request = request
        self.key = key
        self.id = id_
        self.sequence = sequence
        self.state = cascade.state
        self.supervisors = cascade.supervisors
        self.wishes = wishes
        self.mode = self.state.mode_for(cascade.name, key)
        self._raw = raw
        self._channel = channel
        scopes = ["total", f"cascade:{cascade.name}"]
        if key is not None:
            scopes.append(f"key:{key}")
        self.scopes = scopes
        self.spent = {level: Spending(service.ledger, scopes) for level in LevelName}
        self._replies: dict[LevelName, Reply] = {}
        self._judges: dict[LevelName, Judge] = {}
        self._speculation: asyncio.Task[Reply] | None = None
        self._skipped: Failure | None = None  # why the local model is not asked
        self._unscorable: str | None = None
        self._rejected_by_rule: str | None = None
        self._budget: BudgetExhausted | None = None
        tracing = service.tracing
        self._trace = None if tracing is None else tracing.begin(cascade.name, wishes.traceparent)
        self._start_s = perf_counter()
        self._first_s = NAN
        self._total_s: float | None = None  # until the answer's end, where the row is written later
        self._served = "none"
        self._status = 499
        self._outcome: Outcome | None = None

    def reply_body(self, level: LevelName) -> dict[str, Any] | None:
        """The completion that a level gave; None when there is none, or not all of it."""
        reply = self._replies.get(level)
        return None if reply is None else reply.body

    # ------------------------------------------------------------ from beginning to end

    async def run(self) -> None:
        """Answer the request through the channel and log its outcome. Raises only when it is cancelled."""
        try:
            if self.mode is Mode.ENFORCE or self.wishes.force is not None:
                await self._enforce()
            else:
                await self._remote_as_before()
        except asyncio.CancelledError:
            self._outcome = self._outcome or self._unfinished(Reason.CANCELLED)
            self._served, self._status = "none", 499
            raise
        except Exception:
            logger.exception("request %s: a mistake in the gateway", self.id)
            self._outcome = self._outcome or self._unfinished(Reason.FAILED)
            self._served, self._status = "error", 500
            await self._refuse(refusal("internal_error", f"a mistake in the gateway; see its log for {self.id}"))
        finally:
            await self._close()
            if self._outcome is not None:
                self._record(self._outcome)

    async def _close(self) -> None:
        """Let go of every call that is still under way: nothing paid is left running."""
        task = self._speculation
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
        if task is not None and not task.cancelled() and task.exception() is None:
            self._drop(task.result())
        for reply in self._replies.values():
            self._drop(reply)

    @staticmethod
    def _drop(reply: Reply) -> None:
        if reply.live is not None:
            reply.live.close()

    # ------------------------------------------------------------ enforce: the decision answers

    async def _enforce(self) -> None:
        force = self.wishes.force
        self._appoint_judges()
        if self.cascade.settings.speculative and force is None and not self._goes_straight_to_remote():
            await self._channel.waiting()
            self._speculation = asyncio.create_task(self._fetch(LevelName.REMOTE))
        heart = deciding(1, self._judges[LevelName.LOCAL], self._judges[LevelName.REMOTE])
        decisions = await adrive(heart, self._answer)
        self._drop_speculation()
        outcome = without_unasked(outcome_of(decisions, self.id, self.cascade.costs))
        if outcome.route is Route.REJECTED:
            await self._fall_back(outcome)
            return
        level = LevelName.LOCAL if outcome.route is Route.LOCAL else LevelName.REMOTE
        self._outcome = outcome
        self._drop_other(level)
        await self._send(level, decisions, outcome)
        if level is LevelName.REMOTE:
            self.service.conversations.answered_remotely(self)
        elif self.mode is Mode.ENFORCE and force is None:
            self.service.audit(self, outcome)

    def _drop_speculation(self) -> None:
        """A speculative call that nobody waits for is not needed: now, since the answer may take a while to send."""
        task = self._speculation
        if task is None:
            return
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            self._drop(task.result())  # a stream that has begun

    def _drop_other(self, level: LevelName) -> None:
        for name, reply in self._replies.items():
            if name is not level:
                self._drop(reply)

    async def _answer(self, ask: Ask) -> ModelOutput:
        """What the heart asks for: the output of one level."""
        if ask.level is LevelName.LOCAL:
            return await self._local_output()
        return await self._remote_output()

    def _appoint_judges(self) -> None:
        local, remote = self.supervisors
        self._judges = {
            LevelName.LOCAL: Judge(local, trust_all=self.wishes.force is LevelName.LOCAL),
            LevelName.REMOTE: Judge(remote),
        }

    async def _local_output(self) -> ModelOutput:
        self._skipped = self._why_not_local()
        if self._skipped is not None:
            return ModelOutput.failed(1, self._skipped, latency_s=0.0)
        reply = await self._ask(LevelName.LOCAL)
        self._apply_local_rule(reply)
        return reply.output

    def _goes_straight_to_remote(self) -> bool:
        rule, _ = first_level_rule(self.request.kinds, self.cascade.settings.first_level_rules)
        return rule in ("remote", "reject")

    def _why_not_local(self) -> Failure | None:
        """Why the local model is not asked about this request; None: it is."""
        force = self.wishes.force
        if force is LevelName.LOCAL:
            return None
        if force is LevelName.REMOTE:
            return not_asked("the client forced the remote model")
        if self.cascade.settings.stick_to_remote and self.service.conversations.sticks(self):
            self._note_unscorable("local", "conversation")
            return not_asked("the conversation stays with the remote model")
        return self._why_not_scored()

    # ------------------------------------------------------------ what nobody can score

    def _why_not_scored(self) -> Failure | None:
        """Why a rule for the request's kind keeps it from the local model; None: it does not."""
        rule, kind = first_level_rule(self.request.kinds, self.cascade.settings.first_level_rules)
        if kind is None:
            return None
        self._note_unscorable("local", kind)
        if rule == "local":
            self._judges[LevelName.LOCAL].trust_unscored = True
            return None
        if rule == "reject":
            self._rejected_by_rule = kind
        return not_asked(f"no supervisor can score it: {kind}")

    def _apply_local_rule(self, reply: Reply) -> None:
        if reply.kind == "text":
            return
        self._note_unscorable("local", reply.kind)
        judge = self._judges[LevelName.LOCAL]
        rule = self.cascade.settings.first_level_rules.get(reply.kind, FIRST_LEVEL_DEFAULT)
        if rule == "local":
            judge.trust_unscored = True
        elif rule in ("remote", "reject"):
            judge.trust_none = True
            self._rejected_by_rule = reply.kind if rule == "reject" else None

    def _apply_remote_rule(self, reply: Reply) -> None:
        kind = reply.kind
        if kind in ("text", "no_logprobs") and self.request.kinds:
            kind = self.request.kinds[0]
        if kind != "text":
            rule = second_level_rule(kind, self.cascade.settings.second_level_rules)
            self._judges[LevelName.REMOTE].trust_unscored = rule == "trust"
            if kind == reply.kind:
                self._note_unscorable("remote", kind)

    def _note_unscorable(self, level: str, kind: str) -> None:
        self._unscorable = self._unscorable or kind
        self.service.metrics.unscorable(self.cascade.name, level, kind)

    # ------------------------------------------------------------ asking a level

    async def _remote_output(self) -> ModelOutput:
        if self.wishes.force is LevelName.LOCAL:
            return ModelOutput.failed(1, not_asked("the client forced the local model"))
        if self._rejected_by_rule is not None:
            return ModelOutput.failed(1, not_asked(f"no supervisor can score it: {self._rejected_by_rule}"))
        self._drop_other(LevelName.REMOTE)  # a local stream that was not trusted
        reply = await self._ask(LevelName.REMOTE)
        self._apply_remote_rule(reply)
        return reply.output

    async def _ask(self, level: LevelName) -> Reply:
        backend = self.cascade.backends[level]
        if not (isinstance(backend, InProcess) and backend.immediate):
            await self._channel.waiting()
        if level is LevelName.REMOTE and self._speculation is not None:
            speculation, self._speculation = self._speculation, None
            try:
                reply = await speculation
            except asyncio.CancelledError:
                await _ended(speculation)
                raise
        else:
            reply = await self._fetch(level)
        self._replies[level] = reply
        return reply

    async def _fetch(self, level: LevelName) -> Reply:
        """One level's reply: a whole one, or the beginning of a stream as long as the decision needs."""
        tokens = self._tokens_to_decide(level) if self.request.stream else None
        return await self._reply_of(level, tokens)

    async def _reply_of(self, level: LevelName, tokens: int | None) -> Reply:
        """A stream of which so many tokens are there, or a whole reply when `tokens` is None."""
        if self._trace is None:
            return await self._paid_reply(level, tokens)
        span, failure = self._trace.ask(level), "cancelled"
        try:
            reply = await self._paid_reply(level, tokens)
            failure = reply.output.failures[0].kind if reply.output.failures else ""
            return reply
        finally:
            self._trace.answered(span, failure or None)

    async def _paid_reply(self, level: LevelName, tokens: int | None) -> Reply:
        backend, spending = self.cascade.backends[level], self.spent[level]
        try:
            if tokens is not None and backend.streams:
                return await backend.stream(self.request, spending, tokens)
            return await backend.whole(self.request, self.id, spending)
        except BudgetExhausted as error:
            self._budget = error
            return _not_made("budget", error)
        except LogError as error:  # what it may cost cannot be set aside
            return _not_made("log_full", error)

    def _tokens_to_decide(self, level: LevelName) -> int | None:
        """How many tokens' evidence a level is judged on; 0: none is needed; None: all of them."""
        quantifier = self.supervisors[level is LevelName.REMOTE].quantifier
        if quantifier.needs is None:
            return 0
        if self.cascade.settings.streaming is Streaming.PREFIX and not quantifier.extra_calls:
            return self.cascade.settings.prefix_tokens
        return None

    # ------------------------------------------------------------ observe, and remote only: answer as before

    async def _remote_as_before(self) -> None:
        local: asyncio.Task[Reply] | None = None
        self._appoint_judges()
        await self._channel.waiting()
        self._skipped = self._why_not_scored() if self.mode is Mode.OBSERVE else not_asked(str(self.mode))
        if self._skipped is None:
            local = asyncio.create_task(self._fetch(LevelName.LOCAL))
        try:
            reply = await self._reply_of(LevelName.REMOTE, 0 if self.request.stream else None)
            self._replies[LevelName.REMOTE] = reply
            failure = reply.output.failures.get(0)
            if failure is None:
                # The headers cannot tell the decision: it is made later, beside the answer.
                await self._deliver(LevelName.REMOTE, self._headers(None))
            else:
                self._served = "error"
                await self._refuse(self._failed_refusal(reply, failure))
        except BaseException:
            if local is not None:
                local.cancel()
                await _ended(local)
            raise
        self._total_s = perf_counter() - self._start_s
        self.service.background(self._conclude(local))

    async def _conclude(self, local: asyncio.Task[Reply] | None) -> None:
        """When both outputs are there: what the decision would have been, and the row."""
        try:
            if local is not None:
                self._replies[LevelName.LOCAL] = await local
            self._outcome = self._observed()
        except asyncio.CancelledError:
            if local is not None:
                local.cancel()
                await _ended(local)
            self._outcome = self._observed()
            raise
        except Exception:
            logger.exception("request %s: a mistake in the gateway", self.id)
            self._outcome = self._unfinished(Reason.FAILED)
        finally:
            await self._close()
            if self._outcome is not None:
                self._record(self._outcome)

    def _observed(self) -> Outcome:
        local_reply, remote_reply = self._replies.get(LevelName.LOCAL), self._replies[LevelName.REMOTE]
        local, remote = self._missing(LevelName.LOCAL), remote_reply.output
        if local_reply is not None:
            local = local_reply.output
            self._apply_local_rule(local_reply)
        self._apply_remote_rule(remote_reply)
        judges = self._judges[LevelName.LOCAL], self._judges[LevelName.REMOTE]
        judges[1].trust_none = self._rejected_by_rule is not None
        outcome = without_unasked(outcome_of(replay(local, remote, judges), self.id, self.cascade.costs))
        if outcome.route is not Route.LOCAL:
            return outcome
        # It was asked all the same: what it said, and how sure it was, is what calibration wants to know.
        asked = replay(ModelOutput.failed(1, Failure("", "")), remote, self.supervisors)
        judged = outcome_of(asked, self.id, self.cascade.costs)
        columns = [name for name in Outcome.__slots__ if name.startswith("remote_")]
        return replace(outcome, **{name: getattr(judged, name) for name in columns})

    # ------------------------------------------------------------ answering

    async def _send(self, level: LevelName, decisions: Decisions, outcome: Outcome) -> None:
        headers = self._headers(outcome)
        live = self._replies[level].live
        await self._deliver(level, headers)
        if live is not None:  # the output is complete only now
            output = self._replies[level].output
            if level is LevelName.LOCAL:
                decisions = replace(decisions, local_output=output)
            else:
                decisions = replace(decisions, remote_output=output)
            self._outcome = without_unasked(outcome_of(decisions, self.id, self.cascade.costs))

    async def _deliver(self, level: LevelName, headers: HeaderList) -> None:
        """Send a level's reply as the client asked for it: whole, or as a stream."""
        reply = self._replies[level]
        self._served = level.value
        self._status = 200
        if reply.live is not None:
            await self._relay(level, reply.live, headers)
        elif self.request.stream:
            assert reply.body is not None
            body = as_asked(reply.body, self.request)
            await self._stream_body(body, headers)
        else:
            assert reply.body is not None
            body = as_asked(reply.body, self.request)
            await self._channel.whole(200, [*headers, _JSON], encode(body))

    async def _stream_body(self, body: Mapping[str, Any], headers: HeaderList) -> None:
        await self._channel.begin(headers)
        self._first_s = perf_counter() - self._start_s
        await self._channel.send(b"".join(map(event_of, chunks_of(body, self.request))) + DONE)
        await self._channel.end()

    async def _relay(self, level: LevelName, live: LiveReply, headers: HeaderList) -> None:
        """Send what is held of a stream, then the rest as it comes."""
        await self._channel.begin(headers)
        self._first_s = perf_counter() - self._start_s
        chunks, live.held = live.held, []
        try:
            while True:
                shown = [one for chunk in chunks if (one := chunk_as_asked(chunk, self.request)) is not None]
                if shown:
                    await self._channel.send(b"".join(map(event_of, shown)))
                if live.ended:
                    break
                chunks = await live.more()
        except ModelError as error:
            # The beginning is sent: all that can be said is that the rest will not come.
            self._replies[level] = replace_failed(self._replies[level], error, self.spent[level])
            self._status = 502
            message = f"the stream was cut off: {error}"
            local = level is LevelName.LOCAL
            refused = refusal("local_failed", message) if local else refusal_of_failure(None, error.kind, message)
            await self._channel.send(b"data: " + refused.body + b"\n\n")
        else:
            self._replies[level] = live.so_far()
            await self._channel.send(DONE)
        await self._channel.end()

    async def _refuse(self, refused: Refusal, headers: HeaderList | None = None) -> None:
        self._status = refused.status
        shown = headers if headers is not None else [(b"x-bisupervised-id", self.id.encode())]
        await self._channel.whole(refused.status, [*shown, *refused.headers, _JSON], refused.body)

    # ------------------------------------------------------------ rejected

    async def _fall_back(self, outcome: Outcome) -> None:
        """No level is trusted: the fallback answers, or a typed error does."""
        await self._channel.waiting()  # it may take its time
        fallback = self._fallback_for()
        settled, error = await adrive(settling(fallback, self.request.body, outcome), as_coroutine)
        reply: Reply | None = None
        if error is None and settled.fallback == "local_untrusted":
            reply = await self._whole_local()
            if reply is None:
                error = PredictionRejected(outcome)
        self._outcome = settled
        if error is not None or settled.fallback == "queue":
            self._served = "error"
            self._outcome = settled if not isinstance(error, PredictionRejected) else replace(settled, answer=None)
            await self._refuse(self._refusal(settled, error), self._headers(settled))
            return
        self._served = str(settled.fallback)
        self._status = 200
        body = completion_of(str(settled.answer), self.request.route, self.id, self.cascade.name)
        if reply is not None and reply.body is not None:
            body = as_asked(reply.body, self.request)
        headers = self._headers(settled)
        if self.request.stream:
            await self._stream_body(body, headers)
        else:
            await self._channel.whole(200, [*headers, _JSON], encode(body))

    def _fallback_for(self) -> Fallback:
        wish, configured = self.wishes.fallback, self.cascade.fallback
        if wish is None:
            # A queue stores the request, which the client does not want.
            return Raise() if isinstance(configured, HandOver) and not self.wishes.store else configured
        if wish == "local_untrusted":
            return LocalUntrusted()
        if wish == "default" and isinstance(configured, Default):
            return configured
        return Raise()

    async def _whole_local(self) -> Reply | None:
        """The local answer, whole: only a stream's beginning may be there, and that stream is closed."""
        reply = self._replies.get(LevelName.LOCAL)
        if reply is not None and reply.body is not None:
            return reply
        again = await self.cascade.backends[LevelName.LOCAL].whole(self.request, self.id, self.spent[LevelName.LOCAL])
        return None if again.output.failures else again

    def _refusal(self, outcome: Outcome, error: Exception | None) -> Refusal:
        """The typed error for a rejected request."""
        if outcome.fallback == "queue" and error is None:
            return refusal("queued", f"rejected, and handed to the queue under the id {outcome.id}")
        if error is not None and not isinstance(error, PredictionRejected):
            return refusal("fallback_failed", f"the fallback raised; see the outcome {outcome.id}")
        if self._rejected_by_rule is not None:
            return refusal("unscorable", f"no supervisor can judge this request: {self._rejected_by_rule}")
        level = LevelName.LOCAL if self.wishes.force is LevelName.LOCAL else LevelName.REMOTE
        reply = self._replies.get(level)
        failure = None if reply is None else reply.output.failures.get(0)
        if reply is not None and failure is not None:
            return self._failed_refusal(reply, failure, level)
        return refusal_of_rejection(outcome)

    def _failed_refusal(self, reply: Reply, failure: Failure, level: LevelName = LevelName.REMOTE) -> Refusal:
        if failure.kind == "budget" and self._budget is not None:
            return refusal("budget_exhausted", failure.message, retry_after_s=self._budget.resets_in_s)
        if failure.kind == "log_full":
            return refusal("log_full", failure.message, retry_after_s=5.0)
        if level is LevelName.LOCAL:
            return refusal("local_failed", failure.message)
        return refusal_of_failure(reply.error, failure.kind, failure.message)

    # ------------------------------------------------------------ headers

    def _headers(self, outcome: Outcome | None) -> HeaderList:
        """How the answer came about, as far as it is known when the headers are sent."""
        headers = [
            (b"x-bisupervised-id", self.id.encode()),
            (b"x-bisupervised-mode", self._mode_name().encode()),
            (b"x-bisupervised-thresholds", self.state.thresholds_id.encode()),
        ]
        if outcome is None:
            headers.append((b"x-bisupervised-served", b"remote"))
            return headers
        served = self._served if self._served == "error" else outcome.fallback or outcome.route.label
        headers += [
            (b"x-bisupervised-route", outcome.route.label.encode()),
            (b"x-bisupervised-served", served.encode()),
            (b"x-bisupervised-reason", outcome.reason.value.encode()),
        ]
        if outcome.deferred_because is not None:
            headers.append((b"x-bisupervised-deferred-because", outcome.deferred_because.value.encode()))
        if self._unscorable is not None:
            headers.append((b"x-bisupervised-unscorable", header_text(self._unscorable).encode()))
        self._level_headers(headers, outcome)
        return headers

    def _level_headers(self, headers: HeaderList, outcome: Outcome) -> None:
        numbers = [
            (b"x-bisupervised-local-confidence", outcome.local_confidence),
            (b"x-bisupervised-local-latency-s", outcome.local_latency_s),
            (b"x-bisupervised-local-cost", self._cost(LevelName.LOCAL, outcome.local_cost)),
        ]
        if outcome.remote_requested:
            numbers += [
                (b"x-bisupervised-remote-confidence", outcome.remote_confidence),
                (b"x-bisupervised-remote-latency-s", outcome.remote_latency_s),
                (b"x-bisupervised-remote-cost", self._cost(LevelName.REMOTE, outcome.remote_cost)),
            ]
        for name, value in numbers:
            if value == value:  # what is not known is not said
                headers.append((name, b"%.9g" % value))

    def _mode_name(self) -> str:
        return str(self.mode) if self.wishes.force is None else f"forced_{self.wishes.force}"

    # ------------------------------------------------------------ the row

    def _cost(self, level: LevelName, cost: float) -> float:
        """What a level cost, every attempt and every further call included."""
        spent = self.spent[level]
        return spent.cost if spent.calls else cost

    def _unfinished(self, reason: Reason) -> Outcome:
        """The outcome of a request that ended before there was a decision."""
        outputs = {level: reply.output for level, reply in self._replies.items()}
        local, remote = (outputs.get(level) or self._missing(level) for level in LevelName)
        outcome = outcome_of(replay(local, remote, self.supervisors), self.id, self.cascade.costs)
        asked = self.spent[LevelName.REMOTE].calls > 0 or LevelName.REMOTE in outputs
        return replace(
            without_unasked(outcome),
            route=Route.REJECTED,
            reason=reason,
            answer=None,
            remote_requested=asked,
            remote_cost=outcome.remote_cost if asked else 0.0,
        )

    def _missing(self, level: LevelName) -> ModelOutput:
        """What stands in for a reply that did not come."""
        skipped = self._skipped if level is LevelName.LOCAL else None
        failure = skipped or Failure("cancelled", "ended before the reply")
        return ModelOutput.failed(1, failure, latency_s=NAN)

    def _record(self, outcome: Outcome) -> None:
        """The one row of this request."""
        remote = self.spent[LevelName.REMOTE]
        extra_calls, extra_cost = 0, 0.0
        if self.mode is not Mode.ENFORCE and self.wishes.force is None:
            extra_calls = int(outcome.deferred_because is None and outcome.route is Route.LOCAL)
        elif remote.calls and not outcome.remote_requested:  # speculative, and not needed
            extra_calls, extra_cost = remote.calls, remote.cost
        local_cost = self._cost(LevelName.LOCAL, outcome.local_cost)
        remote_cost = self._cost(LevelName.REMOTE, outcome.remote_cost) if outcome.remote_requested else 0.0
        if local_cost != outcome.local_cost or remote_cost != outcome.remote_cost:
            outcome = replace(outcome, local_cost=local_cost, remote_cost=remote_cost)
        tokens = [self._tokens(level) for level in LevelName]
        details = Details(
            sequence=self.sequence,
            cascade=self.cascade.name,
            mode=self._mode_name(),
            served=self._served,
            status=self._status,
            thresholds_id=self.state.thresholds_id,
            key=self.key,
            streamed=self.request.stream,
            total_s=perf_counter() - self._start_s if self._total_s is None else self._total_s,
            first_token_s=self._first_s,
            local_prompt_tokens=tokens[0][0],
            local_completion_tokens=tokens[0][1],
            remote_prompt_tokens=tokens[1][0],
            remote_completion_tokens=tokens[1][1],
            extra_remote_calls=extra_calls,
            extra_cost=extra_cost,
            cost_bound=sum(spent.bound for spent in self.spent.values()),
            unscorable=self._unscorable,
            store_input=self.wishes.store,
        )
        self.service.record(self.cascade, outcome, details, self.request.body, self._raw)
        if self._trace is not None:
            self._trace.end(outcome, details)

    def _tokens(self, level: LevelName) -> tuple[float, float]:
        reply = self._replies.get(level)
        if reply is None or reply.output.prompt_tokens is None or reply.output.completion_tokens is None:
            return NAN, NAN
        return float(reply.output.prompt_tokens[0]), float(reply.output.completion_tokens[0])


_JSON: Final = (b"content-type", b"application/json")


def replace_failed(reply: Reply, error: ModelError, spending: Spending) -> Reply:
    """A reply whose stream broke off: what came of it stays, and it is a failure."""
    if reply.live is not None:
        reply.live.close()
    output = replace(reply.output, failures={0: Failure(error.kind, str(error))}, cost=np.array([spending.cost]))
    return Reply(output, None, reply.kind, error=error)


def _not_made(kind: str, error: Exception) -> Reply:
    """The reply to a call that may not be made: it costs nothing."""
    output = ModelOutput.failed(1, Failure(kind, str(error)), latency_s=0.0)
    return Reply(replace(output, cost=np.zeros(1)))


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task that was cancelled, and drop what it made all the same."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None and isinstance(task.result(), Reply):
        Journey._drop(task.result())
