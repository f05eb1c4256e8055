"""Columns of the user's own that are fitted themselves, as in `benchmarks/trust_own.py`: no label gets into its own
row's confidence, by the supervisor or by the column."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.evaluation.auroc import auroc
from bisupervised.learned import Arbiter, PairSupervisor, calibration_rows, cross_fitted, fit_pair
from bisupervised.studies.paper import load_paper_study
from bisupervised.table import Table
from learned.made import made_table

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
TEXTS = DATA / "imdb" / "imdb_paper_rows.jsonl.gz"


def _module() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "trust_own.py"
    spec = importlib.util.spec_from_file_location("trust_own_benchmark", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


own = _module()


def worded_table(n: int) -> Table:
    table = made_table(n, 0)
    return replace(table, extra={own.REVIEW: np.arange(n)})


def reviews_of(table: Table, words: list[list[int]], vocabulary: int):
    return own.Reviews(
        words=np.concatenate([np.array(one, dtype=np.int64) for one in words]),
        reviews=np.repeat(np.arange(len(words)), [len(one) for one in words]),
        labels=table.labels.astype(np.float64),
        vocabulary=vocabulary,
    )


def test_naive_bayes_by_hand():
    reviews = own.Reviews(
        words=np.array([0, 1, 0, 2, 0, 1]),
        reviews=np.array([0, 0, 1, 1, 2, 2]),
        labels=np.array([1.0, 0.0, 0.0]),
        vocabulary=3,
    )
    found = reviews.log_odds(np.array([0, 1]))  # the last one's label is not read
    # Each word is counted once more: (2, 2, 1) of 5 in the positive review, (2, 1, 2) of 5 in the negative.
    up = np.log(2.0) / np.sqrt(2.0)
    assert found == pytest.approx([up, -up, up])


def test_a_word_that_one_review_alone_holds_is_of_no_use():
    """Each review has a word of its own, which tells naive Bayes its label: on the rows that fitted it alone."""
    table = worded_table(400)
    reviews = reviews_of(table, [[number] for number in range(400)], 400)
    leaked = replace(table, extra={own.WORDS: reviews.log_odds(np.arange(400))})
    right = table.correct("remote")
    plain = auroc(fit_pair(table).confidences, right).value
    fitted = cross_fitted(
        lambda rows: own.Worded.fit(reviews, lambda given: PairSupervisor.fit(given, columns=(own.WORDS,)), rows),
        table,
    )
    assert auroc(fitted.confidences, right).value < plain + 0.02
    assert auroc(fit_pair(leaked, columns=(own.WORDS,)).confidences, right).value > plain + 0.05  # what a leak does
    with pytest.raises(InputError, match="of these 10 rows"):
        calibration_rows(table.take(np.arange(10)), fitted.supervisor)


def test_turning_a_label_changes_every_confidence_but_its_own():
    table = worded_table(200)
    rng = np.random.default_rng(1)
    words = [rng.choice(30, size=8, replace=False).tolist() for _ in range(200)]

    def confidences(table: Table):
        reviews = reviews_of(table, words, 30)
        return cross_fitted(
            lambda rows: own.Worded.fit(reviews, lambda given: Arbiter.fit(given, columns=(own.WORDS,)), rows), table
        ).confidences

    turned = replace(table, labels=np.where(np.arange(200) == 7, 1 - table.labels, table.labels))
    before, after = confidences(table), confidences(turned)
    assert after[7] == before[7]
    assert (after != before).sum() > 100


@pytest.mark.data
@pytest.mark.skipif(not TEXTS.is_file(), reason=f"needs the reviews in {TEXTS}")
def test_a_third_opinion_tells_the_rest_on_imdb():
    study = load_paper_study(DATA / "paper")[0]
    reviews, table = own.Reviews.of(study, DATA), own.with_reviews(study)
    order = np.random.default_rng(0).permutation(len(study))
    fitting, judged = table.take(order[:12500]), table.take(order[12500:])
    fitted = own.Worded.fit(reviews, lambda rows: PairSupervisor.fit(rows, columns=(own.WORDS,)), fitting)
    deferred = judged.local.confidences < np.quantile(judged.local.confidences, 0.7)
    found = fitted.of_table(judged).confidences[deferred]
    assert auroc(found, judged.correct("remote")[deferred]).value > 0.88


def test_missing_texts_are_said(tmp_path: Path):
    with pytest.raises(own.MissingTextsError, match=r"there is no .*imdb_paper_rows"):
        own.texts_of(tmp_path / "imdb_paper_rows.jsonl.gz", "local_conf", None, lambda row: True)
