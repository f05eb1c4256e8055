"""`POST /v1/chat/completions` and `/v1/completions`: the hot path, as plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bisupervised.errors import InputError
from bisupervised.gateway.access import authorised
from bisupervised.gateway.asking import Wishes
from bisupervised.gateway.http import ClientGone, HttpChannel, Receive, Scope, Send, header, read_body
from bisupervised.gateway.openai_wire import read_object, read_request
from bisupervised.gateway.passthrough import pass_through
from bisupervised.gateway.refusals import refusal
from bisupervised.gateway.service import Refused, Service
from bisupervised.gateway.settings import Scope as KeyScope
from bisupervised.models.openai_request import Route
from bisupervised.records import LevelName

_JSON: Final = (b"content-type", b"application/json")
_WISHES: Final = b"x-bisupervised-"
_FALLBACKS: Final = ("raise", "default", "local_untrusted")
_NO_WISHES: Final = Wishes()


class Completions:
    """One of the two routes, for every cascade and every other model that is passed through."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route: Route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        channel = HttpChannel(scope, receive, send)
        try:
            client = authorised(service, scope, KeyScope.CALL)
            service.admit()
            try:
                raw = await read_body(scope, receive, service.settings.max_body_bytes)
                await self._answer(scope, raw, client.name, channel)
            finally:
                service.leave()
        except Refused as error:
            refused = error.refusal
            service.metrics.refused(refused.code)
            await channel.whole(refused.status, [_JSON, *refused.headers], refused.body)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not channel.watch.cancelled():
                raise
        finally:
            channel.watch.close()

    async def _answer(self, scope: Scope, raw: bytes, key: str | None, channel: HttpChannel) -> None:
        try:
            request = read_request(raw, self._route)
        except InputError as error:
            if not await self._passed_unread(scope, raw, channel, key):
                raise Refused(refusal("invalid_request", str(error))) from None
            return
        cascade = self._service.cascades.get(request.model)
        if cascade is not None and cascade.settings.interface == "openai":
            wishes = wishes_of(scope["headers"])
            if self._service.tracing is not None and (parent := header(scope, b"traceparent")) is not None:
                wishes = replace(wishes, traceparent=parent.decode("latin-1")[:100])
            await self._service.complete(cascade, request, raw, key, wishes, channel)
            return
        upstream = self._service.passthrough_for(request.model)
        if upstream is None:
            known = ", ".join(self._service.cascades)
            raise Refused(refusal("model_not_found", f"there is no model {request.model!r} here; there are: {known}"))
        await pass_through(self._service, upstream, scope, raw, channel, key)

    async def _passed_unread(self, scope: Scope, raw: bytes, channel: HttpChannel, key: str | None) -> bool:
        """What this gateway cannot read may be for another model, whose endpoint knows better."""
        try:
            model = read_object(raw).get("model")
        except InputError:
            return False
        if not isinstance(model, str) or model in self._service.cascades:
            return False
        upstream = self._service.passthrough_for(model)
        if upstream is None:
            return False
        await pass_through(self._service, upstream, scope, raw, channel, key)
        return True


def wishes_of(headers: Iterable[tuple[bytes, bytes]]) -> Wishes:
    """What a client asks for in headers. Raises `Refused` for a wish that there is not."""
    given = {key: value for key, value in headers if key.startswith(_WISHES)}
    if not given:
        return _NO_WISHES
    force = given.get(b"x-bisupervised-force", b"").decode("latin-1").lower() or None
    if force is not None and force not in list(LevelName):
        raise Refused(refusal("invalid_request", f"x-bisupervised-force is local or remote, not {force!r}"))
    fallback = given.get(b"x-bisupervised-fallback", b"").decode("latin-1").lower() or None
    if fallback is not None and fallback not in _FALLBACKS:
        raise Refused(
            refusal("invalid_request", f"x-bisupervised-fallback is {', '.join(_FALLBACKS)}; not {fallback!r}")
        )
    store = given.get(b"x-bisupervised-store", b"true").decode("latin-1").lower()
    if store not in ("true", "false"):
        raise Refused(refusal("invalid_request", f"x-bisupervised-store is true or false, not {store!r}"))
    conversation = given.get(b"x-bisupervised-conversation")
    return Wishes(
        force=None if force is None else LevelName(force),
        fallback=fallback,
        store=store == "true",
        conversation=None if conversation is None else conversation.decode("latin-1")[:200],
    )
