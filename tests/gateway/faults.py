"""What the gateway must survive: each fault as a scenario with real processes, which checks every answer and row.

A scenario ends in a `Tally`. What holds for all of them is in `checked`: no token of a draft that nobody trusted, no
answer but the right ones, no error without a type, one row for each accepted request, and no paid call that is not
accounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisupervised.gateway.refusals import CODES
from gateway.callers import Answer
from gateway.running import cascade, config_text, endpoint, wait_until
from gateway.serving import Gateway, Row, serving
from gateway.upstreams.handle import FaultyUpstream, UpstreamState, faulty_upstream

#: What the models say: each word tells whose it is.
LOCAL = "draft-one draft-two draft-three draft-four draft-five draft-six"
REMOTE = "final-one final-two final-three final-four final-five final-six"
DEFAULT = "nobody-knows"

#: Currency units for a million tokens.
PROMPT_PRICE, COMPLETION_PRICE = 100.0, 200.0

TRUSTED, NOT_TRUSTED = -0.01, -3.0  #: log-probabilities of tokens


def said_by(text: str, logprob: float = TRUSTED, **options: Any) -> dict[str, Any]:
    """A behaviour of an upstream that answers so."""
    return {"kind": "ok", "text": text, "logprob": logprob} | options


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the requests of a scenario."""

    fault: str
    sent: int
    answered: int  #: with a trusted answer or the configured fallback
    rejected: Mapping[str, int]  #: typed errors about accepted requests, by code
    turned_away: Mapping[str, int]  #: not accepted: typed errors by code; `refused`: no connection
    unanswered: int  #: accepted or not: the client went away, or the gateway was killed
    logged: int
    lost: int  #: accepted, without a row, and counted
    calls: int  #: that the remote model's endpoint saw
    note: str = ""  #: what was measured besides

    @property
    def accepted_at_least(self) -> int:
        return self.answered + sum(self.rejected.values())


# ---------------------------------------------------------------- files


def remote_level(url: str, **more: Any) -> dict[str, Any]:
    """A remote level with prices, that waits for at most 1.5 s and asks at most twice."""
    prices = {"prompt_price": PROMPT_PRICE, "completion_price": COMPLETION_PRICE, "max_tokens": 64}
    patience = {"timeout_s": 1.5, "attempts": 2, "breaker_failures": 1_000_000}
    return endpoint(url, "large", **prices, **patience) | more


def local_level(url: str, **more: Any) -> dict[str, Any]:
    return endpoint(url, "small", timeout_s=1.5, breaker_failures=1_000_000) | more


def plain(local: str, remote: str, name: str, *, remote_options: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """A cascade of two endpoints; further options are those of `running.cascade`."""
    return cascade(local_level(local), remote_level(remote, **dict(remote_options or {})), name, **more)


def config(*cascades: Mapping[str, Any], **settings: Any) -> str:
    return config_text(*cascades, **settings)


# ---------------------------------------------------------------- checks


def check_answer(answer: Answer) -> None:
    """It is right, or the configured fallback, or a typed error with its documented status; and nothing leaked."""
    shown = f"{answer.asked}: {answer.came} {answer.status} {dict(answer.headers)} {answer.raw[-1000:]!r}"
    trusted_local = answer.served in ("local", "local_untrusted")
    assert trusted_local or b"draft" not in answer.raw, f"a draft leaked: {shown}"
    if answer.came != "whole":
        return
    if answer.code is not None:
        assert answer.code in CODES, shown
        in_stream = answer.headers["content-type"].startswith("text/event-stream")
        assert answer.status == (200 if in_stream else CODES[answer.code][0]), shown
        assert not in_stream or REMOTE.startswith(answer.text) or LOCAL.startswith(answer.text), shown
        if answer.status == 429:
            assert int(answer.headers["retry-after"]) >= 1, shown
        return
    text = {"remote": REMOTE, "local": LOCAL, "local_untrusted": LOCAL, "default": DEFAULT}[str(answer.served)]
    assert (answer.status, answer.text) == (200, text), shown


def check_rows(rows: Sequence[Row]) -> None:
    """One row for each number and each id, in the order of numbers; unknown costs have a bound."""
    numbers = [row["sequence"] for row in rows]
    assert len(set(numbers)) == len(numbers), "two rows of one request"
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        if (row["remote_asked"] and row["remote_cost"] is None) or row["extra_cost"] is None:
            assert row["cost_bound"] > 0.0, row
        if row["route"] == "rejected" and row["fallback"] is None:
            assert row["answer"] is None, row


def check_row(answer: Answer, row: Row) -> None:
    """The log says what the client saw."""
    shown = f"{answer.asked}: {answer.status} {answer.code} {answer.raw[-300:]!r}\n{row}"
    assert row["cascade"] == answer.asked.cascade, shown
    assert bool(row["streamed"]) == answer.asked.stream, shown
    if answer.answered:
        assert (row["status"], row["served"]) == (200, answer.served), shown
    elif answer.code is not None:
        assert row["status"] == CODES[answer.code][0] or (row["status"], answer.status) == (502, 200), shown


def billed(state: UpstreamState) -> float:
    """What the remote model's endpoint would charge, in currency units."""
    return (state.prompt_tokens * PROMPT_PRICE + state.completion_tokens * COMPLETION_PRICE) / 1e6


def accounted(rows: Iterable[Row], audits: Iterable[Row] = ()) -> float:
    """The most that these requests may have cost, as the log says it."""
    parts = [row[name] or 0.0 for row in rows for name in ("remote_cost", "extra_cost", "cost_bound")]
    return sum(parts) + sum((audit["cost"] or 0.0) + audit["cost_bound"] for audit in audits)


def remote_calls(rows: Iterable[Row]) -> int:
    """Requests that had a remote call, needed or not; some had a second attempt."""
    return sum(row["remote_asked"] + row["extra_remote_calls"] for row in rows)


def settle(gateway: Gateway, n: int, after: int) -> list[Row]:
    """The rows of n accepted requests, and of any more that there are, once nothing waits to be written."""
    gateway.settled_rows(n, after=after)
    wait_until(lambda: gateway.gauge("log_pending") + gateway.gauge("in_flight"), lambda left: left == 0)
    return gateway.rows(after=after)


def checked(
    fault: str,
    answers: Sequence[Answer],
    rows: Sequence[Row],
    remote: UpstreamState,
    *,
    audits: Sequence[Row] = (),
    lost: int = 0,
    attempts: int = 2,
    complete: bool = True,
) -> Tally:
    """The tally of a scenario, when all that holds for every fault holds. `remote`: since before the first request.

    `complete`: each request has an answer, and each answer its row. Not so where clients left, or the gateway was
    killed.
    """
    by_id = {row["id"]: row for row in rows}
    for answer in answers:
        check_answer(answer)
        row = None if answer.id is None else by_id.get(answer.id)
        assert row is not None or answer.id is None or lost, f"{answer.asked}: no row of {answer.id}"
        if row is not None and answer.came == "whole":
            check_row(answer, row)
    check_rows(rows)
    turned_away = Counter(
        "refused" if one.came == "refused" else str(one.code)
        for one in answers
        if one.came == "refused" or (one.code is not None and one.id is None)
    )
    rejected = Counter(str(one.code) for one in answers if one.code is not None and one.id is not None)
    unanswered = sum(one.came in ("reset", "cut") for one in answers)
    answered = sum(one.answered for one in answers)
    tally = Tally(
        fault,
        len(answers),
        answered,
        dict(sorted(rejected.items())),
        dict(sorted(turned_away.items())),
        unanswered,
        len(rows),
        lost,
        remote.begun,
    )
    assert answered + rejected.total() + turned_away.total() + unanswered == tally.sent, tally
    possible = tally.accepted_at_least + unanswered
    assert tally.accepted_at_least <= tally.logged + tally.lost <= possible, tally
    if complete and not unanswered:
        assert tally.logged + tally.lost == tally.accepted_at_least, tally
    calls = remote_calls(rows) + len(audits) + lost
    assert remote.begun <= calls * attempts, (tally, calls)
    if not lost:
        cost = accounted(rows, audits)
        assert billed(remote) <= cost * (1 + 1e-9), (tally, billed(remote), cost)
    return tally


# ---------------------------------------------------------------- the processes


@dataclass(frozen=True, slots=True)
class Stage:
    """A gateway between its two upstreams."""

    gateway: Gateway
    local: FaultyUpstream
    remote: FaultyUpstream

    def reset(self, local: Any = None, remote: Any = None) -> int:
        """Counts of 0, and what the models say from now on. Returns the highest number that has a row."""
        self.local.reset()
        self.remote.reset()
        self.local.default(local or said_by(LOCAL, NOT_TRUSTED))
        self.remote.default(remote or said_by(REMOTE))
        return self.gateway.newest()


@contextmanager
def staged(folder: Path, text: Callable[[str, str], str], *, env: Mapping[str, str] | None = None) -> Iterator[Stage]:
    """A stage for a scenario, all its processes its own. `text` makes the file from the URLs of local and remote."""
    with (
        faulty_upstream() as local,
        faulty_upstream() as remote,
        serving(folder, text(local.base_url, remote.base_url), env=env) as gateway,
    ):
        stage = Stage(gateway, local, remote)
        stage.reset()
        yield stage
        said = gateway.printed.read_text()
        assert "Traceback" not in said, said[-3000:]
