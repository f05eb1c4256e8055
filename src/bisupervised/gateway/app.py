"""The gateway's HTTP routes. The hot ones are plain ASGI; the others are Starlette's."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bisupervised import __version__
from bisupervised.errors import BiSupervisedError, InputError, UnknownOutcome
from bisupervised.gateway.access import authorised
from bisupervised.gateway.completions import Completions
from bisupervised.gateway.http import ClientGone, HttpChannel, Receive, Scope, Send, read_body
from bisupervised.gateway.keys import Client
from bisupervised.gateway.openai_wire import read_object
from bisupervised.gateway.openapi import MOST_LABEL, description
from bisupervised.gateway.passthrough import pass_through
from bisupervised.gateway.refusals import CODES, Refusal, refusal
from bisupervised.gateway.service import Refused, Service
from bisupervised.gateway.settings import Scope as KeyScope
from bisupervised.gateway.v2_service import v2_app

logger = logging.getLogger("bisupervised.gateway")
Handler = Callable[[Service, Request, Client], Awaitable[Any]]
_JSON: Final = (b"content-type", b"application/json")
_DIGITS: Final = 19
_MODELS: Final = "/v1/models/"


class Gateway:
    """The ASGI application: the hot routes go straight to what answers them, the others through Starlette."""

    def __init__(self, hot: Mapping[str, Any], v2: Any, rest: Starlette, *, traced: bool) -> None:
        self._traced = traced
        self._hot = dict(hot)
        self._v2 = v2
        self._rest = rest

    def _hot_of(self, path: str) -> Any:
        hot = self._hot.get(path)
        if hot is None and path.startswith("/v2") and (len(path) == 3 or path[3] == "/"):
            return self._v2
        return hot

    def at_once(self, path: str) -> bool:
        """Whether requests for a path may begin without a task: they call `Watch.begin` before they wait.

        A traced request needs a context of its own, and so a task.
        """
        return not self._traced and self._hot_of(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = self._hot_of(scope["path"]) if scope["type"] == "http" else None
        await (self._rest if hot is None else hot)(scope, receive, send)


def create_app(service: Service, life: Any = None) -> Gateway:
    """The ASGI application of a service. `life` is an ASGI lifespan context, for a server that has one."""
    route = _Routes(service)
    routes: list[BaseRoute] = [
        route("GET", "/v1/models", _models, KeyScope.CALL),
        route("GET", "/v1/models/{model:path}", _model, KeyScope.CALL),
        route("GET", "/v1/outcomes", _outcomes, KeyScope.LABEL),
        route("GET", "/v1/outcomes/{id}", _outcome, KeyScope.LABEL),
        route("POST", "/v1/outcomes/{id}/label", _label, KeyScope.LABEL),
        route("GET", "/v1/stats", _stats, KeyScope.LABEL),
        route("GET", "/v1/cascades", _cascades, KeyScope.LABEL),
        route("PUT", "/v1/cascades/{cascade}/mode", _set_mode, KeyScope.ADMIN),
        route("PUT", "/v1/cascades/{cascade}/thresholds", _set_thresholds, KeyScope.ADMIN),
        route("PUT", "/v1/kill-switch", _set_kill_switch, KeyScope.ADMIN),
        route("GET", "/v1/changes", _changes, KeyScope.ADMIN),
        route("POST", "/v1/changes/{change}/rollback", _roll_back, KeyScope.ADMIN),
        Route("/v1/{rest:path}", Others(service)),
        route("GET", "/healthz", _alive, None),
        route("GET", "/readyz", _ready, None),
        route("GET", "/metrics", _metrics, KeyScope.LABEL if service.settings.metrics_key else None),
        route("GET", "/openapi.json", _openapi, None),
        Route("/{rest:path}", Nothing()),
    ]
    hot = {
        "/v1/chat/completions": Only("POST", Completions(service, "chat")),
        "/v1/completions": Only("POST", Completions(service, "completions")),
    }
    rest = Starlette(routes=routes, lifespan=life)
    rest.router.default = Nothing()  # a path with a line break in it is like no pattern
    return Gateway(hot, v2_app(service), rest, traced=service.tracing is not None)


# ---------------------------------------------------------------- plumbing


async def _answer(send: Send, refused: Refusal) -> None:
    headers = [_JSON, *refused.headers, (b"content-length", b"%d" % len(refused.body))]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": refused.body})


class Only:
    """One method of a hot route; the others are told so."""

    def __init__(self, method: str, app: Any) -> None:
        self._method = method
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == self._method:
            await self._app(scope, receive, send)
            return
        await _answer(send, _wrong_method(scope["method"], self._method))


def _wrong_method(given: str, allowed: str) -> Refusal:
    refused = refusal("method_not_allowed", f"{given} is not a method of this route; {allowed} is")
    refused.headers.append((b"allow", allowed.encode()))
    return refused


class Nothing:
    """A path that the gateway does not have."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(
            send, refusal("model_not_found", "there is no such route; /openapi.json describes those there are")
        )


class Others:
    """Any other route below /v1: passed through to the endpoint of the model that its body names, or else to the
    first one that takes every model, if there is one."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, channel = self._service, HttpChannel(scope, receive, send)
        try:
            client = authorised(service, scope, KeyScope.CALL)
            if not service.settings.passthrough:
                raise _no_route()
            service.admit()
            try:
                body = await read_body(scope, receive, service.settings.max_body_bytes)
                model = _model_in(scope["path"], body)
                upstream = None if model in service.cascades else service.passthrough_for(model)
                if upstream is None:
                    raise _no_route()
                await pass_through(service, upstream, scope, body, channel, client.name)
            finally:
                service.leave()
        except Refused as error:
            service.metrics.refused(error.refusal.code)
            await _answer(send, error.refusal)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not channel.watch.cancelled():
                raise
        finally:
            channel.watch.close()


def _no_route() -> Refused:
    return Refused(refusal("model_not_found", "there is no such route, and no passthrough that has it"))


def _model_in(path: str, body: bytes) -> str | None:
    if path.startswith(_MODELS):
        return path.removeprefix(_MODELS)
    try:
        model = read_object(body).get("model")
    except InputError:  # no JSON: a file, say
        return None
    return model if isinstance(model, str) else None


class _Routes:
    """Makes routes of handlers: who may call them, how their errors look, and that they speak JSON."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._methods: dict[str, list[str]] = {}

    def __call__(self, method: str, path: str, handler: Handler, scope: KeyScope | None) -> Route:
        service = self._service

        async def endpoint(request: Request) -> Response | Others:
            if request.method not in (method, "HEAD" if method == "GET" else method):
                return _response(_wrong_method(request.method, method))
            try:
                client = Client(None, frozenset()) if scope is None else authorised(service, request.scope, scope)
                given = await handler(service, request, client)
            except Refused as error:
                service.metrics.refused(error.refusal.code)
                return _response(error.refusal)
            except InputError as error:
                service.metrics.refused("invalid_request")
                return _response(refusal("invalid_request", str(error)))
            except ClientDisconnect:
                return Response(status_code=499)
            except BiSupervisedError as error:
                logger.warning("the store cannot answer: %s", error)
                return _response(refusal("log_full", CODES["log_full"][1], retry_after_s=1.0))
            return given if isinstance(given, Response | Others) else _json(given)

        return Route(path, _Endpoint(endpoint))


class _Endpoint:
    """A handler of every method: a class, since Starlette would leave functions those that it is told."""

    def __init__(self, answer: Callable[[Request], Awaitable[Any]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _response(refused: Refusal) -> Response:
    headers = {name.decode(): value.decode() for name, value in refused.headers}
    return Response(refused.body, refused.status, headers, media_type="application/json")


async def _body_of(service: Service, request: Request) -> Mapping[str, Any]:
    try:
        raw = await read_body(request.scope, request.receive, service.settings.max_body_bytes)
    except ClientGone:
        raise ClientDisconnect from None
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise InputError(f"the body is a JSON object, not {type(body).__name__}")
    return body


def _number(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is a number, not {text!r}")
    return value


def _whole(request: Request, name: str, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    number = _natural(text)
    if number is None or not 1 <= number <= most:
        raise InputError(f"{name} is a whole number from 1 to {most}, not {text[:40]!r}")
    return number


def _natural(text: str) -> int | None:
    """A number of plain digits that SQLite can hold; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else None


# ---------------------------------------------------------------- models


def _model_entry(service: Service, name: str) -> dict[str, Any]:
    cascade = service.cascades[name]
    return {"id": name, "object": "model", "created": cascade.created, "owned_by": "bisupervised"}


async def _models(service: Service, request: Request, client: Client) -> Any:
    shown = [name for name, cascade in service.cascades.items() if cascade.settings.interface == "openai"]
    return {"object": "list", "data": [_model_entry(service, name) for name in shown]}


async def _model(service: Service, request: Request, client: Client) -> Any:
    name = request.path_params["model"]
    if name not in service.cascades:
        if service.passthrough_for(name) is not None:
            return Others(service)
        raise Refused(refusal("model_not_found", f"there is no model {name!r}; GET /v1/models lists them"))
    return _model_entry(service, name)


# ---------------------------------------------------------------- outcomes


async def _outcomes(service: Service, request: Request, client: Client) -> Any:
    query = request.query_params
    limit = _whole(request, "limit", 1000) or 100
    route = query.get("route")
    if route not in (None, "local", "remote", "rejected"):
        raise InputError(f"route is local, remote or rejected, not {route!r}")
    return await service.outcomes(
        since=_number(request, "since"),
        until=_number(request, "until"),
        cascade=query.get("cascade"),
        route=route,
        key=query.get("key"),
        limit=limit,
        after_seq=_whole(request, "after", 2**53),
    )


async def _outcome(service: Service, request: Request, client: Client) -> Any:
    try:
        return await service.outcome(_id_of(request))
    except UnknownOutcome:
        raise Refused(_no_outcome(request)) from None


async def _label(service: Service, request: Request, client: Client) -> Any:
    id_ = _id_of(request)
    body = await _body_of(service, request)
    unknown = sorted(set(body) - {"label"})
    if "label" not in body or unknown:
        raise InputError('the body is {"label": …}: the ground truth, or null to take it back')
    label = body["label"]
    if not isinstance(label, str | int | float | bool | None) or (isinstance(label, int) and abs(label) >= 2**63):
        raise InputError("a label is text, a number, true or false, or null")
    if isinstance(label, str) and len(label) > MOST_LABEL:
        raise InputError(f"a label has at most {MOST_LABEL:,} characters")
    try:
        await service.label(id_, label)
    except UnknownOutcome:
        raise Refused(_no_outcome(request)) from None
    return {"id": id_, "label": label}


def _id_of(request: Request) -> str:
    id_: str = request.path_params["id"]
    if len(id_) > 200 or "\0" in id_:
        raise Refused(_no_outcome(request))
    try:
        id_.encode()
    except UnicodeEncodeError:
        raise Refused(_no_outcome(request)) from None
    return id_


def _no_outcome(request: Request) -> Refusal:
    return refusal("outcome_not_found", "there is no outcome of this id; x-bisupervised-id of an answer is one")


async def _stats(service: Service, request: Request, client: Client) -> Any:
    return await service.stats(
        since=_number(request, "since"), until=_number(request, "until"), cascade=request.query_params.get("cascade")
    )


# ---------------------------------------------------------------- modes


def _state(service: Service, name: str) -> dict[str, Any]:
    cascade = service.cascades[name]
    state = cascade.state
    numbers = {name: getattr(state.thresholds, name) for name in ("local", "remote", "abstain")}
    return {
        "name": name,
        "interface": cascade.settings.interface,
        "mode": str(state.mode),
        "share": state.share,
        "share_by": state.share_by,
        "kill_switch": state.kill_switch,
        "streaming": str(cascade.settings.streaming),
        "speculative": cascade.settings.speculative,
        "local": cascade.backends["local"].name,  # type: ignore[index]
        "remote": cascade.backends["remote"].name,  # type: ignore[index]
        "thresholds": {
            "id": state.thresholds_id,
            **{key: value if math.isfinite(value) else str(value) for key, value in numbers.items()},
            "target": dict(state.thresholds.target),
            "evidence": dict(state.thresholds.evidence),
            "achieved": dict(state.thresholds.achieved),
        },
    }


async def _cascades(service: Service, request: Request, client: Client) -> Any:
    return {"cascades": [_state(service, name) for name in service.cascades]}


async def _change(service: Service, request: Request, client: Client, cascade: str, kind: str) -> Any:
    body = await _body_of(service, request)
    if kind != "kill_switch" and cascade not in service.cascades:
        raise Refused(refusal("model_not_found", f"there is no cascade {cascade!r}; GET /v1/cascades lists them"))
    note = body.get("note", "")
    if not isinstance(note, str):
        raise InputError("note is text")
    return _shown(await service.change(cascade, kind, body, client.name or "a client without a key", note))


async def _set_mode(service: Service, request: Request, client: Client) -> Any:
    return await _change(service, request, client, request.path_params["cascade"], "mode")


async def _set_thresholds(service: Service, request: Request, client: Client) -> Any:
    return await _change(service, request, client, request.path_params["cascade"], "thresholds")


async def _set_kill_switch(service: Service, request: Request, client: Client) -> Any:
    return await _change(service, request, client, "*", "kill_switch")


def _shown(change: Any) -> dict[str, Any]:
    return {
        "id": change.id,
        "time": change.time,
        "cascade": change.cascade,
        "kind": change.kind,
        "value": dict(change.value),
        "by": change.by,
        "note": change.note,
    }


async def _changes(service: Service, request: Request, client: Client) -> Any:
    limit = _whole(request, "limit", 1000) or 100
    found = await service.changes(request.query_params.get("cascade"), limit)
    return {"changes": [_shown(change) for change in found]}


async def _roll_back(service: Service, request: Request, client: Client) -> Any:
    text = request.path_params["change"]
    change = _natural(text)
    if not change:
        raise InputError(f"a change is named by its number, not by {text[:40]!r}")
    return _shown(await service.roll_back(change, client.name or "a client without a key"))


# ---------------------------------------------------------------- operation


async def _alive(service: Service, request: Request, client: Client) -> Any:
    return {"status": "alive", "version": __version__}


async def _ready(service: Service, request: Request, client: Client) -> Any:
    if service.draining:
        return _json({"status": "stopping"}, 503)
    return {"status": "ready", "cascades": list(service.cascades)}


async def _metrics(service: Service, request: Request, client: Client) -> Any:
    return Response(service.metrics.text(), media_type=service.metrics.content_type)


async def _openapi(service: Service, request: Request, client: Client) -> Any:
    return description(service)
