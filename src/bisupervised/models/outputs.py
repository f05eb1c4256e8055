"""From what back ends return to a `ModelOutput`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bisupervised.errors import InputError, ModelError, ReplyUnreadable
from bisupervised.records import AnyArray, Evidence, ModelOutput

#: The column of a `ModelOutput` that holds each kind of evidence.
EVIDENCE_COLUMNS = {
    Evidence.PROBABILITIES: "probabilities",
    Evidence.LOGITS: "logits",
    Evidence.FEATURES: "features",
    Evidence.SAMPLED_PROBABILITIES: "sampled_probabilities",
    Evidence.TOKEN_LOGPROBS: "token_logprobs",
    Evidence.TOKEN_ALTERNATIVES: "token_alternatives",
    Evidence.TOP_LOGPROBS: "top_logprobs",
    Evidence.TEXT: "texts",
    Evidence.CONFIDENCE: "confidences",
    Evidence.SAMPLES: "samples",
    Evidence.P_TRUE: "p_true",
}


def as_column(values: Iterable[Any]) -> np.ndarray[Any, Any]:
    """A one-dimensional array, of objects when the values are of mixed kinds or themselves sequences."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    values = list(values)
    kinds = {type(value) for value in values}
    if kinds <= {str} or kinds <= {int, bool} or kinds <= {float}:
        return np.array(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def output_from_probabilities(
    probabilities: Any, classes: Sequence[Any] | None = None, *, model: str = "the model"
) -> ModelOutput:
    """A model output from class probabilities (n, classes): the most probable class is the prediction."""
    try:
        p = np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ReplyUnreadable(
            f"{model} must return class probabilities (inputs, classes), a pair (predictions, confidences) or a "
            f"ModelOutput; got {type(probabilities).__name__}"
        ) from error
    if p.ndim != 2 or p.shape[1] == 0:
        raise ReplyUnreadable(f"{model}: class probabilities must be (inputs, classes); got the shape {p.shape}")
    labels = np.arange(p.shape[1]) if classes is None else as_column(classes)
    if len(labels) != p.shape[1]:
        raise ModelError(f"{model} gives {p.shape[1]} probabilities for {len(labels)} classes")
    return ModelOutput(predictions=labels[p.argmax(axis=1)], probabilities=p, classes=labels)


def output_from_result(
    result: Any, n: int, classes: Sequence[Any] | None = None, *, model: str = "the model"
) -> ModelOutput:
    """A model output for n inputs from class probabilities (n, classes), a pair (predictions, confidences) of
    length n each, or a `ModelOutput`. Raises `ReplyUnreadable` when it is none of them, or not n long."""
    if isinstance(result, ModelOutput):
        output = result
    elif isinstance(result, tuple) and len(result) == 2:
        predictions, confidences = result
        numbers = np.asarray(confidences, dtype=np.float64).reshape(-1)
        if len(numbers) != len(predictions):
            raise ReplyUnreadable(f"{model} gave {len(predictions)} predictions and {len(numbers)} confidences")
        output = ModelOutput(as_column(predictions), confidences=numbers)
    else:
        output = output_from_probabilities(result, classes, model=model)
    if len(output) != n:
        raise ReplyUnreadable(f"{model} was given {n} inputs and answered {len(output)}")
    return output


def matrix_of(values: Any, what: str, n: int) -> AnyArray:
    """Numbers as (n, d), for logits and features; further dimensions of 1 are dropped. Else `ReplyUnreadable`."""
    try:
        matrix = np.asarray(values.toarray() if hasattr(values, "toarray") else values)  # of SciPy's sparse ones
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise ReplyUnreadable(f"{what} is no array of numbers: {error}") from error
    if matrix.dtype.kind not in "fiu":
        raise ReplyUnreadable(f"{what} is no array of numbers")
    if matrix.ndim > 2 and matrix.size == matrix.shape[0] * matrix.shape[1]:
        matrix = matrix.reshape(matrix.shape[:2])  # a pooled feature map, (n, d, 1, 1)
    if matrix.ndim != 2 or len(matrix) != n or (n and not matrix.shape[1]):
        raise ReplyUnreadable(f"{what} has the shape {matrix.shape}; ({n}, d) is needed, one row for each input")
    return matrix if matrix.dtype.kind == "f" else matrix.astype(np.float64)


def empty_output(
    provides: Iterable[Evidence], classes: Sequence[Any] | None = None, *, width: int = 0
) -> ModelOutput:
    """The output for no inputs, with empty columns for the evidence that a model declares.

    Without `classes`, the probabilities and logits have `width` columns, for the classes 0, 1, …
    """
    provides = frozenset(provides)
    labels = np.arange(width) if classes is None else as_column(classes)
    by_class = not provides.isdisjoint((Evidence.PROBABILITIES, Evidence.LOGITS))
    empty: dict[str, Any] = {
        "probabilities": np.empty((0, len(labels))),
        "logits": np.empty((0, len(labels))),
        "features": np.empty((0, 0)),
        "sampled_probabilities": np.empty((0, 0, len(labels))),
        "confidences": np.empty(0),
        "p_true": np.empty(0),
    }
    columns = {name: empty.get(name, []) for evidence, name in EVIDENCE_COLUMNS.items() if evidence in provides}
    if Evidence.SAMPLES in provides:
        columns |= {"sample_logprobs": [], "sample_lengths": []}
    return ModelOutput(
        predictions=labels[:0] if by_class else np.empty(0, dtype=object),
        classes=labels if by_class else None,
        **columns,
    )


def evidence_in(output: ModelOutput) -> frozenset[Evidence]:
    """The evidence that an output really holds: at least one row with something other than NaN or nothing."""
    given = set()
    for evidence, name in EVIDENCE_COLUMNS.items():
        column = getattr(output, name)
        if column is None:
            continue
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            holds = not np.isnan(column).all() if column.size else False
        else:
            holds = any(row is not None and _holds_something(row) for row in column)
        if holds:
            given.add(evidence)
    return frozenset(given)


def _holds_something(row: Any) -> bool:
    if isinstance(row, np.ndarray):
        return row.size > 0
    return any(item is not None for item in row)


def check_batch(inputs: Sequence[Any], max_batch: int | None, model: str) -> None:
    """Raises `InputError` for more inputs than one call may hold."""
    if max_batch is not None and len(inputs) > max_batch:
        raise InputError(
            f"{model} takes at most {max_batch} inputs in one call, not {len(inputs)}; a system's predict_many "
            f"makes calls of the right size"
        )
