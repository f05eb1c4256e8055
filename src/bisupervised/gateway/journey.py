"""One request's way through a cascade: ask, judge, ask, judge, decide, answer, log.

The decision is the heart's (`cascade.deciding`). `asking.py` asks the levels for it, `answering.py` sends the answer
that it chose; this file sees to it that every request ends in exactly one logged outcome, whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from time import perf_counter

from bisupervised.cascade import adrive, deciding, replay
from bisupervised.decision_log.details import Details
from bisupervised.gateway.answering import Answering
from bisupervised.gateway.asking import NAN, ended
from bisupervised.gateway.judging import (
    not_asked,
    without_unasked,
)
from bisupervised.gateway.levels import Reply
from bisupervised.gateway.refusals import refusal
from bisupervised.gateway.settings import Mode
from bisupervised.outcomes import outcome_of
from bisupervised.records import Failure, LevelName, ModelOutput, Outcome, Reason, Route

logger = logging.getLogger("bisupervised.gateway")


class Journey(Answering):
    """One request from its acceptance to its logged outcome. Call `run` once."""

    # ------------------------------------------------------------ from beginning to end

    async def run(self) -> None:
        """Answer the request through the channel and log its outcome. Raises only when it is cancelled."""
        self.service.under_way.add(self.id)
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
            if not self._channel.started:  # else the answer breaks off: it must not look complete
                await self._refuse(refusal("internal_error", f"a mistake in the gateway; see its log for {self.id}"))
        finally:
            try:
                await self._close()
            finally:
                if self._outcome is not None:
                    self._record(self._outcome)

    # ------------------------------------------------------------ enforce: the decision answers

    async def _enforce(self) -> None:
        force = self.wishes.force
        self._rule_supervisors()
        if self.cascade.settings.speculative and force is None and not self._goes_straight_to_remote():
            await self._channel.waiting()
            self._speculation = asyncio.create_task(self._fetch(LevelName.REMOTE))
        heart = deciding(1, self._ruled[LevelName.LOCAL], self._ruled[LevelName.REMOTE])
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
        elif self.mode is Mode.ENFORCE and force is None and not outcome.remote_requested:
            self.service.audit(self, self._outcome)  # a stream's is complete only now

    # ------------------------------------------------------------ observe, and remote only: answer as before

    async def _remote_as_before(self) -> None:
        local: asyncio.Task[Reply] | None = None
        self._rule_supervisors()
        await self._channel.waiting()
        observed = self.mode is Mode.OBSERVE
        self._skipped = self._why_not_scored() if observed else not_asked(str(self.mode))
        if self._skipped is None and not self.service.may_observe:
            self._skipped = not_asked("as much is observed already as may be")
        if self._skipped is None:
            local = asyncio.create_task(self._fetch(LevelName.LOCAL))
        try:
            reply = await self._reply_of(LevelName.REMOTE, 0 if self.request.stream else None, further=False)
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
                await ended(local)
            raise
        self._total_s = perf_counter() - self._start_s
        self.service.conversations.answered_remotely(self)
        self.service.background(self._conclude(local))

    async def _conclude(self, local: asyncio.Task[Reply] | None) -> None:
        """When both outputs are there: what the decision would have been, and the row."""
        try:
            if local is not None:
                self._replies[LevelName.LOCAL] = await local
            if self.mode is Mode.OBSERVE:
                remote = self._replies[LevelName.REMOTE], self.spent[LevelName.REMOTE]
                await self.cascade.backends[LevelName.REMOTE].look_further(self.request, *remote)
            self._outcome = self._observed()
        except asyncio.CancelledError:
            if local is not None:
                local.cancel()
                await ended(local)
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
        ruled = self._ruled[LevelName.LOCAL], self._ruled[LevelName.REMOTE]
        ruled[1].trust_none = self._rejected_by_rule is not None
        outcome = without_unasked(outcome_of(replay(local, remote, ruled), self.id, self.cascade.costs))
        if outcome.remote_requested or outcome.reason is Reason.NOT_ASKED:
            return outcome
        # It was asked all the same: what it said, and how sure it was, is what calibration wants to know.
        asked = replay(ModelOutput.failed(1, Failure("", "")), remote, self.supervisors)
        judged = outcome_of(asked, self.id, self.cascade.costs)
        columns = [name for name in Outcome.__slots__ if name.startswith("remote_")]
        return replace(outcome, **{name: getattr(judged, name) for name in columns})

    # ------------------------------------------------------------ the row

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
            unneeded = outcome.route is Route.LOCAL or outcome.reason is Reason.ABSTAINED
            extra_calls = int(outcome.deferred_because is None and unneeded)
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
