"""A whole evaluation: systems, baselines, intervals, and what it says about bad inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from bisupervised.assessment import calibrate, evaluate
from bisupervised.calibration import Thresholds
from bisupervised.errors import TableError, ThresholdError
from bisupervised.evaluation import Graded, Scored, evaluate_at, macro_f1
from bisupervised.evaluation.intervals import bootstrap_of_sums, mean, quantile, rate
from bisupervised.evaluation.supervised import false_alarm_rate, false_alarm_threshold, s_beta, supervised_table
from bisupervised.evaluation.system import bisupervised, system_figures
from bisupervised.table import Table


def rows(n: int = 1200, seed: int = 0, **columns: object) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    local, remote = rng.uniform(0.5, 1, n), rng.uniform(0.5, 1, n)
    return {
        "local_confidence": local,
        "local_correct": rng.random(n) < 0.2 + 0.75 * local,
        "local_latency_s": np.full(n, 0.01),
        "remote_confidence": remote,
        "remote_correct": rng.random(n) < 0.45 + 0.52 * remote,
        "remote_latency_s": rng.uniform(0.3, 0.5, n),
        **columns,
    }


def test_the_systems_figures_are_what_counting_gives() -> None:
    data = rows()
    table = Table.from_columns(data, costs={"local": 0.0001, "remote": 0.002})
    found = evaluate_at(table, 0.8, 0.7).systems
    trusted = data["local_confidence"] >= 0.8
    accepted = trusted | (data["remote_confidence"] >= 0.7)
    correct = np.where(trusted, data["local_correct"], data["remote_correct"])
    ours = found["bisupervised"]
    assert ours.request_rate.value == pytest.approx((~trusted).mean())
    assert ours.system_accuracy.value == pytest.approx(correct.mean())
    assert ours.coverage.value == pytest.approx(accepted.mean())
    assert ours.supervised_accuracy.value == pytest.approx(correct[accepted].mean())
    assert ours.false_alarm_rate == pytest.approx((correct & ~accepted).sum() / correct.sum())
    assert ours.cost_per_input.value == pytest.approx(0.0001 + 0.002 * (~trusted).mean())
    assert ours.cost_per_correct_answer == pytest.approx(
        (0.0001 * 1200 + 0.002 * (~trusted).sum()) / (correct & accepted).sum()
    )
    latency = np.where(trusted, 0.01, 0.01 + data["remote_latency_s"])  # a deferred input pays both
    assert ours.latency.mean.value == pytest.approx(latency.mean())
    assert ours.latency.p95.value == pytest.approx(np.quantile(latency, 0.95))
    assert found["remote_only"].latency.p50.value == pytest.approx(np.median(data["remote_latency_s"]))
    assert found["remote_only"].cost_per_input.value == pytest.approx(0.002)
    assert found["local_only"].request_rate.value == 0.0


def test_ratios_have_bootstrap_intervals_that_agree_with_resampling_the_rows() -> None:
    data = rows(400)
    table = Table.from_columns(data, costs={"local": 0.0001, "remote": 0.002})
    ours = evaluate_at(table, 0.8, 0.7).systems["bisupervised"]
    rng = np.random.default_rng(1)
    again = [evaluate_rows(table.take(rng.integers(0, 400, 400))) for _ in range(400)]
    for name, values in zip(
        ("false_alarm_rate", "cost_per_correct_answer", "s_beta_1"), zip(*again, strict=True), strict=True
    ):
        low, high = ours.bootstrap[name]
        spread = np.quantile(values, [0.025, 0.975])
        assert (low, high) == pytest.approx(spread, abs=0.2 * (spread[1] - spread[0]))


def evaluate_rows(table: Table) -> tuple[float, float, float]:
    figures = system_figures(bisupervised(table, 0.8, 0.7))
    return figures.false_alarm_rate, figures.cost_per_correct_answer, figures.s_beta["1"]


def test_grouped_resampling_of_many_rows_keeps_the_interval() -> None:
    values = np.random.default_rng(0).random((60_000, 1))
    columns = np.column_stack([values, np.ones(60_000)])
    low, high = bootstrap_of_sums(columns, lambda sums: sums[:, :1] / sums[:, 1:], resamples=2000)
    assert (low[0], high[0]) == pytest.approx(mean(values[:, 0])[1:], abs=0.0006)


def test_an_abstention_has_its_price() -> None:
    table = Table.from_columns(rows(), costs={"local": 0.0, "remote": 0.002})
    free, priced = (
        evaluate_at(table, 0.8, 0.9, abstention_cost=price).systems["bisupervised"] for price in (0.0, 1.0)
    )
    rejected = 1 - free.coverage.value
    assert priced.cost_per_input.value - free.cost_per_input.value == pytest.approx(rejected)


def test_what_is_not_recorded_is_not_known_rather_than_zero() -> None:
    data = {k: v for k, v in rows().items() if "latency" not in k}
    ours = evaluate_at(Table.from_columns(data), 0.8, 0.7).systems["bisupervised"]
    assert math.isnan(ours.cost_per_input.value)
    assert math.isnan(ours.latency.p95.value)
    assert math.isnan(ours.cost_per_correct_answer)


def test_unlabelled_rows_serve_for_request_rates_only() -> None:
    data = rows()
    correct = data["local_correct"].astype(float)
    correct[600:] = math.nan
    remote = data["remote_correct"].astype(float)
    remote[600:] = math.nan
    found = evaluate_at(Table.from_columns({**data, "local_correct": correct, "remote_correct": remote}), 0.8, 0.7)
    assert (found.n, found.n_labelled) == (1200, 600)
    ours = found.systems["bisupervised"]
    assert ours.request_rate.value == pytest.approx((data["local_confidence"] < 0.8).mean())
    trusted = data["local_confidence"][:600] >= 0.8
    right = np.where(trusted, data["local_correct"][:600], data["remote_correct"][:600])
    assert ours.system_accuracy.value == pytest.approx(right.mean())


def test_no_label_at_all_leaves_accuracies_unknown_and_says_so() -> None:
    data = {k: v for k, v in rows().items() if "correct" not in k}
    found = evaluate_at(Table.from_columns(data), 0.8, 0.7)
    assert found.curves is None
    assert math.isnan(found.systems["bisupervised"].system_accuracy.value)
    assert found.systems["bisupervised"].request_rate.value > 0
    assert any("no row has a label" in note for note in found.notes)


def test_the_comparison_with_remote_only_is_paired() -> None:
    data = rows()
    found = evaluate_at(Table.from_columns(data), 0.9, -math.inf)
    trusted = data["local_confidence"] >= 0.9
    difference = (
        np.where(trusted, data["local_correct"], data["remote_correct"]).astype(float) - data["remote_correct"]
    )
    half = 1.959963984540054 * difference.std(ddof=1) / math.sqrt(len(difference))
    assert found.versus_remote_only == pytest.approx(
        (difference.mean(), difference.mean() - half, difference.mean() + half)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"local_confidence": np.full(1200, 0.7)}, "local confidence is constant"),
        ({"local_confidence": -rows()["local_confidence"]}, "local supervisor is inverted"),
        ({"remote_confidence": np.random.default_rng(9).random(1200)}, "remote supervisor is not shown to be better"),
        ({"remote_correct": np.zeros(1200, dtype=bool)}, "local model is at least as accurate"),
    ],
    ids=["constant", "inverted", "chance", "local better"],
)
def test_a_reader_is_told(change: dict, words: str) -> None:
    found = evaluate_at(Table.from_columns({**rows(), **change}), 0.69, 0.7)
    assert any(words in warning for warning in found.warnings), found.warnings


def test_a_cascade_that_does_not_beat_its_baseline_says_so() -> None:
    found = evaluate_at(Table.from_columns(rows()), 0.55, 0.99)
    assert any("not shown to beat" in warning for warning in found.warnings)


@pytest.mark.parametrize("threshold", [math.nan, "high", None])
def test_thresholds_out_of_range_are_refused(threshold: object) -> None:
    with pytest.raises(ThresholdError):
        evaluate_at(Table.from_columns(rows()), threshold, 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_very_few_rows_are_no_crash(n: int) -> None:
    found = evaluate({key: value[:n] for key, value in rows().items()}).evaluation
    assert found.n == n
    assert any("optimistic" in warning for warning in found.warnings)


def test_the_default_judges_other_rows_than_those_that_chose() -> None:
    data = rows()
    assessment = evaluate(data, seed=3)
    assert assessment.evaluation.n == 600
    assert "held out" in assessment.judged_on
    chosen = calibrate(data, seed=3)
    assert (chosen.local, chosen.remote) == (assessment.thresholds.local, assessment.thresholds.remote)
    # Labels of the rows that judge play no part in the choice.
    flipped = {**data, "local_correct": data["local_correct"].copy()}
    held = np.isin(np.arange(1200).astype(str), assessment.table.ids)
    flipped["local_correct"][held] = ~flipped["local_correct"][held]
    again = calibrate(flipped, seed=3)
    assert (again.local, again.remote) == (chosen.local, chosen.remote)


def test_thresholds_are_judged_on_all_rows_of_another_data_set() -> None:
    thresholds = calibrate(rows(seed=1))
    assert evaluate(rows(seed=2), thresholds).evaluation.n == 1200
    assert evaluate(rows(seed=1), thresholds).evaluation.n == 600
    everything = calibrate(rows(seed=1), held_out=0.0)
    assert "optimistic" in evaluate(rows(seed=1), everything).judged_on


def test_objectives_take_the_two_places_of_accuracy() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 400)
    guesses = {
        k: np.where(rng.random(400) < p, labels, rng.integers(0, 3, 400))
        for k, p in (("local", 0.5), ("remote", 0.8))
    }
    data = {"label": labels, **{f"{k}_prediction": v for k, v in guesses.items()}}
    data |= {f"{k}_confidence": rng.random(400) for k in guesses}
    scored = evaluate(data, (0.5, -math.inf), objective="macro_f1").evaluation
    answers = np.where(data["local_confidence"] >= 0.5, guesses["local"], guesses["remote"])
    ours = scored.systems["bisupervised"].system_accuracy
    assert ours.value == pytest.approx(f1_score(labels, answers, average="macro"))
    assert ours.low < ours.value < ours.high
    assert scored.curves is not None
    assert scored.curves.curve.remote_only == pytest.approx(macro_f1(labels, guesses["remote"]))
    own = Graded("near", lambda label, guess: 1.0 - abs(int(label) - int(guess)) / 2)
    graded = evaluate(data, (0.5, -math.inf), objective=own).evaluation
    assert graded.systems["bisupervised"].system_accuracy.value == pytest.approx(
        (1 - abs(labels - answers) / 2).mean()
    )
    any_callable = Scored("share of zeros", lambda label, guess: float(np.mean(guess == 0)))
    assert evaluate(data, (0.5, 0.0), objective=any_callable).evaluation.objective == "share of zeros"
    with pytest.raises(TableError, match="needs labels"):
        evaluate(rows(), objective="exact_match")


def test_a_log_with_remote_answers_for_deferred_inputs_only_is_judged_as_routed() -> None:
    data = rows(200)
    asked = data["local_confidence"] < 0.8
    routes = np.where(asked, "remote", "local")
    remote = np.where(asked, data["remote_correct"], math.nan)
    table = Table.from_columns({**data, "remote_correct": remote, "remote_asked": asked, "route": routes})
    found = evaluate_at(table, 0.8, -math.inf)
    assert found.curves is None
    assert "remote_only" not in found.systems
    assert found.systems["bisupervised"].request_rate.value == pytest.approx(asked.mean())
    right = np.where(asked, data["remote_correct"], data["local_correct"])
    assert found.systems["bisupervised"].system_accuracy.value == pytest.approx(right.mean())


# ---------------------------------------------------------------- supervised assessment


def test_the_false_alarm_threshold_is_the_largest_that_keeps_its_promise() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        confidence = np.round(rng.random(30), 1)
        confidence[rng.random(30) < 0.1] = math.nan
        correct = rng.random(30) < 0.7
        target = float(rng.choice([0.0, 0.1, 0.3, 1.0]))
        threshold = false_alarm_threshold(confidence, correct, target)
        lost = false_alarm_rate(correct, confidence >= threshold)
        if threshold > -math.inf:
            assert lost <= target + 1e-9
        for higher in np.unique(confidence[confidence > threshold]):
            assert false_alarm_rate(correct, confidence >= higher) > target + 1e-9


def test_supervised_rows_keep_their_targets_and_hold_both_baselines() -> None:
    found = supervised_table(Table.from_columns(rows()), {"half": 0.75}, [0.01, 0.1])
    assert [row.point for row in found] == ["local only", "half", "remote only"] * 2
    assert all(row.false_alarm_rate <= row.false_alarm_target for row in found)
    assert found[0].request_rate == 0.0
    assert found[2].request_rate == 1.0
    row = found[1]
    assert row.s_beta["1"] == pytest.approx(
        2 * row.supervised_accuracy * row.coverage / (row.supervised_accuracy + row.coverage)
    )


def test_s_beta_weighs_as_the_paper_does() -> None:
    assert s_beta(0.7989108347557506, 0.98424, 0.5) == pytest.approx(0.8301746684361947, abs=1e-15)  # rq2_table.csv
    assert s_beta(0.7989108347557506, 0.98424, 2.0) == pytest.approx(0.9406004142017428, abs=1e-15)
    assert math.isnan(s_beta(0.0, 0.0, 1.0))


# ---------------------------------------------------------------- intervals


def test_wilsons_interval_is_the_textbooks() -> None:
    assert rate(10, 100) == pytest.approx((0.1, 0.0552291, 0.1743657), abs=1e-6)
    assert rate(0, 10).low == 0.0
    assert rate(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert math.isnan(rate(0, 0).value)


def test_a_mean_or_quantile_with_an_unknown_part_is_unknown() -> None:
    assert math.isnan(mean(np.array([1.0, math.nan])).value)
    assert math.isnan(quantile(np.array([1.0, math.nan]), 0.5).value)


@pytest.mark.slow
def test_quantile_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = {0.5: 0, 0.95: 0}
    for _ in range(1000):
        values = rng.exponential(size=400)
        for q in hits:
            interval = quantile(values, q)
            hits[q] += interval.low <= -math.log(1 - q) <= interval.high
    assert min(hits.values()) >= 930


def test_the_bootstrap_of_sums_agrees_with_the_normal_interval_and_pairs_its_columns() -> None:
    rng = np.random.default_rng(0)
    columns = np.column_stack([rng.random(2000), np.ones(2000)])
    low, high = bootstrap_of_sums(columns, lambda sums: sums[:, :1] / sums[:, 1:], resamples=2000)
    assert (low[0], high[0]) == pytest.approx(mean(columns[:, 0])[1:], abs=0.002)
    low, high = bootstrap_of_sums(columns[:, [0, 0]], lambda sums: sums[:, :1] - sums[:, 1:], resamples=50)
    assert low[0] == high[0] == 0.0


def test_thresholds_given_as_a_pair_are_taken_as_they_are() -> None:
    found = evaluate(rows(), (0.8, 0.7))
    assert found.thresholds == Thresholds(0.8, 0.7)
    assert found.evaluation.n == 1200
