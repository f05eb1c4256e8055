"""The loader, the rules and the report on a small imitation of the authors' files."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bisupervised.decision import accept
from bisupervised.errors import TableError
from bisupervised.studies.paper import (
    PAPER_COLUMNS,
    PaperRow,
    latency_table,
    load_paper_study,
    load_published,
    paper_table,
    with_published_only,
    write_paper_csv,
)
from bisupervised.studies.paper_report import (
    compare_with_published,
    draw_paper_figures,
    figure_data,
    paper_report,
    row_difference,
    study_lines,
)
from bisupervised.studies.paper_rules import (
    OURS,
    PAPER,
    PairedRows,
    assess_alone,
    assess_system,
    evaluation_points,
    remote_threshold,
)

_SPEC = importlib.util.spec_from_file_location(
    "paper_tables_benchmark", Path(__file__).parents[2] / "benchmarks" / "paper_tables.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

ISSUES = PaperRow("Issues", 0.01, "0.30 (default)", 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)


# ---------------------------------------------------------------- loading


def test_loads_the_four_studies_under_their_published_names(imitation: Path) -> None:
    studies = load_paper_study(imitation)

    assert [s.name for s in studies] == ["imdb", "ImageNet", "SQuADv2 (possible only)", "SQuADv2 (all)"]
    assert [s.objective for s in studies] == ["accuracy", "accuracy", "exact_match", "exact_match"]
    assert len(studies[0]) == len(studies[1]) == len(studies[3]) == 60


def test_possible_only_keeps_the_possible_questions(imitation: Path) -> None:
    _, _, possible, everything = load_paper_study(imitation)

    mask = np.asarray(everything.table.extra["is_possible"], dtype=bool)
    assert 0 < len(possible) == mask.sum() < 60
    assert np.array_equal(possible.table.ids, everything.table.ids[mask])


def test_rows_are_joined_by_id_and_not_by_position(imitation: Path) -> None:
    squad = load_paper_study(imitation)[3]
    lines = (imitation / "squadv2_remote.csv").read_text().splitlines()[1:]
    recorded = {line.split(",")[0]: float(line.split(",")[3]) for line in lines}

    assert [recorded[key] for key in squad.table.ids] == squad.table.remote.confidences.tolist()
    assert list(recorded) != squad.table.ids.tolist()


def test_unreadable_replies_are_failures_with_a_note(imitation: Path) -> None:
    imdb = load_paper_study(imitation)[0]

    assert np.flatnonzero(imdb.remote_failed).tolist() == [3, 17, 40]
    assert np.isnan(imdb.table.remote.confidences[[3, 17, 40]]).all()
    assert imdb.table.remote.predictions[3] is None
    assert imdb.rows(PAPER).remote_confidence[[3, 17, 40]].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(imdb.rows(OURS).remote_confidence[[3, 17, 40]]).all()
    assert imdb.notes[0].startswith("3 of 60 remote replies could not be read")


def test_latency_adds_the_supervisor_where_it_was_recorded(imitation: Path) -> None:
    imdb, _, _, squad = load_paper_study(imitation)

    assert np.allclose(imdb.latency_s[0], imdb.table.local.latency_s + 0.5)
    assert np.array_equal(squad.latency_s[0], squad.table.local.latency_s)


def test_a_copy_of_the_authors_repository_can_be_given(imitation: Path, tmp_path: Path) -> None:
    package = tmp_path / "package" / "generated"
    (package / "results").mkdir(parents=True)
    shutil.copytree(imitation, package / "predictions_and_uncertainties")
    write_paper_csv(package / "results" / "rq2_table.csv", [ISSUES])

    assert len(load_paper_study(package.parent)) == 4
    assert load_published(package.parent) == [ISSUES]
    assert load_published(package / "predictions_and_uncertainties") == [ISSUES]


@pytest.mark.parametrize("name", ["imdb_local.csv", "imagenet_remote.csv", "squadv2_local.csv"])
def test_a_missing_file_is_named_with_where_to_get_it(imitation: Path, name: str) -> None:
    (imitation / name).unlink()

    with pytest.raises(TableError, match=f"no {name} in .*testingautomated-usi/bisupervised.*generated/"):
        load_paper_study(imitation)


def test_a_missing_published_table_is_named(imitation: Path) -> None:
    with pytest.raises(TableError, match=r"no rq2_table\.csv"):
        load_published(imitation)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("id,prediction\n1,0\n", "lacks confidence, latency_s, prediction and ground_truth"),
        ("id,exact_match,sm_confidence,pred_time\n1,yes,0.5,1\n", "column exact_match"),
        ("id,exact_match,sm_confidence,pred_time\n1,True,high,1\n", "column sm_confidence"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(imitation: Path, text: str, message: str) -> None:
    (imitation / "imdb_local.csv").write_text(text)

    with pytest.raises(TableError, match=message) as raised:
        load_paper_study(imitation)
    assert "imdb_local.csv" in str(raised.value)


@pytest.mark.parametrize(("text", "message"), [("a,b\n", "columns"), (f"{','.join(PAPER_COLUMNS)}\nimdb,x\n", "row")])
def test_a_broken_published_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rq2_table.csv").write_text(text)

    with pytest.raises(TableError, match=message):
        load_published(tmp_path)


# ---------------------------------------------------------------- rules


def _random_rows(seed: int, decimals: int = 1, n: int = 70) -> PairedRows:
    rng = np.random.default_rng(seed)
    local, remote = rng.random(n).round(decimals), rng.random(n).round(decimals)
    return PairedRows(local, rng.random(n) < local, remote, rng.random(n) < 0.4 + remote / 2)


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("seed", range(8))
def test_the_paper_rules_are_the_plain_loops_also_with_ties(seed: int, decimals: int) -> None:
    rows = _random_rows(seed, decimals)
    targets = (0.0, 0.01, 0.05, 0.1, 0.5, 0.95, 1.0)

    points = evaluation_points(rows, ("remote-even", "best", 0.3), 50)
    assert [p.request_rate for p in points] == plain.operating_points(rows, ("remote-even", "best", 0.3), 50)
    for point in points:
        ours = assess_system(rows, point.local_threshold, targets, PAPER)
        theirs = [plain.cascade(rows, point.request_rate, target) for target in targets]
        np.testing.assert_array_equal([a if a else (np.nan,) * 3 for a in ours], theirs)
    ours = assess_alone(rows.remote_confidence, rows.remote_correct, targets, PAPER)
    theirs = [plain.alone(rows.remote_confidence, rows.remote_correct, target) for target in targets]
    np.testing.assert_array_equal([a[1:] if a else (np.nan,) * 2 for a in ours], theirs)


@pytest.mark.parametrize("seed", range(5))
def test_default_rules_keep_the_false_alarm_target_at_every_point(seed: int) -> None:
    rows = _random_rows(seed)
    for point in evaluation_points(rows, ("remote-even", "best", 0.5), None):
        deferred = ~accept(rows.local_confidence, point.local_threshold)
        confidence, correct = rows.remote_confidence[deferred], rows.remote_correct[deferred]
        total = int(correct.sum() + rows.local_correct[~deferred].sum())
        threshold = remote_threshold(confidence, correct, 0.1, total, OURS)

        assert threshold is not None
        assert (correct & ~accept(confidence, threshold)).sum() <= 0.1 * total


def test_infeasible_targets_are_said_so() -> None:
    confidence, correct = np.array([0.5, 0.5, 0.5]), np.array([True, True, False])

    assert remote_threshold(confidence, correct, 0.5, 2, PAPER) is None
    assert remote_threshold(confidence, np.zeros(3, dtype=bool), 0.5, 0, PAPER) is None
    assert assess_alone(confidence, correct, [0.5], PAPER) == [None]
    assert assess_system(PairedRows(confidence, correct, confidence, correct), 0.9, [0.5], PAPER) == [None]


def test_a_failed_reply_is_never_a_threshold() -> None:
    confidence = np.array([np.nan, 0.2, 0.6])
    correct = np.array([False, True, True])

    assert remote_threshold(confidence, correct, 0.5, 2, PAPER) == 0.6
    assert remote_threshold(confidence, correct, 0.0, 2, PAPER) == 0.2


def test_where_both_points_coincide_the_best_stays() -> None:
    rows = PairedRows(np.array([0.1, 0.9]), np.array([False, True]), np.ones(2), np.array([True, False]))

    rows = replace(rows, remote_correct=np.array([True, True]))
    assert [p.name for p in evaluation_points(rows, ("remote-even", "best"), None)] == ["best"]
    assert [p.name for p in evaluation_points(rows, ("remote-even", "best"), 2)] == ["best"]


def test_the_last_grid_point_keeps_the_most_confident_input_local() -> None:
    rows = PairedRows(np.array([0.1, 0.9]), np.array([False, False]), np.ones(2), np.array([True, True]))

    assert rows.on_grid(2)[1][-1] == 0.5
    assert rows.curve.remote_only == 1.0


# ---------------------------------------------------------------- tables and report


def test_imitation_tables_equal_the_plain_loops(imitation: Path) -> None:
    for study in load_paper_study(imitation):
        assert_rows = [[x for x in row.numbers if x is not None] for row in paper_table([study])]
        expected = plain.quadratic_rows(study.rows(PAPER), study.points)

        assert len(assert_rows) == len(expected)
        for found, wanted in zip(assert_rows, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_csv_survives_writing_and_reading(imitation: Path, tmp_path: Path) -> None:
    infeasible = replace(
        ISSUES, point="0.50 (default)", remote_delta=math.nan, sys_delta=math.nan, sys_obj=math.nan,
        sys_s05=math.nan, sys_s1=math.nan, sys_s2=math.nan,
    )  # fmt: skip
    rows = [*paper_table(load_paper_study(imitation)), ISSUES, infeasible]

    write_paper_csv(tmp_path / "rq2_table.csv", rows)

    again = load_published(tmp_path)
    assert again[:-1] == rows[:-1]
    assert row_difference(again[-1], infeasible) == 0.0
    assert (tmp_path / "rq2_table.csv").read_text().splitlines()[0] == ",".join(PAPER_COLUMNS)


def test_published_only_rows_are_passed_through_in_the_published_order(imitation: Path) -> None:
    rows = paper_table(load_paper_study(imitation))
    published = [row for row in rows if row.study == "imdb"] + [ISSUES] + [r for r in rows if r.study == "ImageNet"]

    merged = with_published_only(rows, published)

    assert list(dict.fromkeys(row.study for row in merged))[:3] == ["imdb", "Issues", "ImageNet"]
    assert merged.count(ISSUES) == 1


def test_comparison_shows_changed_and_missing_rows(imitation: Path) -> None:
    rows = paper_table(load_paper_study(imitation))
    changed = [replace(rows[0], sys_delta=rows[0].sys_delta + 0.25), *rows[1:], ISSUES]
    moved = [replace(row, point="0.01 (best)") if row.study == "ImageNet" else row for row in changed]

    largest = {c.study: c.largest_difference for c in compare_with_published(rows, moved)}

    assert largest["imdb"] == pytest.approx(0.25)
    assert largest["ImageNet"] == math.inf
    assert largest["SQuADv2 (all)"] == 0.0
    assert math.isnan(largest["Issues"])


def test_report_is_json_and_lines_without_published_figures_at_hand(imitation: Path) -> None:
    studies = load_paper_study(imitation)
    report = paper_report(studies, [*paper_table(studies), ISSUES])

    held: dict[str, Any] = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(held) >= {"rows", "default_rows", "published", "comparison", "curves", "latency", "notes"}
    assert held["rows"][0]["remote_delta"] is None
    assert held["comparison"][1]["largest_difference"] is not None
    lines = study_lines(report)
    assert "Supervised assessment, Issues" in lines
    assert any("3 of 60 remote replies" in line for line in lines)


def test_per_input_latency_counts_what_each_input_pays(imitation: Path) -> None:
    study = load_paper_study(imitation)[1]
    (row,) = latency_table([study], OURS)
    point, system_s = row.points[1]
    deferred = ~accept(study.table.local.confidences, point.local_threshold)
    local, remote = study.latency_s

    assert system_s == pytest.approx(np.where(deferred, local + remote, local).mean())


@pytest.mark.parametrize("rules", [PAPER, OURS])
def test_figure_shows_the_curve_and_its_operating_points(imitation: Path, rules: Any) -> None:
    data = figure_data(load_paper_study(imitation)[1], rules)

    rates, accuracy = data["curves"]["BiSupervised"]
    assert len(rates) == len(accuracy)
    assert [x for x, _, _ in data["points"]] == [0.3, 0.5, 0.7]
    assert data["title"] == "ImageNet"
    assert math.isfinite(data["auc_rac"])


def test_figures_are_saved_one_per_study(imitation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: dict[Path, dict[str, Any]] = {}
    plots = ModuleType("bisupervised.report.plots")
    plots.save_request_accuracy_figure = lambda path, **shown: saved.update({path: shown})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bisupervised.report.plots", plots)

    paths = draw_paper_figures(load_paper_study(imitation), tmp_path / "figures")

    assert [path.name for path in paths] == [
        *("rac_imdb.png", "rac_ImageNet.png", "rac_SQuADv2_possible_only.png", "rac_SQuADv2_all.png")
    ]
    assert list(saved) == paths
    assert set(saved[paths[0]]) == {"curves", "title", "y_label", "points", "auc_rac"}
