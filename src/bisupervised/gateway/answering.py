"""The last part of a request's way: its answer, whole or streamed, its headers, or a typed error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, Final

import numpy as np

from bisupervised.calls import as_coroutine
from bisupervised.cascade import adrive
from bisupervised.errors import ModelError, PredictionRejected
from bisupervised.fallback import Default, Fallback, HandOver, LocalUntrusted, Raise
from bisupervised.gateway.asking import Asking, HeaderList
from bisupervised.gateway.judging import (
    known,
    without_unasked,
)
from bisupervised.gateway.levels import LiveReply, OverHttp, Reply
from bisupervised.gateway.openai_wire import (
    as_asked,
    chunk_as_asked,
    chunks_of,
    completion_of,
    header_text,
)
from bisupervised.gateway.refusals import CODES, Refusal, refusal, refusal_of_failure, refusal_of_rejection
from bisupervised.gateway.spending import Spending
from bisupervised.gateway.sse import DONE, encode, event_of
from bisupervised.outcomes import outcome_of, settling
from bisupervised.records import Decisions, Failure, LevelName, Outcome


class Answering(Asking):
    """A request that can be answered."""

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
            message = self._without_address(level, f"the stream was cut off: {error}")
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
            elif reply is not self._replies.get(LevelName.LOCAL):  # asked again: this is what the client gets
                settled = replace(settled, answer=str(reply.output.predictions[0]))
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
        again = await self._paid_reply(LevelName.LOCAL, None, False)
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
            return refusal("log_full", f"{CODES['log_full'][1]}: {self.id}", retry_after_s=5.0)
        message = self._without_address(level, failure.message)
        if level is LevelName.LOCAL:
            return refusal("local_failed", message)
        return refusal_of_failure(reply.error, failure.kind, message)

    def _without_address(self, level: LevelName, message: str) -> str:
        """A message for a client, whom the endpoint's address is no business of; the log keeps it."""
        backend = self.cascade.backends[level]
        return (
            message.replace(backend.upstream.name, f"the {level} endpoint")
            if isinstance(backend, OverHttp)
            else message
        )

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
            (b"x-bisupervised-learned-confidence", known(outcome.learned_confidence)),
            (b"x-bisupervised-local-latency-s", outcome.local_latency_s),
            (b"x-bisupervised-local-cost", self._cost(LevelName.LOCAL, outcome.local_cost)),
        ]
        if outcome.remote_requested:
            numbers += [
                (b"x-bisupervised-remote-confidence", outcome.remote_confidence),
                (b"x-bisupervised-pair-confidence", known(outcome.pair_confidence)),
                (b"x-bisupervised-remote-latency-s", outcome.remote_latency_s),
                (b"x-bisupervised-remote-cost", self._cost(LevelName.REMOTE, outcome.remote_cost)),
            ]
        for name, value in numbers:
            if value == value:  # what is not known is not said
                headers.append((name, b"%.9g" % value))

    def _mode_name(self) -> str:
        return str(self.mode) if self.wishes.force is None else f"forced_{self.wishes.force}"

    def _cost(self, level: LevelName, cost: float) -> float:
        """What a level cost, every attempt and every further call included."""
        spent = self.spent[level]
        return spent.cost if spent.calls else cost


_JSON: Final = (b"content-type", b"application/json")


def replace_failed(reply: Reply, error: ModelError, spending: Spending) -> Reply:
    """A reply whose stream broke off: what came of it stays, and it is a failure."""
    if reply.live is not None:
        reply.live.close()
    output = replace(reply.output, failures={0: Failure(error.kind, str(error))}, cost=np.array([spending.cost]))
    return Reply(output, None, reply.kind, error=error)
