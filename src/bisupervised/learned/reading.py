"""The named columns of recorded rows and of a running system: read by one function, so that both are the same.

    local_confidence, remote_confidence       as recorded, or of the level's supervisor
    local_prediction, remote_prediction       labels
    agreement                                 1 where the predictions are written alike, 0 where not
    local_entropy, local_margin, remote_…     of the class probabilities, as their quantifiers give them
    local_latency_s, remote_latency_s         seconds, NaN where nobody measured: a long answer takes longer
    local_tokens, local_mean_logprob, local_min_logprob, remote_…    of the token log-probabilities

A level's evidence is read only where it has a confidence. Any other name is one of the user's own columns: in a table
one of `table.extra`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bisupervised.errors import EvidenceError, InputError
from bisupervised.learned.columns import agreement
from bisupervised.learned.design import AGREEMENT
from bisupervised.quantifiers import PredictionConfidenceScore, Quantifier, SoftmaxEntropy, TokenLikelihood
from bisupervised.records import AnyArray, BothLevels, FloatArray, LevelName, LevelRows, ModelOutput
from bisupervised.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class LevelView:
    """What a learned supervisor may read of one level."""

    predictions: AnyArray  #: (n,)
    confidences: FloatArray  #: (n,) NaN: no evidence, or failed: nothing else of that row is read
    probabilities: FloatArray | None = None
    token_logprobs: Sequence[Any] | AnyArray | None = None
    latency_s: FloatArray | None = None

    @classmethod
    def of(cls, level: LevelRows | ModelOutput, confidences: FloatArray) -> LevelView:
        return cls(level.predictions, confidences, level.probabilities, level.token_logprobs, level.latency_s)

    @classmethod
    def nothing(cls) -> LevelView:
        """That of no rows."""
        return cls(np.empty(0, dtype=object), np.empty(0))


#: What is read of one level, or of two
View = Mapping[str, LevelView]


def view_of(source: Table | BothLevels) -> View:
    """Both levels of recorded rows, or of a running system."""
    if isinstance(source, BothLevels):
        return {
            "local": LevelView.of(source.local_output, source.local_confidences),
            "remote": LevelView.of(source.remote_output, source.remote_confidences),
        }
    return {name.value: LevelView.of(source.level(name), source.level(name).confidences) for name in LevelName}


def columns_of(view: View, names: Sequence[str], own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The named columns, (n,) each; `own` are the user's. Raises `InputError` for one that there is not."""
    columns: dict[str, Any] = {}
    for name in names:
        level, _, what = name.partition("_")
        if own is not None and name in own:
            columns[name] = own[name]
        elif name == AGREEMENT and len(view) == 2:
            columns[name] = agreement(view["local"].predictions, view["remote"].predictions)
        elif level in view and what in _READERS:
            columns[name] = _READERS[what](view[level], name)
        else:
            raise InputError(
                f"there is no column {name}; known are {', '.join(known_names(view))}, and your own: {_listed(own)}"
            )
    return columns


def known_names(view: View) -> list[str]:
    """The names that need no column of the user's."""
    return [f"{level}_{what}" for level in view for what in _READERS] + ([AGREEMENT] if len(view) == 2 else [])


def _listed(own: Mapping[str, Any] | None) -> str:
    return ", ".join(own) if own else "none"


def _derived(evidence: str, quantifier: Quantifier) -> Callable[[LevelView, str], FloatArray]:
    def read(level: LevelView, name: str) -> FloatArray:
        held: Any = getattr(level, evidence)
        if held is None:
            raise InputError(f"there is no column {name}: this level has no {evidence}")
        known = np.flatnonzero(~np.isnan(level.confidences))
        values = np.full(len(level.confidences), np.nan)
        if len(known):
            rows = held[known] if isinstance(held, np.ndarray) and held.ndim == 2 else _tokens(held, known)
            held_rows: dict[str, Any] = {evidence: rows}
            output = replace(ModelOutput(level.predictions[known]), **held_rows)
            try:
                values[known] = quantifier(output)
            except EvidenceError as error:
                raise InputError(f"{name} cannot be read: {error}") from error
        return values

    return read


def _tokens(held: Any, known: AnyArray) -> list[FloatArray]:
    return [np.empty(0) if held[row] is None else held[row] for row in known.tolist()]


def _latency(level: LevelView, name: str) -> FloatArray:
    known = np.full(len(level.confidences), np.nan) if level.latency_s is None else level.latency_s
    return np.where(np.isnan(level.confidences), np.nan, known)


def _length(level: LevelView, name: str) -> FloatArray:
    if level.token_logprobs is None:
        raise InputError(f"there is no column {name}: this level has no token_logprobs")
    lengths = [np.nan if row is None else float(len(row)) for row in level.token_logprobs]
    return np.where(np.isnan(level.confidences), np.nan, np.array(lengths, dtype=np.float64))


_READERS: Final[dict[str, Callable[[LevelView, str], Any]]] = {
    "confidence": lambda level, _: level.confidences,
    "prediction": lambda level, _: level.predictions,
    "entropy": _derived("probabilities", SoftmaxEntropy()),
    "margin": _derived("probabilities", PredictionConfidenceScore()),
    "latency_s": _latency,
    "tokens": _length,
    "mean_logprob": _derived("token_logprobs", TokenLikelihood("mean")),
    "min_logprob": _derived("token_logprobs", TokenLikelihood("min")),
}
