from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.cascade import BiSupervised, Level, replay
from bisupervised.errors import InputError
from bisupervised.fallback import Default
from bisupervised.models import RecordedModel
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import Evidence, LevelName, ModelOutput
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table

TABLE = Table.from_columns(
    {
        "id": ["a", "b", "c", "d"],
        "local_prediction": ["x", "y", "x", "y"],
        "local_confidence": [0.9, 0.2, 0.8, 0.3],
        "local_latency_s": [0.01, 0.02, 0.03, 0.04],
        "remote_prediction": ["y", None, "x", None],
        "remote_confidence": [0.7, None, 0.9, None],
        "remote_latency_s": [1.0, 2.0, 3.0, None],
        "remote_cost": [0.1, 0.2, 0.3, 0.0],
        "remote_error": [None, "timeout: did not answer", None, None],
        "remote_asked": [True, True, True, False],
    }
)


def test_rows_come_back_as_recorded() -> None:
    model = RecordedModel.from_table(TABLE, "remote")
    output = model.predict(["c", "a", "c"])
    assert output.predictions.tolist() == ["x", "y", "x"]
    assert output.confidences.tolist() == [0.9, 0.7, 0.9]
    assert output.latency_s.tolist() == [3.0, 1.0, 3.0]
    assert output.cost.tolist() == [0.3, 0.1, 0.3]
    assert (model.name, model.provides) == ("recorded remote", {Evidence.CONFIDENCE})


def test_recorded_errors_come_back_with_their_kind_and_cost() -> None:
    output = RecordedModel.from_table(TABLE, LevelName.REMOTE).predict(["a", "b"])
    assert {row: str(failure) for row, failure in output.failures.items()} == {1: "timeout: did not answer"}
    assert output.cost.tolist() == [0.1, 0.2]


def test_an_input_that_was_not_asked_or_not_recorded_fails() -> None:
    output = RecordedModel.from_table(TABLE, "remote").predict(["zz", "a", "d"])
    assert output.predictions.tolist() == [None, "y", None]
    assert output.failures[0].kind == output.failures[2].kind == "failed"
    assert "'zz' is not in the recording of 4 inputs" in output.failures[0].message
    assert "not asked" in output.failures[2].message
    assert np.isnan([output.latency_s[0], output.cost[0], output.confidences[0]]).all()


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "u", "v"]), max_size=12))
def test_rows_keep_their_order_whatever_is_missing(ids: list[str]) -> None:
    output = RecordedModel.from_table(TABLE, "local").predict(ids)
    known = {"a": "x", "b": "y", "c": "x", "d": "y"}
    assert output.predictions.tolist() == [known.get(id_) for id_ in ids]
    assert sorted(output.failures) == [row for row, id_ in enumerate(ids) if id_ not in known]
    assert all(repr(ids[row]) in failure.message for row, failure in output.failures.items())


def test_a_system_of_recordings_decides_as_their_replay() -> None:
    models = [RecordedModel.from_table(TABLE, name) for name in LevelName]
    supervisors = [Supervisor(GivenConfidence(), threshold=t) for t in (0.5, 0.8)]
    levels = [Level(model, supervisor) for model, supervisor in zip(models, supervisors, strict=True)]
    with BiSupervised(*levels, Default(None)) as system:
        outcomes = system.predict_many(["a", "b", "c", "d"])
    decisions = replay(*(model.predict(["a", "b", "c", "d"]) for model in models), tuple(supervisors))
    assert outcomes.routes.tolist() == decisions.routes.tolist()
    assert outcomes.cost[1] == 0.2 or np.isnan(outcomes.cost[1])


def test_it_is_made_from_any_output_with_as_many_distinct_ids() -> None:
    output = ModelOutput(np.array([1, 2]), probabilities=np.array([[0.1, 0.9], [0.7, 0.3]]))
    model = RecordedModel([10, 20], output)
    assert model.provides == {Evidence.PROBABILITIES}
    assert model.predict([20]).predictions.tolist() == [2]
    for ids in ([1], [1, 1], [1, 2, 3]):
        with pytest.raises(InputError, match="as many distinct ids"):
            RecordedModel(ids, output)


def test_an_empty_recording_knows_nothing() -> None:
    model: Any = RecordedModel([], ModelOutput(np.empty(0, dtype=object)))
    assert (len(model.predict([])), list(model.predict(["a"]).failures)) == (0, [0])
