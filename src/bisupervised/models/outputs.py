"""From what back ends return to a `ModelOutput`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bisupervised.errors import ModelError, ReplyUnreadable
from bisupervised.records import ModelOutput


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
