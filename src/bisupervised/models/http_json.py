"""A model behind an HTTP endpoint that takes and gives JSON of its own shape."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bisupervised.errors import InputError, ModelError, ReplyUnreadable
from bisupervised.models.check import EvidenceCheck, evidence_check
from bisupervised.models.json_endpoint import MAX_REPLY_BYTES, JsonEndpoint
from bisupervised.models.outputs import (
    EVIDENCE_COLUMNS,
    as_column,
    check_batch,
    empty_output,
    matrix_of,
    output_from_probabilities,
    output_from_result,
)
from bisupervised.records import Evidence, Failure, ModelOutput


def inputs_body(inputs: Sequence[Any]) -> Any:
    """The default request: `{"inputs": [...]}`."""
    return {"inputs": list(inputs)}


def read_reply(reply: Any, n: int) -> Any:
    """The default reading of a reply: `{"probabilities": [[...], ...], "classes": [...]}` (classes may be absent:
    0, 1, …), or `{"predictions": [...], "confidences": [...]}` (confidences may be absent, or null: not known).

    Either may have `"logits"` and `"features"`, a list of n rows each, and `"sampled_probabilities"`, n lists of
    passes.
    """
    if not isinstance(reply, Mapping) or not reply.keys() & {"probabilities", "predictions"}:
        raise ReplyUnreadable('the reply has neither "probabilities" nor "predictions"')
    if "probabilities" in reply:
        output = output_from_probabilities(reply["probabilities"], reply.get("classes"))
        return replace(output, **_further(reply, n))
    predictions = reply["predictions"]
    if not isinstance(predictions, list):
        raise ReplyUnreadable('"predictions" is no list')
    if "confidences" in reply:
        output = output_from_result((predictions, reply["confidences"]), n)
    else:
        output = ModelOutput(as_column(predictions))
    return replace(output, **_further(reply, n))


def _further(reply: Mapping[str, Any], n: int) -> dict[str, Any]:
    further: dict[str, Any] = {
        name: matrix_of(reply[name], f'"{name}"', n) for name in ("logits", "features") if name in reply
    }
    if "sampled_probabilities" in reply:
        sampled = np.asarray(reply["sampled_probabilities"], dtype=np.float64)
        if sampled.ndim != 3 or len(sampled) != n:
            raise ReplyUnreadable(f'"sampled_probabilities" is {sampled.shape}; ({n}, passes, classes) is needed')
        further["sampled_probabilities"] = sampled
    return further


class HttpJsonModel:
    """Asks one URL: POST the body `request(inputs)`, and `read(reply, n)` what comes back.

    `read` gets the parsed JSON and the number of inputs, and returns what a `FunctionModel`'s function may:
    class probabilities, a pair (predictions, confidences), or a `ModelOutput`. `provides` is the evidence that
    the replies hold (`await model.check(x)` shows whether they do): a reply without it is unreadable, and
    evidence that is not declared is left out. `cost_per_input` is in currency units, None when not known, and is
    paid for every reply, the unreadable ones included. `timeout_s` bounds one request; retries, bounded
    concurrency and a cache are wrappers around the model.
    """

    def __init__(
        self,
        url: str,
        *,
        provides: Collection[Evidence] = frozenset({Evidence.CONFIDENCE}),
        request: Callable[[Sequence[Any]], Any] = inputs_body,
        read: Callable[[Any, int], Any] = read_reply,
        headers: Mapping[str, str] | None = None,
        max_batch: int | None = 1,
        cost_per_input: float | None = None,
        timeout_s: float = 30.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        name: str | None = None,
    ) -> None:
        self._endpoint = JsonEndpoint(url, headers=headers, timeout_s=timeout_s, max_reply_bytes=max_reply_bytes)
        self.name = name or str(urlsplit(url).hostname)
        self.provides = frozenset(Evidence(evidence) for evidence in provides)
        self.max_batch = max_batch
        self.cost_per_input = cost_per_input
        self._request = request
        self._read = read
        if max_batch is not None and max_batch < 1:
            raise InputError(f"max_batch must be at least 1, not {max_batch}")

    def __repr__(self) -> str:
        return f"HttpJsonModel({self._endpoint.shown_url!r}, name={self.name!r})"

    def cache_key(self, x: Any) -> Any:
        """What decides the reply to an input: `RecordingCache` finds it again by this."""
        return {"url": self._endpoint.shown_url, "body": self._request([x])}

    async def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for n inputs. Raises a `ModelError` for a failed exchange; marks an unreadable reply."""
        check_batch(inputs, self.max_batch, self.name)
        n = len(inputs)
        if n == 0:
            return empty_output(self.provides)
        exchange = await self._endpoint.post(self._request(inputs))
        return self._accounted(self._output(exchange.reply, n), n, exchange.latency_s)

    async def check(self, x: Any) -> EvidenceCheck:
        """Send one example input and tell the evidence that came back. Raises a `ModelError`."""
        exchange = await self._endpoint.post(self._request([x]))
        try:
            output = self._output_as_read(exchange.reply, 1)
        except ModelError as error:
            output = ModelOutput.failed(1, Failure(error.kind, str(error)))
        return evidence_check(self.name, self.provides, self._accounted(output, 1, exchange.latency_s))

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._endpoint.aclose()

    def _accounted(self, output: ModelOutput, n: int, latency_s: float) -> ModelOutput:
        if output.latency_s is None:
            output = replace(output, latency_s=np.full(n, latency_s / n))
        if output.cost is None and self.cost_per_input is not None:
            output = replace(output, cost=np.full(n, float(self.cost_per_input)))
        return output

    def _output(self, reply: Any, n: int) -> ModelOutput:
        try:
            return self._with_declared(self._output_as_read(reply, n))
        except ModelError as error:
            failure = Failure(ReplyUnreadable.kind, f"{self.name}: {error}")
            return ModelOutput.failed(n, failure)

    def _output_as_read(self, reply: Any, n: int) -> ModelOutput:
        try:
            return output_from_result(self._read(reply, n), n, model=self.name)
        except ModelError:
            raise
        except Exception as error:  # somebody's `read`, on a reply that is not what it was written for
            raise ReplyUnreadable(f"the reply cannot be read ({type(error).__name__}: {error})") from error

    def _with_declared(self, output: ModelOutput) -> ModelOutput:
        given = {evidence for evidence, column in EVIDENCE_COLUMNS.items() if getattr(output, column) is not None}
        if self.provides - given:
            raise ReplyUnreadable(
                f"the reply was declared to hold {_names(self.provides)} and holds {_names(given)}; say what it "
                f"holds with provides="
            )
        undeclared: dict[str, Any] = {EVIDENCE_COLUMNS[evidence]: None for evidence in given - self.provides}
        return replace(output, **undeclared) if undeclared else output


def _names(evidence: Collection[Evidence]) -> str:
    return ", ".join(sorted(evidence)) or "no evidence"
