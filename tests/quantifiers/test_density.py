"""The quantifiers that read features, against dense references, naive loops, and others' code where it is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers import (
    DSA,
    KNN,
    LSA,
    MDSA,
    MLSA,
    Mahalanobis,
    PCAAutoencoder,
    Reconstruction,
    RelativeMahalanobis,
    ViM,
    quantifier_by_name,
)
from bisupervised.quantifiers.covariance import shrunk_covariance, whitening
from bisupervised.records import ModelOutput

NAN = float("nan")


def rows(n: int, d: int, seed: int, classes: int = 3) -> ModelOutput:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    mixing = rng.normal(size=(d, d)) / math.sqrt(d) + np.eye(d)
    centres = np.random.default_rng(99).normal(size=(classes, d)) * 2
    return ModelOutput(labels, features=rng.normal(size=(n, d)) @ mixing + centres[labels])


def at(features: np.ndarray, predictions: np.ndarray | None = None) -> ModelOutput:
    return ModelOutput(np.zeros(len(features), int) if predictions is None else predictions, features=features)


SEEDS = st.integers(0, 10_000)


# ---------------------------------------------------------------- Mahalanobis


def dense(deviations: np.ndarray, degrees: int, r: float) -> np.ndarray:
    covariance = deviations.T @ deviations / degrees
    d = len(covariance)
    return np.linalg.inv((1 - r) * covariance + r * np.trace(covariance) / d * np.eye(d))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.1, 1.0]))
def test_mahalanobis_distances_are_those_of_the_inverted_covariances(seed, r):
    train, new = rows(80, 6, seed), rows(9, 6, seed + 1)
    means = np.array([train.features[train.predictions == c].mean(axis=0) for c in range(3)])
    inverse = dense(train.features - means[train.predictions], 77, r)
    overall_mean = train.features.mean(axis=0)
    overall_inverse = dense(train.features - overall_mean, 79, r)
    nearest = [min((f - m) @ inverse @ (f - m) for m in means) for f in new.features]
    overall = [(f - overall_mean) @ overall_inverse @ (f - overall_mean) for f in new.features]
    for kind, expected in (
        (Mahalanobis, -np.array(nearest)),
        (MDSA, -np.array(overall)),
        (RelativeMahalanobis, np.array(overall) - nearest),
    ):
        fitted = kind.fit(train, train.predictions, shrinkage=r)
        np.testing.assert_allclose(fitted(new), expected, rtol=1e-9, atol=1e-9)


def test_a_linear_map_of_the_features_changes_no_unshrunk_mahalanobis_distance():
    train, new = rows(200, 5, 0), rows(20, 5, 1)
    mapping = np.random.default_rng(2).normal(size=(5, 5))
    for kind in (Mahalanobis, MDSA, RelativeMahalanobis):
        plain = kind.fit(train, shrinkage=0.0)(new)
        mapped = kind.fit(at(train.features @ mapping + 3.0, train.predictions), shrinkage=0.0)
        np.testing.assert_allclose(mapped(at(new.features @ mapping + 3.0)), plain, rtol=1e-6)


def test_without_labels_the_predictions_are_the_classes():
    train = rows(90, 4, 0)
    other = np.random.default_rng(0).permutation(train.predictions)
    new = rows(5, 4, 1)
    np.testing.assert_array_equal(
        Mahalanobis.fit(train)(new), Mahalanobis.fit(at(train.features, other), train.predictions)(new)
    )
    assert (Mahalanobis.fit(train)(new) != Mahalanobis.fit(at(train.features, other))(new)).all()


def test_the_shrinkage_is_oas_of_chen_et_al():
    covariance = pytest.importorskip("sklearn.covariance")
    x = np.random.default_rng(0).normal(size=(40, 30)) * np.linspace(0.1, 3, 30)
    x -= x.mean(axis=0)
    theirs, their_r = covariance.oas(x, assume_centered=True)
    squares = np.trace(x.T @ x / 40 @ (x.T @ x / 40))
    trace = np.trace(x.T @ x / 40)
    r = ((1 - 2 / 30) * squares + trace**2) / ((41 - 2 / 30) * (squares - trace**2 / 30))
    expected = (1 - r) * x.T @ x / 40 + r * trace / 30 * np.eye(30)
    np.testing.assert_allclose(shrunk_covariance(x, 40), expected, rtol=1e-12)
    assert r == pytest.approx(their_r, rel=0.05), "scikit-learn drops the 2 / d"
    np.testing.assert_allclose(shrunk_covariance(x, 40), theirs, atol=0.05 * theirs.max())


@given(SEEDS, st.integers(1, 6), st.integers(1, 12))
def test_a_shrunk_covariance_can_be_inverted_and_keeps_its_trace(seed, d, n):
    x = np.random.default_rng(seed).normal(size=(n, d)) * 10.0 ** np.arange(d)
    covariance = shrunk_covariance(x, n)
    assert np.trace(covariance) == pytest.approx(np.trace(x.T @ x / n))
    whitener, log_determinant = whitening(covariance)
    np.testing.assert_allclose(whitener @ whitener.T @ covariance, np.eye(d), atol=1e-6)
    assert log_determinant == pytest.approx(np.linalg.slogdet(covariance)[1] / 2, abs=1e-8)


@pytest.mark.parametrize("r", [-0.1, 1.1, NAN])
def test_a_shrinkage_is_a_share(r):
    with pytest.raises(EvidenceError, match=r"in \[0, 1\]"):
        MDSA.fit(rows(30, 3, 0), shrinkage=r)


def test_a_singular_covariance_that_may_not_be_shrunk_is_an_error():
    with pytest.raises(EvidenceError, match="singular"):
        MDSA.fit(at(np.random.default_rng(0).normal(size=(3, 5))), shrinkage=0.0)


# ---------------------------------------------------------------- nearest neighbours


def naive_knn(train: np.ndarray, new: np.ndarray, k: int) -> list[float]:
    def direction(f: np.ndarray) -> np.ndarray:
        norm = np.linalg.norm(f)
        return (f / norm if norm else f).astype(np.float32).astype(float)

    return [-sorted(np.linalg.norm(direction(f) - direction(t)) for t in train)[k - 1] for f in new]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 40))
def test_knn_is_the_naive_loop(seed, k):
    train, new = rows(40, 7, seed), rows(8, 7, seed + 1)
    np.testing.assert_allclose(KNN.fit(train, k=k)(new), naive_knn(train.features, new.features, k), rtol=1e-12)


def test_knn_minds_the_direction_alone_and_takes_the_kth_neighbour():
    """An early release of pytorch-ood took the first one, and did not normalise."""
    train, new = rows(100, 6, 0), rows(10, 6, 1)
    fitted = KNN.fit(train)
    assert fitted.k == 50
    scaled = at(new.features * np.geomspace(1e-3, 1e3, 10)[:, None])
    np.testing.assert_allclose(fitted(scaled), fitted(new), rtol=1e-5)
    confidences = [KNN.fit(train, k=k)(new) for k in (1, 2, 10, 50, 100)]
    assert (np.diff(confidences, axis=0) < 0).all(), "each further neighbour is farther away"
    assert KNN.fit(train, k=1)(train).min() == 0.0, "a training row is its own first neighbour"


def test_features_that_are_all_0_have_the_distance_1_to_every_direction():
    np.testing.assert_allclose(KNN.fit(rows(60, 4, 0))(at(np.zeros((1, 4)))), [-1.0], atol=1e-6)


@pytest.mark.parametrize("k", [0, -1, 61])
def test_there_must_be_k_training_rows(k):
    with pytest.raises(EvidenceError, match="from 1 to the number of training rows, 60"):
        KNN.fit(rows(60, 4, 0), k=k)


def naive_dsa(train: ModelOutput, new: ModelOutput) -> list[float]:
    t, x = train.features.astype(np.float32).astype(float), new.features.astype(np.float32).astype(float)
    confidences = []
    for f, predicted in zip(x, new.predictions, strict=True):
        same, others = t[train.predictions == predicted], t[train.predictions != predicted]
        nearest = same[np.argmin(np.linalg.norm(same - f, axis=1))]
        to_others = np.linalg.norm(others - nearest, axis=1).min()
        confidences.append(-np.linalg.norm(f - nearest) / to_others)
    return confidences


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(2, 4))
def test_dsa_is_the_naive_loop(seed, classes):
    train, new = rows(40, 7, seed, classes), rows(9, 7, seed + 1, classes)
    np.testing.assert_allclose(DSA.fit(train)(new), naive_dsa(train, new), rtol=1e-12)


def test_dsa_of_rows_that_two_classes_share_is_a_number():
    train = at(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]), np.array([0, 1, 1]))
    fitted = DSA.fit(train)
    queries = at(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 5.0]]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(fitted(queries), [-1.0, -np.inf, -0.2])


def test_dsa_needs_two_classes():
    with pytest.raises(EvidenceError, match="all 'a'"):
        DSA.fit(at(np.eye(3), np.array(["a"] * 3)))


# ---------------------------------------------------------------- kernel density, mixture


def test_lsa_is_scipys_kernel_density_of_the_predicted_class():
    stats = pytest.importorskip("scipy.stats")
    train, new = rows(60, 4, 0, classes=1), rows(15, 4, 1, classes=1)
    kde = stats.gaussian_kde(train.features.T)
    np.testing.assert_allclose(LSA.fit(train, shrinkage=0.0)(new), kde.logpdf(new.features.T), rtol=1e-9)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_lsa_of_several_classes_is_the_naive_sum_of_kernels(seed):
    train, new = rows(45, 3, seed), rows(9, 3, seed + 1)
    means = np.array([train.features[train.predictions == c].mean(axis=0) for c in range(3)])
    inverse = dense(train.features - means[train.predictions], 42, 0.2)
    h2 = 15 ** (-2 / 7)
    expected = [
        math.log(
            math.fsum(
                math.exp(-((f - t) @ inverse @ (f - t)) / h2 / 2)
                * math.sqrt(np.linalg.det(inverse) / (2 * math.pi * h2) ** 3)
                for t in train.features[train.predictions == predicted]
            )
            / 15
        )
        for f, predicted in zip(new.features, new.predictions, strict=True)
    ]
    np.testing.assert_allclose(LSA.fit(train, shrinkage=0.2)(new), expected, rtol=1e-9)


def test_lsa_reads_the_features_that_vary_most():
    train, new = rows(60, 6, 0), rows(6, 6, 1)
    train.features[:, [1, 4]] *= 100.0
    fitted = LSA.fit(train, max_features=2)
    assert fitted.columns.tolist() == [1, 4]
    moved = new.features + np.array([7.0, 0, 7.0, 7.0, 0, 7.0])
    np.testing.assert_array_equal(fitted(at(moved)), fitted(at(new.features)))
    assert (fitted(at(new.features + 1.0)) != fitted(at(new.features))).all()
    assert LSA.fit(train).columns.tolist() == list(range(6)), "all by default, up to 300"
    with pytest.raises(EvidenceError, match="at least 1"):
        LSA.fit(train, max_features=0)


def separated(n: int, seed: int) -> ModelOutput:
    rng = np.random.default_rng(seed)
    cluster = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    spread = np.array([[1.0, 0.5], [0.2, 2.0], [1.0, 1.0]])[cluster]
    return at(rng.normal(size=(n, 2)) * spread + np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 30.0]])[cluster])


def test_mlsa_finds_the_mixture_that_the_rows_were_drawn_from():
    new = separated(500, 1)
    weights, spread = [0.5, 0.3, 0.2], [[1.0, 0.5], [0.2, 2.0], [1.0, 1.0]]
    means = [[0.0, 0.0], [20.0, 0.0], [0.0, 30.0]]
    density = sum(
        w * np.exp(-0.5 * (((new.features - m) / s) ** 2).sum(axis=1)) / (2 * math.pi * s[0] * s[1])
        for w, m, s in zip(weights, means, spread, strict=True)
    )
    fitted = MLSA.fit(separated(20_000, 0), components=3)
    assert np.abs(fitted(new) - np.log(density)).mean() < 0.02
    np.testing.assert_allclose(np.exp(fitted(separated(2000, 2))).mean(), np.exp(fitted(new)).mean(), rtol=0.1)


def test_mlsa_is_scikit_learns_mixture_of_many_rows():
    mixture = pytest.importorskip("sklearn.mixture")
    train, new = separated(20_000, 0), separated(200, 1)
    theirs = mixture.GaussianMixture(3, random_state=0, n_init=3).fit(train.features)
    np.testing.assert_allclose(MLSA.fit(train)(new), theirs.score_samples(new.features), atol=0.02)


def test_one_component_is_a_gaussian_and_more_explain_the_rows_better():
    train, new = separated(2000, 0), separated(500, 1)
    one, three = (MLSA.fit(train, components=k)(new).mean() for k in (1, 3))
    assert three > one + 1.0
    for k in (0, 2001):
        with pytest.raises(EvidenceError, match="from 1 to the number of rows"):
            MLSA.fit(train, components=k)
    duplicates = at(np.repeat([[0.0, 1.0], [2.0, 3.0]], 5, axis=0))
    assert np.isfinite(MLSA.fit(duplicates, components=4)(duplicates)).all(), "with fewer places than components"


# ---------------------------------------------------------------- ViM, reconstruction


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_vim_is_the_papers_formula(seed, dimensions):
    rng = np.random.default_rng(seed)
    train, new = rows(60, 6, seed), rows(9, 6, seed + 1)
    weights, bias = rng.normal(size=(3, 6)), rng.normal(size=3) + 3
    fitted = ViM.fit(train, weights=weights, bias=bias, dimensions=dimensions)
    origin = -np.linalg.pinv(weights) @ bias
    values, vectors = np.linalg.eig(
        np.cov((train.features - origin).T, bias=True, rowvar=True)
        + np.outer(train.features.mean(axis=0) - origin, train.features.mean(axis=0) - origin)
    )
    reached = vectors[:, np.argsort(-values.real)[:dimensions]].real
    perpendicular = np.eye(6) - reached @ reached.T

    def residual(features: np.ndarray) -> np.ndarray:
        return np.linalg.norm((features - origin) @ perpendicular, axis=1)

    logits = train.features @ weights.T + bias
    alpha = logits.max(axis=1).mean() / residual(train.features).mean()
    energy = np.log(np.exp(new.features @ weights.T + bias).sum(axis=1))
    assert fitted.alpha == pytest.approx(alpha)
    np.testing.assert_allclose(fitted(new), energy - alpha * residual(new.features), rtol=1e-6)


def test_vim_chooses_its_dimensions_and_says_what_is_wrong_with_others():
    train = rows(60, 6, 0)
    layer = {"weights": np.eye(3, 6), "bias": np.full(3, 9.0)}
    assert ViM.fit(train, **layer).residual.shape == (6, 3)
    flat = at(np.hstack([train.features[:, :2], np.zeros((60, 4))]))
    assert ViM.fit(flat, **layer).residual.shape[1] >= 3, "fewer than the features vary in"
    for dimensions in (-1, 6, 7):
        with pytest.raises(EvidenceError, match="dimensions is from 0 to 5"):
            ViM.fit(train, **layer, dimensions=dimensions)
    with pytest.raises(EvidenceError, match="before softmax"):
        ViM.fit(train, weights=np.eye(3, 6), bias=np.full(3, -99.0))
    for weights, bias in ((np.eye(3, 5), np.zeros(3)), (np.eye(3, 6), np.zeros(2)), (np.eye(6, 3), np.zeros(6))):
        with pytest.raises(EvidenceError, match=r"weights must be \(classes, 6\)"):
            ViM.fit(train, weights=weights, bias=bias)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_a_pca_autoencoder_is_scikit_learns_reconstruction_error(seed, components):
    decomposition = pytest.importorskip("sklearn.decomposition")
    train, new = rows(60, 6, seed), rows(9, 6, seed + 1)
    pca = decomposition.PCA(components, svd_solver="full").fit(train.features)
    errors = ((new.features - pca.inverse_transform(pca.transform(new.features))) ** 2).sum(axis=1)
    np.testing.assert_allclose(PCAAutoencoder.fit(train, components=components)(new), -errors, rtol=1e-8)


def test_a_share_of_the_variance_chooses_how_many_directions():
    rng = np.random.default_rng(0)
    train = at(rng.normal(size=(5000, 4)) * np.sqrt([60.0, 30.0, 7.0, 3.0]))
    widths = [PCAAutoencoder.fit(train, components=share).directions.shape[1] for share in (0.5, 0.85, 0.95, 0.999)]
    assert widths == [1, 2, 3, 3], "never all four: then nothing would be lost"
    for components in (0, 4, 1.5, -1, 1.0 * 5):
        with pytest.raises(EvidenceError, match="from 1 to 3"):
            PCAAutoencoder.fit(train, components=components)


def test_any_callable_reconstructs_and_what_it_may_give_wrong():
    new = rows(5, 4, 0)
    errors = (new.features**2).mean(axis=1)
    np.testing.assert_allclose(Reconstruction(np.zeros_like)(new), -errors)
    with pytest.raises(EvidenceError, match="must be as many"):
        Reconstruction(lambda features: features[:, :2])(new)
    assert quantifier_by_name("reconstruction", {"reconstruct": "module:name"}, lambda _: np.zeros_like) == (
        Reconstruction(np.zeros_like)
    )


def test_a_reconstruction_that_raises_costs_the_evidence_and_is_told(caplog):
    def broken(features: np.ndarray) -> np.ndarray:
        raise ConnectionError("the autoencoder is down")

    assert np.isnan(Reconstruction(broken)(rows(3, 4, 0))).all()
    assert "ConnectionError: the autoencoder is down" in caplog.text


def test_a_reconstruction_cannot_change_the_output():
    def careless(features: np.ndarray) -> np.ndarray:
        features *= 0.0
        return features

    new = rows(3, 4, 0)
    before = new.features.copy()
    Reconstruction(careless)(new)
    np.testing.assert_array_equal(new.features, before)
