"""The quantifiers that read logits, and the entropies of other orders: values by hand, identities, the fit of p."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bisupervised.errors import EvidenceError
from bisupervised.evaluation.risk_coverage import risk_coverage
from bisupervised.quantifiers import (
    DeepGini,
    Energy,
    Gen,
    MaxLogit,
    MaxLogitPNorm,
    MaxSoftmax,
    RenyiEntropy,
    SoftmaxEntropy,
    TsallisEntropy,
)
from bisupervised.quantifiers.max_logit import ORDERS, aurc
from bisupervised.records import ModelOutput

NAN, INF = float("nan"), float("inf")
LN2 = math.log(2)
ALL = [Energy(), MaxLogit(), *(MaxLogitPNorm(p) for p in (1.0, 2.0, 7.0, "max_softmax", "max_logit"))]
EVERY = pytest.mark.parametrize("quantifier", ALL, ids=repr)
LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.floats(-30, 30))


def of_logits(*rows: list[float]) -> ModelOutput:
    return ModelOutput(np.zeros(len(rows)), logits=np.array(rows))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def of_probabilities(p: np.ndarray) -> ModelOutput:
    return ModelOutput(np.zeros(len(p)), probabilities=p)


# ---------------------------------------------------------------- logits


@pytest.mark.parametrize(
    ("row", "energy", "largest", "norm2"),
    [
        ([0.0], 0.0, 0.0, 0.0),
        ([0.0, 0.0], LN2, 0.0, 0.0),
        ([math.log(3), 0.0], math.log(4), math.log(3), 1 / math.sqrt(2)),
        ([2.0, -1.0, -1.0], 2 + math.log(1 + 2 * math.exp(-3)), 2.0, 2 / math.sqrt(6)),
        ([1000.0, 1000.0], 1000 + LN2, 1000.0, 0.0),
        ([-1000.0, -1001.0], -1000 + math.log(1 + math.exp(-1)), -1000.0, 1 / math.sqrt(2)),
    ],
)
def test_values_are_those_computed_by_hand(row, energy, largest, norm2):
    assert [float(q(of_logits(row))[0]) for q in (Energy(), MaxLogit(), MaxLogitPNorm(2.0))] == pytest.approx(
        [energy, largest, norm2], rel=1e-14, abs=1e-15
    )


@given(LOGITS, st.floats(0.1, 10), st.floats(-50, 50))
def test_energy_moves_with_the_logits_and_its_temperature_scales_both(logits, temperature, shift):
    plain = Energy(temperature)(of_logits(*logits))
    np.testing.assert_allclose(Energy(temperature)(of_logits(*(logits + shift))), plain + shift, atol=1e-11)
    np.testing.assert_allclose(Energy()(of_logits(*(logits / temperature))) * temperature, plain, atol=1e-11)
    assert (plain >= logits.max(axis=1) - 1e-11).all()


@settings(deadline=None)
@given(LOGITS, st.floats(0.1, 10), st.floats(-50, 50), st.sampled_from([1.0, 2.0, 3.5, 10.0]))
def test_the_norm_takes_out_the_scale_and_the_shift_of_the_logits(logits, scale, shift, p):
    logits = logits.round(2)
    quantifier = MaxLogitPNorm(p)
    confidences = quantifier(of_logits(*logits))
    np.testing.assert_allclose(quantifier(of_logits(*(logits * scale + shift))), confidences, atol=1e-8)
    assert ((confidences >= 0.0) & (confidences <= 1.0)).all()
    centred = logits - logits.mean(axis=1, keepdims=True)
    for row, confidence in zip(centred, confidences, strict=True):
        norm = sum(abs(z) ** p for z in row) ** (1 / p)
        assert confidence == pytest.approx(max(row) / norm if norm > 1e-9 else 0.0, abs=1e-9)


@given(LOGITS)
def test_the_fall_backs_are_the_largest_softmax_and_the_largest_logit(logits):
    output = of_logits(*logits)
    expected = MaxSoftmax()(of_probabilities(softmax(logits)))
    np.testing.assert_allclose(MaxLogitPNorm("max_softmax")(output), expected, rtol=1e-12)
    np.testing.assert_array_equal(MaxLogitPNorm("max_logit")(output), MaxLogit()(output))


@EVERY
def test_a_class_that_is_ruled_out_leaves_a_confidence_and_plus_infinity_leaves_none(quantifier):
    out, above, all_out = quantifier(of_logits([2.0, -INF], [INF, 1.0], [-INF, -INF]))
    assert np.isnan([above, all_out]).all()
    p = getattr(quantifier, "p", "max_logit")
    if isinstance(p, str):
        assert out == (1.0 if p == "max_softmax" else 2.0)
    else:
        assert np.isnan(out), "the mean of the logits is not finite"


@EVERY
@pytest.mark.parametrize("shape", [(2,), (2, 2, 2), (3, 2), (1, 2), (0, 2), (2, 0), ()])
def test_logits_of_another_shape_are_an_error(quantifier, shape):
    with pytest.raises(EvidenceError, match="logits must have the shape"):
        quantifier(ModelOutput(np.zeros(2), logits=np.full(shape, 0.5)))
    with pytest.raises(EvidenceError, match="must be an array of numbers"):
        quantifier(ModelOutput(np.zeros(1), logits=np.array([["high"]])))


@pytest.mark.parametrize("wrong", [0.0, -1.0, NAN, INF])
def test_settings_that_make_no_sense_are_refused(wrong):
    for make in (Energy, MaxLogitPNorm, Gen, RenyiEntropy, TsallisEntropy):
        with pytest.raises(EvidenceError):
            make(wrong)
    with pytest.raises(EvidenceError, match="max_softmax"):
        MaxLogitPNorm("softmax")
    with pytest.raises(EvidenceError, match="softmax_entropy"):
        RenyiEntropy(1.0)
    with pytest.raises(EvidenceError):
        Gen(largest=0)


# ---------------------------------------------------------------- the fit of p


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.5, 0.5, 0.9, NAN]) | st.floats(0, 1), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_the_aurc_here_is_the_evaluations(rows):
    confidences, wrong = np.array([c for c, _ in rows]), np.array([w for _, w in rows])
    assert aurc(confidences, wrong) == pytest.approx(risk_coverage(confidences, ~wrong).aurc, abs=1e-12)


def labelled(n: int = 4000, seed: int = 0) -> tuple[ModelOutput, np.ndarray]:
    """Logits whose scale says nothing about whether they are right, and spoils the softmax."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    margin = rng.exponential(1.5, n)
    logits = rng.normal(size=(n, 10))
    logits[np.arange(n), labels] += margin
    logits *= rng.lognormal(0.0, 1.2, (n, 1))
    return ModelOutput(logits.argmax(axis=1), logits=logits), labels


def test_p_is_chosen_by_the_aurc_and_does_better_on_other_rows_too():
    fitted = MaxLogitPNorm.fit(*labelled())
    assert fitted.p in ORDERS
    output, labels = labelled(seed=1)
    wrong = output.predictions != labels
    risk = {p: aurc(MaxLogitPNorm(p)(output), wrong) for p in (fitted.p, "max_softmax", "max_logit")}
    assert risk[fitted.p] < 0.9 * min(risk["max_softmax"], risk["max_logit"])


def test_where_no_norm_helps_it_falls_back():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 20_000)
    logits = np.log(np.stack([p, 1 - p], axis=1))
    right = ModelOutput(np.zeros(len(p), dtype=int), logits=logits)
    assert MaxLogitPNorm.fit(right, np.where(rng.random(len(p)) < p, 0, 1)).p == "max_softmax", "all are calibrated"
    shifted = ModelOutput(right.predictions, logits=logits + 20 * p[:, None])
    labels = np.where(rng.random(len(p)) < 1.5 - p, 0, 1)
    assert MaxLogitPNorm.fit(ModelOutput(right.predictions, logits=-shifted.logits), labels).p == "max_logit"
    all_right = MaxLogitPNorm.fit(right, np.zeros(len(p), dtype=int))
    assert all_right.p == "max_softmax", "with nothing wrong, nothing is better"


def test_rows_without_label_or_logits_do_not_count_in_the_fit():
    output, labels = labelled(500)
    fitted = MaxLogitPNorm.fit(output, labels)
    more = ModelOutput(
        np.concatenate([output.predictions, [0] * 300]),
        logits=np.vstack([output.logits, np.full((200, 10), NAN), np.eye(10)[np.zeros(100, dtype=int)] * 1e9]),
    )
    missing = [*labels.tolist(), *[1] * 200, *[None] * 100]
    assert MaxLogitPNorm.fit(more, missing) == fitted
    for rows, given_labels in ((output, [None] * 500), (ModelOutput(np.empty(0), logits=np.empty((0, 3))), [])):
        with pytest.raises(EvidenceError, match="no row to fit on"):
            MaxLogitPNorm.fit(rows, given_labels)


# ---------------------------------------------------------------- entropies of other orders


@settings(max_examples=50)
@given(LOGITS)
def test_entropies_of_special_orders_are_those_that_are_there_already(logits):
    output = of_probabilities(softmax(logits))
    shannon, gini = SoftmaxEntropy()(output), DeepGini()(output)
    np.testing.assert_allclose(RenyiEntropy(2.0)(output), np.log(gini), atol=1e-12)
    np.testing.assert_allclose(TsallisEntropy(2.0)(output), gini - 1.0, atol=1e-12)
    for near_one in (1 - 1e-6, 1 + 1e-6):
        np.testing.assert_allclose(RenyiEntropy(near_one)(output), shannon, atol=1e-4)
        np.testing.assert_allclose(TsallisEntropy(near_one)(output), shannon, atol=1e-4)
    renyi = RenyiEntropy(0.5)(output)
    np.testing.assert_allclose(TsallisEntropy(0.5)(output), 2 - 2 * np.exp(-renyi / 2), atol=1e-9)
    assert (renyi <= shannon + 1e-9).all(), "entropies fall with their order"


@settings(max_examples=50)
@given(LOGITS, st.floats(0.05, 0.95), st.integers(1, 8))
def test_gen_is_the_sum_of_its_formula_over_the_largest(logits, gamma, largest):
    p = softmax(logits)
    confidences = Gen(gamma, largest)(of_probabilities(p))
    expected = [-math.fsum((x * (1 - x)) ** gamma for x in sorted(row)[-largest:]) for row in p.tolist()]
    np.testing.assert_allclose(confidences, expected, atol=1e-12)


def test_gen_minds_many_small_doubts_more_than_the_entropy_does():
    p = np.array([[0.9, 0.1] + [0.0] * 8, [0.91] + [0.01] * 9])
    gen, entropy = Gen()(of_probabilities(p)), SoftmaxEntropy()(of_probabilities(p))
    assert gen[1] < 5 * gen[0] / 2
    assert entropy[1] > 2 * entropy[0]
