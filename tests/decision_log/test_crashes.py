"""Gateways, as far as the log is concerned, that are killed under load: every request has one row or is counted."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing

import pytest

from bisupervised.decision_log import DecisionLog, Ledger, Sequences, read_log
from bisupervised.errors import BudgetExhausted
from decision_log.making import details, locals_, start_python

GATEWAY = """
import asyncio, os, random, signal
from decision_log.making import details, local
from bisupervised.decision_log import DecisionLog, Ledger, Sequences, new_id
from bisupervised.errors import BudgetExhausted

path, name, clock = sys.argv[1], sys.argv[2], sys.argv[3]
if clock == "jumps":
    import time
    real, back = time.time, [0.0]
    def jumping():
        back[0] += 0.5
        return real() - back[0]
    for module in ("log", "ledger", "sequence", "presence"):
        __import__(f"bisupervised.decision_log.{module}")
        sys.modules[f"bisupervised.decision_log.{module}"].time = jumping

log = DecisionLog(path)
numbers = Sequences(path, process=name)
money = Ledger(path, {"total": 50.0}, process=name, **({"clock": jumping} if clock == "jumps" else {}))
stop = asyncio.Event()

async def client():
    while not stop.is_set():
        number = await numbers.atake()
        os.write(1, f"took {number}\\n".encode())
        try:
            hold = money.reserve(["total"], 0.01) or await money.areserve(["total"], 0.01)
        except BudgetExhausted:
            log.write([local(new_id())], [number], [details(number, served="error", status=429)])
            continue
        await asyncio.sleep(random.random() * 0.004)
        os.write(1, b"paid 0.001\\n")
        hold.settle(0.001)
        log.write([local(new_id())], [number], [details(number)])

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(client())

asyncio.run(main())
log.close(); money.close(); numbers.close()
"""


def _until(process: subprocess.Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(lines)]


def _rest(process: subprocess.Popen[str]) -> list[str]:
    """What it said before it ended; the last line may be half a line."""
    assert process.stdout is not None
    return [line for line in process.stdout if line.endswith("\n")]


def _check(path, said: dict[str, list[str]], *, killed: int) -> None:
    """Every number is accounted for, exactly, and so is all money."""
    took = [int(line.split()[1]) for lines in said.values() for line in lines if line.startswith("took")]
    paid = sum(float(line.split()[1]) for lines in said.values() for line in lines if line.startswith("paid"))
    assert max(Counter(took).values()) == 1
    table = read_log(path)
    stored = [int(number) for number in table.extra["sequence"]]
    assert max(Counter(stored).values()) == 1
    with Sequences(path, process="new") as numbers:
        numbers.settle_dead()
        losses = numbers.losses()
        assert numbers.take() > max(took)
    assert losses.missing == 0
    # A killed process may have taken a number, and not said so.
    assert len(took) <= len(stored) + losses.lost <= len(took) + killed
    assert losses.lost == losses.lost_at_most
    assert len(set(stored) - set(took)) <= killed
    with Ledger(path, {"total": 50.0}, process="new") as money:
        spent, reserved = money.spent("total")
    assert paid - 1e-6 <= spent <= 50.0 + 1e-6
    assert reserved == pytest.approx(0.0, abs=1e-6)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("clock", ["walks", "jumps"])
def test_two_of_three_are_killed_and_one_ends_properly(tmp_path, clock):
    path = tmp_path / "log.db"
    gateways = {name: start_python(GATEWAY, path, name, clock) for name in "abc"}
    said: dict[str, list[str]] = {}
    try:
        said["a"] = _until(gateways["a"], 3_000)
        gateways["a"].kill()
        said["a"] += _rest(gateways["a"])
        with Sequences(path, process="looks") as numbers:
            numbers.settle_dead()  # the others run on
            assert numbers.lost() <= 3_000
        for name in "bc":
            said[name] = _until(gateways[name], 4_000)
        gateways["b"].kill()
        gateways["c"].terminate()
        for name in "bc":
            said[name] += _rest(gateways[name])
        assert gateways["c"].wait(30) == 0
    finally:
        for gateway in gateways.values():
            with gateway:
                gateway.kill()
    _check(path, said, killed=2)


def test_a_gateway_that_is_killed_again_and_again_goes_on_where_it_was(tmp_path):
    path = tmp_path / "log.db"
    said: dict[str, list[str]] = {}
    for life in range(5):
        with start_python(GATEWAY, path, f"life {life}", "walks") as gateway:
            said[str(life)] = _until(gateway, 200 + 300 * life)
            gateway.kill()
            said[str(life)] += _rest(gateway)
    _check(path, said, killed=5)


def test_a_budget_stays_spent_over_a_kill_and_a_restart(tmp_path):
    path = tmp_path / "log.db"
    script = """
import asyncio
from bisupervised.decision_log import Ledger
money = Ledger(sys.argv[1], {"total": 1.0}, process="a")
async def main():
    for _ in range(9):
        (await money.areserve(["total"], 0.1)).settle(0.1)
    await money.areserve(["total"], 0.1)
    print("spent", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""
    with start_python(script, path) as process:
        _until(process, 1)
        process.kill()
    with Ledger(path, {"total": 1.0}, process="b") as money:
        assert money.spent("total") == (pytest.approx(1.0), pytest.approx(0.0))
        with pytest.raises(BudgetExhausted):
            asyncio.run(money.areserve(["total"], 0.01))


def test_what_the_log_dropped_is_lost_as_well(tmp_path):
    """A buffer that was full counts its rows as dropped; their numbers are found at the end of the process."""
    path = tmp_path / "log.db"
    with Sequences(path, process="a") as numbers:
        log = DecisionLog(path, capacity=1, when_full="drop")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for outcome in locals_(50):
                log.write([outcome], ["x"], [details(numbers.take())])
            other.execute("COMMIT")
        log.close()
        dropped = log.counts().dropped
    assert dropped > 40
    with Sequences(path, process="b") as others:
        others.settle_dead()
        assert others.lost() == others.lost_at_most() == dropped
