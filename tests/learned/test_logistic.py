"""The penalised logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.learned.logistic import INTERCEPT_PENALTY, fit_logistic, sigmoid


def gradient(x: np.ndarray, y: np.ndarray, penalty: float, codes: np.ndarray, k: int, c: float, found) -> np.ndarray:
    one_hot = (codes == np.arange(k)[:, None]).astype(float)
    z = found.weights @ x + found.effects @ one_hot
    pull = np.full(len(x), penalty)
    pull[0] = INTERCEPT_PENALTY
    return np.concatenate(
        [x @ (sigmoid(z) - y) + pull * found.weights, one_hot @ (sigmoid(z) - y) + c * found.effects]
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 5), st.integers(0, 6), st.sampled_from([0.1, 1.0, 30.0])
)
def test_the_gradient_vanishes_at_the_minimum_whatever_the_columns(seed, n, p, k, penalty):
    rng = np.random.default_rng(seed)
    x = np.concatenate(
        [np.ones((1, n)), rng.normal(size=(p, n)), np.full((1, n), 3.0), rng.normal(size=(1, n)) * 0.0]
    )
    y, codes = rng.random(n).round(), rng.integers(-1, max(k, 1), n)
    found = fit_logistic(x, y, penalty, codes if k else None, k, 2.0)
    # A loss that is minimal to 1e-9 has a gradient of the order of its square root.
    assert np.abs(gradient(x, y, penalty, codes, k, 2.0, found)).max() < 2e-3 * (1.0 + n) ** 0.5


def test_effects_of_classes_are_those_of_columns_of_their_own():
    rng = np.random.default_rng(1)
    n, k = 400, 7
    codes = rng.integers(0, k, n)
    x = np.stack([np.ones(n), rng.normal(size=n)])
    y = (rng.random(n) < sigmoid(0.5 * x[1] + np.linspace(-1, 1, k)[codes])).astype(float)
    block = fit_logistic(x, y, 1.0, codes, k, 1.0)
    dense = fit_logistic(np.concatenate([x, (codes == np.arange(k)[:, None]).astype(float)]), y, 1.0)
    assert block.weights == pytest.approx(dense.weights[:2], abs=1e-4)
    assert block.effects == pytest.approx(dense.weights[2:], abs=1e-4)


@pytest.mark.parametrize("y", [[0.0] * 6, [1.0] * 6, [0, 0, 0, 1, 1, 1], [0.2, 0.4, 0.6, 0.5, 0.1, 1.0]])
def test_one_class_separation_and_grades_have_a_finite_minimum(y):
    x = np.stack([np.ones(6), np.arange(6.0) * 1e3])
    found = fit_logistic(x, np.array(y, dtype=float), 1e-3)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(sigmoid(found.weights @ x)).all()


def test_the_intercept_alone_gives_the_share():
    found = fit_logistic(np.ones((1, 1000)), np.r_[np.ones(300), np.zeros(700)], 1.0)
    assert sigmoid(found.weights)[0] == pytest.approx(0.3, abs=1e-4)


def test_sklearn_finds_the_same_minimum():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 3))
    y = (rng.random(500) < sigmoid(x @ [1.0, -2.0, 0.0] + 0.5)).astype(float)
    ours = fit_logistic(np.concatenate([np.ones((1, 500)), x.T]), y, 2.0).weights
    theirs = linear.LogisticRegression(C=0.5, tol=1e-10).fit(x, y)
    assert ours == pytest.approx(np.r_[theirs.intercept_, theirs.coef_[0]], abs=1e-3)
