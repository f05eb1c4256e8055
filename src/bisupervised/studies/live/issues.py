"""GitHub issues: bug, feature or question? The paper's own local transformer, a fine-tuned encoder behind HTTP."""

from __future__ import annotations

import csv
import gzip
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import AnyArray
from bisupervised.studies.live.imdb import PASSES
from bisupervised.studies.live.model_server import served
from bisupervised.studies.live.paper_transformer import PaperTransformer, cpu_s
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source
from bisupervised.studies.live.text_encoder import encoder_config, how_to_train, notes_on_training, tokenizer_of

CLASSES = ("bug", "feature", "question")
#: Training issues that are test issues too, word for word.
REPEATED = 4
COLUMNS = frozenset({"repo", "label", "title", "body"})
#: The encoder that lies with the data, without a config.json: probabilities, and no logits or features.
GIVEN: Mapping[str, Any] = {
    "file": "issues_minilm_int8.onnx",
    "classes": list(CLASSES),
    "max_length": 192,
    "outputs": {"probabilities": "probs"},
}
_NOTES_ON_GIVEN = (
    "the remote encoder is the one that lies with the data: it gives probabilities alone, and 4 of the issues it was "
    "trained on are inputs of the study too",
)
_GIVEN = Path("models", "issues_remote")
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


def read_issues(source: Source) -> list[dict[str, str]]:
    """The issues of a file; bodies may be longer than the csv module's default limit. Raises `SourceMissing`,
    `SourceChanged`, or `InputError` for a file that cannot be read."""
    path = found(source)
    before = csv.field_size_limit(sys.maxsize)
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as {source.what}: {error}. Get it again: {source.get}") from error
    finally:
        csv.field_size_limit(before)
    if not rows or (lacking := COLUMNS - set(rows[0])):
        raise InputError(
            f"{path} has no rows" if not rows else f"{path} lacks the columns {', '.join(sorted(lacking))}"
        )
    return rows


def issues(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on the 1,500 test issues, or the first `limit` of a fixed order.

    The remote model is the encoder in `models`, and where there is none the smaller one of the data.
    """
    own = (models / "issues_encoder" / "config.json").exists() or not (data / _GIVEN / GIVEN["file"]).exists()
    rows_source, weights, encoder = sources = _sources(data, models, own=own)
    rows = read_issues(rows_source)
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))][:limit]

    @contextmanager
    def local() -> Iterator[RunningModel]:
        model = PaperTransformer(found(weights), CLASSES, read=local_text, passes=PASSES)
        yield RunningModel(model, partial(cpu_s, model))

    @contextmanager
    def remote() -> Iterator[RunningModel]:
        folder = found(encoder).parent
        options: dict[str, Any] = {} if own else {"config": GIVEN}
        classes = encoder_config(folder)["classes"] if own else CLASSES
        with served("text", folder, classes, written=remote_text, **options) as running:
            yield running

    truncated = {"local": PaperTransformer(found(weights), CLASSES, read=local_text).is_cut(rows)}
    extra: dict[str, AnyArray] = {}
    if encoder.path.exists():
        tokenizer = tokenizer_of(encoder.path.parent, None if own else GIVEN)
        texts = [remote_text(row) for row in rows]
        tokens = extra["remote_text_tokens"] = tokenizer.counts(texts)
        truncated["remote"] = tokens > tokenizer.max_length
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
        notes=(
            "1,500 issues of five repositories (NLBSE'24); the paper's own issues are not available",
            *(notes_on_training(encoder.path.parent, 1_500, REPEATED) if own else _NOTES_ON_GIVEN),
        ),
    )


def issues_source(data: Path, half: str = "test") -> Source:
    """The issues of the test half, or of the training half."""
    return Source(
        "1,500 GitHub issues with labels",
        data / "issues" / f"issues_{half}.csv.gz",
        "Kallis et al., The NLBSE'24 Tool Competition (issue report classification)",
        "not stated (cite the competition)",
        "the competition's repository, nlbse2024/issue-report-classification on GitHub",
    )


def _sources(data: Path, models: Path, *, own: bool) -> tuple[Source, Source, Source]:
    return (
        issues_source(data),
        Source(
            "the paper's local transformer",
            data / "models" / "paper_local" / "issues_local_weights.npz",
            "Weiss & Tonella 2023",
            "MIT",
            "extracted from the saved models of testingautomated-usi/bisupervised",
        ),
        _encoder(models) if own else _given_encoder(data),
    )


def _encoder(models: Path) -> Source:
    return Source(
        "the remote encoder",
        models / "issues_encoder" / "config.json",
        "all-MiniLM-L6-v2 (Apache-2.0), fine-tuned on the competition's 1,500 training issues",
        "not stated for the issues; base Apache-2.0",
        how_to_train("issues", "--max-length 192 --epochs 8 --batch-size 16 --learning-rate 1e-4"),
    )


def _given_encoder(data: Path) -> Source:
    return Source(
        "the data's remote encoder",
        data / _GIVEN / GIVEN["file"],
        "a MiniLM fine-tuned on the competition's 1,500 training issues, 8-bit weights",
        "not stated for the issues; base Apache-2.0",
        "it lies with the data, in models/issues_remote",
    )
