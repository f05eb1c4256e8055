"""A classifier behind a server of the Open Inference Protocol v2: KServe, Triton, MLServer, our own gateway, …"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np

from bisupervised.errors import InputError, ModelError, ReplyUnreadable, TensorError
from bisupervised.models.check import EvidenceCheck, evidence_check
from bisupervised.models.json_endpoint import MAX_REPLY_BYTES, BytesExchange, JsonEndpoint, key_from
from bisupervised.models.open_inference_tensors import Tensor, numpy_dtype, tensor_of, texts
from bisupervised.models.open_inference_wire import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    Message,
    RequestedOutput,
    build_request,
    parse_response,
)
from bisupervised.models.outputs import (
    check_batch,
    empty_output,
    matrix_of,
    output_from_probabilities,
    output_from_result,
)
from bisupervised.records import AnyArray, Evidence, Failure, FloatArray, ModelOutput

Feed: TypeAlias = AnyArray | Mapping[str, AnyArray]


class OpenInferenceModel:
    """Asks `{base_url}/v2/models/{model}/infer` about n inputs in one request, in binary form unless `binary=False`.

    `prepare` turns the list of n inputs into an array for the tensor called `input`, or into a mapping name ->
    array that fills them all. Without it, texts are sent as BYTES (n,), and all else as an array of `datatype`.

    The reply holds either class probabilities (n, classes), or labels. Probabilities are the tensor called `output`
    (default: the only one, or the one called `probabilities`); with `softmax=True` it holds logits, which are
    evidence too, with `renormalise=True` each row is divided by its sum; `classes` names the columns (default: 0, 1,
    …). Labels are the tensor called `labels`, (n,) or (n, 1), and their confidences the one called `confidence`,
    where NaN (null in JSON) is the absence of evidence. `logits` and `features` name further tensors that are
    evidence: [n, classes], and an inner layer's [n, d].

    `api_key`, or the environment variable *named* by `api_key_env` (read here, once), is sent as a bearer token
    and shown nowhere. `parameters` are the request's. `cost_per_input` is in currency units, None when not known,
    and is paid for every reply, the unreadable ones included. `timeout_s` bounds one request; retries, bounded
    concurrency and a cache are wrappers around the model.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        classes: Sequence[Any] | None = None,
        *,
        version: str | None = None,
        prepare: Callable[[Sequence[Any]], Feed] | None = None,
        input: str = "input",
        datatype: str = "FP32",
        output: str | None = None,
        softmax: bool = False,
        renormalise: bool = False,
        labels: str | None = None,
        confidence: str | None = None,
        logits: str | None = None,
        features: str | None = None,
        binary: bool = True,
        parameters: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        headers: Mapping[str, str] | None = None,
        max_batch: int | None = 1,
        cost_per_input: float | None = None,
        timeout_s: float = 30.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        name: str | None = None,
    ) -> None:
        _check_choice(output, labels, confidence, classes, softmax or renormalise)
        if max_batch is not None and max_batch < 1:
            raise InputError(f"max_batch must be at least 1, not {max_batch}")
        key = key_from(api_key, api_key_env)
        versions = "" if version is None else f"/versions/{quote(version, safe='')}"
        self._endpoint = JsonEndpoint(
            f"{base_url.rstrip('/')}/v2/models/{quote(model)}{versions}/infer",
            headers={**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})},
            secrets=[key] if key else (),
            timeout_s=timeout_s,
            max_reply_bytes=max_reply_bytes,
        )
        self.name = name or model
        self.classes = None if classes is None else list(classes)
        if softmax and logits is not None:
            raise InputError("with softmax=True the output holds the logits already: leave out logits")
        self._further = {name: one for name, one in (("logits", logits), ("features", features)) if one is not None}
        self.provides = _provided(labels, confidence) | set(map(Evidence, self._further))
        self.provides |= {Evidence.LOGITS} if softmax else set()
        self.max_batch = max_batch
        self.cost_per_input = cost_per_input
        self._prepare = prepare
        self._input = input
        self._datatype = datatype
        self._dtype = numpy_dtype(datatype)
        self._output = output
        self._softmax = softmax
        self._renormalise = renormalise
        self._labels = labels
        self._confidence = confidence
        self._binary = binary
        asked = [one for one in (output, labels, confidence) if one is not None]
        if self._further and not asked:
            raise InputError(
                "name the tensor of the probabilities with output, or labels, beside logits and features"
            )
        self._asked = tuple(RequestedOutput(one, binary) for one in (*asked, *self._further.values()))
        self._parameters = dict(parameters or {})
        if binary and not self._asked:
            self._parameters["binary_data_output"] = True

    def __repr__(self) -> str:
        return f"OpenInferenceModel({self.name!r}, {self._endpoint.shown_url!r})"

    def cache_key(self, x: Any) -> Any:
        """What decides the reply to an input: `RecordingCache` finds it again by this."""
        return {"url": self._endpoint.shown_url, "body": hashlib.sha256(self._message([x]).body).hexdigest()}

    async def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for n inputs. Raises a `ModelError` for a failed exchange; marks an unreadable reply."""
        check_batch(inputs, self.max_batch, self.name)
        n = len(inputs)
        if n == 0:
            return empty_output(self.provides, self.classes)
        exchange = await self._exchange(inputs)
        try:
            output = self._read(exchange, n)
        except ModelError as error:
            output = ModelOutput.failed(n, Failure(ReplyUnreadable.kind, f"{self.name}: {error}"))
        return self._accounted(output, n, exchange.latency_s)

    async def check(self, x: Any) -> EvidenceCheck:
        """Send one example input and tell the evidence that came back. Raises a `ModelError`."""
        return evidence_check(self.name, self.provides, await self.predict([x]))

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._endpoint.aclose()

    # ------------------------------------------------------------ asking

    async def _exchange(self, inputs: Sequence[Any]) -> BytesExchange:
        message = self._message(inputs)
        headers = {"Content-Type": message.content_type, "Accept": "*/*" if self._binary else "application/json"}
        if message.header_length is not None:
            headers[HEADER_LENGTH] = str(message.header_length)
        return await self._endpoint.post_bytes(message.body, headers)

    def _message(self, inputs: Sequence[Any]) -> Message:
        request = InferRequest(self._tensors(inputs), self._asked, parameters=self._parameters)
        return build_request(request, binary=self._binary)

    def _tensors(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        if self._prepare is not None:
            prepared = self._prepare(inputs)
            feed = prepared if isinstance(prepared, Mapping) else {self._input: prepared}
            return tuple(tensor_of(name, array) for name, array in feed.items())
        if all(isinstance(x, str | bytes) for x in inputs):
            column = np.empty(len(inputs), dtype=object)
            column[:] = inputs
            return (Tensor(self._input, "BYTES", column),)
        try:
            return (Tensor(self._input, self._datatype, np.asarray(inputs, dtype=self._dtype)),)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{self.name}: the inputs are no array of {self._datatype} ({error}): give prepare, which makes what "
                f"the model takes"
            ) from error

    # ------------------------------------------------------------ reading

    def _read(self, exchange: BytesExchange, n: int) -> ModelOutput:
        try:
            response = parse_response(exchange.content, exchange.headers.get(HEADER_LENGTH))
            if self._labels is not None:
                output = self._labelled(response, self._labels, n)
                return replace(output, **self._evidence(response, n))
            p, logits = self._probabilities(response, n)
            further = self._evidence(response, n)
        except TensorError as error:
            raise ReplyUnreadable(f"the reply cannot be read: {error}") from error
        output = output_from_result(output_from_probabilities(p, self.classes, model=self.name), n, model=self.name)
        if logits is not None:
            further["logits"] = logits
        if "logits" in further and further["logits"].shape != p.shape:
            raise ReplyUnreadable(f"the logits have the shape {further['logits'].shape}, the probabilities {p.shape}")
        return replace(output, **further) if further else output

    def _evidence(self, response: InferResponse, n: int) -> dict[str, Any]:
        return {
            name: matrix_of(_tensor(response, one).data, f"the tensor {one!r}", n)
            for name, one in self._further.items()
        }

    def _labelled(self, response: InferResponse, labels: str, n: int) -> ModelOutput:
        predictions = _column(_tensor(response, labels), n)
        if self._confidence is None:
            return ModelOutput(predictions)
        confidences = _column(_tensor(response, self._confidence), n)
        if confidences.dtype.kind not in "fiu":
            raise ReplyUnreadable(f"the tensor {self._confidence!r} holds no numbers")
        return ModelOutput(predictions, confidences=confidences.astype(np.float64))

    def _probabilities(self, response: InferResponse, n: int) -> tuple[FloatArray, FloatArray | None]:
        """Class probabilities, and the logits that they were made of."""
        tensor = _tensor(response, self._output)
        if tensor.data.dtype.kind not in "fiu" or tensor.data.ndim != 2 or tensor.shape[1] < 2:
            raise ReplyUnreadable(
                f"the tensor {tensor.name!r} is {tensor.datatype} {list(tensor.shape)}; one number for each of at "
                f"least two classes is needed, [{n}, classes]. Choose another with output=, or labels="
            )
        p = tensor.data.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # a row without any mass becomes NaN: no evidence
            logits = p if self._softmax else None
            if self._softmax:
                p = np.exp(p - p.max(axis=1, keepdims=True))
            return (p / p.sum(axis=1, keepdims=True) if self._softmax or self._renormalise else p), logits

    def _accounted(self, output: ModelOutput, n: int, latency_s: float) -> ModelOutput:
        cost = None if self.cost_per_input is None else np.full(n, float(self.cost_per_input))
        return replace(output, latency_s=np.full(n, latency_s / n), cost=cost)


def _check_choice(output: str | None, labels: str | None, confidence: str | None, classes: Any, scaled: bool) -> None:
    if labels is not None and (output is not None or classes is not None or scaled):
        raise InputError("give output, classes, softmax and renormalise for probabilities, or labels; not both")
    if confidence is not None and labels is None:
        raise InputError("confidence names the tensor beside labels: give labels too")


def _provided(labels: str | None, confidence: str | None) -> frozenset[Evidence]:
    if labels is None:
        return frozenset({Evidence.PROBABILITIES})
    return frozenset() if confidence is None else frozenset({Evidence.CONFIDENCE})


def _tensor(response: InferResponse, name: str | None) -> Tensor:
    """The tensor of that name; without one, the only tensor or the one called `probabilities`."""
    there = {tensor.name: tensor for tensor in response.outputs}
    if name is None:
        name = next(iter(there)) if len(there) == 1 else "probabilities"
    if name not in there:
        raise ReplyUnreadable(f"the reply has no tensor {name!r}; there are: {', '.join(there) or 'none'}")
    return there[name]


def _column(tensor: Tensor, n: int) -> AnyArray:
    """A tensor with one element for each of n inputs as (n,)."""
    if tensor.shape not in ((n,), (n, 1)):
        raise ReplyUnreadable(f"the tensor {tensor.name!r} has the shape {list(tensor.shape)}, not [{n}]")
    return np.array(texts(tensor)) if tensor.datatype == "BYTES" else tensor.data.reshape(n)
