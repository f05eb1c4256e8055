"""Objectives: what "accurate" means, handed in as values.

A `Graded` objective gives every prediction a grade in [0, 1] and averages: accuracy, exact match. Curves over it
are exact. A `Scored` objective looks at all predictions at once (macro F1, any callable): curves over it are
evaluated on a grid of request rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import AnyArray, FloatArray


@dataclass(frozen=True, slots=True)
class Graded:
    """`grade(label, prediction)` in [0, 1] for one input; the objective is the mean grade."""

    name: str
    grade: Callable[[Any, Any], float]

    def grades(self, labels: AnyArray, predictions: AnyArray) -> FloatArray:
        """(n,) grades; a missing prediction has grade 0."""
        return np.array(
            [0.0 if p is None else float(self.grade(t, p)) for t, p in zip(labels, predictions, strict=True)]
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """`score(labels, predictions)` over n inputs at once; higher is better."""

    name: str
    score: Callable[[AnyArray, AnyArray], float]


Objective: TypeAlias = Graded | Scored


def exact_match(label: Any, prediction: Any) -> float:
    """1 when both read the same, white space and case aside; for answers in words."""
    return float(" ".join(str(label).split()).casefold() == " ".join(str(prediction).split()).casefold())


def macro_f1(labels: AnyArray, predictions: AnyArray) -> float:
    """The unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN), the classes being those of the labels
    and of the predictions.

    >>> round(macro_f1(np.array(["a", "a", "b"]), np.array(["a", "b", "b"])), 4)
    0.6667
    """
    if len(labels) == 0:
        return float("nan")
    both = np.array([str(value) for value in np.concatenate([labels.astype(object), predictions.astype(object)])])
    _, codes = np.unique(both, return_inverse=True)
    truth, guess = codes[: len(labels)], codes[len(labels) :]
    classes = int(codes.max()) + 1
    hits = np.bincount(truth[truth == guess], minlength=classes)
    totals = np.bincount(truth, minlength=classes) + np.bincount(guess, minlength=classes)
    return float(np.mean(2 * hits / totals))


ACCURACY = "accuracy"
OBJECTIVES: dict[str, Objective] = {
    "exact_match": Graded("exact_match", exact_match),
    "macro_f1": Scored("macro_f1", macro_f1),
}


def objective_by_name(name: str) -> Objective | None:
    """The objective of that name; None for accuracy, which the table's own correctness is."""
    if name == ACCURACY:
        return None
    if name not in OBJECTIVES:
        raise InputError(f"no objective is called {name!r}; there are: {', '.join([ACCURACY, *OBJECTIVES])}")
    return OBJECTIVES[name]
