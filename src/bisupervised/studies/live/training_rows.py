"""The rows that a study's remote encoder is trained on, as `train_encoder` reads them.

    python -m bisupervised.studies.live.training_rows issues --data ../shared/data --out rows.jsonl.gz
    python -m bisupervised.studies.live.train_encoder rows.jsonl.gz --out ~/.cache/bisupervised/models/issues_encoder

None of them is an input of the study: the two halves of each data set share some texts, which are left out here.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisupervised.studies.demo_reviews import LABELS, load_reviews
from bisupervised.studies.live.imdb import read_reviews, review_source
from bisupervised.studies.live.issues import issues_source, read_issues, remote_text
from bisupervised.studies.live.out_of_scope import question_source, read_questions, unseen
from bisupervised.studies.live.text_encoder import squeezed


def imdb_rows(data: Path) -> list[tuple[str, int]]:
    """The training half of the reviews."""
    tested = {squeezed(row["text"]) for row in read_reviews(review_source(data))}
    reviews = load_reviews()
    rows = zip(reviews.texts, (LABELS.index(label) for label in reviews.labels), strict=True)
    return [(text, label) for text, label in rows if squeezed(text) not in tested]


def issue_rows(data: Path) -> list[tuple[str, str]]:
    """The competition's training issues."""
    train, test = (read_issues(issues_source(data, half)) for half in ("train", "test"))
    tested = {squeezed(remote_text(row)) for row in test}
    return [(text, row["label"]) for row in train if squeezed(text := remote_text(row)) not in tested]


def intent_rows(data: Path) -> list[tuple[str, str]]:
    """The training questions in scope."""
    return unseen(read_questions(question_source(data)))


ROWS: Mapping[str, Callable[[Path], Iterable[tuple[str, Any]]]] = {
    "imdb": imdb_rows,
    "issues": issue_rows,
    "intents": intent_rows,
}


def write_rows(rows: Iterable[tuple[str, Any]], path: Path) -> None:
    """JSON lines of `text` and `label`, gzipped."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(prog="bisupervised.studies.live.training_rows", description=__doc__)
    parser.add_argument("study", choices=sorted(ROWS))
    parser.add_argument("--data", type=Path, required=True, help="the folder with the studies' data")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, gzipped")
    options = parser.parse_args(arguments)
    write_rows(ROWS[options.study](options.data), options.out)


if __name__ == "__main__":
    main()
