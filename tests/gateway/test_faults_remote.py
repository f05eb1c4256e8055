"""The remote model's endpoint fails in every way that there is: real processes on loopback, every answer checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.faults import Stage, Tally
from gateway.faults_remote import (
    CASCADES,
    LOCAL_FAULTS,
    REMOTE_FAULTS,
    RemoteFault,
    breaker_opens_and_closes,
    bursts,
    local_fault,
    remote_fault,
    remote_refused,
    remote_stage,
    trusted_stream_cut,
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with remote_stage(tmp_path_factory.mktemp("remote")) as running:
        yield running


@pytest.mark.parametrize("fault", REMOTE_FAULTS, ids=lambda fault: fault.name)
def test_every_request_is_answered_falls_back_or_fails_with_a_typed_error(stage: Stage, fault: RemoteFault) -> None:
    tally = remote_fault(stage, fault)
    assert tally.logged == tally.sent
    assert not tally.turned_away
    if fault.whole is not None:
        assert tally.rejected, "nothing failed: the fault did not happen"
        assert tally.answered >= 2 * 4 * 2, "both fallbacks answer, on both routes, streamed and not"


def test_a_refused_connection_costs_nothing_and_is_a_typed_error(tmp_path: Path) -> None:
    tally = remote_refused(tmp_path)
    assert tally.calls == 0
    assert tally.rejected == {"remote_unreachable": (len(CASCADES) - 2) * 4 * 2}


@pytest.mark.parametrize("behaviour", LOCAL_FAULTS)
def test_the_remote_model_answers_where_the_local_one_fails(stage: Stage, behaviour: str) -> None:
    tally = local_fault(stage, behaviour)
    assert tally.answered == tally.calls == tally.sent


def test_a_trusted_local_stream_that_is_cut_ends_with_a_typed_error(stage: Stage) -> None:
    assert trusted_stream_cut(stage).calls == 0


@pytest.mark.slow
def test_failures_that_pass_are_tried_again_and_the_client_sees_none(stage: Stage) -> None:
    assert bursts(stage).rejected == {}


@pytest.mark.slow
def test_a_burst_of_failures_opens_the_breaker_and_one_call_closes_it_again(tmp_path: Path) -> None:
    tally: Tally = breaker_opens_and_closes(tmp_path)
    assert set(tally.rejected) == {"circuit_open", "remote_status", "remote_unreadable"}
