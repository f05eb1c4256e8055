"""Verdicts: right by hand, and rarely wrong in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.studies.live.claims import (
    ALPHA,
    MARGIN,
    SAVING,
    Claim,
    Outcome,
    Z,
    above,
    mean_error,
    mean_estimate,
    not_known,
    rows_to_decide,
)


def differences(rng: np.random.Generator, n: int, mean: float, discordant: float) -> np.ndarray:
    """(n,) of -1, 0 and 1 with this mean, this share of them not 0."""
    gain, loss = (discordant + mean) / 2, (discordant - mean) / 2
    return rng.choice([1.0, -1.0, 0.0], size=n, p=[gain, loss, 1 - discordant])


def test_the_standard_error_by_hand() -> None:
    values = np.array([1.0, 0.0, 0.0, -1.0])
    assert mean_error(values, bounded=False).error == pytest.approx(math.sqrt(2 * 4 / 3) / 4)
    assert mean_error(values).error == pytest.approx(math.sqrt(2 * 4 / 3 + 1) / 4)
    clustered = mean_error(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1]), bounded=False)
    assert clustered.error == pytest.approx(math.sqrt((1 + 1) * 2) / 4)  # cluster sums of deviations: 1 and -1
    assert clustered.design == pytest.approx(2.0)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=40))
def test_clusters_of_one_row_are_rows(values: list[float]) -> None:
    rows = np.array(values)
    alone, clustered = mean_error(rows), mean_error(rows, np.arange(len(rows)))
    assert alone.error == pytest.approx(clustered.error)
    assert alone.design == pytest.approx(clustered.design)


def test_the_three_outcomes() -> None:
    rng = np.random.default_rng(0)
    assert above("", differences(rng, 5000, 0.0, 0.1), -MARGIN).outcome is Outcome.HELD
    assert above("", differences(rng, 5000, -0.05, 0.1), -MARGIN).outcome is Outcome.NOT_HELD
    undecided = above("", differences(rng, 300, 0.0, 0.2), -MARGIN)
    assert undecided.outcome is Outcome.UNDECIDED
    assert undecided.n_needed is not None
    assert undecided.n_needed > 300
    assert undecided.lower < -MARGIN < undecided.upper


def test_no_difference_at_all_is_not_certainty() -> None:
    few = above("", np.zeros(50), -MARGIN)
    assert few.outcome is Outcome.UNDECIDED
    assert few.estimate.low < 0.0 < few.estimate.high
    assert above("", np.zeros(2000), -MARGIN).outcome is Outcome.HELD
    assert above("", np.zeros(2000), 0.0).outcome is Outcome.UNDECIDED
    assert above("", np.zeros(2000), 0.0).n_needed is None


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan, 0.0]])
def test_what_is_not_known_is_undecided(values: list[float]) -> None:
    verdict = above("", np.array(values), 0.0)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.n_needed is None
    assert verdict.remark == "not known"


def test_one_cluster_is_one_row() -> None:
    assert above("", np.ones(100), 0.0, np.zeros(100, dtype=int)).outcome is Outcome.UNDECIDED


def test_a_claim_needs_all_of_its_parts() -> None:
    held = above("", np.ones(100), 0.0)
    failed = above("", -np.ones(100), 0.0)
    open_ = above("", differences(np.random.default_rng(1), 200, 0.05, 0.4), 0.04)
    assert Claim("", "", [held, held]).outcome is Outcome.HELD
    assert Claim("", "", [held, open_]).outcome is Outcome.UNDECIDED
    assert Claim("", "", [held, open_]).n_needed == open_.n_needed
    assert Claim("", "", [held, open_, failed]).outcome is Outcome.NOT_HELD
    assert Claim("", "", [held, not_known("", 0.0, 9, "no prices")]).outcome is Outcome.UNDECIDED
    assert Claim("", "", [open_, not_known("", 0.0, 9, "no prices")]).n_needed is None


@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(-1, 1), st.integers(2, 10_000))
def test_the_rows_that_would_decide_bring_the_bound_to_the_estimate(
    estimate: float, error: float, bound: float, n: int
) -> None:
    needed = rows_to_decide(estimate, error, bound, n)
    if needed is None:
        assert estimate == pytest.approx(bound, abs=1e-11)
    else:
        reach = Z * error * math.sqrt(n / needed) + 0.5 / needed
        assert reach <= abs(estimate - bound) * (1 + 1e-9)
        before = needed - 1.001
        if before > 0:
            assert Z * error * math.sqrt(n / before) + 0.5 / before > abs(estimate - bound) * (1 - 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "discordant"), [(300, 0.012), (300, 0.1), (1000, 0.012), (1000, 0.2), (5000, 0.05)])
def test_non_inferiority_is_rarely_claimed_wrongly(n: int, discordant: float) -> None:
    rng, runs = np.random.default_rng(n), 4000
    wrong = sum(
        above("", differences(rng, n, -MARGIN, discordant), -MARGIN).outcome is Outcome.HELD for _ in range(runs)
    )
    assert wrong / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 2000])
def test_a_saving_is_rarely_claimed_wrongly(n: int) -> None:
    rng, runs = np.random.default_rng(n), 4000
    draws = (rng.random((runs, n)) < SAVING).astype(float)
    wrong = sum(above("", row, SAVING).outcome is Outcome.HELD for row in draws)
    assert wrong / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


@pytest.mark.slow
def test_clusters_that_are_alike_are_not_taken_for_rows() -> None:
    rng, runs, clusters = np.random.default_rng(5), 2000, np.repeat(np.arange(150), 8)
    wrong = naive = 0
    for _ in range(runs):
        rows = differences(rng, 150, -MARGIN, 0.3)[clusters]  # all rows of a cluster the same
        wrong += above("", rows, -MARGIN, clusters).outcome is Outcome.HELD
        naive += above("", rows, -MARGIN).outcome is Outcome.HELD
    assert wrong / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
    assert naive / runs > 2 * ALPHA


@pytest.mark.slow
def test_the_rows_that_would_decide_are_about_right() -> None:
    """With so many rows, and the estimate the truth, the claim is decided about every other time."""
    rng = np.random.default_rng(9)
    pilot = differences(rng, 800, 0.0, 0.15)
    verdict = above("", pilot, -MARGIN)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.n_needed is not None
    truth, share = verdict.estimate.value, float(np.mean(pilot != 0))
    decided = [
        above("", differences(rng, verdict.n_needed, truth, share), -MARGIN).outcome is not Outcome.UNDECIDED
        for _ in range(600)
    ]
    assert 0.4 < np.mean(decided) < 0.6


@pytest.mark.slow
def test_the_interval_covers() -> None:
    rng, runs = np.random.default_rng(3), 3000
    found = [mean_estimate(differences(rng, 800, 0.02, 0.1)) for _ in range(runs)]
    covered = np.mean([one.low <= 0.02 <= one.high for one in found])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
