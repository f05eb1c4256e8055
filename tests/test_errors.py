"""The one error tree."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from bisupervised import errors
from bisupervised.errors import (
    BiSupervisedError,
    BudgetExhausted,
    ConfigError,
    InputError,
    MissingExtra,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    PredictionRejected,
    ReplyUnreadable,
)
from fakes import system

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


def _rejected() -> PredictionRejected:
    with system([0.1], [float("nan")]) as running, pytest.raises(PredictionRejected) as raised:
        running.predict(0, id_="a")
    return raised.value


def _examples() -> list[Exception]:
    made = (PredictionRejected, MissingExtra, ModelStatusError, BudgetExhausted)
    plain = [kind("what to do") for kind in CLASSES if kind not in made]
    status = ModelStatusError("overloaded", status=529, retry_after_s=2.5)
    return [*plain, _rejected(), MissingExtra("pyarrow", "parquet"), status, BudgetExhausted("total", 5.0, 3600.0)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_stands_in_the_drawing_under_its_base(kind):
    lines = {
        line.strip("│├└─ ").split(" ")[0]: line.index(line.strip("│├└─ "))
        for line in errors.__doc__.split("\n")
        if line.strip()
    }
    assert issubclass(kind, BiSupervisedError)
    assert kind.__name__ in lines
    if kind is not BiSupervisedError:
        base = kind.__mro__[1]
        assert lines[base.__name__] < lines[kind.__name__]


@pytest.mark.parametrize("error", _examples(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_survives_copying_and_another_process(error, again):
    twin = again(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    if isinstance(error, ModelStatusError):
        assert (twin.status, twin.retry_after_s) == (529, 2.5)
    if isinstance(error, BudgetExhausted):
        assert (twin.scope, twin.cap, twin.resets_in_s) == ("total", 5.0, 3600.0)
    if isinstance(error, PredictionRejected):
        assert twin.outcome.id == "a"
        assert twin.outcome.reason is error.outcome.reason


def test_callers_can_catch_what_python_calls_these_errors():
    assert issubclass(InputError, ValueError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(MissingExtra, ImportError)


def test_kinds_of_model_errors_are_distinct_and_stable():
    kinds = {kind.__name__: kind.kind for kind in CLASSES if issubclass(kind, ModelError)}
    assert kinds == {
        "ModelError": "failed",
        "ModelTimeout": "timeout",
        "ModelUnreachable": "unreachable",
        "ModelStatusError": "status",
        "ReplyUnreadable": "unreadable",
        "CircuitOpen": "circuit_open",
        "ModelBusy": "busy",
    }
    assert ModelTimeout("x").kind != ReplyUnreadable("x").kind


def test_messages_say_what_to_do_next():
    assert "pip install 'bisupervised[parquet]'" in str(MissingExtra("pyarrow", "parquet"))
    assert "fallback" in str(_rejected())
    assert "no_evidence" in str(_rejected())


def test_a_rejection_is_not_mistaken_for_wrong_input():
    assert not isinstance(_rejected(), ValueError)
