"""The first part of a request's way: who is asked, by which rule, at what cost."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bisupervised.cascade import Ask
from bisupervised.errors import BudgetExhausted, LogError
from bisupervised.gateway.judging import (
    FIRST_LEVEL_DEFAULT,
    RuledSupervisor,
    first_level_rule,
    not_asked,
    second_level_rule,
)
from bisupervised.gateway.levels import InProcess, Reply
from bisupervised.gateway.modes import State
from bisupervised.gateway.openai_wire import (
    CompletionRequest,
)
from bisupervised.gateway.settings import Mode, Streaming
from bisupervised.gateway.spending import Spending
from bisupervised.records import Evidence, Failure, LevelName, ModelOutput, Outcome

if TYPE_CHECKING:
    from bisupervised.gateway.service import Cascade, Service

NAN: Final = math.nan

HeaderList = list[tuple[bytes, bytes]]


class Channel(Protocol):
    """Where a journey's answer goes: the HTTP layer, or a test."""

    @property
    def started(self) -> bool:
        """Whether anything of it has been sent."""

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


def granted(wishes: Wishes, state: State, mode: Mode) -> Wishes:
    """What a client wishes, as far as it may.

    The kill switch is stronger than a wish for a level; where the remote model answers anyway, a wish for it changes
    nothing.
    """
    answers_anyway = wishes.force is LevelName.REMOTE and mode is not Mode.ENFORCE
    return replace(wishes, force=None) if wishes.force and (state.kill_switch or answers_anyway) else wishes


class Asking:
    """One request with what it knows of itself, and the levels that are asked about it.

    `answering.Answering` adds how it is answered, `journey.Journey` the way from one to the other.
    """

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
        self.mode = self.state.mode_for(cascade.name, key)
        self.wishes = granted(wishes, self.state, self.mode)
        self._raw = raw
        self._channel = channel
        scopes = ["total", f"cascade:{cascade.name}"]
        if key is not None:
            scopes.append(f"key:{key}")
        self.scopes = scopes
        self.spent = {level: Spending(service.ledger, scopes) for level in LevelName}
        self._replies: dict[LevelName, Reply] = {}
        self._ruled: dict[LevelName, RuledSupervisor] = {}
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

    async def _answer(self, ask: Ask) -> ModelOutput:
        """What the heart asks for: the output of one level."""
        if ask.level is LevelName.LOCAL:
            return await self._local_output()
        return await self._remote_output()

    def _rule_supervisors(self) -> None:
        local, remote = self.supervisors
        self._ruled = {
            LevelName.LOCAL: RuledSupervisor(local, trust_all=self.wishes.force is LevelName.LOCAL),
            LevelName.REMOTE: RuledSupervisor(remote),
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
            self._ruled[LevelName.LOCAL].trust_unscored = True
            return None
        if rule == "reject":
            self._rejected_by_rule = kind
        return not_asked(f"no supervisor can score it: {kind}")

    def _apply_local_rule(self, reply: Reply) -> None:
        if reply.kind == "text":
            return
        self._note_unscorable("local", reply.kind)
        judge = self._ruled[LevelName.LOCAL]
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
            self._ruled[LevelName.REMOTE].trust_unscored = rule == "trust"
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
        if self.supervisors[1].pair is None:
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
                await ended(speculation)
                raise
        else:
            reply = await self._fetch(level)
        self._replies[level] = reply
        return reply

    async def _fetch(self, level: LevelName) -> Reply:
        """One level's reply: a whole one, or the beginning of a stream as long as the decision needs."""
        tokens = self._tokens_to_decide(level) if self.request.stream else None
        return await self._reply_of(level, tokens)

    async def _reply_of(self, level: LevelName, tokens: int | None, *, further: bool = True) -> Reply:
        """A stream of which so many tokens are there, or a whole reply when `tokens` is None.

        `further`: with the calls that more evidence takes.
        """
        if self._trace is None:
            return await self._paid_reply(level, tokens, further)
        span, failure = self._trace.ask(level), "cancelled"
        try:
            reply = await self._paid_reply(level, tokens, further)
            failure = reply.output.failures[0].kind if reply.output.failures else ""
            return reply
        finally:
            self._trace.answered(span, failure or None)

    async def _paid_reply(self, level: LevelName, tokens: int | None, further: bool) -> Reply:
        backend, spending = self.cascade.backends[level], self.spent[level]
        try:
            if tokens is not None and backend.streams:
                return await backend.stream(self.request, spending, tokens)
            return await backend.whole(self.request, self.id, spending, further)
        except BudgetExhausted as error:
            self._budget = error
            return _not_made("budget", error)
        except LogError as error:  # what it may cost cannot be set aside
            return _not_made("log_full", error)

    def _tokens_to_decide(self, level: LevelName) -> int | None:
        """How many tokens' evidence a level is judged on; 0: none is needed; None: all of them."""
        quantifier = self.supervisors[level is LevelName.REMOTE].quantifier
        if self.supervisors[1].pair is not None or quantifier.needs is Evidence.TEXT:
            return None  # they read whole answers
        if quantifier.needs is None:
            return 0
        # A call of a tool may follow any beginning.
        by_prefix = self.cascade.settings.streaming is Streaming.PREFIX and "tools" not in self.request.kinds
        if by_prefix and not quantifier.extra_calls:
            return self.cascade.settings.prefix_tokens
        return None

    # ------------------------------------------------------------ letting go

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


def _not_made(kind: str, error: Exception) -> Reply:
    """The reply to a call that may not be made: it costs nothing."""
    output = ModelOutput.failed(1, Failure(kind, str(error)), latency_s=0.0)
    return Reply(replace(output, cost=np.zeros(1)))


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task that was cancelled, and drop what it made all the same."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None and isinstance(task.result(), Reply):
        Asking._drop(task.result())
