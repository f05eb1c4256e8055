"""Whether a request may do what it asks for."""

from __future__ import annotations

from bisupervised.gateway.http import Scope, header
from bisupervised.gateway.keys import Client
from bisupervised.gateway.refusals import refusal
from bisupervised.gateway.service import Refused, Service
from bisupervised.gateway.settings import Scope as KeyScope


def authorised(service: Service, scope: Scope, wanted: KeyScope) -> Client:
    """The client. Raises `Refused` for no key, an unknown one, or one that does not allow this."""
    return holder_of(service, header(scope, b"authorization"), wanted)


def holder_of(service: Service, authorization: bytes | None, wanted: KeyScope) -> Client:
    """Whose key this header holds. Raises `Refused`, as `authorised`."""
    client = service.keys.client(authorization)
    if client is None:
        raise Refused(refusal("invalid_api_key", "a valid key is needed: Authorization: Bearer KEY"))
    if not client.may(wanted):
        raise Refused(
            refusal("missing_scope", f"the key {client.name!r} does not allow this: it lacks {wanted.value!r}")
        )
    return client
