"""Whatever an outcome holds comes back from the log as it was."""

from __future__ import annotations

import math
import os
import tempfile
from enum import IntEnum, StrEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.decision_log import DecisionLog, read_log
from bisupervised.decision_log.rows import Entry, rows_of
from bisupervised.decision_log.values import decode_value, encode_text, encode_value, hash_input
from bisupervised.outcomes import join_rows
from bisupervised.records import LevelRows, Outcome, Outcomes, Reason, Route
from decision_log.making import local

# Text with half characters too: an error message may hold them.
anything = st.text(st.characters(codec=None)) | st.text()
plain = st.none() | st.booleans() | st.integers() | st.floats() | anything
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
numbers = st.floats()
costs = st.floats(min_value=0)
texts = st.none() | st.text()


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    asked = draw(st.booleans())

    def remote(strategy: st.SearchStrategy, absent: object) -> object:
        return draw(strategy) if asked else absent

    return Outcome(
        id="",
        answer=draw(values),
        route=draw(st.sampled_from(Route)),
        reason=draw(st.sampled_from(Reason)),
        deferred_because=draw(st.none() | st.sampled_from(Reason)),
        local_prediction=draw(values),
        local_confidence=draw(numbers),
        local_latency_s=draw(costs),
        local_supervisor_s=draw(costs),
        local_cost=draw(costs | st.just(math.nan)),
        local_error=draw(texts),
        remote_requested=asked,
        remote_prediction=remote(values, None),
        remote_confidence=remote(numbers, math.nan),
        remote_latency_s=remote(numbers, math.nan),
        remote_supervisor_s=remote(numbers, math.nan),
        remote_cost=remote(costs | st.just(math.nan), 0.0),
        remote_error=remote(texts, None),
        fallback=draw(st.none() | st.sampled_from(["raise", "default", "call", "queue"])),
        fallback_s=draw(costs),
        fallback_error=draw(texts),
    )


def same(a: object, b: object) -> bool:
    """Equal and of one type, NaN being equal to itself and, on its own, to None."""
    if isinstance(a, float) and math.isnan(a):
        return b is None or (isinstance(b, float) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


@settings(max_examples=40, deadline=None)
@given(st.lists(outcomes(), min_size=1, max_size=4), st.data())
def test_an_outcome_comes_back_from_the_log_as_it_was(some, data):
    ids = data.draw(st.lists(st.text(), min_size=len(some), max_size=len(some), unique=True))
    some = [Outcome(**{**_fields(outcome), "id": id_}) for outcome, id_ in zip(some, ids, strict=True)]
    labels = data.draw(st.lists(values, min_size=len(some), max_size=len(some)))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log.db")
        with DecisionLog(path) as log:
            log.write(some, [None] * len(some))
            assert log.label_many(zip(ids, labels, strict=True)) == 0
        table = read_log(path)
    assert all(map(same, labels, table.labels))
    for row, outcome in enumerate(some):
        assert table.ids[row] == outcome.id
        assert table.extra["route"][row] == outcome.route.label
        for level, rows in (("local", table.local), ("remote", table.remote)):
            for name, column in (
                ("prediction", rows.predictions),
                ("confidence", rows.confidences),
                ("latency_s", rows.latency_s),
                ("supervisor_s", rows.supervisor_s),
                ("cost", rows.cost),
                ("error", rows.errors),
            ):
                cell = column[row].item() if isinstance(column[row], np.float64) else column[row]
                assert same(getattr(outcome, f"{level}_{name}"), cell), (level, name)
        assert table.remote.asked[row] == outcome.remote_requested
        for name in ("answer", "reason", "deferred_because", "fallback", "fallback_s", "fallback_error"):
            cell = table.extra[name][row]
            wanted = getattr(outcome, name)
            wanted = wanted.value if isinstance(wanted, Reason) else wanted
            assert same(wanted, cell.item() if isinstance(cell, np.float64) else cell), name


def _fields(outcome: Outcome) -> dict[str, object]:
    return {name: getattr(outcome, name) for name in Outcome.__slots__}


@settings(max_examples=40, deadline=None)
@given(st.lists(outcomes(), min_size=1, max_size=4))
def test_a_batch_and_its_outcomes_one_by_one_are_the_same_rows(some):
    n = len(some)
    batch = Outcomes(
        ids=[outcome.id for outcome in some],
        routes=np.array([outcome.route for outcome in some], dtype=np.uint8),
        answers=_objects([outcome.answer for outcome in some]),
        reasons=[outcome.reason for outcome in some],
        deferred_because=[outcome.deferred_because for outcome in some],
        local=join_rows([_level("local", outcome) for outcome in some]),
        remote=join_rows([_level("remote", outcome) for outcome in some]),
        fallbacks=[outcome.fallback for outcome in some],
        fallback_s=np.array([outcome.fallback_s for outcome in some]),
        fallback_errors=[outcome.fallback_error for outcome in some],
    )
    options = {"store_inputs": False, "thresholds_id": "t"}
    as_batch = rows_of([Entry(1.0, batch, [None] * n)], **options)
    one_by_one = rows_of([Entry(1.0, [outcome], [None]) for outcome in batch], **options)
    assert all(same(list(a), list(b)) for a, b in zip(as_batch, one_by_one, strict=True))


def _objects(cells: list[object]) -> np.ndarray:
    return np.fromiter(cells, dtype=object, count=len(cells))


def _level(name: str, outcome: Outcome) -> LevelRows:
    def numbers(column: str) -> np.ndarray:
        return np.array([getattr(outcome, f"{name}_{column}")], dtype=np.float64)

    return LevelRows(
        predictions=_objects([getattr(outcome, f"{name}_prediction")]),
        confidences=numbers("confidence"),
        asked=np.array([name == "local" or outcome.remote_requested]),
        latency_s=numbers("latency_s"),
        supervisor_s=numbers("supervisor_s"),
        cost=numbers("cost"),
        errors=_objects([getattr(outcome, f"{name}_error")]),
    )


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("ham"), "ham"),
        (np.array([[1, 2]]), [[1, 2]]),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        (2**70, 2**70),
        (-(2**63), -(2**63)),
        ((1, "a"), [1, "a"]),
        (math.inf, math.inf),
        (b"raw", {"repr": "b'raw'"}),
        ({1, 2}, {"repr": "{1, 2}"}),
        (Odd(), {"repr": "<Odd>"}),
        ({(1, 2): 3}, {"repr": "{(1, 2): 3}"}),
    ],
)
def test_values_that_are_no_plain_ones(value, wanted):
    assert same(wanted, decode_value(encode_value(value)))


def test_half_characters_survive_in_values_and_are_spelled_out_in_errors(tmp_path):
    half = "\ud800 and more"
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([local(half, answer=half, local_error=half)], [half])
        log.label(half, "ham")
    table = read_log(tmp_path / "log.db")
    assert table.extra["answer"][0] == half
    assert table.local.errors[0] == encode_text(half) == "\\ud800 and more"
    assert table.labels[0] == "ham"


def test_numbers_that_are_no_floats_are_floats_or_not_known(tmp_path):
    odd = local("a", local_cost=np.float32(0.5), local_latency_s=None, local_confidence=1, fallback_s=10**400)
    with DecisionLog(tmp_path / "log.db") as log:
        log.write([odd], ["x"])
    table = read_log(tmp_path / "log.db")
    assert (table.local.cost[0], table.local.confidences[0]) == (0.5, 1.0)
    assert np.isnan(table.local.latency_s[0])
    assert np.isnan(table.extra["fallback_s"][0])


def test_inputs_of_any_kind_have_a_hash():
    array = np.arange(2_000.0)
    other = array.copy()
    other[1_000] = -1.0  # where its repr has dots
    assert hash_input(array) == hash_input(array.copy()) != hash_input(other)
    assert hash_input(array) != hash_input(array.reshape(2, 1_000))
    assert hash_input(b"hello") == hash_input("hello")
    assert hash_input({"b": 1, "a": [2]}) == hash_input({"a": [2], "b": 1})
    assert hash_input((1, Odd)) != hash_input((2, Odd))
    circular: list[object] = []
    circular.append(circular)
    assert len({hash_input(x) for x in (None, True, 1.5, {1, 2}, Odd(), circular, "\ud800")}) == 7
