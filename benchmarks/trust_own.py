"""Columns of the user's own for `trust.py`: what the inputs' texts tell, beside what both models said.

imdb: `words`, the log-odds of a positive review by a naive Bayes of its words: a third opinion, fitted on the labels
of the choosing half alone. It is cross-fitted twice. Where rows fit a supervisor, their column comes of naive Bayes
of the other fifths of them; and `cross_fitted` does all of that again for the other folds alone, so that a label has
no part in its own row's confidence, neither by the supervisor nor by the column. Several reviews of one film may lie
in both halves, as in any random split of these rows.

SQuADv2: `question_word` (the first of what, who, when, …) and `question_length` (words), which need no fitting.

Both are known before the remote model is asked, and so are read at both levels. The texts stand in the paper's row
order in files beside the authors' (see their README); where one is missing the lines are skipped, with the reason.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.records import AnyArray, FloatArray, IntArray
from bisupervised.studies.paper import RecordedStudy
from bisupervised.table import Table

REVIEW, WORDS = "review", "words"
QUESTION = ("question_word", "question_length")
_ASKED = ("what", "who", "when", "where", "how", "which", "why")
_FIFTHS = 5


class MissingTextsError(Exception):
    """Why there are no columns."""


def texts_of(file: Path, confidences: str, study: RecordedStudy, known: Callable[[Any], bool]) -> list[Any]:
    """The rows of a file of texts, in the order of the study; raises `MissingTextsError`."""
    if not file.is_file():
        raise MissingTextsError(f"there is no {file}")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if known(row)]
    if not np.array_equal([row[confidences] for row in rows], study.table.local.confidences):
        raise MissingTextsError(f"the rows of {file} are not those of the study")
    return rows


def with_question(study: RecordedStudy, data: Path) -> Table:
    """The SQuADv2 table with QUESTION."""
    possible = study.name == "SQuADv2 (possible only)"
    file = data / "squad" / "squadv2_paper_rows.jsonl.gz"
    rows = texts_of(file, "bert_tiny_conf", study, lambda row: not possible or bool(row["is_possible"]))
    questions = [re.findall(r"[\w']+", row["question"].lower()) for row in rows]
    asked = np.array([next((word for word in one if word in _ASKED), "other") for one in questions], dtype=object)
    lengths = np.array([len(one) for one in questions], dtype=np.float64)
    return replace(study.table, extra={**study.table.extra, QUESTION[0]: asked, QUESTION[1]: lengths})


@dataclass(frozen=True, eq=False)
class Reviews:
    """Which words each review holds, once each."""

    words: IntArray  #: (m,) numbers of words
    reviews: IntArray  #: (m,) of which review
    labels: FloatArray  #: (n,) 1: positive
    vocabulary: int

    @classmethod
    def of(cls, study: RecordedStudy, data: Path) -> Reviews:
        file = data / "imdb" / "imdb_paper_rows.jsonl.gz"
        numbers: dict[str, int] = {}
        texts = (row["text"].lower() for row in texts_of(file, "local_conf", study, lambda row: True))
        held = [[numbers.setdefault(w, len(numbers)) for w in set(re.findall(r"[a-z']+", text))] for text in texts]
        assert study.table.labels is not None
        return cls(
            words=np.concatenate([np.array(one, dtype=np.int64) for one in held]),
            reviews=np.repeat(np.arange(len(held)), [len(one) for one in held]),
            labels=study.table.labels.astype(np.float64),
            vocabulary=len(numbers),
        )

    def log_odds(self, fitting: IntArray) -> FloatArray:
        """(n,) of every review, by naive Bayes of the fitting ones' words: mean log ratio, times sqrt(length)."""
        counts = []
        for positive in (1.0, 0.0):
            chosen = np.zeros(len(self.labels), dtype=np.bool_)
            chosen[fitting] = self.labels[fitting] == positive
            counts.append(1.0 + np.bincount(self.words[chosen[self.reviews]], minlength=self.vocabulary))
        ratios = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
        size = len(self.labels)
        lengths = np.maximum(np.bincount(self.reviews, minlength=size), 1)
        return np.bincount(self.reviews, weights=ratios[self.words], minlength=size) / np.sqrt(lengths)


def with_reviews(study: RecordedStudy) -> Table:
    """The table with REVIEW: which of the reviews each row is about."""
    return replace(study.table, extra={**study.table.extra, REVIEW: np.arange(len(study))})


@dataclass(frozen=True, eq=False)
class Worded:
    """A supervisor that reads WORDS, and the naive Bayes that gives them: fitted together, on the same rows."""

    supervisor: Any
    words: FloatArray  #: of every review
    fitted_on: AnyArray

    @classmethod
    def fit(cls, reviews: Reviews, fit: Callable[[Table], Any], rows: Table) -> Worded:
        """`fit` sees words of naive Bayes that had not seen the row."""
        about = rows.extra[REVIEW]
        fifth = np.random.default_rng(0).permutation(len(rows)) % _FIFTHS
        honest = np.empty(len(rows))
        for number in range(_FIFTHS):
            held = fifth == number
            honest[held] = reviews.log_odds(about[~held])[about[held]]
        supervisor = fit(replace(rows, extra={**rows.extra, WORDS: honest}))
        return cls(supervisor, reviews.log_odds(about), supervisor.fitted_on)

    def of_table(self, table: Table) -> Any:
        """What the supervisor makes of other rows."""
        return self.supervisor.of_table(replace(table, extra={**table.extra, WORDS: self.words[table.extra[REVIEW]]}))
