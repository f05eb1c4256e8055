"""Promises on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.calibration.guarantees import Certified, Infeasible, expected_error_rate, expected_loss
from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of
from bisupervised.decision import accept
from bisupervised.errors import InputError
from evaluation.made import ODD, random_rows

INF = float("inf")


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(ODD), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=25),
    st.booleans(),
    st.sampled_from([0.05, 0.2, 0.5, 0.9]),
)
def test_the_threshold_is_the_furthest_whose_loss_and_one_more_keep_the_target(
    made: list, accepting_costs: bool, target: float
) -> None:
    score, loss = (np.array(column) for column in zip(*made, strict=True))
    n = len(score)
    sides = (loss, np.zeros(n)) if accepting_costs else (np.zeros(n), loss)
    candidates = [INF, *sorted(set(score[~np.isnan(score)].tolist()), reverse=True), -INF]
    good = [t for t in candidates if (np.where(accept(score, t), *sides).sum() + 1) / (n + 1) <= target + 1e-12]
    found = expected_loss(score, *sides, target)
    if not good:
        assert isinstance(found, Infeasible)
        return
    kept = accept(score, found.thresholds["local"])
    if loss.any():
        best = accept(score, min(good) if accepting_costs else max(good))
        assert kept.tolist() == best.tolist()
    assert (np.where(kept, *sides).sum() + 1) / (n + 1) == pytest.approx(found.bounds["expected_loss"])
    assert found.delta is None


def test_a_loss_that_is_not_monotone_is_refused() -> None:
    with pytest.raises(InputError, match="not monotone in the threshold"):
        expected_loss(np.array([0.1, 0.2]), np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.5)


def test_losses_beyond_the_bound_are_refused() -> None:
    with pytest.raises(InputError, match="between 0 and the bound, which is 1"):
        expected_loss(np.array([0.1]), np.array([2.0]), 0.0, 0.5)
    assert isinstance(expected_loss(np.arange(99.0), 2.0, 0.0, 0.5, bound=2.0), Certified)


def test_too_few_rows_say_how_many_would_do() -> None:
    score = np.arange(9.0)
    found = expected_loss(score, score < 5, 0.0, 0.05)
    assert isinstance(found, Infeasible)
    assert found.lowest == {"expected_loss": 0.1}
    assert found.more_rows == 10
    larger = np.arange(19.0)
    assert isinstance(expected_loss(larger, larger < 5, 0.0, 0.05), Certified)


def test_the_systems_error_rate_counts_what_the_first_level_lets_pass() -> None:
    rows = CalibrationRows.of(*random_rows(2000))
    found = expected_error_rate(rows, 0.5, 0.2, abstain=0.2)
    counts = figures_of(rows, found.rule)
    assert found.rule == Rule(0.5, found.thresholds["remote"], 0.2)
    assert (counts.loss + 1) / 2001 <= 0.2
    assert counts.loss == pytest.approx(found.counts["loss"])
    nearly = figures_of(rows, Rule(0.5, np.nextafter(found.thresholds["remote"], -INF), 0.2))
    assert nearly.loss >= counts.loss
    hopeless = expected_error_rate(rows, 0.5, 0.01)
    assert isinstance(hopeless, Infeasible)
    assert hopeless.more_rows is None


def test_the_mean_over_calibration_sets_is_the_target_and_not_above_it() -> None:
    """3,000 sets of 50 rows from uniform scores, where 'correct and rejected' has the loss of the threshold
    itself."""
    rng = np.random.default_rng(0)
    scores = rng.random((3000, 50))
    chosen = np.array([expected_loss(one, 0.0, 1.0, 0.1).thresholds["local"] for one in scores])
    mean, error = chosen.mean(), chosen.std() / np.sqrt(3000)
    assert mean <= 0.1 + 3 * error
    assert mean >= 0.1 - 1 / 51 - 3 * error
