"""Learned supervisors from the command that learns them to the system that runs on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised import calibrate, evaluate
from bisupervised.calibration import Thresholds, WithinLimits
from bisupervised.cascade import replay
from bisupervised.cli import main
from bisupervised.config import load_config
from bisupervised.decision import accept
from bisupervised.errors import ConfigError, InputError, TableError, ThresholdError
from bisupervised.evaluation.system import bisupervised
from bisupervised.learned import LearnedConfidence, learn_on_a_part, save_beside, supervisors_of
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import ModelOutput, Route
from bisupervised.sources import read_table, write_table
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table, table_from_outcomes


def a_table(n: int = 3000, seed: int = 0) -> Table:
    """Two models whose own confidences know little, and whose agreement knows much."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, n)
    right = {"local": draw.random(n) < 0.75, "remote": draw.random(n) < 0.8}
    columns: dict[str, Any] = {"id": [f"{seed}-{row}" for row in range(n)], "label": label}
    for name, correct in right.items():
        columns[f"{name}_prediction"] = np.where(correct, label, 1 - label)
        columns[f"{name}_confidence"] = np.clip(0.5 + 0.2 * correct + draw.normal(0.0, 0.2, n), 0.0, 1.0)
    return Table.from_columns(columns)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "results.csv"
    write_table(a_table(), path)
    return path


@pytest.fixture(scope="module")
def learned(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("of") / "thresholds.toml"
    options = ["--learn", "arbiter", "--max-risk", "0.12", "--max-request-rate", "0.9", "--out", str(out)]
    assert main(["calibrate", str(results), *options]) == 0
    return out


def test_calibrate_learns_on_one_part_and_promises_on_the_other(learned: Path) -> None:
    thresholds = Thresholds.load(learned)
    assert thresholds.second_level["file"] == "thresholds-second-level.npz"
    assert thresholds.evidence["guarantee"]["n"] == 1500
    supervisor = supervisors_of(thresholds).second
    assert supervisor is not None
    assert len(supervisor.fitted_on) == 1500
    fresh = a_table(20_000, seed=1)
    ours = evaluate(fresh, thresholds).evaluation.systems["bisupervised"]
    assert 1.0 - ours.supervised_accuracy.value <= 0.12
    assert ours.request_rate.value <= 0.9


def test_the_rows_that_fitted_it_are_refused_and_left_out(results: Path, learned: Path) -> None:
    thresholds = Thresholds.load(learned)
    with pytest.raises(InputError, match="1500 of these 3000 rows are among the 1500 that the supervisor was fitted"):
        calibrate(a_table(), WithinLimits(risk=0.2), supervisors=supervisors_of(thresholds))
    assessment = evaluate(a_table(), thresholds)
    assert assessment.evaluation.n == 1500
    assert any("fitted the learned supervisors and are left out" in note for note in assessment.evaluation.notes)
    fitting = learn_on_a_part(a_table(), ["arbiter"]).rest
    others = a_table().take(~np.isin(a_table().ids, fitting.ids))
    with pytest.raises(TableError, match="fitted on all of these rows"):
        evaluate(others, thresholds)


def test_a_system_from_the_file_decides_as_the_evaluation_does(learned: Path, tmp_path: Path) -> None:
    fresh = a_table(500, seed=2)
    thresholds = Thresholds.load(learned)
    supervisor = supervisors_of(thresholds).second
    assert supervisor is not None
    outputs = [ModelOutput(level.predictions, confidences=level.confidences) for level in (fresh.local, fresh.remote)]
    supervisors = (
        Supervisor(GivenConfidence(), thresholds.local, abstain=thresholds.abstain),
        Supervisor(GivenConfidence(), thresholds.remote, pair=supervisor),
    )
    decisions = replay(*outputs, supervisors)
    ours = evaluate(fresh, thresholds).evaluation.systems["bisupervised"]
    shares = {route.label: float(np.mean(decisions.routes == route)) for route in Route}
    assert shares == pytest.approx(ours.route_shares)
    write_table(fresh, learned.parent / "fresh.csv")
    recorded = {"model": "recorded", "path": "fresh.csv", "quantifier": "confidence"}
    lines = [
        "[[cascade]]",
        'name = "both"',
        f'thresholds = "{learned.name}"',
        "[cascade.fallback]",
        'kind = "default"',
    ]
    lines += ["answer = 2", *(f"[cascade.{name}]\n{_toml(recorded)}" for name in ("local", "remote"))]
    (learned.parent / "cascade.toml").write_text("\n".join(lines) + "\n")
    (built,) = load_config(learned.parent / "cascade.toml")
    with built.system as system:
        outcomes = system.predict_many([str(id_) for id_ in fresh.ids])
    assert outcomes.routes.tolist() == decisions.routes.tolist()
    arbitrated = (outcomes.routes == Route.LOCAL) & outcomes.remote.asked
    assert arbitrated.any()
    assert outcomes.pair_confidences is not None
    assert (outcomes.pair_confidences[arbitrated] >= thresholds.remote).all()


def _toml(section: dict[str, str]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())


def test_a_file_that_is_missing_or_another_is_told(learned: Path, tmp_path: Path) -> None:
    text = learned.read_text()
    (tmp_path / "thresholds.toml").write_text(text)
    with pytest.raises(ThresholdError, match="which cannot be read"):
        supervisors_of(Thresholds.load(tmp_path / "thresholds.toml"))
    (tmp_path / "thresholds-second-level.npz").write_bytes(b"something else")
    with pytest.raises(ThresholdError, match="SHA-256 differs: calibrate again"):
        supervisors_of(Thresholds.load(tmp_path / "thresholds.toml"))
    (tmp_path / "cascade.toml").write_text(
        '[[cascade]]\nname = "a"\nthresholds = "thresholds.toml"\n'
        'local = { model = "recorded", path = "x.csv" }\nremote = { model = "recorded", path = "x.csv" }\n'
    )
    with pytest.raises(ConfigError, match="SHA-256 differs"):
        load_config(tmp_path / "cascade.toml")


def test_those_that_were_fitted_before_calibrate_on_other_rows_and_never_on_their_own(
    results: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(a_table(1000, seed=3), tmp_path / "others.csv")
    out = tmp_path / "thresholds.toml"
    options = ["--supervisors-of", str(learned), "--max-risk", "0.2", "--out", str(out), "--json"]
    assert main(["calibrate", str(tmp_path / "others.csv"), *options]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["second_level"]["kind"], shown["evidence"]["n"]) == ("arbiter", 1000)
    assert supervisors_of(Thresholds.load(out)).second is not None
    assert main(["calibrate", str(results), *options]) == 0
    printed = capsys.readouterr()
    assert "1500 of 3000 rows fitted the supervisors and are left out" in printed.err
    assert json.loads(printed.out)["evidence"]["n"] == 1500


def test_both_levels_learn_together_and_the_running_system_reads_the_learned_confidence(
    results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "thresholds.toml"
    options = ["--learn", "deferral,pair", "--max-risk", "0.2", "--out", str(out)]
    assert main(["calibrate", str(results), *options]) == 0
    thresholds = Thresholds.load(out)
    supervisors = supervisors_of(thresholds)
    assert supervisors.first is not None
    assert supervisors.second is not None
    np.testing.assert_array_equal(supervisors.first.fitted_on, supervisors.second.fitted_on)
    fresh = a_table(400, seed=5)
    outputs = [ModelOutput(level.predictions, confidences=level.confidences) for level in (fresh.local, fresh.remote)]
    local = Supervisor(
        GivenConfidence(),
        thresholds.local,
        abstain=thresholds.abstain,
        learned=LearnedConfidence(supervisors.first),
    )
    remote = Supervisor(GivenConfidence(), thresholds.remote, pair=supervisors.second)
    decisions = replay(*outputs, (local, remote))
    ours = evaluate(fresh, thresholds).evaluation.systems["bisupervised"]
    assert {r.label: float(np.mean(decisions.routes == r)) for r in Route} == pytest.approx(ours.route_shares)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--learn", "pair"], "--learn pair goes with a limit on the risk"),
        (["--learn", "pair", "--learn-share", "2", "--max-risk", "0.3"], "lies between 0 and 1"),
        (["--learn-share", "0.5"], "--learn-share goes with --learn"),
        (["--learn", "deferral", "--supervisors-of", "x.toml"], "not both"),
        (["--supervisors-of", "absent.toml", "--max-risk", "0.3"], "there is no thresholds file absent.toml"),
        (["--learn", "pair", "--by", "id"], "--by has no learned supervisors"),
        (["--learn", "pair,arbiter", "--max-risk", "0.3"], "at most one supervisor is learned for each level"),
        (["--learn", "guess", "--max-risk", "0.3"], "not guess"),
    ],
)
def test_options_that_do_not_fit_are_told(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["calibrate", str(results), *options, "--out", str(tmp_path / "t.toml")]) == 2
    assert words in capsys.readouterr().err


def test_thresholds_of_one_supervisor_are_not_those_of_another(learned: Path, tmp_path: Path) -> None:
    thresholds = Thresholds.load(learned)
    plain = Thresholds(thresholds.local, thresholds.remote, thresholds.target, thresholds.evidence)
    assert plain.id != thresholds.id
    supervisors, _ = learn_on_a_part(a_table(), ["pair"], seed=1)
    named = save_beside(supervisors, tmp_path / "t.toml")
    assert {level: (one["kind"], one["file"]) for level, one in named.items()} == {
        "second_level": ("pair", "t-second-level.npz")
    }


# ---------------------------------------------------------------- what a reader stumbled over


def test_a_log_and_what_predict_writes_are_read_as_they_were_decided(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.toml"
    options = ["--learn", "deferral,arbiter", "--max-risk", "0.2", "--out", str(out)]
    assert main(["calibrate", str(results), *options]) == 0
    fresh = a_table(300, seed=7)
    write_table(fresh, tmp_path / "fresh.csv")
    recorded = _toml({"model": "recorded", "path": "fresh.csv", "quantifier": "confidence"})
    (tmp_path / "cascade.toml").write_text(
        f'[[cascade]]\nname = "a"\nthresholds = "thresholds.toml"\nfallback = {{ kind = "default", answer = 9 }}\n'
        f'log = {{ path = "log.db" }}\n[cascade.local]\n{recorded}\n[cascade.remote]\n{recorded}\n'
    )
    (built,) = load_config(tmp_path / "cascade.toml")
    with built.system as system:
        outcomes = system.predict_many([str(id_) for id_ in fresh.ids])
    built.close()
    thresholds = Thresholds.load(out)
    rates = [outcomes.request_rate]
    for source in (read_table(str(tmp_path / "log.db")), table_from_outcomes(outcomes)):
        np.testing.assert_array_equal(np.sort(source.local.confidences), np.sort(fresh.local.confidences))
        read, _ = supervisors_of(thresholds).applied(source)
        learned = source.extra["learned_confidence"].astype(float)
        np.testing.assert_array_equal(read.local.confidences, learned)
        asked = accept(learned, thresholds.abstain) & ~accept(learned, thresholds.local)
        rates.append(float(asked.mean()))
    assert rates == [rates[0]] * 3


def test_rows_that_were_never_asked_are_rejected_whatever_an_arbiter_knows() -> None:
    table = a_table(2000)
    supervisors, rest = learn_on_a_part(table, ["arbiter"])
    asked = np.arange(len(rest)) % 2 == 0
    some = replace(rest, remote=replace(rest.remote, asked=asked))
    _, pair = supervisors.applied(some)
    decided = bisupervised(some, 0.9, 0.6, pair=pair)
    assert (decided.routes[decided.requested & ~asked] == Route.REJECTED).all()


def test_too_few_labels_are_told_before_anything_is_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(a_table(30), tmp_path / "few.csv")
    assert (
        main(["calibrate", str(tmp_path / "few.csv"), "--learn", "stacked", "--out", str(tmp_path / "t.toml")]) == 2
    )
    assert "Label more rows, or leave out --learn" in capsys.readouterr().err
