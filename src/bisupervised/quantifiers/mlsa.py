"""Multi-modal likelihood-based surprise adequacy: the density of the features under a mixture of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import features_of, fitting_rows, where_known
from bisupervised.quantifiers.covariance import shrunk_covariance, whitening
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import log_sum_exp, read_only, row_product, square_distances, square_norms
from bisupervised.records import Evidence, FloatArray, IntArray, ModelOutput

_CLUSTERING_ROUNDS: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class MLSA:
    """confidence = ln sum_k w_k N(f; m_k, S_k), any real number. Kim & Yoo, "Multimodal Surprise Adequacy", 2021.

    A mixture of Gaussians over the training rows of all classes, fitted by expectation-maximisation from seeded
    k-means++ clusters: the same rows give the same mixture. The covariances have a weak prior about the shrunk one
    that the clusters have in common (as in Fraley & Raftery, J. of Classification, 2007), so that constant and
    collinear features, and components of few rows, do no harm.
    """

    means: FloatArray = field(repr=False)  #: (components, d)
    whiteners: FloatArray = field(repr=False)  #: (components, d, d) W with W W' = S_k^-1
    log_scales: FloatArray = field(repr=False)  #: (components,) ln w_k - ln sqrt(det(2 pi S_k))
    name: ClassVar[str] = "mlsa"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C1
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("means", "whiteners", "log_scales"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, self.means.shape[1])
        return where_known(known, log_sum_exp(self._log_joint(features)))

    def _log_joint(self, features: FloatArray) -> FloatArray:
        """(n, components) ln w_k N(f; m_k, S_k)."""
        joint = np.empty((len(features), len(self.means)))
        for k, (mean, whitener) in enumerate(zip(self.means, self.whiteners, strict=True)):
            joint[:, k] = self.log_scales[k] - 0.5 * square_norms(row_product(features - mean, whitener))
        return joint

    @classmethod
    def fit(
        cls, output: ModelOutput, labels: Any = None, *, components: int = 3, seed: int = 0, max_rounds: int = 100
    ) -> MLSA:
        """From the features of training rows; of their labels only whether there is one is looked at.

        `components` Gaussians; a good number is about that of the classes. Ends when the mean log-density rises by
        less than 1e-4, or after `max_rounds`. Raises `EvidenceError` for fewer rows than components.
        """
        features = fitting_rows(output, labels).features
        if not 1 <= components <= len(features):
            raise EvidenceError(f"components is from 1 to the number of rows, {len(features)}, not {components}")
        cluster = _clusters(features, components, np.random.default_rng(seed))
        shares = np.equal(cluster[:, np.newaxis], np.arange(components)).astype(np.float64)
        spread = _common_spread(features, cluster)
        mixture, before = cls._most_likely(features, shares, spread), -np.inf
        for _ in range(max_rounds):
            joint = mixture._log_joint(features)
            densities = log_sum_exp(joint)
            if densities.mean() - before < 1e-4:
                break
            before = float(densities.mean())
            mixture = cls._most_likely(features, np.exp(joint - densities[:, np.newaxis]), spread)
        return mixture

    @classmethod
    def _most_likely(cls, features: FloatArray, shares: FloatArray, spread: FloatArray) -> MLSA:
        """The mixture of the largest posterior, given the (n, components) shares of each row in each component.

        The covariance of a component has an inverse Wishart prior with d + 2 degrees of freedom about `spread`.
        """
        n, d = features.shape
        weights = np.maximum(shares.sum(axis=0), 1e-300)
        means = shares.T @ features / weights[:, np.newaxis]
        whiteners, log_scales = np.empty((len(weights), d, d)), np.empty(len(weights))
        for k, weight in enumerate(weights):
            centred = (features - means[k]) * np.sqrt(shares[:, k, np.newaxis])
            covariance = (spread + centred.T @ centred) / (weight + 2.0 * d + 3.0)
            whiteners[k], half_log_determinant = whitening(covariance)
            log_scales[k] = np.log(weight / n) - half_log_determinant - 0.5 * d * np.log(2.0 * np.pi)
        return cls(means, whiteners, log_scales)


def _common_spread(features: FloatArray, cluster: IntArray) -> FloatArray:
    """The shrunk covariance about the clusters' means; about the mean of all where every cluster is one point."""
    places, cluster = np.unique(cluster, return_inverse=True)
    means = np.array([features[cluster == place].mean(axis=0) for place in range(len(places))])
    deviations = features - means[cluster]
    if not deviations.any():
        return shrunk_covariance(features - features.mean(axis=0), len(features) - 1)
    return shrunk_covariance(deviations, len(features) - len(places))


def _clusters(features: FloatArray, k: int, rng: np.random.Generator) -> IntArray:
    """(n,) clusters in 0..k-1, none empty if there are k distinct rows: k-means++ (Arthur & Vassilvitskii, 2007)."""
    centres = features[rng.integers(len(features))][np.newaxis]
    for _ in range(k - 1):
        squares = square_distances(features, centres, square_norms(centres)).min(axis=1)
        total = squares.sum()
        chance = squares / total if total > 0.0 else None
        centres = np.vstack([centres, features[rng.choice(len(features), p=chance)]])
    cluster = np.zeros(len(features), dtype=np.int64)
    for _ in range(_CLUSTERING_ROUNDS):
        nearest = square_distances(features, centres, square_norms(centres)).argmin(axis=1)
        if np.array_equal(nearest, cluster):
            break
        cluster = nearest
        for place in np.unique(cluster):
            centres[place] = features[cluster == place].mean(axis=0)
    return cluster
