"""What the gateway survives: every fault with real processes on loopback, and what became of the requests.

python benchmarks/faults.py [part of a fault's name]

The scenarios are those of `tests/gateway/test_faults_*.py`, and check the same: every answer is right, a configured
fallback or a typed error, every accepted request has one row in the decision log or is counted lost, and no paid call
is unaccounted for. A scenario whose checks fail is said so, and the exit status is 1.
"""

from __future__ import annotations

import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.remove(str(HERE))  # its `gateway` is another one
sys.path.insert(0, str(HERE.parent / "tests"))

from gateway.faults import Tally  # noqa: E402
from gateway.faults_process import (  # noqa: E402
    back_pressure,
    clock_jumps_back,
    disk_full,
    killed_under_load,
    slow_remote_calls,
    stopped_too_slow,
    stopped_under_load,
)
from gateway.faults_remote import (  # noqa: E402
    LOCAL_FAULTS,
    REMOTE_FAULTS,
    breaker_opens_and_closes,
    bursts,
    local_fault,
    remote_fault,
    remote_refused,
    remote_stage,
    trusted_stream_cut,
)
from gateway.faults_streams import clients_leave, many_leave, speculation_cancelled  # noqa: E402

Scenario = Callable[[], Tally]

#: Each starts its own processes in the folder that it is given.
OWN_STAGE: Mapping[str, Callable[[Path], Tally]] = {
    "connection refused": remote_refused,
    "breaker": breaker_opens_and_closes,
    "speculative calls not needed": speculation_cancelled,
    "clients leave": clients_leave,
    "thousands of clients leave": many_leave,
    "slow remote calls": slow_remote_calls,
    "back-pressure": back_pressure,
    "kill -9": killed_under_load,
    "SIGTERM": stopped_under_load,
    "SIGTERM, longer than the drain": stopped_too_slow,
    "disk full, drop": partial(disk_full, when_full="drop"),
    "disk full, refuse": partial(disk_full, when_full="refuse"),
    "clock jumps back": clock_jumps_back,
}


def scenarios(part: str) -> Iterator[tuple[str, Scenario]]:
    """Every scenario whose name has `part` in it; each may run only while it is the latest one given."""
    with tempfile.TemporaryDirectory() as folder, remote_stage(Path(folder)) as stage:
        shared: dict[str, Scenario] = {fault.name: partial(remote_fault, stage, fault) for fault in REMOTE_FAULTS}
        shared |= {f"local: {kind}": partial(local_fault, stage, kind) for kind in LOCAL_FAULTS}
        shared["trusted local stream cut"] = partial(trusted_stream_cut, stage)
        shared["passing failures"] = partial(bursts, stage)
        for name, one in shared.items():
            if part in name:
                yield name, one
    for name, scenario in OWN_STAGE.items():
        if part in name:
            with tempfile.TemporaryDirectory() as folder:
                yield name, partial(scenario, Path(folder))


COLUMNS = ("fault", "sent", "answered", "rejected", "turned away", "no answer", "logged", "lost", "remote calls")


def cells(tally: Tally) -> tuple[str, ...]:
    numbers = (tally.unanswered, tally.logged, tally.lost, tally.calls)
    return (
        tally.fault,
        *map(str, (tally.sent, tally.answered)),
        *map(counted, (tally.rejected, tally.turned_away)),
        *map(str, numbers),
    )


def counted(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {code}" for code, n in codes.items()) or "0"


def line(values: tuple[str, ...]) -> str:
    return f"| {' | '.join(values)} |"


def main(part: str = "") -> int:
    logging.getLogger("bisupervised").addHandler(logging.NullHandler())  # the table says what was lost
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print(line(COLUMNS))
    print(line(("---", *["---:"] * (len(COLUMNS) - 1))))
    notes, failed, start = [], [], time.perf_counter()
    for name, scenario in scenarios(part):
        try:
            tally = scenario()
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
            print(line((f"{name} FAILED", *["?"] * (len(COLUMNS) - 1))), flush=True)
            continue
        print(line(cells(tally)), flush=True)
        if tally.note:
            notes.append(f"- {tally.fault}: {tally.note}")
    print("\nrejected: typed errors about accepted requests. turned away: not accepted (refused: no connection).")
    print("no answer: the client left, or the gateway was killed or stopped. lost: accepted, without a row, counted.")
    print("\n".join(["", *notes]))
    print(f"\n{time.perf_counter() - start:.0f} s")
    for one in failed:
        print(f"\nFAILED {one}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
