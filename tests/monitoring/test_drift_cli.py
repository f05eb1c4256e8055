"""`bisupervised drift`, as a person or a cron job runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.cli import main
from bisupervised.decision_log import DecisionLog, Details
from bisupervised.decision_log.audits import Audit, read_audits
from bisupervised.monitoring import drift
from bisupervised.report.drift_plots import save_drift_figure
from bisupervised.sources import write_table
from bisupervised.table import Table
from decision_log.making import local, queued
from monitoring.made import NAN, rows, thresholds_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    calibration = rows(1_500, 1)
    write_table(calibration, tmp_path / "calibration.csv")
    write_table(rows(1_200, 2), tmp_path / "same.csv")
    write_table(rows(1_200, 3, shift=1.0, worse=0.2, label_chance=np.full(1_200, 0.5)), tmp_path / "moved.csv")
    promise = {"promise": "", "guarantee": {"request_rate": 0.45, "cost": 0.5}, "delta": 0.1}
    thresholds = thresholds_of(calibration, evidence={"guarantee": promise})
    thresholds.save(tmp_path / "thresholds.toml")
    replace(thresholds, reference={}).save(tmp_path / "old.toml")
    return tmp_path


def run(folder: Path, source: str, *options: str, against: str = "thresholds.toml") -> int:
    return main(["drift", str(folder / source), "--against", str(folder / against), *options])


def test_nothing_moved_is_status_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "same.csv") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("No sign that the traffic has moved")
    assert "the alarm rings at 1200" in printed
    assert "taken for their time" in printed


def test_a_change_is_status_3_and_says_what_it_means_and_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = folder / "new" / "drift.svg"
    assert run(folder, "moved.csv", "--plot", str(figure)) == 3
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "has moved away",
        "a promise is broken",
        "The alarm first rang at row",
        "(id 3-",
        "calibrate RECENT",
    ):
        assert words in printed
    assert " nan" not in printed
    assert figure.read_text().startswith("<?xml")


def test_json_is_json_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "moved.csv", "--json", "--alpha", "0.001", "--max-risk", "0.1", "--label-share", "0.9") == 3
    values = json.loads(capsys.readouterr().out)
    assert values["moved"] is True
    assert values["alpha"] == 0.001
    questions = {one["question"]: one for one in values["findings"]}
    assert questions["risk_limit"]["verdict"] == "moved"
    assert questions["local_confidences"]["rang_time"] is None
    assert questions["risk_limit"]["rang_id"].startswith("3-")


def test_calibration_rows_stand_in_for_a_reference_that_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = ("--calibration", str(folder / "calibration.csv"))
    assert run(folder, "same.csv", against="old.toml") == 2
    assert "has no [reference]" in capsys.readouterr().err
    assert run(folder, "same.csv", *calibration, against="old.toml") == 0
    capsys.readouterr()
    assert run(folder, "same.csv", *calibration) == 2
    assert "leave out --calibration" in capsys.readouterr().err


def test_label_shares_come_from_a_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "moved.csv", "--label-share", "label_chance", "--json") == 3
    capsys.readouterr()
    assert run(folder, "moved.csv", "--label-share", "nowhere") == 2
    assert "no further column 'nowhere'" in capsys.readouterr().err


def test_audits_of_a_log_are_read_in_order(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.db") as log:
        log.write_audit(Audit("a", "support", "ham", True))
        log.write_audit(Audit("b", "support", None, None, error="timeout: 3 s"))
        log.write_audit(Audit("c", "support", "spam", False))
        log.write_audit(Audit("d", "other", "spam", False))
    ids, times, agrees = read_audits(tmp_path / "log.db", cascade="support")
    assert ids == ["a", "c"]
    assert agrees.tolist() == [1.0, 0.0]
    assert (np.diff(times) >= 0).all()
    assert [len(part) for part in read_audits(tmp_path / "log.db", cascade="nobody")] == [0, 0, 0]


def test_the_figure_is_drawn_for_any_confidences(tmp_path: Path) -> None:
    for seed, n in ((1, 1), (2, 40)):
        table = rows(n, seed)
        result = drift(table, thresholds_of(rows(n, seed + 10)))
        assert save_drift_figure(tmp_path / f"{n}.png", result).stat().st_size > 10_000
    missing = replace(table, local=replace(table.local, confidences=np.full(40, NAN)))
    result = drift(missing, thresholds_of(missing))
    assert save_drift_figure(tmp_path / "missing.png", result).stat().st_size > 10_000


def test_a_gateways_log_is_read_with_its_labels_and_audits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trusted answer has no remote prediction, a deferred one may have failed: what is known is asked, no more."""
    calibration = rows(1_000, 1)
    predictions = np.full(1_000, "ham", dtype=object)
    both = Table.from_columns(
        {**calibration.to_columns(), "local_prediction": predictions, "remote_prediction": predictions}
    )
    thresholds_of(both).save(tmp_path / "thresholds.toml")
    rng = np.random.default_rng(5)
    confidences = (0.5 + 0.5 * rng.random(600)).tolist()
    outcomes = [
        local(f"i{row}", local_confidence=c) if c >= 0.7 else queued(f"i{row}", local_confidence=c)
        for row, c in enumerate(confidences)
    ]
    with DecisionLog(tmp_path / "log.db") as log:
        for row, outcome in enumerate(outcomes):
            log.write([outcome], [f"input {row}"])
        for row in range(0, 600, 2):
            log.write_audit(Audit(f"i{row}", "support", "ham", bool(rng.random() < 0.5)))
        log.flush()
        log.label_many({f"i{row}": "ham" if rng.random() < confidences[row] else "spam" for row in range(0, 600, 3)})
    assert main(["drift", str(tmp_path / "log.db"), "--against", str(tmp_path / "thresholds.toml"), "--json"]) == 3
    values = json.loads(capsys.readouterr().out)
    found = {one["question"]: one for one in values["findings"]}
    moved = {name for name, one in found.items() if one["verdict"] == "moved"}
    assert moved == {"remote_confidences", "remote_missing", "disagreement"}, "the remote model failed; audits differ"
    assert found["request_rate"]["value"] == pytest.approx(0.4, abs=0.06)
    assert 100 < found["local_risk"]["rows"] < 140, (
        "every third accepted answer is labelled, and no rejected one counts"
    )
    assert found["disagreement"]["rang_time"] > 1.7e9
    assert found["disagreement"]["rang_id"].startswith("i")
    audited = sum(confidences[row] >= 0.7 for row in range(0, 600, 2))
    assert found["disagreement"]["rows"] == audited
    assert "order of their time" in values["order"]


def gateways_log(path: Path, n: int) -> None:
    """Rows of two cascades and two modes in turn, all of them accepted and audited; only what is observed differs."""
    with DecisionLog(path) as log:
        for row in range(n):
            cascade, mode = ("support", "search")[row % 2], ("enforce", "observe")[row // 2 % 2]
            one = Details(row, cascade, mode, "local", 200, None, None)
            log.write([local(f"i{row}", local_confidence=0.7 + 0.3 * (row * 0.618 % 1.0))], ["input"], [one])
            log.write_audit(Audit(f"i{row}", cascade, "ham", mode == "enforce"))


def test_of_several_cascades_and_modes_rows_and_audits_are_chosen_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = rows(1_000, 1)
    alike = np.full(1_000, "ham", dtype=object)
    columns = {**calibration.to_columns(), "local_prediction": alike, "remote_prediction": alike}
    thresholds_of(Table.from_columns(columns)).save(tmp_path / "thresholds.toml")
    gateways_log(tmp_path / "log.db", 800)

    def findings(*options: str) -> tuple[dict[str, Any], str]:
        against = ("--against", str(tmp_path / "thresholds.toml"))
        assert main(["drift", str(tmp_path / "log.db"), *against, "--json", *options]) == 3, "no row is deferred"
        values = json.loads(capsys.readouterr().out)
        return {one["question"]: one for one in values["findings"]}, " ".join(values["notes"])

    found, notes = findings()
    assert found["disagreement"]["rows"] == 800
    assert "of 2 cascades (search, support)" in notes
    assert "--cascade NAME" in notes
    found, notes = findings("--cascade", "support")
    assert found["disagreement"]["rows"] == 400
    assert found["disagreement"]["verdict"] == "moved"
    assert "cascades" not in notes
    found, notes = findings("--cascade", "support", "--mode", "enforce")
    assert found["disagreement"]["rows"] == 200
    assert found["disagreement"]["value"] == 0.0
    assert "Left out: 200 audits" in notes


def test_since_takes_rows_from_then_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = [f"2026-01-{1 + row // 50:02d}T00:00:00" for row in range(1_200)]
    write_table(rows(1_200, 2, time=np.array(times, dtype=object)), folder / "timed.csv")
    assert run(folder, "timed.csv", "--since", "2026-01-13", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["rows"] == 600
    assert "order of their time" in values["order"]
    assert run(folder, "timed.csv", "--since", "new year") == 2
    assert "ISO 8601" in capsys.readouterr().err
    assert run(folder, "same.csv", "--since", "0") == 2
    assert "no column time" in capsys.readouterr().err


def test_a_limit_on_the_abstention_and_promises_that_nothing_watches(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "same.csv", "--max-abstention", "0.01") == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("A limit is exceeded (abstention limit).")
    assert "cost: it is promised to be at most 0.5, and nothing here tests that" in printed
