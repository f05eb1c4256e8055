"""What a level answers a completion request with: an in-process model, or an OpenAI-compatible endpoint.

Either gives a `Reply`: a model output of one row, which the supervisor judges, and the body for the client.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final, Protocol

import numpy as np

from bisupervised.calls import failed_output, with_latency
from bisupervised.cascade import Level
from bisupervised.errors import BudgetExhausted, InputError, LogError, ModelError, ReplyUnreadable
from bisupervised.gateway.openai_wire import LENGTHS, CompletionRequest, completion_of
from bisupervised.gateway.spending import Payment, Spending
from bisupervised.gateway.sse import encode
from bisupervised.gateway.upstream import Attempts, Upstream, UpstreamStream, may_be_charged
from bisupervised.models.extra_calls import NOT_CHARGED, Extra, ExtraCalls
from bisupervised.models.openai_reply import Answer, Prices, Usage, read_answer
from bisupervised.models.openai_request import Route
from bisupervised.models.openai_stream import StreamedAnswer
from bisupervised.models.outputs import as_column
from bisupervised.quantifiers import Quantifier
from bisupervised.records import Evidence, Failure, ModelOutput

#: Alternatives asked for at each token where the quantifier reads them.
_ALTERNATIVES: Final = 5
#: Tokens that an answer of no stated length may have: what a bound on its cost assumes.
_LONGEST_ANSWER: Final = 16_384
#: Chunks of a stream that may come before the first one with evidence: a role, a comment, an empty one.
_CHUNKS_WITHOUT_EVIDENCE: Final = 8
#: Tokens of a prompt whose length does not follow from its bytes (images, audio).
_LONGEST_PROMPT: Final = 200_000


@dataclass(slots=True)
class Reply:
    """What a level said to one request."""

    output: ModelOutput  #: one row
    body: dict[str, Any] | None = None  #: the completion, as a client reads it; None when the call failed
    kind: str = "text"  #: `text`, or why nobody can score it: see `settings.REPLY_KINDS`
    live: LiveReply | None = None  #: the stream that goes on, when only its beginning is here
    error: ModelError | None = None  #: what the call failed with
    answer: Answer | None = None  #: as it was read, while further calls about it are to be made


class Backend(Protocol):
    """One level of a cascade, as the service sees it."""

    @property
    def name(self) -> str: ...

    @property
    def streams(self) -> bool:
        """Whether `stream` gives an answer before it is complete."""

    async def whole(self, request: CompletionRequest, id_: str, spending: Spending, further: bool = True) -> Reply:
        """The complete reply; a failed call is a reply too. Raises `BudgetExhausted`.

        With `further=False` the calls that more evidence takes are left to `look_further`.
        """

    async def look_further(self, request: CompletionRequest, reply: Reply, spending: Spending) -> None:
        """Make them."""

    async def stream(self, request: CompletionRequest, spending: Spending, tokens: int) -> Reply:
        """The reply's beginning, with the evidence of its first tokens, and the stream that goes on."""


class InProcess:
    """Any model of the library's port: its prediction is the answer's text."""

    streams = False

    def __init__(self, level: Level, which: str = "last_message") -> None:
        self.name = level.model.name
        self._model = level.model
        self._inline = level.inline
        self._cost = level.cost
        self._which = which
        self._later = inspect.iscoroutinefunction(level.model.predict)
        #: It answers in the event loop itself, at once: no client can go away meanwhile.
        self.immediate = level.inline and not self._later
        # Of its own: the loop's pool is the store's, which waits for no model.
        self._threads = ThreadPoolExecutor(thread_name_prefix="bisupervised-model")

    async def whole(self, request: CompletionRequest, id_: str, spending: Spending, further: bool = True) -> Reply:
        if not self._cost:
            return await self._whole(request, id_)
        payment = await spending.begin(self._cost)
        try:
            return await self._whole(request, id_)
        finally:
            payment.settle(self._cost)  # it has worked, whatever came of it

    async def look_further(self, request: CompletionRequest, reply: Reply, spending: Spending) -> None:
        """There is nothing further to ask."""

    async def _whole(self, request: CompletionRequest, id_: str) -> Reply:
        start = perf_counter()
        inputs = [request.text(self._which)]
        try:
            if self._inline or self._later:
                given: Any = self._model.predict(inputs)
            else:
                loop = asyncio.get_running_loop()
                given = await loop.run_in_executor(self._threads, self._model.predict, inputs)
            if not isinstance(given, ModelOutput) and inspect.isawaitable(given):
                given = await given
        except Exception as error:
            output = failed_output(self._model, 1, error, perf_counter() - start)
        else:
            output = with_latency(self._model, given, 1, perf_counter() - start)
        if output.failures:
            return Reply(output)
        text = str(output.predictions[:1].tolist()[0])
        return Reply(output, completion_of(text, request.route, id_, request.model))

    async def stream(self, request: CompletionRequest, spending: Spending, tokens: int) -> Reply:
        raise AssertionError("an in-process model answers at once")


class OverHttp:
    """An OpenAI-compatible endpoint, given the client's own request, with the evidence that its supervisor needs."""

    streams = True

    def __init__(
        self,
        upstream: Upstream,
        quantifier: Quantifier,
        *,
        prices: Prices | None = None,
        cost: float | None = None,
        label_of: Callable[[str], Any] | None = None,
        extra_calls: ExtraCalls | None = None,
    ) -> None:
        self.name = upstream.settings.model_name
        self.upstream = upstream
        self.prices = prices
        self._needs = quantifier.needs
        unlikely = getattr(
            quantifier, "unlikely", None
        )  # CoCoA's: how it reads the answer itself, beside the samples
        self._reads_alternatives = self._needs in (Evidence.TOP_LOGPROBS, Evidence.TOKEN_ALTERNATIVES)
        self._reads_alternatives |= unlikely == "entropy"
        self._reads_tokens = self._reads_alternatives or self._needs is Evidence.TOKEN_LOGPROBS
        self._reads_tokens |= bool(getattr(quantifier, "weighted", False)) or unlikely is not None
        self._cost = cost
        self._label_of = label_of
        self._extra = extra_calls
        self._max_tokens = upstream.settings.max_tokens

    # ------------------------------------------------------------ the request

    def body(self, request: CompletionRequest, *, stream: bool) -> dict[str, Any]:
        """The client's request for this endpoint."""
        body = dict(request.body)
        body["model"] = self.upstream.settings.model_name
        body["stream"] = stream
        if stream:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        else:
            body.pop("stream_options", None)
        self._ask_for_evidence(body, request.route)
        if self._max_tokens is not None:
            given = request.max_tokens
            name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
            for other in LENGTHS:  # one bound, and no other that the endpoint may prefer
                body.pop(other, None)
            body[name] = self._max_tokens if given is None else min(given, self._max_tokens)
        return body | dict(self.upstream.settings.extra)

    def _ask_for_evidence(self, body: dict[str, Any], route: str) -> None:
        top = self._reads_alternatives
        if not self._reads_tokens:
            return
        if route == "completions":
            given = body.get("logprobs")
            body["logprobs"] = max(given if isinstance(given, int) else 0, _ALTERNATIVES if top else 1)
            return
        body["logprobs"] = True
        if top:
            given = body.get("top_logprobs")
            body["top_logprobs"] = max(given if isinstance(given, int) else 0, _ALTERNATIVES)

    def bound(self, request: CompletionRequest) -> float:
        """The most that one call for this request can cost; NaN: not known, there are no prices."""
        if self.prices is None:
            return math.nan if self._cost is None else self._cost
        prompt = request.prompt_tokens_bound
        longest = [tokens for tokens in (request.max_tokens, self._max_tokens) if tokens is not None]
        completion = min(longest) if longest else _LONGEST_ANSWER
        return self._bound(_LONGEST_PROMPT if prompt is None else prompt, completion * request.many)

    def _bound(self, prompt_tokens: float, completion_tokens: float) -> float:
        assert self.prices is not None
        return self.prices.cost(Usage(prompt=prompt_tokens, completion=completion_tokens))

    # ------------------------------------------------------------ whole

    async def whole(self, request: CompletionRequest, id_: str, spending: Spending, further: bool = True) -> Reply:
        body = self.body(request, stream=False)
        start = perf_counter()
        try:
            given, answer = await self._post(request.route, encode(body), self.bound(request), spending)
        except ModelError as error:
            return _failed(error, perf_counter() - start)
        if not further:
            none = None if self._extra is None else self._extra.evidence([])
            reply = self._reply(given, answer, none, perf_counter() - start, spending)
            reply.answer = answer
            return reply
        extra = await self._extra_evidence(body, answer, request, spending)
        return self._reply(given, answer, extra, perf_counter() - start, spending)

    async def look_further(self, request: CompletionRequest, reply: Reply, spending: Spending) -> None:
        """Make the further calls about a reply that was asked for without them."""
        if self._extra is None or reply.answer is None:
            return
        extra = await self._extra_evidence(self.body(request, stream=False), reply.answer, request, spending)
        if extra is not None:
            output = extra.added_to(reply.output, self._label_of)
            reply.output = replace(output, cost=np.array([spending.cost]))

    async def _post(self, route: str, data: bytes, bound: float, spending: Spending) -> tuple[dict[str, Any], Answer]:
        """A reply, tried again where that may help; every attempt is paid for."""
        attempts = Attempts(self.upstream.settings)
        while True:
            attempts.begin()
            payment = await spending.begin(bound)
            failed: ModelError | None = None
            try:
                body = await self.upstream.post(route, data)
            except ModelError as error:
                payment.settle(math.nan if may_be_charged(error) else 0.0)
                failed = error
            except BaseException:  # cancelled: it may be charged, and nobody will say how much
                payment.settle(math.nan)
                raise
            else:
                answer = read_answer(body)
                payment.settle(self._cost_of(answer.usage))
                return body, answer
            if not await attempts.again_after(failed):
                raise failed

    def _cost_of(self, usage: Usage) -> float:
        if self.prices is not None:
            cost = self.prices.cost(usage)
            return cost if math.isfinite(cost) else math.nan  # an endpoint may say anything
        return math.nan if self._cost is None else self._cost

    async def _extra_evidence(
        self, body: Mapping[str, Any], answer: Answer, request: CompletionRequest, spending: Spending
    ) -> Extra | None:
        """What further calls about an answer say; they are paid for like the first."""
        if self._extra is None:
            return None
        if answer.text is None or answer.kind == "tool_call":
            return self._extra.evidence([])  # there is no answer to ask about
        try:
            bodies = self._extra.bodies(dict(body), answer.text, request.route)
        except InputError:  # a prompt in tokens, or several: nothing can be asked about it in words
            return self._extra.evidence([])
        prompt = None if request.prompt_tokens_bound is not None else _LONGEST_PROMPT
        replies = await asyncio.gather(*(self._extra_reply(request.route, one, spending, prompt) for one in bodies))
        return self._extra.evidence(replies)

    async def _extra_reply(
        self, route: str, body: dict[str, Any], spending: Spending, prompt_tokens: int | None
    ) -> Any:
        """`prompt_tokens`: the most that the prompt may have; None: no more than its bytes."""
        data = encode(body)
        given = [body[name] for name in LENGTHS if isinstance(body.get(name), int)]
        longest = max(given) if given else _LONGEST_ANSWER
        bound = math.nan if self.prices is None else self._bound(prompt_tokens or len(data), longest)
        if self.prices is None and self._cost is not None:
            bound = self._cost
        try:
            return (await self._post(route, data, bound, spending))[0]
        except ModelError as error:
            return None if may_be_charged(error) else NOT_CHARGED
        except (BudgetExhausted, LogError):  # the answer is there and paid for: it merely lacks this evidence
            return NOT_CHARGED

    def _reply(
        self,
        body: dict[str, Any] | None,
        answer: Answer,
        extra: Extra | None,
        seconds: float,
        spending: Spending,
        begun: bool = False,
        judged: Answer | None = None,
    ) -> Reply:
        """`judged`: the part of the answer that the supervisor reads; None: all of it."""
        prediction, failure = self._prediction(answer)
        # The text beside a call of a tool says nothing about the call.
        scorable = answer.kind != "tool_call"
        if begun and failure is not None and answer.text is None:
            prediction, failure = "", None  # it has only begun: there may be no text yet
        usage = answer.usage
        read = judged or answer
        output = ModelOutput(
            predictions=as_column([prediction]),
            token_logprobs=[read.token_logprobs if scorable else np.empty(0)],
            token_alternatives=[read.token_alternatives if scorable else np.empty((0, 0))],
            top_logprobs=[answer.top_logprobs if scorable else {}],
            # Of an answer that has only begun, how much text is here is chance: none of it is read.
            texts=[answer.text if scorable and not begun else None],
            latency_s=np.array([seconds]),
            cost=np.array([spending.cost]),
            prompt_tokens=np.array([usage.prompt]),
            completion_tokens=np.array([usage.completion]),
            failures={} if failure is None else {0: failure},
        )
        if extra is not None:
            output = extra.added_to(output, self._label_of)
        kind: str = answer.kind if answer.kind in ("tool_call", "refusal") else "text"
        if answer.choices > 1:  # one of them is judged, and all would be sent
            kind = "many"
        if kind == "text" and failure is None and self._lacks_logprobs(answer):
            kind = "no_logprobs"
        return Reply(output, body, kind)

    def _lacks_logprobs(self, answer: Answer) -> bool:
        needs = (Evidence.TOKEN_LOGPROBS, Evidence.TOP_LOGPROBS, Evidence.TOKEN_ALTERNATIVES)
        return self._needs in needs and answer.no_logprobs

    def _prediction(self, answer: Answer) -> tuple[Any, Failure | None]:
        if answer.text is None:
            if answer.kind in ("tool_call", "refusal"):
                return answer.kind, None
            return None, Failure(ReplyUnreadable.kind, f"{self.name}: {answer.problem}")
        text = answer.text.strip()
        if self._label_of is None:
            return text, None
        label = self._label_of(text)
        problem = None if label is not None else f"{self.name}: the answer is none of the labels: {text[:80]!r}"
        return label, None if problem is None else Failure(ReplyUnreadable.kind, problem)

    # ------------------------------------------------------------ streamed

    async def stream(self, request: CompletionRequest, spending: Spending, tokens: int) -> Reply:
        start = perf_counter()
        attempts = Attempts(self.upstream.settings)
        data = encode(self.body(request, stream=True))
        while True:
            attempts.begin()
            payment = await spending.begin(self.bound(request))
            live: LiveReply | None = None
            try:
                stream = await self.upstream.open_stream(request.route, data)
                live = LiveReply(self, stream, request.route, payment, spending, start)
                await live.read_until(tokens)
                return live.so_far()
            except ModelError as error:
                failed = error
            except BaseException:
                _drop(live, payment, math.nan)
                raise
            _drop(live, payment, math.nan if may_be_charged(failed) else 0.0)
            if live is not None or not await attempts.again_after(failed):
                return _failed(failed, perf_counter() - start, math.nan if spending.unknown else spending.known)


def _drop(live: LiveReply | None, payment: Payment, cost: float) -> None:
    payment.settle(cost)
    if live is not None:
        live.close()


def _failed(error: ModelError, seconds: float, cost: float | None = None) -> Reply:
    output = ModelOutput.failed(1, Failure(error.kind, str(error)), latency_s=seconds)
    if cost is not None:
        output = replace(output, cost=np.array([cost]))
    return Reply(output, error=error)


class LiveReply:
    """A stream whose beginning is judged and whose rest goes to the client as it comes.

    `held` are the chunks that have come and that nobody has sent on. Close it in any case: that settles its cost,
    which is not known when the stream is given up.
    """

    def __init__(
        self,
        backend: OverHttp,
        stream: UpstreamStream,
        route: Route,
        payment: Payment,
        spending: Spending,
        start_s: float,
    ) -> None:
        self.held: list[dict[str, Any]] = []
        self.ended = False
        self._backend = backend
        self._stream = stream
        self._payment = payment
        self._spending = spending
        self._answer = StreamedAnswer(route)
        self._start_s = start_s
        self._prefix: Answer | None = None  # what is judged: the rest came by chance, and at another time would not
        self._most_tokens: int | None = None

    async def read_until(self, tokens: int) -> None:
        """Read until there is the evidence of that many tokens, at least the first chunk, or the end. No more than
        these tokens are judged, however many have come with them.

        A stream that brings no evidence with as many chunks will bring none later.
        """
        self._most_tokens = tokens or None
        while not self.ended and (not self.held or self._answer.tokens < tokens):
            if len(self.held) > max(tokens, _CHUNKS_WITHOUT_EVIDENCE) and not self._answer.tokens:
                return
            self.held += await self.more()

    async def more(self) -> list[dict[str, Any]]:
        """The next chunks; none at the end."""
        chunks = await self._stream.chunks()
        if not chunks:
            self.ended = True
            self._payment.settle(self._backend._cost_of(self._answer.answer().usage))
        for chunk in chunks:
            self._answer.feed(chunk)
            if self._prefix is None and self._most_tokens is not None and self._answer.tokens >= self._most_tokens:
                begun = self._answer.answer()
                self._prefix = replace(begun, tokens=begun.tokens[: self._most_tokens])
        return chunks

    def so_far(self) -> Reply:
        """The reply, as much of it as there is."""
        answer = self._answer.answer()
        body = self._answer.reply() if self.ended else None
        seconds = perf_counter() - self._start_s
        extra = self._backend._extra
        none = None if extra is None else extra.evidence([])  # nobody asks more about what is on its way already
        reply = self._backend._reply(
            body, answer, none, seconds, self._spending, begun=not self.ended, judged=self._prefix
        )
        reply.live = self
        return reply

    def close(self) -> None:
        """Settle, and let the connection go. Any number of times."""
        self._payment.settle(math.nan)
        self._stream.close()
