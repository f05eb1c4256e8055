"""A paid call is never left running: speculative ones, and those of clients that go away."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.faults_streams import LEAVINGS, clients_leave, many_leave, speculation_cancelled

pytestmark = pytest.mark.slow


def test_a_speculative_call_ends_when_the_local_answer_is_trusted_and_its_cost_is_bounded(tmp_path: Path) -> None:
    tally = speculation_cancelled(tmp_path)
    assert tally.calls == tally.answered == tally.sent, "no remote call was begun: nothing was cancelled"


def test_a_client_that_leaves_takes_its_calls_with_it_at_every_stage(tmp_path: Path) -> None:
    tally = clients_leave(tmp_path)
    assert tally.logged == tally.unanswered == 3 * len(LEAVINGS)


def test_five_thousand_clients_that_leave_mid_stream_are_each_logged_once_and_leave_nothing_open(
    tmp_path: Path,
) -> None:
    tally = many_leave(tmp_path)
    assert tally.logged == tally.calls == 5_000
