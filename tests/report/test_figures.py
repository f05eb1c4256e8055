"""The dictionary that `evaluate --json` prints: complete, by the glossary's names, and JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bisupervised.assessment import Assessment, evaluate
from bisupervised.report.figures import evaluation_to_dict, json_safe
from report.assessments import columns, full, logged, unlabelled

INF = float("inf")
TOP = {
    "headline", "n", "n_labelled", "objective", "thresholds", "systems", "versus_remote_only", "supervised_versus",
    "auc_rac", "remote_even", "best", "captured_gain", "break_even_latency", "break_even_cost", "complementarity",
    "supervisors", "supervised_rows", "warnings", "notes", "judged_on", "thresholds_id", "target", "evidence",
    "achieved", "assumption",
}  # fmt: skip
SYSTEM = {
    "n", "n_labelled", "request_rate", "early_abstention", "system_accuracy", "coverage",
    "supervised_accuracy", "risk",
    "false_alarm_rate", "s_beta", "route_shares", "cost_per_input", "cost_per_correct_answer", "latency_s",
    "latency_s_by_route",
}  # fmt: skip
SUPERVISOR = {"auroc", "auroc_deferred", "aurc", "e_aurc", "augrc", "distinct", "missing", "failed"}


def round_trip(assessment: Assessment) -> dict[str, Any]:
    given = evaluation_to_dict(assessment)
    read: dict[str, Any] = json.loads(json.dumps(given, allow_nan=False))
    assert read == given
    return read


def test_every_figure_is_there() -> None:
    read = round_trip(full())
    assert read.keys() == TOP
    assert list(read["systems"]) == [
        "local_only",
        "remote_only",
        "bisupervised",
        "local_only_supervised",
        "remote_only_supervised",
    ]
    assert all(system.keys() == SYSTEM for system in read["systems"].values())
    assert all(supervisor.keys() == SUPERVISOR for supervisor in read["supervisors"].values())
    assert read["auc_rac"].keys() == {"value", "standard_error", "low", "high", "area", "area_gain"}
    assert read["systems"]["bisupervised"]["latency_s"]["p95"].keys() == {"value", "low", "high"}
    assert set(read["systems"]["bisupervised"]["latency_s_by_route"]) == {"local", "remote", "rejected"}


def test_figures_are_evaluations_own_in_natural_units() -> None:
    assessment = full()
    read, ours = round_trip(assessment), assessment.evaluation.systems["bisupervised"]
    shown = read["systems"]["bisupervised"]
    assert shown["request_rate"] == dict(ours.request_rate._asdict())
    assert shown["latency_s"]["mean"]["value"] == ours.latency.mean.value
    assert shown["risk"]["low"] == 1.0 - ours.supervised_accuracy.high
    thresholds = assessment.thresholds
    assert read["thresholds"] == {"local": thresholds.local, "remote": thresholds.remote, "abstain": "-inf"}
    assert read["evidence"]["seed"] == 0


def test_what_is_not_known_is_null() -> None:
    read = round_trip(unlabelled())
    assert read["auc_rac"] is read["remote_even"] is read["complementarity"] is None
    assert read["break_even_cost"] is None
    assert read["systems"]["bisupervised"]["system_accuracy"] == {"value": None, "low": None, "high": None}
    assert "remote_only" not in round_trip(logged())["systems"]


def test_infinite_thresholds_are_words() -> None:
    assert round_trip(evaluate(columns(), (-INF, INF)))["thresholds"] == {
        "local": "-inf", "remote": "inf", "abstain": "-inf"
    }  # fmt: skip


def test_an_evaluation_alone_has_no_headline_and_no_provenance() -> None:
    read = evaluation_to_dict(full().evaluation)
    assert read.keys() == TOP - {
        "headline", "judged_on", "thresholds_id", "target", "evidence", "achieved", "assumption",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.float64("nan"), None), (np.int64(3), 3), ((1.0, -INF), [1.0, "-inf"]), ({1: np.bool_(True)}, {"1": True})],
)
def test_json_safe(value: object, expected: object) -> None:
    assert json_safe(value) == expected
