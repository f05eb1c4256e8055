"""All thresholds together with a promise."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.calibration.guarantees import Certified, Infeasible, certify
from bisupervised.calibration.guarantees.correctness import smoothed_losses
from bisupervised.calibration.guarantees.path import path_of_rules
from bisupervised.calibration.limits import REQUESTS, Limits, Prices, utility
from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of, replay
from bisupervised.errors import InputError
from calibration.guarantees.violations import synthetic
from evaluation.made import random_rows

POPULATION = synthetic().rows
NAN = float("nan")


def sample(n: int = 2000, seed: int = 0) -> CalibrationRows:
    return POPULATION.take(np.random.default_rng(seed).integers(0, len(POPULATION), n))


def test_thresholds_come_with_what_was_counted_for_them() -> None:
    rows = sample()
    found = certify(rows, Limits(risk=0.16, request_rate=0.7), utility(0.3))
    assert isinstance(found, Certified)
    assert found.counts["tested_on"] == 2000 - 540
    assert found.counts["errors"] / found.counts["accepted"] < 0.16
    assert found.bounds["risk"] <= 0.16
    assert found.bounds["request_rate"] <= 0.7
    assert found.sentence == "With confidence 0.9: risk at most 0.16 and request rate at most 0.7 (n = 2000)."
    assert figures_of(rows, found.rule).request_rate == pytest.approx(found.counts["requests"] / 1460, abs=0.05)
    assert found.evidence()["guarantee"] == {"risk": 0.16, "request_rate": 0.7}


def test_the_same_seed_is_the_same_choice_and_another_one_another() -> None:
    rows, limits = sample(), Limits(risk=0.15)
    first, again, other = (certify(rows, limits, utility(0.3), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.thresholds != other.thresholds


def test_scores_matter_by_their_order_alone() -> None:
    rows, limits = sample(), Limits(risk=0.15)
    bent = CalibrationRows(
        np.exp(rows.local_confidence), rows.local_loss, rows.remote_confidence**3, rows.remote_loss
    )
    plain, other = (certify(one, limits, utility(0.3)) for one in (rows, bent))
    assert plain.counts == other.counts


def test_the_price_decides_among_the_certified() -> None:
    rows, limits = sample(), Limits(risk=0.16)
    free, dear = (certify(rows, limits, utility(price)) for price in (0.05, 1.0))
    assert figures_of(rows, free.rule).requests > figures_of(rows, dear.rule).requests
    assert figures_of(rows, free.rule).coverage > figures_of(rows, dear.rule).coverage


def test_fewest_requests_with_coverage_and_accuracy_promised() -> None:
    rows = sample(4000)
    limits = Limits.least(coverage=0.7, supervised_accuracy=0.82)
    found = certify(rows, limits, REQUESTS)
    counts = figures_of(POPULATION, found.rule)
    assert counts.coverage >= 0.7
    assert counts.supervised_accuracy >= 0.82
    assert counts.request_rate < figures_of(POPULATION, certify(rows, limits, utility(0.0)).rule).request_rate


def test_early_abstention_is_used_where_it_pays_and_not_otherwise() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(4000)
    hopeless = hard > 0.6  # neither model is ever right there, and the remote supervisor does not see it
    rows = CalibrationRows.of(1 - hard, rng.random(4000) < np.where(hopeless, 0.0, 0.9), rng.random(4000), ~hopeless)
    found = certify(rows, Limits(risk=0.1), utility(0.3))
    assert found.thresholds["abstain"] == pytest.approx(0.4, abs=0.1)
    assert figures_of(rows, found.rule).coverage > 0.5
    assert isinstance(certify(rows, Limits(risk=0.1), utility(0.3), early_abstention=False), Infeasible)
    assert certify(sample(), Limits(risk=0.16), utility(0.3)).thresholds["abstain"] == -np.inf


def test_infeasible_names_the_limit_the_lowest_it_could_be_and_the_rows_it_takes() -> None:
    limits = Limits(risk=0.11, abstention=0.95)
    rows = sample(200)
    found = certify(rows, limits, utility(0.3))
    assert isinstance(found, Infeasible)
    assert found.reason == "even the safest thresholds may break risk 0.11"
    assert 0.11 < found.lowest["risk"] < 0.3
    assert found.more_rows is not None
    assert f"{found.more_rows} more rows would certify 0.11 and 0.95 at the present rates" in found.sentence


def test_limits_against_each_other_are_infeasible_with_any_number_of_rows() -> None:
    found = certify(sample(), Limits(risk=0.05, abstention=0.05), utility(0.3))
    assert isinstance(found, Infeasible)
    assert found.more_rows is None


def test_a_cost_and_graded_losses_are_promised_by_a_bound_for_any_loss() -> None:
    prices = Prices(error=1.0, abstention=0.3, request=0.1)
    rows = sample(5000)
    graded = CalibrationRows(
        rows.local_confidence, rows.local_loss * 0.8, rows.remote_confidence, rows.remote_loss * 0.8
    )
    found = certify(graded, Limits(risk=0.16, cost=0.24, prices=prices), prices)
    assert isinstance(found, Certified)
    assert "risk" not in found.bounds  # exact bounds are of whole losses
    counts = figures_of(graded, found.rule)
    assert prices.total(counts) / 5000 <= 0.24
    hopeless = certify(rows, Limits(cost=0.05, prices=prices), prices)
    assert isinstance(hopeless, Infeasible)
    assert hopeless.lowest["cost"] > 0.1


def test_ties_and_missing_scores_go_through() -> None:
    for kind in ("tied", "overconfident"):
        population = synthetic(kind).rows
        rows = population.take(np.random.default_rng(0).integers(0, len(population), 3000))
        assert certify(rows, Limits(risk=0.17), utility(0.3))
    nothing = CalibrationRows.of([NAN] * 50, np.ones(50), [NAN] * 50, np.ones(50))
    assert isinstance(certify(nothing, Limits(risk=0.1), utility(0.3)), Infeasible)


def test_what_cannot_be_certified_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="at least one limit"):
        certify(sample(), Limits(), utility(0.3))
    with pytest.raises(InputError, match="at least 20"):
        certify(sample(19), Limits(risk=0.1), utility(0.3))
    with pytest.raises(InputError, match="delta"):
        certify(sample(), Limits(risk=0.1), utility(0.3), delta=0.0)


def test_a_path_goes_from_the_safest_to_the_cheapest_in_small_steps() -> None:
    rows = sample(600)
    path = path_of_rules(rows, Limits(risk=0.15), utility(0.3), n_tests=1400)
    assert (np.diff(path.z) >= 0.0).all()
    assert path.z[0] < -1.0
    counts = replay(POPULATION, path.local, path.remote, path.abstain)
    price = utility(0.3).total(counts)
    assert price[-1] < price[0]
    assert np.abs(np.diff(counts.accepted)).max() < 0.05 * len(POPULATION)


def test_a_path_without_any_hope_is_the_safest_rule_alone() -> None:
    path = path_of_rules(sample(600), Limits(abstention=0.0001, risk=0.0001), utility(0.3), n_tests=1400)
    assert len(set(zip(path.local, path.remote, path.abstain, strict=True))) == 1


def test_smoothed_losses_lie_nearer_to_the_truth_than_recorded_ones() -> None:
    """Mean squared error of the risk at 50 rules on 300 rows, against the population, over 20 samples."""
    thresholds = np.random.default_rng(1).random((3, 50))
    local, remote, abstain = thresholds[0], thresholds[1], thresholds[2] * 0.3
    truth = replay(POPULATION, local, remote, abstain).risk
    errors = {"recorded": 0.0, "smoothed": 0.0}
    for seed in range(20):
        rows = sample(300, seed)
        smooth = CalibrationRows(
            rows.local_confidence, smoothed_losses(rows)[0], rows.remote_confidence, smoothed_losses(rows)[1]
        )
        for name, one in (("recorded", rows), ("smoothed", smooth)):
            errors[name] += float(np.nanmean((replay(one, local, remote, abstain).risk - truth) ** 2))
    assert errors["smoothed"] < 0.95 * errors["recorded"]


def test_smoothed_losses_are_losses() -> None:
    rows = CalibrationRows.of(*random_rows(200))
    for loss in smoothed_losses(rows):
        assert ((loss >= 0.0) & (loss <= 1.0)).all()
    assert smoothed_losses(rows, share=0.0)[0] == pytest.approx(rows.local_loss)


def test_the_rule_is_one_that_a_system_can_run() -> None:
    found = certify(sample(), Limits(risk=0.16), utility(0.3))
    assert found.rule == Rule(found.thresholds["local"], found.thresholds["remote"], found.thresholds["abstain"])


def test_one_rule_left_is_a_path_of_itself() -> None:
    """Scores that are all missing leave a grid on which nothing is accepted: there is nothing to order."""
    rows = CalibrationRows.of([NAN] * 30, np.ones(30), [NAN] * 30, np.ones(30))
    path = path_of_rules(rows, Limits(risk=0.1), utility(0.3), n_tests=70)
    assert len(path.local) == 1
