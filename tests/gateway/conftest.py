"""What the gateway's tests share."""

import pytest

# Scenarios assert, too; their failures are to be explained like those of tests.
pytest.register_assert_rewrite(
    "gateway.faults", "gateway.faults_remote", "gateway.faults_streams", "gateway.faults_process"
)
