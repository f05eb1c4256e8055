"""The fakes: models that answer from recorded outputs, a log and a queue in memory.

An input of a fake model is a row number of its recorded output.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bisupervised.cascade import BiSupervised, Level
from bisupervised.fallback import Pending
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import Evidence, Failure, ModelOutput, Outcome, take_outputs
from bisupervised.supervisor import Supervisor


class FakeModel:
    """Answers row numbers from a recorded output, counts what it is asked, and how often at once.

    With `later` it is asynchronous. `raises` maps rows to the error that a call holding them raises.
    """

    def __init__(
        self,
        output: ModelOutput,
        *,
        later: bool = False,
        seconds: float = 0.0,
        max_batch: int | None = None,
        raises: Mapping[int, BaseException] | None = None,
        provides: frozenset[Evidence] = frozenset(Evidence),
        name: str = "fake",
    ) -> None:
        self.output = output
        self.later = later
        self.seconds = seconds
        self.max_batch = max_batch
        self.raises = dict(raises or {})
        self.provides = provides
        self.name = name
        self.calls: list[list[int]] = []
        self.threads: set[str] = set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    @property
    def asked(self) -> list[int]:
        """Every row asked about, sorted: one entry for each time."""
        return sorted(row for call in self.calls for row in call)

    def predict(self, inputs: Sequence[Any]) -> ModelOutput | Awaitable[ModelOutput]:
        if self.later:
            return self._later(inputs)
        self._begin(inputs)
        try:
            time.sleep(self.seconds)
            return self._answer(inputs)
        finally:
            self._end()

    async def _later(self, inputs: Sequence[Any]) -> ModelOutput:
        self._begin(inputs)
        try:
            await asyncio.sleep(self.seconds)
            return self._answer(inputs)
        finally:
            self._end()

    def _begin(self, inputs: Sequence[Any]) -> None:
        with self._lock:
            self.calls.append(list(inputs))
            self.threads.add(threading.current_thread().name)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)

    def _answer(self, inputs: Sequence[Any]) -> ModelOutput:
        for row in inputs:
            if row in self.raises:
                raise self.raises[row]
        return take_outputs(self.output, np.array(inputs, dtype=np.int64))

    def _end(self) -> None:
        with self._lock:
            self._at_once -= 1


class FakeLog:
    """Keeps every outcome written, with its input, in the order of writing."""

    def __init__(self) -> None:
        self.rows: list[tuple[Outcome, Any]] = []
        self.stored = 0  #: how many rows the last flush stored for good

    def write(self, outcomes: Iterable[Outcome], inputs: Iterable[Any]) -> None:
        self.rows.extend(zip(outcomes, inputs, strict=True))

    def flush(self) -> None:
        self.stored = len(self.rows)

    @property
    def ids(self) -> list[str]:
        return [outcome.id for outcome, _ in self.rows]


class FakeQueue:
    """A queue of pending inputs in memory."""

    def __init__(self) -> None:
        self.items: dict[str, Pending] = {}

    def put(self, item: Pending, /) -> None:
        self.items[item.id] = item

    def waiting(self) -> list[Pending]:
        return list(self.items.values())

    def done(self, id_: str) -> None:
        self.items.pop(id_, None)


class Scripted:
    """A model that answers with a fixed value, or with what a function makes of the inputs: a broken one, say."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.provides = frozenset(Evidence)
        self.name = "scripted"
        self.max_batch = None

    def predict(self, inputs: Sequence[Any]) -> Any:
        return self.answer(inputs) if callable(self.answer) else self.answer


def recorded(
    confidences: Sequence[float],
    predictions: Sequence[Any] | None = None,
    *,
    failed: Iterable[int] = (),
    **columns: Any,
) -> ModelOutput:
    """An output with the given confidences; predictions default to the row numbers; `failed` rows timed out."""
    failures = {row: Failure("timeout", "no answer in 1 s") for row in failed}
    column: np.ndarray[Any, Any] = np.arange(len(confidences))
    if predictions is not None:
        column = np.array(predictions) if not failures else np.array(predictions, dtype=object)
    return ModelOutput(column, confidences=np.array(confidences, dtype=np.float64), failures=failures, **columns)


def level(model: Any, threshold: float = 0.5, **options: Any) -> Level:
    """A level that reads the model's own confidences; options of `Supervisor` and of `Level`."""
    of_level = {name: options.pop(name) for name in ("cost", "inline") if name in options}
    # A known cost: NaN would make equal outcomes differ.
    return Level(model, Supervisor(GivenConfidence(), threshold, **options), **{"cost": 0.0, **of_level})


def system(
    local: Sequence[float], remote: Sequence[float], fallback: Any = None, *, log: Any = None, **of_remote: Any
) -> BiSupervised:
    """A system of two fakes with these confidences and thresholds 0.5; further options are the remote model's."""
    return BiSupervised(
        level(FakeModel(recorded(local))), level(FakeModel(recorded(remote), **of_remote)), fallback, log=log
    )
