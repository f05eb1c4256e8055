from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from bisupervised.errors import InputError, TableError
from bisupervised.evaluation import Graded, Scored, evaluate_at, macro_f1, objective_by_name
from bisupervised.evaluation.objectives import exact_match, macro_f1_of_codes
from bisupervised.evaluation.scored import scored_curve
from bisupervised.table import Table

F1, MATCH = objective_by_name("macro_f1"), objective_by_name("exact_match")
words = st.sampled_from(["a", "b", "c", "d"])


def named(n: int = 400, seed: int = 0, **more: object) -> Table:
    """A table of labels and predictions of three classes, one of them rare."""
    rng = np.random.default_rng(seed)
    names = np.array(["rare", "common", "usual"], dtype=object)
    labels = names[rng.choice(3, n, p=[0.1, 0.5, 0.4])]
    local, remote = rng.random(n), rng.random(n)
    columns = {
        "label": labels,
        "local_prediction": np.where(rng.random(n) < 0.3 + 0.6 * local, labels, "common"),
        "remote_prediction": np.where(rng.random(n) < 0.6 + 0.35 * remote, labels, "usual"),
        "local_confidence": np.round(local, 2),
        "remote_confidence": np.round(remote, 2),
    }
    return Table.from_columns({**columns, **more})


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=30))
def test_macro_f1_is_scikit_learns(pairs: list) -> None:
    truth, guess = (np.array(column, dtype=object) for column in zip(*pairs, strict=True))
    assert macro_f1(truth, guess) == pytest.approx(f1_score(truth, guess, average="macro"))
    numbers = {"a": -1, "b": 0, "c": 1, "d": 2}
    coded = [np.array([numbers[value] for value in column]) for column in (truth, guess)]
    assert macro_f1(*coded) == pytest.approx(f1_score(truth, guess, average="macro"))


def test_labels_of_mixed_types_are_one_class_when_they_are_written_alike() -> None:
    labels = np.array([1, 2.0, "3", True, "2 "], dtype=object)
    guesses = np.array([1.0, "2", 3, "1", 2], dtype=object)
    assert macro_f1(labels, guesses) == 1.0
    assert macro_f1(np.array([0.0, 1.0]), np.array(["0", "1"])) == 1.0  # a CSV with and without missing labels
    assert exact_match(1, 1.0) == exact_match(1.0, "1") == 1.0


def test_a_missing_prediction_is_wrong_and_no_class_of_its_own() -> None:
    labels = np.array(["a", "a", "b", "b"], dtype=object)
    guesses = np.array(["a", None, "b", float("nan")], dtype=object)
    expected = f1_score(labels.tolist(), ["a", "-", "b", "-"], labels=["a", "b"], average="macro", zero_division=0)
    assert macro_f1(labels, guesses) == pytest.approx(expected) == pytest.approx(2 / 3)


def test_rows_without_a_label_are_left_out() -> None:
    labels = np.array(["a", None, "b"], dtype=object)
    assert macro_f1(labels, np.array(["a", "c", "b"], dtype=object)) == 1.0
    assert math.isnan(macro_f1(labels[1:2], labels[1:2]))
    assert math.isnan(macro_f1(np.array([]), np.array([])))


def test_exact_match_looks_through_white_space_and_case_only() -> None:
    assert exact_match(" The  Answer\n", "the answer") == 1.0
    assert exact_match("STRASSE", "straße") == 1.0
    assert exact_match("the answer", "the answers") == 0.0
    assert exact_match("a", None) == 0.0


def test_an_evaluation_for_exact_match_counts_matches() -> None:
    table = Table.from_columns(
        {
            "label": ["Paris", "42", "blue", "x"],
            "local_prediction": ["paris ", "41", None, "x"],
            "remote_prediction": ["PARIS", "42.0", "blue", ""],
            "local_confidence": [0.9, 0.1, 0.2, 0.8],
            "remote_confidence": [0.5] * 4,
        }
    )
    by_default, matched = evaluate_at(table, 0.5, 0.0), evaluate_at(table, 0.5, 0.0, objective=MATCH)
    assert by_default.systems["local_only"].system_accuracy.value == 0.25
    assert matched.systems["local_only"].system_accuracy.value == 0.5
    assert matched.systems["remote_only"].system_accuracy.value == 0.5  # "42.0" reads otherwise than "42"
    assert matched.objective == "exact_match"


def test_any_callable_grades() -> None:
    near = Graded("near", lambda label, guess: max(0.0, 1.0 - abs(float(label) - float(guess))))
    table = Table.from_columns(
        {
            "label": [1.0, 2.0, 3.0],
            "local_prediction": [1.0, 2.5, 9.0],
            "remote_prediction": [1.25, 2.0, np.nan],
            "local_confidence": [0.9, 0.5, 0.1],
            "remote_confidence": [0.9, 0.5, 0.1],
        }
    )
    evaluation = evaluate_at(table, 0.7, 0.0, objective=near)
    assert evaluation.systems["local_only"].system_accuracy.value == pytest.approx(1.5 / 3)
    assert evaluation.systems["remote_only"].system_accuracy.value == pytest.approx(1.75 / 3)
    assert evaluation.systems["bisupervised"].system_accuracy.value == pytest.approx(2 / 3)
    assert evaluation.curves is not None
    assert evaluation.curves.curve.system_accuracy * 3 == pytest.approx([1.5, 1.5, 2.0, 1.75])


@pytest.mark.parametrize("grade", [1.5, -0.1, float("nan")])
def test_a_grade_outside_0_and_1_is_refused_by_name(grade: float) -> None:
    with pytest.raises(InputError, match=r"stars graded .* lie in \[0, 1\]"):
        evaluate_at(named(), 0.5, 0.5, objective=Graded("stars", lambda label, guess: grade))


def test_the_scored_curve_ends_at_local_only_and_remote_only_and_is_exact_at_its_points() -> None:
    table = named()
    curve = scored_curve(table, F1, points=21)
    labels, local, remote = table.labels, table.local.predictions, table.remote.predictions
    assert curve.local_only == pytest.approx(f1_score(labels, local, average="macro"))
    assert curve.remote_only == pytest.approx(f1_score(labels, remote, average="macro"))
    assert curve.request_rates[[0, -1]].tolist() == [0.0, 1.0]
    assert 20 <= len(curve.request_rates) <= 21
    for rate, score, threshold in zip(curve.request_rates, curve.system_accuracy, curve.thresholds, strict=True):
        deferred = ~(table.local.confidences >= threshold)
        assert deferred.mean() == pytest.approx(rate)
        assert score == pytest.approx(f1_score(labels, np.where(deferred, remote, local), average="macro"))


def test_a_scored_objective_takes_the_two_places_of_accuracy() -> None:
    table = named()
    evaluation = evaluate_at(table, 0.5, 0.3, objective=F1)
    deferred = table.local.confidences < 0.5
    answers = np.where(deferred, table.remote.predictions, table.local.predictions)
    accepted = ~deferred | (table.remote.confidences >= 0.3)
    whole = f1_score(table.labels, answers, average="macro")
    part = f1_score(table.labels[accepted], answers[accepted], average="macro")
    cascade = evaluation.systems["bisupervised"]
    assert cascade.system_accuracy.value == pytest.approx(whole)
    assert cascade.system_accuracy.low < whole < cascade.system_accuracy.high
    assert cascade.supervised_accuracy.value == pytest.approx(part)
    assert cascade.s_beta["1"] == pytest.approx(2 * part * accepted.mean() / (part + accepted.mean()))
    only = f1_score(table.labels, table.remote.predictions, average="macro")
    assert evaluation.versus_remote_only.value == pytest.approx(whole - only)
    assert evaluation.curves is not None
    assert np.isnan(evaluation.curves.oracle_accuracy).all()  # it would be one of accuracy, beside a curve of F1
    assert evaluation.supervised_rows == ()


def test_any_callable_scores_and_gets_the_labels_as_they_are() -> None:
    seen = set()

    def share(labels: np.ndarray, guesses: np.ndarray) -> float:
        seen.update(labels.tolist())
        return float(np.mean(labels == guesses))

    table = named()
    scored = evaluate_at(table, 0.5, 0.3, objective=Scored("share", share))
    plain = evaluate_at(table, 0.5, 0.3)
    assert seen == {"rare", "common", "usual"}
    for name, figures in plain.systems.items():
        assert scored.systems[name].system_accuracy.value == pytest.approx(figures.system_accuracy.value)
        assert scored.systems[name].supervised_accuracy.value == pytest.approx(figures.supervised_accuracy.value)
    assert scored.curves is not None
    assert plain.curves is not None
    at = scored.curves.curve.request_rates
    assert scored.curves.curve.system_accuracy == pytest.approx(plain.curves.curve.at(at))
    assert scored.curves.auc_rac.value == pytest.approx(plain.curves.auc_rac.value, abs=0.01)


def test_unlabelled_rows_are_no_class_of_a_scored_objective() -> None:
    table = named()
    labels = table.labels.copy()
    labels[200:] = None
    half = named(label=labels)
    scored = evaluate_at(half, 0.5, 0.3, objective=F1)
    only = evaluate_at(table.take(np.arange(200)), 0.5, 0.3, objective=F1)
    for name in ("local_only", "remote_only", "bisupervised"):
        figures = only.systems[name]
        assert scored.systems[name].system_accuracy.value == pytest.approx(figures.system_accuracy.value)
        assert scored.systems[name].supervised_accuracy.value == pytest.approx(figures.supervised_accuracy.value)
    assert scored.versus_remote_only.value == pytest.approx(only.versus_remote_only.value)


def test_a_callable_sees_neither_unlabelled_rows_nor_converted_predictions() -> None:
    seen = set()

    def share(labels: np.ndarray, guesses: np.ndarray) -> float:
        seen.update(labels.tolist())
        seen.update(map(type, guesses.tolist()))
        return float(np.mean([str(a) == str(b) for a, b in zip(labels, guesses, strict=True)]))

    labels = np.array(["1", None, "2", "2"] * 10, dtype=object)
    table = Table.from_columns(
        {
            "label": labels,
            "local_prediction": np.array([1, 1, 1, 2] * 10),
            "remote_prediction": np.array([1.5, 1.0, 2.0, 2.5] * 10),
            "local_confidence": np.arange(40) / 40,
            "remote_confidence": np.ones(40),
        }
    )
    evaluation = evaluate_at(table, 0.5, 0.5, objective=Scored("share", share))
    assert seen == {"1", "2", int, float}
    assert evaluation.systems["local_only"].system_accuracy.value == pytest.approx(2 / 3)
    assert evaluation.systems["bisupervised"].system_accuracy.value == pytest.approx(1 / 3)  # 2.0 reads not as "2"
    assert evaluation.curves is not None
    assert evaluation.curves.curve.local_only == pytest.approx(2 / 3)


def test_a_class_that_a_resample_lacks_does_not_count_in_it() -> None:
    truth, guess = np.array([0, 0, 5]), np.array([0, 5, 5])
    assert macro_f1_of_codes(truth, guess) == pytest.approx(2 / 3)


def test_predictions_of_numbers_and_of_words_are_not_mixed_up() -> None:
    n = 30
    table = Table.from_columns(
        {
            "label": ["1", "2", "3"] * 10,
            "local_prediction": np.array([1, 2, 1] * 10),
            "remote_prediction": np.array(["1", "2", "3"] * 10),
            "local_confidence": np.arange(n) / n,
            "remote_confidence": np.ones(n),
        }
    )
    evaluation = evaluate_at(table, 0.5, 0.5, objective=F1)
    assert evaluation.systems["remote_only"].system_accuracy.value == 1.0
    answers = [*(["1", "2", "3"] * 5), *(["1", "2", "1"] * 5)]
    expected = f1_score(table.labels.tolist(), answers, average="macro")
    assert evaluation.systems["bisupervised"].system_accuracy.value == pytest.approx(expected)
    assert evaluation.curves is not None
    assert evaluation.curves.curve.at(0.5) == pytest.approx(expected)


def test_an_objective_needs_labels() -> None:
    table = Table.from_columns(
        {
            "local_correct": [1, 0],
            "remote_correct": [1, 1],
            "local_confidence": [0.1, 0.2],
            "remote_confidence": [0.1, 0.2],
        }
    )
    for objective in (F1, MATCH):
        with pytest.raises(TableError, match="needs labels and predictions"):
            evaluate_at(table, 0.1, 0.1, objective=objective)


def test_objectives_by_name() -> None:
    assert objective_by_name("accuracy") is None
    assert F1 is not None
    with pytest.raises(InputError, match="accuracy, exact_match, macro_f1"):
        objective_by_name("f1")
