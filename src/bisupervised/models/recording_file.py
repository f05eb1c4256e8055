"""The file under `RecordingCache`: one row per answer, in SQLite, as JSON."""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.models.outputs import as_column
from bisupervised.records import ModelOutput

#: How long to wait for another process that is writing.
_BUSY_S = 30.0
#: SQLite takes a bounded number of parameters in one statement.
_KEYS_AT_ONCE = 500
_FLOATS = ("confidences", "p_true", "latency_s", "cost", "prompt_tokens", "completion_tokens", "extra_calls")
#: Columns with an array of numbers for each row.
_ARRAYS = ("token_logprobs", "token_alternatives", "sample_logprobs", "sample_lengths")
#: Columns of one array, whose rows are of any one shape.
_MATRICES = ("logits", "features", "sampled_probabilities")


class RecordingFile:
    """Outputs of one row each, by key. Usable from several threads, and by several processes at a time.

    Raises `InputError` when `path` cannot be opened or is another kind of file; later, `sqlite3.Error`.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
            weakref.finalize(self, self._db.close)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS recording (key TEXT PRIMARY KEY, output TEXT NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise InputError(f"cannot use {path} as a recording: {error}") from error

    def __len__(self) -> int:
        with self._lock, closing(self._db.execute("SELECT count(*) FROM recording")) as rows:
            return int(rows.fetchone()[0])

    def read(self, keys: Sequence[str]) -> dict[str, ModelOutput]:
        """key -> output, for the keys that the file holds. `ValueError` for a row that is none of ours."""
        wanted = list(dict.fromkeys(keys))
        found = {}
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            some = wanted[start : start + _KEYS_AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, output FROM recording WHERE key IN ({marks})"
            with self._lock, closing(self._db.execute(query, some)) as rows:
                found.update({key: decoded(text) for key, text in rows})
        return found

    def write(self, outputs: Mapping[str, ModelOutput]) -> None:
        """Add outputs, all or none; a key that is there stays. `TypeError` for a prediction that is no JSON."""
        rows = [(key, encoded(output)) for key, output in outputs.items()]
        if not rows:
            return
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR IGNORE INTO recording VALUES (?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; using it afterwards raises `sqlite3.ProgrammingError`."""
        with self._lock:
            self._db.close()


def encoded(output: ModelOutput) -> str:
    """An output of one row as JSON. Raises `TypeError` when that would change the prediction."""
    row: dict[str, Any] = {"prediction": _as_json(output.predictions[0])}
    if output.probabilities is not None:
        row["probabilities"] = output.probabilities[0].tolist()
    if output.classes is not None or output.probabilities is not None:
        row["classes"] = None if output.classes is None else [_plain(label) for label in output.classes]
    if output.samples is not None:
        row["samples"] = [_as_json(sample) for sample in output.samples[0]]
    for name in _ARRAYS:
        column = getattr(output, name)
        if column is not None:
            row[name] = np.asarray(column[0], dtype=np.float64).tolist()
    for name in _MATRICES:
        column = getattr(output, name)
        if column is not None:
            row[name] = np.asarray(column[0], dtype=np.float64).tolist()
    if output.texts is not None:
        row["texts"] = output.texts[0]
    if output.top_logprobs is not None:
        row["top_logprobs"] = {str(token): float(p) for token, p in output.top_logprobs[0].items()}
    for name in _FLOATS:
        column = getattr(output, name)
        if column is not None:
            row[name] = float(column[0])
    return json.dumps(row)


def decoded(text: str) -> ModelOutput:
    """The output of one row that `encoded` wrote."""
    row = json.loads(text)
    columns: dict[str, Any] = {name: np.array([row[name]]) for name in _FLOATS if name in row}
    if "probabilities" in row:
        columns["probabilities"] = np.array([row["probabilities"]], dtype=np.float64)
    if "classes" in row:
        columns["classes"] = None if row["classes"] is None else as_column(row["classes"])
    columns |= {name: [np.array(row[name], dtype=np.float64)] for name in _ARRAYS if name in row}
    if row.get("token_alternatives") == []:  # JSON knows no width of nothing
        columns["token_alternatives"] = [np.empty((0, 0))]
    if "samples" in row:
        columns["samples"] = [tuple(row["samples"])]
    columns |= {name: np.array([row[name]], dtype=np.float64) for name in _MATRICES if name in row}
    if "texts" in row:
        columns["texts"] = [row["texts"]]
    if "top_logprobs" in row:
        columns["top_logprobs"] = [row["top_logprobs"]]
    return ModelOutput(as_column([row["prediction"]]), **columns)


def _as_json(prediction: Any) -> Any:
    prediction = _plain(prediction)
    if json.loads(json.dumps(prediction)) != prediction:
        raise TypeError(f"a prediction of type {type(prediction).__name__} is no JSON")
    return prediction


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
