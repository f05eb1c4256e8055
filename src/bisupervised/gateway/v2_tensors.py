"""A request's tensors -> the inputs of a cascade; its outcomes -> the tensors of the response. No HTTP here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, TypeAlias

import numpy as np

from bisupervised.errors import TensorError
from bisupervised.models.open_inference_tensors import Tensor, classified, texts
from bisupervised.models.open_inference_wire import InferRequest, RequestedOutput
from bisupervised.records import AnyArray, LevelRows, Outcome, Outcomes, Route

#: The columns of `probabilities`; None: no level gives them.
Classes: TypeAlias = Sequence[Any] | None
_Build: TypeAlias = Callable[[Outcomes], Tensor]

PROBABILITIES: Final = "probabilities"
_ROUTES: Final = np.array([route.label for route in Route], dtype=object)


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """What a tensor of a model looks like."""

    name: str
    datatype: str
    shape: tuple[int, ...]  #: -1 for a dimension of any size; the first one counts the inputs


# ---------------------------------------------------------------- tensors in


def inputs_of(tensors: Sequence[Tensor], expected: Sequence[TensorMetadata], most: int) -> Sequence[Any]:
    """The inputs that the tensors hold, at most so many. Raises `TensorError`."""
    if expected:
        _check_names(tensors, expected)
    n = len(tensors[0].data) if tensors[0].shape else 0
    for tensor in tensors:
        if not tensor.shape or len(tensor.data) != n:
            raise TensorError(
                "the first dimension counts the inputs, and is the same in every tensor; sent were "
                + _shapes(tensors)
            )
        if tensor.data.size == 0:
            raise TensorError(
                f"the tensor {tensor.name!r} is empty: send at least one input, and none without elements"
            )
    if n > most:
        raise TensorError(f"{n} inputs are more than one request may hold: send at most {most} at a time")
    if len(tensors) == 1:
        return _rows(tensors[0])
    columns = {tensor.name: _rows(tensor) for tensor in tensors}
    return [{name: rows[row] for name, rows in columns.items()} for row in range(n)]


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors[:10])


def _rows(tensor: Tensor) -> Sequence[Any]:
    if tensor.datatype != "BYTES":
        return tensor.data  # type: ignore[return-value]  # an array is a sequence of its rows
    words = texts(tensor)
    width = len(words) // len(tensor.data)
    return words if width == 1 else [words[row : row + width] for row in range(0, len(words), width)]


def _check_names(tensors: Sequence[Tensor], expected: Sequence[TensorMetadata]) -> None:
    by_name = {one.name: one for one in expected}
    if {tensor.name for tensor in tensors} != by_name.keys():
        takes = ", ".join(f"{one.name} ({one.datatype} {list(one.shape)})" for one in expected)
        raise TensorError(f"the model takes {takes}; sent were {_shapes(tensors)}")
    for tensor in tensors:
        wanted = by_name[tensor.name]
        if tensor.datatype != wanted.datatype or not _fits(tensor.shape, wanted):
            raise TensorError(
                f"the tensor {tensor.name!r} is {wanted.datatype} {list(wanted.shape)} (-1: any size), and was sent "
                f"as {tensor.datatype} {list(tensor.shape)}"
            )


def _fits(shape: Sequence[int], wanted: TensorMetadata) -> bool:
    if wanted.datatype == "BYTES" and len(shape) == len(wanted.shape) + 1 and shape[-1] == 1:
        shape = shape[:-1]  # one text for each input, written as a column
    return len(shape) == len(wanted.shape) and all(
        size in (-1, given) for size, given in zip(wanted.shape, shape, strict=True)
    )


# ---------------------------------------------------------------- outcomes out


@dataclass(frozen=True, slots=True)
class OneOutcome:
    """The outcome of a request with a single input. Columns are made only when somebody asks for them: for one row
    they cost more than the decision."""

    outcome: Outcome
    columns: Callable[[], Outcomes]

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Outcome]:
        yield self.outcome

    def __getitem__(self, row: int) -> Outcome:
        return (self.outcome,)[row]


def outputs_metadata(prediction: str, classes: Classes) -> list[TensorMetadata]:
    """What the outputs look like; `prediction` is the datatype of that one."""
    outputs = [
        TensorMetadata("prediction", prediction, (-1,)),
        TensorMetadata("confidence", "FP64", (-1,)),
        TensorMetadata("route", "BYTES", (-1,)),
        TensorMetadata("id", "BYTES", (-1,)),
    ]
    if classes is not None:
        outputs.append(TensorMetadata(PROBABILITIES, "FP64", (-1, len(classes))))
    return outputs


def check_outputs(request: InferRequest, classes: Classes) -> None:
    """Before anything is asked and paid for. Raises `TensorError`."""
    there = [*_BUILD, PROBABILITIES] if classes is not None else [*_BUILD]
    for one in request.outputs:
        if one.name not in there:
            raise TensorError(f"there is no output {one.name[:80]!r}; there are: {', '.join(there)}")
        if one.classification is not None and one.name != PROBABILITIES:
            raise TensorError(f"the output {one.name} has no classes: ask for classification of {PROBABILITIES}")
    if len({one.name for one in request.outputs}) != len(request.outputs):
        raise TensorError("an output is asked for twice")


def outputs_of_one(outcome: Outcome, request: InferRequest) -> tuple[list[dict[str, Any]], list[bytes]]:
    """A single outcome's outputs as the response's JSON has them, and their raw bytes: what `outputs_of` and
    `build_response` make of one row, without making tensors of it. No `probabilities`."""
    outputs, raw = [], []
    asked = request.outputs or [RequestedOutput(name, request.binary_data_output) for name in _BUILD]
    for one in asked:
        datatype, value = _value_of(one.name, outcome)
        output: dict[str, Any] = {"name": one.name, "datatype": datatype, "shape": [1]}
        if one.binary_data:
            raw.append(_PACKED[datatype](value))
            output["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            output["data"] = [None if value != value else value]
        outputs.append(output)
    return outputs, raw


def _value_of(name: str, outcome: Outcome) -> tuple[str, Any]:
    if name == "prediction":
        answer = outcome.answer
        if type(answer) is int and -(2**63) <= answer < 2**63:
            return "INT64", answer
        return "BYTES", "" if answer is None else _text(answer)
    if name == "confidence":
        if outcome.route is Route.REJECTED:
            return "FP64", np.nan
        return "FP64", outcome.answer_confidence
    return "BYTES", outcome.route.label if name == "route" else outcome.id


def _packed_text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "little") + data


_PACKED: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "INT64": Struct("<q").pack,
    "FP64": Struct("<d").pack,
    "BYTES": _packed_text,
}


def outputs_of(outcomes: Outcomes, request: InferRequest, classes: Classes) -> tuple[Tensor, ...]:
    """The outputs that the request asks for; without a word, all but the probabilities."""
    if not request.outputs:
        return tuple(build(outcomes) for build in _BUILD.values())
    return tuple(
        _BUILD[one.name](outcomes) if one.name != PROBABILITIES else _probabilities(outcomes, one, classes)
        for one in request.outputs
    )


def _prediction(outcomes: Outcomes) -> Tensor:
    """The answers: INT64 when all are whole numbers, else texts. An input without an answer has an empty one."""
    return _predicted(outcomes.answers.tolist())


def _predicted(answers: Sequence[Any]) -> Tensor:
    if all(type(answer) is int and -(2**63) <= answer < 2**63 for answer in answers):
        return Tensor("prediction", "INT64", np.array(answers, dtype=np.int64))
    return _texts("prediction", ["" if answer is None else _text(answer) for answer in answers])


def _text(answer: Any) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)


def _texts(name: str, values: Sequence[str]) -> Tensor:
    data = np.empty(len(values), dtype=object)
    data[:] = values
    return Tensor(name, "BYTES", data)


def _confidence(outcomes: Outcomes) -> Tensor:
    """Of the level that answered; NaN where none did, or there is no evidence."""
    nobody = np.full(len(outcomes), np.nan)
    by_route = [outcomes.local.confidences, outcomes.remote.confidences, nobody]
    confidences = np.choose(outcomes.routes, by_route)
    answered = outcomes.routes != Route.REJECTED
    if outcomes.learned_confidences is not None:
        confidences = np.where(answered & (outcomes.routes == Route.LOCAL), outcomes.learned_confidences, confidences)
    pair = outcomes.pair_confidences
    if pair is not None:
        confidences = np.where(answered & outcomes.remote.asked, pair, confidences)
    return Tensor("confidence", "FP64", confidences)


def _route(outcomes: Outcomes) -> Tensor:
    return Tensor("route", "BYTES", _ROUTES[outcomes.routes])


def _id(outcomes: Outcomes) -> Tensor:
    return _texts("id", outcomes.ids)


_BUILD: Final[Mapping[str, _Build]] = {
    "prediction": _prediction,
    "confidence": _confidence,
    "route": _route,
    "id": _id,
}


def _probabilities(outcomes: Outcomes, wanted: RequestedOutput, classes: Classes) -> Tensor:
    """Those of the level that answered, in the order of `classes`; NaN where there are none."""
    labels = [] if classes is None else list(classes)
    values = np.full((len(outcomes), len(labels)), np.nan)
    for route, level in ((Route.LOCAL, outcomes.local), (Route.REMOTE, outcomes.remote)):
        rows = np.flatnonzero(outcomes.routes == route)
        ordered = _in_order(level, labels)
        if ordered is not None:
            values[rows] = ordered[rows]
    tensor = Tensor(PROBABILITIES, "FP64", values)
    return tensor if wanted.classification is None else classified(tensor, wanted.classification, labels)


def _in_order(level: LevelRows, labels: Sequence[Any]) -> AnyArray | None:
    """A level's probabilities with its columns in the order of the labels; None when it has not these classes."""
    if level.probabilities is None or level.classes is None:
        return None
    own = level.classes.tolist()
    if own == labels:
        return level.probabilities
    places = {label: column for column, label in enumerate(own)}
    if len(own) != len(labels) or any(label not in places for label in labels):
        return None
    return level.probabilities[:, [places[label] for label in labels]]
