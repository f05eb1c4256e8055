from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import InputError, ModelUnreachable
from bisupervised.models import FunctionModel, HttpJsonModel, OpenAIModel, RecordingCache, Retry
from bisupervised.models.outputs import EVIDENCE_COLUMNS
from bisupervised.models.recording_file import decoded, encoded
from bisupervised.records import Failure, ModelOutput
from models.asking import ask, counted
from quantifiers.evidence import output_of

LATER = pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.sqlite"


@LATER
def test_only_inputs_that_were_not_asked_before_are_asked(path: Path, later: bool) -> None:
    model, calls = counted(later=later)
    cache = RecordingCache(model, path)
    assert ask(cache, ["a", "b"]).predictions.tolist() == ["a", "b"]
    assert ask(cache, ["c", "b", "d", "a"]).predictions.tolist() == ["c", "b", "d", "a"]
    assert ask(cache, ["b"]).predictions.tolist() == ["b"]
    assert calls == [["a", "b"], ["c", "d"]]
    assert len(cache) == 4


@LATER
def test_a_hit_has_the_recorded_latency_and_costs_nothing(path: Path, later: bool) -> None:
    model, _ = counted(later=later, latency_s=0.7, cost=3.0, prompt_tokens=5.0)
    cache = RecordingCache(model, path)
    assert ask(cache, ["a"]).cost.tolist() == [3.0]
    hit = ask(cache, ["a"])
    assert (hit.latency_s.tolist(), hit.cost.tolist(), hit.prompt_tokens.tolist()) == ([0.7], [0.0], [5.0])
    assert ask(cache, ["a", "b"]).cost.tolist() == [0.0, 3.0]


def test_latency_is_measured_where_the_model_does_not_say(path: Path) -> None:
    cache = RecordingCache(counted()[0], path)
    first = ask(cache, ["a"]).latency_s
    assert first[0] > 0
    assert ask(cache, ["a"]).latency_s.tolist() == first.tolist()


@LATER
def test_an_input_that_occurs_twice_in_a_call_is_asked_and_paid_once(path: Path, later: bool) -> None:
    model, calls = counted(later=later, cost=1.0)
    output = ask(RecordingCache(model, path), ["a", "b", "a"])
    assert output.predictions.tolist() == ["a", "b", "a"]
    assert output.cost.tolist() == [1.0, 1.0, 0.0]
    assert calls == [["a", "b"]]


@LATER
def test_failures_are_not_kept(path: Path, later: bool) -> None:
    failed = ModelOutput(np.array(["a", None]), failures={1: Failure("unreadable", "no")})
    model, calls = counted([ModelUnreachable("down")], later=later)
    cache = RecordingCache(model, path)
    with pytest.raises(ModelUnreachable):
        ask(cache, ["a"])
    assert len(cache) == 0
    assert len(ask(cache, ["a"]).failures) == 0
    partly = RecordingCache(FunctionModel(lambda xs: failed, name="partly"), path)
    assert list(ask(partly, ["a", "b"]).failures) == [1]
    assert len(partly) == 2
    assert len(calls) == 2


def test_the_file_outlives_the_cache_and_tells_models_apart(path: Path) -> None:
    first, again = counted(), counted()
    cache = RecordingCache(first[0], path)
    ask(cache, ["a"])
    cache.close()
    ask(RecordingCache(again[0], path), ["a"])
    assert again[1] == []
    other = FunctionModel(lambda xs: (["other"], [1.0]), name="other")
    assert ask(RecordingCache(other, path), ["a"]).predictions.tolist() == ["other"]


def test_another_prompt_or_setting_is_another_key(server: Any, path: Path) -> None:
    url = server.url("ok", "")

    def asked(**settings: Any) -> int:
        before = server.count(url)
        ask(RecordingCache(Retry(OpenAIModel("m", url, **settings)), path), ["good"])
        return server.count(url) - before

    assert [asked(), asked()] == [1, 0]
    assert [asked(prompt="Label: {}".format), asked(temperature=0.5), asked(top_logprobs=2)] == [1, 1, 1]
    assert [asked(temperature=0.5), asked(api_key="other-key", timeout_s=3.0)] == [0, 0]


def test_a_hit_needs_no_server(server: Any, path: Path) -> None:
    url = server.url("probabilities")
    model = HttpJsonModel(url, provides={"probabilities"})
    first = ask(RecordingCache(model, path), ["good"])
    second = ask(RecordingCache(model, path), ["good"])
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.classes.tolist() == second.classes.tolist()
    assert server.count(url) == 1


def test_inputs_that_are_no_json_need_a_key(path: Path) -> None:
    model = FunctionModel(lambda xs: [[1.0]] * len(xs))
    with pytest.raises(InputError, match="give RecordingCache a key"):
        ask(RecordingCache(model, path), [{1, 2}])
    cache = RecordingCache(model, path, key=sorted)
    ask(cache, [{1, 2}, {2, 1}, {3}])
    assert len(cache) == 2


def test_what_the_file_cannot_hold_is_answered_all_the_same(path: Path, caplog: Any) -> None:
    cache = RecordingCache(FunctionModel(lambda xs: ([("a", 1)], [0.5])), path)
    assert ask(cache, ["x"]).predictions.tolist() == [("a", 1)]
    assert "not kept in the cache" in caplog.text
    assert len(cache) == 0
    model, calls = counted()
    closed = RecordingCache(model, path)
    closed.close()
    assert ask(closed, ["a"]).predictions.tolist() == ["a"]
    assert "cannot be read" in caplog.text
    assert len(calls) == 1


def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("id,label\n" * 1000)
    with pytest.raises(InputError, match=r"cannot use .* as a recording"):
        RecordingCache(counted()[0], path)
    assert path.read_text().startswith("id,label")
    with pytest.raises(InputError):
        RecordingCache(counted()[0], path / "no" / "folder")


def test_threads_and_tasks_share_a_cache(path: Path) -> None:
    model, _ = counted()
    cache = RecordingCache(model, path)
    inputs = [[f"x{i % 20}"] for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(cache.predict, inputs))
    assert [list(output.predictions) for output in outputs] == inputs
    assert len(cache) == 20

    async def together() -> list[Any]:
        later = RecordingCache(counted(later=True)[0], path)
        return await asyncio.gather(*(later.predict(x) for x in inputs))

    assert [list(output.predictions) for output in asyncio.run(together())] == inputs


def test_processes_share_a_file(path: Path) -> None:
    program = f"""
        from bisupervised.models import FunctionModel, RecordingCache
        cache = RecordingCache(FunctionModel(lambda xs: ([x for x in xs], [0.5] * len(xs))), {str(path)!r})
        for i in range(60):
            assert cache.predict([str(i), "all"]).predictions.tolist() == [str(i), "all"]
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [run.communicate(timeout=30)[1] for run in runs] == ["", "", ""]
    cache = RecordingCache(FunctionModel(lambda xs: [[1.0]] * len(xs)), path)
    assert len(cache) == 61


FLOATS = st.floats(-10, 0) | st.just(float("nan"))


@given(
    st.text() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.booleans(),
    st.lists(FLOATS, max_size=4),
    st.dictionaries(st.text(max_size=3), st.floats(-10, 0), max_size=3),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    FLOATS,
)
@settings(max_examples=60)
def test_a_kept_row_is_the_row(prediction: Any, tokens: Any, top: Any, row: Any, number: float) -> None:
    output = ModelOutput(
        np.array([prediction]),
        probabilities=np.array([row]),
        classes=np.arange(len(row)),
        token_logprobs=[np.array(tokens)],
        top_logprobs=[top],
        confidences=np.array([number]),
        cost=np.array([number]),
    )
    back = decoded(encoded(output))
    assert back.predictions.tolist() == output.predictions.tolist()
    assert type(back.predictions.tolist()[0]) is type(output.predictions.tolist()[0])
    np.testing.assert_array_equal(back.probabilities, output.probabilities)
    np.testing.assert_array_equal(back.classes, output.classes)
    np.testing.assert_array_equal(back.token_logprobs[0], output.token_logprobs[0])
    np.testing.assert_array_equal([back.confidences, back.cost], [output.confidences, output.cost])
    assert (back.top_logprobs, back.latency_s) == ([top], None)


@pytest.mark.parametrize("certainty", [0.7, float("nan")])
def test_every_kind_of_evidence_is_kept(certainty: float) -> None:
    output = output_of([certainty])
    back = decoded(encoded(output))
    for column in (*EVIDENCE_COLUMNS.values(), "classes", "sample_logprobs", "sample_lengths"):
        kept, given_ = getattr(back, column), getattr(output, column)
        assert (kept is None) == (given_ is None), column
        if given_ is None:
            continue
        for one, other in zip(kept, given_, strict=True):
            if isinstance(other, np.ndarray) and not other.size:  # JSON knows no width of nothing
                assert np.asarray(one).size == 0
                continue
            same = np.testing.assert_array_equal if isinstance(other, np.ndarray) else _assert_equal
            same(one, other)


def _assert_equal(one: Any, other: Any) -> None:
    assert one == other or one != one or tuple(one) == tuple(other)


def test_an_answer_without_alternatives_is_kept_as_one() -> None:
    output = ModelOutput(np.array(["a"]), token_alternatives=[np.empty((0, 0))])
    assert decoded(encoded(output)).token_alternatives[0].shape == (0, 0)
