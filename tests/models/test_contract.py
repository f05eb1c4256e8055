"""Every model and every wrapper keeps the port's contract."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.models import (
    Concurrency,
    Ensemble,
    FunctionModel,
    HttpJsonModel,
    HuggingFaceModel,
    Model,
    OnnxModel,
    OpenAIModel,
    RecordedModel,
    RecordingCache,
    Retry,
    SklearnModel,
    Timeout,
)
from bisupervised.models.outputs import EVIDENCE_COLUMNS, evidence_in
from bisupervised.records import Evidence, LevelName, ModelOutput, take_outputs
from bisupervised.table import Table
from models.asking import ask, ask_as_drivers_do
from models.hugging_face_files import write_repository

TEXTS = ["good film", "dull", "a good one", "bad, bad", "so so"]
POINTS = [[0.0, 1.0], [2.0, -1.0], [0.3, 0.3], [-1.0, 0.5], [5.0, 5.0]]
CONFIDENCE, PROBABILITIES = frozenset({Evidence.CONFIDENCE}), frozenset({Evidence.PROBABILITIES})


def failing(_: Any) -> Any:
    raise RuntimeError("broken")


def function_model(make: Any) -> tuple[Model, list[Any]]:
    def function(inputs: Any) -> Any:
        return [[len(x) / 20, 1 - len(x) / 20] for x in inputs]

    return FunctionModel(function, ["a", "b"], provides=PROBABILITIES), TEXTS


def async_function_model(make: Any) -> tuple[Model, list[Any]]:
    async def function(inputs: Any) -> Any:
        await asyncio.sleep(0)
        return [x.upper() for x in inputs], [len(x) for x in inputs]

    return FunctionModel(function, provides=CONFIDENCE), TEXTS


def recorded_model(make: Any) -> tuple[Model, list[Any]]:
    columns = {
        "id": [f"r{i}" for i in range(5)],
        "local_prediction": ["a", "b", "a", "b", "a"],
        "local_proba_a": [0.9, 0.2, 0.7, 0.1, 0.6],
        "local_proba_b": [0.1, 0.8, 0.3, 0.9, 0.4],
        "remote_prediction": ["a", "b", "b", "b", "a"],
        "remote_token_logprobs": ["[-0.1, -0.2]", "[-1.0]", "[-0.5]", "[-0.25, -3]", "[-2]"],
    }
    return RecordedModel.from_table(Table.from_columns(columns), make.level), columns["id"]


def sklearn_model(make: Any) -> tuple[Model, list[Any]]:
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit(POINTS, ["x", "y", "x", "y", "z"])
    return SklearnModel(estimator), POINTS


def onnx_model(make: Any) -> tuple[Model, list[Any]]:
    return OnnxModel(make.linear_onnx, ["a", "b", "c"]), POINTS


def sklearn_evidence_model(make: Any) -> tuple[Model, list[Any]]:
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit(POINTS, ["x", "y", "x", "y", "z"])
    return SklearnModel(estimator, features="input", logits=True), POINTS


def onnx_evidence_model(make: Any) -> tuple[Model, list[Any]]:
    return OnnxModel(make.linear_onnx, ["a", "b", "c"], logits="logits", features="logits"), POINTS


def hugging_face_model(make: Any) -> tuple[Model, list[Any]]:
    return HuggingFaceModel.load(make.repository), ["good film", "bad", "good", "bad bad film", "so so"]


def ensemble_model(make: Any) -> tuple[Model, list[Any]]:
    one, _ = onnx_model(make)
    other = FunctionModel(lambda points: [[0.5, 0.25, 0.25]] * len(points), ["a", "b", "c"], provides=PROBABILITIES)
    return Ensemble([one, other]), POINTS


def async_ensemble_model(make: Any) -> tuple[Model, list[Any]]:
    one, _ = http_probabilities_model(make)
    other = FunctionModel(lambda xs: [[0.5, 0.5]] * len(xs), ["negative", "positive"], provides=PROBABILITIES)
    return Ensemble([one, other, one]), TEXTS


def http_evidence_model(make: Any) -> tuple[Model, list[Any]]:
    provides = {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES, Evidence.SAMPLED_PROBABILITIES}
    return HttpJsonModel(make.server.url("evidence"), provides=provides, max_batch=None), TEXTS


def http_model(make: Any) -> tuple[Model, list[Any]]:
    return HttpJsonModel(make.server.url("ok"), max_batch=3), TEXTS


def http_probabilities_model(make: Any) -> tuple[Model, list[Any]]:
    return HttpJsonModel(make.server.url("probabilities"), provides=PROBABILITIES, max_batch=None), TEXTS


def chat_model(make: Any) -> tuple[Model, list[Any]]:
    url = make.server.url("ok", "")
    return OpenAIModel("m", url, top_logprobs=2, prompt_price=1.0, completion_price=2.0), TEXTS


def completions_model(make: Any) -> tuple[Model, list[Any]]:
    return OpenAIModel("m", make.server.url("llamacpp", ""), route="completions"), TEXTS


def further_calls_model(make: Any) -> tuple[Model, list[Any]]:
    url = make.server.url("ok", "")
    return OpenAIModel("m", url, samples=2, self_verification=True, prompt_price=1.0, completion_price=2.0), TEXTS


class Make:
    """What the builders above need."""

    def __init__(self, server: Any, linear_onnx: Any, level: LevelName = LevelName.LOCAL) -> None:
        self.server, self.linear_onnx, self.level = server, linear_onnx, level

    @property
    def repository(self) -> Path:
        """A folder with what lies in a repository of the Hugging Face hub."""
        folder = self.linear_onnx.parent / "tiny-model"
        return folder if folder.exists() else write_repository(folder)


MODELS: dict[str, Callable[[Any], tuple[Model, list[Any]]]] = {
    "function": function_model,
    "function, async": async_function_model,
    "recorded": recorded_model,
    "recorded, remote": lambda make: recorded_model(Make(make.server, make.linear_onnx, LevelName.REMOTE)),
    "sklearn": sklearn_model,
    "onnx": onnx_model,
    "sklearn, features and logits": sklearn_evidence_model,
    "onnx, features and logits": onnx_evidence_model,
    "hugging_face": hugging_face_model,
    "ensemble": ensemble_model,
    "ensemble, async": async_ensemble_model,
    "http_json": http_model,
    "http_json, all evidence": http_evidence_model,
    "http_json, probabilities": http_probabilities_model,
    "openai, chat": chat_model,
    "openai, completions": completions_model,
    "openai, further calls": further_calls_model,
}


def quick_retry(model: Model) -> Retry:
    return Retry(model, wait_initial_s=0.001, wait_jitter_s=0.0)


WRAPPERS: dict[str, Callable[[Model, Any], Model]] = {
    "plain": lambda model, tmp: model,
    "retry": lambda model, tmp: quick_retry(model),
    "concurrency": lambda model, tmp: Concurrency(model, 2),
    "cache": lambda model, tmp: RecordingCache(model, tmp / "a.sqlite"),
    "all": lambda model, tmp: RecordingCache(Concurrency(quick_retry(Concurrency(model, 1)), 2), tmp / "b.sqlite"),
    "all, the other way": lambda model, tmp: quick_retry(Concurrency(RecordingCache(model, tmp / "c.sqlite"), 2)),
}
ASYNC = ["function, async", "http_json", "http_json, probabilities", "openai, chat", "openai, completions"]
ASYNC += ["openai, further calls", "http_json, all evidence", "ensemble, async"]
CASES = [(model, wrapper) for model in MODELS for wrapper in WRAPPERS]
CASES += [(model, "timeout") for model in ASYNC]
WRAPPERS["timeout"] = lambda model, tmp: Timeout(Retry(Timeout(model, 20)), 20)


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request: Any, server: Any, linear_onnx: Any, tmp_path: Any) -> tuple[Model, list[Any]]:
    model_name, wrapper = request.param
    model, inputs = MODELS[model_name](Make(server, linear_onnx))
    return WRAPPERS[wrapper](model, tmp_path), inputs


def assert_same(one: ModelOutput, other: ModelOutput, *, but: tuple[str, ...] = ("latency_s", "cost")) -> None:
    for name in (f.name for f in fields(ModelOutput) if f.name not in but):
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)
        elif name in ("token_logprobs", "token_alternatives", "sample_logprobs", "sample_lengths") and a is not None:
            for row, other_row in zip(a, b, strict=True):
                np.testing.assert_allclose(row, other_row)
        else:
            assert (a is None) == (b is None), name
            assert a is None or list(a) == list(b), name


def test_it_answers_n_inputs_with_n_rows_in_their_order(case: Any) -> None:
    model, inputs = case
    forwards, backwards = ask_as_drivers_do(model, inputs), ask_as_drivers_do(model, inputs[::-1])
    assert len(forwards) == len(inputs)
    assert not forwards.failures
    assert_same(forwards, take_outputs(backwards, np.arange(len(inputs))[::-1]))
    assert len({str(p) for p in forwards.predictions}) > 1


def test_a_row_alone_equals_the_row_in_a_batch(case: Any) -> None:
    model, inputs = case
    batch = ask_as_drivers_do(model, inputs)
    for row, x in enumerate(inputs):
        assert_same(ask(model, [x]), take_outputs(batch, np.array([row])))


def test_its_outputs_hold_the_declared_evidence_and_no_other(case: Any) -> None:
    model, inputs = case
    output = ask_as_drivers_do(model, inputs)
    assert evidence_in(output) == model.provides
    for evidence, column in EVIDENCE_COLUMNS.items():
        held = getattr(output, column)
        assert (held is not None) == (evidence in model.provides)
        assert held is None or len(held) == len(inputs)


def test_no_inputs_give_no_rows_with_the_declared_evidence(case: Any) -> None:
    model, _ = case
    output = ask(model, [])
    assert len(output) == 0
    for evidence in model.provides:
        assert getattr(output, EVIDENCE_COLUMNS[evidence]) is not None


def test_it_is_a_model_with_a_name_and_declares_whether_it_is_asynchronous(case: Any) -> None:
    model, inputs = case
    assert isinstance(model, Model)
    assert model.name
    assert "object at 0x" not in repr(model) or isinstance(model, FunctionModel) or "FunctionModel" in repr(model)
    if inspect.iscoroutinefunction(model.predict):
        output = model.predict(inputs[:1])
        assert inspect.iscoroutine(output)
        output.close()


def test_latency_and_cost_are_numbers_at_or_above_0_or_not_known(case: Any) -> None:
    output = ask_as_drivers_do(*case)
    tokens = (output.prompt_tokens, output.completion_tokens)
    for column in (output.latency_s, output.cost, *tokens, output.extra_calls):
        assert column is None or (column.shape == (len(output),) and not (column < 0).any())


@pytest.mark.parametrize("wrapper", [name for name in WRAPPERS if name != "timeout"])
@pytest.mark.parametrize(
    "build",
    [
        lambda make, port: FunctionModel(failing),
        lambda make, port: SklearnModel(broken_estimator()),
        lambda make, port: OnnxModel(make.linear_onnx, prepare=lambda xs: np.zeros((len(xs), 9), np.float32)),
        lambda make, port: RecordedModel(["other"], ModelOutput(np.array(["a"]), confidences=np.ones(1))),
        lambda make, port: HttpJsonModel(f"http://127.0.0.1:{port}"),
        lambda make, port: HttpJsonModel(make.server.url("html")),
        lambda make, port: HttpJsonModel(make.server.url("fieldless")),
        lambda make, port: OpenAIModel("m", make.server.url("cutjson", "")),
        lambda make, port: OpenAIModel("m", make.server.url("null", "")),
    ],
    ids=["function", "sklearn", "onnx", "recorded", "closed port", "html", "no fields", "cut JSON", "null text"],
)
def test_a_failure_is_a_reply_of_its_own_and_never_a_number(
    build: Any, wrapper: str, server: Any, linear_onnx: Any, closed_port: int, tmp_path: Any
) -> None:
    inner = build(Make(server, linear_onnx), closed_port)
    model = WRAPPERS[wrapper](inner, tmp_path)
    for _ in range(2):  # the second time, a cache must not have kept it
        output = ask_as_drivers_do(model, ["x"])
        assert list(output.failures) == [0]
        assert output.predictions[0] is None
        for column in (output.confidences, output.probabilities):
            assert column is None or np.isnan(column).all()


def broken_estimator() -> Any:
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit(POINTS, [0, 1, 0, 1, 0])
    estimator.coef_ = np.zeros((1, 7))
    return estimator
