"""What the gateway's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# Scenarios assert, too; their failures are to be explained like those of tests.
pytest.register_assert_rewrite(
    "gateway.faults", "gateway.faults_remote", "gateway.faults_streams", "gateway.faults_process"
)

from gateway.upstreams.handle import FaultyUpstream, faulty_upstream  # noqa: E402 - after what is to be rewritten


@pytest.fixture(scope="module")
def running_upstream() -> Iterator[FaultyUpstream]:
    """A model server that does as it is told, for a whole file; each has an `upstream` that resets it for a test."""
    with faulty_upstream() as upstream:
        yield upstream
