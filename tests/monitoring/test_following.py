"""A threshold that follows recorded rows: a proposal in a file, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bisupervised.calibration import Thresholds
from bisupervised.cli import main
from bisupervised.decision import accept
from bisupervised.errors import InputError
from bisupervised.monitoring import follow
from bisupervised.sources import write_table
from bisupervised.table import Table

OLD = Thresholds(
    0.9, 0.5, evidence={"guarantee": {"promise": "p"}, "data_sha256": "x", "seed": 3}, reference={"version": 1}
)


def rows(n: int = 4000, seed: int = 0) -> Table:
    """Right with the probability that the confidence says."""
    draw = np.random.default_rng(seed)
    local = draw.random(n)
    return Table.from_columns(
        {
            "id": [f"r{row}" for row in range(n)],
            "local_confidence": local,
            "local_correct": draw.random(n) < local,
            "remote_confidence": draw.random(n),
            "remote_correct": draw.random(n) < 0.9,
        }
    )


def test_the_errors_come_to_the_target_and_the_old_promise_is_gone() -> None:
    found = follow(rows(), OLD, target=0.05)
    assert abs(found.proposal.mean - 0.05) <= found.proposal.bound
    fresh = rows(seed=1)
    accepted = accept(fresh.local.confidences, found.thresholds.local)
    errors = (accepted & (fresh.correct("local") == 0.0)).mean()
    assert errors == pytest.approx(0.05, abs=0.02)
    assert "guarantee" not in found.thresholds.evidence
    assert "data_sha256" not in found.thresholds.evidence
    assert found.thresholds.evidence["adaptive"]["counted"] == 4000
    assert (found.thresholds.reference, found.thresholds.remote) == ({}, 0.5)
    assert found.thresholds.id != OLD.id


def test_requests_come_to_the_target_without_labels() -> None:
    table = replace(rows(), local_correct=np.full(4000, np.nan), remote_correct=np.full(4000, np.nan))
    found = follow(table, OLD, target=0.3, aim="request_rate")
    assert found.thresholds.local == pytest.approx(0.3, abs=0.1)
    with pytest.raises(InputError, match="no row has a label"):
        follow(table, OLD, target=0.3)


def test_rows_that_tell_nothing_are_refused() -> None:
    table = rows(50)
    for confidences, words in (
        (np.full(50, np.nan), "no row has a local confidence"),
        (np.ones(50), "cannot|no thres"),
    ):
        with pytest.raises(InputError, match=words):
            follow(replace(table, local=replace(table.local, confidences=confidences)), OLD, target=0.1)


def test_the_command_writes_a_proposal_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OLD.save(tmp_path / "thresholds.toml")
    before = (tmp_path / "thresholds.toml").read_bytes()
    write_table(rows(500), tmp_path / "rows.csv")
    out = tmp_path / "proposed.toml"
    command = ["adapt", str(tmp_path / "rows.csv"), "--against", str(tmp_path / "thresholds.toml"), "--out", str(out)]
    assert main([*command, "--error-share", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "No promise holds of it" in printed
    assert f"bisupervised mode CONFIG --thresholds {out}" in printed
    assert (tmp_path / "thresholds.toml").read_bytes() == before
    proposed = Thresholds.load(out)
    assert main([*command, "--error-share", "0.05", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == proposed.local
    with pytest.raises(SystemExit):
        main(command)
