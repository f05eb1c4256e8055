"""Curves, areas and orders against their definitions, written out the slow way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bisupervised.decision import decide
from bisupervised.errors import InputError
from bisupervised.evaluation.auc_rac import auc_rac
from bisupervised.evaluation.auroc import auroc
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.request_accuracy import oracle_area, oracle_curve, request_accuracy_curve
from bisupervised.evaluation.risk_coverage import risk_coverage
from bisupervised.records import FloatArray, Route

GRADES = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9, math.nan])
ROWS = st.lists(st.tuples(GRADES, st.booleans(), st.booleans()), min_size=1, max_size=40)


def columns(rows: list[tuple[float, bool, bool]]) -> tuple[FloatArray, np.ndarray, np.ndarray]:
    confidence, local, remote = zip(*rows, strict=True)
    return np.array(confidence), np.array(local), np.array(remote)


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_every_attainable_point_is_what_the_decision_does_at_its_threshold(rows: list) -> None:
    confidence, local, remote = columns(rows)
    curve = request_accuracy_curve(confidence, local, remote)
    certain = np.full(len(rows), 1.0)
    for rate, accuracy, threshold in zip(curve.request_rates, curve.system_accuracy, curve.thresholds, strict=True):
        if math.isnan(threshold):
            continue
        deferred = decide(confidence, threshold, certain, 0.0) != Route.LOCAL
        assert rate == deferred.mean()
        assert accuracy == pytest.approx(np.where(deferred, remote, local).mean(), abs=1e-12)


def orders_of(confidence: FloatArray) -> list[tuple[int, ...]]:
    """All orders of deferral that break ties: NaN first, then by confidence."""
    key = np.where(np.isnan(confidence), -np.inf, confidence)
    return [
        o for o in itertools.permutations(range(len(key))) if all(key[a] <= key[b] for a, b in itertools.pairwise(o))
    ]


@given(st.lists(st.tuples(GRADES, st.booleans(), st.booleans()), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_areas_are_the_mean_over_all_ways_to_break_ties(rows: list) -> None:
    confidence, local, remote = columns(rows)
    n = len(rows)
    areas, aurcs, augrcs = [], [], []
    for order in map(list, orders_of(confidence)):
        mixed = [np.concatenate([remote[order[:k]], local[order[k:]]]).mean() for k in range(n + 1)]
        areas.append(np.mean(np.add(mixed[1:], mixed[:-1]) / 2))  # numpy.trapezoid is not there before 2.0
        wrong = np.cumsum(~local[order[::-1]])
        aurcs.append(np.mean(wrong / np.arange(1, n + 1)))
        augrcs.append(np.mean(wrong / n))
    curve, risk = request_accuracy_curve(confidence, local, remote), risk_coverage(confidence, local)
    assert curve.area() == pytest.approx(np.mean(areas))
    assert auc_rac(confidence, local, remote).area == pytest.approx(np.mean(areas))
    assert risk.aurc == pytest.approx(np.mean(aurcs))
    assert risk.augrc == pytest.approx(np.mean(augrcs))


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_figures_do_not_depend_on_row_order_scale_or_duplication(rows: list) -> None:
    confidence, local, remote = columns(rows)
    first = auc_rac(confidence, local, remote)
    shuffled = np.random.default_rng(len(rows)).permutation(len(rows))
    for other in (
        auc_rac(confidence[shuffled], local[shuffled], remote[shuffled]),
        auc_rac(np.exp(5 * confidence), local, remote),
        auc_rac(np.tile(confidence, 2), np.tile(local, 2), np.tile(remote, 2)),
    ):
        assert other.area == pytest.approx(first.area)
    grades = auc_rac(confidence, local.astype(float), remote.astype(float))
    assert grades.area == pytest.approx(first.area)
    assert grades.standard_error == pytest.approx(first.standard_error, nan_ok=True)


def sample(n: int, seed: int = 0, ties: int | None = None) -> tuple[FloatArray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    local, remote = rng.random(n) < 0.4 + 0.5 * confidence, rng.random(n) < 0.9
    return (confidence if ties is None else np.round(confidence, ties)), local, remote


@pytest.mark.parametrize("ties", [None, 1])
def test_auroc_and_the_augrc_identity(ties: int | None) -> None:
    confidence, local, _ = sample(700, ties=ties)
    value = auroc(confidence, local)
    assert value.value == pytest.approx(roc_auc_score(local, confidence))
    accuracy, n = local.mean(), len(local)
    augrc = (1 - value.value) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2 + (1 - accuracy) / (2 * n)
    assert risk_coverage(confidence, local).augrc == pytest.approx(augrc)


@pytest.mark.parametrize("ties", [None, 1])
def test_delongs_interval_is_that_of_the_pairs(ties: int | None) -> None:
    confidence, correct, _ = sample(300, ties=ties)
    right, wrong = confidence[correct], confidence[~correct]
    pairs = (right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)
    variance = pairs.mean(axis=1).var(ddof=1) / len(right) + pairs.mean(axis=0).var(ddof=1) / len(wrong)
    value = auroc(confidence, correct)
    assert value.value == pytest.approx(pairs.mean())
    assert value.high - value.value == pytest.approx(1.959963984540054 * math.sqrt(variance))


@pytest.mark.parametrize("ties", [None, 1])
def test_the_standard_error_of_auc_rac_agrees_with_the_bootstrap(ties: int | None) -> None:
    confidence, local, remote = sample(3000, ties=ties)
    rng = np.random.default_rng(1)
    values = []
    for _ in range(400):
        rows = rng.integers(0, 3000, 3000)
        values.append(auc_rac(confidence[rows], local[rows], remote[rows], standard_error=False).value)
    assert auc_rac(confidence, local, remote).standard_error == pytest.approx(np.std(values), rel=0.12)


def test_auc_rac_equals_what_the_reference_gives_for_a_small_case() -> None:
    # Deferring worst-first: d = (+1, 0, 0, -1); q = 1 - (rank - 1/2)/4 = (.875, .625, .375, .125).
    confidence = np.array([0.1, 0.2, 0.3, 0.4])
    local, remote = np.array([False, True, True, True]), np.array([True, True, True, False])
    area = auc_rac(confidence, local, remote)
    assert math.isnan(area.value)  # both models are right three times: nothing to normalise by
    assert area.area == pytest.approx(0.75 + (0.875 - 0.125) / 4)
    assert area.area_gain == pytest.approx(0.1875)


def test_random_deferral_has_one_half_and_an_oracle_captures_everything() -> None:
    rng = np.random.default_rng(3)
    local, remote = rng.random(20_000) < 0.7, rng.random(20_000) < 0.9
    assert auc_rac(rng.random(20_000), local, remote).value == pytest.approx(0.5, abs=0.03)
    best_order = local.astype(float) - remote  # only the remote right: first; only the local right: last
    curve = request_accuracy_curve(best_order, local, remote)
    np.testing.assert_allclose(curve.system_accuracy, oracle_curve(curve.request_rates, local, remote), atol=1e-12)
    assert curve.area() == pytest.approx(oracle_area(local, remote))


@pytest.mark.parametrize(
    ("confidence", "value"),
    [([0.9, 0.9, 0.9, 0.9], 0.5), ([0.9, 0.8, 0.2, 0.1], 1.0), ([0.1, 0.2, 0.8, 0.9], 0.0), ([math.nan] * 4, 0.5)],
    ids=["constant", "perfect", "inverted", "nothing known"],
)
def test_auroc_of_plain_supervisors(confidence: list[float], value: float) -> None:
    assert auroc(np.array(confidence), np.array([True, True, False, False])).value == value


def test_one_class_is_not_known_rather_than_a_number() -> None:
    assert math.isnan(auroc(np.array([0.1, 0.9]), np.array([True, True])).value)
    assert math.isnan(auroc(np.array([0.1]), np.array([False])).value)
    assert risk_coverage(np.array([0.1, 0.9]), np.array([True, True])).aurc == 0.0
    assert risk_coverage(np.array([0.1, 0.9]), np.array([False, False])).aurc == 1.0


def test_inputs_without_confidence_are_deferred_first_and_no_threshold_spares_them() -> None:
    order = DeferralOrder.of(np.array([0.5, math.nan, 0.1, math.nan]))
    assert order.never == 2
    assert order.ends.tolist() == [2, 3, 4]
    assert set(order.order[:2].tolist()) == {1, 3}
    curve = request_accuracy_curve(
        np.array([0.5, math.nan, 0.1, math.nan]), np.array([True] * 4), np.array([True, False, True, False])
    )
    assert curve.best().request_rate == 0.5  # the two without confidence are sent, whatever the threshold
    assert curve.within_budget(0.4) is None


def test_confidences_must_be_one_number_per_input() -> None:
    for wrong in (np.empty(0), np.zeros((2, 2))):
        with pytest.raises(InputError, match="one number per input"):
            DeferralOrder.of(wrong)


def test_remote_even_and_best_are_what_a_search_over_all_points_finds() -> None:
    confidence, local, remote = sample(500, ties=2)
    curve = request_accuracy_curve(confidence, local, remote)
    even = next(i for i, a in enumerate(curve.system_accuracy) if a >= remote.mean())
    assert curve.remote_even().request_rate == curve.request_rates[even]
    best = int(np.argmax(curve.system_accuracy))
    assert curve.best().request_rate == curve.request_rates[best]
    margin = next(i for i, a in enumerate(curve.system_accuracy) if a >= remote.mean() - 0.02)
    assert curve.remote_even(0.02).request_rate == curve.request_rates[margin] <= curve.request_rates[even]
    thin = curve.thinned(20)
    assert (thin.best(), thin.remote_even()) == (curve.best(), curve.remote_even())
