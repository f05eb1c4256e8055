"""A recording of what a model answered, kept in a file: an input that was asked before is not asked again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np

from bisupervised.errors import InputError, ReplyUnreadable
from bisupervised.models.port import Model
from bisupervised.models.recording_file import RecordingFile
from bisupervised.models.wrapper import Wrapper, with_own_latency
from bisupervised.records import ModelOutput, concatenate_outputs, take_outputs

logger = logging.getLogger("bisupervised")


class RecordingCache(Wrapper):
    """Answers from the SQLite file at `path` what was asked before, and asks the model about the others only.

    An input is found again by a SHA-256 of the model's name and of `key(x)` as JSON (default: what the model
    would send, for the HTTP models; else the input itself). So another prompt, model or temperature is another
    key; another `read_label` or `read` is not: give such a model another `name`, or another file.

    A hit holds the prediction, evidence, token counts and **latency as recorded**, so that an experiment run
    again gives the same numbers; its **cost is 0**, since nothing was spent. Under a cache the model should know
    its own cost (prices, `cost_per_input`): a level's constant cost applies to single misses, not to a batch
    that holds hits. Failures are not kept. An input that occurs twice in a call is asked once.

    Several processes and threads may share the file. Two that ask about the same new input at the same time
    both ask; the first one's answer stays. An answer that the file cannot hold (disk full, a prediction that is
    no JSON) is returned all the same, with a warning in the log.
    """

    def __init__(self, model: Model, path: str | Path, *, key: Callable[[Any], Any] | None = None) -> None:
        super().__init__(model)
        self._key = key or _own_key(model)
        self._file = RecordingFile(path)

    def __len__(self) -> int:
        """How many answers the file holds."""
        return len(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        keys = [self._digest(x) for x in inputs]
        found = self._found(keys)
        missing = _missing(keys, found)
        if keys and not missing:
            return _joined(keys, found)
        start = perf_counter()
        output = self._ask_now([inputs[row] for row in missing.values()])
        output = with_own_latency(output, perf_counter() - start)
        self._store(list(missing), output)
        return _joined(keys, found, list(missing), output)

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        keys = [self._digest(x) for x in inputs]
        found = await asyncio.to_thread(self._found, keys)
        missing = _missing(keys, found)
        if keys and not missing:
            return _joined(keys, found)
        start = perf_counter()
        output = await self._ask_later([inputs[row] for row in missing.values()])
        output = with_own_latency(output, perf_counter() - start)
        await asyncio.to_thread(self._store, list(missing), output)
        return _joined(keys, found, list(missing), output)

    def _digest(self, x: Any) -> str:
        try:
            text = json.dumps([self.name, self._key(x)], sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"an input of type {type(x).__name__} cannot be found again by its JSON ({error}): give "
                f"RecordingCache a key, a function from an input to something that is JSON"
            ) from error
        return hashlib.sha256(text.encode()).hexdigest()

    def _found(self, keys: Sequence[str]) -> dict[str, ModelOutput]:
        try:
            return self._file.read(keys)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            logger.warning("the cache of %s cannot be read, the model is asked: %s", self.name, error)
            return {}

    def _store(self, keys: Sequence[str], output: ModelOutput) -> None:
        if len(output) != len(keys):
            return  # the driver makes a failure of it
        try:
            kept = [row for row in range(len(output)) if row not in output.failures]
            self._file.write({keys[row]: take_outputs(output, np.array([row])) for row in kept})
        except (sqlite3.Error, ValueError, TypeError) as error:
            logger.warning("an answer of %s is not kept in the cache: %s", self.name, error)


def _own_key(model: Any) -> Callable[[Any], Any]:
    """The `cache_key` of the model inside all wrappers, or the input itself."""
    while isinstance(model, Wrapper):
        model = model.model
    key: Callable[[Any], Any] | None = getattr(model, "cache_key", None)
    return key or (lambda x: x)


def _missing(keys: Sequence[str], found: Mapping[str, ModelOutput]) -> dict[str, int]:
    """key -> the first row that has it, for the keys that are not in the file."""
    rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key not in found:
            rows.setdefault(key, row)
    return rows


def _joined(
    keys: Sequence[str],
    found: Mapping[str, ModelOutput],
    asked: Sequence[str] = (),
    output: ModelOutput | None = None,
) -> ModelOutput:
    """One row per key: those found cost nothing, and so does every further one of a key that was asked once."""
    if output is not None and len(output) != len(asked):
        raise ReplyUnreadable(f"the model was given {len(asked)} inputs and answered {len(output)}")
    if output is not None and list(keys) == list(asked):
        return output  # nothing found, nothing twice
    rows = dict(found)
    for row, key in enumerate(asked):
        rows[key] = take_outputs(cast(ModelOutput, output), np.array([row]))
    paid: set[str] = set(found)
    parts = []
    for key in keys:
        parts.append(replace(rows[key], cost=np.zeros(1)) if key in paid else rows[key])
        paid.add(key)
    return concatenate_outputs(parts)
