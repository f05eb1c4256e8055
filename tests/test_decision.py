"""THE acceptance rule."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bisupervised
from bisupervised.decision import accept, check_threshold, decide, decide_and_answer, route
from bisupervised.errors import ThresholdError
from bisupervised.records import Route

NAN, INF = float("nan"), float("inf")
TIED = st.sampled_from([NAN, -INF, -1.0, -0.0, 0.0, 0.1, 0.3, 0.5, 0.7, math.nextafter(0.7, 1.0), 1.0, INF])
ANY = TIED | st.floats(allow_nan=True, allow_infinity=True)
THRESHOLD = ANY.filter(lambda t: not math.isnan(t))


def by_hand(confidence: float, threshold: float) -> bool:
    return not math.isnan(confidence) and (confidence > threshold or confidence == threshold)


def route_by_hand(local: bool, remote: bool) -> Route:
    if local:
        return Route.LOCAL
    return Route.REMOTE if remote else Route.REJECTED


@given(st.lists(ANY, max_size=20), THRESHOLD)
@example([NAN, -INF, INF], -INF)
@example([NAN, -INF, INF], INF)
def test_scalars_and_arrays_are_accepted_alike(confidences, threshold):
    expected = [by_hand(c, threshold) for c in confidences]
    assert [bool(accept(c, threshold)) for c in confidences] == expected
    assert [bool(accept(np.float64(c), np.float64(threshold))) for c in confidences] == expected
    assert accept(np.array(confidences, dtype=float), threshold).tolist() == expected
    assert accept(np.array(confidences, dtype=float), np.full(len(confidences), threshold)).tolist() == expected


def test_a_plain_number_gives_a_plain_truth_value():
    assert accept(0.5, 0.5) is True
    assert accept(NAN, -INF) is False


@given(
    hnp.arrays(st.sampled_from([np.float16, np.float32, np.int64, np.uint8, np.bool_]), st.integers(0, 12)), THRESHOLD
)
@example(np.array([0.7], dtype=np.float32), 0.7)
@example(np.array([0.1], dtype=np.float32), 0.1)
@example(np.array([0.1], dtype=np.float16), 0.1)
def test_how_confidences_are_stored_does_not_change_what_is_accepted(confidences, threshold):
    """NumPy would round the threshold to float32: 0.7 as float32 is below 0.7, online and offline."""
    expected = [by_hand(float(c), threshold) for c in confidences]
    assert accept(confidences, threshold).tolist() == expected
    assert [bool(accept(c, threshold)) for c in confidences] == expected
    assert decide(confidences, threshold, np.zeros(len(confidences)), 1.0).tolist() == [
        0 if e else 2 for e in expected
    ]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_a_route_is_local_then_remote_then_rejected(accepted):
    local = np.array([a for a, _ in accepted], dtype=bool)
    remote = np.array([b for _, b in accepted], dtype=bool)
    routes = route(local, remote)
    assert routes.dtype == np.uint8
    assert routes.tolist() == [route_by_hand(a, b) for a, b in accepted]
    assert route(local[::-1], remote[::-1]).tolist() == routes[::-1].tolist(), "views with steps"
    assert local.tolist() == [a for a, _ in accepted], "what was handed in is left as it was"


PREDICTIONS = [
    np.arange(6),
    np.arange(6, dtype=np.int32),
    np.arange(6, dtype=np.uint8),
    np.arange(6, dtype=">i8"),
    np.linspace(-1, 1, 6),
    np.linspace(-1, 1, 6, dtype=np.float32),
    np.linspace(-1, 1, 6, dtype=np.float16),
    np.linspace(-1, 1, 6, dtype=np.longdouble),
    np.array([NAN, INF, -INF, 0.0, -0.0, 1.0]),
    np.array([True, False, True, True, False, False]),
    np.array(["a", "bb", "ccc", "d", "", "f"]),
    np.array(["a", None, 3, 1.5, ("t",), "f"], dtype=object),
    np.arange(12)[::2],
    np.array(["a" * 40, "b", "c", "d", "e", "f"]),
]


@pytest.mark.parametrize("remote", PREDICTIONS, ids=lambda p: str(p.dtype))
@pytest.mark.parametrize("local", PREDICTIONS, ids=lambda p: str(p.dtype))
def test_the_answer_is_the_prediction_of_the_level_that_decided(local, remote):
    local_confidence = np.array([0.9, 0.1, 0.5, NAN, 0.2, INF])
    remote_confidence = np.array([0.0, 0.7, 0.0, 0.9, NAN, NAN])
    kept = repr(local.tolist()), repr(remote.tolist())
    routes, answers = decide_and_answer(local_confidence, 0.5, remote_confidence, 0.7, local, remote)
    assert routes.tolist() == decide(local_confidence, 0.5, remote_confidence, 0.7).tolist() == [0, 1, 0, 1, 2, 0]
    for row, (where, answer) in enumerate(zip(routes, answers, strict=True)):
        expected = local[row] if where == Route.LOCAL else remote[row]
        assert answer == expected or (answer != answer and expected != expected)
        assert isinstance(answer, str) == isinstance(expected, str), "a number is not turned into text"
        if isinstance(expected, float | np.floating) and expected == 0:
            assert math.copysign(1, answer) == math.copysign(1, expected)
    assert (repr(local.tolist()), repr(remote.tolist())) == kept, "what was handed in is left as it was"


@given(st.lists(st.tuples(ANY, ANY), max_size=30), THRESHOLD, THRESHOLD)
def test_arrays_are_decided_as_single_inputs_are(pairs, local_threshold, remote_threshold):
    local = np.array([a for a, _ in pairs], dtype=float)
    remote = np.array([b for _, b in pairs], dtype=float)
    rows = np.arange(len(pairs))
    routes, answers = decide_and_answer(local, local_threshold, remote, remote_threshold, rows, rows + 100)
    alone = [route_by_hand(by_hand(a, local_threshold), by_hand(b, remote_threshold)) for a, b in pairs]
    assert routes.tolist() == decide(local, local_threshold, remote, remote_threshold).tolist() == alone
    assert answers.tolist() == [row if r is Route.LOCAL else row + 100 for row, r in enumerate(alone)]


def test_the_extreme_thresholds_accept_all_numbers_and_none():
    numbers = np.array([-INF, -1e308, 0.0, 1e308, NAN])
    assert accept(numbers, -INF).tolist() == [True, True, True, True, False]
    assert not accept(numbers, INF).any()


@given(st.lists(ANY, min_size=1), THRESHOLD, THRESHOLD)
def test_a_higher_threshold_never_accepts_more(confidences, one, other):
    low, high = sorted((one, other))
    column = np.array(confidences, dtype=float)
    assert not (accept(column, high) & ~accept(column, low)).any()


@pytest.mark.parametrize("bad", [None, "high", NAN, "nan", [0.5, 0.6], object()])
def test_a_threshold_that_is_no_number_is_refused(bad):
    with pytest.raises(ThresholdError, match="threshold"):
        check_threshold(bad)


def test_thresholds_may_be_infinite_and_the_message_names_the_threshold():
    assert check_threshold(INF) == INF
    assert check_threshold(np.float32(-INF)) == -INF
    assert isinstance(check_threshold(1), float)
    with pytest.raises(ThresholdError, match=r"remote.*-inf to accept every"):
        check_threshold(NAN, "remote")


def test_nothing_else_compares_a_confidence_with_a_threshold():
    """No second `>=` on a confidence outside the one predicate; rewrites must not copy the rule."""
    folder = Path(bisupervised.__file__).parent
    found = []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare) or not any(
                isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops
            ):
                continue
            text = ast.unparse(node)
            if "confidence" in text and "threshold" in text:
                found.append(f"{path.relative_to(folder)}: {text}")
    assert found == ["decision.py: confidence >= threshold"]
