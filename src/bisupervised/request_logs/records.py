"""What a team's log of requests holds, whatever its format."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bisupervised.models.openai_reply import Usage
from bisupervised.models.openai_request import Route, input_of

NAN: Final = math.nan

#: Why a request is not replayed, in the words of a report. The first five are those of the gateway's requests,
#: `tool_call` and `refusal` those of its replies; the others are of logs alone.
REASONS: Final[Mapping[str, str]] = {
    "tools": "offer tools",
    "image": "hold an image or a file",
    "audio": "hold audio",
    "many": "ask for several answers",
    "json_mode": "ask for JSON",
    "tool_call": "were answered with a tool call",
    "refusal": "were refused by the remote model",
    "no_answer": "got no answer from the remote model",
    "not_stored": "were logged without their content",
    "cut": "were cut short by the log",
    "other_route": "are no chat or text completions",
}


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request of the log with what the remote model answered. Costs in currency units; NaN: not known."""

    id: str
    row: int  #: of the file; a line for JSON lines, 2 for the first row under the column names of a CSV
    route: Route
    body: Mapping[str, Any]  #: as it was sent: `messages` or `prompt`, and the client's settings; empty if not stored
    answer: str | None  #: None: there is none to compare with, see `unscorable`
    unscorable: tuple[str, ...] = ()  #: keys of `REASONS`
    label: Any = None  #: ground truth; None: not known
    model: str | None = None
    cost: float = NAN  #: as logged
    usage: Usage = field(default_factory=Usage)
    latency_s: float = NAN
    time: float = NAN  #: Unix seconds

    def text(self, which: str) -> Any:
        """What an in-process model is given, see `input_of`: as in the gateway."""
        return input_of(self.body, self.route, which)

    @property
    def input_hash(self) -> str:
        """What tells one input from another: 16 hexadecimal digits of what was asked, settings aside."""
        asked = self.body.get("messages" if self.route == "chat" else "prompt")
        return hash_of([self.route, asked])


def hash_of(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a value as JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that cannot be read: what is wrong, and what to do."""

    row: int
    message: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class RequestLog:
    """The readable requests of a log, in its order, and what could not be read."""

    requests: Sequence[LoggedRequest]
    problems: Sequence[RowProblem]  #: every bad row
    formats: Mapping[str, int]  #: how many rows were read as what
    notes: Sequence[str] = ()  #: what reading noticed

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def days(self) -> float:
        """Days from the first request to the last; NaN when fewer than two have a time."""
        times = [request.time for request in self.requests if not math.isnan(request.time)]
        return (max(times) - min(times)) / 86_400.0 if len(times) > 1 and max(times) > min(times) else NAN

    @property
    def repeated(self) -> int:
        """How many requests ask exactly what an earlier one asked."""
        counts = Counter(request.input_hash for request in self.requests if request.body)
        return sum(count - 1 for count in counts.values())
