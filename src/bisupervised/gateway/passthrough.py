"""Other models and other routes: to their own endpoint and back, byte for byte."""

from __future__ import annotations

from typing import Final

from bisupervised.errors import ModelError
from bisupervised.gateway.client import BrokenReply
from bisupervised.gateway.http import HttpChannel, Scope
from bisupervised.gateway.refusals import refusal, refusal_of_failure
from bisupervised.gateway.service import Refused, Service
from bisupervised.gateway.settings import PassthroughSettings
from bisupervised.gateway.upstream import HOP_BY_HOP, pass_on

#: Headers that are between the client and this gateway.
_OURS: Final = frozenset({"authorization", "cookie"})
_DROPPED: Final = HOP_BY_HOP - {"content-length"}


async def pass_through(
    service: Service, upstream: PassthroughSettings, scope: Scope, body: bytes, channel: HttpChannel, key: str | None
) -> None:
    """Send the request to its endpoint, with the endpoint's key in place of the client's, and the reply back.

    What passes through has no price, so a key with a budget may not use it.
    """
    if key in service.capped_keys:
        message = f"the key {key!r} has a daily budget, and what other models and routes cost is not known here"
        raise Refused(refusal("missing_scope", message))
    await channel.waiting()
    path = _path_of(scope)
    given = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
    headers = [(name, value) for name, value in given if name not in _OURS and not name.startswith("x-bisupervised-")]
    if upstream.api_key is not None:
        headers.append(("authorization", f"Bearer {upstream.api_key}"))
    try:
        reply = await pass_on(
            service.pool, upstream.base_url, scope["method"], path, headers, body, upstream.timeout_s
        )
    except ModelError as error:
        service.metrics.passed_through(upstream.name, 0)
        message = f"the endpoint of {upstream.name!r} failed: {error.kind}"  # not its address
        raise Refused(refusal_of_failure(None, error.kind, message)) from None
    try:
        service.metrics.passed_through(upstream.name, reply.status)
        if reply.status in (401, 403) and upstream.api_key is not None:
            # Not the client's key, and what is said about it may quote it.
            message = f"the endpoint of {upstream.name!r} answered {reply.status} to this gateway's key"
            raise Refused(refusal("remote_status", message))
        kept = [(name, value) for name, value in reply.headers if name.decode("latin-1").lower() not in _DROPPED]
        await channel.raw(reply.status, kept, reply.piece)
    except (OSError, BrokenReply):
        return  # its beginning is with the client: without an end, the client's connection breaks off too
    finally:
        reply.close()


def _path_of(scope: Scope) -> str:
    """The path behind `/v1`, with its query, as the client wrote it; nothing that leaves the endpoint's own path."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw.decode("latin-1").partition("?")[0]
    if not path.startswith("/v1/") or ".." in path or "%2e" in path.lower() or "//" in path or "\\" in path:
        raise Refused(refusal("invalid_request", "the path must be /v1/ and a plain route"))
    query = scope["query_string"].decode("latin-1")
    return path[3:] + (f"?{query}" if query else "")
