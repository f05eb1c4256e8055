"""Which quantifier tells right from wrong, and known from unknown: `python benchmarks/which_quantifier.py`.

A small local model (TF-IDF, 100 principal directions, logistic regression) on the 150 intents of CLINC150 (Larson et
al., EMNLP 2019), in `../shared/data/intents`. Density quantifiers are fitted on the model's own training rows. Two
questions, each an AUROC with its 95 % interval:

* wrong: is a correct prediction of an in-scope test question trusted more than a wrong one?
* unknown: is an in-scope test question trusted more than one that is none of the 150 intents?

Dropout by hand (a random half of the 100 directions is left out, 20 passes) stands in for a stochastic model.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.evaluation.auroc import auroc
from bisupervised.models import SklearnModel
from bisupervised.quantifiers import Quantifier, fitted_kinds, quantifier_by_name
from bisupervised.records import ModelOutput, take_outputs

PATH = Path(__file__).resolve().parents[2] / "shared" / "data" / "intents" / "clinc150_full.json.gz"
DIRECTIONS, PASSES, SEED = 100, 20, 0


def trained(texts: list[str], labels: list[str]) -> tuple[SklearnModel, Any]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TruncatedSVD(DIRECTIONS, random_state=SEED),
        LogisticRegression(C=30.0, max_iter=200),
    ).fit(texts, labels)
    return SklearnModel(pipeline, features=pipeline[:-1].transform, logits=True, name="intents"), pipeline[-1]


def with_passes(output: ModelOutput, layer: Any) -> ModelOutput:
    """The same with what the last layer says of features of which a random half is left out."""
    from dataclasses import replace

    rng = np.random.default_rng(SEED)
    passes = np.empty((len(output), PASSES, len(layer.classes_)), dtype=np.float32)
    for place in range(PASSES):
        kept = rng.random(output.features.shape) < 0.5
        z = (output.features * kept * 2.0) @ layer.coef_.T + layer.intercept_
        z = np.exp(z - z.max(axis=1, keepdims=True))
        passes[:, place] = z / z.sum(axis=1, keepdims=True)
    return replace(output, sampled_probabilities=passes)


def quantifiers(train: ModelOutput, labels: list[str], layer: Any) -> list[Quantifier]:
    named = [
        "max_softmax",
        "prediction_confidence_score",
        "softmax_entropy",
        "deep_gini",
        "gen",
        "max_logit",
        "energy",
    ]
    named += ["mean_softmax", "variation_ratio", "predictive_entropy", "mutual_information"]
    found: list[Quantifier] = [quantifier_by_name(name) for name in named]
    for kind in fitted_kinds().values():
        settings = {"weights": layer.coef_, "bias": layer.intercept_} if kind.name == "vim" else {}
        found.append(kind.fit(train, labels, **settings))
    return found


def main() -> None:
    if not PATH.exists():
        sys.exit(f"there is no {PATH}")
    with gzip.open(PATH, "rt") as file:
        data = json.load(file)
    texts, labels = (list(column) for column in zip(*data["train"], strict=True))
    tests, truth = (list(column) for column in zip(*data["test"], strict=True))
    unknown = [text for text, _ in data["oos_test"]]
    model, layer = trained(texts, labels)
    train = model.predict(texts)
    known = with_passes(model.predict(tests), layer)
    strange = with_passes(model.predict(unknown), layer)
    right = known.predictions == np.array(truth)
    print(f"{len(texts)} training, {len(tests)} in-scope and {len(unknown)} other questions")
    print(f"accuracy in scope: {right.mean():.3f}")
    print(f"\n{'quantifier':<30}{'class':<7}{'wrong':<24}{'unknown'}")
    for quantifier in quantifiers(train, labels, layer):
        confidences = quantifier(take_outputs(known, np.arange(len(known))))
        both = np.concatenate([confidences, quantifier(strange)])
        is_known = np.arange(len(both)) < len(confidences)
        figures = [auroc(confidences, right), auroc(both, is_known)]
        shown = "".join(f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})".ljust(24) for one in figures)
        print(f"{quantifier.name:<30}{quantifier.cost_class:<7}{shown}", flush=True)


if __name__ == "__main__":
    main()
