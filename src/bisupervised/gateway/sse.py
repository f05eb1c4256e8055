"""Server-sent events, both ways: bytes of any cut into events, and JSON into events."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bisupervised.errors import ReplyUnreadable

DONE: Final = b"data: [DONE]\n\n"
_MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

encode = msgspec.json.encode
decode = msgspec.json.decode


class EventReader:
    """Takes a stream's bytes as they come, however they are cut, and gives the data of each complete event."""

    def __init__(self, max_event_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._returns = False  # the last byte so far was a "\r": perhaps half of a "\r\n"
        self._most = max_event_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that these bytes complete; comments and other fields are left out.

        Raises `ReplyUnreadable` for an event that is longer than any honest one.
        """
        rest = self._rest
        rest += data
        if self._returns or b"\r" in data:
            self._returns = rest.endswith(b"\r")
            whole = bytes(rest[:-1] if self._returns else rest)
            rest[:] = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if self._returns else b"")
            self._searched = 0
        events = []
        start = 0
        while (end := rest.find(b"\n\n", max(start, self._searched - 1))) >= 0:
            event = _data_of(bytes(rest[start:end]))
            if event is not None:
                events.append(event)
            start = self._searched = end + 2
        if start:
            del rest[:start]
        self._searched = len(rest)
        if len(rest) > self._most:
            raise ReplyUnreadable(f"an event of the stream is longer than {self._most:,} bytes")
        return events

    @property
    def incomplete(self) -> bool:
        """Whether the stream, ending now, would end within an event."""
        return bool(self._rest.strip())


def _data_of(event: bytes) -> bytes | None:
    """The `data` of an event; None when it has none."""
    if event.startswith(b"data:") and b"\n" not in event:  # nearly all of them
        return event[6:] if event[5:6] == b" " else event[5:]
    parts = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(parts) if parts else None


def event_of(value: Any) -> bytes:
    """One event that holds a JSON value."""
    return b"data: " + encode(value) + b"\n\n"
