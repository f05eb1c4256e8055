"""Who may call: clients' keys, known by their SHA-256 alone.

A key has 256 random bits, so one round of SHA-256 is enough: there is nothing to guess. Which key it is is found by
a few digits of the hash, and decided by a comparison that takes the same time wherever two hashes differ.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bisupervised.gateway.settings import KeySettings, Scope

_PREFIX: Final = "bsk_"
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls. `name` is None where no keys are configured."""

    name: str | None
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the key allows it; an administrator may do everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYBODY: Final = Client(None, frozenset(Scope))


def new_key() -> str:
    """A fresh key, shown once."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What is stored of a key: its SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The clients' keys. Without any, whoever reaches the gateway is `ANYBODY`."""

    def __init__(self, settings: Sequence[KeySettings]) -> None:
        self._open = not settings
        self._by_digits: dict[str, list[tuple[str, Client]]] = {}
        for one in settings:
            client = Client(one.name, one.scopes)
            self._by_digits.setdefault(one.sha256[:_DIGITS], []).append((one.sha256, client))

    def client(self, authorization: bytes | None) -> Client | None:
        """Who this `Authorization: Bearer KEY` belongs to; None: nobody."""
        if self._open:
            return ANYBODY
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        digest = hashlib.sha256(authorization[7:].strip()).hexdigest()
        found = None
        for known, client in self._by_digits.get(digest[:_DIGITS], ()):
            if hmac.compare_digest(known, digest):
                found = client
        return found
