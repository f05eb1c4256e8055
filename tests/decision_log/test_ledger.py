"""Budgets: never more than the cap, whoever spends and whatever happens to them."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.decision_log import Hold, Ledger, budgets, ledger
from bisupervised.errors import BudgetExhausted, InputError, LogError, LogFull
from decision_log.making import start_python

NAN = float("nan")
DAY_S = 86_400.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def commits(monkeypatch):
    """The transactions of all ledgers."""
    transaction, seen = ledger.transaction, []
    monkeypatch.setattr(ledger, "transaction", lambda connection: (seen.append(1), transaction(connection))[1])
    return seen


def reserve(money: Ledger, scopes: list[str], bound: float) -> Hold:
    return asyncio.run(money.areserve(scopes, bound))


def set_aside(path: Any, scope: str = "total") -> float:
    """What all processes have set aside on all days, durably."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT total(set_aside) FROM budgets WHERE scope = ?", (scope,)).fetchone()[0]


class TestReserving:
    def test_money_is_set_aside_durably_before_it_is_used(self, path):
        with Ledger(path, {"total": 100.0}, process="a") as money:
            assert money.reserve(["total"], 0.01) is None
            reserve(money, ["total"], 0.01)
            assert set_aside(path) == pytest.approx(0.5), "1/200 of the cap"
            held = 0.01
            while (hold := money.reserve(["total"], 0.01)) is not None:
                held += hold.bound
            assert held <= set_aside(path) + 1e-9
            assert held == pytest.approx(0.5, abs=0.02)
            reserve(money, ["total"], 0.01)
            assert set_aside(path) == pytest.approx(1.0, abs=0.02)

    def test_what_a_call_did_not_cost_comes_back(self, path):
        with Ledger(path, {"total": 1.0}, process="a") as money:
            for _ in range(50):
                reserve(money, ["total"], 0.5).settle(0.01)
            assert money.spent("total") == (pytest.approx(0.5), pytest.approx(set_aside(path) - 0.5))
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 0.6)
            reserve(money, ["total"], 0.5)

    def test_a_cost_that_is_not_known_is_the_bound(self, path):
        with Ledger(path, {"total": 1.0}, process="a") as money:
            hold = reserve(money, ["total"], 0.6)
            hold.settle(NAN)
            hold.settle(0.0)  # the first counts
            assert money.spent("total")[0] == 0.6
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 0.5)

    def test_a_call_that_cost_more_than_its_bound_counts_in_full(self, path):
        with Ledger(path, {"total": 1.0}, process="a") as money:
            reserve(money, ["total"], 0.1).settle(0.8)
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 0.3)
            reserve(money, ["total"], 0.2)

    def test_every_scope_must_have_room_and_none_is_charged_otherwise(self, path):
        caps = {"total": 10.0, "key:small": 0.2}
        with Ledger(path, caps, process="a") as money:
            reserve(money, ["total", "key:small"], 0.15).settle(0.15)
            with pytest.raises(BudgetExhausted, match=r"'key:small' of 0\.2 a day") as told:
                reserve(money, ["total", "key:small"], 0.15)
            assert (told.value.scope, told.value.cap) == ("key:small", 0.2)
            assert 0.0 < told.value.resets_in_s <= DAY_S
            assert money.spent("total")[0] == 0.15
            reserve(money, ["total"], 9.85)

    def test_exactly_the_cap_can_be_spent(self, path):
        with Ledger(path, {"total": 1.0}, process="a") as money:
            for _ in range(10):
                reserve(money, ["total"], 0.1).settle(0.1)
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 1e-6)
            reserve(money, ["total"], 0.0).settle(0.0)

    def test_a_cap_of_nothing_lets_only_free_calls_through(self, path):
        with Ledger(path, {"total": 0.0}, process="a") as money:
            reserve(money, ["total"], 0.0).settle(0.0)
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 1e-9)

    def test_without_a_cap_it_is_accounted_and_blocks_grow(self, path, monkeypatch):
        written: list[float] = []
        write = budgets.write
        monkeypatch.setattr(budgets, "write", lambda c, row: (written.append(row.set_aside), write(c, row)))
        with Ledger(path, {}, process="a") as money:
            for _ in range(3_000):
                hold = money.reserve(["cascade:x"], 0.01) or reserve(money, ["cascade:x"], 0.01)
                hold.settle(0.01)
            assert money.spent("cascade:x")[0] == pytest.approx(30.0)
            assert len(written) < 20

    def test_an_exhausted_budget_is_not_asked_about_all_the_time(self, path, monkeypatch):
        asked: list[str] = []
        ask = budgets.set_aside_by_all
        monkeypatch.setattr(budgets, "set_aside_by_all", lambda *a: (asked.append(a[2]), ask(*a))[1])
        with Ledger(path, {"total": 1.0}, process="a") as money, Ledger(path, {"total": 1.0}, process="b") as other:
            held = reserve(other, ["total"], 0.9)
            for _ in range(20):
                with pytest.raises(BudgetExhausted):
                    reserve(money, ["total"], 0.5)
            assert len(asked) == 2
            held.settle(0.0)
            other.close()
            monkeypatch.setattr(ledger, "AGAIN_S", 0.0)
            reserve(money, ["total"], 0.5)

    def test_a_request_that_goes_away_while_it_waits_gives_its_money_back(self, path):
        async def run() -> None:
            task = asyncio.create_task(money.areserve(["total"], 0.7))
            await asyncio.sleep(0.05)
            assert not task.done()
            task.cancel()
            other.execute("COMMIT")
            with pytest.raises(asyncio.CancelledError):
                await task
            (await money.areserve(["total"], 0.7)).settle(0.7)

        with (
            Ledger(path, {"total": 1.0}, process="a") as money,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            asyncio.run(run())
            assert money.spent("total")[0] == 0.7

    def test_many_at_once_share_a_commit(self, path, commits):
        async def run(money: Ledger) -> list[Hold]:
            return await asyncio.gather(*(money.areserve(["total"], 0.01) for _ in range(500)))

        with Ledger(path, {"total": 100.0}, process="a") as money:
            commits.clear()
            holds = asyncio.run(run(money))
            assert sum(hold.bound for hold in holds) == pytest.approx(5.0)
            assert 5.0 - 1e-9 <= set_aside(path) <= 6.0
            assert len(commits) < 10

    def test_of_many_at_once_as_many_are_let_through_as_there_is_money_for(self, path):
        async def run(money: Ledger) -> list[Any]:
            waiting = (money.areserve(["total", f"key:{k % 2}"], 0.1) for k in range(50))
            return await asyncio.gather(*waiting, return_exceptions=True)

        with Ledger(path, {"total": 2.0, "key:1": 0.5}, process="a") as money:
            held = [one for one in asyncio.run(run(money)) if isinstance(one, Hold)]
            assert len(held) == 20
            assert money.spent("key:1")[1] == pytest.approx(0.5, abs=0.01)
            for one in held:
                one.settle(0.05)
            assert (money.spent("total")[0], money.spent("key:1")[0]) == (pytest.approx(1.0), pytest.approx(0.25))

    def test_money_that_is_not_needed_goes_back_to_the_others(self, path, monkeypatch):
        monkeypatch.setattr(ledger, "RETURN_S", 0.02)
        with Ledger(path, {"total": 1.0}, process="a") as one, Ledger(path, {"total": 1.0}, process="b") as other:
            for hold in [reserve(one, ["total"], 0.1) for _ in range(9)]:
                hold.settle(0.01)
            for _ in range(1_000):
                if set_aside(path) < 0.5:
                    break
                threading.Event().wait(0.005)
            assert set_aside(path) == pytest.approx(0.09 + 0.1), "what was spent, and a block"
            reserve(other, ["total"], 0.8)
            reserve(one, ["total"], 0.1)
            with pytest.raises(BudgetExhausted):
                reserve(one, ["total"], 0.1)

    def test_others_hear_of_what_was_spent_though_no_block_is_fetched(self, path, monkeypatch):
        monkeypatch.setattr(ledger, "RETURN_S", 0.02)
        with Ledger(path, {"total": 100.0}, process="a") as one, Ledger(path, {}, process="b") as other:
            reserve(one, ["total"], 0.1).settle(0.1)
            for _ in range(1_000):
                if other.spent("total")[0]:
                    break
                threading.Event().wait(0.005)
            assert other.spent("total") == (0.1, pytest.approx(0.4))

    def test_money_that_is_in_use_now_and_then_stays(self, path, monkeypatch, commits):
        monkeypatch.setattr(ledger, "RETURN_S", 0.2)
        with Ledger(path, {"total": 100.0}, process="a") as money:
            for hold in [reserve(money, ["total"], 1.0) for _ in range(20)]:
                hold.settle(0.0)
            commits.clear()
            for _ in range(10):
                holds = [money.reserve(["total"], 1.0) for _ in range(20)]
                assert all(holds)
                threading.Event().wait(0.05)
                for hold in holds:
                    hold.settle(0.0)
            assert commits == []

    def test_money_that_could_not_be_returned_can_be_used(self, path, monkeypatch):
        monkeypatch.setattr(ledger, "RETURN_S", 0.02)
        with Ledger(path, {"total": 1.0}, process="a") as money:
            holds = [reserve(money, ["total"], 0.1) for _ in range(9)]
            money._connection.execute("PRAGMA query_only = 1")
            for hold in holds:
                hold.settle(0.0)
            threading.Event().wait(0.1)
            for _ in range(200):  # while it tries to, the money is not there, for a moment
                if (hold := money.reserve(["total"], 0.85)) is not None:
                    break
                threading.Event().wait(0.005)
            assert hold is not None
            assert set_aside(path) == pytest.approx(0.9)
            money._connection.execute("PRAGMA query_only = 0")

    @pytest.mark.parametrize("bound", [-1.0, math.inf])
    def test_a_bound_is_a_number(self, path, bound):
        with Ledger(path, {}, process="a") as money, pytest.raises(InputError, match="a bound is a number"):
            money.reserve(["total"], bound)

    def test_a_bound_that_is_not_known_says_what_to_do(self, path):
        with Ledger(path, {"total": 1.0}, process="a") as money:
            for use in (money.reserve, lambda *given: reserve(money, *given)):
                with pytest.raises(InputError, match="a cap needs prices"):
                    use(["total"], NAN)

    @pytest.mark.parametrize("cost", [-0.1, math.inf])
    def test_a_cost_is_a_number(self, path, cost):
        with Ledger(path, {}, process="a") as money:
            hold = reserve(money, ["total"], 1.0)
            with pytest.raises(InputError, match="a cost is a number"):
                hold.settle(cost)
            hold.settle(0.5)
            assert money.spent("total")[0] == 0.5

    def test_a_scope_counts_once(self, path):
        with Ledger(path, {}, process="a") as money, pytest.raises(InputError, match="counts once"):
            reserve(money, ["total", "total"], 1.0)

    @pytest.mark.parametrize("cap", [-1.0, NAN, math.inf])
    def test_a_cap_is_a_number(self, path, cap):
        with pytest.raises(InputError, match="leave out a scope that has none"):
            Ledger(path, {"total": cap}, process="a")


class TestTheEnd:
    def test_closing_returns_what_is_not_used(self, path):
        with Ledger(path, {"total": 100.0}, process="a") as money:
            reserve(money, ["total"], 0.1).settle(0.04)
            reserve(money, ["total"], 0.1)  # still runs
        assert set_aside(path) == pytest.approx(0.14)
        with Ledger(path, {"total": 100.0}, process="b") as money:
            assert money.spent("total") == (pytest.approx(0.14), pytest.approx(0.0))
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 99.9)
            reserve(money, ["total"], 99.8)

    def test_a_closed_one_gives_nothing(self, path):
        money = Ledger(path, {"total": 100.0}, process="a")
        hold = reserve(money, ["total"], 0.1)
        money.close()
        money.close()
        assert money.reserve(["total"], 0.1) is None
        with pytest.raises(LogError, match="closed"):
            reserve(money, ["total"], 0.1)
        hold.settle(0.0)  # late: what it held was written as spent
        assert set_aside(path) == pytest.approx(0.1)

    def test_a_program_that_ends_without_closing_it_returns_what_is_left(self, path):
        script = """
import asyncio
from bisupervised.decision_log import Ledger
money = Ledger(sys.argv[1], {"total": 100.0}, process="a")
asyncio.run(money.areserve(["total"], 0.1)).settle(0.05)
"""
        with start_python(script, path) as process:
            assert process.wait(30) == 0
        assert set_aside(path) == pytest.approx(0.05)

    def test_a_forked_child_is_told_to_open_its_own(self, path):
        script = """
import asyncio, os
from bisupervised.decision_log import Ledger
from bisupervised.errors import LogError
money = Ledger(sys.argv[1], {"total": 100.0}, process="a")
asyncio.run(money.areserve(["total"], 0.1))
if os.fork() == 0:
    assert money.reserve(["total"], 0.1) is None
    try:
        asyncio.run(money.areserve(["total"], 0.1))
    except LogError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
assert money.reserve(["total"], 0.1) is not None
"""
        with start_python(script, path) as process:
            assert "opened before this process was forked" in process.communicate(timeout=30)[0]
            assert process.returncode == 0


class TestDays:
    def test_a_new_day_is_a_new_budget_and_the_old_one_stays_as_it_was(self, path):
        now = [100 * DAY_S + 5.0]
        with Ledger(path, {"total": 1.0}, process="a", clock=lambda: now[0]) as money:
            reserve(money, ["total"], 0.8).settle(0.8)
            late = reserve(money, ["total"], 0.2)
            with pytest.raises(BudgetExhausted) as told:
                reserve(money, ["total"], 0.1)
            assert told.value.resets_in_s == DAY_S - 5.0
            now[0] = 101 * DAY_S
            assert money.reserve(["total"], 0.0) is None, "not of yesterday's block"
            reserve(money, ["total"], 0.9).settle(0.5)
            late.settle(0.1)  # began yesterday
            reserve(money, ["total"], 0.4).settle(0.0)
            assert money.spent("total", day=100) == (pytest.approx(0.9), pytest.approx(0.1))
            assert money.spent("total")[0] == 0.5
        with Ledger(path, {}, process="b", clock=lambda: now[0]) as money:
            assert money.spent("total", day=100) == (pytest.approx(0.9), 0.0)
            assert money.spent("total", day=101) == (pytest.approx(0.5), 0.0)
            assert money.spent("total", day=7) == (0.0, 0.0)

    def test_a_clock_that_jumps_back_gives_no_second_budget(self, path):
        now = [100 * DAY_S]
        with Ledger(path, {"total": 1.0}, process="a", clock=lambda: now[0]) as money:
            reserve(money, ["total"], 1.0).settle(1.0)
            now[0] = 90 * DAY_S
            with pytest.raises(BudgetExhausted, match="seen a later day than the clock shows") as told:
                reserve(money, ["total"], 0.5)
            assert told.value.resets_in_s == 11 * DAY_S
            assert money.spent("total") == (1.0, 0.0)

    def test_a_process_that_starts_with_a_clock_behind_finds_the_newest_day(self, path):
        with Ledger(path, {"total": 1.0}, process="a", clock=lambda: 100 * DAY_S) as money:
            reserve(money, ["total"], 0.8).settle(0.8)
            with Ledger(path, {"total": 1.0}, process="b", clock=lambda: 99 * DAY_S) as behind:
                with pytest.raises(BudgetExhausted):
                    reserve(behind, ["total"], 0.5)
                assert sum(behind.spent("total")) == 0.8

    def test_a_process_whose_clock_is_behind_follows_one_that_is_ahead(self, path):
        with (
            Ledger(path, {"total": 1.0}, process="a", clock=lambda: 100 * DAY_S - 1) as behind,
            Ledger(path, {"total": 1.0}, process="b", clock=lambda: 100 * DAY_S) as ahead,
        ):
            reserve(behind, ["total"], 0.6).settle(0.6)
            reserve(ahead, ["total"], 0.6).settle(0.6)
            with pytest.raises(BudgetExhausted):
                reserve(behind, ["total"], 0.5)


class TestAFullDisk:
    def test_nothing_is_set_aside_that_is_not_written(self, path):
        with Ledger(path, {"total": 100.0}, process="a") as money:
            reserve(money, ["total"], 0.5).settle(0.5)
            money._connection.execute("PRAGMA max_page_count = 1")
            before = set_aside(path)
            scopes = ["total", *(f"key:{'x' * 200}{k}" for k in range(100))]
            for _ in range(2):
                with pytest.raises(LogFull, match=r"no space left .* no paid call"):
                    reserve(money, scopes, 0.5)
            assert money.reserve(scopes, 0.5) is None
            assert set_aside(path) == before
            money._connection.execute("PRAGMA max_page_count = 100000")
            reserve(money, scopes, 0.5).settle(0.25)
            assert money.spent("total")[0] == 0.75
        assert set_aside(path) == 0.75

    def test_an_end_that_cannot_be_written_leaves_the_block_spent(self, path):
        money = Ledger(path, {"total": 100.0}, process="a")
        reserve(money, ["total"], 0.1).settle(0.1)
        money._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(LogError):
            money.close()
        with Ledger(path, {"total": 100.0}, process="b") as money:
            assert money.spent("total") == (0.5, 0.0)


SPENDER = """
import asyncio, random
from bisupervised.decision_log import Ledger
from bisupervised.errors import BudgetExhausted
money = Ledger(sys.argv[1], {"total": 2.0, "key:a": 5.0}, process=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
spent = 0.0
async def spend():
    global spent
    while True:
        bound = random.choice((0.001, 0.01))
        hold = money.reserve(["total", "key:a"], bound) or await money.areserve(["total", "key:a"], bound)
        await asyncio.sleep(0.0005)
        cost = random.choice((0.0, bound / 2, bound))
        hold.settle(cost)
        spent += cost
async def main():
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(spend())
    except* BudgetExhausted:
        pass
asyncio.run(main())
print(spent, flush=True)
if sys.argv[3] == "stay":
    sys.stdin.read()
money.close()
"""


class TestProcesses:
    def test_together_they_spend_no_more_than_the_cap_and_nearly_all_of_it(self, path):
        processes = [start_python(SPENDER, path, name, "close") for name in "abc"]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        spent = []
        for process in processes:
            with process:
                spent.append(float(process.communicate(timeout=60)[0]))
                assert process.returncode == 0
        assert sum(spent) <= 2.0 + 1e-9
        # Left over are calls that were cancelled when one of their process's was refused, and blocks in use then.
        assert sum(spent) > 1.4
        assert sum(value > 0.1 for value in spent) >= 2
        with Ledger(path, {}, process="b") as money:
            total, reserved = money.spent("total")
        assert sum(spent) - 1e-9 <= total <= 2.0 + 1e-9
        assert reserved == pytest.approx(0.0, abs=1e-9)

    def test_after_kill_9_the_whole_block_stays_spent(self, path):
        with start_python(SPENDER, path, "killed", "stay") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            spent = float(process.stdout.readline())
            aside = set_aside(path)
            with Ledger(path, {"total": 2.0}, process="b") as money:
                assert money.settle_dead() == 0, "it lives"
                assert sum(money.spent("total")) == pytest.approx(aside)
                with pytest.raises(BudgetExhausted):
                    reserve(money, ["total"], 0.5)
            process.kill()
        assert spent <= aside <= 2.0 + 1e-9
        with Ledger(path, {"total": 2.0}, process="c") as money:
            assert money.spent("total") == (pytest.approx(aside), pytest.approx(0.0))
            assert money.settle_dead() == 0, "it was counted when the ledger was opened"
            with pytest.raises(BudgetExhausted):
                reserve(money, ["total"], 0.5)

    def test_the_block_of_a_process_whose_file_is_gone_counts_all_the_same(self, path):
        with Ledger(path, {"total": 1.0}, process="a") as money:
            reserve(money, ["total"], 1.0)
            next(Path(f"{path}-alive").iterdir()).unlink()
            with Ledger(path, {"total": 1.0}, process="b") as other:
                assert other.spent("total") == (0.0, 1.0), "nobody can tell whether it lives"
                with pytest.raises(BudgetExhausted):
                    reserve(other, ["total"], 0.5)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 1), st.sampled_from([0.0, 0.001, 0.03, 0.4])),
        st.tuples(st.just("settle"), st.integers(0, 50), st.sampled_from([0.0, 0.3, 1.0, NAN])),
        st.tuples(st.just("reopen"), st.integers(0, 1), st.just(0.0)),
        st.tuples(st.just("day"), st.integers(-2, 1), st.just(0.0)),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(actions)
def test_whatever_happens_no_days_cap_is_exceeded_and_all_that_was_spent_is_counted(some):
    caps, now, newest = {"total": 1.0, "key:a": 0.5}, [100], [100]
    open_, spent = [], {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.db")

        def new() -> Ledger:
            return Ledger(path, caps, process="x", clock=lambda: now[0] * DAY_S)

        both = [new(), new()]
        for action, which, amount in some:
            if action == "reserve":
                newest[0] = max(newest[0], now[0])
                try:
                    hold = both[which].reserve(["total", "key:a"], amount)
                    hold = hold or reserve(both[which], ["total", "key:a"], amount)
                    open_.append((hold, both[which]._day))
                except BudgetExhausted:
                    pass
            elif action == "settle" and open_:
                hold, day = open_.pop(which % len(open_))
                hold.settle(amount * hold.bound)
                cost = hold.bound if math.isnan(amount) else amount * hold.bound
                spent[day] = spent.get(day, 0.0) + cost
            elif action == "reopen":
                mine = [pair for pair in open_ if pair[0]._lock is both[which]._lock]
                for hold, day in mine:  # a hold that is never settled stays spent
                    spent[day] = spent.get(day, 0.0) + hold.bound
                    open_.remove((hold, day))
                both[which].close()
                both[which] = new()
            elif action == "day":
                now[0] += which
        for hold, day in open_:
            spent[day] = spent.get(day, 0.0) + hold.bound
        for money in both:
            money.close()
        with new() as money:
            for day, total in spent.items():
                for scope in caps:
                    assert money.spent(scope, day) == (pytest.approx(total), pytest.approx(0.0))
                assert total <= 0.5 + 1e-9
            assert all(day <= newest[0] for day in spent)


def test_threads_share_a_ledger(path):
    def spend() -> None:
        for _ in range(200):
            (money.reserve(["total"], 0.01) or reserve(money, ["total"], 0.01)).settle(0.01)

    with Ledger(path, {"total": 100.0}, process="a") as money:
        threads = [threading.Thread(target=spend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert money.spent("total")[0] == pytest.approx(8.0)
