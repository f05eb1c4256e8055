"""GitHub issues: bug, feature or question? The paper's own local transformer, and a fine-tuned encoder behind HTTP."""

from __future__ import annotations

import csv
import gzip
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from bisupervised.studies.live.imdb import PASSES
from bisupervised.studies.live.model_server import served
from bisupervised.studies.live.paper_transformer import PaperTransformer, cpu_s
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source
from bisupervised.studies.live.text_encoder import encoder_config, tokenizer_of

CLASSES = ("bug", "feature", "question")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"```.*?```", re.DOTALL)
_URL = re.compile(r"https?://\S+")


def local_text(issue: dict[str, str]) -> str:
    """What the paper's transformer reads."""
    return f"{issue['title']}. {issue['body']}"


def remote_text(issue: dict[str, str]) -> str:
    """What the encoder reads: the repository's short name, title and body; code and addresses as one word each."""
    text = f"{issue['repo'].split('/')[-1]}: {issue['title']}. {issue['body']}"
    return " ".join(_URL.sub(" url ", _CODE.sub(" code ", _COMMENT.sub("", text))).split())


def read_issues(path: Path) -> list[dict[str, str]]:
    """The issues of a file; bodies may be longer than the csv module's default limit."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    finally:
        csv.field_size_limit(before)


class _Reading(PaperTransformer):
    """The paper's transformer on issues."""

    def words(self, text: object) -> list[str]:  # type: ignore[override]
        return super().words(local_text(text) if isinstance(text, dict) else str(text))


class Remote:
    """The encoder's client: sends what `remote_text` makes of an issue."""

    def __init__(self, running: RunningModel) -> None:
        self._model = running.model
        self.name, self.provides, self.max_batch = self._model.name, self._model.provides, self._model.max_batch

    def predict(self, inputs):  # type: ignore[no-untyped-def]
        return self._model.predict([remote_text(issue) for issue in inputs])

    async def aclose(self) -> None:
        await self._model.aclose()  # type: ignore[attr-defined]


def issues(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on the 1,500 test issues."""
    rows_source, weights, encoder = sources = _sources(data, models)
    rows = read_issues(found(rows_source))
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))][:limit]

    @contextmanager
    def local() -> Iterator[RunningModel]:
        model = _Reading(found(weights), CLASSES, passes=PASSES)
        yield RunningModel(model, partial(cpu_s, model))

    @contextmanager
    def remote() -> Iterator[RunningModel]:
        folder = found(encoder).parent
        with served("text", folder, encoder_config(folder)["classes"]) as running:
            yield RunningModel(Remote(running), running.cpu_s)

    transformer = _Reading(found(weights), CLASSES)
    truncated = {"local": np.array([len(transformer.words(row)) > transformer.length for row in rows], dtype=bool)}
    extra = {}
    if encoder.path.exists():
        tokenizer = tokenizer_of(encoder.path.parent)
        texts = [remote_text(row) for row in rows]
        truncated["remote"] = tokenizer.is_cut(texts)
        extra["remote_text_tokens"] = tokenizer.counts(texts)
    return LiveStudy(
        name="issues",
        title="GitHub issues: bug, feature or question",
        paper_names=("Issues",),
        objective="accuracy",
        inputs=rows,
        ids=[f"issue-{row['repo']}-{place}" for place, row in enumerate(rows)],
        labels=[row["label"] for row in rows],
        local=local,
        remote=remote,
        sources=sources,
        extra=extra,
        truncated=truncated,
        cross_fitted=True,
        notes=("1,500 issues of five repositories (NLBSE'24); the paper's own issues are not available",),
    )


def _sources(data: Path, models: Path) -> tuple[Source, Source, Source]:
    return (
        Source(
            "1,500 GitHub issues with labels",
            data / "issues" / "issues_test.csv.gz",
            "Kallis et al., The NLBSE'24 Tool Competition (issue report classification)",
            "not stated (cite the competition)",
            "the competition's repository, nlbse2024/issue-report-classification on GitHub",
        ),
        Source(
            "the paper's local transformer",
            data / "models" / "paper_local" / "issues_local_weights.npz",
            "Weiss & Tonella 2023",
            "MIT",
            "extracted from the saved models of testingautomated-usi/bisupervised",
        ),
        Source(
            "the remote encoder",
            models / "issues_encoder" / "config.json",
            "all-MiniLM-L6-v2 (Apache-2.0), fine-tuned on the competition's 1,500 training issues",
            "not stated for the issues; base Apache-2.0",
            "train it: python -m bisupervised.studies.live.train_encoder issues --out MODELS/issues_encoder",
        ),
    )
