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
from bisupervised.records import AnyArray, FloatArray, IntArray
from bisupervised.table import is_missing, written


@dataclass(frozen=True, slots=True)
class Graded:
    """`grade(label, prediction)` in [0, 1] for one input; the objective is the mean grade."""

    name: str
    grade: Callable[[Any, Any], float]

    def grades(self, labels: AnyArray, predictions: AnyArray) -> FloatArray:
        """(n,) grades; a missing prediction has grade 0. Raises `InputError` for one outside [0, 1]."""
        grades = np.empty(len(labels))
        for row, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
            grade = 0.0 if is_missing(prediction) else float(self.grade(label, prediction))
            if not 0.0 <= grade <= 1.0:
                raise InputError(
                    f"the objective {self.name} graded {prediction!r} with {grade}; grades lie in [0, 1]"
                )
            grades[row] = grade
        return grades


@dataclass(frozen=True, slots=True)
class Scored:
    """`score(labels, predictions)` over n inputs at once; higher is better."""

    name: str
    score: Callable[[AnyArray, AnyArray], float]


Objective: TypeAlias = Graded | Scored


def exact_match(label: Any, prediction: Any) -> float:
    """1 when both read the same, white space and case aside; for answers in words."""
    return float(_words(label) == _words(prediction))


def _words(value: Any) -> str:
    return " ".join(str(written(value)).split()).casefold()


def macro_f1(labels: AnyArray, predictions: AnyArray) -> float:
    """The unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN), the classes being those of the labels
    and of the predictions. A missing prediction is of no class, and wrong; rows without a label are left out.

    >>> round(macro_f1(np.array(["a", "a", "b"]), np.array(["a", "b", "b"])), 4)
    0.6667
    """
    truth, guess = class_codes(labels, predictions)
    return macro_f1_of_codes(truth, guess)


def macro_f1_of_codes(truth: IntArray, guess: IntArray) -> float:
    """`macro_f1` of class numbers from 0, -1 being a missing one: what is evaluated a thousand times."""
    if (truth < 0).any():
        truth, guess = truth[truth >= 0], guess[truth >= 0]
    if len(truth) == 0:
        return float("nan")
    # Shifted by one: class 0 holds the missing predictions.
    classes = int(max(truth.max(), guess.max())) + 2
    hits = np.bincount(truth[truth == guess] + 1, minlength=classes)[1:]
    totals = (np.bincount(truth + 1, minlength=classes) + np.bincount(guess + 1, minlength=classes))[1:]
    present = totals > 0
    return float(np.mean(2 * hits[present] / totals[present]))


def class_codes(*columns: AnyArray) -> list[IntArray]:
    """The columns with a number for each class, -1 for a missing cell; what is written alike is one class."""
    numbers: dict[str, int] = {}
    return [
        np.array(
            [-1 if is_missing(value) else numbers.setdefault(written(value), len(numbers)) for value in column],
            dtype=np.int64,
        )
        for column in columns
    ]


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
