"""Several passes: what an ensemble says, what it costs, and what becomes of a member that fails."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import InputError, ModelError, ModelTimeout, ReplyUnreadable
from bisupervised.models import Ensemble, FunctionModel
from bisupervised.quantifiers import MutualInformation, VariationRatio
from bisupervised.records import Evidence, Failure, ModelOutput, Reason
from bisupervised.supervisor import Supervisor
from models.asking import ask, ask_as_drivers_do

NAN = float("nan")


def saying(*row: float, **columns: Any) -> FunctionModel:
    """A model that says the same to every input, with these columns of numbers."""

    def function(inputs: Any) -> ModelOutput:
        n = len(inputs)
        p = np.tile(row, (n, 1))
        given = {name: np.full(n, value) for name, value in columns.items()}
        return ModelOutput(p.argmax(axis=1), probabilities=p, **given)

    return FunctionModel(function)


def later(model: FunctionModel, seconds: float = 0.0) -> FunctionModel:
    async def function(inputs: Any) -> Any:
        await asyncio.sleep(seconds)
        return model.function(inputs)

    return FunctionModel(function, name="later")


def test_the_mean_decides_and_every_pass_is_evidence() -> None:
    output = ask(Ensemble([saying(0.9, 0.1), saying(0.2, 0.8), saying(0.1, 0.9)]), ["x", "y"])
    assert output.predictions.tolist() == [1, 1]
    np.testing.assert_allclose(output.probabilities, [[0.4, 0.6]] * 2)
    np.testing.assert_allclose(output.sampled_probabilities[0], [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    assert VariationRatio()(output) == pytest.approx([2 / 3, 2 / 3])
    assert output.extra_calls.tolist() == [2, 2]


def test_cost_tokens_and_latency_of_all_members_are_accounted() -> None:
    one = saying(0.9, 0.1, cost=0.5, latency_s=1.0, prompt_tokens=3)
    other = saying(0.9, 0.1, cost=0.25, latency_s=2.0, prompt_tokens=4)
    output = ask(Ensemble([one, other]), ["x"])
    assert (output.cost[0], output.latency_s[0], output.prompt_tokens[0]) == (0.75, 3.0, 7.0)
    assert ask(Ensemble([one, saying(0.9, 0.1)]), ["x"]).cost.tolist() == pytest.approx([NAN], nan_ok=True)
    assert ask(Ensemble([saying(0.9, 0.1)] * 2), ["x"]).cost is None, "nobody knows any: the level's constant applies"


def test_network_members_are_asked_at_the_same_time() -> None:
    start = time.perf_counter()
    output = ask(Ensemble([later(saying(0.9, 0.1), 0.2)] * 4), ["x"])
    assert time.perf_counter() - start < 0.6
    assert 0.2 <= output.latency_s[0] < 0.6
    mixed = ask(Ensemble([later(saying(0.9, 0.1)), saying(0.5, 0.5)]), ["x"])
    np.testing.assert_allclose(mixed.probabilities, [[0.7, 0.3]])


def raising(error: Exception) -> FunctionModel:
    def function(inputs: Any) -> Any:
        raise error

    return FunctionModel(function, name="broken")


@pytest.mark.parametrize("wrap", [lambda model: model, later], ids=["plain", "async"])
def test_a_member_that_fails_fails_its_rows_and_the_others_are_paid_for(wrap: Any) -> None:
    ensemble = Ensemble([wrap(saying(0.9, 0.1, cost=0.5)), wrap(raising(ModelTimeout("1 s")))])
    output = ask(ensemble, ["x", "y"])
    assert {row: failure.kind for row, failure in output.failures.items()} == {0: "timeout", 1: "timeout"}
    assert output.predictions.tolist() == [None, None]
    assert np.isnan(output.cost).all(), "what the failed call cost is not known"
    assert output.probabilities is None

    def partly(inputs: Any) -> ModelOutput:
        failures = {1: Failure("unreadable", "no text")}
        p = np.tile([0.5, 0.5], (len(inputs), 1))
        return ModelOutput(np.zeros(len(inputs), int), probabilities=p, cost=np.ones(len(inputs)), failures=failures)

    output = ask(Ensemble([wrap(saying(0.9, 0.1, cost=0.5)), wrap(FunctionModel(partly))]), ["x", "y", "z"])
    assert {row: failure.kind for row, failure in output.failures.items()} == {1: "unreadable"}
    assert output.cost.tolist() == [1.5, 1.5, 1.5]
    assert np.isnan(output.probabilities).any(axis=1).tolist() == [False, True, False]
    verdicts = Supervisor(VariationRatio(), 0.0).judge(output)
    assert [verdicts.reason(row) for row in range(3)] == [Reason.TRUSTED, Reason.FAILED, Reason.TRUSTED]


def test_what_is_no_model_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        ask(Ensemble([raising(ZeroDivisionError())]), ["x"])


def test_members_of_different_classes_or_without_probabilities_are_refused() -> None:
    two, three = saying(0.9, 0.1), saying(0.2, 0.3, 0.5)
    with pytest.raises(ModelError, match="different classes"):
        ask(Ensemble([two, three]), ["x"])
    renamed = FunctionModel(lambda xs: [[0.9, 0.1]] * len(xs), ["a", "b"])
    other = FunctionModel(lambda xs: [[0.9, 0.1]] * len(xs), ["b", "a"])
    with pytest.raises(ModelError, match="different classes"):
        ask(Ensemble([renamed, other]), ["x"])
    words = FunctionModel(lambda xs: (["a"] * len(xs), [0.5] * len(xs)), provides=frozenset({Evidence.CONFIDENCE}))
    with pytest.raises(InputError, match="give class probabilities, and function does not"):
        Ensemble([two, words])
    promising = FunctionModel(words.function)
    with pytest.raises(ReplyUnreadable, match="gave no class probabilities"):
        ask(Ensemble([promising, two]), ["x"])
    with pytest.raises(InputError, match="at least one member"):
        Ensemble([])
    short = FunctionModel(lambda xs: ModelOutput(np.zeros(1, int), probabilities=np.ones((1, 1))))
    output = ask(Ensemble([two, short]), ["x", "y"])
    assert {failure.kind for failure in output.failures.values()} == {"unreadable"}


def stochastic(seed: int = 0) -> FunctionModel:
    """Dropout by hand: sure of short inputs, and of two minds about long ones."""
    rng = np.random.default_rng(seed)

    def function(inputs: Any) -> Any:
        spread = np.array([0.01 if len(x) < 5 else 0.4 for x in inputs])
        p = np.clip(0.5 + rng.choice([-1.0, 1.0], len(inputs)) * spread + 0.09, 0.0, 1.0)
        return np.stack([p, 1 - p], axis=1)

    return FunctionModel(function, ["no", "yes"], name="dropout")


def test_passes_of_a_stochastic_model_tell_what_it_is_of_two_minds_about() -> None:
    ensemble = Ensemble.of_passes(stochastic(), 50)
    assert (ensemble.name, len(ensemble.members)) == ("50 x dropout", 50)
    output = ask_as_drivers_do(ensemble, ["a", "a long one"])
    assert output.sampled_probabilities.shape == (2, 50, 2)
    sure, unsure = MutualInformation()(output)
    assert sure > -0.01 > -0.1 > unsure
    for passes in (0, -1, True, 2.5):
        with pytest.raises(InputError, match="at least 1"):
            Ensemble.of_passes(stochastic(), passes)


def test_an_ensemble_is_a_level_of_a_system() -> None:
    local = Level(Ensemble.of_passes(stochastic(), 30), Supervisor(MutualInformation(), -0.05), cost=0.25)
    with BiSupervised(local, Level(saying(0.1, 0.9), Supervisor(threshold=0.8))) as system:
        outcomes = system.predict_many(["a", "a long one"])
    assert [outcome.route.label for outcome in outcomes] == ["local", "remote"]
    assert [outcome.local_cost for outcome in outcomes] == [0.25, 0.25]


def test_the_smallest_batch_of_a_member_is_the_ensembles_and_closing_closes_each_once() -> None:
    closed = []

    class Closing(FunctionModel):
        async def aclose(self) -> None:
            closed.append(self.name)

    bounded = FunctionModel(saying(0.9, 0.1).function, max_batch=3)
    one = Closing(bounded.function, name="one", max_batch=5)
    ensemble = Ensemble([bounded, one, one])
    assert ensemble.max_batch == 3
    asyncio.run(ensemble.aclose())
    assert closed == ["one"]
    assert repr(ensemble) == "Ensemble('function + one', 3 members)"
