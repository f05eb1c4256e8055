"""A language model behind an OpenAI-compatible endpoint, with the log-probabilities of its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from bisupervised.errors import InputError, ModelError, ModelStatusError, ReplyUnreadable
from bisupervised.models.check import EvidenceCheck, evidence_check
from bisupervised.models.extra_calls import NOT_CHARGED, VERIFICATION_PROMPT, Extra, ExtraCalls
from bisupervised.models.json_endpoint import EXCERPT, MAX_REPLY_BYTES, JsonEndpoint, key_from
from bisupervised.models.openai_reply import Answer, Prices, Route, read_answer
from bisupervised.models.outputs import as_column, check_batch, empty_output
from bisupervised.records import Evidence, Failure, ModelOutput

Messages: TypeAlias = Sequence[Mapping[str, Any]]


def as_prompt(x: Any) -> str | Messages:
    """The default `prompt`: the input itself, a string or a list of messages."""
    return x  # type: ignore[no-any-return]


class OpenAIModel:
    """Asks `{base_url}/chat/completions` or `/completions`, one input per request, not streaming.

    `prompt(x)` makes a string or a list of messages from an input (default: the input is one). The prediction
    is the answer's text without surrounding white space, or `read_label(text)`: a label, or None for an answer
    that is none of the labels. Such an answer, an empty one and a reply without text are failures of kind
    `unreadable`; their cost and tokens are accounted all the same.

    Evidence: with `logprobs`, the natural log-probability of each token of the answer; with `top_logprobs` = k,
    the k likeliest tokens in the place of the answer's first token that is not white space. Where a reply does
    not bring them the row's evidence is empty, and its confidence NaN.

    Further calls bring further evidence (`extra_calls.py`): `samples` = k draws k more answers at
    `sample_temperature`, read as the prediction is; `self_verification` asks the model whether its answer is true,
    in the words of `verification_prompt`. They run at the same time, once there is an answer; their latency, cost
    and tokens are part of the row's. One that fails leaves its evidence out and the answer as it is.

    `api_key`, or the environment variable *named* by `api_key_env` (read here, once), is sent as a bearer
    token and shown nowhere; a local server needs neither. `extra` adds or replaces fields of the request; a
    value of None removes one (`{"max_tokens": None, "max_completion_tokens": 5}`). Prices are in currency units
    per million tokens; with them, `cost` comes from the reply's usage and is NaN when that is missing. Without
    prices the cost is not known (None), and the level's constant applies: for all calls about an input together.
    `timeout_s` bounds one request.
    """

    max_batch: int | None = 1

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        route: Route = "chat",
        prompt: Callable[[Any], str | Messages] = as_prompt,
        read_label: Callable[[str], Any] | None = None,
        logprobs: bool = True,
        top_logprobs: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = 0.0,
        samples: int = 0,
        self_verification: bool = False,
        sample_temperature: float | None = 1.0,
        verification_prompt: str = VERIFICATION_PROMPT,
        extra: Mapping[str, Any] | None = None,
        prompt_price: float | None = None,
        completion_price: float | None = None,
        cached_prompt_price: float | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        name: str | None = None,
    ) -> None:
        if route not in ("chat", "completions"):
            raise InputError(f"route must be 'chat' or 'completions', not {route!r}")
        if top_logprobs < 0 or (top_logprobs and not logprobs):
            raise InputError("top_logprobs is 0 or a positive number of alternatives, and needs logprobs=True")
        key = key_from(api_key, api_key_env)
        path = "chat/completions" if route == "chat" else "completions"
        self._endpoint = JsonEndpoint(
            f"{base_url.rstrip('/')}/{path}",
            headers={**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})},
            secrets=[key] if key else (),
            timeout_s=timeout_s,
            max_reply_bytes=max_reply_bytes,
        )
        self.model = model
        self.name = name or model
        self.extra_calls = ExtraCalls(samples, self_verification, sample_temperature, logprobs, verification_prompt)
        self.provides = _provided(logprobs, top_logprobs, self.extra_calls)
        self.prices = _prices(prompt_price, completion_price, cached_prompt_price)
        self._route = route
        self._prompt = prompt
        self._read_label = read_label
        self._settings = {"max_tokens": max_tokens, "temperature": temperature, "stream": False}
        self._settings |= _logprob_fields(route, logprobs, top_logprobs) | dict(extra or {})

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r}, {self._endpoint.shown_url!r})"

    def body(self, x: Any) -> dict[str, Any]:
        """The request for one input. Raises `InputError` when `prompt` gives what the route cannot take."""
        prompt = self._prompt(x)
        is_messages = isinstance(prompt, Sequence) and all(isinstance(message, Mapping) for message in prompt)
        if isinstance(prompt, str):
            asked: Any = prompt if self._route == "completions" else [{"role": "user", "content": prompt}]
        elif is_messages and prompt and self._route == "chat":
            asked = [dict(message) for message in prompt]
        else:
            takes = "a string or a list of messages" if self._route == "chat" else "a string"
            raise InputError(f"prompt must give {takes} for the {self._route} route, not {type(prompt).__name__}")
        fields = {"model": self.model, "messages" if self._route == "chat" else "prompt": asked} | self._settings
        return {field: value for field, value in fields.items() if value is not None}

    def cache_key(self, x: Any) -> Any:
        """What decides the output for an input: `RecordingCache` finds it again by this."""
        key = {"url": self._endpoint.shown_url, "body": self.body(x)}
        return key | {"extra_calls": asdict(self.extra_calls)} if self.extra_calls.count else key

    async def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for one input. Raises a `ModelError` for a failed exchange; marks an unreadable answer."""
        check_batch(inputs, self.max_batch, self.name)
        if len(inputs) == 0:
            return empty_output(self.provides)
        body = self.body(inputs[0])
        start = perf_counter()
        exchange = await self._endpoint.post(body)
        answer = read_answer(exchange.reply)
        prediction, problem = self._prediction(answer)
        if not self.extra_calls.count:
            return self._output(answer, prediction, problem, None, exchange.latency_s)
        extra = await self._further(body, None if problem else answer.text)
        return self._output(answer, prediction, problem, extra, perf_counter() - start)

    async def check(self, x: Any = "Answer with the word yes.") -> EvidenceCheck:
        """Send one example input and tell the evidence that came back. Raises a `ModelError`."""
        return evidence_check(self.name, self.provides, await self.predict([x]))

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._endpoint.aclose()

    async def _further(self, body: Mapping[str, Any], text: str | None) -> Extra:
        """What further calls about an answer say; none are made about one that failed (None)."""
        if text is None:
            return self.extra_calls.evidence([])
        async with asyncio.TaskGroup() as group:
            bodies = self.extra_calls.bodies(body, text, self._route)
            tasks = [group.create_task(self._extra_reply(one)) for one in bodies]
        return self.extra_calls.evidence([task.result() for task in tasks])

    async def _extra_reply(self, body: Mapping[str, Any]) -> Any:
        try:
            return (await self._endpoint.post(body)).reply
        except ModelStatusError:
            return NOT_CHARGED
        except ModelError:
            return None

    def _output(
        self, answer: Answer, prediction: Any, problem: str | None, extra: Extra | None, latency_s: float
    ) -> ModelOutput:
        usage = answer.usage
        further = 0.0 if extra is None or self.prices is None else extra.cost(self.prices)
        output = ModelOutput(
            predictions=as_column([prediction]),
            token_logprobs=[answer.token_logprobs] if Evidence.TOKEN_LOGPROBS in self.provides else None,
            token_alternatives=[answer.token_alternatives] if Evidence.TOKEN_ALTERNATIVES in self.provides else None,
            top_logprobs=[answer.top_logprobs] if Evidence.TOP_LOGPROBS in self.provides else None,
            texts=[answer.text],
            latency_s=np.array([latency_s]),
            cost=None if self.prices is None else np.array([self.prices.cost(usage) + further]),
            prompt_tokens=np.array([usage.prompt]),
            completion_tokens=np.array([usage.completion]),
            failures={} if problem is None else {0: Failure(ReplyUnreadable.kind, f"{self.name}: {problem}")},
        )
        return output if extra is None else extra.added_to(output, self._read_label)

    def _prediction(self, answer: Answer) -> tuple[Any, str | None]:
        if answer.text is None:
            return None, answer.problem
        text = answer.text.strip()
        if self._read_label is None:
            return text, None
        try:
            label = self._read_label(text)
        except Exception as error:  # somebody's function; the answer is paid for whatever it raises
            return None, f"read_label raised {type(error).__name__}: {error}"
        return label, None if label is not None else f"the answer is none of the labels: {text[:EXCERPT]!r}"


def _provided(logprobs: bool, top_logprobs: int, extra: ExtraCalls) -> frozenset[Evidence]:
    given = {
        Evidence.TOKEN_LOGPROBS: logprobs,
        Evidence.TOP_LOGPROBS: top_logprobs > 0,
        Evidence.TOKEN_ALTERNATIVES: top_logprobs > 0,
        Evidence.TEXT: True,
        Evidence.SAMPLES: extra.samples > 0,
        Evidence.P_TRUE: extra.self_verification,
    }
    return frozenset(evidence for evidence, is_given in given.items() if is_given)


def _logprob_fields(route: str, logprobs: bool, top_logprobs: int) -> dict[str, Any]:
    if not logprobs:
        return {}
    if route == "completions":
        # There it is the number of alternatives, and several servers read 0 as "none at all".
        return {"logprobs": max(top_logprobs, 1)}
    return {"logprobs": True, "top_logprobs": top_logprobs or None}


def _prices(prompt: float | None, completion: float | None, cached: float | None) -> Prices | None:
    if prompt is None and completion is None and cached is None:
        return None
    if prompt is None or completion is None:
        raise InputError("give prompt_price and completion_price together (0.0 for what is free), or neither")
    return Prices(prompt, completion, cached)
