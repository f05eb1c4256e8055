"""Conversations that stay with the remote model once it has answered in them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from bisupervised.gateway.openai_wire import conversation_of
from bisupervised.models.openai_request import content_text
from bisupervised.records import LevelName

if TYPE_CHECKING:
    from bisupervised.gateway.asking import Asking

_MOST: Final = 100_000
_LIFE_S: Final = 3600.0


class Conversations:
    """Remembers the hash of what was said up to a remote answer; a request that continues from there sticks.

    A client may name a conversation itself (`x-bisupervised-conversation`). In memory, for an hour, of one process:
    what is forgotten merely asks the local model again.
    """

    def __init__(self, most: int = _MOST, life_s: float = _LIFE_S, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._life_s = life_s
        self._clock = clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def sticks(self, journey: Asking) -> bool:
        """Whether the remote model has answered in this conversation."""
        name = self._continued(journey)
        seen = None if name is None else self._seen.get(name)
        return seen is not None and self._clock() - seen <= self._life_s

    def answered_remotely(self, journey: Asking) -> None:
        """The remote model has answered this request."""
        if not journey.cascade.settings.stick_to_remote:
            return
        name = self._with_answer(journey)
        if name is None:
            return
        self._seen[name] = self._clock()
        self._seen.move_to_end(name)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def _continued(self, journey: Asking) -> bytes | None:
        if journey.wishes.conversation is not None:
            return self._hash(journey, b"named", journey.wishes.conversation.encode())
        messages = journey.request.body.get("messages")
        if not isinstance(messages, list):
            return None
        last = max((n for n, message in enumerate(messages) if message.get("role") == "assistant"), default=None)
        return None if last is None else self._hash(journey, conversation_of(messages, last + 1))

    def _with_answer(self, journey: Asking) -> bytes | None:
        if journey.wishes.conversation is not None:
            return self._hash(journey, b"named", journey.wishes.conversation.encode())
        messages = journey.request.body.get("messages")
        body = journey.reply_body(LevelName.REMOTE)
        if not isinstance(messages, list) or body is None:
            return None
        message: Any = body["choices"][0].get("message") or {}
        answer = {"role": "assistant", "content": content_text(message.get("content"))}
        return self._hash(journey, conversation_of([*messages, answer], len(messages) + 1))

    @staticmethod
    def _hash(journey: Asking, *parts: bytes) -> bytes:
        whose = f"{journey.cascade.name}\0{journey.key or ''}\0".encode()
        return hashlib.sha256(whose + b"\0".join(parts)).digest()
