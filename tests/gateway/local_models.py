"""In-process models for a gateway's file: `gateway.local_models:classify`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

SLOW_S = 1.0


def classify(inputs: Sequence[Any]) -> list[list[float]]:
    """[negative, positive]: sure of texts with `easy` in them, and of no others; `broken` breaks it."""
    if any("broken" in str(x) for x in inputs):
        raise RuntimeError("the model broke")
    return [[0.0625, 0.9375] if "easy" in str(x) else [0.375, 0.625] for x in inputs]


def slowly(inputs: Sequence[Any]) -> list[list[float]]:
    """`classify` that takes a second."""
    time.sleep(SLOW_S)
    return classify(inputs)


def features(inputs: Sequence[Any]) -> Any:
    """(n, 2) for the graph `linear_onnx` of the tests: sure of texts with `easy` in them, and of no others."""
    return np.array([[6.0, 0.0] if "easy" in str(x) else [0.0, 0.3] for x in inputs], dtype=np.float32)


def answering(x: Any, outcome: Any) -> str:
    """A fallback that names what it was given."""
    return f"called for {outcome.id}: {x['messages'][-1]['content']}"


def breaking(x: Any, outcome: Any) -> str:
    """A fallback that raises."""
    raise RuntimeError("the fallback broke")


def breaking_model(inputs: Sequence[Any]) -> list[list[float]]:
    """A model that always fails."""
    raise RuntimeError("the model broke")


def quoting_model(inputs: Sequence[Any]) -> list[list[float]]:
    """A model that fails, and says of what."""
    raise ValueError(f"could not make a number of {inputs[0]!r}")


def quoting(x: Any, outcome: Any) -> str:
    """A fallback that raises, and says of what."""
    raise ValueError(f"nobody knows {x['messages'][-1]['content']}, not even {outcome.local_prediction}")
