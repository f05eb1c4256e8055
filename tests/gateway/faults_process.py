"""The gateway's own process: killed, stopped, out of disk, under a clock that jumps, under load; see `faults.py`."""

from __future__ import annotations

import asyncio
import errno
import os
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway.callers import Answer, Ask, ask_all, ask_these, keep_asking
from gateway.faults import (
    LOCAL,
    REMOTE,
    TRUSTED,
    Stage,
    Tally,
    accounted,
    billed,
    checked,
    config,
    plain,
    said_by,
    settle,
    staged,
)
from gateway.running import wait_until
from gateway.serving import TESTS, Gateway, serving

#: What a load asks for, round and round.
MIXED = tuple(
    Ask(name, route, stream)
    for name in ("raise", "live", "prefix", "speculative", "observe")
    for route in ("chat", "completions")
    for stream in (False, True)
)


def mixed_config(local: str, remote: str, more: Sequence[Any] = (), **settings: Any) -> str:
    """A cascade for each way to answer, with a patient remote level."""
    patient = {"timeout_s": 30.0}
    return config(
        plain(local, remote, "raise", remote_options=patient),
        plain(local, remote, "live", remote_options=patient | {"quantifier": "constant"}),
        plain(local, remote, "prefix", remote_options=patient, streaming="prefix", prefix_tokens=2),
        plain(local, remote, "speculative", remote_options=patient, speculative=True),
        plain(local, remote, "observe", remote_options=patient, mode="observe"),
        *more,
        **settings,
    )


def audited_config(local: str, remote: str) -> str:
    """One cascade more, whose trusted local answers are all audited."""
    audited = plain(local, remote, "audited", audit_share=1.0)
    audited["local"] |= {"model_name": "sure"}
    return mixed_config(local, remote, more=(audited,))


async def _later(seconds: float, work: Callable[[], object]) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(work)


def under_load(
    gateway: Gateway, asks: Sequence[Ask], seconds: float, then: Callable[[], object], workers: int = 32
) -> list[Answer]:
    """Ask for a while, then do something that ends the gateway, and ask on until nobody answers."""
    return asyncio.run(keep_asking(gateway.url, asks, workers, lambda: _later(seconds, then)))


# ---------------------------------------------------------------- kill -9

CAP = 3.0  #: currency units a day; an answer costs .0022, and .02 are set aside before


def killed_under_load(folder: Path) -> Tally:
    """`kill -9` under load, and again on an exhausted budget: gaps are counted, what was set aside stays spent."""
    answers: list[Answer] = []
    with staged(folder, lambda local, remote: mixed_config(local, remote, daily_budget=CAP)) as stage:
        stage.remote.default(said_by(REMOTE, latency_s=0.05, delay_s=0.01))
        answers += under_load(stage.gateway, MIXED, 1.5, stage.gateway.kill)
        before, spent = stage.gateway.rows(), stage.gateway.set_aside()
        assert any(answer.came in ("reset", "cut") for answer in answers), "it was not under load"
        assert billed(stage.remote.state()) <= spent <= CAP
        text = (folder / "cascade.toml").read_text()
        with serving(folder, text) as gateway:
            assert gateway.set_aside() >= spent
            losses = gateway.stats()["losses"]
            assert losses["lost"] == losses["lost_at_most"]
            answers += _until_exhausted(gateway)
            newest = max(row["sequence"] for row in before)
            assert min(row["sequence"] for row in gateway.rows()[len(before) :]) > newest + losses["lost"] - 1
            assert spent < gateway.set_aside() <= CAP * (1 + 1e-9)
            settle(gateway, 0, 0)
            gateway.kill()
        with serving(folder, text) as gateway:
            answers += ask_all(gateway.url, MIXED)
            assert {answer.code for answer in answers[-len(MIXED) :]} == {"budget_exhausted"}
            rows = settle(gateway, 0, 0)
            lost = gateway.stats()["losses"]["lost"]
            assert gateway.set_aside() <= CAP * (1 + 1e-9)
        state = stage.remote.state()
        assert billed(state) <= CAP
        tally = checked("kill -9 under load, restarted twice", answers, rows, state, lost=lost, complete=False)
        assert tally.rejected.keys() == {"budget_exhausted"}
        return replace(tally, note=f"cap {CAP:g}, {billed(state):.2f} really spent")


def _until_exhausted(gateway: Gateway) -> list[Answer]:
    """Ask until the day's budget is spent, 40 rounds at most."""
    answers: list[Answer] = []
    for _ in range(40):
        answers += ask_all(gateway.url, MIXED * 5)
        if all(answer.code == "budget_exhausted" for answer in answers[-len(MIXED) :]):
            return answers
    raise AssertionError(f"the budget is not exhausted: {gateway.set_aside()} of {CAP}")


# ---------------------------------------------------------------- SIGTERM


def stopped_under_load(folder: Path) -> Tally:
    """SIGTERM under load: what is under way is finished and logged, what comes later is refused, the status is 0."""
    with staged(folder, audited_config) as stage:
        stage.local.models(sure=said_by(LOCAL, TRUSTED))
        stage.remote.default(said_by(REMOTE, latency_s=0.2, delay_s=0.05))
        statuses: list[int] = []
        asks = (*MIXED, *(Ask("audited", stream=stream) for stream in (False, True)))
        answers = under_load(stage.gateway, asks, 1.0, lambda: statuses.append(stage.gateway.end()))
        assert statuses == [0], stage.gateway.printed.read_text()
        assert Counter(answer.came for answer in answers)["cut"] == 0
        rows, audits, losses = stage.gateway.rows(), stage.gateway.audits(), stage.gateway.losses()
        assert (losses.lost, losses.lost_at_most, losses.missing) == (0, 0, 0)
        accepted = [answer for answer in answers if answer.id is not None]
        assert len(rows) == len(accepted), "a request without an answer was accepted"
        assert all(answer.answered for answer in accepted)
        assert abs(stage.gateway.set_aside() - accounted(rows, audits)) < 1e-6, "the ledger and the log disagree"
        assert len(audits) == sum(row["served"] == "local" for row in rows) > 0, "audits are finished, too"
        return checked("SIGTERM under load", answers, rows, stage.remote.state(), audits=audits, attempts=1)


def stopped_too_slow(folder: Path, n: int = 40) -> Tally:
    """SIGTERM with calls that outlast `drain_s`: they are cut off, and logged all the same."""
    with staged(folder, lambda local, remote: mixed_config(local, remote, drain_s=1.0)) as stage:
        stage.remote.default({"kind": "stall_head", "stall_s": 25.0})
        statuses: list[int] = []

        async def stop() -> list[Answer]:
            asking = asyncio.ensure_future(ask_these(stage.gateway.url, (MIXED * n)[:n]))
            await asyncio.to_thread(stage.remote.wait_for, lambda state: state.begun == n)
            statuses.append(await asyncio.to_thread(stage.gateway.end))
            return await asking

        began = time.monotonic()
        answers = asyncio.run(stop())
        assert statuses == [0], stage.gateway.printed.read_text()
        assert time.monotonic() - began < 10.0
        rows, losses = stage.gateway.rows(), stage.gateway.losses()
        assert (len(rows), losses.lost, losses.lost_at_most) == (n, 0, 0), losses
        assert all(row["remote_cost"] is None for row in rows)
        state = stage.remote.wait_for(lambda state: state.connections_open == 0)
        return checked("SIGTERM, calls longer than drain_s", answers, rows, state, complete=False)


# ---------------------------------------------------------------- a full disk


class NoSmallDisk(Exception):  # noqa: N818 - reads as what it is
    """A small file system cannot be mounted here."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        raise NoSmallDisk(mounted.stderr.decode().strip())
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def _fill(disk: Path) -> Path:
    """A file that takes all room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return ballast


def disk_full(folder: Path, when_full: str) -> Tally:
    """The disk under the log is full for a while: what can no longer be logged is counted lost, or not accepted."""
    settings = {"log": "disk/decisions.db", "log_capacity": 30, "when_log_full": when_full, "daily_budget": 5.0}
    with small_disk(folder) as disk, staged(folder, lambda a, b: mixed_config(a, b, **settings)) as stage:
        answers = ask_all(stage.gateway.url, MIXED)
        settle(stage.gateway, len(MIXED), 0)
        ballast = _fill(disk)
        full = ask_all(stage.gateway.url, MIXED * 25, at_once=1)
        assert {answer.code for answer in full} == {None, "log_full"}, Counter(answer.code for answer in full)
        assert full[-1].code == "log_full"
        ballast.unlink()
        wait_until(lambda: stage.gateway.gauge("log_pending"), lambda pending: pending == 0)
        again = ask_all(stage.gateway.url, MIXED, at_once=1)
        assert all(answer.answered for answer in again)
        answers += full + again
        lost = int(stage.gateway.gauge("log_dropped"))
        assert stage.gateway.end() == 0, stage.gateway.printed.read_text()
        assert (stage.gateway.losses().lost, stage.gateway.losses().lost_at_most) == (lost, lost)
        assert (lost == 0) == (when_full == "refuse"), lost
        assert billed(stage.remote.state()) <= stage.gateway.set_aside() * (1 + 1e-9)
        rows = stage.gateway.rows()
        return checked(f"disk full, {when_full}", answers, rows, stage.remote.state(), lost=lost)


# ---------------------------------------------------------------- a clock that jumps

#: Read by every Python process that has it on its path.
_CLOCK = '''\
"""The wall clock of this process is ahead by the seconds in a file."""
import os, time

_file = os.environ["CLOCK_AHEAD"]
_time, _time_ns = time.time, time.time_ns


def _ahead():
    with open(_file) as file:
        return float(file.read())


time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + round(_ahead() * 1e9)
'''
_DAY_S = 86_400.0


@contextmanager
def jumping_clock(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[float], None]]]:
    """An environment whose processes have a clock of their own, and what sets that ahead of the real one."""
    (folder / "clock").mkdir()
    (folder / "clock" / "sitecustomize.py").write_text(_CLOCK)
    ahead = folder / "ahead"

    def set_ahead(seconds: float) -> None:
        (folder / "next").write_text(str(seconds))
        os.replace(folder / "next", ahead)  # never half of it

    set_ahead(0.0)
    yield {"PYTHONPATH": f"{folder / 'clock'}:{TESTS}", "CLOCK_AHEAD": str(ahead)}, set_ahead


def clock_jumps_back(folder: Path) -> Tally:
    """The wall clock goes back by days: outcomes keep their order, no call lasts longer, no budget is renewed."""
    cap = 0.5
    with (
        jumping_clock(folder) as (env, set_ahead),
        staged(folder, lambda a, b: mixed_config(a, b, daily_budget=cap), env=env) as stage,
    ):
        stage.remote.default(said_by(REMOTE, latency_s=0.1))
        answers: list[Answer] = []
        for days in (0, -2, -1, -9):
            set_ahead(days * _DAY_S)
            answers += ask_all(stage.gateway.url, MIXED[:4], at_once=1)
        answers += asyncio.run(_ask_over_a_jump(stage, set_ahead))
        rows = settle(stage.gateway, len(answers), 0)
        assert [row["id"] for row in rows] == [answer.id for answer in answers], "the order is lost"
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        jumps = [later["time"] - earlier["time"] for earlier, later in pairwise(rows)]
        assert min(jumps) < -7 * _DAY_S, "the clock did not jump"
        assert all(0.0 < row["total_s"] < 10.0 for row in rows)
        assert all(answer.answered for answer in answers)
        stage.remote.default(said_by(REMOTE))
        answers += _exhaust(stage.gateway, cap)
        for days in (-20, -9):
            set_ahead(days * _DAY_S)
            time.sleep(1.1)  # an exhausted budget is asked about again
            answers += ask_all(stage.gateway.url, MIXED)
            assert {answer.code for answer in answers[-len(MIXED) :]} == {"budget_exhausted"}
        assert stage.gateway.end() == 0
        text = (folder / "cascade.toml").read_text()
        with serving(folder, text, env=env) as gateway:  # it starts on a day before the log's last
            late = ask_all(gateway.url, MIXED, at_once=1)
            assert "budget_exhausted" in {answer.code for answer in late}
            answers += late
            assert gateway.set_aside() <= cap * (1 + 1e-9)
            rows = settle(gateway, len(answers), 0)
        state = stage.remote.state()
        assert billed(state) <= cap
        return replace(
            checked("clock jumps back by days", answers, rows, state), note=f"cap {cap:g}, {billed(state):.2f} spent"
        )


async def _ask_over_a_jump(stage: Stage, set_ahead: Callable[[float], None]) -> list[Answer]:
    asking = asyncio.ensure_future(ask_these(stage.gateway.url, MIXED[:1]))
    await asyncio.sleep(0.05)
    set_ahead(-10 * _DAY_S)
    return await asking


def _exhaust(gateway: Gateway, cap: float) -> list[Answer]:
    answers: list[Answer] = []
    for _ in range(40):
        answers += ask_all(gateway.url, MIXED)
        if all(answer.code == "budget_exhausted" for answer in answers[-len(MIXED) :]):
            return answers
    raise AssertionError(f"the budget is not exhausted: {gateway.set_aside()} of {cap}")


# ---------------------------------------------------------------- load


def load_config(local: str, remote: str, **settings: Any) -> str:
    """`slow` asks the remote model, and `easy` answers with the local one."""
    easy = plain(local, remote, "easy")
    easy["local"] |= {"model_name": "sure"}
    return config(plain(local, remote, "slow", remote_options={"timeout_s": 30.0}), easy, **settings)


def slow_remote_calls(folder: Path, n: int = 1_000, wait_s: float = 10.0) -> Tally:
    """Calls of a slow remote model by the thousand do not hold up answers of the local one."""
    with staged(folder, load_config) as stage:
        stage.local.models(sure=said_by(LOCAL, TRUSTED))
        stage.remote.default(said_by(REMOTE, latency_s=wait_s))
        answers, idle, busy, memory = asyncio.run(_local_beside_slow(stage, n))
        rows = settle(stage.gateway, len(answers), 0)
        tally = checked(f"{n:,} remote calls of {wait_s:g} s", answers, rows, stage.remote.state(), attempts=1)
        assert tally.answered == tally.sent
        shown = (
            f"local answers: p50 {idle[0]:.1f} ms idle, {busy[0]:.1f} ms busy; p99 {idle[1]:.1f} ms, {busy[1]:.1f} ms"
        )
        assert busy[0] < 3.0 * idle[0] + 10.0, shown
        assert busy[1] < 3.0 * idle[1] + 50.0, shown
        assert memory < 400.0, memory
        return replace(tally, note=f"{shown}; memory {memory:.0f} MB")


async def _local_beside_slow(
    stage: Stage, n: int
) -> tuple[list[Answer], tuple[float, float], tuple[float, float], float]:
    url = stage.gateway.url
    idle = await ask_these(url, [Ask("easy")] * 300, at_once=1)
    asking = asyncio.ensure_future(ask_these(url, [Ask("slow", stream=k % 2 == 0) for k in range(n)], at_once=n))
    await asyncio.to_thread(stage.remote.wait_for, lambda state: state.begun == n, 30.0)
    busy = await ask_these(url, [Ask("easy")] * 300, at_once=1)
    assert not asking.done()
    memory = stage.gateway.memory_mb
    return [*idle, *await asking, *busy], _quantiles_ms(idle), _quantiles_ms(busy), memory


def _quantiles_ms(answers: Sequence[Answer]) -> tuple[float, float]:
    """p50 and p99."""
    seconds = sorted(answer.seconds for answer in answers)
    return statistics.median(seconds) * 1e3, seconds[int(0.99 * len(seconds))] * 1e3


def back_pressure(folder: Path) -> Tally:
    """More requests than may be in flight are turned away at once, and those that wait for the remote model, too."""
    options = {"timeout_s": 30.0, "max_concurrency": 4, "max_waiting": 4}

    def text(local: str, remote: str) -> str:
        return config(plain(local, remote, "slow", remote_options=options), max_concurrency=12)

    with staged(folder, text) as stage:
        stage.remote.default(said_by(REMOTE, latency_s=0.7))
        answers = ask_all(stage.gateway.url, [Ask("slow", stream=k % 2 == 0) for k in range(40)])
        codes = Counter(answer.code for answer in answers)
        # Who is told that the remote model is busy makes room for one more, who is told the same.
        assert codes.keys() == {None, "remote_busy", "too_many_requests"}, codes
        assert codes[None] == 8, codes
        assert codes["remote_busy"] >= 4, codes
        assert all(answer.headers.get("retry-after") == "1" for answer in answers if answer.code is not None)
        turned_away = [answer.seconds for answer in answers if answer.code == "too_many_requests"]
        assert max(turned_away) < 0.7, "they waited"
        answers += ask_all(stage.gateway.url, [Ask("slow")] * 4)
        assert [answer.code for answer in answers[-4:]] == [None] * 4
        rows = settle(stage.gateway, 12 + codes["remote_busy"], 0)
        assert {row["remote_cost"] for row in rows if row["status"] == 429} == {0.0}, (
            "what was not sent costs nothing"
        )
        return checked("back-pressure", answers, rows, stage.remote.state(), attempts=1)
