"""The gateway is killed, stopped, out of disk, under a clock that jumps, and under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.faults_process import (
    NoSmallDisk,
    back_pressure,
    clock_jumps_back,
    disk_full,
    killed_under_load,
    slow_remote_calls,
    stopped_too_slow,
    stopped_under_load,
)

pytestmark = pytest.mark.slow


def test_kill_9_under_load_counts_the_gaps_and_its_reservations_stay_spent(tmp_path: Path) -> None:
    tally = killed_under_load(tmp_path)
    assert tally.lost > 0, "it was not killed under load"
    assert tally.answered > 0


def test_sigterm_under_load_finishes_what_is_in_flight_and_loses_nothing(tmp_path: Path) -> None:
    tally = stopped_under_load(tmp_path)
    assert sum(tally.turned_away.values()) + tally.unanswered == 32, "each worker met the end, and nobody sooner"
    assert tally.logged == tally.answered > 0


def test_what_outlasts_the_drain_is_cut_off_and_logged(tmp_path: Path) -> None:
    tally = stopped_too_slow(tmp_path)
    assert tally.logged == tally.unanswered == tally.calls


@pytest.mark.parametrize("when_full", ["drop", "refuse"])
def test_a_full_disk_loses_nothing_uncounted_and_the_gateway_goes_on_when_there_is_room(
    tmp_path: Path, when_full: str
) -> None:
    try:
        tally = disk_full(tmp_path, when_full)
    except NoSmallDisk as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    assert tally.turned_away.keys() == {"log_full"}
    assert (tally.lost > 0) == (when_full == "drop")


def test_a_clock_that_jumps_back_renews_no_budget_and_changes_no_order(tmp_path: Path) -> None:
    assert clock_jumps_back(tmp_path).rejected.keys() == {"budget_exhausted"}


def test_a_thousand_slow_remote_calls_do_not_hold_up_local_answers(tmp_path: Path) -> None:
    assert slow_remote_calls(tmp_path).calls == 1_000


def test_more_requests_than_may_run_are_turned_away_with_a_time_to_come_back(tmp_path: Path) -> None:
    tally = back_pressure(tmp_path)
    assert (tally.turned_away.keys(), tally.rejected.keys()) == ({"too_many_requests"}, {"remote_busy"})
    assert tally.answered == tally.calls == 12
