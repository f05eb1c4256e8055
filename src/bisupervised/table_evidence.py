"""The columns of the one table that hold numbers and evidence, read: what a quantifier makes confidences from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bisupervised.cells import is_missing, is_missing_cell
from bisupervised.quantifiers import MaxLogitPNorm, MaxSoftmax, Quantifier, TokenLikelihood
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName, LevelRows, ModelOutput


def is_feature(name: str) -> bool:
    """Whether a column of that name holds a feature: `local_feature_<i>`, or the remote model's."""
    level, _, column = name.partition("_")
    return level in tuple(LevelName) and column.startswith("feature_") and column[len("feature_") :].isdecimal()


class EvidenceReader:
    """Reads columns of n cells as numbers, and those of a level's evidence; adds what is wrong to `problems`."""

    def __init__(self, columns: Mapping[str, AnyArray], problems: list[str]) -> None:
        self.columns = columns
        self.problems = problems
        self.n = len(next(iter(columns.values()))) if columns else 0

    def probabilities(self, name: LevelName) -> tuple[FloatArray | None, AnyArray | None]:
        """(n, classes) as they stand there, and (classes,) labels from the names; None where there are none."""
        prefix = f"{name}_proba_"
        names = [column for column in self.columns if column.startswith(prefix)]
        if not names:
            return None, None
        matrix = np.stack([self.column(column) for column in names], axis=1)
        return matrix, np.array([column.removeprefix(prefix) for column in names], dtype=object)

    def logits(
        self, name: LevelName, probabilities: FloatArray | None, classes: AnyArray | None
    ) -> tuple[FloatArray | None, AnyArray | None]:
        """(n, classes) logits, and the classes of their columns: those of the probabilities where there are some."""
        prefix = f"{name}_logit_"
        given = [column.removeprefix(prefix) for column in self.columns if column.startswith(prefix)]
        if not given:
            return None, classes
        if probabilities is not None and classes is not None and set(classes.tolist()) != set(given):
            self.problems.append(
                f"{name}_logit_<class> and {name}_proba_<class> are of different classes: {', '.join(given)}, and "
                f"{', '.join(classes)}"
            )
            return None, classes
        labels = np.array(given, dtype=object) if probabilities is None or classes is None else classes
        matrix = np.stack([self.column(f"{prefix}{label}", infinite=True) for label in labels], axis=1)
        return matrix, labels

    def features(self, name: LevelName) -> FloatArray | None:
        """(n, d) in the order of their numbers; None where there are none, or one between is missing."""
        prefix = f"{name}_feature_"
        columns = [column for column in self.columns if column.startswith(prefix) and is_feature(column)]
        if not columns:
            return None
        place = {int(column.removeprefix(prefix)): column for column in columns}
        if sorted(place) != list(range(len(columns))):
            absent = next(number for number in range(len(columns) + 1) if number not in place)
            self.problems.append(
                f"{name}_feature_{absent} is missing: the {len(columns)} features are numbered from 0 without gaps"
            )
            return None
        return np.stack([self.column(place[number]) for number in range(len(columns))], axis=1)

    def token_logprobs(self, name: LevelName) -> AnyArray | None:
        """(n,) arrays of numbers, from JSON lists or sequences, None for an empty cell; None where there are none."""
        column = self.columns.get(f"{name}_token_logprobs")
        if column is None:
            return None
        rows = np.empty(self.n, dtype=object)
        for row, value in enumerate(column):
            try:
                parsed = json.loads(value) if isinstance(value, str) and value else value
                rows[row] = None if is_missing_cell(parsed) else np.asarray(parsed, dtype=np.float64)
            except (ValueError, TypeError) as error:
                self.problems.append(f"{name}_token_logprobs, row {row + 1}: not a JSON list of numbers ({error})")
                return None
        return rows

    def column(self, name: str, *, low: float = -math.inf, infinite: bool = False) -> FloatArray:
        """(n,) the `numbers` of a column, NaN where there is no such column."""
        column = self.numbers(name, low=low, infinite=infinite)
        return np.full(self.n, np.nan) if column is None else column

    def numbers(
        self, name: str, *, low: float = -math.inf, high: float = math.inf, infinite: bool = False
    ) -> FloatArray | None:
        """(n,) numbers in [low, high], NaN for an empty cell; None without the column, or for a cell of text."""
        column = self.columns.get(name)
        if column is None:
            return None
        numbers = column.astype(np.float64) if column.dtype.kind in "iufb" else self._parse(name, column)
        if numbers is None:
            return None
        if not infinite and np.isinf(numbers).any():
            self.problems.append(f"{name}: {int(np.isinf(numbers).sum())} values are infinite")
        outside = int(((numbers < low) | (numbers > high)).sum())
        if outside:
            self.problems.append(f"{name}: {outside} values lie outside [{low:g}, {high:g}]")
        return numbers

    def _parse(self, name: str, column: AnyArray) -> FloatArray | None:
        numbers = np.full(len(column), np.nan)
        for row, value in enumerate(column):
            if is_missing(value):
                continue
            try:
                numbers[row] = _TRUTH[value.strip().lower()] if isinstance(value, str) else float(value)
            except KeyError:
                try:
                    numbers[row] = float(value)
                except ValueError:
                    self.problems.append(f"{name}, row {row + 1}: {value!r} is not a number{_hint(value)}")
                    return None
            except (TypeError, ValueError):
                self.problems.append(f"{name}, row {row + 1}: {value!r} is not a number{_hint(value)}")
                return None
        return numbers


_TRUTH: Final = {"true": 1.0, "false": 0.0}


def _hint(value: Any) -> str:
    comma = isinstance(value, str) and value.count(",") == 1 and value.replace(",", "").strip().lstrip("-").isdigit()
    return " (decimal commas are not understood: write 0.9)" if comma else ""


def default_quantifier(rows: LevelRows) -> Quantifier:
    """What reads confidences where nobody says how: max softmax, or the least likely token."""
    if rows.probabilities is not None:
        return MaxSoftmax()
    return TokenLikelihood("min") if rows.token_logprobs is not None else MaxLogitPNorm("max_softmax")


def evidence_of(rows: LevelRows, confidences: FloatArray | None, readable: BoolArray) -> ModelOutput:
    """What a quantifier may read of a level's rows; of those that are not readable nothing, whatever stands there."""

    def known(matrix: AnyArray | None) -> AnyArray | None:
        return None if matrix is None else np.where(readable[:, np.newaxis], matrix, np.nan)

    tokens = None
    if rows.token_logprobs is not None:
        tokens = [
            row if read and row is not None else np.empty(0)
            for row, read in zip(rows.token_logprobs, readable, strict=True)
        ]
    return ModelOutput(
        rows.predictions,
        probabilities=known(rows.probabilities),
        classes=rows.classes,
        token_logprobs=tokens,
        logits=known(rows.logits),
        features=known(rows.features),
        confidences=confidences,
    )
