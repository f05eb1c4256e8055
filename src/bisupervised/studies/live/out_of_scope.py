"""Out of scope: questions of 150 intents, and questions that no class fits, where every prediction is wrong.

CLINC150. A linear model on words in this process, trained on the questions in scope alone when it is needed, and a
fine-tuned encoder behind HTTP. What a supervisor is worth shows in the questions out of scope: both models name some
class, and only a rejection is right.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bisupervised.errors import InputError, MissingExtra
from bisupervised.models.sklearn import SklearnModel
from bisupervised.records import AnyArray
from bisupervised.studies.live.model_server import served
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source
from bisupervised.studies.live.text_encoder import (
    encoder_config,
    how_to_train,
    notes_on_training,
    squeezed,
    tokenizer_of,
)

#: The label of what no class fits.
OUT_OF_SCOPE = "oos"
#: So many of the 4,500 test questions in scope are asked, drawn at random with a fixed seed.
IN_SCOPE = 2000
#: Training questions that are test questions too, word for word.
REPEATED = 2
#: Components of the word counts that are the local model's features, for densities.
FEATURES = 100
PARTS = ("train", "test", "oos_test")


def read_questions(source: Source) -> dict[str, list[tuple[str, str]]]:
    """(question, intent) of each part. Raises `SourceMissing`, or `InputError` for a file that cannot be read."""
    path = found(source)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            parts = json.load(file)
        return {part: [(str(text), str(intent)) for text, intent in parts[part]] for part in PARTS}
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} cannot be read as {source.what}: {what}. Get it again: {source.get}") from error


def unseen(parts: Mapping[str, Sequence[tuple[str, str]]]) -> list[tuple[str, str]]:
    """The training questions without those that are test questions too."""
    tested = {squeezed(text) for text, _ in parts["test"]}
    return [(text, intent) for text, intent in parts["train"] if squeezed(text) not in tested]


def train_local(rows: Sequence[tuple[str, str]]) -> SklearnModel:
    """Logistic regression on TF-IDF of words and pairs of words; its features are a truncated singular value
    decomposition of the same (latent semantic analysis, Deerwester et al. 1990). Deterministic."""
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "sklearn") from error
    texts, intents = zip(*rows, strict=True)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    counts = words.fit_transform(texts)
    components = TruncatedSVD(min(FEATURES, counts.shape[1] - 1), random_state=0).fit(counts)
    estimator = LogisticRegression(C=10.0, max_iter=200).fit(counts, intents)
    return SklearnModel(
        estimator, prepare=words.transform, features=components.transform, logits=True, name="tfidf_logistic"
    )


def out_of_scope(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on 2,000 questions in scope and 1,000 out of scope, or the first `limit` of a fixed mixed order."""
    questions, encoder = sources = _sources(data, models)
    parts = read_questions(questions)
    rng = np.random.default_rng(0)
    known = [("test", int(place)) for place in rng.permutation(len(parts["test"]))[:IN_SCOPE]]
    rows = known + [("oos_test", place) for place in range(len(parts["oos_test"]))]
    rows = [rows[place] for place in rng.permutation(len(rows))][:limit]
    texts = [parts[part][place][0] for part, place in rows]

    @contextmanager
    def local() -> Iterator[RunningModel]:
        yield RunningModel(train_local(unseen(parts)), time.process_time)

    @contextmanager
    def remote() -> Iterator[RunningModel]:
        folder = found(encoder).parent
        with served("text", folder, encoder_config(folder)["classes"]) as running:
            yield running

    extra: dict[str, AnyArray] = {"in_scope": np.array([float(part == "test") for part, _ in rows])}
    truncated = {"local": np.zeros(len(rows), dtype=np.bool_)}
    if encoder.path.exists():
        tokenizer = tokenizer_of(encoder.path.parent)
        tokens = extra["remote_text_tokens"] = tokenizer.counts(texts)
        truncated["remote"] = tokens > tokenizer.max_length
    return LiveStudy(
        name="out_of_scope",
        title="Out of scope: intents of questions, and questions that no intent fits",
        paper_names=(),
        objective="accuracy",
        inputs=texts,
        ids=[f"clinc-{part}-{place}" for part, place in rows],
        labels=[parts[part][place][1] for part, place in rows],
        local=local,
        remote=remote,
        sources=sources,
        extra=extra,
        truncated=truncated,
        cross_fitted=True,
        notes=(
            f"Questions out of scope (column in_scope = 0) have the label {OUT_OF_SCOPE}, which no model predicts: "
            f"every answer to them is wrong, and accuracy cannot exceed the share in scope",
            f"{IN_SCOPE:,} of the 4,500 test questions in scope, and all 1,000 out of scope; neither model was "
            f"trained on any question out of scope",
            *notes_on_training(encoder.path.parent, 15_000, REPEATED),
        ),
    )


def question_source(data: Path) -> Source:
    """The questions."""
    return Source(
        "the questions of CLINC150",
        data / "intents" / "clinc150_full.json.gz",
        "Larson et al., An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction, EMNLP 2019",
        "CC BY 3.0",
        "data/data_full.json of the GitHub repository clinc/oos-eval, compressed with gzip",
    )


def _sources(data: Path, models: Path) -> tuple[Source, Source]:
    return (
        question_source(data),
        Source(
            "the remote encoder",
            models / "intents_encoder" / "config.json",
            "all-MiniLM-L6-v2 (Apache-2.0), fine-tuned on the 15,000 training questions in scope",
            "CC BY 3.0 for the questions; base Apache-2.0",
            how_to_train("intents", "--max-length 64 --epochs 6 --batch-size 64 --learning-rate 1e-4"),
        ),
    )
