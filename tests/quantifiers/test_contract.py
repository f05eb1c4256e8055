"""The contract of every quantifier, found automatically: a new one is tested as soon as its file is there."""

from __future__ import annotations

import pkgutil
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bisupervised.quantifiers as package
from bisupervised.cascade import Level
from bisupervised.errors import ConfigError, EvidenceError
from bisupervised.models.outputs import EVIDENCE_COLUMNS, evidence_in
from bisupervised.quantifiers import CostClass, Quantifier, cost_class_of, quantifier_by_name, quantifier_names
from bisupervised.records import Evidence, ModelOutput, take_outputs
from bisupervised.supervisor import Supervisor
from fakes import FakeModel, recorded
from quantifiers.evidence import FITTED, NAN, QUANTIFIERS, SHARED, output_of, settings_of


def of_each(quantifiers: list[Quantifier]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("quantifier", quantifiers, ids=repr)


EVERY = of_each(QUANTIFIERS)
#: Those that judge by evidence: all but the one that trusts whatever did not fail.
JUDGING = of_each([quantifier for quantifier in QUANTIFIERS if quantifier.needs is not None])
CERTAINTIES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0, NAN]) | st.floats(0, 1), max_size=9)
#: The columns of an output that hold evidence.
EVIDENCE = [
    f.name
    for f in fields(ModelOutput)
    if f.name not in ("predictions", "classes", "failures") and getattr(output_of([0.5]), f.name) is not None
]


def test_every_kind_of_evidence_is_made_here():
    assert set(EVIDENCE) >= set(EVIDENCE_COLUMNS.values())


def test_an_output_tells_which_evidence_it_really_holds():
    assert evidence_in(output_of([0.5])) == evidence_in(output_of([NAN, 0.5])) == set(Evidence)
    assert evidence_in(output_of([NAN])) == evidence_in(output_of([])) == set()


def test_every_file_of_the_folder_is_tested():
    files = {module.name for module in pkgutil.iter_modules(package.__path__)} - SHARED
    assert {type(quantifier).__module__.rpartition(".")[2] for quantifier in QUANTIFIERS} == files
    assert {type(quantifier).__name__ for quantifier in QUANTIFIERS} <= set(package.__all__)


@EVERY
def test_it_is_a_quantifier_with_a_name_and_a_need(quantifier):
    assert isinstance(quantifier, Quantifier)
    assert quantifier.name == quantifier.name.strip().lower() != ""
    assert quantifier.needs is None or isinstance(quantifier.needs, Evidence)
    assert type(quantifier).__doc__.startswith("confidence = ")
    assert isinstance(type(quantifier).cost_class, CostClass)
    assert cost_class_of(quantifier) is type(quantifier).cost_class
    assert (cost_class_of(quantifier) is CostClass.C4) == (quantifier.extra_calls > 0)
    needs = frozenset() if quantifier.needs is None else frozenset({quantifier.needs})
    Level(FakeModel(recorded([]), provides=needs), Supervisor(quantifier))


@EVERY
def test_it_states_the_model_calls_that_its_evidence_takes(quantifier):
    extra = {Evidence.P_TRUE: 1, Evidence.SAMPLES: 8}
    assert quantifier.extra_calls == extra.get(quantifier.needs, 0)


@JUDGING
@settings(max_examples=30)
@given(CERTAINTIES)
def test_it_gives_one_float64_for_each_row_and_nan_exactly_without_evidence(quantifier, certainties):
    confidences = quantifier(output_of(certainties))
    assert isinstance(confidences, np.ndarray)
    assert confidences.dtype == np.float64
    assert confidences.shape == (len(certainties),)
    assert np.isnan(confidences).tolist() == [bool(np.isnan(c)) for c in certainties]


@JUDGING
@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_more_certain_output_never_gets_a_lower_confidence(quantifier, one, other):
    low, high = sorted((one, other))
    confidences = quantifier(output_of([low, high]))
    assert confidences[0] <= confidences[1] + 1e-12


@JUDGING
def test_the_direction_is_not_the_other_way_round(quantifier):
    unsure, sure = quantifier(output_of([0.1, 0.9]))
    assert unsure < sure - 0.01


@EVERY
@settings(max_examples=30)
@given(CERTAINTIES, st.randoms(use_true_random=False))
def test_rows_are_scored_on_their_own_to_the_last_bit(quantifier, certainties, random):
    """Permuted, alone or in any company: the same number, or an input at the threshold would flip."""
    output = output_of(certainties)
    confidences = quantifier(output)
    order = list(range(len(certainties)))
    random.shuffle(order)
    shuffled = quantifier(take_outputs(output, np.array(order, dtype=np.int64)))
    np.testing.assert_array_equal(shuffled, confidences[order])
    for row in order:
        alone = quantifier(take_outputs(output, np.array([row])))
        np.testing.assert_array_equal(alone, confidences[row : row + 1])


@EVERY
def test_equal_rows_get_equal_confidences(quantifier):
    assert len(set(quantifier(output_of([0.3] * 7)).tolist())) == 1


@EVERY
def test_the_output_is_left_as_it_was(quantifier):
    output, twin = output_of([0.3, NAN, 1.0]), output_of([0.3, NAN, 1.0])
    quantifier(output)
    for name in EVIDENCE:
        column, before = getattr(output, name), getattr(twin, name)
        if isinstance(column, np.ndarray):
            np.testing.assert_array_equal(column, before)
        elif isinstance(before[0], np.ndarray):
            for one, other in zip(column, before, strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            assert column == before, name


def shortened(column: Any, dtype: Any) -> Any:
    if isinstance(column, np.ndarray):
        return column.astype(dtype)
    if isinstance(column[0], dict):
        return [{token: dtype(p) for token, p in row.items()} for row in column]
    return [row.astype(dtype) for row in column] if isinstance(column[0], np.ndarray) else column


@EVERY
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 5e-3), (np.float32, 1e-6)])
def test_half_and_single_precision_will_do(quantifier, dtype, tolerance):
    output = output_of([0.0, 0.3, NAN, 0.9])
    short = {name: shortened(getattr(output, name), dtype) for name in EVIDENCE}
    short = ModelOutput(output.predictions, **short)
    confidences = quantifier(short)
    assert confidences.dtype == np.float64
    np.testing.assert_allclose(confidences, quantifier(output), atol=tolerance, rtol=tolerance)


@EVERY
def test_no_rows_give_no_confidences(quantifier):
    assert quantifier(output_of([])).shape == (0,)
    assert quantifier(output_of([])).dtype == np.float64


@JUDGING
def test_missing_evidence_is_an_error_that_says_what_to_do(quantifier):
    with pytest.raises(EvidenceError) as raised:
        quantifier(ModelOutput(np.array([1, 1])))
    message = str(raised.value)
    assert any(word in message for word in ("use a quantifier", "choose a quantifier", "ask the endpoint")), message


@JUDGING
@pytest.mark.parametrize("rows", [1, 3])
def test_evidence_for_another_number_of_rows_is_an_error(quantifier, rows):
    """One row for two predictions would be broadcast, and both decided by it."""
    other = output_of([0.9] * rows)
    wrong = ModelOutput(np.array([1, 1]), **{name: getattr(other, name) for name in EVIDENCE})
    with pytest.raises(EvidenceError):
        quantifier(wrong)


@JUDGING
def test_a_replied_null_in_the_evidence_is_no_evidence_or_an_error_and_never_a_number(quantifier):
    nulls = ModelOutput(
        np.array([1]),
        probabilities=np.array([[0.9, None, 0.1]], dtype=object),
        logits=np.array([[0.9, None, 0.1]], dtype=object),
        features=np.array([[0.9, None, *[0.1] * 6]], dtype=object),
        sampled_probabilities=np.array([[[0.5, 0.5], [None, 0.5]]], dtype=object),
        token_logprobs=[[None, -0.1]],
        token_alternatives=[[[-0.1, -3.0], [None, None]]],
        texts=[None],
        top_logprobs=[{"yes": None, "no": NAN}],
        confidences=np.array([None], dtype=object),
        samples=[[None, None]],
        sample_logprobs=[[None, -0.1]],
        sample_lengths=[[1, 1]],
        p_true=np.array([None], dtype=object),
    )
    assert np.isnan(quantifier(nulls)).all()


#: As a configuration file would give them; what it does not say is as it is by default.
IN_A_FILE = {"samples": 8, "weighted": True, "model": "openai", "threshold": 0.5}


#: Those that a name says all about. Their settings, if they have any, are those that the name states.
NAMED = [
    q
    for q in QUANTIFIERS
    if q not in FITTED
    and not getattr(q, "samples", 0)
    and type(q).__name__ not in ("LabelProbability", "Reconstruction")
    and not {"temperature", "gamma", "alpha", "tail", "scale"} & settings_of(q).keys()
]


@of_each(NAMED)
def test_a_name_gives_the_quantifier_back(quantifier):
    again = quantifier_by_name(quantifier.name)
    assert quantifier_by_name(quantifier.name, IN_A_FILE) == again, "settings of others are not its business"
    assert type(again) is type(quantifier)
    assert again == quantifier
    assert again.name == quantifier.name


@of_each([q for q in QUANTIFIERS if getattr(q, "samples", 0)])
def test_a_name_and_settings_give_the_quantifier_back(quantifier):
    given = {"samples": 8, "weighted": getattr(quantifier, "weighted", True)}
    given |= {"unlikely": getattr(quantifier, "unlikely", "mean")}
    again = quantifier_by_name(quantifier.name, given)
    assert again == quantifier
    assert again != quantifier_by_name(quantifier.name)


def test_names_that_are_listed_are_known_and_unique():
    plain = [name for name in quantifier_names() if "<" not in name and name != "reconstruction"]
    assert len(set(plain)) == len(plain)
    assert [quantifier_by_name(name).name for name in plain] == plain


@pytest.mark.parametrize(
    "name",
    ["", "entropy", "max softmax", "token_likelihood", "token_likelihood_q", "token_likelihood_q2", "MaxSoftmax"],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"max_softmax|quantile"):
        quantifier_by_name(name)
    with pytest.raises(ConfigError):
        quantifier_by_name("token_likelihood_qx")
