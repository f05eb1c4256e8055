"""Which supervisors a table's columns allow, and what fitting never sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.evaluation.candidates import (
    MAX_COMPARED_ROWS,
    Candidate,
    Source,
    candidates_of,
    checked,
    cross_fitted,
    learned_candidates,
    score_columns,
)
from bisupervised.quantifiers import CostClass, MaxSoftmax, quantifier_by_name
from bisupervised.records import LevelRows, ModelOutput
from bisupervised.table import Table
from evaluation.made import a_level


def with_columns(n: int = 60, classes: int = 3, seed: int = 0, **columns: Any) -> LevelRows:
    """A level with class probabilities, and further columns."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), n)
    names = np.array([f"c{index}" for index in range(classes)], dtype=object)
    rows = replace(a_level(rng.random(n)), probabilities=p, classes=names, predictions=names[p.argmax(axis=1)])
    return replace(rows, **columns)


def richer(n: int = 80, seed: int = 0) -> LevelRows:
    """A level with logits and features too."""
    rows = with_columns(n, seed=seed)
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4)) + 2 * np.eye(3, 4)[rows.probabilities.argmax(axis=1)]  # type: ignore[union-attr]
    return replace(rows, logits=np.log(rows.probabilities), features=features)  # type: ignore[arg-type]


def names(rows: LevelRows, labels: Any = None) -> list[str]:
    return [one.name for one in candidates_of(rows, labels)]


def test_a_confidence_alone_allows_itself() -> None:
    assert names(a_level([0.1, 0.2])) == ["confidence"]


def test_probabilities_bring_all_that_read_them_and_nothing_else() -> None:
    found = names(with_columns())
    assert found[0] == "confidence"
    assert {"max_softmax", "softmax_entropy", "deep_gini", "gen", "renyi_entropy", "tsallis_entropy"} <= set(found)
    assert not {"energy", "mahalanobis", "p_true", "token_likelihood_min", "constant"} & set(found)


def test_token_log_probabilities_bring_the_likelihoods_and_some_quantiles() -> None:
    tokens = np.empty(2, dtype=object)
    tokens[:] = [np.log([0.5, 0.9]), None]
    rows = replace(a_level([0.5, np.nan]), token_logprobs=tokens)
    found = {one.name: one for one in candidates_of(rows)}
    assert {"token_likelihood_min", "token_likelihood_mean", "token_likelihood_sum"} <= set(found)
    assert "token_likelihood_q0.1" in found
    both = np.arange(2)
    np.testing.assert_allclose(found["token_likelihood_min"].score(both, both), [0.5, np.nan])


def test_logits_and_features_bring_their_quantifiers_along() -> None:
    found = {one.name: one for one in candidates_of(richer(), np.array(["c0"] * 80))}
    assert {"energy", "max_logit", "max_logit_pnorm", "mahalanobis", "knn", "dsa"} <= set(found)
    assert "vim" not in found, "it asks for the last layer, which no table holds"
    assert found["mahalanobis"].source is Source.FITTED
    assert found["knn"].cost_class is CostClass.C2
    assert found["max_softmax"].cost_class is CostClass.C0


def test_an_unfitted_ones_scores_are_its_confidences_of_those_rows_whatever_the_block() -> None:
    rows = with_columns(9_000)
    one = next(one for one in candidates_of(rows) if one.name == "gen")
    pick = np.random.default_rng(1).permutation(9_000)[:8_500]
    expected = quantifier_by_name("gen")(ModelOutput(rows.predictions, probabilities=rows.probabilities))[pick]
    assert np.array_equal(one.score(np.empty(0, dtype=np.int64), pick), expected)


def test_the_evidence_of_failed_and_of_unasked_rows_is_not_read() -> None:
    rows = with_columns(4)
    p = np.array(rows.probabilities)
    p[0] = 7.0  # would be an error
    errors = np.array(["timeout: no answer", None, None, None], dtype=object)
    rows = replace(rows, probabilities=p, errors=errors, asked=np.array([True, True, False, True]))
    one = next(one for one in candidates_of(rows) if one.name == "max_softmax")
    scores = one.score(np.arange(4), np.arange(4))
    assert np.isnan(scores).tolist() == [True, False, True, False]
    assert scores[1] == MaxSoftmax()(ModelOutput(rows.predictions[1:2], probabilities=p[1:2]))[0]


# ---------------------------------------------------------------- the user's own


def a_table(extra: dict[str, Any]) -> Table:
    return Table(np.arange(3).astype(str), None, a_level([1, 2, 3]), a_level([1, 2, 3]), extra=extra)


def test_score_columns_of_the_level_are_candidates_with_a_price_that_is_not_known() -> None:
    cells = np.array(["0.5", "", 2], dtype=object)
    table = a_table({"local_score_mine": cells, "remote_score_theirs": np.zeros(3), "tenant": np.array(["a"] * 3)})
    (mine,) = score_columns(table, "local")
    assert (mine.name, mine.source, mine.cost_class) == ("score_mine", Source.COLUMN, None)
    np.testing.assert_array_equal(mine.score(np.arange(3), np.array([2, 1, 0])), [2.0, np.nan, 0.5])
    both = score_columns(table, "remote", {"given": [1, 2, 3]})
    assert [one.name for one in both] == ["score_theirs", "score_given"]


@pytest.mark.parametrize(
    ("column", "message"),
    [(["a", 1, 2], "row 1: 'a' is not a number"), ([1.0, 2.0], "2 values for 3 rows")],
)
def test_a_score_that_is_none_is_refused(column: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_columns(a_table({}), "local", {"mine": column})


# ---------------------------------------------------------------- cross-fitting


def test_no_row_is_scored_by_a_fit_that_has_seen_it_and_each_is_scored_once() -> None:
    rows = np.array([3, 5, 8, 13, 21, 34, 55])
    seen: list[tuple[set[int], set[int]]] = []

    def score(table: Any, fit: Any, held_out: Any) -> Any:
        seen.append((set(fit.tolist()), set(held_out.tolist())))
        return held_out.astype(float)

    (one,) = learned_candidates(None, {"pair": score})  # type: ignore[arg-type]
    assert (one.source, one.fitted) == (Source.LEARNED, True)
    done: list[int] = []
    assert cross_fitted(one, rows, 3, 0, done.append).tolist() == rows.tolist()
    assert all(not fit & held_out for fit, held_out in seen)
    assert all(fit | held_out == set(rows.tolist()) for fit, held_out in seen)
    assert sum(done) == 7
    again = list(seen)
    seen.clear()
    cross_fitted(one, rows, 3, 0)
    assert seen == again, "the folds are seeded"


def test_too_few_rows_for_the_folds_and_scores_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="2 labelled rows cannot be cut into 5 folds"):
        cross_fitted(Candidate("one", Source.LEARNED, None, lambda fit, score: score), np.arange(2), 5, 0)
    with pytest.raises(InputError, match="one score for each of 3 rows"):
        checked([1.0], 3)
    with pytest.raises(InputError, match="must be numbers"):
        checked(["a"], 1)


def test_fits_of_different_scales_are_put_on_one_by_their_ranks() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(1_000)
    truth[:50] = np.nan

    def score(fit: Any, held_out: Any) -> Any:
        return truth[held_out] * (10.0 ** int(rng.integers(-3, 4))) + float(rng.integers(-5, 5))

    ranks = cross_fitted(Candidate("one", Source.FITTED, CostClass.C1, score), np.arange(1_000), 5, 0)
    assert np.array_equal(np.isnan(ranks), np.isnan(truth))
    assert np.corrcoef(ranks[50:], truth[50:])[0, 1] > 0.99
    assert np.nanmin(ranks) > 0.0
    assert np.nanmax(ranks) < 1.0
    constant = Candidate("flat", Source.FITTED, CostClass.C1, lambda fit, score: np.full(len(score), len(fit)))
    assert len(np.unique(cross_fitted(constant, np.arange(1_001), 5, 0))) == 1


def test_a_fitted_one_learns_from_labels_as_they_are_written() -> None:
    rows = richer(200)
    labels = np.array([str(label) for label in rows.predictions], dtype=object)
    labels[::9] = "c0"
    found = {one.name: one for one in candidates_of(rows, labels)}
    scores = cross_fitted(found["max_logit_pnorm"], np.arange(200), 4, 0)
    assert np.isfinite(scores).all()
    without = {one.name: one for one in candidates_of(rows, None)}
    with pytest.raises(InputError, match="fitted on labels, and the table has none"):
        cross_fitted(without["max_logit_pnorm"], np.arange(200), 4, 0)
    assert np.isfinite(cross_fitted(without["mahalanobis"], np.arange(200), 4, 0)).all()


def test_one_that_compares_with_every_row_is_fitted_on_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisupervised.evaluation.candidates.MAX_COMPARED_ROWS", 60)
    rows = richer(300)
    found = next(one for one in candidates_of(rows, rows.predictions) if one.name == "knn")
    few = found.score(np.arange(100), np.arange(100, 300))
    assert np.array_equal(few, found.score(np.arange(60), np.arange(100, 300)))
    assert MAX_COMPARED_ROWS == 5_000


def test_shuffled_labels_give_chance_through_the_whole_of_cross_fitting() -> None:
    rng = np.random.default_rng(5)
    rows = richer(1_000)
    right = rng.random(1_000) < 0.5  # says nothing of the features
    found = {one.name: one for one in candidates_of(rows, rng.permutation(rows.predictions))}
    from bisupervised.evaluation import auroc

    for name in ("mahalanobis", "knn", "max_logit_pnorm"):
        found_auroc = auroc(cross_fitted(found[name], np.arange(1_000), 5, 0), right)
        spread = (found_auroc.high - found_auroc.low) / 3.92
        assert abs(found_auroc.value - 0.5) < 3 * spread
