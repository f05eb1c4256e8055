"""The Open Inference Protocol v2 over HTTP: cascades of classifiers, as KServe's and Triton's clients call them.

A plain ASGI application over a transport-free service. The input tensors' first dimension counts the inputs; the
outputs are `prediction`, `confidence` (of the level that answered), `route` and `id`, one element each, and
`probabilities` for those who ask for it. Errors are `{"error": "..."}` with a documented `code` beside it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from bisupervised.errors import TensorError
from bisupervised.gateway.judging import known
from bisupervised.gateway.refusals import CODES, Refusal, refusal, refusal_of_rejection
from bisupervised.gateway.v2_tensors import (
    PROBABILITIES,
    Classes,
    OneOutcome,
    TensorMetadata,
    check_outputs,
    inputs_of,
    outputs_metadata,
    outputs_of,
    outputs_of_one,
)
from bisupervised.gateway.watching import Watch
from bisupervised.models.open_inference_wire import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    build_response,
    parse_request,
)
from bisupervised.records import Outcome, Outcomes, Reason

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger("bisupervised.gateway")
T = TypeVar("T")
#: Names in lower case, as ASGI gives them.
Headers: TypeAlias = Mapping[bytes, bytes]
HeaderList: TypeAlias = list[tuple[bytes, bytes]]

#: Bytes of a response below which compression costs more than it saves.
_COMPRESS_FROM: Final = 1024
#: Bytes from which compressing is done beside the event loop.
_LARGE: Final = 256 * 1024
_EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_repository(index)")
_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()


# ---------------------------------------------------------------- what the service gives


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What a cascade answered to the inputs of one request."""

    outcomes: Outcomes | OneOutcome  #: as they are served: in observe mode the remote model's answers, with its route
    mode: str
    thresholds_id: str


class Classifier(Protocol):
    """A cascade, as a model of the protocol."""

    @property
    def name(self) -> str: ...

    @property
    def versions(self) -> Sequence[str]:
        """At least one; the last one answers a request that names none."""

    @property
    def platform(self) -> str: ...

    @property
    def ready(self) -> bool: ...

    @property
    def inputs(self) -> Sequence[TensorMetadata]:
        """Empty: whatever tensors are sent are handed on."""

    @property
    def prediction(self) -> str:
        """The datatype of the predictions as far as it is known: `BYTES`, or `INT64`."""

    @property
    def classes(self) -> Classes:
        """The columns of `probabilities`; None when no level gives them."""

    async def infer(
        self, inputs: Sequence[Any], *, client: Any, headers: Headers, waiting: Callable[[], Awaitable[None]]
    ) -> Inference:
        """Answer n inputs. `waiting()` is awaited before anything that takes time: from then on, the call is
        cancelled when the client goes away. An exception with a `refusal` says what the client is told instead.

        An input is a row of the only tensor: a `str` for BYTES, an array or a NumPy number otherwise (then `inputs`
        is one array, whose first dimension counts); with several tensors, a mapping name -> row. A row that is
        rejected and has no answer raises nothing here.
        """


class Classifiers(Protocol):
    """The service under the routes."""

    @property
    def version(self) -> str: ...

    @property
    def ready(self) -> bool: ...

    @property
    def classifiers(self) -> Mapping[str, Classifier]: ...

    def client(self, headers: Headers) -> Any:
        """Who calls, to be handed to `infer`. An exception with a `refusal` sends them away."""

    def refused(self, code: str) -> None:
        """A request was not accepted: this code of `CODES` was the answer."""


# ---------------------------------------------------------------- HTTP


class V2:
    """The ASGI application for everything under `/v2`."""

    def __init__(
        self, service: Classifiers, *, max_body_bytes: int = 8 * 1024 * 1024, max_inputs: int = 4096
    ) -> None:
        self._service = service
        self._most = max_body_bytes
        self._most_inputs = max_inputs

    def routes(self) -> list[BaseRoute]:
        """The application as Starlette's routes."""
        from starlette.routing import Route as HttpRoute

        return [HttpRoute("/v2", self), HttpRoute("/v2/{rest:path}", self)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, of any method and path."""
        headers: Headers = dict(scope["headers"])
        watch = Watch(receive)
        try:
            answer = await self._answer(scope["method"], scope["path"], headers, receive, watch)
        except _ClientGone:
            return
        except asyncio.CancelledError:
            if watch.cancelled():
                return
            raise
        except Exception as error:
            answer = self._error(error)
        finally:
            watch.close()
        await answer.send(scope, send, headers.get(b"accept-encoding", b""))

    async def _answer(self, method: str, path: str, headers: Headers, receive: Receive, watch: Watch) -> _Answer:
        _, _, rest = path.partition("/v2")
        if rest.startswith("/models/") and rest.endswith("/infer"):
            _check_method(method, "POST")
            return await self._infer(rest[len("/models/") : -len("/infer")], headers, receive, watch)
        if rest == "/repository/index":
            _check_method(method, "POST")
            self._service.client(headers)
            return _json(self._index(await self._body(headers, receive)))
        _check_method(method, "GET", "HEAD")
        if rest in ("/health/live", "/health/ready"):
            return _health(rest[len("/health/") :], rest == "/health/live" or self._service.ready)
        self._service.client(headers)
        if rest in ("", "/"):
            return _json({"name": "bisupervised", "version": self._service.version, "extensions": _EXTENSIONS})
        if rest == "/models":
            return _json({"models": list(self._service.classifiers)})
        if rest.startswith("/models/"):
            return self._model(rest[len("/models/") :])
        raise Refusing(refusal("model_not_found", f"there is no route {path[:100]}"))

    def _model(self, rest: str) -> _Answer:
        if rest.endswith("/ready"):
            classifier, _ = self._found(rest.removesuffix("/ready"))
            return _health("ready", classifier.ready, name=classifier.name)
        return _json(_metadata(self._found(rest)[0]))

    def _found(self, path: str) -> tuple[Classifier, str]:
        """The classifier and version of `NAME` or `NAME/versions/VERSION`; names may hold slashes."""
        known = self._service.classifiers
        name, version = path, ""
        if name not in known:
            name, _, version = path.rpartition("/versions/")
        classifier = known.get(name)
        if classifier is None or (version and version not in classifier.versions):
            raise Refusing(refusal("model_not_found", _not_found(path, classifier, list(known))))
        return classifier, version or classifier.versions[-1]

    def _index(self, body: bytes) -> list[Any]:
        try:
            only_ready = bool(body) and msgspec.json.decode(body).get("ready") is True
        except (ValueError, AttributeError):
            raise Refusing(refusal("invalid_request", 'the body is empty, or {"ready": true}')) from None
        return [
            {"name": one.name, "version": version, "state": "READY" if one.ready else "UNAVAILABLE", "reason": ""}
            for one in self._service.classifiers.values()
            for version in one.versions
            if one.ready or not only_ready
        ]

    async def _infer(self, path: str, headers: Headers, receive: Receive, watch: Watch) -> _Answer:
        client = self._service.client(headers)
        classifier, version = self._found(path)
        body = await self._body(headers, receive)
        length = headers.get(_HEADER_LENGTH)
        request = parse_request(
            body, None if length is None else length.decode("latin-1"), decode=msgspec.json.decode
        )
        inputs = inputs_of(request.inputs, classifier.inputs, self._most_inputs)
        check_outputs(request, classifier.classes)
        inference = await classifier.infer(inputs, client=client, headers=headers, waiting=watch.begin)
        return _inferred(inference, request, classifier, version)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most:
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                raise self._too_large()
            more = message.get("more_body", False)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        return body if encoding == b"identity" else self._unpacked(body, encoding)

    def _unpacked(self, body: bytes, encoding: bytes) -> bytes:
        """A compressed body, never more of it than may be."""
        if encoding not in (b"gzip", b"deflate"):
            shown = encoding[:40].decode("latin-1")
            raise Refusing(refusal("invalid_request", f"Content-Encoding is gzip or deflate, not {shown!r}"))
        unpack = zlib.decompressobj(_GZIP if encoding == b"gzip" else zlib.MAX_WBITS)
        try:
            content = unpack.decompress(body, self._most + 1)
        except zlib.error:
            content = None
        if content is not None and len(content) > self._most:
            raise self._too_large()
        if content is None or not unpack.eof or unpack.unused_data:
            raise Refusing(refusal("invalid_request", f"the body is not {encoding.decode()}, or cut off"))
        return content

    def _too_large(self) -> Refusing:
        return Refusing(refusal("body_too_large", f"the body is larger than {self._most:,} bytes (max_body_bytes)"))

    def _error(self, error: Exception) -> _Answer:
        """What the client is told about an error."""
        refused: Any = getattr(error, "refusal", None)
        how: HeaderList = error.headers if isinstance(error, Refusing) else []
        if isinstance(error, TensorError):
            refused = refusal("invalid_request", str(error))
        elif not isinstance(refused, Refusal):
            logger.exception("a mistake in the gateway", exc_info=error)
            refused = refusal("internal_error", "a mistake in the gateway; its log says more")
        if not how:  # there was no decision
            self._service.refused(refused.code)
        return _Answer(refused.status, _error_body(refused), [*how, *refused.headers, _JSON])


class Refusing(Exception):  # noqa: N818 - reads as what it is
    """The client gets an error; `headers` say how it came about when there was a decision."""

    def __init__(self, refused: Refusal, headers: HeaderList | None = None) -> None:
        super().__init__(refused.code)
        self.refusal = refused
        self.headers = headers or []


class _ClientGone(Exception):  # noqa: N818 - reads as what it is
    """Nobody waits for the answer."""


@dataclass(slots=True)
class _Answer:
    status: int
    body: bytes
    headers: HeaderList

    async def send(self, scope: Scope, send: Send, accepts: bytes) -> None:
        """Send it, compressed if the client takes that and it is worth it."""
        if accepts and len(self.body) >= _COMPRESS_FROM:
            await self._compress(accepts)
        exchange = scope.get("bisupervised.exchange")
        if exchange is not None and exchange.answer(self.status, self.headers, self.body):
            return
        self.headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})

    async def _compress(self, accepts: bytes) -> None:
        encoding = _encoding(accepts)
        if encoding is None:
            return
        wbits = _GZIP if encoding == b"gzip" else zlib.MAX_WBITS
        if len(self.body) < _LARGE:
            self.body = zlib.compress(self.body, 1, wbits)
        else:
            self.body = await asyncio.to_thread(zlib.compress, self.body, 1, wbits)
        self.headers += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]


_GZIP: Final = 16 + zlib.MAX_WBITS
_JSON: Final = (b"content-type", b"application/json")


def _encoding(accepts: bytes) -> bytes | None:
    """How a response may be compressed.

    >>> _encoding(b"br, gzip;q=0.8"), _encoding(b"gzip;q=0, deflate"), _encoding(b"identity")
    (b'gzip', b'deflate', None)
    """
    offered = {}
    for one in accepts.lower().split(b","):
        name, _, quality = one.partition(b";")
        offered[name.strip()] = quality.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.")
    return next((name for name in (b"gzip", b"deflate") if offered.get(name)), None)


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        refused = refusal("method_not_allowed", f"this route is for {allowed[0]}, not {method[:20]}")
        refused.headers.append((b"allow", ", ".join(allowed).encode()))
        raise Refusing(refused)


def _json(value: Any, status: int = 200) -> _Answer:
    return _Answer(status, msgspec.json.encode(value), [_JSON])


def _health(what: str, fine: bool, **more: str) -> _Answer:
    return _json({**more, what: fine}, 200 if fine else 503)


def _error_body(refused: Refusal) -> bytes:
    """The protocol's form of an error that is in OpenAI's."""
    try:
        error = msgspec.json.decode(refused.body)["error"]
        message, more = str(error["message"]), error.get("bisupervised")
    except (ValueError, LookupError, TypeError, AttributeError):
        message, more = CODES.get(refused.code, (0, "the request failed"))[1], None
    body = {"error": message, "code": refused.code}
    return msgspec.json.encode(body if more is None else body | {"bisupervised": more})


def _not_found(path: str, classifier: Classifier | None, known: Sequence[str]) -> str:
    if classifier is not None:
        return f"{classifier.name} has no such version; there are: {', '.join(classifier.versions)}"
    return f"there is no model {path[:100]!r}; there are: {', '.join(known)[:300] or 'none'}"


def _metadata(classifier: Classifier) -> Mapping[str, Any]:
    return {
        "name": classifier.name,
        "versions": classifier.versions,
        "platform": classifier.platform,
        "inputs": classifier.inputs,
        "outputs": outputs_metadata(classifier.prediction, classifier.classes),
    }


# ---------------------------------------------------------------- how an answer came about


def _inferred(inference: Inference, request: InferRequest, classifier: Classifier, version: str) -> _Answer:
    outcomes = inference.outcomes
    headers: HeaderList = [
        (b"x-bisupervised-mode", inference.mode.encode()),
        (b"x-bisupervised-thresholds", inference.thresholds_id.encode()),
    ]
    if len(outcomes) == 1:
        outcome = outcomes[0]
        headers += _headers_of(outcome)
        if not outcome.answered:
            raise Refusing(refusal_of_outcome(outcome), headers)
    parameters = {"mode": inference.mode, "thresholds": inference.thresholds_id}
    if isinstance(outcomes, OneOutcome):
        if all(one.name != PROBABILITIES for one in request.outputs):
            return _inferred_one(outcomes.outcome, request, classifier.name, version, parameters, headers)
        outcomes = outcomes.columns()
    outputs = outputs_of(outcomes, request, classifier.classes)
    response = InferResponse(classifier.name, outputs, version, request.id, parameters)
    message = build_response(response, request, encode=msgspec.json.encode)
    headers.append((b"content-type", message.content_type.encode()))
    if message.header_length is not None:
        headers.append((_HEADER_LENGTH, b"%d" % message.header_length))
    return _Answer(200, message.body, headers)


def _inferred_one(
    outcome: Outcome,
    request: InferRequest,
    model: str,
    version: str,
    parameters: Mapping[str, Any],
    headers: HeaderList,
) -> _Answer:
    """The response for a single input: by far the most frequent one, and sooner written without tensors."""
    outputs, raw = outputs_of_one(outcome, request)
    head: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        head["id"] = request.id
    body = msgspec.json.encode(head | {"parameters": parameters, "outputs": outputs})
    if not raw:
        return _Answer(200, body, [*headers, _JSON])
    headers += [(b"content-type", b"application/octet-stream"), (_HEADER_LENGTH, b"%d" % len(body))]
    return _Answer(200, b"".join((body, *raw)), headers)


def _headers_of(outcome: Outcome) -> HeaderList:
    headers = [
        (b"x-bisupervised-id", outcome.id.encode()),
        (b"x-bisupervised-route", outcome.route.label.encode()),
        (b"x-bisupervised-served", (outcome.fallback or outcome.route.label).encode()),
        (b"x-bisupervised-reason", outcome.reason.value.encode()),
    ]
    if outcome.deferred_because is not None:
        headers.append((b"x-bisupervised-deferred-because", outcome.deferred_because.value.encode()))
    numbers = [
        (b"x-bisupervised-local-confidence", outcome.local_confidence),
        (b"x-bisupervised-learned-confidence", known(outcome.learned_confidence)),
        (b"x-bisupervised-local-latency-s", outcome.local_latency_s),
        (b"x-bisupervised-local-cost", outcome.local_cost),
    ]
    if outcome.remote_requested:
        numbers += [
            (b"x-bisupervised-remote-confidence", outcome.remote_confidence),
            (b"x-bisupervised-pair-confidence", known(outcome.pair_confidence)),
            (b"x-bisupervised-remote-latency-s", outcome.remote_latency_s),
            (b"x-bisupervised-remote-cost", outcome.remote_cost),
        ]
    headers += [(name, b"%.9g" % value) for name, value in numbers if not math.isnan(value)]
    return headers


def refusal_of_outcome(outcome: Outcome) -> Refusal:
    """The error for a single input that was rejected and has no answer."""
    if outcome.fallback == "queue" and outcome.fallback_error is None:
        return refusal("queued", f"rejected, and handed to the queue under the id {outcome.id}")
    if outcome.fallback_error is not None:
        return refusal("fallback_failed", f"the fallback raised; see the outcome {outcome.id}")
    if outcome.reason is not Reason.FAILED or outcome.remote_error is None:
        return refusal_of_rejection(outcome)
    kind, _, message = outcome.remote_error.partition(": ")
    if kind == "not_asked" and outcome.local_error is not None:  # the client forced the local model
        return refusal("local_failed", outcome.local_error.partition(": ")[2] or outcome.local_error)
    codes = [code for code in (kind, f"remote_{kind}", _CODE_OF_KIND.get(kind, "")) if code in CODES]
    code = codes[0] if codes else "remote_failed"
    said = message or kind
    if "://" in said:  # the endpoint's address is no business of the client's; the log keeps it
        said = f"{CODES[code][1]}; see the outcome {outcome.id}"
    return refusal(code, said, retry_after_s=1.0 if CODES[code][0] in (429, 503) else None)


_CODE_OF_KIND: Final = {"budget": "budget_exhausted"}
