"""Paired differences, beside hand-computed ones, all pairs, and the paired bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from bisupervised.evaluation import DeferralOrder, auc_rac, auroc
from bisupervised.evaluation.auc_rac import correctness_gain
from bisupervised.evaluation.influence import (
    Difference,
    Influence,
    adjusted_p_values,
    auroc_influence,
    deferral_influences,
    difference,
)
from evaluation.made import random_rows, rows

Z95 = 1.959963984540054


def of_auroc(confidences: np.ndarray, right: np.ndarray) -> Influence:
    return auroc_influence(DeferralOrder.of(confidences), right)


def of_deferral(confidences: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[Influence, Influence]:
    return deferral_influences(DeferralOrder.of(confidences), correctness_gain(left, right))


def delong_over_all_pairs(first: np.ndarray, second: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """The difference and its standard error as DeLong et al. write them, O(n^2), NaN below all numbers."""
    wins = []
    for scores in (first, second):
        known = np.unique(np.where(np.isnan(scores), -np.inf, scores), return_inverse=True)[1] + ~np.isnan(scores)
        x, y = known[right], known[~right]
        wins.append((x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :]))
    s10 = np.cov(np.array([one.mean(axis=1) for one in wins]))
    s01 = np.cov(np.array([one.mean(axis=0) for one in wins]))
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (s10 / right.sum() + s01 / (~right).sum()) @ contrast
    return wins[0].mean() - wins[1].mean(), math.sqrt(max(variance, 0.0))


def test_the_difference_of_two_aurocs_by_hand() -> None:
    right = np.array([True, True, False, False])
    first, second = of_auroc(np.array([4.0, 3.0, 2.0, 1.0]), right), of_auroc(np.array([4.0, 1.0, 2.0, 3.0]), right)
    assert (first.value, second.value) == (1.0, 0.5)
    found = difference(first, second)
    # V10 differ by 0 and 1, V01 by 1/2 and 1/2: variance (1/2) / 2 + 0.
    assert found.value == 0.5
    assert found.standard_error == pytest.approx(0.5)
    assert found.p_value == pytest.approx(math.erfc(1.0 / math.sqrt(2.0)))
    assert (found.low, found.high) == pytest.approx((0.5 - Z95 / 2, 0.5 + Z95 / 2))


@pytest.mark.parametrize("levels", [None, 5])
def test_it_is_delongs_paired_difference_computed_over_all_pairs(levels: int | None) -> None:
    first, right, second, _ = random_rows(180, seed=3, levels=levels)
    first[::17], second[::13] = np.nan, np.nan
    second += 0.3 * right
    value, error = delong_over_all_pairs(first, second, right)
    found = difference(of_auroc(first, right), of_auroc(second, right))
    assert (found.value, found.standard_error) == pytest.approx((value, error))


@settings(deadline=None, max_examples=150)
@given(rows(max_n=20))
def test_one_auroc_and_its_error_are_those_of_auroc_and_two_equal_ones_do_not_differ(made: tuple) -> None:
    confidences, right, other, _ = made
    found = of_auroc(confidences, right)
    if right.all() or not right.any():
        assert math.isnan(found.value)
        assert math.isnan(difference(found, of_auroc(other, right)).p_value)
        return
    plain = auroc(confidences, right)
    assert found.value == pytest.approx(plain.value)
    if found.pairs > 1 and plain.low > 0.0 and plain.high < 1.0:
        assert found.estimate == pytest.approx(plain)
        assert difference(found, found) == Difference(0.0, 0.0, 0.0, 0.0, 1.0)
    back = difference(of_auroc(other, right), found)
    there = difference(found, of_auroc(other, right))
    assert there.value == pytest.approx(-back.value, abs=1e-12)
    assert there.p_value == pytest.approx(back.p_value, nan_ok=True)


@settings(deadline=None, max_examples=150)
@given(rows(max_n=20, graded=True))
def test_the_gain_and_auc_rac_are_those_of_auc_rac(made: tuple) -> None:
    confidences, left, _, right = made
    gain, ratio = of_deferral(confidences, left, right)
    plain = auc_rac(confidences, left, right)
    assert gain.value == pytest.approx(plain.area_gain, abs=1e-12)
    assert ratio.value == pytest.approx(plain.value, nan_ok=True, rel=1e-6, abs=1e-9)
    if len(left) > 1 and not math.isnan(plain.value):
        width = ratio.estimate.high - ratio.value
        assert width == pytest.approx(Z95 * plain.standard_error, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("levels", [None, 6])
def test_paired_errors_agree_with_the_paired_bootstrap(levels: int | None) -> None:
    first, left, noise, right = random_rows(600, seed=8, levels=levels)
    second = np.where(noise > 0.6, noise, first)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(500):
        pick = rng.integers(0, len(left), len(left))
        pairs = [of_deferral(scores[pick], left[pick], right[pick]) for scores in (first, second)]
        aurocs = [of_auroc(scores[pick], left[pick]).value for scores in (first, second)]
        drawn.append(
            [pairs[0][0].value - pairs[1][0].value, pairs[0][1].value - pairs[1][1].value, -np.diff(aurocs)[0]]
        )
    spread = np.std(drawn, axis=0, ddof=1)
    ours = [
        difference(*pair)
        for pair in zip(of_deferral(first, left, right), of_deferral(second, left, right), strict=True)
    ]
    ours.append(difference(of_auroc(first, left), of_auroc(second, left)))
    assert [one.standard_error for one in ours] == pytest.approx(spread, rel=0.12)


@settings(deadline=None, max_examples=80)
@given(rows(max_n=20))
def test_neither_the_order_of_the_rows_nor_the_scale_of_the_scores_matters(made: tuple) -> None:
    first, left, second, right = made
    shuffled = np.random.default_rng(1).permutation(len(left))
    stretched = np.unique(first, return_inverse=True)[1].astype(float) * 3.0 - 7.0
    stretched[np.isnan(first)] = np.nan
    for of, columns in ((of_auroc, (left,)), (lambda *c: of_deferral(*c)[0], (left, right))):
        plain = difference(of(first, *columns), of(second, *columns))
        moved = difference(
            of(stretched[shuffled], *(one[shuffled] for one in columns)),
            of(second[shuffled], *(one[shuffled] for one in columns)),
        )
        assert moved == pytest.approx(plain, nan_ok=True, rel=1e-6, abs=1e-9)


def test_perfect_separation_against_a_constant_is_not_certain_with_few_pairs() -> None:
    for n, significant in ((4, False), (60, True)):
        right = np.arange(n) < n // 2
        found = difference(of_auroc(right.astype(float), right), of_auroc(np.zeros(n), right))
        assert found.value == 0.5
        assert found.standard_error > 0.0
        assert (found.p_value < 0.001) == significant


# ---------------------------------------------------------------- many at once


def test_one_alone_keeps_its_p_value_and_copies_of_one_pay_hardly_more() -> None:
    rng = np.random.default_rng(2)
    base = Influence(0.0, rng.normal(size=400), 200)
    one = Influence(0.12, base.rows + rng.normal(size=400), 200)
    apart = difference(one, base)
    (alone,) = adjusted_p_values([one], base, [apart])
    assert alone == pytest.approx(apart.p_value, rel=0.1)
    copies = adjusted_p_values([one] * 8, base, [apart] * 8)
    assert copies[0] == pytest.approx(apart.p_value, rel=0.1), "Holm would ask for eight times as much"


def test_independent_ones_pay_as_by_holm_and_never_more() -> None:
    rng = np.random.default_rng(4)
    base = Influence(0.0, np.zeros(500), 250)
    many = [Influence(value, rng.normal(size=500), 250) for value in (0.13, 0.1, 0.05, 0.0, -0.02)]
    apart = [difference(one, base) for one in many]
    adjusted = adjusted_p_values(many, base, apart)
    steps = np.sort([one.p_value for one in apart]) * np.arange(5, 0, -1)
    holm = np.minimum(np.maximum.accumulate(steps), 1.0)
    assert np.all(np.sort(adjusted) <= holm + 1e-12)
    assert np.sort(adjusted)[0] == pytest.approx(holm[0], rel=0.15)
    assert all(mine >= one.p_value for mine, one in zip(adjusted, apart, strict=True))
    assert adjusted == adjusted_p_values(many, base, apart), "seeded"


def test_a_difference_that_is_not_known_has_p_1_and_costs_the_others_nothing_certain() -> None:
    base = Influence(0.5, np.random.default_rng(0).normal(size=50), 25)
    unknown = Influence(math.nan, np.full(50, math.nan), 0)
    assert adjusted_p_values([unknown], base, [difference(unknown, base)]) == [1.0]
    assert adjusted_p_values([], base, []) == []
